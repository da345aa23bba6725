"""refdec_kv.py - recipes and pages of KV caches decoded, written from docs/format.md alone.

Codec 4 is refdec_tensor.py's part of it.  A fused multiply-add is made of f64: the product is exact there, the sum is
rounded to odd, and f32 is rounded once from that.
"""
import struct

import numpy as np
import xxhash

import refdec
import refdec_tensor
from refdec import Bad, need

KEYS, VALUES = 1, 2


class Settings(refdec.Frame):
    """A recipe (docs/format.md, "Recipe"): the settings of a matrix of so many columns."""

    def __init__(self, data):
        need(len(data) > 32 and data[:8] == b"VCLR\0\0\0\0", "no recipe")
        need(refdec.hash32(data[:28]) == struct.unpack_from("<I", data, 28)[0], "recipe's checksum")
        header = data[32:]
        super().__init__(header + bytes(-len(header) % 8))
        need(self.codec == refdec.TENSOR and self.shape == (0, self.cols), "recipe's header")
        side, = struct.unpack_from("<I", self.data, 84)
        self._sides(self.data[88:88 + side], self.data[59])


class Part:
    def __init__(self, recipe, take):
        self.layer, self.sides, zero = struct.unpack("<HBB", take(4))
        need(zero == 0 and 1 <= self.sides <= 3, "part")
        self.n = recipe.heads * ((recipe.key_dim if self.sides & KEYS else 0)
                                 + (recipe.value_dim if self.sides & VALUES else 0))
        need(self.n <= 4096, "part too large")
        self.mean, scale = np.frombuffer(take(4 * self.n), "<f4"), np.frombuffer(take(4 * self.n), "<f4")
        self.basis = scale[:, None] * np.frombuffer(take(self.n ** 2), np.int8).reshape(self.n, self.n).astype(np.float32)
        length, = struct.unpack("<I", take(4))
        self.settings = Settings(take(length))
        need(self.settings.cols % 16 == 0, "columns")


class Recipe:
    def __init__(self, data):
        at = 0

        def take(size):
            nonlocal at
            need(at + size <= len(data) - 8, "recipe cut off")
            at += size
            return data[at - size:at]

        need(take(8) == b"VCKR\0\0\0\0", "no recipe of a KV cache")
        self.hash, = struct.unpack("<Q", data[-8:])
        need(xxhash.xxh3_64_intdigest(data[:-8]) == self.hash, "recipe's hash")
        self.layers, self.heads, self.key_dim, self.value_dim, count = struct.unpack("<5I", take(20))
        self.identity = [take(take(1)[0]).decode() for _ in range(4)]
        self.parts = [Part(self, take) for _ in range(count)]
        need(at == len(data) - 8, "bytes left over")


def add_product(total, factor, row):
    """total + factor row, rounded once; all f32."""
    a, b = total.astype(np.float64), factor.astype(np.float64) * row.astype(np.float64)
    s = a + b
    back = s - a
    error = (a - (s - back)) + (b - back)
    even = (s.view(np.int64) & 1) == 0
    return np.where((error != 0) & even, np.nextafter(s, np.where(error > 0, np.inf, -np.inf)), s).astype(np.float32)


def values_of(part, z):
    """Rows of components to rows of values."""
    out = np.tile(part.mean, (len(z), 1))
    for c in range(min(z.shape[1], part.n)):
        some = z[:, c] != 0
        out[some] = add_product(out[some], z[some, c:c + 1], part.basis[None, c])
    return out


def decode_page(recipe, page):
    """{(layer, side): array of [token][heads x dim]}"""
    need(len(page) >= 28 and page[:4] == b"VKP\0", "no page")
    check, which, position, tokens, first, layers, sides, zero = struct.unpack_from("<IQIHHHBB", page, 4)
    need(check == refdec.hash32(page[8:]), "page's checksum")
    need(which == recipe.hash and zero == 0 and 1 <= tokens <= 4096 and layers >= 1, "page's header")
    parts = [p for p in recipe.parts if first <= p.layer < first + layers and p.sides & ~sides == 0]
    need(sum(bin(p.sides).count("1") for p in parts) == layers * bin(sides).count("1"), "parts")
    lanes = 32 if tokens * sum(p.n for p in parts) >= 32768 else 8
    at, classes, found = 28, [], {}
    try:
        for _ in parts:
            some, used = refdec_tensor.read_classes(page[at:], tokens)
            classes.append(some)
            at += used
        stream = refdec_tensor.Lanes(page[at:], lanes)
        for part, rows in zip(parts, classes):
            settings = part.settings
            settings.lanes = lanes
            j = refdec_tensor.decode_stripes(settings, stream, rows, settings.cols, settings.col_classes)
            values = values_of(part, refdec_tensor.place_points(settings, j, settings.col_steps))
            keys = recipe.heads * recipe.key_dim if part.sides & KEYS else 0
            if part.sides & KEYS:
                found[part.layer, KEYS] = values[:, :keys]
            if part.sides & VALUES:
                found[part.layer, VALUES] = values[:, keys:]
        stream.finish()
    except refdec_tensor.Damaged as error:
        raise Bad(str(error)) from None
    return found
