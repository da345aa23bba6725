"""rowfloor.py - table (f): what a floor for each row of an embedding is worth (compress --row-floor).

The model made for it is the sample model whose embedding's rows are multiplied by exp(s N(0,1)) each, s = 1: row norms
then spread by a factor of about 10 either way, as those of cases from practice do.  An RMS norm follows the lookup in the
first layer, so that the first attention does not see the factor at all; what the residual carries along does change, so that the
model is a little worse than it was (the table says how much), but it still works, which is all that it is for.
No weight is trained.  Its limits: 1024 tokens of 256 values, factors that know nothing of the tokens' frequency.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

import numpy as np

import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "models" / "tiny-llama"
NAME = "model.embed_tokens.weight"
FLOORS, RATES, SPREAD, WINDOWS = (0, 6, 10, 15), (2, 2.9, 4), 1.0, 40
ALLOCATE = ("fixed",)
NOTE = """Perplexity of books (eval-books of docs/data.md, else of the short demo.txt), then the worst row's SNR in dB. All
tensors have these bits; * the floor is missed by more than half a dB, since the bits do not allow it."""


def to_bf16(values):
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype("<u2")


def spread_model(target, spread):
    """The sample model with its embedding's rows multiplied."""
    shutil.copytree(SAMPLE, target)
    path = target / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + struct.unpack_from("<Q", data)[0]
    entry = json.loads(data[8:start])[NAME]
    begin, end = (start + offset for offset in entry["data_offsets"])
    rows = (np.frombuffer(data[begin:end], "<u2").astype("<u4") << 16).view("<f4").reshape(entry["shape"])
    factors = np.exp(spread * np.random.default_rng(1).standard_normal((len(rows), 1)))
    data[begin:end] = to_bf16(rows * factors).tobytes()
    path.unlink()
    path.write_bytes(data)


def matrix(work):
    """A file of one embedding whose row norms spread as much: 2048 rows of 256 values."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((2048, 256)) * np.exp(rng.normal(0, 1, (2048, 1))) * 0.05).astype("<f4")
    text = json.dumps({NAME: {"dtype": "F32", "shape": rows.shape, "data_offsets": [0, rows.nbytes]}}).encode()
    path = work / "matrix.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + rows.tobytes())
    return path, rows


class Bench:
    def __init__(self, report, work):
        self.program, self.work, self.windows = os.path.join(report.build, "vcllm"), work, 1 if report.quick else WINDOWS
        data = os.environ.get("VCLLM_DATA")
        self.text = ("--tokens", pathlib.Path(data) / "lm/tiny-llama/eval-books.u16") if data and not report.quick \
            else ("--text", ROOT / "models" / "demo.txt")

    def vcllm(self, *args):
        return subprocess.run([self.program, *map(str, args)], capture_output=True, check=True).stdout

    def perplexity(self, model):
        return json.loads(self.vcllm("eval", model, *self.text, "--windows", self.windows, "--json", "-q"))["perplexity"]["mean"]

    def worst_row(self, model, coded):
        """Of the embedding, as compare finds it."""
        found = json.loads(self.vcllm("compare", model, coded, "--json", "-q"))
        return next(tensor["worst_row_snr"] for tensor in found["tensors"] if tensor["name"] == NAME)

    def point(self, model, rate, floor, how):
        coded = self.work / "coded"
        self.vcllm("compress", model, "-o", coded, "-f", "-q", "--bits", rate, "--allocate", how, "--row-floor", floor)
        return {"perplexity": self.perplexity(coded), "worst": self.worst_row(model, coded)}

    def model(self, model, rates, floors, ways):
        found = {f"{how} {floor}": {str(rate): self.point(model, rate, floor, how) for rate in rates}
                 for how in ways for floor in floors}
        return {"perplexity": self.perplexity(model), "points": found}

    def quantiles(self, rates, floors):
        path, rows = matrix(self.work)
        found = {}
        for rate in rates:
            for floor in floors:
                self.vcllm("compress", path, "-o", self.work / "m", "-f", "-q", "--bits", rate, "--row-floor", floor)
                self.vcllm("decompress", self.work / "m", "-o", self.work / "back", "-f", "-q")
                back = np.frombuffer((self.work / "back").read_bytes()[-rows.nbytes:], "<f4").reshape(rows.shape)
                error = ((rows - back) ** 2).sum(axis=1)
                snr = 10 * np.log10((rows ** 2).sum(axis=1) / error)
                found[f"{rate:g} {floor}"] = {
                    "snr": float(10 * np.log10((rows ** 2).sum() / error.sum())), "zero": int((back == 0).all(axis=1).sum()),
                    "rows": [float(np.quantile(snr, part)) for part in (0, .01, .1, .5, 1)]}
        return found


def floor_name(floor):
    return f"floor of {floor} dB" if floor else "no floor"


def cell(point, floor):
    missed = "*" if floor and point["worst"] < floor - 0.5 else ""
    return f"{point['perplexity']:.2f}, {point['worst']:.1f}{missed}"


def show_model(name, found, rates, floors, ways):
    rows = [[f"{how}, {floor_name(floor)}", *(cell(found["points"][f"{how} {floor}"][str(rate)], floor) for rate in rates)]
            for how in ways for floor in floors]
    tables.show(f"(f) {name}: perplexity {found['perplexity']:.2f}", ["", *map(tables.rate, rates)], rows, NOTE)


def show_matrix(found, rates, floors):
    rows = [[f"{tables.rate(rate)}, {floor_name(floor)}", f"{part['snr']:.1f}", str(part["zero"]),
             *(f"{snr:.1f}" for snr in part["rows"])]
            for rate in rates for floor in floors for part in [found[f"{rate:g} {floor}"]]]
    tables.show("(f) an embedding of 2048 x 256, rows N(0,1) times exp(N(0,1)): SNR in dB",
                ["", "whole", "zero rows", "worst row", "1 %", "10 %", "median", "best"], rows)


def run(report):
    rates, floors, ways = ((2.9,), (0, 10), ("fixed",)) if report.quick else (RATES, FLOORS, ALLOCATE)
    document = {}
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        bench, spread = Bench(report, work), work / "spread"
        spread_model(spread, SPREAD)
        for title, model in (("the sample model", SAMPLE), ("the sample model, rows spread", spread)):
            document[title] = bench.model(model, rates, floors, ways)
            show_model(title, document[title], rates, floors, ways)
        document["matrix"] = bench.quantiles(rates, floors)
        show_matrix(document["matrix"], rates, floors)
    report.keep("rowfloor", document)
