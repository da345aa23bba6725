"""refenc_tensor.py - the tensor codec's part of refenc.py: docs/format.md, "Codec 4", in the other direction.

A tile is made of indices k as its lists, escapes, states and words, so that a test can spoil each before they are joined.
"""
import struct

import numpy as np

import refdec
import refdec_tensor
import refenc

LOWEST, TOTAL_BITS = 1 << 16, 10


CONSTANT = 6


def class_list(classes, rice=0, period=1):
    if rice == CONSTANT:
        return struct.pack("<bB", classes[0], rice)
    number, bit = 0, 0
    for i in range(1, len(classes)):
        d = int(classes[i]) - int(classes[i - period if i >= period else i - 1])
        u = 2 * d if d >= 0 else -2 * d - 1
        number |= ((1 << (u >> rice)) - 1 | (u & (1 << rice) - 1) << (u >> rice) + 1) << bit
        bit += (u >> rice) + 1 + rice
    return struct.pack("<bB", classes[0], rice) + number.to_bytes((bit + 7) // 8, "little")


def escape(z):
    u, out = 2 * z if z >= 0 else -2 * z - 1, b""
    while u >= 128:
        out, u = out + bytes([u & 127 | 128]), u >> 7
    return out + bytes([u])


class Coder:
    """rANS lanes, backwards: what is coded first is decoded last."""

    def __init__(self, lanes, model, models, tables):
        self.states, self.words, self.escapes = [LOWEST] * lanes, [], []
        self.model, self.models = model, models
        self.tables = {(t, g): freq for t, pair in tables.items() for g, freq in enumerate(pair)}

    def push(self, lane, freq, start, bits):
        x = self.states[lane]
        if x >= freq << 32 - bits:
            self.words.append(x & 0xFFFF)
            x >>= 16
        self.states[lane] = (x // freq << bits) + x % freq + start

    def put_high(self, lane, high, t, g):
        if (t, g) not in self.tables:
            shape, fine = self.models.get(t, self.model)
            self.tables[t, g] = refdec_tensor.frequencies(shape, t, fine, g)
        freq = self.tables[t, g]
        y = high + 32
        if not (1 <= y <= 62 and freq[y]):
            y = 63 if high & 1 else 0
            self.escapes.append(escape(high >> 1))
        self.push(lane, freq[y], sum(freq[:y]), TOTAL_BITS)


def codebooks(k, v):
    """g of every index of a row: what the trellis says before it."""
    state, out = np.zeros(len(k), np.int64), np.zeros_like(k)
    for c in range(k.shape[1]):
        out[:, c] = state & 1
        state = refdec_tensor.next_state(v, state, k[:, c] & 1)
    return out


def tile(k, *, states=3, lanes=8, shape=0, fine=0, models={}, tables={}, down=0, rows=None, cols=None, side=b"", rice=0):
    """The parts of a tile with these indices; rows and cols: classes, 16 and 0 by default; models: (shape, fine), tables:
    both codebooks' frequencies, of the classes that have their own."""
    k = np.asarray(k, np.int64)
    rows = [16] * len(k) if rows is None else rows
    cols = [0] * k.shape[1] if cols is None else cols
    coder, g = Coder(lanes, (shape, fine), models, tables), codebooks(k, states)
    for first in reversed(range(0, len(k), lanes)):
        active = range(first, min(first + lanes, len(k)))
        for c in reversed(range(k.shape[1])):
            classes = {r: min(max(int(rows[r]) + int(cols[c]), 0), refdec_tensor.CLASSES - 1) for r in active}
            low = {r: int(refdec_tensor.low_bits(t)) for r, t in classes.items()}
            for r in reversed(active):
                coder.push(r - first, 1, int(k[r, c]) & (1 << low[r]) - 1, low[r])
            for r in reversed(active):
                coder.put_high(r - first, int(k[r, c]) >> low[r], classes[r], int(g[r, c]))
    return {"side": side, "rows": class_list(rows, rice, 1 << down), "escapes": b"".join(reversed(coder.escapes)),
            "states": coder.states, "words": coder.words[::-1]}


def join(parts, size=None):
    """The tile's bytes; size: the number of escape bytes that is written."""
    return (parts["side"] + parts["rows"] + struct.pack("<I", len(parts["escapes"]) if size is None else size)
            + parts["escapes"] + struct.pack(f"<{len(parts['states'])}I", *parts["states"])
            + struct.pack(f"<{len(parts['words'])}H", *parts["words"]))


def part(cols, tile_rows, tile_cols, *, states=3, lanes=8, reserved=0, shape=0, fine=0, transform=0, zero=0,
         centroids=(0,) * 8, step=1.0, snr=30.0, seed=0, sides=b"", size=None):
    """The codec part; sides: the side data; size: what is said of their length."""
    return struct.pack("<QIIBBBBbBH8bffII", cols, tile_rows, tile_cols, states, lanes, reserved, shape, fine, transform, zero,
                       *centroids, step, snr, seed, len(sides) if size is None else size) + sides


def class_models(models, fine=0):
    """models: (shape, fine) of neighbouring classes."""
    return bytes([min(models), len(models), *(shape + 8 * (own - fine + 16) for shape, own in models.values())])


def tables_of(tables):
    each = [bytes([t]) + refenc.table(even) + refenc.table(odd) for t, (even, odd) in tables.items()]
    return bytes([len(tables)]) + b"".join(each)


def points_of(first, moves, count=None):
    """count: the number of moves that is written."""
    return struct.pack(f"<bB{len(moves)}b", first, len(moves) if count is None else count, *moves)


def sides(cols=None, col_classes=None, exponents=None, means=None, rice=0):
    """means: their exponent and levels, which want a list of classes before them: for `cols` columns of 0."""
    lists = [class_list(classes, rice) for classes in (col_classes, exponents) if classes is not None]
    if means is None:
        return b"".join(lists)
    none = [class_list([0] * cols, CONSTANT)] if not lists else []
    return b"".join(none + lists) + struct.pack("b", means[0]) + class_list(means[1], rice)


def tensor(dtype, dims, k, *, tile_rows=None, tile_cols=None, flags=0, row_classes=None, col_classes=None, side=None,
           fields=None, models={}, tables={}, mean=None, points=None, **model):
    """A frame of the indices k, rows x cols of the coded matrix.  row_classes: of all rows; side(number, values): a tile's
    list; fields: of part; models, tables: as tile's, mean and points (the first and the moves) are written before fields'
    sides; model: states, lanes, shape, fine.  Hashes are refdec's."""
    k = np.asarray(k, np.int64)
    rows, cols = k.shape
    tile_rows, tile_cols = tile_rows or rows, tile_cols or cols
    fields, made = dict(fields or {}), []
    down = fields.get("transform", 0) & 15
    for r in range(0, rows, tile_rows):
        for c in range(0, cols, tile_cols):
            block = k[r:r + tile_rows, c:c + tile_cols]
            parts = tile(block, rows=None if row_classes is None else row_classes[r:r + tile_rows],
                         cols=None if col_classes is None else col_classes[c:c + tile_cols], down=down,
                         side=side(len(made), block.size) if side else b"", models=models, tables=tables, **model)
            made.append((join(parts), block.shape, c))
    own = (class_models(models, model.get("fine", 0)) if models else b"") + (tables_of(tables) if tables else b"")
    own += (b"" if mean is None else struct.pack("<f", mean)) + (points_of(*points) if points else b"")
    fields["sides"] = own + fields.get("sides", b"")
    flags |= (refdec.CLASS_MODELS if models else 0) | (refdec.TABLES if tables else 0)
    flags |= (0 if mean is None else refdec.MEAN) | (refdec.POINTS if points else 0)
    header = part(cols, tile_rows, tile_cols, **{**model, **fields})
    make = lambda hashes: refenc.frame(refdec.TENSOR, dtype, dims, header, [(t[0], h) for t, h in zip(made, hashes)],
                                       flags=flags)
    parsed = refdec.Frame(make([0] * len(made)))
    return make([refdec.hash32(refdec.decode_lossy_tile(parsed, stored, *shape, c)) for stored, shape, c in made])
