#!/usr/bin/python3
"""test_run.py - the runtime: `vcllm eval` and `vcllm run` against a forward pass written here in numpy, in f64.

Faults it would catch: heads grouped wrongly, a rotation by a wrong angle or at a wrong position, a window that counts
other predictions than it should, a cache that decodes otherwise than a prompt is read, a query that sees a key outside its
window, a stored head that is passed over for the embedding, tensors left out without a word, figures that depend on threads or
CPU level, broken or unsupported models that are run all the same.
"""
import json
import math
import os
import pathlib
import struct
import subprocess
import unittest

import numpy as np

from driver import ROOT, VCLLM, Case, run_vcllm

DATA = pathlib.Path(os.environ.get("VCLLM_DATA") or "/nowhere")
PROBE = os.environ.get("VCLLM_PROBE", str(ROOT / "build" / "probe"))
OK, FAILED, USAGE, IO, CODEC = 0, 1, 2, 3, 4

# layers, width, heads, kv_heads, head_dim, ffn, vocab, tied
SHAPES = [(1, 16, 2, 2, 8, 24, 50, False), (2, 24, 6, 2, 4, 40, 300, True), (3, 40, 4, 1, 10, 33, 97, False),
          (2, 32, 3, 3, 16, 70, 256, True), (1, 130, 5, 5, 26, 150, 17, False)]

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}


def make_config(shape, context=40, **more):
    layers, width, heads, kv_heads, head_dim, ffn, vocab, tied = shape
    return {"model_type": "llama", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": ffn, "vocab_size": vocab,
            "tie_word_embeddings": tied, "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 5000.0,
            "hidden_act": "silu", **more}


def make_weights(config, seed):
    rng, c = np.random.default_rng(seed), config
    q, kv = (c[n] * c["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    width, ffn = c["hidden_size"], c["intermediate_size"]
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], width), "model.norm.weight": (width,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (c["vocab_size"], width)
    for i in range(c["num_hidden_layers"]):
        for name, *shape in [("input_layernorm", width), ("post_attention_layernorm", width),
                             ("self_attn.q_proj", q, width), ("self_attn.k_proj", kv, width),
                             ("self_attn.v_proj", kv, width), ("self_attn.o_proj", width, q),
                             ("mlp.gate_proj", ffn, width), ("mlp.up_proj", ffn, width),
                             ("mlp.down_proj", width, ffn)]:
            shapes[f"model.layers.{i}.{name}.weight"] = tuple(shape)
    return {name: (rng.normal(size=shape) * (2 / np.sqrt(shape[-1]) if len(shape) > 1 else 1)).astype("f4")
            for name, shape in shapes.items()}


def cut_bf16(array):
    """What is left of f32 values in bf16, by cutting: exact in both."""
    return (np.ascontiguousarray(array).view("u4") & 0xFFFF0000).view("f4")


def safetensors(weights, dtype):
    store = {"F32": lambda a: a.astype("<f4"), "BF16": lambda a: (a.view("u4") >> 16).astype("<u2"),
             "F16": lambda a: a.astype("<f2"), "F64": lambda a: a.astype("<f8"), "I32": lambda a: a.astype("<i4")}[dtype]
    header, data = {}, b""
    for name, array in weights.items():
        raw = store(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# ---- the reference ---------------------------------------------------------------------------------------------------

def rms(x, weight, eps):
    return x * weight / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps)


def rope_rates(half, theta, scaling=None):
    """Radians a position.  Of Llama 3: by wavelength, as its authors have it."""
    rates = theta ** -(np.arange(half) / half)
    if not scaling or (kind := scaling.get("rope_type") or scaling["type"]) == "default":
        return rates
    if kind == "linear":
        return rates / scaling["factor"]
    original, low, high = (scaling[n] for n in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    wavelength = 2 * np.pi / rates
    smooth = (original / wavelength - low) / (high - low)
    mixed = (1 - smooth) * rates / scaling["factor"] + smooth * rates
    return np.where(wavelength > original / low, rates / scaling["factor"], np.where(wavelength < original / high, rates, mixed))


def rope(x, theta, scaling=None):
    """x: (positions, heads, dim); pair (i, i + dim / 2) as a complex number, turned."""
    half = x.shape[2] // 2
    angle = np.arange(x.shape[0])[:, None] * rope_rates(half, theta, scaling)[None, :]
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None, :]
    return np.concatenate([turned.real, turned.imag], axis=2)


def attention(x, c, w, name):
    n, d, heads = len(x), c["head_dim"], c["num_attention_heads"]
    q, k, v = ((x @ w[f"{name}self_attn.{m}_proj.weight"].T).reshape(n, -1, d) for m in "qkv")
    q, k = (rope(x, c["rope_theta"], c.get("rope_scaling")) for x in (q, k))
    mixed, window = np.zeros((n, heads, d)), c.get("sliding_window") or n
    for h in range(heads):
        shared = h * c["num_key_value_heads"] // heads
        for i in range(n):
            seen = slice(max(0, i + 1 - window), i + 1)
            score = k[seen, shared] @ q[i, h] / math.sqrt(d)
            share = np.exp(score - score.max())
            mixed[i, h] = share @ v[seen, shared] / share.sum()
    return mixed.reshape(n, -1) @ w[name + "self_attn.o_proj.weight"].T


def logits(config, weights, tokens):
    c, w = config, {name: array.astype("f8") for name, array in weights.items()}
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        name = f"model.layers.{i}."
        x = x + attention(rms(x, w[name + "input_layernorm.weight"], c["rms_norm_eps"]), c, w, name)
        h = rms(x, w[name + "post_attention_layernorm.weight"], c["rms_norm_eps"])
        gate, up = (h @ w[f"{name}mlp.{m}_proj.weight"].T for m in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[name + "mlp.down_proj.weight"].T
    head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return rms(x, w["model.norm.weight"], c["rms_norm_eps"]) @ head.T


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def window_logs(config, weights, tokens, context, stride, starts=None):
    """Of each window the log probabilities of all tokens at the counted positions, and the targets."""
    for start in range(0, len(tokens) - context, stride) if starts is None else starts:
        first = context - stride if start else 0
        logs = log_softmax(logits(config, weights, tokens[start:start + context]))
        yield logs[first:], tokens[start + first + 1:start + context + 1]


def figures(document):
    """What eval prints without what it took."""
    return {key: value for key, value in document.items() if key not in ("tokens_per_second", "memory")}


def estimate(windows):
    """Mean over predictions, standard error with windows as the sample."""
    n, mean = sum(map(len, windows)), np.concatenate(windows).mean()
    off = np.array([np.sum(w - mean) for w in windows])
    return mean, math.sqrt(np.sum(off ** 2) * len(off) / (len(off) - 1)) / n


# ---- GPT-2 and GPT-NeoX ----------------------------------------------------------------------------------------------

def make_gpt2(rng, prefix="transformer.", width=24, heads=3, layers=2, vocab=70, context=40, **more):
    config = {"model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": heads, "vocab_size": vocab,
              "n_positions": context, "activation_function": "gelu_new", **more}
    inner = config.get("n_inner") or 4 * width
    shapes = {"wte.weight": (vocab, width), "wpe.weight": (context, width), "ln_f.weight": (width,), "ln_f.bias": (width,)}
    for i in range(layers):
        for name, rows, cols in [("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width),
                                 ("mlp.c_fc", width, inner), ("mlp.c_proj", inner, width)]:
            shapes |= {f"h.{i}.{name}.weight": (rows, cols), f"h.{i}.{name}.bias": (cols,)}
        for name in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{name}.weight": (width,), f"h.{i}.{name}.bias": (width,)}
    return config, {prefix + n: (rng.normal(size=s) / (np.sqrt(s[0]) if len(s) > 1 else 1)).astype("f4") for n, s in shapes.items()}


def make_neox(rng, width=48, heads=4, layers=2, ffn=100, vocab=70, context=40, **more):
    config = {"model_type": "gpt_neox", "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
              "intermediate_size": ffn, "vocab_size": vocab, "max_position_embeddings": context, "hidden_act": "gelu",
              "rotary_pct": 0.34, "rotary_emb_base": 700, **more}
    shapes = {"gpt_neox.embed_in.weight": (vocab, width), "embed_out.weight": (vocab, width)}
    linear = [("attention.query_key_value", 3 * width, width), ("attention.dense", width, width),
              ("mlp.dense_h_to_4h", ffn, width), ("mlp.dense_4h_to_h", width, ffn)]
    for i in range(layers):
        for name, rows, cols in linear:
            shapes |= {f"gpt_neox.layers.{i}.{name}.weight": (rows, cols), f"gpt_neox.layers.{i}.{name}.bias": (rows,)}
    norms = [f"layers.{i}.{n}_layernorm" for i in range(layers) for n in ("input", "post_attention")]
    for name in [*norms, "final_layer_norm"]:
        shapes |= {f"gpt_neox.{name}.weight": (width,), f"gpt_neox.{name}.bias": (width,)}
    return config, {n: (rng.normal(size=s) / (np.sqrt(s[-1]) if len(s) > 1 else 1)).astype("f4") for n, s in shapes.items()}


def layer_norm(x, w, name, eps):
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]


def attend(q, k, v):
    """(positions, heads, dim) each."""
    score = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[2])
    score[:, np.arange(len(q))[:, None] < np.arange(len(q))[None, :]] = -np.inf
    share = np.exp(score - score.max(axis=2, keepdims=True))
    return np.einsum("hij,jhd->ihd", share / share.sum(axis=2, keepdims=True), v).reshape(len(q), -1)


def gelu(x, name):
    if name in ("gelu", "gelu_python"):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gpt2_logits(config, weights, tokens):
    c, w, n = config, {k.removeprefix("transformer."): a.astype("f8") for k, a in weights.items()}, len(tokens)
    x = w["wte.weight"][tokens] + w["wpe.weight"][:n]
    for i in range(c["n_layer"]):
        def linear(x, name):
            return x @ w[f"h.{i}.{name}.weight"] + w[f"h.{i}.{name}.bias"]
        parts = np.split(linear(layer_norm(x, w, f"h.{i}.ln_1", 1e-5), "attn.c_attn"), 3, axis=1)
        x = x + linear(attend(*(p.reshape(n, c["n_head"], -1) for p in parts)), "attn.c_proj")
        h = linear(layer_norm(x, w, f"h.{i}.ln_2", 1e-5), "mlp.c_fc")
        x = x + linear(gelu(h, c["activation_function"]), "mlp.c_proj")
    return layer_norm(x, w, "ln_f", 1e-5) @ w["wte.weight" if c.get("tie_word_embeddings", True) else "lm_head.weight"].T


def neox_logits(config, weights, tokens):
    c, w, n = config, {k.removeprefix("gpt_neox."): a.astype("f8") for k, a in weights.items()}, len(tokens)
    heads = c["num_attention_heads"]
    turned = int(c["hidden_size"] // heads * c["rotary_pct"])
    def rotate(x):
        return np.concatenate([rope(x[..., :turned], c["rotary_emb_base"], c.get("rope_scaling")), x[..., turned:]], axis=2)
    x = w["embed_in.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        def linear(x, name):
            return x @ w[f"layers.{i}.{name}.weight"].T + w[f"layers.{i}.{name}.bias"]
        q, k, v = np.moveaxis(linear(layer_norm(x, w, f"layers.{i}.input_layernorm", 1e-5), "attention.query_key_value")
                              .reshape(n, heads, 3, -1), 2, 0)
        added = linear(attend(rotate(q), rotate(k), v), "attention.dense")
        h = layer_norm(x if c.get("use_parallel_residual", True) else x + added, w, f"layers.{i}.post_attention_layernorm", 1e-5)
        h = linear(h, "mlp.dense_h_to_4h")
        x = x + added + linear(gelu(h, c["hidden_act"]), "mlp.dense_4h_to_h")
    return layer_norm(x, w, "final_layer_norm", 1e-5) @ w["embed_out.weight"].T


# ---- models on disk --------------------------------------------------------------------------------------------------

class ModelCase(Case):
    def make(self, name, config, weights, dtype="F32", tokenizer=None):
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(safetensors(weights, dtype))
        if tokenizer is not None:
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        return folder

    def sample(self, shape=SHAPES[0], context=40, **more):
        config = make_config(shape, context, **more)
        return config, make_weights(config, 1)

    def tokens(self, vocab, count, seed=7):
        tokens = np.random.default_rng(seed).integers(0, vocab, count)
        return tokens, self.write("text.u16", tokens.astype("<u2").tobytes())

    def logits(self, model, tokens):
        run = subprocess.run([PROBE, "logits", model], input=tokens.astype("<u4").tobytes(), capture_output=True, check=True)
        return np.frombuffer(run.stdout, "<f4").reshape(len(tokens), -1)

    def eval(self, *args):
        return json.loads(self.succeed("eval", *args, "--json").stdout)

    def refuse(self, code, words, *args):
        run = run_vcllm(*args)
        self.assertEqual(run.returncode, code, f"{args}\n{run.stderr}")
        self.assertIn(words, run.stderr)
        self.assertEqual(run.stdout, "")


class Forward(ModelCase):
    def test_perplexity(self):
        for number, shape in enumerate(SHAPES):
            for dtype in ("F32", "BF16") if number else ("F32", "BF16", "F64"):
                with self.subTest(shape=shape, dtype=dtype):
                    config = make_config(shape)
                    weights = {n: cut_bf16(a) for n, a in make_weights(config, number).items()}
                    model = self.make(f"{number}{dtype}", config, weights, dtype)
                    tokens, file = self.tokens(shape[6], 100)
                    got = self.eval(model, "--tokens", file, "--context", 21, "--stride", 13)
                    windows = [-logs[np.arange(len(t)), t] for logs, t in window_logs(config, weights, tokens, 21, 13)]
                    mean, error = estimate(windows)
                    self.assertEqual((got["windows"], got["tokens"]), (len(windows), sum(map(len, windows))))
                    self.assertAlmostEqual(got["nll"]["mean"], mean, delta=2e-5)
                    self.assertAlmostEqual(got["nll"]["error"], error, delta=2e-5)
                    self.assertAlmostEqual(got["perplexity"]["mean"], math.exp(mean), delta=1e-4 * math.exp(mean))

    def test_rope_scaling(self):
        """In a head of 26 dimensions some pairs turn as before, some by the factor more slowly, some in between."""
        scaled = rope_rates(13, 5000.0, LLAMA3) * 8 / rope_rates(13, 5000.0)
        self.assertTrue((scaled == 1).sum() > 1 and (scaled == 8).sum() > 1 and ((scaled > 1) & (scaled < 8)).sum() > 1)
        tokens, file = self.tokens(17, 150)
        seen = []
        for number, scaling in enumerate((LLAMA3, {"type": "linear", "factor": 2.5}, None)):
            config = make_config(SHAPES[4], 150, **{"rope_scaling": scaling} if scaling else {})
            weights = make_weights(config, 4)
            want = np.mean([-logs[np.arange(len(t)), t] for logs, t in window_logs(config, weights, tokens, 149, 149)])
            self.assertAlmostEqual(self.eval(self.make(str(number), config, weights), "--tokens", file)["nll"]["mean"], want,
                                   delta=2e-5)
            theta = config.pop("rope_theta")
            config["rope_parameters"] = {"rope_theta": theta, "rope_type": "default", **(config.pop("rope_scaling", None) or {})}
            if "type" not in config["rope_parameters"]:
                self.assertAlmostEqual(self.eval(self.make(f"p{number}", config, weights), "--tokens", file)["nll"]["mean"],
                                       want, delta=2e-5)
            seen.append(want)
        self.assertTrue(min(abs(a - b) for a in seen for b in seen if a != b) > 1e-3, seen)

    def test_window(self):
        """Windows of one position, within sixteen lanes and beyond them, over the border of a batch of 256, and none."""
        windows = {"sliding_window": 1}, {"sliding_window": 5}, {"sliding_window": 40, "model_type": "mistral"}, {}
        tokens, file = self.tokens(300, 271)
        seen = []
        for number, more in enumerate(windows):
            config, weights = self.sample(SHAPES[1], 270, **more)
            model = self.make(str(number), config, weights)
            got = self.eval(model, "--tokens", file)["nll"]["mean"]
            (logs, at), = window_logs(config, weights, tokens, 270, 270)
            self.assertAlmostEqual(got, -np.mean(logs[np.arange(270), at]), delta=2e-5)
            seen.append(got)
        self.assertEqual(len({round(nll, 3) for nll in seen}), len(windows), seen)

    def test_no_window(self):
        """As long as the context, null, not used, or absent; of a Mistral absent is 4096."""
        plain, weights = self.sample(SHAPES[1], 270)
        _, file = self.tokens(300, 271)
        want = self.eval(self.make("plain", plain, weights), "--tokens", file)["nll"]
        for number, more in enumerate(({"sliding_window": None, "model_type": "mistral"}, {"sliding_window": 270},
                                       {"sliding_window": 5, "use_sliding_window": False}, {"model_type": "mistral"},
                                       {"sliding_window": 999, "layer_types": ["full_attention", "sliding_attention"]})):
            with self.subTest(more=more):
                model = self.make(str(number), {**plain, **more}, weights)
                self.assertEqual(self.eval(model, "--tokens", file)["nll"], want)
        config = {**plain, "model_type": "mistral", "max_position_embeddings": 4098}
        tokens = np.random.default_rng(1).integers(0, 300, 4098)
        logits = [self.logits(self.make(f"long{number}", {**config, **more}, weights), tokens)[-1]
                  for number, more in enumerate(({}, {"sliding_window": 4096}, {"sliding_window": None}))]
        self.assertTrue(np.array_equal(logits[0], logits[1]) and not np.array_equal(logits[0], logits[2]))

    def test_baseline(self):
        config, base = self.sample(SHAPES[1])
        noise = np.random.default_rng(3)
        other = {n: a + (0.02 * noise.normal(size=a.shape)).astype("f4") for n, a in base.items()}
        tokens, file = self.tokens(300, 161)
        got = self.eval(self.make("other", config, other), "--tokens", file, "--baseline", self.make("base", config, base))
        pairs = list(zip(window_logs(config, other, tokens, 40, 40), window_logs(config, base, tokens, 40, 40)))
        at = [np.arange(len(t)) for (_, t), _ in pairs]
        nll = estimate([logs[i, t] * -1 for i, ((logs, t), _) in zip(at, pairs)])
        difference = estimate([q[1][i, b] - p[i, b] for i, ((p, b), q) in zip(at, [(a, (0, b[0])) for a, b in pairs])])
        kl = [np.sum(np.exp(b) * (b - a), axis=1) for (a, _), (b, _) in pairs]
        same = [a.argmax(1) == b.argmax(1) for (a, _), (b, _) in pairs]
        for key, want in (("nll", nll), ("nll_difference", difference), ("kl", estimate(kl)),
                          ("top1_agreement", estimate(same))):
            self.assertAlmostEqual(got[key]["mean"], want[0], delta=3e-5, msg=key)
            self.assertAlmostEqual(got[key]["error"], want[1], delta=3e-5, msg=key)
        ordered = np.sort(np.concatenate(kl))
        self.assertAlmostEqual(got["kl_median"], ordered[len(ordered) // 2], delta=3e-5)
        self.assertAlmostEqual(got["kl_99"], ordered[len(ordered) - 1 - len(ordered) // 100], delta=3e-5)

    def test_windows_spread(self):
        config, weights = self.sample()
        tokens, file = self.tokens(50, 500)
        got = self.eval(self.make("m", config, weights), "--tokens", file, "--windows", 3)
        step = (499 - 40) // 3
        windows = [-logs[np.arange(40), t] for logs, t in window_logs(config, weights, tokens, 40, 40, range(0, 3 * step, step))]
        self.assertEqual(got["windows"], 3)
        self.assertAlmostEqual(got["nll"]["mean"], np.concatenate(windows).mean(), delta=2e-5)

    def test_same_for_threads_and_cpus(self):
        config, weights = self.sample(SHAPES[2], 300, sliding_window=90)
        model = self.make("m", config, {n: cut_bf16(a) for n, a in weights.items()}, "BF16")
        _, file = self.tokens(97, 700)
        seen = set()
        for cpu in ("c", "avx2", "avx512"):
            for jobs in (1, 2, 5):
                run = subprocess.run([VCLLM, "eval", model, "--tokens", file, "--json", "-j", str(jobs)],
                                     env=dict(os.environ, VCLLM_CPU=cpu), capture_output=True, check=True)
                seen.add(json.dumps(figures(json.loads(run.stdout))))
        self.assertEqual(len(seen), 1)

    def test_compressed(self):
        config, weights = self.sample((2, 128, 4, 2, 32, 200, 64, True))
        plain = self.make("plain", config, {n: cut_bf16(a) for n, a in weights.items()}, "BF16")
        _, file = self.tokens(64, 400)
        self.succeed("compress", plain, "-o", self.folder / "lossless", "--lossless")
        self.succeed("compress", plain, "-o", self.folder / "coded", "--bits", 4, "--allocate", "fixed")
        self.succeed("decompress", self.folder / "coded", "-o", self.folder / "decoded")
        nll = {n: self.eval(self.folder / n, "--tokens", file)["nll"] for n in ("plain", "lossless", "coded", "decoded")}
        self.assertEqual(nll["plain"], nll["lossless"])
        self.assertEqual(nll["coded"], nll["decoded"])
        self.assertNotEqual(nll["plain"], nll["coded"])


class StoredHead(ModelCase):
    """tie_word_embeddings is true, and a head is stored: it counts if it is another matrix than the embedding."""

    NOTE = "the stored head is used"

    def tied(self, shape=SHAPES[1]):
        """Configuration, weights with another head, a file of tokens and what the stored head predicts of it."""
        config, weights = self.sample(shape)
        head = weights["model.embed_tokens.weight"].copy()
        head[-1, -1] += 1
        weights["lm_head.weight"] = head
        tokens, file = self.tokens(config["vocab_size"], 81)
        logs = window_logs({**config, "tie_word_embeddings": False}, weights, tokens, 40, 40)
        return config, weights, file, -np.concatenate([l[np.arange(len(t)), t] for l, t in logs]).mean()

    def notes(self, *args):
        return run_vcllm("eval", *args).stderr.count(self.NOTE)

    def test_other(self):
        config, weights, file, want = self.tied()
        model = self.make("m", config, weights)
        self.assertAlmostEqual(self.eval(model, "--tokens", file)["nll"]["mean"], want, delta=2e-5)
        self.assertEqual([self.notes(model, "--tokens", file, *more) for more in ((), ("-q",))], [1, 0])
        untied = self.make("untied", {**config, "tie_word_embeddings": False}, weights)
        both = run_vcllm("eval", model, "--tokens", file, "--baseline", untied, "--json")
        self.assertEqual((json.loads(both.stdout)["kl"]["mean"], both.stderr.count(self.NOTE)), (0, 1))

    def test_families(self):
        for number, (make, embedding, head) in enumerate(((make_gpt2, "transformer.wte.weight", "lm_head.weight"),
                                                          (make_neox, "gpt_neox.embed_in.weight", "embed_out.weight"))):
            config, weights = make(np.random.default_rng(2))
            _, file = self.tokens(70, 81)
            weights[head] = np.flip(weights[embedding], 0).copy()
            models = [self.make(f"{number}{tied}", {**config, "tie_word_embeddings": tied}, weights) for tied in (True, False)]
            nll = [self.eval(model, "--tokens", file)["nll"] for model in models]
            self.assertEqual(nll[0], nll[1])
            self.assertEqual([self.notes(model, "--tokens", file) for model in models], [1, 0])

    def test_same(self):
        """In one file, in a second one of another dtype, compressed as an alias and as two frames."""
        config, weights, file, _ = self.tied((2, 64, 4, 2, 16, 96, 100, True))
        weights = {n: cut_bf16(a) for n, a in weights.items()}
        del weights["lm_head.weight"]
        head = {"lm_head.weight": weights["model.embed_tokens.weight"]}
        want = self.eval(self.make("none", config, weights), "--tokens", file)["nll"]
        self.make("one", config, weights | head)
        for name, dtype in ("f32", "F32"), ("bf16", "BF16"):
            (self.make(name, config, weights) / "second.safetensors").write_bytes(safetensors(head, dtype))
        for name in ("one", "f32", "bf16"):
            self.succeed("compress", self.folder / name, "-o", self.folder / (name + "-small"), "--lossless")
        for name in ("one", "f32", "bf16", "one-small", "f32-small", "bf16-small"):
            with self.subTest(name=name):
                self.assertEqual(self.eval(self.folder / name, "--tokens", file)["nll"], want)
                self.assertEqual(self.notes(self.folder / name, "--tokens", file), 0)

    def test_compressed(self):
        """Other frames with other values."""
        config, weights, file, _ = self.tied((2, 64, 4, 2, 16, 96, 100, True))
        self.succeed("compress", self.make("m", config, weights), "-o", self.folder / "small", "--bits", 4,
                     "--allocate", "fixed")
        self.succeed("decompress", self.folder / "small", "-o", self.folder / "back")
        small, back = self.folder / "small", self.folder / "back"
        self.assertLess(self.eval(small, "--tokens", file, "--baseline", back)["kl"]["mean"], 1e-9)
        self.assertEqual([self.notes(model, "--tokens", file) for model in (small, back)], [1, 1])

    def test_refused(self):
        config, weights, file, _ = self.tied()
        weights["lm_head.weight"] = weights["lm_head.weight"][1:]
        self.refuse(FAILED, "tensor 'lm_head.weight' has the shape", "eval", self.make("m", config, weights), "--tokens", file)


class NotRead(ModelCase):
    """Tensors of the file that the network has no place for, by name; buffers have no weights in them."""

    def check(self, words, config, weights, more):
        number = len(list(self.folder.iterdir()))
        model = self.make(f"m{number}", config, {**weights, **more}, tokenizer=make_tokenizer())
        _, file = self.tokens(50, 100)
        for args in (("eval", model, "--tokens", file), ("run", model, "-p", "a", "--tokens", 1),
                     ("compress", model, "-o", self.folder / f"out{number}", "--allocate", "self")):
            run = run_vcllm(*args)
            self.assertEqual((run.returncode, run.stderr.count("not read")), (OK, bool(words)), f"{args}\n{run.stderr}")
            self.assertIn(f"{model}: {words}\n" if words else "", run.stderr)
        self.assertNotIn("not read", run_vcllm("eval", model, "--tokens", file, "-q").stderr)
        rotated = run_vcllm("rotate", model, "-o", self.folder / f"turned{number}")
        self.assertEqual(rotated.returncode, FAILED if words else OK, rotated.stderr)
        self.assertIn(f"has tensors that are not read ({words.split(': ')[1]}): what they do" if words else "", rotated.stderr)
        self.assertEqual((self.folder / f"turned{number}").exists(), not words)

    def test_named(self):
        config, weights = self.sample((2, 32, 2, 2, 16, 40, 262, False))
        name = "model.layers.{}.self_attn.{}".format
        biases = {name(i, f"{m}_proj.bias"): np.full(32, 2.0, "f4") for i in (0, 1) for m in "qkv"}
        self.check(f"6 tensors are not read: {name(0, 'q_proj.bias')}, {name(0, 'k_proj.bias')}, {name(0, 'v_proj.bias')}, ...",
                   config, weights, biases)
        norms = {name(0, f"{m}_norm.weight"): np.ones(16, "f4") for m in "qk"}
        self.check(f"2 tensors are not read: {name(0, 'q_norm.weight')}, {name(0, 'k_norm.weight')}", config, weights, norms)
        self.check(f"1 tensor is not read: {name(2, 'o_proj.weight')}", config, weights,
                   {name(2, "o_proj.weight"): np.ones((4, 4), "f4")})

    def test_buffers(self):
        config, weights = self.sample((2, 32, 2, 2, 16, 40, 262, False))
        rates = np.ones(8, "f4")
        self.check("", config, weights, {"model.layers.1.self_attn.rotary_emb.inv_freq": rates,
                                         "model.rotary_emb.inv_freq": rates})
        mask, rng = np.ones((1, 1, 8, 8), "f4"), np.random.default_rng(3)
        for prefix in ("transformer.", ""):
            self.check("", *make_gpt2(rng, prefix, vocab=262),
                       {prefix + "h.0.attn.bias": mask, prefix + "h.1.attn.masked_bias": rates})
        layer = "gpt_neox.layers.1.attention."
        self.check("", *make_neox(rng, vocab=262),
                   {layer + "bias": mask, layer + "masked_bias": rates, layer + "rotary_emb.inv_freq": rates})
        self.check(f"1 tensor is not read: {layer}bias", config, weights, {layer + "bias": mask})


class Families(ModelCase):
    def check(self, name, reference, config, weights):
        tokens, file = self.tokens(config["vocab_size"], 61)
        got = self.eval(self.make(name, config, weights), "--tokens", file, "--context", 30)
        logs = [log_softmax(reference(config, weights, tokens[s:s + 30])) for s in (0, 30)]
        want = -np.mean([l[np.arange(30), tokens[s + 1:s + 31]] for s, l in zip((0, 30), logs)])
        self.assertAlmostEqual(got["nll"]["mean"], want, delta=2e-5)
        self.refuse(FAILED, "", "eval", self.make(name + "-", config, dict(list(weights.items())[:-1])), "--tokens", file)

    def test_gpt2(self):
        rng = np.random.default_rng(5)
        self.check("a", gpt2_logits, *make_gpt2(rng))
        self.check("b", gpt2_logits, *make_gpt2(rng, prefix="", width=40, heads=5, n_inner=33))

    def test_neox(self):
        rng = np.random.default_rng(6)
        self.check("a", neox_logits, *make_neox(rng))
        self.check("b", neox_logits, *make_neox(rng, width=64, heads=2, ffn=50, use_parallel_residual=False))

    def test_gelu(self):
        """By erf or tanh, whatever the family has by default."""
        rng = np.random.default_rng(8)
        self.check("a", gpt2_logits, *make_gpt2(rng, activation_function="gelu"))
        self.check("b", neox_logits, *make_neox(rng, hidden_act="gelu_new"))
        self.check("c", neox_logits, *make_neox(rng, hidden_act="gelu_pytorch_tanh"))
        self.check("d", neox_logits, *make_neox(rng, hidden_act="gelu_python"))

    def test_neox_of_transformers_5(self):
        """rope_parameters in place of rotary_pct and rotary_emb_base, with and without scaling: the same numbers."""
        config, weights = make_neox(np.random.default_rng(9))
        tokens, file = self.tokens(70, 61)
        linear = {"rope_type": "linear", "factor": 2.5}
        for number, scaling in enumerate((None, linear, {**LLAMA3, "original_max_position_embeddings": 16})):
            old = {**config, "rope_scaling": scaling}
            new = {k: v for k, v in config.items() if not k.startswith("rotary")}
            new["rope_parameters"] = {"rope_type": "default", **(scaling or {}), "rope_theta": config["rotary_emb_base"],
                                      "partial_rotary_factor": config["rotary_pct"]}
            self.check(f"old{number}", neox_logits, old, weights)
            models = [self.make(f"{n}{number}-again", c, weights) for n, c in (("old", old), ("new", new))]
            self.assertEqual(*(self.eval(model, "--tokens", file)["nll"] for model in models))

    def test_refused(self):
        rng = np.random.default_rng(7)
        _, file = self.tokens(70, 100)
        cases = [(make_gpt2, "n_head", 5), (make_gpt2, "activation_function", "relu"), (make_gpt2, "scale_attn_weights", False),
                 (make_gpt2, "scale_attn_by_inverse_layer_idx", True), (make_neox, "rotary_pct", 0.3),
                 (make_neox, "hidden_act", "relu"), (make_neox, "attention_bias", False),
                 (make_neox, "rope_scaling", {"type": "dynamic"}), (make_neox, "rope_parameters", {"partial_rotary_factor": 0.3})]
        for number, (make, name, value) in enumerate(cases):
            with self.subTest(name=name):
                config, weights = make(rng)
                model = self.make(f"m{number}", {**config, name: value}, weights)
                self.refuse(FAILED, f"field '{name}", "eval", model, "--tokens", file)


# ---- text ------------------------------------------------------------------------------------------------------------

def alphabet():
    """GPT-2's letters for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) if b in printable else chr(256 + others.index(b)) for b in range(256)}


def make_tokenizer(merges=(), added=(), **more):
    letters = alphabet()
    vocab = {letters[b]: b for b in range(256)}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    return {"version": "1.0", "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]},
            "added_tokens": [{"id": len(vocab) + i, "content": t, "special": True} for i, t in enumerate(added)], **more}


SHAPE = (2, 24, 4, 2, 6, 40, 262, False)
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the")]


class Text(ModelCase):
    def text_model(self, name="m", context=60, tokenizer=None, **more):
        config, weights = self.sample(SHAPE, context, **more)
        return config, weights, self.make(name, config, weights, tokenizer=tokenizer or make_tokenizer(MERGES, ["<end>"]))

    def encoded(self, text, tokens, tokenizer=None):
        """The tokenizer gives these tokens: the perplexity of the text is theirs to the last bit."""
        _, _, model = self.text_model(f"m{len(list(self.folder.iterdir()))}", tokenizer=tokenizer)
        tokens = self.write("tokens.u32", np.array(tokens, "<u4").tobytes())
        a = self.eval(model, "--text", self.write("text.txt", text.encode()))
        b = self.eval(model, "--tokens", tokens)
        self.assertEqual((a["tokens"], a["nll"]), (b["tokens"], b["nll"]))

    def test_encoding(self):
        self.encoded("the the<end>theéx", [257, 258, 259, 257, 0xC3, 0xA9, ord("x")])

    def test_added_around(self):
        processor = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                              {"Sequence": {"id": "A", "type_id": 0}}]}
        self.encoded("a the", [259, ord("a"), 258], make_tokenizer(MERGES, ["<s>"], post_processor=processor))

    def test_whole_words_and_pairs(self):
        tokenizer = make_tokenizer(MERGES)
        tokenizer["model"]["vocab"]["Ġxyz"] = 260
        tokenizer["model"]["ignore_merges"] = True
        tokenizer["model"]["merges"] = [m.split(" ") for m in tokenizer["model"]["merges"]]
        self.encoded("the xyz", [257, 260], tokenizer)

    def test_prefix_space(self):
        tokenizer = make_tokenizer(MERGES, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True})
        self.encoded("the the", [258, 258], tokenizer)

    def generate(self, model, *more):
        run = subprocess.run([VCLLM, "run", model, *map(str, more)], capture_output=True, check=True)
        self.assertIn(b"tokens/s", run.stderr)
        return run.stdout

    def test_greedy(self):
        for name, more in ("all", {}), ("window", {"sliding_window": 7}):
            self.check_greedy(*self.text_model(name, **more))

    def check_greedy(self, config, weights, model):
        prompt, spelt = [258, ord("x")], b""
        vocab = {i: w for w, i in make_tokenizer(MERGES)["model"]["vocab"].items()}
        back = {letter: b for b, letter in alphabet().items()}
        for _ in range(25):
            prompt.append(int(logits(config, weights, np.array(prompt))[-1].argmax()))
            spelt += bytes(back[c] for c in vocab.get(prompt[-1], ""))
        self.assertEqual(self.generate(model, "-p", " thex", "--temperature", 0, "--tokens", 25), spelt + b"\n")

    def test_seeds(self):
        _, _, model = self.text_model()
        texts = [self.generate(model, "-p", "the", "--seed", s, "-j", j) for s, j in ((1, 1), (1, 3), (2, 1))]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_end_and_context(self):
        config, weights, _ = self.text_model("a")
        first = int(logits(config, weights, np.array([ord("x")]))[-1].argmax())
        _, _, model = self.text_model("b", eos_token_id=[1, first])
        self.assertEqual(self.generate(model, "-p", "x", "--temperature", 0), b"\n")
        run = run_vcllm("run", self.folder / "a", "-p", "x" * 50, "--tokens", 1000)
        self.assertIn("generated: 10 tokens", run.stderr)
        self.refuse(USAGE, "the prompt has 60 tokens; the model's context is 60", "run", model, "-p", "x" * 60)

    def test_missing_bytes(self):
        """A vocabulary without rare bytes: what has none is left out, its neighbours merge, and one note says so."""
        letters = alphabet()
        tokenizer = make_tokenizer(MERGES)
        for byte in (0xC0, 0xC3, *range(0xF1, 0x100)):
            del tokenizer["model"]["vocab"][letters[byte]]
        self.encoded("the t\u00e9h\U00050000e\u00e9",
                     [257, ord(" "), ord("t"), 0xA9, ord("h"), 0x90, 0x80, 0x80, ord("e"), 0xA9], tokenizer)
        del tokenizer["model"]["vocab"][letters[0xA9]]
        self.encoded("the t\u00e9h\u00e9e", [257, 258], tokenizer)
        _, _, model = self.text_model("m", tokenizer=tokenizer)
        question = {"context": "t\u00e9", "choices": [" a\u00e9", " b"], "answer": 1}
        for lost, args in ((0, ("run", model, "-p", "the", "--tokens", 1)),
                           (4, ("run", model, "-p", "t\u00e9h\u00e9e", "--tokens", 1)),
                           (4, ("eval", model, "--text", self.write("t.txt", "t\u00e9h\u00e9ex".encode()))),
                           (8, ("eval", model, "--choices", self.write("q.jsonl", json.dumps(question).encode())))):
            run = run_vcllm(*args)
            self.assertEqual(run.returncode, OK, run.stderr)
            note = f"m/tokenizer.json: has no token for {lost} bytes of the text: left out\n"
            self.assertEqual(run.stderr.count(note), bool(lost), run.stderr)
        self.refuse(USAGE, "the prompt is empty", "run", model, "-p", "\u00e9")

    def test_beyond_the_vocabulary(self):
        """An added token that the model does not have is named, and no hindrance to a text without it."""
        tokenizer = make_tokenizer(MERGES, ["<end>"])
        more = [{"id": i, "content": t, "special": True, "normalized": i % 2 == 0}
                for i, t in ((262, "<pad>"), (263, "<mask>"), (4000000000, "<x>"), (264, "<y>"))]
        tokenizer["added_tokens"] = more[:1] + tokenizer["added_tokens"] + more[1:]
        _, _, model = self.text_model("m", tokenizer=tokenizer)
        run = run_vcllm("run", model, "-p", "the pad <pa", "--tokens", 1)
        self.assertEqual(run.returncode, OK, run.stderr)
        self.assertIn("m/tokenizer.json: added tokens beyond the model's vocabulary of 262 are ignored: "
                      "<pad>, <mask>, <x>, ...\n", run.stderr)
        for token, number in (("<pad>", 262), ("<mask>", 263)):
            words = f"has the added token '{token}', number {number}, beyond the model's vocabulary of 262"
            self.refuse(FAILED, f"the prompt {words}", "run", model, "-p", f"the {token} x")
            self.refuse(FAILED, f"t.txt: {words}", "eval", model, "--text", self.write("t.txt", f"the{token}".encode()))

    def test_broken_tokenizers(self):
        good = make_tokenizer(MERGES, ["<end>"])
        cases = [("decoder", {"pre_tokenizer": None}), ("normalizer", {"normalizer": {"type": "Lowercase"}}),
                 ("pre_tokenizer.type", {"pre_tokenizer": {"type": "Whitespace"}}),
                 ("missing closing", {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}}),
                 ("model.type", {"model": {**good["model"], "type": "Unigram"}}),
                 ("model.vocab", {"model": {**good["model"], "vocab": None}}),
                 ("merges[0]", {"model": {**good["model"], "merges": ["q z"]}}),
                 ("merges[1] is there twice", {"model": {**good["model"], "merges": ["t h", "t h"]}}),
                 ("two tokens", {"model": {**good["model"], "vocab": {**good["model"]["vocab"], "zz": 65}}}),
                 ("below the model's vocabulary", {"model": {**good["model"], "vocab": {**good["model"]["vocab"], "zz": 999}}}),
                 ("added_tokens.id", {"added_tokens": [{"id": -1, "content": "x"}]}),
                 ("added_tokens.single_word", {"added_tokens": [{"id": 261, "content": "x", "single_word": True}]})]
        for number, (words, change) in enumerate(cases):
            with self.subTest(words=words):
                _, _, model = self.text_model(f"m{number}", tokenizer={**good, **change})
                self.refuse(FAILED, words, "run", model, "-p", "x")
        (model / "tokenizer.json").write_text('{"model": {}, "model": {}}')
        self.refuse(FAILED, "tokenizer.json: line 1", "run", model, "-p", "x")
        (model / "tokenizer.json").unlink()
        self.refuse(IO, "tokenizer.json", "run", model, "-p", "x")


# ---- multiple choice -------------------------------------------------------------------------------------------------

class Choices(ModelCase):
    """Faults it would catch: a choice scored from the wrong token on, one normalised by another length, a broken line let in."""

    def questions(self, count):
        """Of random letters; the context of some ends inside a token."""
        rng = np.random.default_rng(2)
        def word(n):
            return "".join(rng.choice(list("abthe x"), n))
        for _ in range(count):
            end, starts = ("", ["", " "]) if rng.random() < 0.5 else ("t", ["he", "h"])
            choices = [rng.choice(starts) + word(rng.integers(1, 9)) + "." for _ in range(rng.integers(2, 5))]
            yield {"context": "x" + word(rng.integers(1, 6)) + end, "choices": choices, "answer": int(rng.integers(len(choices)))}

    def encode(self, model, texts):
        run = subprocess.run([PROBE, "tokens", model, "262"], input=b"".join(t.encode() + b"\0" for t in texts),
                             capture_output=True, check=True)
        return [list(map(int, line.split())) for line in run.stdout.splitlines()]

    def choose(self, config, weights, model, question):
        """The choice by likelihood, and by likelihood a byte."""
        context, *texts = self.encode(model, [question["context"] + c for c in ["", *question["choices"]]])
        shared = min(len(os.path.commonprefix([context, t[:-1]])) for t in texts)
        found = []
        for tokens, choice in zip(texts, question["choices"]):
            logs = log_softmax(logits(config, weights, np.array(tokens[:-1])))
            found.append((sum(logs[i - 1, tokens[i]] for i in range(shared, len(tokens))), len(choice.lstrip(" ").encode())))
        return int(np.argmax([l for l, _ in found])), int(np.argmax([l / n for l, n in found]))

    def test_against_numpy(self):
        config, weights = self.sample(SHAPE, 60)
        other = {n: a + (0.3 * np.random.default_rng(3).normal(size=a.shape)).astype("f4") for n, a in weights.items()}
        models = [self.make(n, config, w, tokenizer=make_tokenizer(MERGES)) for n, w in (("m", weights), ("b", other))]
        questions = list(self.questions(60))
        self.assertGreater(sum(q["context"].endswith("t") for q in questions), 10)
        file = self.write("q.jsonl", "\n\n".join(map(json.dumps, questions)).encode())
        got = self.eval(models[0], "--choices", file, "--baseline", models[1])
        chosen = np.array([[self.choose(config, w, models[0], q) for q in questions] for w in (weights, other)])
        right = chosen == np.array([q["answer"] for q in questions])[None, :, None]
        self.assertEqual(got["questions"], 60)
        self.assertAlmostEqual(got["chance"], np.mean([1 / len(q["choices"]) for q in questions]))
        self.assertTrue((chosen[..., 0] != chosen[..., 1]).any() and (chosen[0] != chosen[1]).any())
        for k, kind in enumerate(("accuracy", "accuracy_normalised")):
            for what, values in (("", right[0, :, k]), ("_baseline", right[1, :, k]), ("_same", chosen[0, :, k] == chosen[1, :, k]),
                                 ("_difference", right[0, :, k].astype(int) - right[1, :, k])):
                self.assertAlmostEqual(got[kind + what]["mean"], np.mean(values), msg=kind + what)
                self.assertAlmostEqual(got[kind + what]["error"], np.std(values, ddof=1) / math.sqrt(60), msg=kind + what)

    def test_sample_model(self):
        run = self.succeed("eval", ROOT / "models/tiny-llama", "--choices", ROOT / "tests/questions.jsonl")
        self.assertRegex(run.stdout, r"^accuracy .* ± .* %\nby bytes .* ± .* %\n12 questions, 36.81 % by chance\n$")
        self.assertGreater(float(run.stdout.split()[1]), 60)

    def test_refused(self):
        config, weights = self.sample(SHAPE, 20)
        model = self.make("m", config, weights, tokenizer=make_tokenizer(MERGES))
        good = {"context": "x", "choices": [" a", " b"], "answer": 1}
        for words, line in [("column 2", "{x"), ("is no JSON object", "[1]"), ("field 'context' is missing", {"context": None}),
                            ("field 'choices' is missing", {"choices": None}), ("field 'choices' is no list of 2", {"choices": ["a"]}),
                            ("field 'choices' has one that is no text", {"choices": ["a", 1]}),
                            ("field 'choices' has one that is no text, or empty", {"choices": ["a", "  "]}),
                            ("field 'answer' is missing", {"answer": None}),
                            ("field 'answer' is no whole number from 0 to 1", {"answer": 2}),
                            ("field 'answer' is no whole number", {"answer": "1"}),
                            ("field 'context' has no token that all choices follow", {"context": ""}),
                            ("with choice 1 there are 22 tokens; the model's context is 20", {"choices": ["a", "b" * 21]})]:
            line = line if isinstance(line, str) else json.dumps({**good, **line})
            file = self.write("q.jsonl", f"{json.dumps(good)}\n{line}\n".encode())
            with self.subTest(words=words):
                self.refuse(FAILED, f"q.jsonl: line 2: {words}", "eval", model, "--choices", file)
        self.refuse(FAILED, "q.jsonl: has no questions", "eval", model, "--choices", self.write("q.jsonl", b"\n \n"))
        self.refuse(IO, "nowhere", "eval", model, "--choices", self.folder / "nowhere")
        other = self.make("o", *self.sample(SHAPES[0]))
        self.refuse(USAGE, "the baseline's vocabulary has 50 tokens, the model's 262", "eval", model, "--choices",
                    self.write("q.jsonl", json.dumps(good).encode()), "--baseline", other)


# ---- what is refused -------------------------------------------------------------------------------------------------

class Refused(ModelCase):
    def test_config(self):
        config, weights = self.sample()
        llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}
        cases = [("rope_scaling.type", {"type": "dynamic", "factor": 2.0}), ("rope_scaling.rope_type", {"rope_type": "yarn"}),
                 ("rope_scaling.factor", {"type": "linear"}), ("rope_scaling.factor", {"type": "linear", "factor": 0.5}),
                 ("rope_scaling.original_max_position_embeddings", llama3), ("rope_scaling", "linear"),
                 ("rope_scaling.high_freq_factor", {**llama3, "original_max_position_embeddings": 64}),
                 ("hidden_act", "gelu"), ("attention_bias", True),
                 ("mlp_bias", True), ("model_type", "t5"), ("sliding_window", 0), ("hidden_size", 0), ("hidden_size", "16"),
                 ("num_key_value_heads", 3), ("head_dim", 7), ("vocab_size", None), ("intermediate_size", 1 << 40),
                 ("rms_norm_eps", -1), ("tie_word_embeddings", 1), ("quantization_config", {"bits": 4}),
                 ("rope_parameters.rope_type", {"rope_type": "yarn"}), ("partial_rotary_factor", 0.5),
                 ("rope_parameters.partial_rotary_factor", {"partial_rotary_factor": 0.5}),
                 ("rope_parameters.full_attention", {"full_attention": {"rope_type": "default", "rope_theta": 5000.0}})]
        _, file = self.tokens(50, 100)
        for number, (name, value) in enumerate(cases):
            with self.subTest(name=name, value=value):
                model = self.make(f"m{number}", {**config, name.split(".")[0]: value}, weights)
                self.refuse(FAILED, f"field '{name}'", "eval", model, "--tokens", file)
        both = self.make("both", {**config, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {}}, weights)
        self.refuse(FAILED, "field 'rope_parameters' is there beside rope_scaling", "eval", both, "--tokens", file)

        mixed = {"sliding_window": 16, "layer_types": ["full_attention"]}
        self.refuse(FAILED, "field 'layer_types'", "eval", self.make("mixed", {**config, **mixed}, weights), "--tokens", file)

    def test_accepted(self):
        """What changes nothing."""
        config, weights = self.sample()
        _, file = self.tokens(50, 100)
        want = self.eval(self.make("plain", config, weights), "--tokens", file)["nll"]
        theta = config.pop("rope_theta")
        parameters = {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": 1.0}
        for number, more in enumerate(({"rope_theta": theta, "rope_scaling": {"rope_type": "default"}},
                                       {"rope_theta": theta, "partial_rotary_factor": 1, "hidden_act": "swish"},
                                       {"rope_theta": theta, "attention_bias": False, "mlp_bias": None, "rope_scaling": None,
                                        "quantization_config": None, "hidden_act": None, "num_key_value_heads": None},
                                       {"rope_parameters": parameters})):
            with self.subTest(more=more):
                model = self.make(str(number), {**config, **more}, weights)
                self.assertEqual(self.eval(model, "--tokens", file)["nll"], want)

    def test_tensors(self):
        config, weights = self.sample()
        _, file = self.tokens(50, 100)
        name = "model.layers.0.mlp.up_proj.weight"
        without = {n: a for n, a in weights.items() if n != name}
        self.refuse(FAILED, f"tensor '{name}' is missing", "eval", self.make("a", config, without), "--tokens", file)
        bent = self.make("b", config, {**weights, name: weights[name].T.copy()})
        self.refuse(FAILED, f"tensor '{name}' has the shape [16, 24], by config.json it should have [24, 16]", "eval", bent,
                    "--tokens", file)
        self.refuse(FAILED, "is I32", "eval", self.make("c", config, weights, "I32"), "--tokens", file)
        self.refuse(FAILED, "lm_head.weight", "eval",
                    self.make("d", config, {n: a for n, a in weights.items() if n != "lm_head.weight"}), "--tokens", file)

    def test_usage(self):
        config, weights = self.sample()
        model = self.make("m", config, weights)
        tokens, file = self.tokens(50, 100)
        for words, args in [("--context 41 is more than the model's 40", ["--tokens", file, "--context", 41]),
                            ("--stride 21", ["--tokens", file, "--context", 20, "--stride", 21]),
                            ("one of --text, --tokens and --choices", []), ("one of", ["--tokens", file, "--text", file]),
                            ("are of texts", ["--choices", file, "--stride", 2]),
                            ("ends in .u16 or .u32", ["--tokens", model / "config.json"]),
                            ("token 1 of the text is 50", ["--tokens", self.write("b.u32", struct.pack("<2I", 1, 50))]),
                            ("has 1 tokens", ["--tokens", self.write("c.u16", b"\1\0")])]:
            self.refuse(USAGE, words, "eval", model, *args)
        self.refuse(FAILED, "no whole number of tokens", "eval", model, "--tokens", self.write("d.u16", b"abc"))
        self.refuse(IO, "nowhere.u16", "eval", model, "--tokens", self.folder / "nowhere.u16")
        self.refuse(IO, "config.json", "eval", self.folder, "--tokens", file)
        self.refuse(USAGE, "is no folder", "eval", model / "model.safetensors", "--tokens", file)
        self.refuse(USAGE, "-p TEXT", "run", model)

    def test_text_not_utf8(self):
        config, weights = self.sample(SHAPE)
        model = self.make("m", config, weights, tokenizer=make_tokenizer())
        self.refuse(FAILED, "bad.txt: is not UTF-8 at byte 2", "eval", model, "--text", self.write("bad.txt", b"ab\xff"))

    def test_other_vocabulary(self):
        models = [self.make(str(i), *self.sample(SHAPES[i])) for i in (0, 1)]
        _, file = self.tokens(50, 100)
        self.refuse(USAGE, "the baseline's vocabulary has 300 tokens, the model's 50", "eval", models[0], "--tokens", file,
                    "--baseline", models[1])


class Real(ModelCase):
    """Published figures, from another implementation."""

    def check(self, model, file, windows, perplexity, digits):
        if not DATA.is_dir():
            self.skipTest("VCLLM_DATA is not set")
        got = self.eval(model, "--tokens", DATA / file, "--context", 512, "--windows", windows)
        self.assertEqual(round(got["perplexity"]["mean"], digits), perplexity)

    def test_tiny_llama(self):
        self.check(ROOT / "models/tiny-llama", "lm/tiny-llama/eval-books.u16", 20, 18.27, 2)

    def test_stories260k(self):
        self.check(DATA / "lm/stories260k", "lm/stories260k/eval-tinystories-val.u16", 60, 4.284, 3)


if __name__ == "__main__":
    unittest.main()
