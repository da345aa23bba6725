"""kinds.py - table (e): distributions of many kinds, beside the least error that any coder could leave.

The rate-distortion function under squared error is Shannon's for N(0,1), else Blahut and Arimoto's iteration
(IEEE Trans. Inf. Theory 18, 1972) on a grid.  A source of few levels is exact at its entropy.
"""
import math

import numpy as np

import tables
import vcllm
from curves import DB, snr_of
from matrices import Matrix, to_bf16
from ours import point

RATES = (1, 2, 2.9, 4)
OBJECTIVES = ("model", "mse")
MEANS = (0, 1, 10, 100)
MEAN_RATE = 2.9
GRID = 1 / 64       # of the deviation: a quarter of the error at 4 bits
NOTE = """SNR in dB at exactly these bits (what is written is up to 2 % less, and a bit is 6.02 dB), and the gap
to the bound in bits; exact: nothing is lost, and the bits that took. The bound is the rate-distortion function under
squared error; where it says "exact", the levels' entropy is no more than the rate."""


# ---- sources -----------------------------------------------------------------------------------------------

def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def hump_cdf(x):
    return 0.5 * (normal_cdf(5 * (x - 1)) + normal_cdf(5 * (x + 1)))


def laplace_cdf(x):
    return 0.5 * math.exp(x) if x < 0 else 1 - 0.5 * math.exp(-x)


# name: how it is drawn, its distribution function, and between which values it lies
CONTINUOUS = {
    "N(0,1)": (lambda rng, shape: rng.standard_normal(shape), normal_cdf, (-6, 6)),
    "Laplace": (lambda rng, shape: rng.laplace(0, 1, shape), laplace_cdf, (-14, 14)),
    "uniform": (lambda rng, shape: rng.uniform(-1, 1, shape), lambda x: 0.5 + 0.5 * x, (-1, 1)),
    "arcsine: sin of uniform": (lambda rng, shape: np.sin(rng.uniform(0, 2 * math.pi, shape)),
                                lambda x: 0.5 + math.asin(x) / math.pi, (-1, 1)),
    "two humps: ±1 + 0.2 N(0,1)": (lambda rng, shape: rng.choice((-1, 1), shape) + 0.2 * rng.standard_normal(shape),
                                   hump_cdf, (-2.2, 2.2)),
    "half-normal": (lambda rng, shape: np.abs(rng.standard_normal(shape)), lambda x: 2 * normal_cdf(x) - 1, (0, 6)),
}


def rounded(width, least, most):
    """Levels as quantisers of weights leave them: a normal variable of this deviation, rounded and held."""
    def draw(rng, shape):
        return np.clip(np.rint(width * rng.standard_normal(shape)), least, most) + 0.0     # one zero
    return draw


def fp4(rng, shape):
    points = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    return rng.choice((-1, 1), shape) * rng.choice(points, shape) + 0.0     # one zero


# name: how its levels are drawn; how many values have a scale in common (None: no scales, 0: a row), and
# whether it is a power of two
DISCRETE = {
    "binary": (lambda rng, shape: rng.choice((-1.0, 1.0), shape), None, False),
    "ternary": (rounded(1, -1, 1), None, False),
    "five levels": (rounded(1.2, -2, 2), None, False),
    "int4": (rounded(2.7, -8, 7), None, False),
    "binary, a scale a row": (lambda rng, shape: rng.choice((-1.0, 1.0), shape), 0, False),
    "ternary, a scale a row": (rounded(1, -1, 1), 0, False),
    "int4, a scale a row": (rounded(2.7, -8, 7), 0, False),
    "int4, a scale for 32": (rounded(2.7, -8, 7), 32, False),
    "MXFP4: FP4, a power of two for 32": (fp4, 32, True),
}


def scales(rng, count, power):
    scale = 0.02 * np.exp(0.3 * rng.standard_normal(count))
    return np.exp2(np.rint(np.log2(scale))) if power else scale


def entropy(counts):
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def discrete(name, shape):
    """The matrix in bf16, its levels' probabilities, and the bits a value, with 16 for a scale or a power's entropy."""
    draw, group, power = DISCRETE[name]
    rng = np.random.default_rng(3)
    levels = draw(rng, shape)
    points, counts = np.unique(levels, return_counts=True)
    bits = entropy(counts)
    if group is not None:
        group = group or shape[1]
        scale = scales(rng, (levels.size // group, 1), power)
        levels = (levels.reshape(-1, group) * scale).reshape(shape)
        bits += (entropy(np.unique(scale, return_counts=True)[1]) if power else 16) / group
    return Matrix(name, "drawn", to_bf16(levels), "BF16"), (points, counts / counts.sum()), bits


# ---- the bound ---------------------------------------------------------------------------------------------

def rate_distortion(points, share, outputs, distortion, rounds=400):
    """(bits, mean squared error) on the curve of a discrete source, about where the error is `distortion`."""
    kernel = np.exp(-np.square(points[:, None] - outputs[None, :]) / (2 * distortion))
    weight = np.full(len(outputs), 1 / len(outputs))
    for _ in range(rounds):
        weight *= (share / (kernel @ weight)) @ kernel
    total = kernel @ weight
    joint = share[:, None] * kernel * weight / total[:, None]
    error = float((joint * np.square(points[:, None] - outputs[None, :])).sum())
    bits = float(-(share * np.log2(total)).sum()) - error / (2 * distortion * math.log(2))
    return bits, error


def curve(points, share, low, high):
    """Of a source: [(bits, SNR in dB)], ascending, from 0 to beyond the highest of RATES."""
    energy = float((share * points ** 2).sum())
    deviation = math.sqrt(energy - float((share * points).sum()) ** 2)
    outputs = np.linspace(low, high, math.ceil((high - low) / (GRID * deviation)) + 1)
    found = [rate_distortion(points, share, outputs, deviation ** 2 * 4.0 ** -rate)
             for rate in (0.3, 0.6, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5)]
    return [(bits, snr_of(energy, error)) for bits, error in found]


def cells(cdf, low, high, deviation):
    """A continuous source on the grid: middles of its cells and how likely each is."""
    edges = np.linspace(low, high, math.ceil((high - low) / (GRID * deviation)) + 1)
    share = np.diff([cdf(x) for x in edges])
    return (edges[1:] + edges[:-1]) / 2, share / share.sum()


def bounds(found):
    """SNR at RATES on a curve, whose distance from 6.02 dB a bit is smooth."""
    bits, snr = np.array(found).T
    return [float(np.interp(rate, bits, snr - DB * bits)) + DB * rate for rate in RATES]


# ---- what the codec does -----------------------------------------------------------------------------------

def own(matrix, rate, bound, objective):
    """SNR at exactly this rate, inf where nothing is lost, the bits that took, and how many of them are beyond the
    bound (None where either is exact or the bound is not known); None: it fails."""
    try:
        found = point(matrix, bits=rate, objective=objective)
    except vcllm.Error as error:
        print(f"{matrix.name}, {objective}, {rate} bits: {error}")
        return None
    snr = found["snr"] + DB * (rate - found["bits"])
    known = bound is not None and math.isfinite(bound) and math.isfinite(snr)
    return {"bits": found["bits"], "snr": snr, "gap": (bound - snr) / DB if known else None}


def kind(report, name):
    """One line of the table: name, entropy where there is one, bound and points at every rate."""
    shape = (report.values // 1024, 1024)
    if name in CONTINUOUS:
        draw, cdf, (low, high) = CONTINUOUS[name]
        x = draw(np.random.default_rng(3), shape)
        matrix, bits = Matrix(name, "drawn", x.astype(np.float32), "F32"), None
        found = bounds(curve(*cells(cdf, low, high, x.std()), low, high))
        found = [DB * rate for rate in RATES] if name == "N(0,1)" else found
    else:
        matrix, (points, share), bits = discrete(name, shape)
        alone = DISCRETE[name][1] is None
        found = bounds(curve(points, share, points[0], points[-1])) if alone else [None] * len(RATES)
        found = [math.inf if rate >= bits else bound for rate, bound in zip(RATES, found)]
    return {"kind": name, "entropy": bits,
            "points": [{"rate": rate, "bound": bound, **{o: own(matrix, rate, bound, o) for o in OBJECTIVES}}
                       for rate, bound in zip(RATES, found)]}


def bound_cell(bound):
    return "-" if bound is None else "exact" if math.isinf(bound) else f"{bound:.2f}"


def cell(found):
    if found is None:
        return "fails"
    if math.isinf(found["snr"]):
        return f"exact, {found['bits']:.3f}"
    return f"{found['snr']:.2f} {tables.figure(found['gap'], 3)}"


# ---- a mean ------------------------------------------------------------------------------------------------

def mean_line(report):
    """Bits of m + N(0,1) at the absolute error that N(0,1) has at MEAN_RATE bits."""
    x = np.random.default_rng(3).standard_normal((report.values // 1024, 1024))
    result = []
    for objective in OBJECTIVES:
        first = point(Matrix("N(0,1)", "drawn", x.astype(np.float32), "F32"), bits=MEAN_RATE, objective=objective)
        error = np.square(x).mean() / 10 ** (first["snr"] / 10)
        for mean in MEANS:
            matrix = Matrix(f"{mean} + N(0,1)", "drawn", (mean + x).astype(np.float32), "F32")
            snr = snr_of(np.square(matrix.values, dtype=np.float64).mean(), error)
            found = point(matrix, snr=snr, objective=objective)
            result.append({"mean": mean, "objective": objective,
                           "bits": found["bits"] - (found["snr"] - snr) / DB})
    return result


def run(report):
    rows = report.each(lambda name: kind(report, name), [*CONTINUOUS, *DISCRETE])
    text = []
    for row in rows:
        text.append("\n" + row["kind"] + ("" if row["entropy"] is None else f", entropy {row['entropy']:.3f}"))
        text.append(["  bound", *(bound_cell(p["bound"]) for p in row["points"])])
        text += [[f"  {o}", *(cell(p[o]) for p in row["points"])] for o in OBJECTIVES]
    tables.show("(e) Kinds of distributions: SNR in dB and gap in bits", ["", *map(tables.rate, RATES)], text, NOTE)
    means = mean_line(report)
    tables.show(f"A mean: bits at the absolute error of N(0,1) at {MEAN_RATE} bits",
                ["", *(f"{m} + N(0,1)" for m in MEANS)],
                [[o, *(f"{p['bits']:.3f}" for p in means if p["objective"] == o)] for o in OBJECTIVES])
    report.keep("kinds", {"rows": rows, "means": means})
