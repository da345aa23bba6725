#!/usr/bin/python3
"""test_backward.py - gradients of the runtime's backward pass against differences of test_run.py's loss, in f64.

Of every matrix the sum of g x^T over all tokens is the loss' gradient; along a random direction, and along itself, it must
be what the loss changes by when the matrix moves.  Faults it would catch: a step that is differentiated wrongly or left out,
heads or positions mixed up, keys and gradients rotated the wrong way, a query that reaches a key outside its window, a
product of a transpose that misses rows, results that depend on threads or CPU level, labels drawn from other than the
model's predictions.  test_torch.py compares every single gradient.
"""
import os
import subprocess
import unittest

import numpy as np

from test_run import (LLAMA3, PROBE, SHAPES, ModelCase, cut_bf16, gpt2_logits, log_softmax, logits, make_config, make_gpt2,
                      make_neox, make_weights, neox_logits)

NO_LABEL = 0xFFFFFFFF
STORED_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # GPT-2
STEP = 1e-6


# ---- what the probe prints -------------------------------------------------------------------------------------------

class Gradients:
    """What one backward pass hands out: products in their order, keys and values by layer, the loss, the labels."""

    def __init__(self, output):
        self.products, self.key_values, at = [], {}, 0
        while at < len(output):
            end = output.index(b"\n", at)
            kind, *words = output[at:end].decode().split()
            at = end + 1
            def take(*shape, dtype="<f4"):
                nonlocal at
                array = np.frombuffer(output, dtype, int(np.prod(shape)), at).reshape(shape)
                at += array.nbytes
                return array
            if kind == "product":
                first, count, inputs, outputs = map(int, words[1:])
                self.products.append((words[0], first, take(count, inputs) if inputs else None, take(count, outputs)))
            elif kind == "key_values":
                layer, *shape = map(int, words)
                self.key_values[layer] = [take(*shape) for _ in range(4)]
            else:
                self.loss, self.labels = float(words[0]), take(int(words[1]), dtype="<u4")

    def of_weights(self, shapes, tokens):
        """Name to the gradient of the whole tensor, in the shape that it is stored in, and of biases beside it."""
        sums = {}
        for name, first, x, g in self.products:
            g = g.astype("f8")
            if x is None:
                each = np.zeros(shapes[name])
                np.add.at(each, range(len(g)) if "wpe" in name else tokens, g)
            else:
                each = g.T @ x.astype("f8")
                bias = name.removesuffix("weight") + "bias"
                if bias in shapes:
                    sums[bias] = sums.get(bias, 0) + g.sum(axis=0)
            sums[name] = sums.get(name, 0) + (each.T if name.endswith(STORED_TRANSPOSED) else each)
        return sums


def backward(folder, tokens, labels=None, threads=2, seed=None, cpu=None):
    given = tokens if labels is None else np.concatenate([tokens, labels])
    args = [PROBE, "backward", folder, str(threads)] + ([] if seed is None else [str(seed)])
    run = subprocess.run(args, input=given.astype("<u4").tobytes(), capture_output=True,
                         env={**os.environ, **({"VCLLM_CPU": cpu} if cpu else {})})
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


# ---- differences -----------------------------------------------------------------------------------------------------

class Differences(ModelCase):
    def check(self, name, reference, config, weights, count=None, dtype="F32"):
        """Prints the worst of all matrices: how far a difference is off, against the gradient's length."""
        rng = np.random.default_rng(11)
        if dtype == "BF16":
            weights = {n: cut_bf16(a) for n, a in weights.items()}
        tokens, labels = rng.integers(0, config["vocab_size"], (2, count or 23))
        labels[[3, 7]] = NO_LABEL
        given = np.flatnonzero(labels != NO_LABEL)
        def loss(moved):
            return -log_softmax(reference(config, {**weights, **moved}, tokens))[given, labels[given]].sum()
        got = Gradients(backward(self.make(name, config, weights, dtype), tokens, labels))
        self.assertLess(abs(got.loss - loss({})), 1e-5 * got.loss)
        sums, off = got.of_weights({n: a.shape for n, a in weights.items()}, tokens), {}
        for tensor, gradient in sums.items():
            length = np.linalg.norm(gradient)
            for direction in (rng.normal(size=gradient.shape), gradient / length):
                ahead, behind = (loss({tensor: weights[tensor].astype("f8") + s * direction}) for s in (STEP, -STEP))
                change = (ahead - behind) / (2 * STEP)
                off[tensor] = max(off.get(tensor, 0), abs(change - (gradient * direction).sum()) / length)
        worst = max(off, key=off.get)
        print(f"{name}: {len(off)} tensors, worst {off[worst]:.1e}: {worst}", flush=True)
        self.assertLess(off[worst], 2e-5)
        expected = {n for n, a in weights.items() if a.ndim == 2 or "norm" not in n and ".ln_" not in n and n.endswith("bias")}
        self.assertEqual(set(sums), {n for n in expected if "ln_f" not in n})
        return got

    def test_llama(self):
        for number, shape in enumerate(SHAPES):
            config = make_config(shape)
            got = self.check(f"llama{number}", logits, config, make_weights(config, number))
            products = {n: (x, g) for n, _, x, g in got.products}
            for layer, of in got.key_values.items():
                for value, gradient, part in ((of[0], of[2], "k"), (of[1], of[3], "v")):
                    name = f"model.layers.{layer}.self_attn.{part}_proj.weight"
                    x, g = products[name]
                    np.testing.assert_array_equal(gradient.reshape(len(g), -1), g)
                    want = x @ make_weights(config, number)[name].T
                    np.testing.assert_allclose(value.reshape(len(g), -1), want, atol=1e-5 * np.abs(want).max())

    def test_long(self):
        """More tokens than are scored at a time, and weights that are more than a panel."""
        config = make_config((1, 40, 3, 1, 8, 600, 530, False), 200)
        self.check("long", logits, config, make_weights(config, 1), 70)

    def test_bf16(self):
        config = make_config((2, 36, 4, 2, 10, 50, 60, True))
        self.check("bf16", logits, config, make_weights(config, 1), dtype="BF16")

    def test_window(self):
        config = make_config(SHAPES[2], model_type="mistral", sliding_window=6)
        self.check("window", logits, config, make_weights(config, 4), 39)

    def test_rope_scaling(self):
        for number, scaling in enumerate((LLAMA3, {"type": "linear", "factor": 2.5})):
            config = make_config(SHAPES[1], rope_scaling=scaling)
            self.check(f"scaled{number}", logits, config, make_weights(config, 4))

    def fused(self, got, heads, by_head):
        """Keys and values are parts of what the fused product gave."""
        products = {n: g for n, _, _, g in got.products}
        for layer, (_, _, *gradients) in got.key_values.items():
            g = next(g for n, g in products.items() if f".{layer}.attn.c_attn" in n or f".{layer}.attention.query" in n)
            g = g.reshape(len(g), heads, 3, -1) if by_head else g.reshape(len(g), 3, heads, -1).swapaxes(1, 2)
            for part, gradient in zip((1, 2), gradients):
                np.testing.assert_array_equal(gradient, g[:, :, part])

    def test_gpt2(self):
        rng = np.random.default_rng(5)
        self.fused(self.check("gpt2", gpt2_logits, *make_gpt2(rng)), 3, False)
        self.check("erf", gpt2_logits, *make_gpt2(rng, prefix="", width=40, heads=5, n_inner=33, activation_function="gelu"))
        config, weights = make_gpt2(rng, tie_word_embeddings=False)
        weights["lm_head.weight"] = rng.normal(size=(70, 24)).astype("f4")
        self.check("head", gpt2_logits, config, weights)

    def test_neox(self):
        rng = np.random.default_rng(6)
        self.fused(self.check("neox", neox_logits, *make_neox(rng)), 4, True)
        self.check("tanh", neox_logits, *make_neox(rng, width=64, heads=2, ffn=50, use_parallel_residual=False,
                                                   hidden_act="gelu_new"))


# ---- the same ---------------------------------------------------------------------------------------------------------

class Same(ModelCase):
    def test_threads_and_cpus(self):
        for shape in (SHAPES[1], SHAPES[2]):
            config, weights = self.sample(shape, 300)
            model = self.make(f"m{shape[0]}", config, weights)
            tokens, labels = np.random.default_rng(3).integers(0, shape[6], (2, 150))
            outputs = {backward(model, tokens, labels, threads, cpu=cpu)
                       for cpu in ("c", "avx2", "avx512") for threads in (1, 2, 3)}
            self.assertEqual(len(outputs), 1)

    def test_unlabelled_end(self):
        """Tokens behind the last label change nothing before it, and have no gradients."""
        config, weights = self.sample(SHAPES[1])
        model, tokens = self.make("m", config, weights), np.arange(20)
        part = Gradients(backward(model, tokens, np.where(np.arange(20) < 9, tokens[::-1], NO_LABEL)))
        short = Gradients(backward(model, tokens[:9], tokens[::-1][:9]))
        for (name, _, x, g), (_, _, short_x, short_g) in zip(part.products, short.products):
            most = np.abs(g).max()
            self.assertEqual(np.abs(g[9:]).max(), 0, name)
            np.testing.assert_allclose(g[:9], short_g, atol=1e-5 * most)

    def check_coded(self, name, config, weights, *options):
        """Products of what stays coded, against those of the decoded matrix."""
        plain, coded, decoded = (self.folder / (name + end) for end in ("", "-coded", "-decoded"))
        if not plain.exists():
            self.make(name, config, weights)
        self.succeed("compress", plain, "-o", coded, "-f", "--bits", 4, "--allocate", "fixed", *options)
        self.succeed("decompress", coded, "-o", decoded, "-f")
        rng = np.random.default_rng(3)
        file = self.write("text.u16", rng.integers(0, config["vocab_size"], 40).astype("<u2").tobytes())
        memory = self.eval(coded, "--tokens", file, "--memory", 0)["memory"]
        self.assertGreater(memory["coded"], 0.2 * memory["weights"])  # decoding tables are as large as small matrices
        tokens, labels = rng.integers(0, config["vocab_size"], (2, 30))
        ours, theirs = (Gradients(backward(folder, tokens, labels)) for folder in (coded, decoded))
        self.assertEqual(len(ours.products), len(theirs.products))
        for (tensor, _, _, a), (_, _, _, b) in zip(ours.products, theirs.products):
            np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max(), err_msg=tensor)

    def test_coded(self):
        llama = self.sample((1, 256, 4, 2, 64, 512, 700, True))
        for options in ((), ("--transpose",), ("--rotate",)):
            with self.subTest(options=options):
                self.check_coded("llama", *llama, *options)
        self.check_coded("gpt2", *make_gpt2(np.random.default_rng(5), width=256, heads=4, layers=1, vocab=700))


# ---- labels ----------------------------------------------------------------------------------------------------------

class Labels(ModelCase):
    def test_drawn(self):
        """How often each label is drawn, against its probability: chi squared, over all positions."""
        config, weights = self.sample(SHAPES[4])
        model, draws = self.make("m", config, weights), 300
        tokens = np.random.default_rng(3).integers(0, 17, 40)
        shares = np.exp(log_softmax(self.logits(model, tokens).astype("f8")))
        counts = np.zeros_like(shares)
        for seed in range(draws):
            counts[np.arange(40), Gradients(backward(model, tokens, seed=seed)).labels] += 1
        seen = draws * shares > 1
        chi = ((counts - draws * shares) ** 2 / (draws * shares))[seen].sum()
        variance = ((1 - shares) * (2 * (1 - shares) + 1 / (draws * shares)))[seen].sum()
        off = (chi - (1 - shares)[seen].sum()) / np.sqrt(variance)
        print(f"chi squared over {seen.sum()} labels is off by {off:.2f} deviations", flush=True)
        self.assertLess(abs(off), 4)

    def test_drawn_as_given(self):
        config, weights = self.sample(SHAPES[1])
        model, tokens = self.make("m", config, weights), np.arange(20)
        drawn = backward(model, tokens, seed=5)
        self.assertEqual(backward(model, tokens, seed=5, threads=1), drawn)
        given = Gradients(backward(model, tokens, Gradients(drawn).labels))
        for (name, _, _, a), (_, _, _, b) in zip(Gradients(drawn).products, given.products):
            np.testing.assert_array_equal(a, b, name)
        self.assertAlmostEqual(given.loss, Gradients(drawn).loss, places=4)

    def test_not_finite(self):
        """A model that predicts no numbers is no success."""
        config, weights = self.sample(SHAPES[0])
        weights["model.norm.weight"][3] = np.nan
        run = subprocess.run([PROBE, "backward", self.make("m", config, weights), "1", "1"],
                             input=np.arange(8, dtype="<u4").tobytes(), capture_output=True)
        self.assertEqual(run.returncode, 1)


if __name__ == "__main__":
    unittest.main()
