"""vcllm - compressed model files and tensor frames, from Python.

    with vcllm.open("small.safetensors") as model:      # compressed or plain, a file or a folder of shards
        for name in model:
            print(name, model.info(name))
        weight = model["model.layers.0.mlp.up_proj.weight"]     # a numpy array; bf16 as float32
        some = model.rows("model.embed_tokens.weight", 100, 200)

    frame = vcllm.encode(array, bits=2.9)
    again = vcllm.decode(frame)

    totals = vcllm.compress("model", "small", bits=2.9)         # whole models: a file, or a folder of shards
    vcllm.verify("small")
    vcllm.decompress("small", "back")
    vcllm.eval("small", text, baseline="model").kl              # what was lost, as it predicts a text

numpy is used where it can be imported; without it, tensors come as vcllm.Tensor, a memoryview with dtype and shape.
The work is done by libvcllm, outside the interpreter's lock.

What fails raises vcllm.Error; an argument of a wrong type TypeError, one of a wrong value vcllm.ArgumentError, which is
an Error and a ValueError.
"""
from .errors import ArgumentError, Error
from .frames import decode, encode
from .pack import Compressed, Decompressed, Evaluation, Verified, compress, decompress, eval, verify
from .reader import Model, open
from .values import Tensor

__all__ = ["ArgumentError", "Compressed", "Decompressed", "Error", "Evaluation", "Model", "Tensor", "Verified",
           "compress", "decode", "decompress", "encode", "eval", "open", "verify"]
