"""speed.py - table (c): whole calls on one thread, at every level of CPU, beside memcpy and the peers.

Seconds are CPU time, medians of some runs: on an idle machine as the wall's, on a busy one steadier.
The library's calls work in buffers that exist already; starting ffmpeg is not counted (video_peers.speed).
"""
import ctypes
import os
import re
import subprocess

import numpy as np

import peers
import tables
import vcllm
import video_peers
from curves import BITS
from matrices import SAMPLE, Matrix, to_bf16
from ours import LEVELS, Coder, levels, seconds

RATE = 2.9
COPY_BYTES = 64 << 20


def memcpy_speed(runs):
    """Bytes a second, out of cache."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    to, at = target.ctypes.data, source.ctypes.data
    return COPY_BYTES / seconds(lambda: ctypes.memmove(to, at, COPY_BYTES), runs)


def normal(side):
    """N(0,1) in bf16."""
    x = np.random.default_rng(1).standard_normal((side, side))
    return Matrix("N(0,1)", "drawn", to_bf16(x), "BF16")


def sample_model(most):
    """The bf16 matrices of the sample model strung together: what exact coding is measured on."""
    with vcllm.open(SAMPLE) as model:
        raw = [model.read(name, raw=True).ravel() for name in model if len(model.info(name)["shape"]) >= 2]
    return Matrix("sample model", "weight", np.concatenate(raw)[:most], "BF16")


# ---- measuring ---------------------------------------------------------------------------------------------

def own(matrix, level, codec, runs, **settings):
    """Mvalue/s of whole calls; a pass is a call over the times it coded the tensor until the rate was met."""
    with Coder(matrix, level) as coder:
        encode = seconds(lambda: coder.encode(codec, **settings), runs)
        decode = seconds(coder.decode, 3 * runs)
        trials, size = coder.report.trials, coder.size.value
    values = matrix.raw.size
    return {"coder": codec, "level": level, "effort": settings.get("effort"), "bits": 8 * size / values,
            "encode": values / encode / 1e6, "decode": values / decode / 1e6, "trials": trials,
            "encode_pass": values * trials / encode / 1e6}


def lossy(report, side):
    """At RATE bits: every level at the default effort; other efforts and H.265 at the best level."""
    matrix, highest, default = normal(side), levels()[-1], report.efforts[0]
    cases = [(level, default) for level in levels()] + [(highest, e) for e in (1, *report.efforts[1:])]
    rows = [own(matrix, level, "tensor", report.runs, bits=RATE, effort=effort) for level, effort in cases]
    if report.video:
        rows.append(own(normal(min(side, 1024)), highest, "h265", 1, bits=RATE, effort=5))
    return rows


def nearest_setting(curve):
    """The setting whose bits are nearest RATE."""
    curve.prepare(BITS, [RATE])
    return min(curve.points, key=lambda q: abs(curve.points[q][BITS] - RATE))


def video(report, side):
    """One thread of x264 and x265, enough pictures for seconds of work each."""
    x, rows, runs = normal(min(side, 1024)).values, [], min(report.runs, 3)
    for coder, pictures in ((*video_peers.X265[:1], 4), (*video_peers.X265_SLOW, 2), (*video_peers.X264, 16)):
        q = nearest_setting(video_peers.curve(report.cache, video_peers.Stack([x]), coder))
        rows.append({"coder": f"{coder.library[3:]} {coder.preset}, 8 bits",
                     **video_peers.speed(coder, q, x, pictures, runs)})
    return rows


def zfp(report, side):
    x = normal(side).values
    encode, decode, bits = peers.zfp_calls(x, nearest_setting(peers.zfp(x)))
    return {"coder": "zfp 2-D", "bits": bits, "encode": x.size / seconds(encode, report.runs) / 1e6,
            "decode": x.size / seconds(decode, report.runs) / 1e6}


def exact(report):
    """Lossless coding at every level, and zstd."""
    matrix = sample_model(report.values * 16)
    rows, values = [own(matrix, level, "lossless", report.runs) for level in levels()], matrix.raw.size
    for level, runs in ((3, report.runs), (19, 1)):
        zstd = peers.Zstd(matrix.raw.tobytes())
        encode = seconds(lambda: zstd.encode(level), runs)
        decode = seconds(zstd.decode, report.runs)
        rows.append({"coder": f"zstd -{level}", "bits": 8 * zstd.size.value / values,
                     "encode": values / encode / 1e6, "decode": values / decode / 1e6})
    for row in rows:
        row["share"] = row["bits"] / 16
    return rows


# ---- the tables --------------------------------------------------------------------------------------------

def name_of(row):
    effort = f", effort {row['effort']}" if row.get("effort") else ""
    return row["coder"] + effort + (f", {row['level']}" if row.get("level") else "")


def percent(mvalues, copy):
    """Of memcpy, by bytes of bf16."""
    return f"{100 * 2e6 * mvalues / copy:.3g} %"


def times(row, x265, way):
    return f"{row[way] / x265[way]:.3g}x" if x265 else "-"


def show_lossy(rows, copy):
    x265 = next((r for r in rows if r["coder"].startswith("x265 medium")), None)
    text = [[name_of(r), tables.figure(r["bits"], 3), tables.speed(r["encode"]),
             tables.speed(r.get("encode_pass")), tables.speed(r["decode"]), percent(r["encode"], copy),
             percent(r["decode"], copy), times(r, x265, "encode"), times(r, x265, "decode")] for r in rows]
    tables.show(f"(c) Speed on N(0,1), bf16, at {RATE} bits, one thread; memcpy copies {copy / 1e9:.1f} GB/s",
                ["Mvalue/s", "bits", "encode", "a pass", "decode", "of memcpy: enc", "dec",
                 "x265 medium: enc", "dec"], text,
                "encode: the whole call, search for the rate included; a pass: that over the times it coded "
                "the tensor. Peers: one setting, no search. of memcpy: by bytes of bf16. x265 medium: times "
                "its speed.")


def show_exact(rows, copy):
    text = [[name_of(r), f"{100 * r['share']:.2f} %", tables.speed(r["encode"]), tables.speed(r["decode"]),
             percent(r["encode"], copy), percent(r["decode"], copy)] for r in rows]
    tables.show("Exact coding of the sample model's bf16 matrices, one thread",
                ["Mvalue/s", "of the size", "encode", "decode", "of memcpy: enc", "dec"], text)


def product(report):
    """Prints what the program for fused products prints; {level: Mvalue/s with one vector}."""
    program, speeds, level = os.path.join(report.build, "bench_product"), {}, None
    if not os.path.exists(program):
        return {}
    size = ["256", "256"] if report.quick else []
    output = subprocess.run([program, *size], capture_output=True, text=True, check=True).stdout
    print(f"\n\nProducts with a coded matrix\n\n{output.strip()}")
    for line in output.splitlines():
        level = next((name for name in LEVELS if line.startswith(name + ":")), level)
        found = re.search(r"X W'\s+n = 1\s+([\d.]+) Gvalue/s", line)
        if found:
            speeds[level] = 1000 * float(found[1])
    return speeds


def run(report):
    side, copy = 256 if report.quick else 2048, memcpy_speed(report.runs)
    rows = lossy(report, side)
    if report.video:
        rows += video(report, side)
    if peers.zfp_is_there():
        rows.append(zfp(report, side))
    show_lossy(rows, copy)
    lossless = exact(report)
    show_exact(lossless, copy)
    report.keep("speed", {"memcpy_bytes_per_second": copy, "lossy": rows, "exact": lossless,
                          "product": product(report)})
