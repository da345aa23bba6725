#!/usr/bin/python3
"""test_real.py - matrices and files of real models, written by other software.

VCLLM_DATA names the folder (docs/data.md); without it everything here is skipped.  Faults it would catch: a rate that
is met on a normal distribution only, a header that is not restored as its writer spelt it.
"""
import ctypes
import os
import pathlib
import sys
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

import refdec
import vcllm
from driver import Case
from vcllm import bindings, frames, values

DATA = pathlib.Path(os.environ.get("VCLLM_DATA") or "/nowhere")
SATURATED = 1

# file, tensor, its part, which keeps 64k values or more: rates are promised from there on
MATRICES = [("weights/gpt2-124m-attn.f16.safetensors", "h.6.attn.c_attn.weight", np.s_[:768, :768]),
            ("encoder/use-lite.f32.safetensors", "layer_1/transformerlayer/ffn/conv1/tensordot", np.s_[:512, :1024]),
            ("lm/tiny-llama/model.safetensors", "model.layers.3.mlp.gate_proj.weight", np.s_[:, :]),
            ("lm/tiny-llama/model.safetensors", "model.embed_tokens.weight", np.s_[:, :])]

# Four of these have headers that are not canonical: another order of keys, spaces, no padding.
FILES = ["weights/gpt2-124m-attn.f16", "encoder/use-lite.f32", "weights/pythia160m-layer-5.f16",
         "rnn/rwkv-aiwriter-eng-partial.f16", "gnn/cgcnn-formation-energy.f32",
         "gnn/m3gnet-matpes-pbe-v2025.1-pes.f32", "rnn/silero-vad-v5.f32", "lm/stories260k/model"]


def load(file, name, part):
    """A matrix, as f32, and its name; the largest of those whose names hold `name`."""
    with vcllm.open(DATA / file) as model:
        found = max((n for n in model if name in n.lower()), key=lambda n: np.prod(model.info(n)["shape"]))
        matrix = model[found]
    return found, np.ascontiguousarray(matrix[part], "float32")


def encode(array, codec, bits):
    """The frame and what the library reports of it."""
    params, report = frames.make_params(codec, (bits,), {"effort": 2}), bindings.ReportStruct()
    data, tensor = values.describe(array, None)
    frame = bytearray(bindings.lib.vcl_bound(ctypes.byref(tensor)))
    size, (target, keep) = ctypes.c_size_t(len(frame)), values.pointer(frame)
    with bindings.Context(0) as context:
        context.check(bindings.lib.vcl_encode_buffer(context.pointer, ctypes.byref(tensor), data, ctypes.byref(params),
                                                    target, ctypes.byref(size), ctypes.byref(report)))
    return bytes(frame[:size.value]), report


@unittest.skipUnless(DATA.is_dir(), "VCLLM_DATA is not set: no real models")
class Rates(unittest.TestCase):
    def check(self, codec):
        for matrix in MATRICES:
            name, array = load(*matrix)
            self.assertGreaterEqual(array.size, 1 << 16)
            before = -np.inf
            for bits in range(1, 6):
                with self.subTest(name, bits=bits):
                    frame, report = encode(array, codec, bits)
                    error = ((array - vcllm.decode(frame)).astype("float64") ** 2).sum()
                    snr = 10 * np.log10((array.astype("float64") ** 2).sum() / error)
                    self.assertEqual(report.bits, 8 * len(frame) / array.size)
                    self.assertLessEqual(report.bits, bits)
                    if not report.flags & SATURATED:
                        self.assertGreaterEqual(report.bits, 0.98 * bits)
                    self.assertAlmostEqual(report.snr, snr, places=3)
                    self.assertGreater(snr, before + (0 if report.flags & SATURATED else 3))
                    before = snr

    def test_h264(self):
        self.check("h264")

    def test_h265(self):
        self.check("h265")

    def test_tensor(self):
        self.check("tensor")


@unittest.skipUnless(DATA.is_dir(), "VCLLM_DATA is not set: no real models")
class Foreign(Case):
    def test_byte_for_byte(self):
        small, back, kept = self.folder / "small", self.folder / "back", 0
        for name in FILES:
            model = DATA / f"{name}.safetensors"
            self.succeed("compress", model, "-o", small, "--lossless", "-f", "-q")
            self.succeed("verify", small, "-q")
            self.succeed("decompress", small, "-o", back, "-f", "-q")
            self.assertEqual(model.read_bytes(), back.read_bytes(), name)
            kept += "vcllm.header" in refdec.File(small).metadata
        self.assertEqual(kept, 4)


if __name__ == "__main__":
    unittest.main()
