#!/usr/bin/python3
"""markdown.py - the tables of docs/results.md from what report.py and models.py wrote.

    bench/markdown.py build/bench.json [SECTION...]
    bench/markdown.py build/bench-models.json models

Sections: floors, saved, rate, stages, speed, anatomy, kinds; all by default.
"""
import json
import math
import statistics
import sys

MINUS = "\N{MINUS SIGN}"
RATES = (1, 2, 2.9, 4)
CODERS = ("tensor, effort 5", "tensor, effort 9", "h265, effort 5", "x265 medium, best of 8/10/12 bits",
          "x265 veryslow, 8 bits", "x264 medium, 8 bits")
PLAIN = ("scalar, one step, ideal entropy", "RTN per tensor, ideal entropy", "RTN per row, ideal entropy",
         "RTN per group of 128, ideal entropy", "zfp 2-D, fixed accuracy")
STAGES = ("gaussian", "model", "transform", "means", "rows", "columns", "trellis", "states256", "h265")
ALONE = ("means", "transform", "rows", "columns", "model", "trellis")


def number(value, digits=3, zero=False):
    """.084, or 0.084 with zero."""
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text if zero or not text.startswith("0.") else text[1:]
    return (MINUS if value < 0 and float(f"{value:.{digits}f}") else "") + text


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def head(*cells):
    row(*cells)
    print("|" + "---|" * len(cells))


def floors(document):
    head("figure", "measured", "floor", "aim", "verdict", "")
    for line in document["floors"]["lines"]:
        sign = "≤" if line["at_most"] else "≥"
        bounds = ["" if line[b] is None else f"{sign} {line[b]:.4g}" for b in ("floor", "aim")]
        row(line["what"], number(line["measured"], line["digits"], True), *bounds, line["verdict"], line["note"])


def saved(document):
    tensors, rates = document["floors"]["tensors"], (1, 2, 2.9)
    head("bits saved: minimum, median, maximum", *(f"{rate} bit{'s' * (rate > 1)}" for rate in rates))
    for kind in dict.fromkeys(t["kind"] for t in tensors):
        for effort in document["efforts"]:
            cells = []
            for rate in rates:
                found = sorted(p["saved"] for t in tensors if t["kind"] == kind for p in t["points"]
                               if (p["effort"], p["rate"]) == (effort, rate) and p["saved"] is not None)
                cells.append(" ".join(map(number, (found[0], statistics.median(found), found[-1]))) if found else "–")
            row(f"{kind} ({sum(t['kind'] == kind for t in tensors)}), effort {effort}", *cells)


def rate(document):
    gaps = {(p["data"], p["coder"], p["bits"]): p["gap"] for p in document["rate"]}
    for title, coders in ((("gap in bits at 1, 2, 2.9, 4", "tensor", "effort 9", "h265", "x265 medium", "veryslow", "x264"),
                           CODERS), (("", "scalar", "RTN", "RTN row", "RTN 128", "zfp"), PLAIN)):
        head(*title)
        for data in dict.fromkeys(p["data"] for p in document["rate"]):
            row(data, *(" ".join(number(gaps.get((data, coder, bits))) for bits in RATES) for coder in coders))
        print()


def stages(document):
    head("", "8-bit RTN, its dB", "its entropy", "error, dB", "coarser step", "Gaussian model", "+ fitted", "+ transform",
         "+ means", "+ rows", "+ columns", "+ 16 states", "256 states", "h265", "x265")
    for r in document["stages"]["one_by_one"]:
        row(r["data"], f"{r['rtn8_snr']:.1f}", number(r["entropy"], 2), f"{r['snr']:.1f}", number(r["step"], 2),
            *(number(r.get(stage), 2) for stage in STAGES),
            (">" if r.get("x265_needs_more") else "") + number(r.get("x265"), 2))
    print()
    head("bits more without", *ALONE)
    for r in document["stages"]["all_but_one"]:
        row(r["data"], *(number(r[stage], 3, True) for stage in ALONE))
    print()
    head("x265 medium, 10 bits, at 15 dB", "intra", "inter (I, then P)", "difference")
    for r in document["stages"]["stacks"]:
        row(r["data"], f"{r['intra']:.3f}", f"{r['inter']:.3f}", f"+{r['inter'] - r['intra']:.3f}")


def speed(document):
    part = document["speed"]
    x265 = next((r for r in part["lossy"] if r["coder"].startswith("x265 medium")), part["lossy"][0])
    share = 2e8 / part["memcpy_bytes_per_second"]     # Mvalue/s of bf16 as % of it
    head("Mvalue/s", "bits", "encode", "a pass", "decode", "of memcpy: encode, decode", "times x265 medium: encode, decode")
    for r in part["lossy"]:
        name = f"{r['coder']}, effort {r['effort']}, {r['level']}" if r.get("effort") else r["coder"]
        once = f"{r['encode_pass']:.3g}" if r.get("effort") else ""
        row(name, f"{r['bits']:.3f}", f"{r['encode']:.3g}", once, f"{r['decode']:.3g}",
            f"{r['encode'] * share:.2g} %, {r['decode'] * share:.3g} %",
            f"{r['encode'] / x265['encode']:.3g}, {r['decode'] / x265['decode']:.3g}")
    print()
    head("exact, Mvalue/s", "of the size", "encode", "decode")
    for r in part["exact"]:
        name = f"{r['coder']}, {r['level']}" if r.get("level") else r["coder"]
        row(name, f"{100 * r['share']:.2f} %", f"{r['encode']:.3g}", f"{r['decode']:.3g}")


def anatomy(document):
    parts = ("fields", "models", "mean", "points", "col classes", "col means", "tile table", "row classes", "states", "escapes",
             "words")
    head("bits a value", "values", "all", *parts, "aside")
    for r in document["anatomy"]:
        bits = lambda count: f"{8 * count / r['values']:.4f}" if count else ""
        row(r["data"], r["values"], bits(r["bytes"]), *(bits(r[part]) for part in parts),
            f"{100 * (1 - (r['words'] + r['escapes']) / r['bytes']):.2f} %")


def kinds(document):
    def bound(found):
        return "–" if found is None else "exact" if math.isinf(found) else f"{found:.2f}"

    def cell(found):
        if found is None or math.isinf(found["snr"]):
            return "fails" if found is None else f"exact, {found['bits']:.2f}"
        return f"{found['snr']:.2f}" + ("" if found["gap"] is None else f", {number(found['gap'])}")

    lines, means = document["kinds"]["rows"], document["kinds"]["means"]
    head("bound: model; mse", *(f"{p['rate']:g} bit{'s' * (p['rate'] > 1)}" for p in lines[0]["points"]))
    for line in lines:
        row(line["kind"] + ("" if line["entropy"] is None else f", entropy {line['entropy']:.2f}"),
            *(f"{bound(p['bound'])}: {cell(p['model'])}; {cell(p['mse'])}" for p in line["points"]))
    print()
    head("bits", *(f"{p['mean']} + N(0,1)" for p in means if p["objective"] == "mse"))
    for objective in ("model", "mse"):
        row(objective, *(f"{p['bits']:.3f}" for p in means if p["objective"] == objective))


def models(document):
    """Of every model and text: perplexity in % more ± its error, KL divergence."""
    def cell(point):
        if point is None:
            return "–"
        more = 100 * point["difference"]
        sign = "+" if more >= 0 else MINUS
        digits = 1 if more < 1000 else 0
        return f"{sign}{abs(more):.{digits}f} ± {100 * point['error']:.1f}, {point['kl']:.3f}"

    for name, found in document.items():
        rates = list(next(iter(found.values())))
        for text in next(iter(next(iter(found.values())).values())):
            head(f"{name}, {text}", *(f"{float(rate):g} bits" for rate in rates))
            for coder, points in found.items():
                row(coder, *(cell(points.get(rate) and points[rate][text]) for rate in rates))
            print()


def main():
    sections = {"floors": floors, "saved": saved, "rate": rate, "stages": stages, "speed": speed, "anatomy": anatomy, "kinds": kinds}
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    for name in sys.argv[2:] or sections:
        models(document) if name == "models" else sections[name](document)
        print()


if __name__ == "__main__":
    main()
