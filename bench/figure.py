#!/usr/bin/python3
"""figure.py - docs/perplexity.svg, the picture of README.md: what the sample model loses by bits and coder.

    bench/figure.py [ROOT]          needs matplotlib

In: the table "books" of docs/results.md, which bench/models.py and markdown.py print; so the picture cannot say
anything else than the page.  Out: the SVG, with the hash of the rows it was drawn from in its description, by which
tests/check_documents.py finds one that is out of date.  The abscissa is what each coder's file really takes: the bits
asked for, and of plain rounding the scales besides (results.md tells how many).
"""
import hashlib
import os
import re
import sys

TABLE = "books"
# Row, label, colour, dashes, bits that its files take beyond those asked for.
CURVES = (("RTN, groups of 128", "rounding, groups of 128", "#7f7f7f", ":", 0.26),
          ("h264 fixed", "H.264", "#e69f00", "--", 0.01),
          ("h265 fixed", "H.265", "#d55e00", "--", 0.01),
          ("tensor fixed", "VcLLM, the same bits everywhere", "#56b4e9", "-", 0.01),
          ("tensor self", "VcLLM, bits shared out (default)", "#0072b2", "-", 0.01))


def source(page):
    """The table's head and the rows that are drawn, as they stand in the page."""
    lines = page[page.index(f"| {TABLE} |"):].split("\n\n", 1)[0].splitlines()
    names = {name for name, *_ in CURVES}
    return "\n".join([lines[0]] + [line for line in lines if line.split("|")[1].strip() in names])


def curves(rows):
    """By name: bits and perplexity in % more, where it was measured."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows.splitlines()]
    bits = [float(re.match(r"[\d.]+", cell).group()) for cell in table[0][1:]]
    found = {}
    for name, *cells in table[1:]:
        points = [(b, cell) for b, cell in zip(bits, cells) if cell != "–"]
        found[name] = [(b, float(re.match(r"[+−][\d.]+", cell).group().replace("−", "-"))) for b, cell in points]
    return found


def draw(found, path, digest):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "vcllm", "font.family": "sans-serif",
                                "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"], "font.size": 11})
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 4.4))
    figure.patch.set_facecolor("white")
    for name, label, colour, dashes, more in CURVES:
        points = [(bits + more, loss) for bits, loss in found[name] if bits <= 4 and loss > 0]
        axes.plot(*zip(*points), dashes, marker="o", color=colour, label=label, linewidth=2, markersize=5)
    axes.set(yscale="log", xlim=(1.4, 4.4), ylim=(0.08, 130), xlabel="bits per weight, every byte counted",
             ylabel="perplexity, % more than bf16's")
    axes.set_yticks([0.1, 0.3, 1, 3, 10, 30, 100], ["0.1", "0.3", "1", "3", "10", "30", "100"])
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("A LLaMA of 4.9 million weights, all its matrices coded, on held-out books",
                   fontsize=11, loc="left")
    axes.legend(frameon=False, loc="lower left", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": "bench/figure.py", "Description": digest,
                                   "Title": "Perplexity by bits per weight"})


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "docs", "results.md"), encoding="utf-8") as file:
        rows = source(file.read())
    draw(curves(rows), os.path.join(root, "docs", "perplexity.svg"), hashlib.sha256(rows.encode()).hexdigest())


if __name__ == "__main__":
    main()
