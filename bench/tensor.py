#!/usr/bin/python3
"""Two tables of docs/results.md: the tensor codec's speed by CPU level, and the bits it saves against H.265.

    PYTHONPATH=python VCLLM_LIBRARY=build/libvcllm.so bench/tensor.py [DATA]

DATA is the folder of docs/data.md; without it only the sample model's matrices are compared.  Needs numpy.
"""
import math
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import vcllm

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "tiny-llama", "model.safetensors")
MATRICES = [
    (None, "lm_head.weight"), (None, "model.layers.3.mlp.gate_proj.weight"),
    ("weights/gpt2-124m-attn.f16.safetensors", "transformer.h.6.attn.c_attn.weight"),
    ("weights/gpt2-124m-attn.f16.safetensors", "transformer.h.6.attn.c_proj.weight"),
    ("weights/gpt2-124m-attn.f16.safetensors", "transformer.wpe.weight"),
    ("encoder/use-lite.f32.safetensors", "module_apply_default/Encoder_en/KonaTransformer/Encode/TransformerStack/Layer_1/"
     "TransformerLayer/FFN/conv1/Tensordot/Reshape_1"),
    ("weights/pythia160m-layer-5.f16.safetensors", "gpt_neox.layers.5.attention.query_key_value.weight"),
    ("dumps/tiny-llama-grad.bf16.safetensors", "model.layers.3.mlp.gate_proj.weight.grad"),
    ("dumps/tiny-llama-grad.bf16.safetensors", "lm_head.weight.grad"),
]


def snr(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return 10 * math.log10((x * x).sum() / ((x - y) ** 2).sum())


def median_seconds(call, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_level(runs=9):
    """Whole calls on 2048 x 2048 bf16 values of N(0,1) at 2.9 bits, one thread, at the level VCLLM_CPU asks for."""
    x = np.random.default_rng(1).standard_normal((2048, 2048)).astype(np.float32)
    raw = (x.view(np.uint32) >> 16).astype(np.uint16)
    frame = vcllm.encode(raw, codec="tensor", bits=2.9, dtype="BF16")
    encode = median_seconds(lambda: vcllm.encode(raw, codec="tensor", bits=2.9, dtype="BF16"), 3)
    decode = median_seconds(lambda: vcllm.decode(frame, raw=True), runs)
    copy = median_seconds(lambda: raw.copy(), runs)
    print("%.0f encoded (search included), %.0f decoded Mvalue/s; memcpy %.1f GB/s"
          % (raw.size / encode / 1e6, raw.size / decode / 1e6, raw.nbytes / copy / 1e9))


def compare(data):
    print("%-44s %s" % ("bits saved against H.265 at equal SNR", "1 bit   2 bits   2.9 bits"))
    for file, name in MATRICES:
        path = MODEL if file is None else os.path.join(data, file) if data else None
        if path is None:
            continue
        with vcllm.open(path) as model:
            x = np.asarray(model[name], np.float32)
        row = []
        for bits in (1, 2, 2.9):
            frames = [vcllm.encode(x, codec=codec, bits=bits) for codec in ("tensor", "h265")]
            worth = [8 * len(f) / x.size - snr(x, vcllm.decode(f)) / 6.0206 for f in frames]
            row.append("%6.2f" % (worth[1] - worth[0]))
        print("%-44s %s" % (name[-44:], "   ".join(row)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--level":
        measure_level()
    else:
        for level in ("c", "avx2", "avx512"):
            print("%-7s" % level, end="", flush=True)
            subprocess.run([sys.executable, __file__, "--level"], env={**os.environ, "VCLLM_CPU": level}, check=True)
        compare(sys.argv[1] if len(sys.argv) > 1 else None)
