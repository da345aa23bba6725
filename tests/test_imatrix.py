#!/usr/bin/python3
"""test_imatrix.py - `vcllm compress --imatrix`: importance matrices of llama.cpp in both formats.

Faults it would catch: a matrix given another one's inputs, or its outputs for its inputs, values read from the wrong
place, a file of another model or a damaged one taken for good, a file that does nothing.
"""
import json
import struct
import unittest

import numpy as np

from driver import run_vcllm
from test_run import FAILED, IO, OK, USAGE, ModelCase, make_config, make_gpt2, make_neox, make_weights

# Of each family: what its layers' matrices are in llama.cpp's files; their inputs are the first dimension where "in".
LAYERS = {
    "llama": ("model.layers.{}.", "out", {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
                                          "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
                                          "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}),
    "gpt2": ("transformer.h.{}.", "in", {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
                                         "mlp.c_proj": "ffn_down"}),
    "neox": ("gpt_neox.layers.{}.", "out", {"attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
                                            "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down"}),
}
HEADS = {"llama": "lm_head.weight", "neox": "embed_out.weight"}


class Watched(np.ndarray):
    """A matrix that notes the squares of what it is multiplied with, in sums[name]."""
    def __array_finalize__(self, other):
        self.name, self.sums = getattr(other, "name", None), getattr(other, "sums", None)

    def __array_ufunc__(self, function, method, *inputs, **more):
        if function is np.matmul and isinstance(inputs[1], Watched):
            rows = np.asarray(inputs[0])
            total = inputs[1].sums.get(inputs[1].name, 0)
            inputs[1].sums[inputs[1].name] = total + (rows.astype("f8") ** 2).sum(axis=0)
        return getattr(function, method)(*(np.asarray(i) for i in inputs), **more)


def watch(weights, sums):
    """The weights, to be given to a forward pass of test_run."""
    watched = {}
    for name, array in weights.items():
        watched[name] = array.view(Watched)
        watched[name].name, watched[name].sums = name, sums
    return watched


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def write_gguf(sums, count=1000, kind="imatrix", version=3, dtype=0, alignment=None):
    """As llama-imatrix writes it, tensors of sums and counts, some values beside general.type."""
    values = [text("general.type") + struct.pack("<I", 8) + text(kind),
              text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 2) + text("a.txt") + text("b.txt"),
              text("imatrix.chunk_count") + struct.pack("<II", 4, 2), text("imatrix.chunk_size") + struct.pack("<II", 4, 512),
              text("some.list") + struct.pack("<IIQHHH", 9, 2, 3, 1, 2, 3)]
    if alignment:
        values.append(text("general.alignment") + struct.pack("<II", 4, alignment))
    step, places, data = alignment or 32, b"", b""
    for name, sum2 in sorted(sums.items()):
        for suffix, array in ((".in_sum2", sum2), (".counts", np.array([count])), (".in_sum", np.full(len(sum2), np.nan))):
            places += text(name + suffix) + struct.pack("<IQQIQ", 2, array.size, 1, dtype, len(data))
            data += array.astype("<f2" if dtype == 1 else "<f4").tobytes()
            data += bytes(-len(data) % step)
    head = b"GGUF" + struct.pack("<IQQ", version, 3 * len(sums), len(values)) + b"".join(values) + places
    return head + bytes(-len(head) % step) + data


def write_older(sums, count=1000, chunks=2, end=b"\x02\0\0\0\x05\0\0\0a.txt"):
    entries = b""
    for name, sum2 in sorted(sums.items()):
        entries += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", chunks, len(sum2))
        entries += (sum2 / count * chunks).astype("<f4").tobytes()
    return struct.pack("<i", len(sums)) + entries + end


class ImatrixCase(ModelCase):
    SHAPE = (2, 64, 4, 4, 16, 96, 300, False)

    def families(self):
        rng = np.random.default_rng(6)
        config = make_config(self.SHAPE)
        for name, (config, weights) in {"llama": (config, make_weights(config, 5)),
                                        "gpt2": make_gpt2(rng, width=64, heads=4, vocab=300),
                                        "neox": make_neox(rng, width=64, heads=4, ffn=128, vocab=300)}.items():
            yield name, config, weights

    def compress(self, model, out, *args):
        run = run_vcllm("compress", model, "-o", self.folder / out, "--bits", "3", "--json", "-f", *args)
        self.assertEqual(run.returncode, OK, run.stderr)
        return json.loads(run.stdout)

    def bytes(self, out):
        return (self.folder / out / "model.safetensors").read_bytes()

    def sums(self, family, weights, heavy):
        """Entry: sums of squares, `heavy` times larger at a few inputs, others in each entry.  Tensor: inputs, entry."""
        prefix, first, names = LAYERS[family]
        sums, tensors, rng = {}, {}, np.random.default_rng(3)
        found = {prefix.format(i) + a + ".weight": f"blk.{i}.{b}.weight" for i in range(2) for a, b in names.items()}
        if family in HEADS:
            found[HEADS[family]] = "output.weight"
        for name, entry in found.items():
            inputs = weights[name].shape[0 if first == "in" else 1]
            sums[entry] = np.where(rng.permutation(inputs) < inputs // 8, heavy, 1.0) * 50
            tensors[name] = (first, entry)
        return sums, tensors


class Weights(ImatrixCase):
    def errors(self, weights, out):
        """Of each tensor (values decoded - original)^2."""
        self.succeed("decompress", self.folder / out, "-o", self.folder / (out + "-back"), "-f")
        data = (self.folder / (out + "-back") / "model.safetensors").read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        for name, entry in header.items():
            if name in weights:
                raw = data[8 + length:][slice(*entry["data_offsets"])]
                yield name, (np.frombuffer(raw, "<f4").reshape(entry["shape"]) - weights[name]) ** 2

    def test_errors_follow(self):
        """In every matrix of every family, errors are small at its own heavy inputs."""
        for family, config, weights in self.families():
            model = self.make(family, config, weights)
            sums, tensors = self.sums(family, weights, 256)
            file = self.write("im.gguf", write_gguf(sums))
            done = self.compress(model, "out", "--allocate", "fixed", "--imatrix", file)
            self.assertEqual((done["imatrix"], done["totals"]["weighed"]), (str(file), len(tensors)))
            for name, errors in self.errors(weights, "out"):
                if name not in tensors:
                    continue
                first, entry = tensors[name]
                by_input = errors.mean(axis=1 if first == "in" else 0)
                heavy = sums[entry] > 100
                with self.subTest(name=name):
                    self.assertLess(by_input[heavy].mean(), by_input[~heavy].mean() / 8)

    def test_formats_agree(self):
        family, config, weights = next(self.families())
        model, (sums, _) = self.make(family, config, weights), self.sums(family, weights, 30)
        files = [write_gguf(sums), write_older(sums), write_older(sums, end=b""), write_older(sums, chunks=4), write_gguf(sums, version=2),
                 write_gguf(sums, alignment=64), write_gguf({**sums, "blk.0.ffn_gate_exps.weight": np.ones(17)})]
        for number, data in enumerate(files):
            self.compress(model, f"out{number}", "--imatrix", self.write("im", data), "--allocate", "fixed")
            self.assertEqual(self.bytes(f"out{number}"), self.bytes("out0"), number)
        self.compress(model, "none", "--allocate", "fixed")
        self.assertNotEqual(self.bytes("none"), self.bytes("out0"))
        self.succeed("compress", model / "model.safetensors", "-o", self.folder / "single", "--bits", "3", "--imatrix", self.folder / "im")

    def test_watched(self):
        """What bench/imatrix.py measures with: the inputs of a layer, by another way."""
        from test_run import logits, rms
        _, config, weights = next(self.families())
        sums, tokens = {}, np.arange(20)
        plain = logits(config, weights, tokens)
        self.assertTrue(np.array_equal(logits(config, watch(weights, sums), tokens), plain))
        rows = rms(weights["model.embed_tokens.weight"][tokens].astype("f8"), weights["model.layers.0.input_layernorm.weight"].astype("f8"),
                   config["rms_norm_eps"])
        np.testing.assert_allclose(sums["model.layers.0.self_attn.k_proj.weight"], (rows ** 2).sum(axis=0))
        self.assertEqual(len(sums), 15)

    def test_self(self):
        """The file's mean squares replace the draft's, alike on any threads."""
        family, config, weights = next(self.families())
        model, (sums, _) = self.make(family, config, weights), self.sums(family, weights, 256)
        file = self.write("im", write_gguf(sums))
        for out, args in {"with": ["--imatrix", file, "-j", "1"], "again": ["--imatrix", file, "-j", "3"], "without": []}.items():
            done = self.compress(model, out, "--allocate", "self", *args)
            self.assertEqual(done["allocate"]["how"], "self")
            self.assertLessEqual(done["totals"]["bits"], 3)
        self.assertEqual(self.bytes("with"), self.bytes("again"))
        self.assertNotEqual(self.bytes("with"), self.bytes("without"))


class Refused(ImatrixCase):
    def setUp(self):
        super().setUp()
        self.family, config, weights = next(self.families())
        self.model, (self.sums_, _) = self.make("m", config, weights), self.sums(self.family, weights, 9)

    def compress_with(self, data, code, words):
        file = self.write("im", data)
        self.refuse(code, words, "compress", self.model, "-o", self.folder / "x", "--imatrix", file, "--allocate", "fixed")
        self.assertFalse((self.folder / "x").exists())

    def test_by_name(self):
        good, older, name = write_gguf(self.sums_), write_older(self.sums_), "blk.0.attn_k.weight"
        tiny = {name: self.sums_[name]}
        def changed(value):
            return {**self.sums_, name: np.r_[self.sums_[name][:-1], value]}
        list_of_lists = good.replace(struct.pack("<IIQ", 9, 8, 2), struct.pack("<IIQ", 9, 9, 2))
        long_list = good.replace(struct.pack("<IIQ", 9, 2, 3), struct.pack("<IIQ", 9, 2, 1 << 62))
        cases = [(b"", "byte 0"), (b"GGUF", "byte 4"), (bytes(40), "is no importance matrix"), (b"\xff" * 40, "is no importance matrix"),
                 (write_gguf(self.sums_, kind="model"), 'general.type is not "imatrix"'),
                 (write_gguf(self.sums_, version=4), "is GGUF of version 4; 2 and 3 are read"),
                 (write_gguf(self.sums_, dtype=1), f"entry '{name}.in_sum2': sums of squares are no f32"),
                 (write_gguf(self.sums_, alignment=3 << 20), "key 'general.alignment': is no power of two"),
                 (good[:-3000], "end behind the file"), (older[:200], f"entry '{name}': more bytes are announced"),
                 (list_of_lists, "key 'imatrix.datasets': is a list of lists"), (long_list, "key 'some.list': the file is cut off or damaged: 4611686018427387904 items of"),
                 (struct.pack("<ii", 1, 5000) + bytes(90), "a name is longer than 1024 bytes (5000)"),
                 (struct.pack("<i", 2) + 2 * write_older(tiny, end=b"")[4:], f"entry '{name}' is there twice"),
                 (write_gguf(changed(np.nan)), f"entry '{name}': the value at byte "), (write_gguf(changed(-1)), "is -1"),
                 (write_older(changed(np.inf)), "is inf"),
                 (write_gguf({"blk.0.attn_k.weight": np.ones(65)}), "has 65 inputs for tensor 'model.layers.0.self_attn.k_proj.weight', which is [64, 64]"),
                 (write_gguf({"blk.7.attn_k.weight": np.ones(64)}), "has no entry for any tensor of the model"),
                 (write_gguf({name: np.zeros(64)}), "has no entry for any tensor of the model")]
        for data, words in cases:
            with self.subTest(words=words):
                self.compress_with(data, FAILED, words)
        self.refuse(IO, "nowhere", "compress", self.model, "-o", self.folder / "x", "--imatrix", self.folder / "nowhere")

    def test_cut_anywhere(self):
        """Whatever is left of a file: refused, or what is not there is not read."""
        data = write_gguf({"output.weight": np.ones(64)})
        for size in range(0, len(data), 7):
            run = run_vcllm("compress", self.model, "-o", self.folder / "x", "-f", "--imatrix", self.write("im", data[:size]),
                            "--allocate", "fixed", "--dry-run")
            self.assertIn(run.returncode, (OK, FAILED), run.stderr)

    def test_options(self):
        file = self.write("im", write_gguf(self.sums_))
        for more in (["--snr", "20"], ["--lossless"], ["--codec", "h265"], ["--rotate"], ["--max-error", "1"]):
            self.refuse(USAGE, "--imatrix goes with", "compress", self.model, "-o", self.folder / "x", "--imatrix", file, *more)


if __name__ == "__main__":
    unittest.main()
