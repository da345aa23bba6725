#!/usr/bin/python3
"""test_allocate.py - `vcllm compress --allocate` on models with random weights."""
import json
import math
import struct
import unittest

import numpy as np

from driver import LONG, is_sanitized, run_vcllm
from test_run import FAILED, OK, USAGE, ModelCase, make_config, make_gpt2, make_weights


class Allocate(ModelCase):
    """Catches: budgets overspent, rules overruled, bytes that depend on threads or CPU level, allocation that is worse
    than none, models that cannot be run and pass for allocated ones."""

    SHAPE = (2, 64, 4, 2, 16, 96, 300, False)

    def families(self):
        """Models whose matrices matter differently: each layer's are scaled otherwise."""
        config = make_config(self.SHAPE)
        weights = {n: a / 8 if "layers.0" in n and a.ndim > 1 else a for n, a in make_weights(config, 5).items()}
        yield self.make("llama", config, weights)
        gpt2 = make_gpt2(np.random.default_rng(6), width=64, heads=4, vocab=300)
        yield self.make("gpt2", gpt2[0], gpt2[1])

    def compress(self, model, out, *args, **environment):
        run = run_vcllm("compress", model, "-o", self.folder / out, "--json", "-f", *args, **environment)
        self.assertEqual(run.returncode, OK, run.stderr)
        return json.loads(run.stdout)

    def bytes(self, out):
        return (self.folder / out / "model.safetensors").read_bytes()

    def test_self(self):
        again = {"llama": (("-j", "1"), {"VCLLM_CPU": "avx2"}), "gpt2": (("-j", "3"), {"VCLLM_CPU": "c"})}
        for model in list(self.families())[:1 if is_sanitized() and not LONG else None]:
            with self.subTest(model=model.name):
                done = self.compress(model, "self", "--bits", "3", "--allocate", "self")
                self.assertEqual(done["allocate"]["how"], "self")
                self.assertLessEqual(done["totals"]["bits"], 3)
                targets = [t["target_bits"] for t in done["tensors"] if "target_bits" in t]
                self.assertGreater(max(targets) - min(targets), 0.3)
                for args, environment in [] if is_sanitized() else again.values() if LONG else [again[model.name]]:
                    self.compress(model, "again", "--bits", "3", *args, env=environment)
                    self.assertEqual(self.bytes("again"), self.bytes("self"), (args, environment))
                self.compress(model, "fixed", "--bits", "3", "--allocate", "fixed")
                tokens, file = self.tokens(300, 241)
                kl = [self.eval(self.folder / out, "--tokens", file, "--baseline", model)["kl"]["mean"]
                      for out in ("self", "fixed")]
                self.assertLess(kl[0], 0.8 * kl[1])

    def test_tied_embedding(self):
        """Catches errors of a head fed back along its inputs where its rows are looked up as well."""
        COL_STEPS = 16
        model = list(self.families())[1]
        self.compress(model, "tied", "--bits", "3", "--allocate", "self")
        data = self.bytes("tied")
        length = struct.unpack("<Q", data[:8])[0]
        flags = {name: struct.unpack_from("<I", data, 8 + length + entry["data_offsets"][0] + 8)[0]
                 for name, entry in json.loads(data[8:8 + length]).items() if name != "__metadata__"}
        self.assertFalse(flags["transformer.wte.weight"] & COL_STEPS)
        self.assertTrue(flags["transformer.h.0.attn.c_attn.weight"] & COL_STEPS)

    def test_depth(self):
        model = next(self.families())
        done = self.compress(model, "depth", "--bits", "3", "--allocate", "depth")
        self.assertEqual(done["allocate"]["how"], "depth")
        self.assertGreater(done["allocate"]["slope"], 0)    # layer 0 hardly matters
        self.assertLessEqual(done["totals"]["bits"], 3)
        self.assertLessEqual(self.compress(model, "coarse", "--bits", "0.9", "--allocate", "depth")["totals"]["bits"], 0.9)
        bits = {t["name"]: t["target_bits"] for t in done["tensors"] if "target_bits" in t}
        self.assertAlmostEqual(bits["model.layers.1.mlp.up_proj.weight"] - bits["model.layers.0.mlp.up_proj.weight"],
                               done["allocate"]["slope"], delta=1e-6)

    @unittest.skipIf(is_sanitized() and not LONG, "runs what test_self runs, in as much time as all the rest")
    def test_rules_win(self):
        done = self.compress(next(self.families()), "ruled", "--bits", "3", "--rule", "lm_head=6", "--allocate", "self")
        head = next(t for t in done["tensors"] if t["name"] == "lm_head.weight")
        self.assertEqual(head["target_bits"], 6)
        others = [t for t in done["tensors"] if "target_bits" in t and t is not head]
        values = [math.prod(t["shape"]) for t in others]
        self.assertAlmostEqual(np.dot([t["target_bits"] for t in others], values) / sum(values), 3, delta=0.02)

    def test_unknown_model(self):
        config, weights = self.sample(self.SHAPE)
        model = self.make("bert", {**config, "model_type": "bert"}, weights)
        run = run_vcllm("compress", model, "-o", self.folder / "auto")
        self.assertEqual(run.returncode, OK)
        self.assertIn("every tensor gets the same rate", run.stderr)
        self.compress(model, "fixed", "--allocate", "fixed")
        self.assertEqual(self.bytes("auto"), self.bytes("fixed"))
        self.refuse(FAILED, "model_type", "compress", model, "-o", self.folder / "self", "--allocate", "self")
        self.refuse(USAGE, "a folder with config.json", "compress", model / "model.safetensors", "-o", self.folder / "x",
                    "--allocate", "depth")
        self.refuse(USAGE, "--bits and --size", "compress", model, "-o", self.folder / "x", "--allocate", "self", "--snr", "9")

    @unittest.skipIf(is_sanitized() and not LONG, "runs what test_self runs")
    def test_window(self):
        """A Mistral is run as it is: with its window."""
        config = make_config(self.SHAPE, model_type="mistral", sliding_window=9)
        run = run_vcllm("compress", self.make("m", config, make_weights(config, 5)), "-o", self.folder / "out", "--json")
        self.assertEqual((run.returncode, run.stderr), (OK, ""))
        self.assertEqual(json.loads(run.stdout)["allocate"]["how"], "self")

    def test_no_numbers(self):
        """A model whose predictions are NaN is compressed all the same."""
        config, weights = self.sample(self.SHAPE)
        weights["model.layers.0.mlp.up_proj.weight"][3, 5] = np.nan
        model = self.make("nan", config, weights)
        run = run_vcllm("compress", model, "-o", self.folder / "auto")
        self.assertEqual(run.returncode, OK, run.stderr)
        self.assertIn("is no measure", run.stderr)
        self.compress(model, "fixed", "--allocate", "fixed")
        self.assertEqual(self.bytes("auto"), self.bytes("fixed"))

    def test_dry_run(self):
        plan = self.compress(next(self.families()), "none", "--dry-run")
        self.assertEqual(plan["allocate"], "self")
        self.assertGreater(plan["allocate_seconds"], 0)
        self.assertFalse((self.folder / "none").exists())


if __name__ == "__main__":
    unittest.main()
