#!/usr/bin/python3
"""test_coded.py - the runtime with weights that stay coded in memory, against the decompressed model."""
import json
import os
import struct
import subprocess
import unittest

import numpy as np

import refdec
from driver import VCLLM, is_sanitized, run_vcllm
from test_run import FAILED, OK, USAGE, ModelCase, cut_bf16, figures, make_gpt2, make_neox, make_tokenizer


class Coded(ModelCase):
    """Weights that stay coded.  Faults it would catch: a product of a transpose the wrong way round, rows of an embedding from
    another tile, an alias that is there twice, weights that are decoded against what --memory says, damage that is not named."""
    VOCAB = 9000        # three tiles

    def llama(self):
        return self.sample((1, 256, 4, 2, 64, 512, self.VOCAB, False), 64)

    def gpt2(self):
        return make_gpt2(np.random.default_rng(8), width=256, heads=4, layers=1, vocab=self.VOCAB, context=64)

    def neox(self):
        return make_neox(np.random.default_rng(9), width=256, heads=4, layers=1, ffn=512, vocab=self.VOCAB, context=64,
                         rotary_pct=0.25)

    def plain(self, config, weights, name="plain", dtype="BF16"):
        if dtype == "BF16":
            weights = {n: cut_bf16(a) for n, a in weights.items()}
        tokenizer = make_tokenizer()
        tokenizer["model"]["vocab"] |= {f"w{i}": i for i in range(256, self.VOCAB)}      # every token spells something
        return self.make(name, config, weights, dtype, tokenizer)

    def coded(self, model, name, *options):
        """Compressed, at the same rate everywhere if nothing is said of that, and decompressed again."""
        how = () if "--allocate" in options else ("--allocate", "fixed")
        self.succeed("compress", model, "-o", self.folder / name, *options, *how)
        self.succeed("decompress", self.folder / name, "-o", self.folder / f"{name}-back")
        return self.folder / name, self.folder / f"{name}-back"

    def generate(self, model, *more):
        return subprocess.run([VCLLM, "run", model, "-p", "a fox", "--tokens", "40", "--temperature", "0", *map(str, more)],
                              capture_output=True, check=True).stdout

    def agree(self, coded, back, file, memory, *more):
        """Same predictions, same text; what stays coded is as told."""
        got = self.eval(coded, "--tokens", file, "--context", 60, "--baseline", back, *more)
        self.assertLess(abs(got["nll_difference"]["mean"]), 1e-5 * got["nll"]["mean"])
        self.assertLess(abs(got["kl"]["mean"]), 1e-6)
        self.assertLess(got["kl_99"], 1e-5)
        self.assertEqual(self.generate(coded, *more), self.generate(back))
        self.assertTrue(memory(got["memory"]), got["memory"])
        return got

    def test_families(self):
        _, file = self.tokens(self.VOCAB, 150)
        codecs = [("tensor", ()), ("rotated", ("--rotate",)), ("transposed", ("--transpose",)),
                  ("allocated", ("--allocate", "self")), ("lossless", ("--lossless",))]
        for name, (config, weights) in (("llama", self.llama()), ("gpt2", self.gpt2()), ("neox", self.neox())):
            few, all_ = (1, 2) if is_sanitized() else (3, 5)
            for codec, options in codecs[:all_ if name == "llama" else few]:
                with self.subTest(name=name, codec=codec):
                    model = self.folder / name
                    if not model.exists():
                        self.plain(config, weights, name)
                    coded, back = self.coded(model, f"{name}-{codec}", *options)
                    kept = codec in ("tensor", "transposed", "allocated")
                    self.agree(coded, back, file, lambda m, kept=kept: m["coded"] > 0.8 * m["weights"] if kept else m["coded"] == 0)
                    # of so small a model, decoding tables are as large as a matrix
                    self.agree(coded, back, file, lambda m: m["coded"] > 0.4 * m["weights"], "--memory", 0)
                    self.agree(coded, back, file, lambda m: m["coded"] == 0, "--memory", "1GiB")

    def test_video(self):
        if run_vcllm("codecs").returncode != OK or "h265" not in run_vcllm("codecs").stdout:
            self.skipTest("no H.265 encoder here")
        _, file = self.tokens(self.VOCAB, 150)
        coded, back = self.coded(self.plain(*self.gpt2()), "h265", "--codec", "h265")
        self.agree(coded, back, file, lambda m: m["coded"] == 0)
        self.agree(coded, back, file, lambda m: m["coded"] > 0.6 * m["weights"], "--memory", 0)

    def test_dtypes(self):
        _, file = self.tokens(self.VOCAB, 150)
        for dtype in ("F32", "F16", "F64"):
            with self.subTest(dtype=dtype):
                coded, back = self.coded(self.plain(*self.llama(), dtype.lower(), dtype), f"{dtype}-coded", "--bits", 4)
                self.agree(coded, back, file, lambda m: m["coded"] > 0.8 * m["weights"])

    def test_same_for_threads_and_cpus(self):
        _, file = self.tokens(self.VOCAB, 150)
        coded, _ = self.coded(self.plain(*self.llama()), "coded")
        seen = set()
        for cpu in ("c", "avx2", "avx512"):
            for jobs in (1, 2, 5):
                run = subprocess.run([VCLLM, "eval", coded, "--tokens", file, "--json", "-j", str(jobs), "--context", "64"],
                                     env=dict(os.environ, VCLLM_CPU=cpu), capture_output=True, check=True)
                seen.add(json.dumps(figures(json.loads(run.stdout))))
        self.assertEqual(len(seen), 1)

    def test_memory(self):
        """The budget is kept, and used."""
        _, file = self.tokens(self.VOCAB, 150)
        coded, _ = self.coded(self.plain(*self.llama()), "coded")
        def memory(*more):
            return self.eval(coded, "--tokens", file, "--context", 60, *more)["memory"]
        matrices = 2 * (2 * self.VOCAB * 256 + 2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256)
        vectors = 3 * 4 * 256
        for budget in (100 << 10, 300 << 10, 1 << 20, matrices - 1, matrices):
            after = memory("--memory", budget)
            decoded = after["weights"] - after["coded"] - vectors
            self.assertLessEqual(decoded, max(budget, 128 << 10))       # the tables of k and v are larger than they are
            self.assertGreater(decoded, min(budget, 1700 << 10) - (128 << 10))     # no matrix of 128 KiB fits what is left
        self.assertEqual(after["coded"], 0)
        self.refuse(USAGE, "--memory takes a size", "eval", coded, "--tokens", file, "--memory", "much")

    def test_aliases(self):
        """Embedding and head with the same bytes, untied: one weight."""
        _, file = self.tokens(self.VOCAB, 150)
        config, weights = self.llama()
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        coded, back = self.coded(self.plain(config, weights), "coded", "--bits", 4)
        bytes_of_one = self.VOCAB * 256 * 4 // 8
        got = self.agree(coded, back, file, lambda m: m["coded"] > 0.8 * m["weights"])
        self.assertLess(got["memory"]["coded"], 2 * bytes_of_one + 600000)
        self.assertLess(self.eval(coded, "--tokens", file, "--context", 60, "--memory", "1GiB")["memory"]["weights"],
                        2 * self.VOCAB * 256 * 2)

    def test_damage(self):
        """Bytes of a frame that are not those its checksum is of: found when the model is opened, and named."""
        _, file = self.tokens(self.VOCAB, 150)
        for options in ((), ("--rotate",), ("--lossless",)):
            coded, _ = self.coded(self.plain(*self.llama(), name=f"plain{len(options)}{options}"), f"coded{options}", *options)
            path = coded / "model.safetensors"
            data = bytearray(path.read_bytes())
            length = struct.unpack_from("<Q", data)[0]
            name = "model.layers.0.mlp.up_proj.weight"
            start, end = json.loads(data[8:8 + length])[name]["data_offsets"]
            for at in (start + 20, (start + end) // 2, end - 100):
                bad = bytearray(data)
                bad[8 + length + at] ^= 4
                path.write_bytes(bad)
                for more in ((), ("--memory", 0), ("--memory", "1GiB")):
                    run = run_vcllm("eval", coded, "--tokens", file, *more)
                    self.assertEqual(run.returncode, FAILED, (options, at, more, run.stderr))
                    self.assertIn("model.safetensors: tensor '" + name + "'", run.stderr)


    def test_forged(self):
        """Bytes that their checksums hold for, but are no stream: found by the product, and named, by one thread or side by side."""
        _, file = self.tokens(self.VOCAB, 150)
        name = "model.layers.0.mlp.up_proj.weight"
        coded, _ = self.coded(self.plain(*self.llama()), "coded")
        path = coded / "model.safetensors"
        data = bytearray(path.read_bytes())
        length = struct.unpack_from("<Q", data)[0]
        start, end = (8 + length + at for at in json.loads(data[8:8 + length])[name]["data_offsets"])
        frame = data[start:end]
        header = refdec.Frame(frame).H
        offset, stored, _, _ = refdec.Frame(frame).tiles[0]
        frame[offset + stored // 2] ^= 16
        struct.pack_into("<I", frame, header - 12, refdec.hash32(frame[offset:offset + stored]))
        struct.pack_into("<I", frame, header - 4, refdec.hash32(frame[:header - 4]))
        data[start:end] = frame
        path.write_bytes(data)
        words = f"model.safetensors: tensor '{name}': tile 0"
        for args in (("eval", coded, "--tokens", file), ("eval", coded, "--tokens", file, "--memory", 0),
                     ("eval", coded, "--tokens", file, "--memory", "1GiB"), ("run", coded, "-p", "fox"),
                     ("run", coded, "-p", "x", "-j", 1), ("run", coded, "-p", "x", "-j", 2)):
            run = run_vcllm(*args)
            self.assertEqual(run.returncode, FAILED, (args, run.stderr))
            self.assertIn(words, run.stderr)


if __name__ == "__main__":
    unittest.main()
