#!/usr/bin/python3
"""runtime.py - speed and memory of `vcllm run` with weights in f32, in bf16, and coded.

    bench/runtime.py [--build build] [--runs 3] [--prompt 512] [--tokens 32] [-j 2] [--size small]

A LLaMA of about 300 M random weights from a seed, in a temporary folder (3 GB), says nothing but takes the time and the
memory of one that does.  Rounds go through all models in turn, so that what else runs meets them alike.  Two speeds: by
CPU time of one thread, medians, which what else runs hardly touches; and by the clock with all threads, the best
of the rounds, which it does.  Needs numpy.
"""
import argparse
import json
import os
import re
import resource
import statistics
import struct
import subprocess
import tempfile

import numpy as np

import tables

SIZES = {"large": {"layers": 18, "width": 1024, "heads": 16, "ffn": 2816, "vocab": 32000},
         "small": {"layers": 2, "width": 256, "heads": 4, "ffn": 512, "vocab": 1024}}
BITS = (2, 2.9, 4)
MIB = 1 << 20


# ---- the model -------------------------------------------------------------------------------------------------------

def shapes_of(size):
    """Name and shape of every tensor."""
    width, ffn, vocab = size["width"], size["ffn"], size["vocab"]
    yield "model.embed_tokens.weight", (vocab, width)
    for i in range(size["layers"]):
        for name, shape in [("input_layernorm", (width,)), ("post_attention_layernorm", (width,)),
                            *((f"self_attn.{m}_proj", (width, width)) for m in "qkvo"), ("mlp.gate_proj", (ffn, width)),
                            ("mlp.up_proj", (ffn, width)), ("mlp.down_proj", (width, ffn))]:
            yield f"model.layers.{i}.{name}.weight", shape
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (vocab, width)


def values_of(number, shape):
    """N(0, 1 / inputs) as bf16 bits; ones for norms."""
    if len(shape) == 1:
        return np.full(shape, 0x3F80, "<u2")
    drawn = np.random.default_rng(number).standard_normal(shape, "f4") / np.float32(np.sqrt(shape[1]))
    return ((drawn.view("u4") + 0x8000) >> 16).astype("<u2")


def config_of(size, positions):
    return {"model_type": "llama", "num_hidden_layers": size["layers"], "hidden_size": size["width"],
            "num_attention_heads": size["heads"], "num_key_value_heads": size["heads"],
            "intermediate_size": size["ffn"], "vocab_size": size["vocab"], "tie_word_embeddings": False,
            "max_position_embeddings": positions, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu"}


def tokenizer():
    """A token for each byte; those beyond spell nothing."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    vocab = {chr(b) if b in printable else chr(256 + others.index(b)): b for b in range(256)}
    return {"version": "1.0", "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": []}, "added_tokens": []}


def write_model(folder, size, dtype, positions):
    """The same values in either dtype."""
    os.mkdir(folder)
    header, offset = {}, 0
    for name, shape in shapes_of(size):
        end = offset + int(np.prod(shape)) * {"BF16": 2, "F32": 4}[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, (_, shape) in enumerate(shapes_of(size)):
            bits = values_of(number, shape)
            file.write(bits.tobytes() if dtype == "BF16" else (bits.astype("<u4") << 16).tobytes())
    for name, content in (("config", config_of(size, positions)), ("tokenizer", tokenizer())):
        with open(f"{folder}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(content, file)


def make_models(options, size, folder):
    """{name: folder}, the coded ones from bf16."""
    models, vcllm = {}, os.path.join(options.build, "vcllm")
    for name, dtype in (("f32", "F32"), ("bf16", "BF16")):
        models[name] = f"{folder}/{name}"
        write_model(models[name], size, dtype, options.prompt + options.tokens)
    for bits in BITS:
        models[tables.rate(bits)] = f"{folder}/{bits}"
        subprocess.run([vcllm, "compress", "--allocate", "fixed", "-q", models["bf16"], "-o", f"{folder}/{bits}", "--bits", str(bits)],
                       check=True, stdout=subprocess.DEVNULL)
    return models


# ---- measuring -------------------------------------------------------------------------------------------------------

SAID = re.compile(r"prompt: (\d+) tokens, ([\d.]+) tokens/s; generated: (\d+) tokens, ([\d.]+) tokens/s; "
                  r"weights ([\d.]+ \w+), .* peak memory ([\d.]+ \w+)")


def mib(words):
    number, unit = words.split()
    return float(number) * {"bytes": 1 / MIB, "KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(options, folder, prompt, tokens, jobs):
    """What a run says on standard error, and the CPU time it took."""
    command = [os.path.join(options.build, "vcllm"), "run", folder, "-p", "x" * prompt, "--temperature", "0",
               "--tokens", str(tokens), "-j", str(jobs)]
    start = cpu_seconds()
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stderr
    read, read_rate, made, made_rate, weights, peak = SAID.search(said).groups()
    assert (int(read), int(made)) == (prompt, tokens), said
    return {"cpu": cpu_seconds() - start, "read": float(read_rate), "made": float(made_rate), "weights": mib(weights),
            "peak": mib(peak)}


def measure(options, folder):
    """Tokens a second of one thread's CPU time, what is not reading and making tokens taken off; and of the clock."""
    prompt, tokens = options.prompt, options.tokens
    first = run(options, folder, 1, 1, 1)["cpu"]
    made = run(options, folder, 1, tokens + 1, 1)["cpu"] - first
    read = run(options, folder, prompt, 1, 1)["cpu"] - (first - made / tokens)
    least = 1e-4    # a small model's tokens are lost in what starting varies by
    return {**run(options, folder, prompt, tokens, options.jobs), "cpu_read": prompt / max(read, least),
            "cpu_made": tokens / max(made, least)}


def promised(options, bits):
    """Gvalue/s of one thread at the highest level of CPU, from bench_product: whole decoding, and one vector."""
    size = ["256", "256"] if options.size == "small" else ["1024", "1024"]
    said = subprocess.run([os.path.join(options.build, "bench_product"), *size, str(bits)], capture_output=True,
                          text=True, check=True).stdout
    return (float(re.search(r"decoding ([\d.]+) Gvalue/s", said)[1]),
            float(re.search(r"X W'\s+n = 1\s+([\d.]+) Gvalue/s", said)[1]))


def bound(options, size, folder):
    """MiB that the peak may be: a tenth above file, keys and values, 32 MiB, and two stripes of 32 rows a thread."""
    positions = options.prompt + options.tokens
    kv = 2 * 4 * size["layers"] * size["width"] * positions
    stripes = 2 * options.jobs * 32 * max(size["width"], size["ffn"]) * 4
    return 1.1 * (os.path.getsize(f"{folder}/model.safetensors") + kv + 32 * MIB + stripes) / MIB


def results(options, size, models):
    """A row for each model."""
    seen, rows = {name: [] for name in models}, []
    for _ in range(options.runs):
        for name, folder in models.items():
            seen[name].append(measure(options, folder))
    for name, folder in models.items():
        row = {key: statistics.median(one[key] for one in seen[name]) for key in seen[name][0]}
        row.update({key: max(one[key] for one in seen[name]) for key in ("read", "made", "peak")})
        row.update(name=name, file=os.path.getsize(f"{folder}/model.safetensors") / MIB)
        if name not in ("f32", "bf16"):
            row["bound"] = bound(options, size, folder)
        rows.append(row)
    return rows


# ---- the tables ------------------------------------------------------------------------------------------------------

def show_speed(options, size, rows, promises):
    """A token takes every matrix once but the embedding."""
    read = sum(int(np.prod(shape)) for name, shape in shapes_of(size) if len(shape) == 2 and "embed" not in name)
    values = sum(int(np.prod(shape)) for _, shape in shapes_of(size))
    bf16 = next(row for row in rows if row["name"] == "bf16")
    text = []
    for row in rows:
        decoding, product = promises.get(row["name"], (None, None))
        rates = [(tables.figure(row[key], digits), f"{bf16[key] / row[key]:.2f}x")
                 for key, digits in (("cpu_read", 1), ("cpu_made", 2), ("read", 1), ("made", 2))]
        text.append([row["name"], *rates[0], *rates[1], tables.figure(row["cpu_made"] * read / 1e9, 2),
                     tables.figure(product, 2), tables.figure(decoding, 2), *rates[2], *rates[3]])
    tables.show(f"vcllm run, {values / 1e6:.0f} M weights, {options.prompt} tokens read in batches, {options.tokens} made one "
                "by one",
                ["weights", "read/s", "bf16", "made/s", "bf16", "Gvalue/s", "product", "decoding",
                 f"{options.jobs} threads: read/s", "bf16", "made/s", "bf16"], text,
                "Tokens a second of one thread's CPU time, medians; then of the clock, the best round. bf16: how many times as "
                "fast bf16 is (aims: 1.3 read, 4 made). Gvalue/s: weights read for the tokens made; product, decoding: what "
                "bench_product finds for one vector, and for decoding to memory.")


def show_memory(rows):
    text = [[row["name"], *(tables.figure(row.get(key), 0) for key in ("file", "weights", "peak", "bound"))] for row in rows]
    tables.show("Memory of vcllm run, MiB", ["weights", "file", "weights", "peak", "bound"], text,
                "bound: 1.1 times file, keys and values, 32 MiB, and two stripes of 32 rows a thread.")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="where vcllm and bench_product are")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512, help="tokens to read")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to make")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="threads")
    parser.add_argument("--size", choices=SIZES, default="large", help="small: tests this program")
    parser.add_argument("--folder", help="where to make the models (default: a temporary folder)")
    parser.add_argument("-o", "--output", help="write the figures as JSON too")
    return parser.parse_args()


def main():
    options = parse()
    size = SIZES[options.size]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = results(options, size, make_models(options, size, folder))
    promises = {tables.rate(bits): promised(options, bits) for bits in BITS}
    show_speed(options, size, rows, promises)
    show_memory(rows)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({"rows": rows, "promised": promises}, file, indent=1)


if __name__ == "__main__":
    main()
