#!/usr/bin/python3
"""test_cache.py - `vcllm kv learn`, `kv info` and `eval --kv-bits`: how a model's KV cache is coded, and what that costs it.

Faults it would catch: bits that are not those asked for, or that leave out bytes of pages; keys coded after their rotation,
or a layer that is passed over (too small a divergence, or one that does not fall with the bits); a metric that does nothing;
a family of models that cannot be learned from; a recipe used for another model, or refused for a compressed copy of its own;
a broken file that is believed, a file replaced unasked.
"""
import json
import pathlib
import struct
import tempfile
import unittest

import numpy as np

from driver import LONG, ROOT, is_sanitized, run_vcllm
from test_run import ModelCase, make_gpt2, make_neox

MODEL = ROOT / "models" / "tiny-llama"
TEXT = ["--text", ROOT / "models" / "demo.txt", "--context", 256, "--windows", 4]
SHARED = tempfile.TemporaryDirectory()
OK, FAILED, USAGE, IO, CODEC = 0, 1, 2, 3, 4


def learn(model, bits, path, *options):
    return run_vcllm("kv", "learn", model, "--bits", bits, "-o", path, *options)


class CacheCase(ModelCase):
    learned = {}  # of the sample model: each takes some seconds

    def recipe(self, bits, *options, model=MODEL):
        """A file, and what learning it said."""
        key = (bits, *options, model)
        if key not in self.learned:
            path = pathlib.Path(SHARED.name) / f"{len(self.learned)}.kv"
            run = learn(model, bits, path, "--json", *options)
            if run.returncode == CODEC:
                self.skipTest("built without LAPACK")
            self.assertEqual(run.returncode, OK, run.stderr)
            self.learned[key] = path, json.loads(run.stdout)
        return self.learned[key]

    def evaluate(self, *options, model=MODEL, text=TEXT):
        return json.loads(self.succeed("eval", model, *text, "--json", *options).stdout)

    def refuse(self, code, words, *args):
        run = run_vcllm(*args)
        self.assertEqual(run.returncode, code, run.stderr)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, run.stderr)


@unittest.skipIf(is_sanitized(), "slow; test_cache.c runs the same there")
class Coded(CacheCase):
    def test_bits_and_loss(self):
        kl = []
        for bits in (2, 1):
            path, told = self.recipe(bits)
            self.assertEqual((told["model"], told["layers"], told["heads"], told["parts"]), ("tiny-llama", 6, 4, 6))
            self.assertEqual(told["bytes"], path.stat().st_size)
            found = self.evaluate("--kv-recipe", path)
            self.assertLess(abs(found["kv_bits"] / bits - 1), 0.02)
            kl.append(found["kl"]["mean"])
            self.assertEqual(found["baseline"], str(MODEL))
            self.assertLess(found["perplexity"]["mean"], 1.03 * found["baseline_perplexity"]["mean"])
        self.assertLess(kl[0], 0.0005)  # coded after its rotation it is several times that
        self.assertLess(kl[1], 0.006)
        self.assertLess(4 * kl[0], kl[1])

    @unittest.skipUnless(LONG, "VCLLM_LONG is not set: two more recipes")
    def test_ways(self):
        """Together is better than apart, gradients better than attention alone; both say what they are."""
        found = {}
        for name, options in {"best": [], "apart": ["--parts", "apart"], "local": ["--metric", "local"]}.items():
            path, told = self.recipe(1, *options)
            self.assertEqual(told["parts"], 12 if name == "apart" else 6)
            text = self.succeed("kv", "info", path).stdout
            self.assertIn("apart" if name == "apart" else "together", text)
            found[name] = self.evaluate("--kv-recipe", path)["kl"]["mean"]
        self.assertLess(1.3 * found["best"], found["apart"])
        self.assertLess(1.05 * found["best"], found["local"])

    def test_at_once(self):
        """--kv-bits is kv learn and --kv-recipe; smaller pages take more bits and lose as much."""
        path, _ = self.recipe(2)
        learned, read = self.evaluate("--kv-bits", 2), self.evaluate("--kv-recipe", path)
        self.assertEqual((learned["kl"], learned["kv_bits"]), (read["kl"], read["kv_bits"]))
        small = self.evaluate("--kv-recipe", path, "--kv-page", 8)
        self.assertGreater(small["kv_bits"], 1.01 * read["kv_bits"])
        self.assertLess(abs(np.log(small["kl"]["mean"] / read["kl"]["mean"])), 0.2)
        first = self.evaluate("--kv-recipe", path, "--kv-exact-first", 8)
        share = 8 / first["context"]
        self.assertAlmostEqual(first["kv_bits"], 16 * share + (1 - share) * read["kv_bits"], delta=0.05)
        self.assertLess(first["kl"]["mean"], read["kl"]["mean"])
        whole = self.evaluate("--kv-recipe", path, "--kv-exact-first", 256, "--context", 100)
        self.assertEqual((whole["kl"]["mean"], whole["kv_bits"]), (0, 16))
        one = self.evaluate("--kv-recipe", path, "--threads", 1)
        self.assertEqual((one["kl"], one["kv_bits"]), (read["kl"], read["kv_bits"]))


    def test_kept(self):
        """With --kv-recent the cache is kept as run keeps it: fewer tokens see coded ones, and run says the same."""
        path, _ = self.recipe(1)
        every = self.evaluate("--kv-recipe", path)
        kept = {recent: self.evaluate("--kv-recipe", path, "--kv-recent", recent) for recent in (0, 64)}
        self.assertLess(2 * kept[0]["kl"]["mean"], every["kl"]["mean"])
        self.assertLess(1.2 * kept[64]["kl"]["mean"], kept[0]["kl"]["mean"])
        self.assertEqual((kept[0]["kv_recent"], kept[0]["kv_exact_first"], every["kv_recent"]), (0, 4, None))
        for found in kept.values():
            self.assertLess(abs(found["kv_bits"] - 1), 0.03)
        plain = self.evaluate("--kv-bits", 16, "--kv-recent", 0)
        self.assertLess(plain["kl"]["mean"], 1e-6)
        self.assertIsNone(plain["kv_bits"])


@unittest.skipIf(is_sanitized(), "Saved runs the same there")
class Run(CacheCase):
    PROMPT = ["-p", "It was a dark and", "--temperature", 0, "--tokens", 150]

    def text(self, *options):
        run = self.succeed("run", MODEL, *self.PROMPT, *options)
        return run.stdout, run.stderr

    def test_run(self):
        path, _ = self.recipe(2)
        plain, said = self.text()
        self.assertNotIn("cache:", said)
        for options in (["--kv-bits", 16], ["--kv-recipe", path]):
            text, said = self.text(*options)
            self.assertEqual(text, plain, options)
        self.assertIn("cache: 128 of 155 tokens in pages", said)
        self.assertNotEqual(self.text("--kv-recipe", path, "--kv-exact-first", 0, "--kv-page", 5)[0], "")


class Saved(CacheCase):
    """A prompt's cache in a file: what is read again, what is refused."""

    def setUp(self):
        super().setUp()
        self.path, _ = self.recipe(2)
        text = (ROOT / "models" / "demo.txt").read_bytes()
        self.prompts = [self.write(f"{n}.txt", text[:n]) for n in ((200, 300) if is_sanitized() else (500, 700))]
        self.other = self.write("other.txt", text[:300] + text[2000:2400])

    def text(self, prompt, *options, code=OK):
        run = run_vcllm("run", MODEL, "--prompt-file", prompt, "--temperature", 0, "--tokens", 30, *options)
        self.assertEqual(run.returncode, code, run.stderr)
        return run.stdout, run.stderr

    def save(self, *how):
        file = self.folder / "cache.safetensors"
        self.text(self.prompts[0], *how, "--cache-save", file)
        return file

    @unittest.skipIf(is_sanitized(), "slow; test_damaged saves and loads there")
    def test_same(self):
        ways = ((["--kv-recipe", self.path, "--kv-page", 10, "--kv-exact-first", 0, "--kv-recent", 30],
                 ["--kv-recipe", self.path]),
                (["--kv-recipe", self.path], ["--kv-recipe", self.path]), (["--kv-bits", 16], []))
        for how, load in ways:
            with self.subTest(how=how):
                file = self.save(*how, "-f")
                info = json.loads(self.succeed("kv", "info", file, "--json").stdout)
                self.assertEqual(info["bytes"], file.stat().st_size)
                self.assertGreater(info["tokens"], 150)
                self.assertIn("good", self.succeed("kv", "verify", file).stdout)
                self.succeed("verify", file)
                for prompt, least in ((self.prompts[0], info["tokens"] - 64), (self.prompts[1], info["tokens"] - 64),
                                      (self.other, 40)):
                    loaded, said = self.text(prompt, *load, "--cache-load", file)
                    self.assertEqual(loaded, self.text(prompt, *how)[0], prompt)
                    kept = int(said.split("cache.safetensors: had ")[1].split()[0])
                    self.assertGreaterEqual(kept, least)
                    self.assertLessEqual(kept, info["tokens"] - (prompt == self.prompts[0]))

    def test_damaged(self):
        file = self.save("--kv-recipe", self.path)
        self.text(self.prompts[0], "--kv-recipe", self.path, "--cache-load", file)
        whole = file.read_bytes()
        self.refuse(IO, "is there already", "run", MODEL, "-p", "a", "--kv-recipe", self.path, "--cache-save", file)
        for place in list(range(0, len(whole), len(whole) // (8 if is_sanitized() else 40))) + [len(whole) - 1]:
            bent = bytearray(whole)
            bent[place] ^= 8
            self.refuse(FAILED, "bent.kv", "kv", "verify", self.write("bent.kv", bent))
            self.refuse(FAILED, "bent.kv: ", "run", MODEL, "--prompt-file", self.prompts[0], "--kv-recipe", self.path,
                        "--cache-load", self.folder / "bent.kv")
        for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
            self.refuse(FAILED, "bent.kv: ", "run", MODEL, "-p", "a", "--cache-load", self.write("bent.kv", whole[:length]))

    @unittest.skipIf(is_sanitized(), "slow: it takes another recipe")
    def test_not_its_own(self):
        file = self.save("--kv-recipe", self.path)
        self.refuse(USAGE, "was coded by recipe", "run", MODEL, "-p", "a", "--cache-load", file)
        other, _ = self.recipe(1)
        self.refuse(USAGE, "was coded by recipe", "run", MODEL, "-p", "a", "--cache-load", file, "--kv-recipe", other)
        self.refuse(USAGE, "how a loaded cache is kept is in its file", "run", MODEL, "-p", "a", "--cache-load", file,
                    "--kv-page", 8)
        self.refuse(USAGE, "--cache-save takes --kv-recipe", "run", MODEL, "-p", "a", "--cache-save", self.folder / "x",
                    "--kv-bits", 2)
        self.refuse(USAGE, "-p TEXT or --prompt-file", "run", MODEL)
        self.assertFalse((self.folder / "x").exists())
        small = self.folder / "small"
        self.succeed("compress", MODEL, "-o", small, "--bits", 4, "--allocate", "fixed")
        self.refuse(FAILED, "vcllm.cache is not", "run", MODEL, "-p", "a", "--kv-recipe", self.path, "--cache-load",
                    small / "model.safetensors")
        copy = run_vcllm("run", small, "--prompt-file", self.prompts[0], "--kv-recipe", self.path, "--cache-load", file)
        self.assertEqual(copy.returncode, OK, copy.stderr)


class Families(CacheCase):
    def test_families(self):
        rng = np.random.default_rng(5)
        grouped = self.sample((2, 32, 6, 2, 16, 70, 250, True), sliding_window=20)
        for name, (config, weights) in {"gpt2": make_gpt2(rng), "neox": make_neox(rng), "grouped": grouped}.items():
            model = self.make(name, config, weights)
            path, told = self.recipe(3, model=model)
            self.assertEqual(told["model"], name)
            _, text = self.tokens(70, 400)
            found = self.evaluate("--kv-recipe", path, model=model, text=["--tokens", text, "--kv-page", 40])
            self.assertLess(abs(found["kv_bits"] / 3 - 1), 0.5)  # a text of its own and a random one are unlike
            self.assertTrue(0 < found["kl"]["mean"] < 0.2, found["kl"])
            kept = self.evaluate("--kv-recipe", path, model=model,
                                 text=["--tokens", text, "--kv-recent", 0, "--kv-page", 8, "--kv-exact-first", 1])
            self.assertTrue(0 < kept["kl"]["mean"] < found["kl"]["mean"], (name, kept["kl"], found["kl"]))


class Models(CacheCase):
    def test_other_and_copy(self):
        path, _ = self.recipe(2)
        small = self.folder / "small"
        self.succeed("compress", MODEL, "-o", small, "--bits", 4, "--allocate", "fixed")
        found = self.evaluate("--kv-recipe", path, "--baseline", MODEL, model=small)
        self.assertEqual(found["baseline"], str(MODEL))
        self.assertLess(found["kl"]["mean"], 0.01)
        other = self.folder / "other"
        other.mkdir()
        for file in MODEL.iterdir():
            (other / file.name).write_bytes(file.read_bytes())
        data = bytearray((other / "model.safetensors").read_bytes())
        (length,) = struct.unpack("<Q", data[:8])
        place = json.loads(data[8:8 + length])["model.norm.weight"]["data_offsets"][0] + 8 + length
        data[place] ^= 1  # the last bit of one norm's weight
        (other / "model.safetensors").write_bytes(data)
        self.refuse(USAGE, [f"{path}: was learned for another model, 'tiny-llama'", "revision"],
                    "eval", other, *TEXT, "--kv-recipe", path)
        model = self.make("shape", *self.sample((1, 16, 2, 2, 8, 24, 1024, False), context=300))
        self.refuse(USAGE, ["another model, 'tiny-llama': 6 layers of 4 heads of 32", "this one has 1 of 2 of 8"],
                    "eval", model, "--tokens", self.tokens(1000, 300)[1], "--kv-recipe", path)


class Refused(CacheCase):
    def test_files(self):
        path, _ = self.recipe(2)
        whole = path.read_bytes()
        for name, data in {"cut.kv": whole[:len(whole) // 2], "head.kv": whole[:20], "empty.kv": b"",
                           "wrong.kv": (MODEL / "tokenizer.json").read_bytes()}.items():
            broken = self.write(name, data)
            for args in (["kv", "info", broken], ["eval", MODEL, *TEXT, "--kv-recipe", broken]):
                self.refuse(FAILED, f"{name}: ", *args)
        bent = bytearray(whole)
        bent[len(bent) // 3] ^= 4
        self.refuse(FAILED, "bent.kv: ", "kv", "info", self.write("bent.kv", bent))
        self.refuse(IO, "nothing.kv", "kv", "info", self.folder / "nothing.kv")

    def test_output(self):
        path = self.write("there.kv", b"mine")
        self.refuse(IO, "there.kv", "kv", "learn", MODEL, "--bits", 2, "-o", path)
        self.assertEqual(path.read_bytes(), b"mine")
        self.assertEqual([p.name for p in self.folder.iterdir()], ["there.kv"])

    def test_usage(self):
        out = self.folder / "x.kv"
        for words, *args in [("--bits B and -o FILE are needed", "kv", "learn", MODEL, "--bits", 2),
                             ("--bits B and -o FILE are needed", "kv", "learn", MODEL, "-o", out),
                             ("not 'forget'", "kv", "forget", MODEL), ("bits", "kv", "learn", MODEL, "--bits", 9, "-o", out),
                             ("not both", "eval", MODEL, *TEXT, "--kv-bits", 2, "--kv-recipe", out),
                             ("--kv-", "eval", MODEL, "--choices", ROOT / "tests" / "questions.jsonl", "--kv-bits", 2),
                             ("kv-page", "eval", MODEL, *TEXT, "--kv-bits", 2, "--kv-page", 300),
                             ("it goes with --kv-recent", "eval", MODEL, *TEXT, "--kv-bits", 16),
                             ("0.1 to 8, or 16", "run", MODEL, "-p", "a", "--kv-bits", 12),
                             ("not both", "run", MODEL, "-p", "a", "--kv-bits", 2, "--kv-recipe", out)]:
            self.refuse(USAGE, words, *args)
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
