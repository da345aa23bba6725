"""No loss without a word: what compress says of tensors that a codec has trouble with."""
import os
import random
import struct

import stfile
from case import BOUND, FAST, Case


def drawn(name, shape, draw, letter="f", dtype="F32"):
    values = [draw() for _ in range(stfile.count(shape))]
    return name, dtype, list(shape), struct.pack(f"<{len(values)}{letter}", *values)


class Promises(Case):
    """Catches: fewer bits that are better, an exit code 0 beside a bad SNR, one tensor that stops a model."""

    def compress(self, tensors, *options):
        model, small = stfile.write(self.path("model.safetensors"), tensors), self.path("small.safetensors")
        done, error = self.run_json("compress", model, "-o", small, "-f", *options)
        return {t["name"]: t for t in done["tensors"]}, done["totals"], error

    def test_few_levels_are_exact_where_that_is_no_larger(self):
        generator = random.Random(1)
        ternary = drawn("ternary", [256, 256], lambda: generator.choice((-0.5, 0, 0.5)), "e", "F16")
        for bits in (1.7, 2.9, 8):
            tensors, totals, error = self.compress([ternary], "--bits", bits)
            self.assertEqual((tensors["ternary"]["codec"], error), ("lossless", ""))
            self.assertEqual((totals["lossy"], totals["fell_back"]), (0, 1))
        tensors, _, _ = self.compress([ternary], "--snr", 20)
        self.assertEqual(tensors["ternary"]["codec"], "lossless")
        tensors, _, _ = self.compress([ternary], "--bits", 1.2)
        self.assertEqual(tensors["ternary"]["codec"], "tensor")

    def test_under_a_size_others_get_what_exact_tensors_save(self):
        generator = random.Random(7)
        tensors = [drawn(f"t{i}", [256, 256], lambda: generator.choice((-0.5, 0, 0.5)), "e", "F16")
                   for i in range(2)]
        tensors += [stfile.normal(f"n{i}", [256, 256], 8 + i) for i in range(2)]
        by_name, totals, _ = self.compress(tensors, "--size", 100000)
        self.assertEqual(by_name["t0"]["codec"], "lossless")
        self.assertGreater(totals["file_bytes"], 98500)
        self.assertLessEqual(totals["file_bytes"], 100000)

    def test_a_size_is_kept_or_refused(self):
        """Many small tensors, whose frames take more than their share, and values that no share can code."""
        model = stfile.write(self.path("s"), [stfile.normal(f"l{i}", [64, 64 + i], i) for i in range(12)])
        self.vcllm("compress", model, "-o", self.path("o"), "--size", 2500, *FAST, code=BOUND)
        self.assertEqual(self.files(), ["s"])
        for size in (4000, 5000, 6500):
            self.vcllm("compress", model, "-o", self.path("o"), "-f", "--size", size, "-q", *FAST)
            self.assertLessEqual(os.path.getsize(self.path("o")), size)
        generator = random.Random(3)
        huge = stfile.write(self.path("h"), [drawn("w", [256, 257], lambda: generator.gauss(0, 1e37))])
        _, error = self.vcllm("compress", huge, "-o", self.path("p"), "--size", 25000, code=BOUND)
        self.assertIn("was written and takes", error)

    def test_a_mean_far_from_zero(self):
        generator = random.Random(2)
        mean = drawn("w", [64, 65], lambda: 3 + generator.gauss(0, 1))
        before = 0
        for bits in (2, 2.5, 3, 3.5, 4, 5, 6):
            tensors, _, _ = self.compress([mean], "--objective", "mse", "--bits", bits)
            self.assertGreater(tensors["w"]["snr"], before - 0.3)
            self.assertGreater(tensors["w"]["snr"], 6 * bits + 5)
            before = tensors["w"]["snr"]

    def test_small_tensors_are_paid_by_the_others(self):
        tensors = [stfile.normal("large", [512, 512], 3)]
        tensors += [stfile.normal(f"small.{i}", [64, 64], 4 + i) for i in range(6)]
        by_name, totals, error = self.compress(tensors, "--bits", 0.1)
        self.assertLessEqual(totals["bits"], 0.1)
        self.assertGreater(by_name["large"]["snr"], 0)
        self.assertEqual(totals["lossy"], 7)
        self.assertLess(by_name["large"]["bits"], 0.1)
        self.assertGreater(by_name["small.0"]["bits"], 0.1)

    def test_a_target_of_the_whole(self):
        model = stfile.write(self.path("m.safetensors"), [stfile.normal("small", [64, 64], 5)])
        _, error = self.vcllm("compress", model, "-o", self.path("none"), "--bits", 0.01, code=BOUND)
        self.assertIn("--bits 0.01", error)
        self.assertEqual(self.files(), ["m.safetensors"])

    def test_what_no_codec_can_code_is_exact_and_named(self):
        generator = random.Random(6)
        tensors = [stfile.normal("w", [128, 128], 7),
                   drawn("beyond", [64, 64], lambda: 1e-100 * generator.gauss(0, 1), "d", "F64")]
        by_name, totals, error = self.compress(tensors, "--bits", 2.9)
        self.assertEqual(by_name["beyond"]["codec"], "lossless")
        self.assertTrue(by_name["beyond"]["missed"])
        self.assertIn("beyond", error)
        self.assertNotIn("w (", error)
        self.assertLessEqual(totals["bits"], 2.9)
        self.assertEqual(totals["missed"], 1)

    def test_zeros_are_named(self):
        by_name, _, error = self.compress([stfile.normal("w", [256, 256], 8)], "--bits", 0.03)
        self.assertTrue(by_name["w"]["zero"])
        self.assertEqual(by_name["w"]["snr"], 0)
        self.assertRegex(error, "all zeros.*w ")
