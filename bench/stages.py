"""stages.py - table (b): what each stage is worth.  Bits needed at one error, stages switched on one by one.

The manner of figure 2(b) of the VcLLM paper (arXiv 2407.00467): from raw 8-bit rounding to the whole codec,
beside H.265 and beside H.265 with prediction from layer to layer.  The error is, tensor by tensor, what the
codec leaves at 2.9 bits.
"""
import math

import numpy as np

import peers
import tables
import vcllm
import video_peers
from curves import DB, SNR, least_bits
from ours import point

RATE = 2.9
MOST = 1 << 19
STACK_SNR = 15      # dB, of x265 with prediction between layers

# Bits of vcl_params.disable
MEANS, TRANSFORM, ROW_CLASSES, COL_CLASSES, MODEL, TRELLIS, CENTROIDS = (1 << i for i in range(7))
ALL = 2 * CENTROIDS - 1
# In order: what is switched on
ORDER = [("gaussian", 0), ("model", MODEL | CENTROIDS), ("transform", TRANSFORM), ("means", MEANS),
         ("rows", ROW_CLASSES), ("columns", COL_CLASSES), ("trellis", TRELLIS)]
SINGLE = [("means", MEANS), ("transform", TRANSFORM), ("rows", ROW_CLASSES), ("columns", COL_CLASSES),
          ("model", MODEL), ("centroids", CENTROIDS), ("trellis", TRELLIS)]
# Columns of the first table: words, and where the figure is in a row of one_by_one
COLUMNS = [("RTN8 dB", "rtn8_snr"), ("entropy", "entropy"), ("dB", "snr"), ("step", "step"),
           ("gaussian", "gaussian"), ("+model", "model"), ("+transf.", "transform"), ("+means", "means"),
           ("+rows", "rows"), ("+cols", "columns"), ("+16 states", "trellis"), ("256", "states256"),
           ("h265", "h265"), ("x265", "x265")]
NOTE = """From raw 8-bit rounding to absmax, 8 bits (RTN8 dB: its SNR), by its indices' ideal entropy, at that
error, to the error asked for (dB): step: one step for the tensor, ideal entropy. Real bytes from here on:
gaussian: all stages off, scalar quantiser, Gaussian model; then what is named is switched on as well, to the
right: a fitted model, transform, column means, row and column classes, trellis; 256: states, the highest
effort. h265: this project's module, effort 5. x265: medium, best of 8, 10 and 12 bits (> where even lossless
it does not reach the error)."""


def bits_at(matrix, snr, **settings):
    """The search ends up to 0.2 dB above the target, and a bit is 6.02 dB; an exact frame is what it is.
    None where coding fails."""
    try:
        found = point(matrix, snr=snr, objective="mse", **settings)
    except vcllm.Error as error:
        print(f"{matrix.name}, {settings}, {snr:.2f} dB: {error}")
        return None
    return found["bits"] - ((found["snr"] - snr) / DB if math.isfinite(found["snr"]) else 0)


def one_by_one(report, matrix):
    effort = report.efforts[0]
    snr = point(matrix, bits=RATE, effort=effort, objective="mse")["snr"]
    entropy, rtn8 = peers.raw_rtn(matrix.values, 8)
    row = {"snr": snr, "rtn8_snr": rtn8, "entropy": entropy, "step": peers.scalar(matrix.values).at(SNR, snr)}
    off = ALL
    for name, on in ORDER:
        off &= ~on
        row[name] = bits_at(matrix, snr, effort=effort, disable=off)
    row["states256"] = bits_at(matrix, snr, effort=report.efforts[-1])
    if report.video:
        row["h265"] = bits_at(matrix, snr, codec="h265", effort=5)
        curves = video_peers.curves(report.cache, video_peers.X265, matrix.values)
        row["x265"], row["x265_needs_more"] = least_bits(curves, snr)
    return row


def all_but_one(report, matrix, whole):
    without = {name: bits_at(matrix, whole["snr"], effort=report.efforts[0], disable=stage)
               for name, stage in SINGLE}
    return {name: None if None in (bits, whole["trellis"]) else bits - whole["trellis"]
            for name, bits in without.items()}


def stack_of(report, matrices):
    """Bits of x265 medium on the layers' matrices, all scaled to one energy: each alone, and predicted from
    each other."""
    pictures = [video_peers.matrix_of(m.values) for m in matrices]
    stack = video_peers.Stack([x / np.sqrt(np.square(x, dtype=np.float64).mean()) for x in pictures])
    coders = [video_peers.Coder("libx265", "medium", 10, inter) for inter in (False, True)]
    return [video_peers.curve(report.cache, stack, coder).at(SNR, STACK_SNR) for coder in coders]


def show_stages(report, data, rows):
    text = [[m.name, *(tables.figure(row.get(key), 1 if "dB" in words else 3) for words, key in COLUMNS)]
            for m, row in zip(data, rows)]
    for line, row in zip(text, rows):
        line[-1] = (">" if row.get("x265_needs_more") else "") + line[-1]
    tables.show(f"(b) Stages: bits needed at the error that the codec leaves at {RATE} bits, effort "
                f"{report.efforts[0]}, objective mse", ["", *(words for words, _ in COLUMNS)], text,
                NOTE)


def show_single(report, data, rows):
    text = [[m.name, *(tables.figure(row[name], 3) for name, _ in SINGLE)] for m, row in zip(data, rows)]
    tables.show(f"Bits more where one stage alone is off (same error, effort {report.efforts[0]})",
                ["", *(name for name, _ in SINGLE)], text)


def show_stacks(rows):
    text = [[name, *(tables.figure(bits, 3) for bits in (intra, inter, inter - intra))]
            for name, (intra, inter) in rows]
    tables.show(f"Prediction from layer to layer: x265 medium, 10 bits, bits at {STACK_SNR} dB; the layers' "
                "matrices are pictures of one sequence",
                ["", "intra", "inter (I, then P)", "difference"], text)


def run(report):
    data = [m.cut(min(MOST, report.values)) for m in report.drawn() + report.chosen()]
    rows = report.each(lambda m: one_by_one(report, m), data)
    single = report.each(lambda job: all_but_one(report, *job), zip(data, rows))
    stacks = report.stacks()
    inter = list(zip((name for name, _ in stacks), report.each(lambda s: stack_of(report, s[1]), stacks)))
    show_stages(report, data, rows)
    show_single(report, data, single)
    if inter:
        show_stacks(inter)
    report.keep("stages", {"one_by_one": [{"data": m.name, **row} for m, row in zip(data, rows)],
                           "all_but_one": [{"data": m.name, **row} for m, row in zip(data, single)],
                           "stacks": [{"data": name, "intra": a, "inter": b} for name, (a, b) in inter]})
