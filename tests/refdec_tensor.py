"""refdec_tensor.py - the tensor codec's part of refdec.py, written from docs/format.md, "Codec 4", alone.

The numbers D are read from src/codec/model_cdf.h, which the document names as part of the format.
"""
import functools
import os
import re
import struct

import numpy as np

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "codec", "model_cdf.h")
A = [65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752, 92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515]
H0 = [0, 0, 0o5, 0o13, 0o23, 0o45, 0o103, 0o235, 0o515]
H1 = [0, 0, 0o2, 0o4, 0o4, 0o10, 0o24, 0o126, 0o362]
LOWEST = 1 << 16
CLASSES, POINTS = 64, 32    # classes 0 ... 63; points -32 ... 31 may be moved


class Damaged(Exception):
    """The bytes are no such stream."""


def need(condition, message):
    if not condition:
        raise Damaged(message)


def low_bits(t):
    """Of indices of class t, that the model does not see; t: a number or an array."""
    return np.maximum((np.asarray(t) - 28) // 4, 0)


# ---- class lists -----------------------------------------------------------------------------------------------

def read_classes(data, count, period=1):
    """count classes, each told from the one `period` before, and the bytes they took."""
    need(len(data) >= 2 and data[1] <= 6, "class list")
    classes, rice = [struct.unpack("b", data[:1])[0]], data[1]
    if rice == 6:
        return np.full(count, classes[0]), 2
    bits, at = np.unpackbits(np.frombuffer(data, np.uint8, offset=2), bitorder="little"), 0
    for i in range(1, count):
        quotient = 0
        while at < len(bits) and bits[at]:
            quotient, at = quotient + 1, at + 1
        need(at + 1 + rice <= len(bits), "class list cut off")
        low = int(sum(int(b) << i for i, b in enumerate(bits[at + 1:at + 1 + rice])))
        at += 1 + rice
        u = quotient << rice | low
        before = classes[i - period if i >= period else i - 1]
        classes.append(before + (-(u + 1) // 2 if u & 1 else u // 2))
        need(-128 <= classes[-1] <= 127, "class out of range")
    return np.array(classes), 2 + (at + 7) // 8


# ---- model -----------------------------------------------------------------------------------------------------

@functools.cache
def distribution(shape):
    with open(HEADER, encoding="ascii") as file:
        text = file.read()
    numbers = [int(n) for n in re.findall(r"(\d+)u\b", text)]
    return numbers[137 * shape:137 * (shape + 1)]


def cumulative(d, q, m):
    if m == 0:
        return 0
    e, v = q >> 4, m * A[q & 15]
    top = v.bit_length() - 1
    octave = top - 16 + e
    if octave >= 7:
        return 1 << 31
    if octave < -10:
        return (d[1] * v >> 16) >> (-10 - e)
    r = (v - (1 << top)) * (1 << 32) >> top
    i = 1 + 8 * (octave + 10) + (r >> 29)
    high = d[i + 1] if i + 1 < 137 else 1 << 31
    return d[i] + ((high - d[i]) * ((r % (1 << 29)) >> 13) >> 16)


@functools.cache
def frequencies(shape, t, fine, g):
    d = distribution(shape)
    q = 4 * (16 - t + 4 * int(low_bits(t))) - fine
    mass = [0] * 64
    for y in range(1, 63):
        j = abs(2 * (y - 32) + g)
        if j:
            mass[y] = cumulative(d, q, j + 1) - cumulative(d, q, j - 1)
        else:
            mass[y] = 2 * cumulative(d, q, 1) - (2 if cumulative(d, q, 1) == 1 << 31 else 0)
    mass[0] = mass[63] = max((1 << 32) - sum(mass), 0) // 2
    total = sum(mass)
    freq = [(m * 1024 + total // 2) // total for m in mass]
    freq = [1 if f == 0 and (y in (0, 63) or mass[y] * 8192 >= total) else f for y, f in enumerate(freq)]
    freq[freq.index(max(freq))] += 1024 - sum(freq)
    return tuple(freq)


def read_class_models(data, fine, models):
    """Puts (shape, fine) of classes into models; the rest of data."""
    need(len(data) >= 2 and data[1] >= 1 and data[0] + data[1] <= CLASSES and len(data) >= 2 + data[1], "class models")
    for i, m in enumerate(data[2:2 + data[1]]):
        models[data[0] + i] = m % 8, fine + m // 8 - 16
    return data[2 + data[1]:]


def read_table(data):
    need(len(data) >= 2 and data[0] <= data[1] <= 63, "table")
    bits, at = np.unpackbits(np.frombuffer(data, np.uint8, offset=2), bitorder="little"), 0

    def take(n):
        nonlocal at
        need(at + n <= len(bits), "table cut off")
        at += n
        return int(sum(int(b) << i for i, b in enumerate(bits[at - n:at])))

    freq = [0] * 64
    for y in range(data[0], data[1] + 1):
        m = take(4)
        need(m <= 12, "table's length")
        freq[y] = (1 << m - 1) + take(m - 1) if m else 0
    need(sum(freq) == 1024 and max(freq) < 1024, "table's sum")
    return freq, data[2 + (at + 7) // 8:]


def read_tables(data, tables):
    need(len(data) >= 1 and 1 <= data[0] <= CLASSES, "tables")
    count, data, last = data[0], data[1:], -1
    for _ in range(count):
        need(data and last < data[0] < CLASSES, "table's class")
        last, data = data[0], data[1:]
        even, data = read_table(data)
        odd, data = read_table(data)
        tables[last] = even, odd
    return data


def slot_tables(models, tables):
    """symbol, frequency and offset in the symbol, for [class][codebook][slot]; models: (shape, fine) by class."""
    symbol = np.zeros((CLASSES, 2, 1024), np.int64)
    freq, rest = np.zeros_like(symbol), np.zeros_like(symbol)
    for t, (shape, fine) in enumerate(models):
        for g in range(2):
            at = 0
            for y, f in enumerate(tables[t][g] if t in tables else frequencies(shape, t, fine, g)):
                symbol[t, g, at:at + f], freq[t, g, at:at + f], rest[t, g, at:at + f] = y, f, np.arange(f)
                at += f
    return symbol, freq, rest


def read_mean(data):
    need(len(data) >= 4, "mean cut off")
    mean = np.frombuffer(data, "<f4", 1)[0]
    need(np.isfinite(mean), "mean")
    return mean, data[4:]


def read_points(data):
    """Moves in half-steps of the points -POINTS ... POINTS - 1, and the rest of data."""
    need(len(data) >= 2, "points cut off")
    first, count = struct.unpack("bB", data[:2])
    need(-POINTS <= first and 1 <= count <= POINTS - first and len(data) >= 2 + count, "points")
    moves = np.zeros(2 * POINTS, np.float32)
    moves[POINTS + first:][:count] = np.frombuffer(data, np.int8, count, 2) / np.float32(64)
    return moves, data[2 + count:]


# ---- lanes -----------------------------------------------------------------------------------------------------

class Lanes:
    def __init__(self, data, lanes):
        need(len(data) >= 4, "escapes cut off")
        size = struct.unpack_from("<I", data)[0]
        need(4 + size + 4 * lanes <= len(data) and (len(data) - size) % 2 == 0, "states cut off")
        self.escapes, self.escape_at = data[4:4 + size], 0
        self.x = np.frombuffer(data, "<u4", lanes, 4 + size).astype(np.int64)
        need((self.x >= LOWEST).all(), "state too small")
        self.words, self.word_at = np.frombuffer(data, "<u2", -1, 4 + size + 4 * lanes).astype(np.int64), 0

    def refill(self, active):
        low = np.flatnonzero(self.x[:active] < LOWEST)
        need(self.word_at + len(low) <= len(self.words), "words used up")
        self.x[low] = self.x[low] << 16 | self.words[self.word_at:self.word_at + len(low)]
        self.word_at += len(low)

    def escape(self, parity, h):
        u = 0
        for shift in (0, 7, 14):
            need(self.escape_at < len(self.escapes), "escapes used up")
            byte = self.escapes[self.escape_at]
            self.escape_at += 1
            u |= (byte & 127) << shift
            if byte < 128:
                z = -(u + 1) // 2 if u & 1 else u // 2
                need(-8192 <= z << h < 8192, "escape out of range")
                return 2 * z + parity
        raise Damaged("escape too long")

    def finish(self):
        need(self.escape_at == len(self.escapes) and self.word_at == len(self.words), "bytes left over")
        need((self.x == LOWEST).all(), "final state")


def next_state(v, s, b):
    g = s & 1
    return s * 0 if v == 0 else (s >> 1) ^ (b * (H1[v] >> 1)) ^ (g * (H0[v] >> 1))


def decode_points(frame, data, rows, cols, col_classes):
    row_classes, used = read_classes(data, rows, 1 << frame.down)
    lanes = Lanes(data[used:], frame.lanes)
    points = decode_stripes(frame, lanes, row_classes, cols, col_classes)
    lanes.finish()
    return points


def decode_stripes(frame, lanes, row_classes, cols, col_classes):
    """The points of all rows, stripe after stripe of the lanes."""
    rows = len(row_classes)
    symbols, freqs, rests = frame.tables
    points = np.zeros((rows, cols), np.int64)
    for first in range(0, rows, frame.lanes):
        n = min(frame.lanes, rows - first)
        state = np.zeros(n, np.int64)
        for c in range(cols):
            t = np.clip(row_classes[first:first + n] + col_classes[c], 0, CLASSES - 1)
            h = low_bits(t)
            g, m = state & 1, lanes.x[:n] & 1023
            y = symbols[t, g, m]
            lanes.x[:n] = freqs[t, g, m] * (lanes.x[:n] >> 10) + rests[t, g, m]
            lanes.refill(n)
            k = y - 32
            for lane in np.flatnonzero((y == 0) | (y == 63)):
                k[lane] = lanes.escape(int(y[lane]) & 1, int(h[lane]))
            k = (k << h) + (lanes.x[:n] & ((1 << h) - 1))
            lanes.x[:n] >>= h
            lanes.refill(n)
            points[first:first + n, c] = 2 * k + g
            state = next_state(frame.states, state, k & 1)
    return points


def decode_values(frame, data, rows, cols, col_classes, steps):
    """f32 values of a tile whose side list has been taken off."""
    return place_points(frame, decode_points(frame, data, rows, cols, col_classes), steps)


def place_points(frame, j, steps):
    if frame.moves is not None:
        move = np.where((j >= -POINTS) & (j < POINTS), frame.moves[np.clip(j, -POINTS, POINTS - 1) + POINTS], 0)
    else:
        offsets = np.zeros(9, np.float32)
        offsets[1:] = np.array(frame.centroids, np.float32) / np.float32(256)
        size = np.abs(j)
        move = np.sign(j) * np.where(size <= 8, offsets[np.minimum(size, 8)], 0)
    largest = np.finfo(np.float32).max
    return np.clip((j.astype(np.float32) + move.astype(np.float32)) * steps, -largest, largest)


FRACTIONS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], np.uint32).view(np.float32)


def column_steps(step, exponents):
    factors = np.ldexp(FRACTIONS[exponents % 4], exponents // 4).astype(np.float32)
    with np.errstate(over="ignore"):
        return np.where(exponents == 0, step, step * factors).astype(np.float32)


# ---- transform -------------------------------------------------------------------------------------------------

SCALES = {4: 0x3F3504F3, 8: 0x3F000000, 16: 0x3EB504F3, 32: 0x3E800000, 64: 0x3E3504F3, 128: 0x3E000000, 256: 0x3DB504F3}


def matrix(n):
    """W[k, i]"""
    cosines = np.rint(2.0 ** 23 * np.cos(np.pi * np.arange(1024) / 512)).astype(np.float32)
    k, i = np.arange(n)[:, None], np.arange(n)[None]
    m = np.where(k > 0, (2 * i + 1) * k * (256 // n) % 1024, 128)
    return cosines[m] * (np.array([SCALES[n]], np.uint32).view(np.float32) * np.float32(2.0 ** -23))


def along_rows(y, log2):
    if log2 == 0:
        return y
    n = 1 << log2
    whole = y.shape[1] // n * n
    z, w = y[:, :whole].reshape(y.shape[0], -1, n), matrix(n)
    out = z[:, :, 0:1] * w[0]
    for k in range(1, n):
        out = out + z[:, :, k:k + 1] * w[k]
    return np.hstack([out.reshape(y.shape[0], whole), y[:, whole:]])


def inverse_transform(y, down, along):
    return np.ascontiguousarray(along_rows(np.ascontiguousarray(along_rows(y, along).T), down).T)
