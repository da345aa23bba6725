"""curves.py - the rate-error curve of a coder, measured only where it is asked for.

A coder has a whole-number setting q, of which bits and SNR fall (QP, an exponent of the step).  Asked for the
SNR at some bits, or the bits at some SNR, a curve measures settings next to each other on both sides and
interpolates.
"""
import math

DB = 6.0206     # dB of one bit
BITS, SNR = 0, 1


def snr_of(signal, error):
    return 10 * math.log10(signal / error) if error > 0 else math.inf


def clamp(x, low, high):
    return min(max(x, low), high)


class Curve:
    def __init__(self, measure, low, high, per_octave, guess, spacing=1):
        """measure(list of q): {q: (bits, snr)}.  per_octave: steps of q that take one bit.  guess(metric,
        value): a first q.  spacing: how far apart the two settings may be that are interpolated between."""
        self.measure, self.low, self.high, self.per_octave = measure, low, high, per_octave
        self.guess, self.spacing, self.points = guess, spacing, {}

    def prepare(self, metric, values):
        """Measures what at() needs for these values, as many settings at a time as can be foreseen."""
        wanted = self.next_settings(metric, values)
        while wanted:
            self.points.update(self.measure(sorted(wanted)))
            wanted = self.next_settings(metric, values)

    def at(self, metric, value):
        """The other metric at this value of one; None where the settings do not reach so far."""
        self.prepare(metric, [value])
        above, below = self.bracket(metric, value)
        if above is None:   # the finest setting gives less.  Bits: so it takes no more than were asked for
            return self.points[below][SNR] if metric == BITS else None
        if below is None:
            return None if metric == BITS else self.points[above][BITS]
        a, b = self.points[above], self.points[below]
        if a[metric] == b[metric] or math.isinf(a[SNR]):
            return b[1 - metric]
        share = (a[metric] - value) / (a[metric] - b[metric])
        return a[1 - metric] + (b[1 - metric] - a[1 - metric]) * share

    def bracket(self, metric, value):
        """Of the settings measured, the last before and the first after the one sought."""
        above = max((q for q, point in self.points.items() if point[metric] >= value), default=None)
        after = (q for q, point in self.points.items()
                 if point[metric] < value and (above is None or q > above))
        return above, min(after, default=None)

    def next_settings(self, metric, values):
        wanted = set()
        for value in values:
            wanted |= self.step_towards(metric, value)
        return wanted - self.points.keys()

    def step_towards(self, metric, value):
        if not self.points:
            q = round(self.guess(metric, value)) - self.spacing // 2
            return {clamp(q, self.low, self.high), clamp(q + self.spacing, self.low, self.high)}
        above, below = self.bracket(metric, value)
        if above is None or below is None:
            known = below if above is None else above
            miss = (self.points[known][metric] - value) / (DB if metric == SNR else 1) * self.per_octave
            step = clamp(miss, self.low - self.high, self.high - self.low)
            step += math.copysign(0.5 + self.spacing / 2, step)     # to the other side of the value
            return {clamp(known + round(step), self.low, self.high)}
        if below - above <= self.spacing:
            return set()
        a, b = self.points[above][metric], self.points[below][metric]
        share = 0.5 if math.isinf(a) else (a - value) / (a - b)
        return {clamp(above + round(share * (below - above)), above + 1, below - 1)}


def prepare(curves, metric, values):
    """Of like coders, whose settings mean the same: the others begin where the first one ended."""
    for curve in curves:
        first = curves[0]
        if curve is not first:
            known = {q for value in values for q in first.bracket(metric, value) if q is not None}
            curve.points.update(curve.measure(sorted({clamp(q, curve.low, curve.high) for q in known})))
        curve.prepare(metric, values)


def best(curves, metric, value):
    """Of some curves' lower envelope: most SNR at these bits, or fewest bits at this SNR; None if none has
    them."""
    found = [y for y in (curve.at(metric, value) for curve in curves) if y is not None]
    return (max if metric == BITS else min)(found) if found else None


def least_bits(curves, snr):
    """(bits, more): fewest bits at this SNR.  Where no curve reaches it: the bits of the setting that comes
    nearest, and True: more than these."""
    bits = best(curves, SNR, snr)
    if bits is not None:
        return bits, False
    finest = max((point for curve in curves for point in curve.points.values()), key=lambda point: point[SNR])
    return finest[BITS], True
