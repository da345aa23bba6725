#!/usr/bin/python3
"""test_format.py - the vcllm program against refdec.py, the decoder written from docs/format.md alone.

Faults it would catch: a decoder that differs from the document, a frame with valid checksums and hostile content that
is accepted or crashes, a safetensors file of other software that is misread.

VCLLM names the program (build/vcllm).
"""
import itertools
import json
import os
import struct
import unittest

import numpy as np

import refdec
import refenc
import refenc_tensor
from driver import LONG, Case, is_sanitized, run_vcllm

SEED = 20240521


class Same(Case):
    def check_same(self, packed, what):
        """vcllm decompress and refdec give the same bytes for every tensor of a compressed file."""
        back = self.folder / "back.safetensors"
        self.succeed("verify", packed)
        self.succeed("decompress", "-f", packed, "-o", back)
        compressed, other = refdec.Compressed(packed), refdec.File(back)
        self.assertEqual([t[:3] for t in other.tensors],
                         [(name, frame.dtype, frame.shape) for name, frame in compressed.frames.items()], what)
        for i, name in enumerate(compressed.frames):
            self.assertEqual(other.bytes_of(i), compressed.decode(name), f"{what}: {name}")
        return compressed


def tensor_bytes(dtype, count, rng):
    return rng.bytes((count * refdec.BITS[dtype] + 7) // 8)


# ---- frames made by hand that are right --------------------------------------------------------------------------

class HandMade(Same):
    def test_exact(self):
        """Every dtype; shapes from 0-d to rank 16; tiles that are no whole rows; aliases."""
        rng = np.random.default_rng(SEED)
        frames = []
        for dtype in refdec.NAMES:
            frames.append((f"{dtype} 8x6", refenc.exact(dtype, (8, 6), tensor_bytes(dtype, 48, rng))))
            frames.append((f"{dtype} tiles", refenc.exact(dtype, (10, 40), tensor_bytes(dtype, 400, rng), cols=40,
                                                          tile_rows=3, tile_cols=16)))
            frames.append((f"{dtype} empty", refenc.exact(dtype, (3, 0, 2), b"")))
        frames.append(("empty and huge", refenc.exact("F64", (2 ** 62, 2 ** 62, 0), b"")))
        frames.append(("0-d", refenc.exact("F32", (), b"\0\0\x80\x3f")))
        frames.append(("rank 16", refenc.exact("U8", (1,) * 15 + (7,), bytes(range(7)))))
        frames.append(("other cols", refenc.exact("I16", (5, 8), bytes(range(80)), cols=4, tile_rows=7, tile_cols=3)))
        frames.append(("one tile of 2^22", refenc.exact("U8", (3, 5), bytes(15), tile_rows=1 << 11, tile_cols=1 << 11)))
        frames.append(("ein Äquivalent \u2192", refenc.alias("U8", (3, 5), "one tile of 2^22")))
        frames.append(("alias 0-d", refenc.alias("F32", (), "0-d")))
        packed = self.write("exact.safetensors", refenc.container(frames, {"format": "pt", "a\nb\x01": "\u00e9\"\\/"}))
        self.check_same(packed, "exact")

    def test_lossless(self):
        """Modes of tiles and planes, widths, folds, classes, few and many lanes."""
        rng = np.random.default_rng(SEED)
        raw, same = (lambda data: b"\0" + data), (lambda data: b"\1" + data[:1])
        frames = []
        for dtype in ("U8", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"):
            width = refdec.number_bytes(dtype)
            for n in (80, 600, 5000):
                x = np.abs(rng.normal(0, 3, n)).round().astype(f"<i{width}")
                for name, codes in (("raw", [raw] * width), ("rANS", [refenc.rans] * width)):
                    tile = refenc.lossless_tile(dtype, x.tobytes(), codes)
                    dims = (n // 2,) if dtype == "C64" else (n,)
                    if len(tile) <= width * n + 1:
                        frames.append((f"{dtype} {n} {name}", refenc.lossless(dtype, dims, x.tobytes(), tile)))
        for dtype, kind in (("BF16", "<u2"), ("F32", "<u4")):
            for base in (0, 40, 128):
                x = rng.normal(0, 2.0 ** (base - 20), 3000).astype("<f4").view("<u4")
                x[:9] &= 0x807FFFFF
                x = (x if kind == "<u4" else x >> 16).astype(kind)
                planes = [refenc.rans, refenc.packed, raw, raw][:x.dtype.itemsize]
                tile = refenc.lossless_tile(dtype, x.tobytes(), planes, base)
                frames.append((f"narrow {dtype} {base}", refenc.lossless(dtype, (3000,), x.tobytes(), tile)))
        data = rng.binomial(60, .3, 9000).astype(np.uint8).tobytes()
        for bits in (1, 2):
            classes = rng.integers(0, 1 << bits, 36).tolist()
            code = lambda data: refenc.rans(data, bits, classes)
            frames.append((f"{bits} bits of class",
                           refenc.lossless("I8", (9000,), data, refenc.lossless_tile("I8", data, [code]))))
        frames.append(("constant", refenc.lossless("U16", (70,), b"ab" * 70,
                                                   refenc.lossless_tile("U16", b"ab" * 70, [same, same]))))
        frames.append(("raw tile", refenc.lossless("F4", (4,), b"ab", b"\0ab")))
        frames += list(palettes(rng)) + list(scaled_levels(rng)) + list(inner_levels(rng))
        frames.append(("empty", refenc.frame(refdec.LOSSLESS, "F32", (0, 4), struct.pack("<QII", 4, 1, 64))))
        self.check_same(self.write("lossless.safetensors", refenc.container(frames)), "lossless")

    def test_tensor(self):
        """Codec 4: every field at its ends; classes, escapes, lists and steps that no encoder of ours writes."""
        rng = np.random.default_rng(SEED)
        frames = list(tensor_models(rng)) + list(tensor_sides(rng)) + list(tensor_values(rng))
        frames += [*tensor_own_models(rng), *tensor_low_bits(rng), *tensor_means(rng), *tensor_points(rng)]
        frames.append(("empty", refenc.frame(refdec.TENSOR, "F32", (0, 4), refenc_tensor.part(4, 64, 64))))
        frames.append(("0-d", refenc_tensor.tensor("F64", (), [[-7]])))
        with np.errstate(all="ignore"):
            self.check_same(self.write("tensor.safetensors", refenc.container(frames)), "tensor")

    def test_streams(self):
        """Codecs, depths, chroma, lossless and lossy; pictures as they stand and wrapped."""
        rng = np.random.default_rng(SEED)
        frames = []
        for codec, depth in ((2, 8), (2, 10), (3, 8), (3, 10), (3, 12)):
            for chroma, quality, shape in ((0, None, (64, 72)), (1, 22, (71, 65)), (0, 30, (5, 9))):
                frame = refenc.video(codec, "F32", shape, refenc.samples(rng, shape, depth), depth=depth, chroma=chroma,
                                     quality=quality, part={"step": 0.37})
                frames.append((f"{codec} {depth} {chroma} {quality} {shape}", frame))
        self.check_same(self.write("streams.safetensors", refenc.container(frames)), "streams")

    def test_values(self):
        """Dtypes, rotation, row scales, non-finite runs, several tiles, values beyond a dtype's range."""
        rng = np.random.default_rng(SEED)
        frames = []
        for dtype, flags in itertools.product(refdec.LOSSY, range(8)):
            frames.append((f"{dtype} flags {flags}", self.flagged(rng, dtype, flags, (70, 91))))
        frames.append(("four tiles", self.flagged(rng, "F32", 7, (130, 150), tile_rows=72, tile_cols=80)))
        frames.append(("13 x 1", self.flagged(rng, "BF16", 7, (13, 1))))
        for dtype, step in (("F16", 3000.0), ("BF16", 3e38), ("F32", 3e38), ("F64", 3e38), ("F16", 1e-8),
                            ("F32", 1e-45), ("F32", 0.0)):
            frame = refenc.video(3, dtype, (8, 8), refenc.samples(rng, (8, 8), 8), part={"step": step})
            frames.append((f"{dtype} step {step}", frame))
        frames.append(("empty", refenc.frame(3, "F32", (0, 4), refenc.video_part(4, 64, 64))))
        self.check_same(self.write("values.safetensors", refenc.container(frames)), "values")

    def flagged(self, rng, dtype, flags, shape, **tiles):
        size = refdec.BITS[dtype] // 8
        rows = tiles.get("tile_rows", shape[0])

        def side(number):
            height = min(rows, shape[0] - number // 2 * rows) if tiles else rows
            scales = (np.abs(rng.normal(size=height)).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
            nan = refenc.runs([(0, 1, b"\xff" * size), (3, 5, b"\xaa" * (size - 1) + b"\x7f"), (8, 2, b"\xff" * size)])
            return (nan if flags & refdec.NON_FINITE else b"") + (scales if flags & refdec.ROW_SCALES else b"")

        part = {"step": 0.01, "seed": 77 if flags & refdec.ROTATED else 0}
        return refenc.video(3, dtype, shape, refenc.samples(rng, shape, 8), side=side, flags=flags, part=part, **tiles)


def indices(rng, rows, cols, size=2.0):
    """As an encoder makes them, and some far beyond."""
    k = rng.normal(0, size, (rows, cols)).round().astype(int)
    k.reshape(-1)[rng.integers(0, k.size, 1 + k.size // 50)] = rng.integers(-16384, 16384)
    return k


def tensor_models(rng):
    sizes = itertools.cycle([(1, 40), (7, 9), (33, 20), (70, 31), (64, 5), (40, 1)])
    for i, (states, lanes) in enumerate(itertools.product((0, 2, 3, 4, 5, 6, 7, 8), (8, 32))):
        rows, cols = next(sizes)
        model = {"states": states, "lanes": lanes, "shape": i % 8, "fine": (-16, -3, 0, 16)[i % 4]}
        k = indices(rng, rows, cols, 2 + i)
        yield f"model {model}", refenc_tensor.tensor(refdec.LOSSY[i % 4], (rows, cols), k, row_classes=[16 + i * 9 % 48] * rows,
                                                     **model)
    k = indices(rng, 50, 30)
    yield "all indices at the ends", refenc_tensor.tensor("F32", (8, 8), np.tile([[-16384, 16383]], (8, 4)), states=0)
    for t in (31, 32, 63):
        yield f"ends by class {t}", refenc_tensor.tensor("F32", (8, 8), np.tile([[-16384, 16383]], (8, 4)), states=0,
                                                         row_classes=[t] * 8)
    yield "tiles of part of a stripe", refenc_tensor.tensor("F16", (50, 30), k, tile_rows=13, tile_cols=7)
    for classes in (rng.integers(-128, 128, 50), [-128] * 50, [127, -128] * 25, rng.integers(-10, 74, 50)):
        yield f"row classes {classes[:2]}", refenc_tensor.tensor("F32", (50, 30), k, row_classes=classes)


def tensor_sides(rng):
    k = indices(rng, 24, 40)
    make = lambda flags=0, model=None, **sides: refenc_tensor.tensor(
        "F32", (24, 40), k, flags=flags, col_classes=sides.get("col_classes"),
        row_classes=[36] * 24, fields={"sides": refenc_tensor.sides(40, **sides), **(model or {})}, tile_cols=19)
    for rice in range(6):
        yield f"column classes, {rice}", make(col_classes=rng.integers(-20, 21, 40), rice=rice)
    zeros, exponents = np.zeros(40, int), rng.integers(-64, 65, 40)
    means = -3, rng.integers(-128, 128, 40)
    yield "column classes of 0", make(col_classes=zeros)
    yield "column classes all 7", make(col_classes=[7] * 40, rice=refenc_tensor.CONSTANT)
    yield "steps", make(16, col_classes=zeros, exponents=exponents)
    yield "means", make(8, means=means)
    yield "subnormal means", make(8, {"step": 1e-44}, means=(-128, means[1]))
    yield "large means", make(8, means=(120, means[1]))
    yield "means all the same", make(8, means=(0, [-5] * 40), rice=refenc_tensor.CONSTANT)
    yield "both and classes", make(24, col_classes=rng.integers(-128, 128, 40), exponents=exponents, means=means)
    yield "steps that vanish", make(16, {"step": 1e-44}, col_classes=zeros, exponents=exponents)


def random_table(rng, symbols):
    freq = rng.multinomial(1024 - len(symbols), rng.dirichlet(np.full(len(symbols), .3))) + 1
    return [int(freq[symbols.index(y)]) if y in symbols else 0 for y in range(64)]


def tensor_own_models(rng):
    """Models and tables of classes: one, all, with and without escapes."""
    k = indices(rng, 40, 30)
    classes = rng.integers(0, 64, 40).tolist()
    make = lambda **own: refenc_tensor.tensor("F32", (40, 30), k, row_classes=classes, **own)
    everywhere = {t: (t % 8, -19 + t % 32) for t in range(64)}
    tables = {t: [random_table(rng, [0, *range(1 + t % 30, 60), 63]) for g in range(2)] for t in (0, 1, 17, 62, 63)}
    yield "one class model", make(models={classes[0]: (7, 5)}, fine=5)
    yield "all class models", make(models=everywhere, fine=-3)
    yield "last class model", make(models={63: (0, -32)}, fine=-16)
    yield "tables", make(tables=tables)
    yield "tables and class models", make(tables=tables, models=everywhere, fine=-3, shape=4)
    yield "all tables", make(tables={t: [random_table(rng, list(range(64))) for g in range(2)] for t in range(64)})
    zeros = np.zeros((8, 20), int)
    two = [1023 if y == 32 else y == 63 for y in range(64)]
    yield "table of two symbols", refenc_tensor.tensor("F32", (8, 20), zeros, states=0, tables={16: ([*map(int, two)],) * 2})
    yield "models, tables, classes, steps and means", refenc_tensor.tensor(
        "BF16", (40, 30), k, tables=tables, models=everywhere, fine=-3, row_classes=classes, col_classes=[3] * 30,
        flags=24, fields={"sides": refenc_tensor.sides(30, [3] * 30, [-4] * 30, (0, [1] * 30))})


def tensor_low_bits(rng):
    """Rows and columns of classes below and above 32, in one stripe; deviations as classes have them, and escapes."""
    for i, (states, lanes, rows) in enumerate(itertools.product((0, 3), (8, 32), (1, 3, 40, 64))):
        k = indices(rng, rows, 24, 2 ** rng.uniform(0, 11, (rows, 1)))
        mixed = rng.choice([*range(24, 40), 0, 63], rows)
        yield f"rows about 32, {states} {lanes} {rows}", refenc_tensor.tensor(
            refdec.LOSSY[i % 4], (rows, 24), k, states=states, lanes=lanes, row_classes=mixed)
        columns = rng.integers(-6, 7, 24)
        yield f"columns across 32, {states} {lanes} {rows}", refenc_tensor.tensor(
            "F32", (rows, 24), k, states=states, lanes=lanes, row_classes=[31] * rows, col_classes=columns,
            fields={"sides": refenc_tensor.sides(col_classes=columns)}, tile_rows=33, tile_cols=13)
    columns = np.arange(-64, 64)
    yield "every sum of classes", refenc_tensor.tensor(
        "F32", (7, 128), indices(rng, 7, 128, 300), row_classes=[0, 10, 32, 31, 63, 64, 127], col_classes=columns,
        lanes=32, fields={"sides": refenc_tensor.sides(col_classes=columns)})
    every = np.arange(64)
    k = (rng.normal(0, 1, (64, 20)) * 2.0 ** ((every[:, None] - 20) / 4)).round().clip(-16384, 16383)
    for fine in (-16, 16):
        yield f"every class, fine {fine}", refenc_tensor.tensor("F64", (64, 20), k, row_classes=every, fine=fine)
    yield "escapes with low bits", refenc_tensor.tensor(
        "F32", (16, 12), rng.choice([-16384, -9000, -8192, 8191, 16383, 0], (16, 12)), row_classes=[31, 32, 36, 59] * 4)


def tensor_means(rng):
    """A mean with those of columns and without, with everything else that is added or taken off."""
    k = indices(rng, 24, 40)
    make = lambda mean, flags=0, dtype="F32", sides=b"", **fields: refenc_tensor.tensor(
        dtype, (40, 24) if flags & 32 else (24, 40), k, flags=flags, mean=mean, fields={"sides": sides, **fields},
        tile_rows=16, tile_cols=19)
    levels = rng.integers(-128, 128, 40)
    largest, columns = float(np.finfo(np.float32).max), lambda e: refenc_tensor.sides(40, means=(e, levels))
    for dtype, flags in itertools.product(refdec.LOSSY, (0, 1, 32, 33)):
        yield f"mean {dtype} flags {flags}", make(-1.37, flags, dtype, seed=5 * (flags & 1))
        yield f"means {dtype} flags {flags}", make(0.21, flags | 8, dtype, columns(-6), seed=5 * (flags & 1))
    for mean in (0.0, -0.0, 1e-45, -largest, largest):
        yield f"mean {mean}", make(mean, step=1e-45, centroids=(-128,) * 8)
        yield f"means about {mean}", make(mean, 8, sides=columns(-128), step=1e-45, centroids=(-128,) * 8)
    yield "means that take each other away", make(-1.5, 8, sides=refenc_tensor.sides(40, means=(-1, [3] * 40)))
    yield "largest mean less a column's", make(largest, 8, sides=refenc_tensor.sides(40, means=(120, [-1] * 40)))
    yield "mean, classes and steps", make(3.5, 16, sides=refenc_tensor.sides(40, [0] * 40, levels // 2))
    yield "mean and a transform", make(3.5, 8, sides=columns(-4), transform=0x23)


def tensor_points(rng):
    """The first and the last point, all, those of one end; the centroids are not looked at."""
    near = rng.integers(-20, 20, (40, 30))
    moves = rng.integers(-128, 128, 64).tolist()
    for i, (dtype, lanes, states) in enumerate(itertools.product(refdec.LOSSY, (8, 32), (0, 4))):
        for what, points in (("first", (-32, [-128])), ("last", (31, [127])), ("0", (0, [-77])), ("all", (-32, moves)),
                             ("some", (-5, moves[:11]))):
            yield f"points {what} {dtype} {lanes} {states}", refenc_tensor.tensor(
                dtype, (40, 30), near, lanes=lanes, states=states, points=points,
                fields={"centroids": moves[:8], "step": 0.37}, tile_rows=33, tile_cols=13)
    every = np.arange(-50, 50).reshape(10, 10)
    for lanes in (8, 32):
        yield f"every point, {lanes}", refenc_tensor.tensor("F64", (10, 10), every, states=0, lanes=lanes, points=(-32, moves))
    yield "points, means and steps", refenc_tensor.tensor(
        "F32", (40, 30), near, points=(-32, moves), mean=7.5, flags=24, row_classes=[33, 20] * 20,
        col_classes=[3] * 30, models={36: (5, 0), 37: (6, 1)}, fields={"sides": refenc_tensor.sides(30, [3] * 30, [-4] * 30, (0, [1] * 30))})
    yield "points, rotated and transposed", refenc_tensor.tensor(
        "BF16", (30, 40), near, points=(-32, moves), flags=33, fields={"seed": 3})
    yield "points and a transform", refenc_tensor.tensor(
        "F16", (40, 30), near, points=(-32, moves), fields={"transform": 0x32})


def tensor_values(rng):
    """Transforms, rotation, lists, transposed; values that overflow on the way or at the end."""
    def lists(number, values):
        return refenc.runs([(0, 3, b"\0\0\xc0\x7f"), (5, 1, b"\1\2\3\4"), (values - 1, 1, b"\0\0\x80\xff")])

    for i, (down, along) in enumerate(itertools.product((0, 2, 3, 4, 5), repeat=2)):
        rows, cols, k = 70, 40 + i, indices(rng, 70, 40 + i)
        centroids = rng.integers(-128, 128, 8).tolist()
        fields = {"transform": down | along << 4, "step": 0.1 * (i + 1), "centroids": centroids}
        flags = (0, 32, 4, 36)[i % 4]
        dims = (cols, rows) if flags & 32 else (rows, cols)
        yield f"transform {down} {along} flags {flags}", refenc_tensor.tensor(
            "F32", dims, k, flags=flags, fields=fields, side=lists if flags & 4 else None,
            row_classes=rng.integers(0, 64, rows), tile_rows=48, tile_cols=33, lanes=32)
    for down, along in ((6, 0), (0, 6), (7, 0), (0, 7), (8, 0), (0, 8), (2, 8), (6, 7)):
        rows, cols = (1 << down) + 6, (1 << along) + 3
        yield f"long transform {down} {along}", refenc_tensor.tensor(
            "F32", (rows, cols), indices(rng, rows, cols), fields={"transform": down | along << 4})
    k = indices(rng, 30, 20)
    for dtype, flags in itertools.product(refdec.LOSSY, (1, 33, 41)):
        means = refenc_tensor.sides(20, means=(-5, rng.integers(-128, 128, 20))) if flags & 8 else b""
        yield f"{dtype} flags {flags}", refenc_tensor.tensor(dtype, (20, 30) if flags & 32 else (30, 20), k, flags=flags,
                                                             fields={"seed": 2 ** 32 - 1, "sides": means}, tile_rows=16)
    for dtype, step in (("F16", 3000.0), ("BF16", 3e38), ("F32", 3e38), ("F64", 3e38), ("F16", 1e-8), ("F32", 1e-45),
                        ("F32", 0.0)):
        yield f"{dtype} step {step}", refenc_tensor.tensor(dtype, (30, 20), k, fields={"step": step})
    one = np.zeros((4, 4), int)
    one[0, 0] = 30
    yield "overflow before the transform", refenc_tensor.tensor("F32", (4, 4), one, fields={"step": 3e38, "transform": 0x22})


# ---- frames made by hand that are wrong, every checksum right ----------------------------------------------------

def hostile_headers():
    data = bytes(range(96))                     # F32 [4, 6]
    exact = lambda **fields: refenc.exact("F32", (4, 6), data, **fields)
    yield "magic", exact(magic=b"VCLG")
    yield "version 1", exact(version=1)
    yield "codec 4", refenc.frame(4, "F32", (4, 6), struct.pack("<QII", 24, 1, 64), [(data, refdec.hash32(data))])
    yield "codec 255", refenc.frame(255, "F32", (0,), struct.pack("<QII", 8, 1, 64))
    yield "dtype 22", refenc.exact(22, (96,), data)
    yield "rank 17", refenc.exact("F32", (1,) * 15 + (4, 6), data)
    yield "rank 255", exact(rank=255)
    for bit in (0, 1, 2, 3, 31):
        yield f"exact with flag bit {bit}", exact(flags=1 << bit)
    for length in (0, 15, 28, 43, 59, 61, 71, 73, 84, 2 ** 31, 2 ** 32 - 1):
        yield f"H = {length}", exact(H=length)
    right = exact()
    for length in (0, 8, len(right) - 8, len(right) + 8, len(right) - 1, 2 ** 63, 2 ** 64 - 8):
        yield f"F = {length}", exact(F=length)
    yield "F and the frame 8 longer", exact(F=len(right) + 8) + bytes(8)
    yield "F and the frame 8 shorter", exact(F=len(right) - 8)[:-8]
    yield "padding not zero", refenc.exact("U8", (3,), b"abc", padding=1)
    yield "cut inside the header", right[:40]
    yield "nothing but magic", b"VCLF" + bytes(4)
    for dims in ((2 ** 32, 2 ** 32), (2 ** 63,), (2 ** 64 - 1,), (2 ** 62, 2 ** 62), (2 ** 33, 2 ** 31, 3), (2 ** 58,),
                 (2 ** 16,) * 8, (2 ** 60, 24)):
        part = struct.pack("<QII", 24, 1, 64)
        yield f"dims {dims}", refenc.frame(1, "F32", dims, part, [(data, refdec.hash32(data))])
    half = [(b"ab", refdec.hash32(b"ab"))]
    yield "F4 of half a byte", refenc.frame(1, "F4", (3,), struct.pack("<QII", 3, 1, 64), half)


def hostile_tiles():
    data = bytes(range(96))
    tile = [(data, refdec.hash32(data))]
    made = lambda cols, rows, width, tiles=tile, **fields: refenc.frame(
        1, "F32", (4, 6), struct.pack("<QII", cols, rows, width), tiles, **fields)
    yield "cols 0", made(0, 1, 64)
    yield "cols do not divide", made(7, 4, 64)
    yield "cols beyond the values", made(48, 1, 64)
    yield "cols 2^64-1", made(2 ** 64 - 1, 1, 64)
    yield "tile_rows 0", made(24, 0, 64)
    yield "tile_cols 0", made(24, 1, 0)
    yield "tile of 2^25", made(24, 1 << 12, 1 << 13)
    yield "tile of almost 2^64", made(24, 2 ** 32 - 1, 2 ** 32 - 1)
    yield "tile sides whose product wraps to 0", made(24, 2 ** 31, 2)
    yield "no tiles", made(24, 1, 64, [])
    yield "a tile too many", made(24, 1, 64, tile + [(b"", refdec.hash32(b""))])
    yield "table for more tiles than T", made(24, 1, 64, tile * 2)
    yield "table for fewer tiles than T", made(6, 1, 6)
    yield "half an entry more", made(24, 1, 64, table=struct.pack("<IIIQ", 96, refdec.hash32(data), tile[0][1], 0))
    yield "stored hash", made(24, 1, 64, table=struct.pack("<III", 96, refdec.hash32(data) ^ 1, tile[0][1]))
    yield "decoded hash", made(24, 1, 64, [(data, tile[0][1] ^ 1)])
    yield "stored size 2^32-1", made(24, 1, 64, table=struct.pack("<III", 2 ** 32 - 1, refdec.hash32(data), tile[0][1]))
    for piece in (b"", data[:92], data + bytes(8)):
        yield f"exact tile of {len(piece)} bytes", made(24, 1, 64, [(piece, tile[0][1])])
    halves = [(data[:40], refdec.hash32(data[:40])), (data[40:], refdec.hash32(data[40:]))]
    yield "bytes in the wrong tile", made(24, 1, 12, halves)
    nibbles = [(b"\x12\x30", refdec.hash32(b"\x12\x30"))] * 2
    yield "F4 rows of a byte and a half", refenc.frame(1, "F4", (2, 3), struct.pack("<QII", 3, 1, 8), nibbles)
    yield "F4 tiles of a byte and a half", refenc.frame(1, "F4", (6,), struct.pack("<QII", 6, 1, 3), nibbles)


def hostile_aliases():
    """Names are those of test_hostile's files."""
    alias = lambda target="good", **fields: refenc.alias("F32", (2, 2), target, **fields)
    part = lambda length, name, filler=0: refenc.frame(0, "F32", (2, 2), refenc.alias_part(length, name, filler))
    yield "alias of itself", alias("victim")
    yield "alias of an alias", alias("good alias")
    yield "alias of nothing", alias("missing")
    yield "alias of __metadata__", alias("__metadata__")
    yield "alias of the start of a name", alias("goo")
    yield "alias of other shape", refenc.alias("F32", (4,), "good")
    yield "alias of other rank", refenc.alias("F32", (2, 2, 1), "good")
    yield "alias of other dtype", refenc.alias("I32", (2, 2), "good")
    yield "alias without a name", part(0, b"")
    yield "alias with less name than L", part(6, b"good")
    yield "alias with more name than L", part(4, b"goodgood")
    yield "alias with padding not zero", part(4, b"good", 1)
    yield "alias without padding", refenc.frame(0, "F32", (2, 2), struct.pack("<I", 4) + b"good")
    yield "alias with more padding", part(4, b"good" + bytes(8))
    yield "alias with L 2^32-1", part(2 ** 32 - 1, b"good")
    yield "alias name too long", part(65536, b"g" * 65536)
    yield "alias name not UTF-8", alias(b"\xff\xfe")
    yield "alias name with NUL", alias(b"good\0")
    yield "alias with a tile", alias(tiles=[(b"", refdec.hash32(b""))])
    for bit in (0, 1, 2):
        yield f"alias with flag bit {bit}", alias(flags=1 << bit)


def hostile_video():
    rng = np.random.default_rng(SEED)
    q = refenc.samples(rng, (64, 64), 8)
    stream = refenc.encode_picture(3, q, 8)
    good = refenc.video(3, "F32", (64, 64), q, picture=lambda i, s: stream)
    value_hash = refdec.Frame(good).tiles[0][3]

    def made(content=stream, codec=3, dtype="F32", part=None, flags=0, dims=(64, 64), sides=(64, 64), **fields):
        header = refenc.video_part(dims[1], *sides, **(part or {}))
        return refenc.frame(codec, dtype, dims, header, [(content, value_hash)], flags=flags, **fields)

    assert made() == good
    for dtype in ("I32", "F8_E4M3", "F4", "C64"):
        yield f"video of {dtype}", made(dtype=dtype)
    for depth in (0, 7, 9, 10, 11, 12, 16, 255):
        yield f"depth {depth}", made(part={"depth": depth})
    for name, value in (("chroma", 2), ("zero", 1), ("zero", 256), ("step", -1.0), ("step", float("nan")),
                        ("step", float("inf")), ("step", -0.0), ("snr", float("nan")), ("seed", 1)):
        yield f"{name} {value}", made(part={name: value})
    for bit in (3, 16, 31):
        yield f"video with flag bit {bit}", made(flags=1 << bit)
    nan = b"\0\0\xc0\x7f"
    for name, entries in (("out of order", [(9, 1, nan), (3, 1, nan)]), ("overlapping", [(3, 4, nan), (6, 2, nan)]),
                          ("twice", [(3, 1, nan), (3, 1, nan)]), ("out of the tile", [(4090, 7, nan)]),
                          ("starting beyond the tile", [(4096, 1, nan)]), ("empty", [(3, 0, nan)]),
                          ("of 2^32-1", [(1, 2 ** 32 - 1, nan)])):
        yield f"runs {name}", made(refenc.runs(entries) + stream, flags=4)
    yield "runs cut off", made(refenc.runs([(3, 1, nan)])[:-1], flags=4)
    yield "number of runs cut off", made(b"\0\0\0", flags=4)
    for count in (2 ** 31, 2 ** 32 - 1, 2 ** 30 + 1):
        yield f"{count} runs", made(struct.pack("<I", count) + stream, flags=4)
    for name, scale in (("negative", 0xBF80), ("minus zero", 0x8000), ("infinite", 0x7F80), ("NaN", 0x7FC0)):
        yield f"row scale {name}", made(struct.pack("<64H", *[0x3F80] * 63, scale) + stream, flags=2)
    yield "row scales cut off", made(struct.pack("<63H", *[0x3F80] * 63), flags=2)
    yield from hostile_streams(made, stream, q, rng)


def hostile_streams(made, stream, q, rng):
    yield "no stream", made(b"")
    yield "stream of zeros", made(bytes(500))
    yield "stream of noise", made(rng.bytes(500))
    yield "start codes and noise", made(b"".join(b"\0\0\1" + rng.bytes(40) for _ in range(20)))
    yield "parameter sets only", made(stream[:60])
    yield "stream cut in half", made(stream[:len(stream) // 2])
    yield "two pictures", made(stream + stream)
    yield "H.265 in an H.264 frame", made(codec=2)
    yield "H.264 in an H.265 frame", made(refenc.encode_picture(2, q, 8))
    yield "10 bits in an 8-bit frame", made(refenc.encode_picture(3, q, 10))
    for height, width in ((64, 72), (72, 64), (128, 128), (64, 4096)):
        picture = np.full((height, width), 128)
        picture[:64, :64] = q
        for codec in (2, 3):
            yield f"codec {codec}: picture of {width}x{height}", made(refenc.encode_picture(codec, picture, 8), codec)
    big = refenc.encode_picture(3, np.full((64, 8192), 128), 8)
    yield "picture wider than the limit", made(big)
    yield "tile whose picture is wider than the limit", made(big, dims=(64, 4104), sides=(64, 4104))


def levels_frame(dtype, n, tile):
    values = refdec.decode_levels(dtype, tile, 0, n)[0].tobytes()
    return refenc.lossless(dtype, (n // 2,) if dtype == "C64" else (n,), values, tile)


def palettes(rng):
    """Codec 5's levels without scales: every width, bits of codes, planes of codes, with literals and without."""
    for dtype in ("I8", "F16", "BF16", "I32", "F32", "C64", "F64", "U64"):
        width = refdec.number_bytes(dtype)
        for bits, count in ((1, 1), (1, 2), (2, 3), (2, 4), (4, 9), (8, 200), (8, 255)):
            for n, plane in ((1030, refenc.rans), (5002, lambda data: b"\0" + data)):
                codes = rng.integers(0, count + (count < 1 << bits and width > 1), n)
                levels = np.frombuffer(rng.bytes(width * count), f"<u{width}")
                own = rng.bytes(width * int((codes == count).sum()))
                tile = refenc.levels_tile(codes, levels, bits=bits, literals=b"\0" + own if own else b"", plane=plane)
                if len(tile) <= width * n + 1:
                    yield f"{dtype} {bits} bits, {count} levels, {n}", levels_frame(dtype, n, tile)
    codes, own = np.full(3000, 2), rng.normal(size=3000).astype("<f4").tobytes()
    coded = refenc.lossless_tile("F32", own, [refenc.rans] * 4)
    yield "nothing but literals", levels_frame("F32", 3000, refenc.levels_tile(
        codes, np.zeros(2, "<u4"), bits=2, literals=coded, plane=lambda data: b"\1" + data[:1]))


def scaled_levels(rng):
    """Levels with scales, with offsets and without: dtypes and roundings, first segments, products and sums that are
    infinite, tiny or -0."""
    levels = np.array([0, -0.0, 1, -1, 1.5, -7, 65504, 1e38, 3e-39, 2 ** -24, .1], "<f4")
    draw = lambda n: (rng.normal(size=n) * 10.0 ** rng.integers(-40, 2, n)).astype("<f4")
    for dtype, rounding in (("F16", "F16"), ("BF16", "BF16"), ("F32", "F16"), ("F32", "BF16"), ("F32", "F32")):
        for n, group, first in ((1, 16, 1), (800, 16, 16), (4500, 33, 7), (4500, 5000, 4999), (9000, 1000, 905)):
            codes = rng.integers(0, len(levels) + 1, n)
            width, segments = refdec.number_bytes(dtype), 1 + max(0, -(-(n - first) // group))
            scales, own = draw(segments), rng.bytes(width * int((codes == len(levels)).sum()))
            offsets = [np.where(rng.integers(0, 3, segments), draw(segments), -scales).astype("<f4"), -0 * scales]
            for k, offset in enumerate([b""] + [b"\0" + x.tobytes() for x in offsets]):
                tile = refenc.levels_tile(codes, levels, bits=4, rounding=refdec.CODES[rounding], group=group,
                                          first=first, scales=b"\0" + scales.tobytes(), offsets=offset,
                                          literals=b"\0" + own if own else b"")
                if len(tile) <= width * n + 1:
                    yield f"{dtype} of {rounding}, {n} in segments of {group}, {k}", levels_frame(dtype, n, tile)


def inner_levels(rng):
    """Scales and offsets that lie on levels themselves: of a palette, of scales of their own, with literals."""
    levels = np.arange(16, dtype="<f4")
    for dtype, n, group, first in (("F32", 9000, 16, 3), ("BF16", 9000, 32, 32), ("F16", 700, 16, 16)):
        segments = 1 + -(-(n - first) // group)
        few = refenc.levels_tile(rng.integers(0, 3, segments), np.array([.5, .75, -2], "<f4").view("<u4"), bits=2)
        kinds = [b"\0" + rng.normal(size=segments).astype("<f4").tobytes(), few]
        for each, start in ((8, 8), (9, 4), (16, 1)):
            codes, count = rng.integers(0, 4, segments), 1 + max(0, -(-(segments - start) // each))
            own = rng.normal(size=int((codes == 3).sum())).astype("<f4").tobytes()
            scales = refenc.lossless_tile("F32", rng.normal(size=count).astype("<f4").tobytes(),
                                          [lambda data: b"\0" + data] * 4)
            kinds.append(refenc.levels_tile(codes, np.array([1, -3, 63], "<f4"), rounding=refdec.CODES["F32"],
                                            group=each, first=start, scales=scales, literals=b"\0" + own))
        for k, scales in enumerate(kinds):
            codes = rng.integers(0, 16, n)
            tile = refenc.levels_tile(codes, levels, bits=4, rounding=refdec.CODES[dtype], group=group, first=first,
                                      scales=scales, offsets=kinds[-1 - k] if k else b"", plane=refenc.rans)
            yield f"{dtype} {n} with scales of kind {k}", levels_frame(dtype, n, tile)


def hostile_levels():
    """Everything here is about one tile of 700 BF16 values, a scale for every 32."""
    rng = np.random.default_rng(SEED)
    codes = np.minimum(rng.integers(0, 70, 700) // 10, 3)
    levels, bf16 = np.array([-1, 0, 1], "<f4"), refdec.CODES["BF16"]
    scales, own = np.full(22, .5, "<f4"), b"\0" + rng.bytes(2 * int((codes == 3).sum()))
    right = dict(bits=2, rounding=bf16, group=32, first=30, scales=b"\0" + scales.tobytes(), literals=own)
    values = refdec.decode_levels("BF16", refenc.levels_tile(codes, levels, **right), 0, 700)[0].tobytes()
    made = lambda tile, dtype="BF16": refenc.lossless(dtype, (700,), values, tile)
    with_ = lambda levels=levels, codes=codes, **more: made(refenc.levels_tile(codes, levels, **{**right, **more}))
    aside = int((codes == 3).sum())
    for bits in (0, 3, 5, 16, 255):
        tile = refenc.levels_tile(codes, levels, **right)
        yield f"{bits} bits of a code", made(tile[:1] + bytes([bits]) + tile[2:])
    yield "no levels", with_(count=0)
    yield "more levels than codes", with_(np.zeros(5, "<f4"))
    yield "more levels than there are bytes", with_(bits=8, count=255)
    yield "as many levels as codes, and literals", with_(np.zeros(4, "<f4"), aside=aside)
    for number in (0, aside - 1, aside + 1, 701, 2 ** 32 - 1):
        yield f"{number} literals", with_(aside=number)
    yield "a literal less", with_(aside=aside - 1, literals=own[:-2])
    yield "a literal more", with_(aside=aside + 1, literals=own + b"ab")
    yield "literals in mode 3", with_(literals=b"\3" + own[1:])
    yield "literals cut off", made(refenc.levels_tile(codes, levels, **right)[:130])
    yield "code of no level", with_(codes=np.where(codes == 0, 5, codes), bits=4)
    for group, first in ((1, 1), (15, 15), (32, 0), (32, 33), (2 ** 32 - 1, 0), (0, 30)):
        yield f"segments of {group}, the first of {first}", with_(group=group, first=first)
    for rounding in (0, refdec.CODES["F16"], refdec.CODES["F32"], refdec.CODES["F64"], 255):
        yield f"rounding {rounding}", with_(rounding=rounding)
    for number in (np.inf, -np.inf, np.nan):
        yield f"level {number}", with_(np.array([-1, number, 1], "<f4"))
        last = np.where(np.arange(22) == 21, number, scales).astype("<f4")
        yield f"scale {number}", with_(scales=b"\0" + last.tobytes())
        yield f"offset {number}", with_(offsets=b"\0" + last.tobytes())
    yield "a scale less", with_(scales=b"\0" + scales[1:].tobytes())
    yield "scales in mode 3", with_(scales=b"\3" + scales.tobytes())
    yield "scales of mode 4", with_(scales=b"\4" + scales.tobytes())
    inner = dict(bits=1, rounding=refdec.CODES["F32"], group=8, first=8, scales=b"\0" + scales[:3].tobytes())
    inner_ = lambda **more: refenc.levels_tile(np.zeros(22, int), np.ones(2, "<f4"), **{**inner, **more})
    yield "inner scales of 7", with_(scales=inner_(group=7, first=1))
    yield "inner scales with offsets", with_(scales=inner_(offsets=inner["scales"]))
    yield "inner scales in mode 3", with_(scales=inner_(scales=inner_(scales=b"\0" + scales[:1].tobytes())))
    yield "inner scale too few", with_(scales=inner_(scales=b"\0" + scales[:2].tobytes()))
    yield "inner scale that is infinite", with_(scales=inner_(scales=b"\0" + np.full(3, np.inf, "<f4").tobytes()))
    yield "inner product that is infinite", with_(scales=inner_(scales=b"\0" + np.full(3, 3e38, "<f4").tobytes())
                                                  .replace(np.ones(1, "<f4").tobytes(), np.full(1, 9, "<f4").tobytes()))
    yield "inner scales rounded to F64", with_(scales=inner_(rounding=refdec.CODES["F64"]))
    yield "inner codes cut off", with_(scales=inner_()[:-2])
    yield "no offsets in mode 4", with_(mode=4)
    yield "offsets in mode 3", with_(mode=3, offsets=b"\0" + scales.tobytes())
    yield "an offset less", with_(offsets=b"\0" + scales[1:].tobytes())
    yield "an offset more", with_(offsets=b"\0" + scales.tobytes() + b"abcd")
    yield "offsets of mode 4", with_(offsets=b"\4" + scales.tobytes())
    yield "offsets without scales", with_(np.frombuffer(b"abcdef", "<u2"), mode=4, rounding=0, group=0, first=0,
                                          scales=b"", offsets=b"\0" + scales.tobytes())
    yield "mode 5", with_(mode=5)
    yield "scales for I16", made(refenc.levels_tile(codes, levels, **right), "I16")
    tile = refenc.levels_tile(codes, levels, **right)
    for n in (1, 2, 15, 16, 20, 28, 29, 100, 117, len(tile) - 1):
        yield f"{n} bytes of levels", made(tile[:n])
    yield "a byte after the codes", made(tile + b"\0")


def hostile_lossless():
    """Everything here is about one tile of 700 BF16 values."""
    rng = np.random.default_rng(SEED)
    values = (rng.normal(size=700).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    raw = lambda data: b"\0" + data
    coded = {}

    def rans(data):
        coded["plane"] = refenc.rans(data)
        return coded["plane"]

    made = lambda tile, dtype="BF16": refenc.lossless(dtype, (700,), values, tile)
    tile = refenc.lossless_tile("BF16", values, [rans, raw])
    narrow = refenc.lossless_tile("BF16", values, [refenc.rans, refenc.packed], 20)
    plane = coded["plane"]
    table_at = 6
    low = tile[1 + len(plane):]
    frequencies = refdec.read_table(plane, table_at)[0]
    states_at = refdec.read_table(plane, table_at)[1]

    def changed(at, new):
        return b"\1" + plane[:at] + new + plane[at + len(new):] + low

    yield "no bytes", made(b"")
    yield "tile mode 4", made(b"\4" + tile[1:])
    noise = rng.bytes(80)
    yield "longer than its values", refenc.lossless("U8", (80,), noise, refenc.lossless_tile("U8", noise, [refenc.rans]))
    for n in (1, 2, 6, 20, len(plane), len(plane) + 1, len(plane) + 2, len(tile) - 1):
        yield f"{n} bytes of it", made(tile[:n])
    yield "a byte more", made(tile + b"\0")
    yield "raw with a byte more", made(b"\0" + values + b"\0")
    yield "raw with a byte less", made(b"\0" + values[:-1])
    yield "narrow without base", made(b"\2")
    yield "narrow with another base", made(b"\2\x15" + narrow[2:])
    yield "narrow F16", made(narrow, "F16")
    yield "plane mode 4", made(changed(0, b"\4"))
    for size in (0, 1, len(plane) - 6, len(plane) - 4, 2 ** 31, 2 ** 32 - 1):
        yield f"plane of {size} bytes", made(changed(1, struct.pack("<I", size)))
    for bits in (1, 2, 3, 8, 255):
        yield f"{bits} bits of class", made(changed(5, bytes([bits])))
    yield "last symbol before the first", made(changed(table_at, bytes([9, 8])))
    yield "no frequencies", made(changed(table_at, bytes([7, 7, 0])))
    yield "length of a frequency 15", made(changed(table_at + 2, b"\xff"))
    yield "length of a frequency 13", made(changed(table_at, bytes([7, 7, 13, 0])))
    for f in ([4095] + [0] * 255, [2048] * 3 + [0] * 253):
        table = refenc.table(f)
        yield f"frequencies of sum {sum(f)}", made(changed(table_at, table))
    yield "frequencies of another sum", made(b"\1" + plane[:table_at] + refenc.table(
        [f + (f == max(frequencies)) for f in frequencies]) + plane[states_at:] + low)
    for state in (0, 1, 65535):
        yield f"state {state}", made(changed(states_at + 4, struct.pack("<I", state)))
    yield "another state", made(changed(states_at + 8, struct.pack("<I", 0xFFFFFFFF)))
    yield "another word", made(changed(len(plane) - 2, bytes([plane[-2] ^ 255])))
    for more in (1, 2):
        yield f"{more} bytes after the words", made(
            b"\1" + plane[:1] + struct.pack("<I", len(plane) - 5 + more) + plane[5:] + bytes(more) + low)
    yield "a word less", made(b"\1" + plane[:1] + struct.pack("<I", len(plane) - 7) + plane[5:-2] + low)
    yield "with a flag", refenc.lossless("BF16", (700,), values, tile, flags=1)
    yield from hostile_levels()


def hostile_tensor():
    """Headers and side data; everything is about 20 x 30 values in F32, some of them escapes, unless said."""
    rng = np.random.default_rng(SEED)
    k = indices(rng, 20, 30)
    tile = refenc_tensor.join(refenc_tensor.tile(k))
    value_hash = refdec.Frame(refenc_tensor.tensor("F32", (20, 30), k)).tiles[0][3]

    def made(content=tile, dtype="F32", dims=(20, 30), cut=(20, 30), cols=30, flags=0, **fields):
        return refenc.frame(refdec.TENSOR, dtype, dims, refenc_tensor.part(cols, *cut, **fields), [(content, value_hash)],
                            flags=flags)

    assert made() == refenc_tensor.tensor("F32", (20, 30), k)
    for dtype in ("I32", "F8_E4M3", "F4", "C64"):
        yield f"tensor of {dtype}", made(dtype=dtype)
    for name, values in (("states", (1, 9, 255)), ("lanes", (0, 1, 7, 9, 16, 31, 33, 255)), ("reserved", (1, 8, 255)),
                         ("shape", (8, 255)), ("fine", (-17, 17, -128, 127)), ("zero", (1, 256)), ("seed", (1,)),
                         ("transform", (1, 9, 15, 16, 144, 240, 255)), ("snr", (float("nan"),)),
                         ("step", (-1.0, -0.0, float("nan"), float("inf")))):
        for value in values:
            yield f"{name} {value}", made(**{name: value})
    for bit in (1, 10, 16, 31):
        yield f"tensor with flag bit {bit}", made(flags=1 << bit)
    yield "rows that become too many lanes", made(dims=(1, 1 << 20), cut=(1, 1 << 20), cols=1 << 20)
    yield "rows that become too many lanes of 32", made(cut=((1 << 17) - 31, 32), lanes=32)
    yield "tile of 2^23", made(cut=(1 << 12, 1 << 11))
    yield "S cut off", made(size=1)
    yield "S 2^32-1", made(size=2 ** 32 - 1)
    yield from hostile_columns(made)
    yield from hostile_models(made)
    yield from hostile_points(made)
    yield from hostile_tensor_tiles(rng, made, k)


def hostile_columns(made):
    classes, right = [5] + [0] * 29, refenc_tensor.class_list([5] + [0] * 29)
    means = 0, [1, 2] * 15
    for what, data in (("of one byte", b"\0"), ("empty", b"\0\0"), ("a byte short", right[:-1]),
                       ("a byte long", right + b"\0"), ("of ones", b"\0\0" + b"\xff" * 200),
                       ("with parameter 6", right[:1] + b"\6" + right[2:]),
                       ("with parameter 7", right[:1] + b"\7" + right[2:]),
                       ("with parameter 255", right[:1] + b"\xff" + right[2:]),
                       ("above 127", refenc_tensor.class_list([127] + [128] * 29)),
                       ("below -128", refenc_tensor.class_list([-128] + [-129] * 29)), ("twice", right * 2)):
        yield f"column classes {what}", made(sides=data)
    only = lambda **lists: refenc_tensor.sides(30, **lists)
    yield "no means", made(sides=b"", flags=8)
    yield "means without classes", made(sides=b"\0" + right, flags=8)
    yield "no means after classes", made(sides=right, flags=8)
    yield "means of an exponent only", made(sides=right + b"\0", flags=8)
    yield "means cut off", made(sides=only(means=means)[:-2], flags=8)
    yield "means and a byte", made(sides=only(means=means) + b"\0", flags=8)
    yield "infinite mean", made(sides=only(means=(122, [127] * 30)), flags=8)
    yield "infinite negative mean", made(sides=only(means=(127, [0] * 29 + [-2])), flags=8)
    yield "means without the flag", made(sides=only(means=means))
    yield "no steps", made(sides=b"", flags=16)
    yield "steps without classes", made(sides=right, flags=16)
    yield "steps without the flag", made(sides=only(col_classes=classes, exponents=classes))
    for exponent in (-128, -65, 65, 127):
        yield f"step exponent {exponent}", made(sides=only(col_classes=classes, exponents=[exponent] * 30), flags=16)
    yield "infinite step", made(sides=only(col_classes=classes, exponents=[1] * 30), flags=16, step=3e38)


def hostile_models(made):
    own = lambda data, flags=64: made(sides=data, flags=flags)
    for what, data in (("nothing", b""), ("one byte", b"\5"), ("none", b"\5\0"), ("cut off", b"\5\2\0"),
                       ("65", bytes([0, 65] + [128] * 65)), ("63 and 64", bytes([63, 2, 128, 128])),
                       ("from 64", bytes([64, 1, 128])), ("from 255", bytes([255, 2, 1, 1]))):
        yield f"class models: {what}", own(data)
    yield "class models without the flag", made(sides=refenc_tensor.class_models({16: (1, 0)}))
    yield "class models and a byte", own(bytes([16, 1, 128, 0]))
    flat = refenc.table([16] * 64)
    good = b"\1\x10" + flat + flat
    short, high = refenc.table([17] + [16] * 62 + [14]), refenc.table([0] * 64 + [512, 512])
    every = b"\x41" + b"".join(bytes([t]) + flat * 2 for t in range(65))
    for what, data in (("nothing", b""), ("none", b"\0"), ("65", every),
                       ("of class 64", b"\1\x40" + flat * 2), ("of class 255", b"\1\xff" + flat * 2),
                       ("twice", b"\2" + good[1:] * 2), ("not in order", b"\2\x10" + flat * 2 + b"\x0f" + flat * 2),
                       ("cut off", good[:-1]), ("of one codebook", b"\1\x10" + flat), ("two said", b"\2" + good[1:]),
                       ("and a byte", good + b"\0"), ("of sum 1023", b"\1\x10" + short + flat),
                       ("of symbol 64", b"\1\x10" + flat + high),
                       ("of sum 4096", b"\1\x10" + refenc.table([64] * 64) + flat),
                       ("of one symbol", b"\1\x10" + refenc.table([1024] + [0] * 63) + flat),
                       ("backwards", b"\1\x10\x3f\0" + flat[2:] + flat),
                       ("with length 13", b"\1\x10\0\x3f\xdd" + flat[3:] + flat)):
        yield f"tables: {what}", own(data, 128)
    yield "tables without the flag", made(sides=good)
    nothing = [512 if y in (40, 41) else 0 for y in range(64)]      # the tile's symbols are others
    yield "tables of other symbols", own(refenc_tensor.tables_of({16: (nothing, nothing)}), 128)


def hostile_points(made):
    """The mean and the points, alone and together with lists."""
    f32 = lambda mean: struct.pack("<f", mean)
    means, points = refenc_tensor.sides(30, means=(0, [1, 2] * 15)), refenc_tensor.points_of
    for mean in (float("nan"), float("inf"), -float("inf")):
        yield f"mean {mean}", made(sides=f32(mean), flags=256)
    yield "mean and a column's that overflow", made(sides=f32(3.4e38) + refenc_tensor.sides(30, means=(120, [127] * 30)),
                                                    flags=264)
    yield "infinite column mean less a mean", made(sides=f32(-3.4e38) + refenc_tensor.sides(30, means=(122, [127] * 30)),
                                                   flags=264)
    for n in range(4):
        yield f"mean cut to {n}", made(sides=f32(1)[:n], flags=256)
    yield "mean and a byte", made(sides=f32(1) + b"\0", flags=256)
    yield "mean without the flag", made(sides=f32(1))
    yield "mean behind the points", made(sides=points(0, [0] * 9) + f32(1), flags=768)
    yield "mean but no means of columns", made(sides=f32(1), flags=264)
    yield "means of columns but no mean", made(sides=means, flags=256)
    for what, data in (("nothing", b""), ("one byte", b"\0"), ("none", points(0, [])), ("none said", points(0, [1], 0)),
                       ("32", points(32, [1])), ("-33", points(-33, [1])), ("127", points(127, [1])),
                       ("-128", points(-128, [1])), ("31 and 32", points(31, [1, 1])), ("33 from 0", points(0, [1] * 33)),
                       ("65", points(-32, [1] * 65)), ("255 said", points(-32, [1] * 64, 255)),
                       ("cut off", points(-32, [1] * 63, 64)), ("and a byte", points(-32, [1] * 64) + b"\0")):
        yield f"points: {what}", made(sides=data, flags=512)
    yield "points without the flag", made(sides=points(-32, [1] * 64))
    yield "points behind the classes", made(sides=refenc_tensor.class_list([1] * 30, 6) + points(0, [1]), flags=512)


def hostile_tensor_tiles(rng, made, k):
    parts = refenc_tensor.tile(k)
    good = lambda size=None, **changed: refenc_tensor.join({**parts, **changed}, size)
    tile, states, words, escapes, rows = good(), parts["states"], parts["words"], parts["escapes"], parts["rows"]
    changed = lambda numbers, at, new: [*numbers[:at], new, *numbers[at + 1:]]
    assert len(escapes) > 4 and len(words) > 4
    for size in (*range(45), len(tile) - 2, len(tile) - 1):
        yield f"tensor tile cut to {size}", made(tile[:size])
    for more in (1, 2, 3):
        yield f"tensor tile with {more} bytes more", made(tile + bytes(more))
    yield "tensor tile of 2^20 zeros", made(bytes(1 << 20))
    yield "tensor tile of noise", made(rng.bytes(len(tile)))
    yield "row classes with parameter 6", made(good(rows=rows[:1] + b"\6" + rows[2:]))
    yield "row classes of ones", made(good(rows=b"\0\0" + b"\xff" * 100))
    yield "row classes above 127", made(good(rows=refenc_tensor.class_list([127] + [128] * 19)))
    for t in (18, 32, 63):
        yield f"row class {t}", made(good(rows=refenc_tensor.class_list([t] + [16] * 19)))
    for size in (0, len(escapes) - 1, len(escapes) + 1, len(tile), 2 ** 31, 2 ** 32 - 1):
        yield f"{size} bytes of escapes said", made(good(size=size))
    yield "an escape less", made(good(escapes=escapes[:-2]))
    yield "an escape more", made(good(escapes=escapes + b"\2"))
    long = refenc_tensor.tile([[20000 if r == c == 0 else 0 for c in range(30)] for r in range(20)])
    for what, escape in (("of four bytes", b"\x80\x80\x80\0"), ("8192", refenc_tensor.escape(8192)),
                         ("-8193", refenc_tensor.escape(-8193)), ("that does not end", b"\x80\x80"),
                         ("2^21-1", b"\xff\xff\x7f")):
        yield f"escape {what}", made(refenc_tensor.join({**long, "escapes": escape}))
    for state in (0, 1, 65535):
        yield f"lane at {state}", made(good(states=changed(states, 3, state)))
    for lane in range(8):
        yield f"another state of lane {lane}", made(good(states=changed(states, lane, states[lane] ^ 1 << 20)))
    yield "states of 2^32-1", made(good(states=[2 ** 32 - 1] * 8))
    yield "a word less", made(good(words=words[:-1]))
    yield "a word more", made(good(words=[*words, 0]))
    yield "no words", made(good(words=[]))
    yield "another word", made(good(words=changed(words, 2, words[2] ^ 1)))
    yield from hostile_lanes(made)


def hostile_lanes(made):
    few = refenc_tensor.tile(np.ones((3, 200), int))         # of 8 lanes, 5 are idle
    for lane, state in ((3, 65535), (7, 0), (5, 65537)):
        states = [*few["states"][:lane], state, *few["states"][lane + 1:]]
        yield f"idle lane {lane} at {state}", made(refenc_tensor.join({**few, "states": states}), dims=(3, 200),
                                                   cols=200, cut=(3, 200))
    for t, most in ((32, 4096), (36, 2048), (40, 1024), (43, 1024), (60, 32), (63, 32)):
        k, escaped = [[0] * 30 for _ in range(20)], len(refenc_tensor.escape(most - 1))
        k[0][0] = 16383 if t < 60 else -16384
        low = refenc_tensor.tile(k, states=0, rows=[t] * 20)
        for z in (most, -most - 1, 8191):
            one = {**low, "escapes": refenc_tensor.escape(z) + low["escapes"][escaped:]}
            yield f"escape {z} in class {t}", made(refenc_tensor.join(one), states=0)
    nan = b"\0\0\xc0\x7f"
    parts = refenc_tensor.tile(np.ones((20, 30), int))
    for name, entries in (("out of order", [(9, 1, nan), (3, 1, nan)]), ("overlapping", [(3, 4, nan), (6, 2, nan)]),
                          ("out of the tile", [(590, 11, nan)]), ("starting beyond the tile", [(600, 1, nan)]),
                          ("empty", [(3, 0, nan)]), ("of 2^32-1", [(1, 2 ** 32 - 1, nan)])):
        yield f"tensor runs {name}", made(refenc_tensor.join({**parts, "side": refenc.runs(entries)}), flags=4)
    for count in (1, 2 ** 31, 2 ** 32 - 1):
        yield f"{count} tensor runs", made(struct.pack("<I", count) + refenc_tensor.join(parts), flags=4)
    yield "no list", made(b"\0\0\0", flags=4)
    large = refenc_tensor.join(refenc_tensor.tile([[15000, -15000] * 15] * 20))
    yield "NaN from the rotation", made(large, flags=1, step=3e38)
    yield "NaN from the transform", made(large, transform=0x22, step=3e38)


class Hostile(Case):
    seen = 0

    def refused(self, what, victim, but=None):
        """but: what the reason is not.  decompress, which decodes as verify does, writes nothing of some."""
        Hostile.seen += 1
        frames = [("good", refenc.exact("F32", (2, 2), bytes(16))), ("good alias", refenc.alias("F32", (2, 2), "good")),
                  ("victim", victim)]
        path, out = self.write("hostile.safetensors", refenc.container(frames)), self.folder / "out.safetensors"
        with self.subTest(what):
            run = run_vcllm("verify", path)
            self.assertEqual(run.returncode, 1, f"verify: {run.stderr}")
            self.assertIn("hostile.safetensors", run.stderr)
            self.assertIn("victim", run.stderr)
            if but:
                self.assertNotIn(but, run.stderr)
            if LONG or Hostile.seen % (15 if is_sanitized() else 5) == 1:
                run = run_vcllm("decompress", path, "-o", out)
                self.assertEqual(run.returncode, 1, f"decompress: {run.stderr}")
                self.assertEqual(os.listdir(self.folder), ["hostile.safetensors"], "left behind")
            with self.assertRaises(refdec.Bad):
                compressed = refdec.Compressed(path)
                compressed.decode("victim")

    def test_headers(self):
        for what, frame in hostile_headers():
            self.refused(what, frame)

    def test_tiles(self):
        for what, frame in hostile_tiles():
            self.refused(what, frame)

    def test_lossless(self):
        for what, frame in hostile_lossless():
            self.refused(what, frame)

    def test_tensor(self):
        with np.errstate(all="ignore"):
            for what, frame in hostile_tensor():
                self.refused(what, frame, "their checksum")

    def test_aliases(self):
        for what, frame in hostile_aliases():
            self.refused(what, frame)

    def test_video(self):
        for what, frame in hostile_video():
            self.refused(what, frame)

    def test_containers(self):
        """Rules of a compressed file's own header."""
        frame = refenc.exact("U8", (4,), b"abcd")
        right = refenc.container([("victim", frame)], {"a": "b"})
        digest = refdec.File(self.write("right", right)).metadata["vcllm.hash"].encode()
        wrong = {"hash": right.replace(digest, b"0" * 32), "hash cut": right.replace(digest, digest[:31] + b" "),
                 "key": right.replace(b'"a"', b'"c"'), "value": right.replace(b'"b"', b'"c"'),
                 "name": right.replace(b"victim", b"victin"), "hash in capitals": right.replace(digest, digest.upper()),
                 "I8": right.replace(b'"U8"', b'"I8"'), "no hash": right.replace(b"vcllm.hash", b"vcllm.hasi"),
                 "more data": right + b"\0", "less data": right[:-1]}
        self.succeed("verify", self.folder / "right")
        for what, data in wrong.items():
            with self.subTest(what):
                path = self.write("hostile.safetensors", data)
                run = run_vcllm("verify", path)
                self.assertEqual(run.returncode, 1, run.stderr)
                self.assertIn("hostile.safetensors", run.stderr)
                self.assertRaises(refdec.Bad, refdec.Compressed, path)


# ---- what the program writes -------------------------------------------------------------------------------------

SHAPES = [(), (0,), (5, 0, 3), (1, 1), (7,), (13, 17), (127, 131), (1, 8209), (3, 9001), (8209, 3), (5, 40, 50),
          (2, 3, 67, 71), (64, 64), (8, 8, 3, 3)]


def to_bytes(values, dtype):
    """f64 values in a float dtype."""
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).tobytes()


def random_tensors(rng):
    for i, shape in enumerate(SHAPES):
        for dtype in (refdec.LOSSY[i % 4], refdec.LOSSY[(i + 1) % 4]):
            yield f"{dtype} {shape}", dtype, shape, to_bytes(rng.normal(0, 0.02, shape), dtype)
    for dtype in refdec.LOSSY:
        for what, values in odd_values(rng, dtype):
            yield f"{dtype} {what}", dtype, values.shape, to_bytes(values, dtype)


def odd_values(rng, dtype):
    shape = (66, 70)
    normal = rng.normal(0, 1, shape)
    outlier, denormal = {"F16": (6e4, 1e-7), "F64": (1e300, 1e-310)}.get(dtype, (1e38, 1e-40))
    spots = normal.copy()
    spots.reshape(-1)[rng.integers(0, spots.size, 60)] = np.nan
    spots[3, 5:40] = np.inf
    spots[65, 60:] = -np.inf
    yield "with NaN and Inf", spots
    yield "all NaN", np.full(shape, np.nan)
    yield "with an outlier", np.where(np.arange(shape[0] * shape[1]).reshape(shape) == 77, outlier, normal)
    yield "denormal", normal * denormal
    yield "all equal", np.full(shape, -1.5)
    yield "all zero", np.zeros(shape)


class Written(Same):
    def check(self, *options):
        rng = np.random.default_rng(SEED)
        plain = self.write("plain.safetensors", refenc.plain(list(random_tensors(rng)), {"format": "pt"}))
        packed = self.folder / "packed.safetensors"
        with np.errstate(all="ignore"):
            self.succeed("compress", plain, "-o", packed, *options)
        return self.check_same(packed, " ".join(options))

    def setUp(self):
        super().setUp()
        quiet = np.errstate(all="ignore")       # the odd values overflow on purpose
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def check_video(self, codec, *options):
        frames = self.check("--codec", codec, "--rule", ".*=snr:18", *options).frames.values()
        code = {"h264": refdec.H264, "h265": refdec.H265}[codec]
        # small tensors are kept exactly: that takes less than a picture
        self.assertGreater(sum(frame.codec == code for frame in frames), len(frames) * 2 // 5, "too few coded by video")

    def test_h265(self):
        self.check_video("h265")

    def test_h264(self):
        self.check_video("h264")

    def test_h265_rotated(self):
        self.check_video("h265", "--rotate")

    def test_h265_row_scales_12(self):
        self.check_video("h265", "--row-scales", "--depth", "12")

    def test_h264_rotated_row_scales_10(self):
        self.check_video("h264", "--rotate", "--row-scales", "--depth", "10")

    def test_h265_chroma_8(self):
        self.check_video("h265", "--chroma", "420", "--depth", "8")

    def test_lossless(self):
        """decompress(compress --lossless) is the file, byte for byte; refdec restores it too."""
        self.check("--lossless")
        rng = np.random.default_rng(SEED)
        tensors = [(f"{dtype} {shape}", dtype, shape, tensor_bytes(dtype, int(np.prod(shape)), rng))
                   for dtype in refdec.NAMES for shape in ((), (0, 2), (8, 1000), (3, 8))
                   if int(np.prod(shape)) * refdec.BITS[dtype] % 8 == 0]
        tensors.append(("more than a tile", "BF16", (1100, 1000), rng.bytes(2200000)))
        tensors.append(("tied", "BF16", (1100, 1000), tensors[-1][3]))
        rows = np.exp2(rng.normal(0, 2, (70, 1)))
        for scale in (1, 1e6):
            x = (rng.normal(size=(70, 256)) * rows * scale).astype("<f4")
            tensors += [(f"weights {scale} {name}", name, x.shape, x.astype(kind).tobytes())
                        for name, kind in (("F16", "<f2"), ("F32", "<f4"), ("F64", "<f8"), ("I16", "<i2"), ("I64", "<i8"))]
            tensors.append((f"weights {scale} BF16", "BF16", x.shape, (x.view("<u4") >> 16).astype("<u2").tobytes()))
        data = refenc.plain(tensors)
        plain, packed = self.write("all.safetensors", data), self.folder / "all-packed.safetensors"
        self.succeed("compress", "--lossless", plain, "-o", packed)
        compressed = self.check_same(packed, "lossless")
        self.assertEqual(compressed.restore(), data)
        self.assertEqual((self.folder / "back.safetensors").read_bytes(), data)
        self.assertEqual({refdec.ALIAS, refdec.LOSSLESS}, {frame.codec for frame in compressed.frames.values()})
        self.assertLess(compressed.frames["weights 1 BF16"].F, .75 * 2 * 70 * 256)


# ---- files that other software wrote -----------------------------------------------------------------------------

def styles():
    """Headers as different writers make them, all legal."""
    floats = np.arange(6, dtype="<f4").tobytes()
    header = {"z.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
              "\u00e4/\"b\"\\": {"dtype": "U8", "shape": [5], "data_offsets": [24, 29]},
              "empty": {"dtype": "F16", "shape": [0, 7], "data_offsets": [29, 29]},
              "scalar": {"dtype": "I64", "shape": [], "data_offsets": [29, 37]}}
    data = floats + b"hello" + bytes(8)
    described = {**header, "__metadata__": {"format": "pt", "note": "\u2192 \U0001f600 \u0007"}}
    backwards = {name: dict(reversed(entry.items())) for name, entry in reversed(header.items())}
    dump = lambda value, **options: json.dumps(value, **options).encode("utf-8")
    yield "indent", dump(described, indent=4), data
    yield "ASCII escapes", dump(described, ensure_ascii=True, separators=(",", ":")), data
    yield "UTF-8", dump(described, ensure_ascii=False), data
    yield "metadata first", dump({"__metadata__": {"a": "b"}, **header}), data
    yield "entries backwards", dump(backwards), data
    yield "sorted keys", dump(described, sort_keys=True), data
    yield "tabs and newlines", dump(header, indent="\t").replace(b"\n", b"\r\n"), data
    yield "padded to 4096", dump(header).ljust(4096), data
    yield "empty metadata", dump({"__metadata__": {}, **header}), data
    yield "capital escapes", dump({"\u00ff": header["z.weight"]}).replace(b"\\u00ff", b"\\u00FF"), floats
    yield "no tensors", b"{}", b""
    yield "only metadata", dump({"__metadata__": {"a": ""}}), b""


class Foreign(Case):
    def test_styles(self):
        for what, header, data in styles():
            with self.subTest(what):
                original = struct.pack("<Q", len(header)) + header + data
                plain = self.write("plain.safetensors", original)
                packed, back = self.folder / "packed.safetensors", self.folder / "back.safetensors"
                self.succeed("compress", "-f", "--lossless", plain, "-o", packed)
                self.succeed("verify", packed)
                self.succeed("decompress", "-f", packed, "-o", back)
                self.assertEqual(back.read_bytes(), original)
                self.assertEqual(refdec.Compressed(packed).restore(), original)


# ---- what a compressed file says of its original ------------------------------------------------------------------

class Original(Case):
    def compressed_folder(self):
        """A folder of two shards, an index and side files, compressed; its original."""
        model, small = self.folder / "model", self.folder / "small"
        model.mkdir()
        names, total = {}, 0
        for number, name in enumerate(("a.weight", "b.weight"), 1):
            shard = f"model-{number:05}-of-00002.safetensors"
            data = np.random.default_rng(SEED).normal(0, 1, (80, 70)).astype("<f4").tobytes()
            (model / shard).write_bytes(refenc.plain([(name, "F32", (80, 70), data)], {"format": "pt"}))
            names[name], total = shard, total + len(data)
        index = {"metadata": {"total_size": total}, "weight_map": names}
        (model / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        (model / "config.json").write_text("{}")
        (model / 'odd "name" \u00fc.txt').write_text("side file")
        self.succeed("compress", model, "-o", small, "--bits", "4", "--effort", "1")
        return model, small

    def test_folder(self):
        model, small = self.compressed_folder()
        shards = [refdec.Compressed(path) for path in sorted(small.glob("*.safetensors"))]
        self.assertNotIn("vcllm.files", shards[0].metadata)
        listed = refdec.parse_files(shards[1].metadata["vcllm.files"])
        self.assertEqual(sorted(listed), sorted(p.name for p in model.iterdir() if p.suffix != ".safetensors"))
        index = json.loads((small / "model.safetensors.index.json").read_text())
        self.assertEqual(index["metadata"]["total_size"], sum(len(shard.data) for shard in shards))
        self.succeed("decompress", small, "-o", self.folder / "back")
        for shard in shards:
            self.assertEqual(shard.restore(), (self.folder / "back" / os.path.basename(shard.path)).read_bytes())
        for name in listed:
            self.assertEqual((model / name).read_bytes(), (self.folder / "back" / name).read_bytes(), name)

    def test_damaged_folder(self):
        _, small = self.compressed_folder()
        last = sorted(small.glob("*.safetensors"))[-1]
        refdec.Compressed(last)
        for name in ("config.json", "model.safetensors.index.json"):
            right = (small / name).read_bytes()
            (small / name).write_bytes(right + b" ")
            self.assertEqual(run_vcllm("verify", small).returncode, 1, name)
            self.assertRaises(refdec.Bad, refdec.Compressed, last)
            (small / name).write_bytes(right)
        self.succeed("verify", small)
        (small / "config.json").unlink()
        self.assertNotEqual(run_vcllm("verify", small).returncode, 0)
        self.assertRaises(refdec.Bad, refdec.Compressed, last)

    @staticmethod
    def kept_headers():
        """Of a tensor w and metadata {"a": "b"}: kept headers, and whether they are good."""
        canonical = refdec.canonical_header({"a": "b"}, [("w", "U8", (4,), 0, 4)])
        n, place = len(canonical), canonical.index(b'"w"')
        length = len(canonical.rstrip()) - 1 - place
        whole = f"~{n}@0;"
        yield whole, True
        yield whole + "2:  ", True
        yield f"~1:{{{length}@{place};1:,{place - 2}@1;1:}}", True       # the metadata last
        yield f"~1:{{{length}@{place};1:,{place - 3}@1;1:}}", False
        yield whole + f"1: {3 * n - 1}@{2 * n};", True          # a run of spaces: the most that there may be
        for more in [f"1: {3 * n}@{2 * n};", "1:", "0", "01: ", "1@", "1@0", f"1@{n * 2 + 1};", "5: ", "-1: ", "1: x",
                     "1000000000: ", f"1@{10 ** 9};", " ", "1;2", "1:é"]:
            yield whole + more, False
        yield "~", False

    def test_metadata(self):
        """What vcllm.header and vcllm.files may say: verify, decompress and refdec agree."""
        entry = {"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}
        header = lambda **more: json.dumps({"__metadata__": {"a": "b"}, "w": {**entry["w"], **more}}) + "   "
        digest = "0123456789abcdef" * 2
        cases = [("vcllm.header", header(), True), ("vcllm.header", header(shape=[2, 2]), False),
                 ("vcllm.header", header(dtype="I8"), False), ("vcllm.header", header(data_offsets=[0, 5]), False),
                 ("vcllm.header", header().replace('"w"', '"v"'), False), ("vcllm.header", "nonsense", False),
                 ("vcllm.header", json.dumps(entry), False), ("vcllm.header", "", False),
                 *[("vcllm.header", value, good) for value, good in self.kept_headers()],
                 ("vcllm.files", "{}", True), ("vcllm.files", "nonsense", False), ("vcllm.files", "[]", False),
                 ("vcllm.files", json.dumps({"a": 1}), False), ("vcllm.files", json.dumps({"../a": digest}), False),
                 ("vcllm.files", json.dumps({"a": digest[1:]}), False), ("vcllm.unknown", "anything", True)]
        frames = [("w", refenc.exact("U8", (4,), b"abcd"))]
        for key, value, good in cases:
            with self.subTest(key, value=value):
                path = self.write("case.safetensors", refenc.container(frames, {"a": "b", key: value}))
                back = self.folder / "back"
                for run in (run_vcllm("verify", path), run_vcllm("decompress", path, "-f", "-o", back)):
                    self.assertEqual(run.returncode, 0 if good else 1, run.stderr)
                    if not good:
                        self.assertIn("case.safetensors: ", run.stderr)
                if good:
                    self.assertEqual(refdec.Compressed(path).restore(), back.read_bytes())
                else:
                    self.assertRaises(refdec.Bad, refdec.Compressed, path)


if __name__ == "__main__":
    unittest.main()
