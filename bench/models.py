#!/usr/bin/python3
"""models.py - what compressed language models are worth: perplexity and KL divergence by bits and coder.

    bench/models.py [--build build] [--windows 40] [--rates 2,2.9] [--rows "tensor self,h265 self"] [--only llama]

Every matrix is coded, embeddings and head too; bits count every byte of the file, over all values.  Models and texts are
those of docs/data.md (VCLLM_DATA), else the sample model and a text too short for more than a look; or --model's, on
--text's.  RTN is rounding to
the nearest of 2^b levels between a row's, or 128 values' of a row, least and largest, which are kept in 16 bits each.
Rows that end in "rotated" let compress rotate each matrix, those in "merged" begin from what vcllm rotate makes of the
model; both are judged against the model as it is.  "0.3 bit more": than the column says.
"""
import argparse
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "models" / "tiny-llama"
RATES = (1.5, 2, 2.5, 2.9, 3.5, 4, 8)
# Name: options of compress, or the values that share a range (0: a row).
ROWS = {
    "tensor self": ["--allocate", "self"],
    "tensor depth": ["--allocate", "depth"],
    "tensor fixed": ["--allocate", "fixed"],
    "tensor fixed, mse": ["--allocate", "fixed", "--objective", "mse"],
    "tensor self, rotated": ["--allocate", "self", "--rotate"],
    "tensor fixed, rotated": ["--allocate", "fixed", "--rotate"],
    "tensor self, merged": ["--allocate", "self"],
    "tensor fixed, merged": ["--allocate", "fixed"],
    "h265 self": ["--codec", "h265", "--allocate", "self"],
    "h265 fixed": ["--codec", "h265", "--allocate", "fixed"],
    "h265 self, 0.3 bit more": ["--codec", "h265", "--allocate", "self"],
    "h265 fixed, 0.3 bit more": ["--codec", "h265", "--allocate", "fixed"],
    "h264 fixed": ["--codec", "h264", "--allocate", "fixed"],
    "RTN, rows": 0,
    "RTN, groups of 128": 128,
    "RTN, rows, merged": 0,
    "RTN, groups of 128, merged": 128,
}


def models(options):
    """(name, folder, [(text, option of eval, file)])"""
    if options.model:
        return [(options.model.name, options.model, [(text.stem, "--text", text) for text in options.text])]
    data = os.environ.get("VCLLM_DATA")
    if not data:
        return [("sample model", SAMPLE, [("demo.txt", "--text", ROOT / "models" / "demo.txt")])]
    folder = pathlib.Path(data) / "lm"
    return [(name, folder / name, [(text, "--tokens", folder / name / f"{text}.u16") for text in found])
            for name, found in (("tiny-llama", ("eval-books", "eval-wikitext2-test")),
                                ("stories260k", ("eval-tinystories-val",)))]


class Bench:
    """One model: every row and rate is coded once and judged on every text."""

    def __init__(self, options, name, model, texts, work):
        self.options, self.name, self.model, self.texts = options, name, model, texts
        self.work = pathlib.Path(work)

    def vcllm(self, *args):
        run = subprocess.run([os.path.join(self.options.build, "vcllm"), *map(str, args)], capture_output=True, text=True)
        return run.stdout if run.returncode == 0 else None if run.returncode == 5 else sys.exit(run.stderr)

    def judge(self, folder, bits):
        points = {}
        for text, option, file in self.texts:
            windows = ["--windows", self.options.windows] if self.options.windows else []
            context = ["--context", self.options.context] if self.options.context else []
            found = json.loads(self.vcllm("eval", folder, option, file, "--baseline", self.model, "--json", "-q", *windows,
                                          *context))
            points[text] = {"bits": bits, "kl": found["kl"]["mean"], "kl_99": found["kl_99"],
                            "top1": found["top1_agreement"]["mean"], "error": found["nll_difference"]["error"],
                            "difference": float(np.expm1(found["nll_difference"]["mean"]))}
        return points

    def merged(self):
        """The model rotated, made when first asked for."""
        out = self.work / "merged"
        if not out.exists():
            self.vcllm("rotate", self.model, "-o", out, "-q")
        return out

    def compress(self, model, settings, rate):
        """None where the coder has no such rate."""
        out = self.work / "coded"
        text = self.vcllm("compress", model, "-o", out, "-f", "--bits", rate, "--json", "-q", *settings)
        return text and self.judge(out, json.loads(text)["totals"]["file_bits"])

    def rounded(self, model, group, rate):
        """None for fractions of a bit."""
        if rate != int(rate):
            return None
        out = self.work / "rounded"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for name in os.listdir(model):
            if name.endswith(".json"):
                shutil.copy(model / name, out)
        return self.judge(out, round_model(model / "model.safetensors", out / "model.safetensors", group, int(rate)))

    def run(self):
        found = {}
        for name in self.options.rows:
            how, model = ROWS[name], self.merged() if name.endswith("merged") else self.model
            code = self.rounded if isinstance(how, int) else self.compress
            more = 0.3 if name.endswith("0.3 bit more") else 0
            found[name] = {rate: code(model, how, rate + more) for rate in self.options.rates}
            print(f"{self.name}: {name}", file=sys.stderr)
        return found


# ---- rounding to nearest ---------------------------------------------------------------------------------------------

def read_floats(raw, dtype):
    return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4") if dtype == "BF16" else \
        np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[dtype]).astype("<f4")


def round_rows(values, group, bits):
    """The values after rounding, and the bits they take."""
    width = group or values.shape[-1]
    rest = -values.shape[-1] % width
    groups = np.pad(values, ((0, 0), (0, rest)), mode="edge").reshape(-1, width)
    low, high = (f(groups, axis=1, keepdims=True).astype("f2").astype("f4") for f in (np.min, np.max))
    step = np.where(high > low, (high - low) / (2 ** bits - 1), 1)
    rounded = np.clip(np.rint((groups - low) / step), 0, 2 ** bits - 1) * step + low
    shape = values.shape[0], values.shape[-1] + rest
    return rounded.reshape(shape)[:, :values.shape[-1]], values.size * bits + 32 * len(groups)


def round_model(source, target, group, bits):
    """Matrices rounded and written in f32; the bits a value of all."""
    data = source.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, body, out, taken, count = json.loads(data[8:8 + length]), data[8 + length:], {}, 0, 0
    written = b""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        values = read_floats(body[slice(*entry["data_offsets"])], entry["dtype"]).reshape(entry["shape"])
        count += values.size
        if values.ndim == 2:
            values, size = round_rows(values, group, bits)
            taken += size
        else:
            taken += 16 * values.size
        raw = values.astype("<f4").tobytes()
        out[name] = {"dtype": "F32", "shape": entry["shape"], "data_offsets": [len(written), len(written) + len(raw)]}
        written += raw
    text = json.dumps(out).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + written)
    return taken / count


# ---- the report ------------------------------------------------------------------------------------------------------

def cell(point):
    return "-" if point is None else f"{100 * point['difference']:+.1f} ±{100 * point['error']:.1f} {point['kl']:.3f} @{point['bits']:.2f}"


def show(name, text, found, rates):
    rows = [[row, *(cell(points[rate] and points[rate][text]) for rate in rates)] for row, points in found.items()]
    tables.show(f"{name}, {text}: perplexity in % more than the uncompressed model's ± standard error, KL in nats, "
                "@ bits written", ["", *map(tables.rate, rates)], rows, "-: the coder has no such rate.")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--windows", type=int, default=40, help="of the text (default 40; 0: all)")
    parser.add_argument("--rates", default=",".join(f"{rate:g}" for rate in RATES))
    parser.add_argument("--rows", default=",".join(ROWS).replace(", ", "; "), help="some of the table's, by comma")
    parser.add_argument("--only", default="", help="models whose name has this")
    parser.add_argument("--model", type=pathlib.Path, help="a folder to judge instead of those")
    parser.add_argument("--text", type=pathlib.Path, action="append", default=[], help="what it is judged on; may be repeated")
    parser.add_argument("--context", type=int, help="tokens of a window (default: all that the model takes)")
    parser.add_argument("-o", "--output", help="write everything as JSON too")
    options = parser.parse_args()
    options.rates = [float(rate) for rate in options.rates.split(",")]
    options.rows = [name.replace(";", ",") for name in options.rows.split(",")]
    if bool(options.model) != bool(options.text):
        parser.error("--model and --text go together")
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"no row '{name}'; there are: {'; '.join(ROWS)}")
    return options


def main():
    options, document = parse(), {}
    for name, folder, found in models(options):
        if options.only in name:
            with tempfile.TemporaryDirectory() as work:
                document[name] = Bench(options, name, folder, found, work).run()
            for text, _, _ in found:
                show(name, text, document[name], options.rates)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)


if __name__ == "__main__":
    main()
