#!/usr/bin/python3
"""test_damage.py - every truncation and every flipped bit of a small compressed file is noticed.

All of them in this process, through the library that the program uses, because a process for each would take minutes;
some through the program.  VCLLM names the program, VCLLM_LIBRARY the library.
"""
import pathlib
import sys
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

import refenc
import refenc_tensor
import vcllm
from driver import Case, run_vcllm

SEED = 20240521


class Damage(Case):
    def small_file(self):
        rng = np.random.default_rng(SEED)
        frames = [("weight", refenc.exact("F32", (2, 3), bytes(range(24)))),
                  ("tied", refenc.alias("F32", (2, 3), "weight")),
                  ("video", refenc.video(3, "BF16", (9, 10), refenc.samples(rng, (9, 10), 8), quality=35, flags=7,
                                         part={"seed": 5, "step": 0.1},
                                         side=lambda i: refenc.runs([(4, 2, b"\x80\x7f")]) + b"\x80\x3f" * 9)),
                  ("tensor", refenc_tensor.tensor("F16", (3, 5), [[-1, 0, 40, 2, 0]] * 3, row_classes=[33, 16, 16],
                                                  mean=0.5, points=(-2, [9, -7, 3]))),
                  ("padded", refenc.exact("U8", (3,), b"abc"))]
        return refenc.container(frames, {"format": "pt"})

    def check_in_process(self, path, data, what):
        path.write_bytes(data)
        try:
            with vcllm.open(path) as model:
                for name in model:
                    if "codec" not in model.info(name):
                        return          # no compressed file any more, which verify refuses
                    model.read(name)
        except vcllm.Error:
            return
        self.fail(f"{what} is not detected")

    def test_in_process(self):
        data, path = self.small_file(), self.folder / "damaged.safetensors"
        path.write_bytes(data)
        with vcllm.open(path) as model:
            self.assertEqual({name: model[name].shape for name in model},
                             {"weight": (2, 3), "tied": (2, 3), "video": (9, 10), "tensor": (3, 5), "padded": (3,)})
        for length in range(len(data)):
            self.check_in_process(path, data[:length], f"truncation to {length} of {len(data)}")
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            self.check_in_process(path, flipped, f"bit {bit % 8} of byte {bit // 8} flipped")

    def test_program(self):
        data, rng = self.small_file(), np.random.default_rng(SEED)
        path = self.write("damaged.safetensors", data)
        self.succeed("verify", path)
        for length in [0, 1, 7, 8, 9, *rng.integers(0, len(data), 30), len(data) - 1]:
            self.check_program(path, data[:length], f"truncation to {length} of {len(data)}")
        for bit in [*range(0, 64, 9), *rng.integers(64, 8 * len(data), 60), 8 * len(data) - 1]:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            self.check_program(path, flipped, f"bit {bit % 8} of byte {bit // 8} flipped")

    def check_program(self, path, data, what):
        path.write_bytes(data)
        run = run_vcllm("verify", path)
        self.assertEqual(run.returncode, 1, f"{what}: {run.stderr}")
        self.assertIn("damaged.safetensors", run.stderr, what)


if __name__ == "__main__":
    unittest.main()
