"""matrices.py - what the report measures on: two distributions that anybody can draw again, and real tensors.

VCLLM_DATA names the folder of docs/data.md; without it the real tensors are the sample model's.
"""
import dataclasses
import math
import os
import pathlib

import numpy as np

import vcllm

SAMPLE = pathlib.Path(__file__).resolve().parent.parent / "models" / "tiny-llama" / "model.safetensors"
DATA = pathlib.Path(os.environ["VCLLM_DATA"]) if os.environ.get("VCLLM_DATA") else None
FLOATS = ("F16", "BF16", "F32", "F64")
LEAST = 65536       # values: smaller tensors are all header

GPT2 = "weights/gpt2-124m-attn.f16.safetensors"
PYTHIA = "weights/pythia160m-layer-5.f16.safetensors"
USE = "encoder/use-lite.f32.safetensors"
RWKV = "rnn/rwkv-aiwriter-eng-partial.f16.safetensors"
LSTM = "rnn/charlstm-bronte/model.f32.safetensors"
OCR = "cnn/ppocrv4-rec.f32.safetensors"
GRADIENT = "dumps/tiny-llama-grad.bf16.safetensors"
CACHE = "dumps/tiny-llama-kv-act.bf16.safetensors"
USE_FFN = ("module_apply_default/Encoder_en/KonaTransformer/Encode/TransformerStack/Layer_1/TransformerLayer/"
           "FFN/conv1/Tensordot/Reshape_1")

# One or two of every kind: what it is called in tables, its file (None: the sample model), its tensor.
CHOSEN = [
    ("llama gate_proj (weight)", None, "model.layers.3.mlp.gate_proj.weight"),
    ("llama embed_tokens (embedding)", None, "model.embed_tokens.weight"),
    ("llama lm_head (head)", None, "lm_head.weight"),
    ("gpt2 c_attn (weight)", GPT2, "transformer.h.6.attn.c_attn.weight"),
    ("gpt2 c_proj (weight)", GPT2, "transformer.h.6.attn.c_proj.weight"),
    ("pythia qkv (weight)", PYTHIA, "gpt_neox.layers.5.attention.query_key_value.weight"),
    ("use-lite FFN (encoder)", USE, USE_FFN),
    ("rwkv key (linear attention)", RWKV, "blocks.1.att.key.weight"),
    ("char-lstm kernel (LSTM)", LSTM, "rnnlm/multi_rnn_cell/cell_1/basic_lstm_cell/kernel"),
    ("ppocr conv 480x240 (conv)", OCR, "const/conv2d_178.w_0"),
    ("llama gate_proj gradient", GRADIENT, "model.layers.3.mlp.gate_proj.weight.grad"),
    ("llama lm_head gradient", GRADIENT, "lm_head.weight.grad"),
    ("gpt2 wpe (position embedding)", GPT2, "transformer.wpe.weight"),
    ("llama layer 3 keys (KV)", CACHE, "kv.3.key"),
    ("llama layer 3 values (KV)", CACHE, "kv.3.value"),
    ("llama block input (activation)", CACHE, "act.3.block_input"),
]
# The same matrix of every layer: pictures of one sequence, to try prediction from layer to layer.
STACKS = [
    ("llama gate_proj, 6 layers", None, "model.layers.{}.mlp.gate_proj.weight", range(6)),
    ("gpt2 c_proj, 4 layers", GPT2, "transformer.h.{}.attn.c_proj.weight", (0, 3, 6, 11)),
    ("rwkv key, 3 layers", RWKV, "blocks.{}.att.key.weight", range(3)),
    ("llama gate_proj gradient, 6 layers", GRADIENT, "model.layers.{}.mlp.gate_proj.weight.grad", range(6)),
    ("llama keys, 6 layers", CACHE, "kv.{}.key", range(6)),
]


@dataclasses.dataclass
class Matrix:
    """A tensor as its file stores it.  kind: "drawn", "weight", "gradient", "smooth" or "activation"."""
    name: str
    kind: str
    raw: np.ndarray     # bf16 as uint16
    dtype: str          # safetensors' name

    @property
    def values(self):
        return as_float(self.raw, self.dtype)

    def cut(self, most):
        """Its first slices of the slowest dimension, `most` values at most (and one slice at least)."""
        keep = max(1, most // math.prod(self.raw.shape[1:]))
        return dataclasses.replace(self, raw=self.raw[:keep])


def as_float(raw, dtype):
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


def to_bf16(x):
    """Cut, not rounded: what is measured does not depend on the last bit."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def drawn(values):
    """N(0,1) and Laplace of unit variance, from a fixed seed."""
    shape, rng = (max(1, values // 1024), 1024), np.random.default_rng(1)
    normal, laplace = rng.standard_normal(shape), rng.laplace(0, math.sqrt(0.5), shape)
    return [Matrix("N(0,1)", "drawn", normal.astype(np.float32), "F32"),
            Matrix("Laplace", "drawn", laplace.astype(np.float32), "F32")]


def place(file):
    """Path of a file of CHOSEN or STACKS; None where there is no folder of real models."""
    return SAMPLE if file is None else DATA / file if DATA else None


def read(path, tensor, name=None):
    with vcllm.open(path) as model:
        raw, dtype = model.read(tensor, raw=True), model.info(tensor)["dtype"]
    return Matrix(name or tensor, kind_of(path, tensor), raw, dtype)


def kind_of(path, tensor):
    path = os.fspath(path)
    if "wpe" in tensor or "kv." in tensor:
        return "smooth"
    if "kv-act" in path:
        return "activation"
    return "gradient" if "grad" in path else "weight"


def chosen():
    return [read(place(file), tensor, name) for name, file, tensor in CHOSEN if place(file)]


def stacks():
    """(name, list of matrices of one shape)"""
    return [(name, [read(place(file), tensor.format(layer)) for layer in layers])
            for name, file, tensor, layers in STACKS if place(file)]


def every(most):
    """Every float tensor of rank 2 and more with LEAST values and more, cut to `most` values, one by one."""
    files = sorted(DATA.rglob("*.safetensors")) if DATA else [SAMPLE]
    for path in files:
        with vcllm.open(path) as model:
            infos = {name: model.info(name) for name in model}
        for name, info in infos.items():
            if info["dtype"] in FLOATS and len(info["shape"]) >= 2 and math.prod(info["shape"]) >= LEAST:
                yield read(path, name, f"{path.stem.split('.')[0]}: {name}").cut(most)
