#!/usr/bin/env python3
"""Prints src/codec/model_cdf.h: the distribution functions of the tensor codec's probability model.

Member s is the generalised Gaussian of unit variance with exponent BETA[s]: density proportional to exp(-|x/a|^beta), so
P(|X| <= x) is the regularised lower incomplete gamma function of 1/beta at (x/a)^beta.  It is tabulated at 0 and at the
points 2^e (1 + m/8), e = -10 ... 6, m = 0 ... 7, in units of 2^-31.  The numbers in the header are the format, not this
program: another libm may round one of them differently.
"""
import math

BETA = (2.0, 1.6, 1.3, 1.0, 0.8, 0.6, 0.45, 0.33)
OCTAVES = range(-10, 7)
SCALE = 1 << 31


def gamma_p(a, x):
    """Regularised lower incomplete gamma function, by its series below a + 1 and its continued fraction above."""
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while term > total * 1e-17:
            n += 1
            term *= x / n
            total += term
        return front * total
    b = x + 1 - a
    c, d = 1e300, 1 / b
    h = d
    for i in range(1, 1000):
        an = -i * (i - a)
        b += 2
        d = 1 / (an * d + b)
        c = b + an / c
        h *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return 1 - front * h


def row(beta):
    a = math.exp((math.lgamma(1 / beta) - math.lgamma(3 / beta)) / 2)
    points = [0.0] + [2.0 ** e * (1 + m / 8) for e in OCTAVES for m in range(8)]
    return [min(round(SCALE * gamma_p(1 / beta, (x / a) ** beta)), SCALE) for x in points]


def main():
    print("/* model_cdf.h - P(|X| <= x) of the model's distributions; printed and explained by tools/model_cdf.py. */")
    print("static const uint32_t model_cdf[%d][%d] = {" % (len(BETA), 1 + 8 * len(OCTAVES)))
    for beta in BETA:
        print("    { /* exponent %g */" % beta)
        numbers = ["%du," % v for v in row(beta)]
        for i in range(0, len(numbers), 8):
            print("      " + " ".join(numbers[i:i + 8]))
        print("    },")
    print("};")


if __name__ == "__main__":
    main()
