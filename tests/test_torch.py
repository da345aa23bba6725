#!/usr/bin/python3
"""test_torch.py - logits and gradients of the runtime against PyTorch's, of every family, in f64.

Faults it would catch: whatever the reference of test_run.py gets wrong in the same way; a gradient of one token, key or
value that is wrong though the sum over all is right.  GPT-2's layers are PyTorch's own
(TransformerEncoderLayer); LLaMA and GPT-NeoX are written here in its functions.  Skipped where PyTorch is missing
(Debian: python3-torch).
"""
import json
import os
import subprocess
import unittest

import numpy as np

from driver import ROOT
from test_backward import NO_LABEL, Gradients, backward
from test_run import DATA, LLAMA3, SHAPES, ModelCase, make_config, make_gpt2, make_neox, make_weights

PROBE = os.environ.get("VCLLM_PROBE", str(ROOT / "build" / "probe"))

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None


def half_turned(x):
    left, right = x.chunk(2, dim=-1)
    return torch.cat((-right, left), dim=-1)


def rotated(x, theta, scaling=None):
    """(heads, positions, dim), all dimensions turned."""
    rates = 1 / theta ** (torch.arange(0, x.shape[2], 2, dtype=torch.float64) / x.shape[2])
    if scaling and scaling.get("type") == "linear":
        rates = rates / scaling["factor"]
    elif scaling:
        turns = scaling["original_max_position_embeddings"] * rates / (2 * torch.pi)
        share = (turns - scaling["low_freq_factor"]) / (scaling["high_freq_factor"] - scaling["low_freq_factor"])
        rates = torch.lerp(rates / scaling["factor"], rates, share.clamp(0, 1))
    angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float64), rates).repeat(1, 2)
    return x * angles.cos() + half_turned(x) * angles.sin()


def attention(q, k, v):
    """(heads, positions, dim) each, with as many heads."""
    mask = torch.full((q.shape[1], q.shape[1]), -torch.inf, dtype=q.dtype).triu(1)
    shares = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=q.shape[2] ** -0.5), dim=2)
    return torch.bmm(shares, v).transpose(0, 1).flatten(1)


def heads(x, count):
    return x.unflatten(1, (count, -1)).transpose(0, 1)


def llama(c, w, tokens):
    def norm(x, name):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + c["rms_norm_eps"]) * w[name + ".weight"]
    group = c["num_attention_heads"] // c["num_key_value_heads"]
    x = functional.embedding(tokens, w["model.embed_tokens.weight"])
    for i in range(c["num_hidden_layers"]):
        def linear(x, name):
            return functional.linear(x, w[f"model.layers.{i}.{name}.weight"])
        h = norm(x, f"model.layers.{i}.input_layernorm")
        q = heads(linear(h, "self_attn.q_proj"), c["num_attention_heads"])
        k, v = (heads(linear(h, f"self_attn.{n}_proj"), c["num_key_value_heads"]) for n in "kv")
        q, k = (rotated(y, c["rope_theta"], c.get("rope_scaling")) for y in (q, k))
        x = x + linear(attention(q, k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)), "self_attn.o_proj")
        h = norm(x, f"model.layers.{i}.post_attention_layernorm")
        x = x + linear(functional.silu(linear(h, "mlp.gate_proj")) * linear(h, "mlp.up_proj"), "mlp.down_proj")
    return functional.linear(norm(x, "model.norm"), w.get("lm_head.weight", w["model.embed_tokens.weight"]))


def gpt2(c, w, tokens):
    width = c["n_embd"]
    w = {name.removeprefix("transformer."): tensor for name, tensor in w.items()}
    x = (functional.embedding(tokens, w["wte.weight"]) + w["wpe.weight"][:len(tokens)])[None]
    mask = torch.full((len(tokens), len(tokens)), -torch.inf, dtype=x.dtype).triu(1)
    for i in range(c["n_layer"]):
        layer = torch.nn.TransformerEncoderLayer(
            width, c["n_head"], c.get("n_inner") or 4 * width, dropout=0.0, batch_first=True, norm_first=True,
            activation=lambda x: functional.gelu(x, approximate="tanh")).double()
        ours = {"self_attn.in_proj_": "attn.c_attn.", "self_attn.out_proj.": "attn.c_proj.", "linear1.": "mlp.c_fc.",
                "linear2.": "mlp.c_proj.", "norm1.": "ln_1.", "norm2.": "ln_2."}
        layer.load_state_dict({theirs + part: w[f"h.{i}.{name}{part}"].t() for theirs, name in ours.items()
                               for part in ("weight", "bias")})
        x = layer(x, src_mask=mask)
    return functional.linear(functional.layer_norm(x[0], (width,), w["ln_f.weight"], w["ln_f.bias"]), w["wte.weight"])


def neox(c, w, tokens):
    count, width = c["num_attention_heads"], c["hidden_size"]
    turned = int(width // count * c["rotary_pct"])
    w = {name.removeprefix("gpt_neox."): tensor for name, tensor in w.items()}
    def part(x):
        return torch.cat((rotated(x[..., :turned], c["rotary_emb_base"]), x[..., turned:]), dim=2)
    def norm(x, name):
        return functional.layer_norm(x, (width,), w[name + ".weight"], w[name + ".bias"])
    x = functional.embedding(tokens, w["embed_in.weight"])
    for i in range(c["num_hidden_layers"]):
        def linear(x, name):
            return functional.linear(x, w[f"layers.{i}.{name}.weight"], w[f"layers.{i}.{name}.bias"])
        q, k, v = heads(linear(norm(x, f"layers.{i}.input_layernorm"), "attention.query_key_value"), count).chunk(3, dim=2)
        added = linear(attention(part(q), part(k), v), "attention.dense")
        h = norm(x if c.get("use_parallel_residual", True) else x + added, f"layers.{i}.post_attention_layernorm")
        x = x + added + linear(functional.gelu(linear(h, "mlp.dense_h_to_4h")), "mlp.dense_4h_to_h")
    return functional.linear(norm(x, "final_layer_norm"), w["embed_out.weight"])


def load(path):
    """f64 tensors of a safetensors file in F32 or BF16."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            raw = data[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]]
            bits = np.frombuffer(raw, "<u4") if entry["dtype"] == "F32" else np.frombuffer(raw, "<u2").astype("<u4") << 16
            tensors[name] = torch.from_numpy(bits.view("<f4").astype("f8").reshape(entry["shape"]))
    return tensors


@unittest.skipUnless(torch, "PyTorch is not installed")
class Logits(ModelCase):
    def check(self, folder, reference, tokens):
        """Within 1e-5 of the largest logit, which f32 sums of this length allow."""
        config = json.loads((folder / "config.json").read_text())
        run = subprocess.run([PROBE, "logits", folder], input=tokens.astype("<u4").tobytes(), capture_output=True)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        got = np.frombuffer(run.stdout, "<f4").reshape(len(tokens), -1)
        inputs = torch.from_numpy(tokens.astype("i8"))
        want = reference(config, load(folder / "model.safetensors"), torch.from_numpy(tokens.astype("i8"))).detach().numpy()
        off, most = np.abs(got - want).max(), np.abs(want).max()
        print(f"{folder.name}: largest difference {off:.2e} of logits up to {most:.1f}", flush=True)
        self.assertLess(off, 1e-5 * most)

    def random(self, vocab, count=100):
        return np.random.default_rng(9).integers(0, vocab, count)

    def test_llama(self):
        for number, shape in enumerate(SHAPES):
            scaling = (None, LLAMA3, {"type": "linear", "factor": 3.0})[number % 3]
            config = make_config(shape, 300, **{"rope_scaling": scaling} if scaling else {})
            self.check(self.make(str(number), config, make_weights(config, number)), llama, self.random(shape[6], 290))

    def test_gpt2(self):
        rng = np.random.default_rng(5)
        for name, more in (("a", {}), ("b", {"prefix": "", "width": 40, "heads": 5, "n_inner": 33, "layers": 3})):
            self.check(self.make(name, *make_gpt2(rng, context=100, **more)), gpt2, self.random(70))

    def test_neox(self):
        rng = np.random.default_rng(6)
        for name, more in (("a", {}), ("b", {"width": 64, "heads": 2, "ffn": 50, "use_parallel_residual": False})):
            self.check(self.make(name, *make_neox(rng, context=100, **more)), neox, self.random(70))

    def test_sample_model(self):
        tokens = self.random(1024, 512)
        if DATA.is_dir():
            tokens = np.fromfile(DATA / "lm/tiny-llama/eval-books.u16", "<u2")[:512]
        self.check(ROOT / "models/tiny-llama", llama, tokens)

    def test_stories260k(self):
        if not DATA.is_dir():
            self.skipTest("VCLLM_DATA is not set")
        self.check(DATA / "lm/stories260k", llama, np.fromfile(DATA / "lm/stories260k/eval-tinystories-val.u16", "<u2")[:512])


class Products:
    """In its context functional.linear keeps, of every call, its input and what the loss' gradient at its output will be in."""

    def __enter__(self):
        self.plain, self.calls = functional.linear, []
        functional.linear = self.linear
        return self.calls

    def __exit__(self, *_):
        functional.linear = self.plain

    def linear(self, x, weight, bias=None):
        y = self.plain(x, weight, bias)
        off = torch.zeros_like(y, requires_grad=True)
        self.calls.append((x.detach(), off))
        return y + off


@unittest.skipUnless(torch, "PyTorch is not installed")
class Backward(ModelCase):
    def error(self, got, want):
        return np.abs(got - want).max() / np.abs(want).max()

    def check(self, folder, reference, count=70):
        """Every gradient within 1e-4 of the largest of its matrix, and of a layer's keys or values."""
        config = json.loads((folder / "config.json").read_text())
        tokens, labels = np.random.default_rng(9).integers(0, config["vocab_size"], (2, count))
        labels[5] = NO_LABEL
        with Products() as calls:
            logits = reference(config, load(folder / "model.safetensors"), torch.from_numpy(tokens))
        given = np.flatnonzero(labels != NO_LABEL)
        functional.cross_entropy(logits[given], torch.from_numpy(labels[given]), reduction="sum").backward()
        calls = [(x.reshape(count, -1).numpy(), off.grad.reshape(count, -1).numpy()) for x, off in calls]
        layers = self.layers(calls, 7 if reference is llama else 4)
        got, products = Gradients(backward(folder, tokens, labels)), {}
        for tensor, _, x, g in got.products:
            if x is not None:  # the head comes in parts
                products[tensor] = [np.concatenate(pair) for pair in zip(products[tensor], (x, g))] \
                    if tensor in products else [x, g]
        self.assertEqual(len(products), len(calls))
        order = [calls[-1]] + [call for layer in reversed(layers) for call in self.backwards(layer)]
        x, g = (max(self.error(ours[n], theirs[n]) for ours, theirs in zip(products.values(), order)) for n in (0, 1))
        cached = max(self.error(gradient, want) for layer, of in got.key_values.items()
                     for gradient, want in zip(of[2:], self.cached(config, layers[layer], of[0].shape)))
        print(f"{folder.name}: {len(products)} products, inputs off by {x:.1e}, gradients {g:.1e}, keys and values {cached:.1e}",
              flush=True)
        self.assertLess(max(x, g, cached), 1e-4)

    @staticmethod
    def layers(calls, each):
        """q, k, v, o, gate, up, down of LLaMA; else fused, o, up, down."""
        return [calls[i:i + each] for i in range(0, len(calls) - 1, each)]

    @staticmethod
    def backwards(layer):
        """In the order of the backward pass, which has readers of one norm as they are multiplied: up before gate."""
        if len(layer) == 4:
            return layer[::-1]
        q, k, v, o, gate, up, down = layer
        return [down, up, gate, o, q, k, v]

    @staticmethod
    def cached(config, layer, shape):
        """Gradients of keys and values, as the products had them."""
        if len(layer) == 7:
            return [g.reshape(shape) for _, g in layer[1:3]]
        by_head = config["model_type"] == "gpt_neox"
        fused = layer[0][1].reshape(shape[0], shape[1], 3, -1) if by_head else \
            layer[0][1].reshape(shape[0], 3, shape[1], -1).swapaxes(1, 2)
        return [fused[:, :, part] for part in (1, 2)]

    def test_llama(self):
        for number, shape in enumerate(SHAPES):
            config = make_config(shape, 100)
            self.check(self.make(f"llama{number}", config, make_weights(config, number)), llama)
        config = make_config((2, 64, 6, 2, 16, 96, 80, True), 100, rope_scaling=LLAMA3)
        self.check(self.make("scaled", config, make_weights(config, 9)), llama)

    def test_gpt2(self):
        self.check(self.make("gpt2", *make_gpt2(np.random.default_rng(5), context=100)), gpt2)

    def test_neox(self):
        rng = np.random.default_rng(6)
        self.check(self.make("neox", *make_neox(rng, context=100)), neox)
        more = {"width": 64, "heads": 2, "ffn": 50, "use_parallel_residual": False}
        self.check(self.make("in turn", *make_neox(rng, context=100, **more)), neox)

    def test_sample_model(self):
        self.check(ROOT / "models/tiny-llama", llama, 200)


if __name__ == "__main__":
    unittest.main()
