"""floors.py - the figures the codec has to reach: what this run measured beside its floor and its aim."""
import itertools
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile

import numpy as np

import matrices
import tables
import vcllm
import video_peers
from curves import SNR, least_bits, prepare
from ours import levels, point

MOST = 1 << 20          # values: longer tensors are cut, x265 is slow
RATES = (1, 2, 2.9)
GAP_RATES = (1, 2, 2.9, 4)
MEDIANS, MINIMA = (0.2, 0.3, 0.4), (0.10, 0.20, 0.25)       # bits saved against x265 at RATES


class Line:
    """One figure: at least (or, where `most`, at most) its floor, better its aim.  measured: None if not."""

    def __init__(self, what, measured, floor, aim=None, digits=3, most=False, note=""):
        self.what, self.measured, self.floor, self.aim = what, measured, floor, aim
        self.digits, self.most, self.note = digits, most, note

    def reaches(self, bound):
        return self.measured <= bound if self.most else self.measured >= bound

    def verdict(self):
        if self.measured is None:
            return "not measured"
        if not self.reaches(self.floor):
            return "MISS"
        return "aim" if self.aim is not None and self.reaches(self.aim) else "pass"

    def row(self):
        sign = "<=" if self.most else ">="
        bounds = ["-" if bound is None else f"{sign} {bound:.4g}" for bound in (self.floor, self.aim)]
        return [self.what, tables.figure(self.measured, self.digits), *bounds, self.verdict(),
                tables.short(self.note)]

    def json(self):
        return {"what": self.what, "measured": self.measured, "digits": self.digits, "floor": self.floor, "aim": self.aim,
                "at_most": self.most, "verdict": self.verdict(), "note": self.note}


# ---- gap ---------------------------------------------------------------------------------------------------

def gap_lines(report):
    normal, lines = report.drawn()[0], []
    for effort, floor, aim in ((report.efforts[0], 0.090, 0.075), (report.efforts[-1], 0.045, 0.035)):
        settings = {"effort": effort, "objective": "mse"}
        found = report.each(lambda rate, s=settings: point(normal, bits=rate, **s), GAP_RATES)
        words = f"gap on N(0,1), effort {effort}, "
        lines += [Line(words + tables.rate(rate), p["gap"], floor, aim, 4, most=True)
                  for rate, p in zip(GAP_RATES, found)]
    return lines


# ---- against x265 on every tensor --------------------------------------------------------------------------

def compare(report, matrix):
    """By effort and rate: what our codec writes, and the bits x265 medium takes beyond it at the same SNR."""
    result = {"data": matrix.name, "kind": matrix.kind, "values": matrix.raw.size, "points": [], "failed": []}
    own = {}
    for effort, rate in itertools.product(report.efforts, RATES):
        try:
            own[effort, rate] = point(matrix, bits=rate, effort=effort, objective="mse")
        except vcllm.Error as error:    # the report goes on, and says so at its end
            result["failed"].append(f"effort {effort}, {tables.rate(rate)}: {error}")
    if report.video:
        curves = video_peers.curves(report.cache, video_peers.X265, matrix.values)
        prepare(curves, SNR, [found["snr"] for found in own.values()])
    for (effort, rate), found in own.items():
        x265, more = least_bits(curves, found["snr"]) if report.video else (None, False)
        result["points"].append({"effort": effort, "rate": rate, **found, "x265_bits": x265,
                                 "x265_needs_more": more, "saved": x265 and x265 - found["bits"]})
    return result


def saved(tensors, kinds, effort, rate):
    """(bits saved, tensor), least first."""
    return sorted((p["saved"], t["data"]) for t in tensors if t["kind"] in kinds for p in t["points"]
                  if (p["effort"], p["rate"]) == (effort, rate) and p["saved"] is not None)


def saved_lines(report, tensors):
    default, highest = report.efforts[0], report.efforts[-1]
    lines, words = [], "bits saved against x265, effort"
    for rate, median, least in zip(RATES, MEDIANS, MINIMA):
        at = tables.rate(rate)
        usual = saved(tensors, ("weight", "gradient"), default, rate)
        thorough = saved(tensors, ("weight", "gradient"), highest, rate)
        smooth = saved(tensors, ("smooth",), default, rate)
        for effort in report.efforts[:-1] if usual else ():
            middle = [bits for bits, _ in saved(tensors, ("weight", "gradient"), effort, rate)]
            lines.append(Line(f"{words} {effort}, {at}: median", statistics.median(middle), median,
                              note=f"of {len(middle)}"))
        if usual:
            lines += [Line(f"{words} {default}, {at}: minimum", usual[0][0], least, note=usual[0][1]),
                      Line(f"{words} {highest}, {at}: minimum", thorough[0][0], least, median,
                           note=thorough[0][1])]
        if smooth:
            lines.append(Line(f"{words} {default}, {at}: minimum of {len(smooth)} smooth", smooth[0][0], 0,
                              note=smooth[0][1]))
    return lines


def rate_lines(report, tensors):
    points = [(p, t["data"]) for t in tensors for p in t["points"]
              if (p["effort"], p["rate"]) == (report.efforts[0], 2.9)]
    written = [(p["bits"], data) for p, data in points if not p["saturated"]]
    finest = "".join(f"; {p['bits']:.2f} at the finest step, {p['snr']:.0f} dB" for p, _ in points if p["saturated"])
    low, high = min(written), max(written)
    words = "asked 2.9 bits, written: "
    failed = [t["data"] for t in tensors for _ in t["failed"]]
    return [Line(words + "least", low[0], 2.87, 2.9 * 0.997, 4, note=low[1]),
            Line(words + "most", high[0], 2.9, None, 4, most=True, note=f"of {len(written)}{finest}"),
            Line("rates the codec failed to write", len(failed), 0, None, 0, most=True,
                 note=", ".join(dict.fromkeys(failed)))]


def show_kinds(report, tensors):
    """Beyond the floors: every kind by itself."""
    rows = []
    for kind in dict.fromkeys(t["kind"] for t in tensors):
        for effort in report.efforts:
            cells = []
            for rate in RATES:
                found = [bits for bits, _ in saved(tensors, (kind,), effort, rate)]
                spread = found[0], statistics.median(found), found[-1]
                cells.append(" ".join(tables.figure(bits, 3) for bits in spread))
            rows.append([f"{kind} ({sum(t['kind'] == kind for t in tensors)}), effort {effort}", *cells])
    tables.show("Bits saved against x265 medium at equal SNR: minimum, median, maximum over all tensors of "
                f"rank 2 and more with {matrices.LEAST} values and more",
                ["", *map(tables.rate, RATES)], rows,
                "x265: lower envelope of 8-, 10- and 12-bit input, interpolated. Tensors of more than "
                f"{MOST} values are cut to their first rows, for both. smooth: gpt2's position embedding, "
                "keys and values.")


def show_worst(report, tensors, count=10):
    """Where the codec gains least."""
    effort, rows = report.efforts[0], []
    least = saved(tensors, {t["kind"] for t in tensors}, effort, RATES[-1])[:count]
    for _, name in least:
        points = next(t["points"] for t in tensors if t["data"] == name)
        found = {p["rate"]: f"{p['bits']:.3f} {p['snr']:.2f} {p['saved']:.3f}" for p in points
                 if p["effort"] == effort}
        rows.append([tables.short(name), *(found.get(rate, "failed") for rate in RATES)])
    tables.show(f"The {len(rows)} tensors with the least saved at {tables.rate(RATES[-1])}, effort {effort}: "
                "bits written, SNR in dB, bits saved", ["", *map(tables.rate, RATES)], rows)


# ---- speed, exact coding, memory ---------------------------------------------------------------------------

def find(rows, **keys):
    return next((r for r in rows if all(r.get(k) == v for k, v in keys.items())), None)


def speed_lines(report, measured):
    rows, effort, lines = measured["lossy"], report.efforts[0], []
    x265 = find(rows, coder="x265 medium, 8 bits")
    for level, decode, encode in (("avx512", (800, 1300), (150, 350)), ("avx2", (400, 700), (80, 200)),
                                  ("c", (80, 150), None)):
        row = find(rows, coder="tensor", level=level, effort=effort)
        if row is None:
            continue
        lines.append(Line(f"decode, {level}, Mvalue/s", row["decode"], *decode, 0))
        if encode:
            lines.append(Line(f"encode, {level}, effort {effort}, Mvalue/s", row["encode"], *encode, 0,
                              note=f"the whole call; a pass: {row['encode_pass']:.0f}"))
        if x265 and level == levels()[-1]:
            lines += [Line(f"encode, {level}, times x265 medium", row["encode"] / x265["encode"], 60, 200, 1),
                      Line(f"decode, {level}, times x265 medium", row["decode"] / x265["decode"], 25, 40, 1)]
    return lines


def product_lines(measured):
    """Of one vector, whole matrix."""
    speeds = measured["product"]
    return [Line(f"fused product, {level}, Mvalue/s", speeds.get(level), *bounds, 0,
                 note="" if level in speeds else "this build has no program for it")
            for level, bounds in (("avx512", (1000, 1700)), ("avx2", (400, 800)))]


def exact_lines(measured):
    own = [r for r in measured["exact"] if r["coder"] == "lossless"][-1]
    zstd = find(measured["exact"], coder="zstd -3")
    size = f"zstd -3: {100 * zstd['share']:.2f}"
    return [Line("lossless bf16, % of the size", 100 * own["share"], 67, 66, 2, most=True, note=size),
            *(Line(f"lossless {way}, {own['level']}, Mvalue/s", own[way], zstd[way], aim, 0,
                   note="floor: zstd -3") for way, aim in (("encode", 800), ("decode", 1500)))]


# A fresh interpreter starts the program: what a process is said to have taken includes its parent's share of
# when it started.
PEAK = """import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)"""


def peak_memory(program, rows):
    """MiB that `vcllm compress -j 1` takes for one bf16 matrix of so many rows of 4096."""
    x = matrices.to_bf16(np.random.default_rng(1).standard_normal((rows, 4096), dtype=np.float32))
    entry = {"w": {"dtype": "BF16", "shape": list(x.shape), "data_offsets": [0, x.nbytes]}}
    header = json.dumps(entry).encode()
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "model.safetensors")
        with open(model, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            x.tofile(file)
        command = [program, "compress", model, "-o", os.path.join(folder, "small"), "-q", "-j", "1"]
        run = subprocess.run([sys.executable, "-c", PEAK, *command], stdin=subprocess.DEVNULL,
                             capture_output=True, check=True)
    return int(run.stdout) / 1024


def memory_lines(report):
    program = os.path.join(report.build, "vcllm")
    if not os.path.exists(program):
        return []
    return [Line(f"memory of compress -j 1, {rows * 4096 >> 20} M values, MiB", peak_memory(program, rows),
                 64, digits=1, most=True) for rows in ((1024, 2048) if report.quick else (1024, 16384))]


# ---- all of them -------------------------------------------------------------------------------------------

def run(report):
    report.run("speed")     # in the same run
    measured = report.document["speed"]
    tensors = report.each(lambda m: compare(report, m), report.every(MOST))
    lines = [*gap_lines(report), *saved_lines(report, tensors), *speed_lines(report, measured),
             *product_lines(measured), *rate_lines(report, tensors), *exact_lines(measured),
             *memory_lines(report)]
    if report.video:
        show_kinds(report, tensors)
        show_worst(report, tensors)
    tables.show("Floors and aims (objective mse; bits saved: at equal SNR)",
                ["", "measured", "floor", "aim", "verdict", ""], [line.row() for line in lines], left=2)
    counts = [sum(line.verdict() == verdict for line in lines) for verdict in ("aim", "pass", "MISS")]
    print("\n{} lines reach the aim, {} the floor, {} miss it.".format(*counts))
    report.keep("floors", {"lines": [line.json() for line in lines], "tensors": tensors})
