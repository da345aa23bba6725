#!/usr/bin/python3
"""imatrix.py - what an importance matrix is worth to the sample model: of text it was trained on, judged on held-out books.

    VCLLM_DATA=DIR bench/imatrix.py [--build build] [--windows 40] [--rates 2,2.9] [--pieces 60]

The mean squares are those of the tests' forward pass in numpy, over so many pieces of books-train of 512 tokens; a minute.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import models
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from test_imatrix import LAYERS, watch, write_gguf  # noqa: E402
from test_run import logits  # noqa: E402

CONTEXT, BYTES = 512, 4000      # of a piece: tokens, and bytes that surely hold as many


def cut(text, pieces, probe):
    """Tokens of pieces spread over the text, each from a line's beginning."""
    starts = [text.index(b"\n", i * (len(text) - 2 * BYTES) // pieces) + 1 for i in range(pieces)]
    parts = [text[start:start + BYTES].decode(errors="ignore") for start in starts]
    run = subprocess.run([probe, "tokens", models.SAMPLE, "1024"], input="\0".join([*parts, ""]).encode(), capture_output=True, check=True)
    return [np.array(line.split(), "i4")[:CONTEXT] for line in run.stdout.decode().splitlines()]


def load(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            yield name, models.read_floats(data[8 + length:][slice(*entry["data_offsets"])], entry["dtype"]).reshape(entry["shape"])


def measure(pieces):
    """Sums of squares by llama.cpp's names, and of how many tokens."""
    sums, config = {}, json.loads((models.SAMPLE / "config.json").read_text())
    weights = watch(dict(load(models.SAMPLE / "model.safetensors")), sums)
    for tokens in pieces:
        logits(config, weights, tokens)
    prefix, _, names = LAYERS["llama"]
    found = {f"blk.{i}.{other}.weight": sums[f"{prefix.format(i)}{name}.weight"]
             for i in range(config["num_hidden_layers"]) for name, other in names.items()}
    return {**found, "output.weight": sums["lm_head.weight"]}, sum(map(len, pieces))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--rates", default="2,2.9")
    parser.add_argument("--pieces", type=int, default=60)
    options = parser.parse_args()
    data, rates = pathlib.Path(os.environ["VCLLM_DATA"]), [float(rate) for rate in options.rates.split(",")]
    with tempfile.TemporaryDirectory() as work:
        file = pathlib.Path(work) / "imatrix.gguf"
        text = (data / "text" / "books-train.txt").read_bytes()
        file.write_bytes(write_gguf(*measure(cut(text, options.pieces, os.path.join(options.build, "probe")))))
        bench = models.Bench(options, "tiny-llama", models.SAMPLE, [("eval-books", "--tokens", data / "lm/tiny-llama/eval-books.u16")], work)
        found = {}
        for how in ("fixed", "depth", "self"):
            for name, more in ((how, []), (f"{how}, imatrix", ["--imatrix", file])):
                found[name] = {rate: bench.compress(models.SAMPLE, ["--allocate", how, *more], rate) for rate in rates}
    models.show("tiny-llama", "eval-books", found, rates)


if __name__ == "__main__":
    main()
