#!/usr/bin/python3
"""test_rotate.py - `vcllm rotate`: the same predictions from other weights, by the forward passes of test_run.py in f64.

Faults it would catch: a matrix turned along the wrong side or left out, a norm's weight or bias that is lost or counts
twice, a rotation that is none or moves the mean, a head tied to an embedding that it no longer is, an index or
configuration that does not say what the shards hold, output that depends on threads.
"""
import json
import shutil
import sys
import unittest

import numpy as np

from driver import ROOT
from test_run import (DATA, FAILED, IO, SHAPES, USAGE, ModelCase, cut_bf16, gpt2_logits, logits, make_config, make_gpt2,
                      make_neox, make_weights, neox_logits, safetensors)

sys.path.insert(0, str(ROOT / "bench"))
import models as bench  # noqa: E402


def header_of(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return header, data[start:]


def load(folder):
    """All tensors of a folder in f32."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        header, body = header_of(path)
        for name, entry in header.items():
            if name != "__metadata__":
                tensors[name] = bench.read_floats(body[slice(*entry["data_offsets"])], entry["dtype"]).reshape(entry["shape"])
    return tensors


def kurtosis(a):
    a = a - a.mean()
    return np.mean(a ** 4) / np.mean(a ** 2) ** 2


class Rotate(ModelCase):
    def rotate(self, model, *args, name=None):
        out = self.folder / (name or model.name + "-rotated")
        self.succeed("rotate", model, "-o", out, "-q", *args)
        return out

    def check(self, model, reference, weights, *args, before=None):
        """Rotates, and compares what both predict; the rotated weights.  before: what config.json means."""
        out = self.rotate(model, *args)
        config, after = (json.loads((f / "config.json").read_text()) for f in (model, out))
        config = before or config
        tokens = np.random.default_rng(3).integers(0, config["vocab_size"], 30)
        made = load(out)
        want, got = reference(config, weights, tokens), reference(after, made, tokens)
        self.assertLess(np.abs(want - got).max(), 1e-5 * np.abs(want).max(), model.name)
        for name, array in made.items():
            if name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
                self.assertTrue(np.all(array == 1), name)
            elif name in weights:
                self.assertGreater(np.abs(array - weights[name]).max(), 1e-3 * np.abs(weights[name]).max(), name)
        return made, after

    def test_llama(self):
        """Widths of one, two and several prime factors; tied and not."""
        for number, shape in enumerate(SHAPES):
            config = make_config(shape)
            weights = make_weights(config, number)
            made, after = self.check(self.make(str(number), config, weights), logits, weights)
            self.assertEqual({k: v for k, v in after.items() if k != "tie_word_embeddings"},
                             {k: v for k, v in config.items() if k != "tie_word_embeddings"})
            self.assertFalse(after["tie_word_embeddings"])
            self.assertEqual(set(made) - set(weights), {"lm_head.weight"} if config["tie_word_embeddings"] else set())
            self.assertEqual([made[n].shape for n in weights], [weights[n].shape for n in weights])

    def test_mistral(self):
        """With a window, and the positions' base where transformers 5 writes it."""
        config, weights = self.sample(SHAPES[1], model_type="mistral", sliding_window=7)
        model = self.make("m", {**config, "rope_theta": None, "rope_parameters": {"rope_theta": config["rope_theta"]}}, weights)
        out = self.rotate(model)
        after = json.loads((out / "config.json").read_text())
        self.assertEqual((after["sliding_window"], after["rope_parameters"]), (7, {"rope_theta": config["rope_theta"]}))
        _, file = self.tokens(config["vocab_size"], 81)
        self.assertLess(self.eval(out, "--tokens", file, "--baseline", model)["kl"]["mean"], 1e-9)

    def test_stored_head(self):
        """Said to be the embedding and stored as another matrix: it is the one that is turned."""
        config, weights = self.sample(SHAPES[3])
        for name, head, used in (("other", np.flip(weights["model.embed_tokens.weight"], 0).copy(), False),
                                 ("same", weights["model.embed_tokens.weight"], True)):
            stored = {**weights, "lm_head.weight": head}
            model = self.make(name, config, stored)
            made, after = self.check(model, logits, stored, before={**config, "tie_word_embeddings": used})
            self.assertFalse(after["tie_word_embeddings"])
            self.assertEqual(set(made), set(stored))
            run = self.succeed("rotate", model, "-o", self.folder / "again", "-f")
            self.assertEqual("the stored head is used" in run.stderr, not used)
        gpt2, weights = make_gpt2(np.random.default_rng(4), "")
        weights["lm_head.weight"] = np.flip(weights["wte.weight"], 0).copy()
        made, _ = self.check(self.make("gpt2", gpt2, weights), gpt2_logits, weights,
                             before={**gpt2, "tie_word_embeddings": False})
        self.assertEqual(set(made), {n if n == "lm_head.weight" else "transformer." + n for n in weights})

    def test_gpt2(self):
        for number, (prefix, width) in enumerate((("transformer.", 24), ("", 35))):
            config, weights = make_gpt2(np.random.default_rng(number), prefix, width, 5 if number else 3)
            mask = {prefix + "h.0.attn.bias": np.ones((1, 1, 8, 8), "f4")}
            made, after = self.check(self.make(str(number), config, {**weights, **mask}), gpt2_logits, weights)
            self.assertIs(after["tie_word_embeddings"], False)
            names = {"transformer." + n.removeprefix("transformer.") for n in [*weights, *mask]}
            self.assertEqual(set(made), {*names, "lm_head.weight"})
            self.assertTrue(np.all(made["transformer.h.0.attn.bias"] == 1))
            self.assertTrue(np.all(made["transformer.h.1.ln_2.bias"] == 0))
            _, file = self.tokens(config["vocab_size"], 60)
            self.assertLess(self.eval(self.folder / f"{number}-rotated", "--tokens", file, "--baseline",
                                      self.folder / str(number))["kl"]["mean"], 1e-9)
            again = self.rotate(self.folder / f"{number}-rotated", name=f"{number}-twice")    # not tied, biases not 0
            self.assertLess(self.eval(again, "--tokens", file, "--baseline", self.folder / str(number))["kl"]["mean"], 1e-9)

    def test_neox(self):
        for number, parallel in enumerate((True, False)):
            config, weights = make_neox(np.random.default_rng(number), use_parallel_residual=parallel)
            self.check(self.make(str(number), config, weights), neox_logits, weights)

    def test_rotation(self):
        """Orthogonal, its own inverse, keeps the ones, spreads every channel; another seed is another one."""
        shape = (1, 132, 2, 2, 8, 24, 132, False)
        config = make_config(shape)
        weights = make_weights(config, 1) | {"model.embed_tokens.weight": np.eye(132, dtype="f4")}
        model = self.make("m", config, weights)
        q, other = (load(self.rotate(model, "--seed", seed, name=str(seed)))["model.embed_tokens.weight"] for seed in (1, 2))
        for turn in (q, other):
            np.testing.assert_allclose(turn, turn.T, atol=1e-6)
            np.testing.assert_allclose(turn @ turn, np.eye(132), atol=1e-6)
            np.testing.assert_allclose(turn.sum(axis=1), 1, atol=1e-6)
            self.assertLess(np.abs(turn).max(), 0.6)
        self.assertGreater(np.abs(q - other).max(), 0.1)

    def test_dtypes(self):
        config, weights = self.sample(SHAPES[4], torch_dtype="float32")
        weights = {n: cut_bf16(a) for n, a in weights.items()}
        plain = self.make("f32", config, weights)
        self.assertEqual(header_of(self.rotate(self.make("bf16", config, weights, "BF16")) / "model.safetensors")[0]
                         ["lm_head.weight"]["dtype"], "BF16")
        exact = load(self.rotate(plain))
        for word, dtype, limit in (("bf16", "bfloat16", 2 ** -8), ("f16", "float16", 2 ** -11), ("f32", "float32", 0)):
            out = self.rotate(plain, "--dtype", word, name=word + "-out")
            self.assertEqual(json.loads((out / "config.json").read_text())["torch_dtype"], dtype)
            for name, array in load(out).items():
                self.assertLessEqual(np.abs(array - exact[name]).max(), limit * np.abs(exact[name]).max(), name)

    def test_same_for_threads(self):
        config, weights = self.sample((2, 90, 2, 2, 8, 133, 77, True))
        model = self.make("m", config, weights)
        outs = [self.rotate(model, "-j", j, name=f"j{j}") / "model.safetensors" for j in (1, 2, 5)]
        self.assertEqual(len({path.read_bytes() for path in outs}), 1)

    def test_shards(self):
        """The head of a tied model goes where its embedding is; metadata and other files come along."""
        config, weights = self.sample(SHAPES[1])
        model = self.make("m", config, {})
        (model / "model.safetensors").unlink()
        (model / "notes.txt").write_text("notes")
        names = sorted(weights)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for shard, part in shards.items():
            raw = safetensors({n: weights[n] for n in part}, "F32")
            length = int.from_bytes(raw[:8], "little")
            text = json.dumps({"__metadata__": {"format": "pt"}, **json.loads(raw[8:8 + length])}).encode()
            (model / shard).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length:])
        total = sum(a.nbytes for a in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": {n: s for s, part in shards.items() for n in part}}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        self.check(model, logits, weights)
        out = self.folder / "m-rotated"
        got = json.loads((out / "model.safetensors.index.json").read_text())
        home = index["weight_map"]["model.embed_tokens.weight"]
        self.assertEqual(got["weight_map"], {**index["weight_map"], "lm_head.weight": home})
        self.assertEqual(got["metadata"]["total_size"], total + weights["model.embed_tokens.weight"].nbytes)
        self.assertEqual(header_of(out / home)[0]["__metadata__"], {"format": "pt"})
        self.assertEqual((out / "notes.txt").read_text(), "notes")
        self.succeed("info", out)

    def test_outliers(self):
        """Where four channels are 30 times the others, rounding to a grid between a row's ends gets better."""
        config = make_config((3, 128, 4, 2, 32, 352, 200, False))
        weights = make_weights(config, 1)
        weights["model.embed_tokens.weight"][:, [3, 50, 51, 99]] *= 30
        model = self.make("m", config, weights)
        made, _ = self.check(model, logits, weights)
        self.assertGreater(kurtosis(weights["model.embed_tokens.weight"]), 20)
        self.assertLess(kurtosis(made["model.embed_tokens.weight"]), 8)
        _, file = self.tokens(200, 241)
        kl = []
        for source in (model, self.folder / "m-rotated"):
            rounded = self.folder / (source.name + "-rounded")
            shutil.copytree(source, rounded)
            bench.round_model(source / "model.safetensors", rounded / "model.safetensors", 0, 4)
            kl.append(self.eval(rounded, "--tokens", file, "--baseline", model)["kl"]["mean"])
        self.assertLess(kl[1], 0.8 * kl[0])

    def test_real(self):
        model = ROOT / "models/tiny-llama"
        self.check(model, logits, load(model), "--dtype", "f32")
        if not DATA.is_dir():
            self.skipTest("VCLLM_DATA is not set")
        model = DATA / "lm/stories260k"
        got = self.eval(self.rotate(model), "--tokens", model / "eval-tinystories-val.u16", "--windows", 3, "--baseline", model)
        self.assertLess(got["kl"]["mean"], 1e-9)


class Refused(ModelCase):
    def refuse_model(self, words, config, weights, *args, code=FAILED):
        number = len(list(self.folder.iterdir()))
        out = self.folder / f"{number}-out"
        self.refuse(code, words, "rotate", self.make(f"{number}", config, weights), "-o", out, *args)
        self.assertEqual([p.name for p in self.folder.iterdir() if "out" in p.name], [])

    def test_models(self):
        config, weights = self.sample()
        name = "model.layers.0.mlp.down_proj.weight"
        self.refuse_model("field 'model_type'", {**config, "model_type": "bert"}, weights)
        self.refuse_model("field 'attention_bias'", {**config, "attention_bias": True}, weights)
        self.refuse_model(f"tensor '{name}' is missing", config, {n: a for n, a in weights.items() if n != name})
        self.refuse_model(f"tensor '{name}' has the shape", config, {**weights, name: weights[name][:, 1:]})
        for value, at in ((np.nan, name), (np.inf, "model.embed_tokens.weight"), (-np.inf, "model.norm.weight")):
            broken = weights[at].copy()
            broken.flat[5] = value
            self.refuse_model(f"tensor '{at}' holds", config, {**weights, at: broken})
        self.refuse_model("too large for its dtype", config, {**weights, name: weights[name] * np.float32(1e6)}, "--dtype", "f16")

    def test_biases(self):
        config, weights = make_gpt2(np.random.default_rng(1))
        for at in ("transformer.h.1.ln_2.bias", "transformer.h.0.mlp.c_fc.bias", "transformer.h.0.attn.c_proj.bias"):
            self.refuse_model(f"tensor '{at}' holds", config, {**weights, at: weights[at] * np.nan})
        at = "transformer.h.0.mlp.c_fc.bias"
        self.refuse_model(f"tensor '{at}' gets", config, {**weights, at: weights[at] + 1e6}, "--dtype", "f16")

    def test_usage(self):
        config, weights = self.sample()
        model = self.make("m", config, weights)
        self.refuse(USAGE, "-o OUTPUT is missing", "rotate", model)
        self.refuse(USAGE, "is no folder", "rotate", model / "model.safetensors", "-o", self.folder / "x")
        self.refuse(USAGE, "same folder", "rotate", model, "-o", model, "-f")
        self.succeed("compress", model, "-o", self.folder / "small", "-q")
        self.refuse(USAGE, "is compressed", "rotate", self.folder / "small", "-o", self.folder / "x")

    def test_replacing(self):
        config, weights = self.sample()
        model, out = self.make("m", config, weights), self.folder / "out"
        self.succeed("rotate", model, "-o", out)
        first = (out / "model.safetensors").read_bytes()
        self.refuse(IO, "is there already", "rotate", model, "-o", out, "--seed", 2)
        self.succeed("rotate", model, "-o", out, "--seed", 2, "-f")
        self.assertNotEqual((out / "model.safetensors").read_bytes(), first)
        (out / "mine.txt").write_text("mine")
        self.refuse(IO, "did not write", "rotate", model, "-o", out, "-f")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["m", "out"])


if __name__ == "__main__":
    unittest.main()
