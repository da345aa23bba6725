#!/usr/bin/python3
"""refdec.py - a second decoder, written from docs/format.md alone.

In: a compressed .safetensors file.  Out: every tensor's bytes, every checksum checked on the way.  It shares no code
with the library, so where both agree the document says what the library does.  Plain and slow on purpose; H.264 and
H.265 pictures go through the ffmpeg program.

    refdec.py FILE [--compare OTHER.safetensors]
"""
import argparse
import itertools
import json
import math
import os
import re
import struct
import subprocess
import sys

import numpy as np
import xxhash

import refdec_tensor

DTYPES = [("BOOL", 8), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("U8", 8), ("I8", 8), ("F8_E5M2", 8),
          ("F8_E4M3", 8), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8), ("I16", 16), ("U16", 16),
          ("F16", 16), ("BF16", 16), ("I32", 32), ("U32", 32), ("F32", 32), ("C64", 64), ("F64", 64), ("I64", 64),
          ("U64", 64)]
NAMES = [name for name, _ in DTYPES]
BITS = dict(DTYPES)
CODES = {name: code for code, name in enumerate(NAMES)}
LOSSY = ("F16", "BF16", "F32", "F64")

ALIAS, EXACT, H264, H265, TENSOR, LOSSLESS = range(6)
VIDEO = (H264, H265)
(ROTATED, ROW_SCALES, NON_FINITE, COL_MEANS, COL_STEPS, TRANSPOSED, CLASS_MODELS, TABLES, MEAN,
 POINTS) = (1 << i for i in range(10))
HEADER_LIMIT = 100_000_000
MAX_SIDE = 4096
FLT_MAX = np.finfo(np.float32).max


class Bad(Exception):
    """The bytes break a rule of the format."""


def need(condition, message):
    if not condition:
        raise Bad(message)


def hash32(data):
    return xxhash.xxh3_64_intdigest(bytes(data)) & 0xFFFFFFFF


def ceil_div(a, b):
    return -(-a // b)


# ---- frame header ------------------------------------------------------------------------------------------------

class Frame:
    """A frame's header, checked; tiles are (offset, bytes, hash of stored, hash of decoded)."""

    def __init__(self, data):
        self.data = bytes(data)
        need(len(self.data) >= 28, "shorter than a header")
        magic, version, self.codec, dtype, rank, self.flags, self.H, self.F = struct.unpack_from("<4sBBBBIIQ",
                                                                                                 self.data)
        need(magic == b"VCLF", "no magic")
        need(version == 0, f"version {version}")
        need(self.codec in (ALIAS, EXACT, *VIDEO, TENSOR, LOSSLESS), f"codec {self.codec}")
        need(dtype < len(DTYPES), f"dtype {dtype}")
        need(rank <= 16, f"rank {rank}")
        need(28 + 8 * rank <= self.H <= min(len(self.data), 1 << 24), "header length")
        need(self.F == len(self.data) and self.F % 8 == 0, "frame length")
        need(hash32(self.data[:self.H - 4]) == self._u32(self.H - 4), "header checksum")
        self.dtype, self.bits = DTYPES[dtype]
        self.shape = struct.unpack_from(f"<{rank}Q", self.data, 24)
        self.values = math.prod(self.shape)
        need(self.values * self.bits < 1 << 63, "too many values")
        need(self.values * self.bits % 8 == 0, "values do not fill whole bytes")
        self._codec_part(24 + 8 * rank)

    def _u32(self, at):
        return struct.unpack_from("<I", self.data, at)[0]

    def _take(self, layout, at):
        size = struct.calcsize(layout)
        need(at + size <= self.H - 4, "header too short for its fields")
        return struct.unpack_from(layout, self.data, at), at + size

    def _codec_part(self, at):
        known = ROTATED | ROW_SCALES | NON_FINITE if self.codec in VIDEO else 0
        if self.codec == TENSOR:
            known = (ROTATED | NON_FINITE | COL_MEANS | COL_STEPS | TRANSPOSED | CLASS_MODELS | TABLES | MEAN | POINTS)
        need(self.flags & ~known == 0, "unknown flag")
        if self.codec == ALIAS:
            (length,), at = self._take("<I", at)
            need(1 <= length <= 65535 and at + length <= self.H - 4, "target's name")
            need(0 not in self.data[at:at + length], "NUL in the target's name")
            try:
                self.target = self.data[at:at + length].decode("utf-8")
            except UnicodeDecodeError:
                raise Bad("target's name is not UTF-8") from None
            end = ceil_div(at + length + 4, 8) * 8 - 4
            need(not any(self.data[at + length:end]), "padding after the target's name")
            self._tile_table(end, 0)
            return
        (self.cols, self.tile_rows, self.tile_cols), at = self._take("<QII", at)
        need(self.cols >= 1 and self.values % self.cols == 0, "cols")
        need(self.tile_rows >= 1 and self.tile_cols >= 1, "empty tiles")
        need(self.tile_rows * self.tile_cols <= 1 << 22, "tile too large")
        for length in (self.cols, self.tile_cols):
            need(length * self.bits % 8 == 0 or self.values == 0, "a tile's row is not whole bytes")
        if self.codec in VIDEO:
            at = self._video_part(at)
        if self.codec == TENSOR:
            at = self._tensor_part(at)
        self.rows = self.values // self.cols
        self._tile_table(at, ceil_div(self.rows, self.tile_rows) * ceil_div(self.cols, self.tile_cols))

    def _video_part(self, at):
        (self.depth, chroma, zero), at = self._take("<BBH", at)
        need(self.depth in (8, 10, 12), f"depth {self.depth}")
        need(chroma <= 1, f"chroma {chroma}")
        need(zero == 0, "reserved bytes")
        return self._lossy_part(at)

    def _tensor_part(self, at):
        fields, at = self._take("<BBBBbBH8b", at)
        self.states, self.lanes, reserved, slopes, self.fine, transform, zero = fields[:7]
        self.centroids, self.down, self.along = fields[7:], transform & 15, transform >> 4
        need(self.states in (0, 2, 3, 4, 5, 6, 7, 8), "states")
        need(self.lanes in (8, 32) and slopes <= 7 and -16 <= self.fine <= 16, "model")
        need(ceil_div(self.tile_rows, self.lanes) * self.lanes * self.tile_cols <= 1 << 22, "tile too large")
        need(reserved == 0 and zero == 0, "reserved bytes")
        need(all(n in (0, 2, 3, 4, 5, 6, 7, 8) for n in (self.down, self.along)), "transform")
        at = self._lossy_part(at)
        (side,), at = self._take("<I", at)
        need(at + side <= self.H - 4, "side bytes")
        if self.values:
            self._sides(self.data[at:at + side], slopes)
        return at + side

    def _sides(self, data, shape):
        """Models, the points' moves, the columns' classes, steps and means."""
        self.col_classes, exponents = np.zeros(self.cols, np.int64), np.zeros(self.cols, np.int64)
        self.moves, self.means, models, tables = None, None, [(shape, self.fine)] * refdec_tensor.CLASSES, {}
        try:
            if self.flags & CLASS_MODELS:
                data = refdec_tensor.read_class_models(data, self.fine, models)
            if self.flags & TABLES:
                data = refdec_tensor.read_tables(data, tables)
            self.tables = refdec_tensor.slot_tables(models, tables)
            if self.flags & MEAN:
                mean, data = refdec_tensor.read_mean(data)
                self.means = np.full(self.cols, mean)
            if self.flags & POINTS:
                self.moves, data = refdec_tensor.read_points(data)
            if data or self.flags & (COL_STEPS | COL_MEANS):
                self.col_classes, used = refdec_tensor.read_classes(data, self.cols)
                data = data[used:]
            if self.flags & COL_STEPS:
                exponents, used = refdec_tensor.read_classes(data, self.cols)
                data = data[used:]
            if self.flags & COL_MEANS:
                need(data, "column means")
                levels, used = refdec_tensor.read_classes(data[1:], self.cols)
                with np.errstate(over="ignore"):
                    own = np.ldexp(levels.astype(np.float32), struct.unpack("b", data[:1])[0])
                    self.means = own if self.means is None else self.means + own
                data = data[1 + used:]
                need(np.isfinite(self.means).all(), "column means")
        except refdec_tensor.Damaged as error:
            raise Bad(str(error)) from None
        need(not data, "side bytes")
        need((np.abs(exponents) <= 64).all(), "step exponents")
        self.col_steps = refdec_tensor.column_steps(self.step, exponents)
        need(np.isfinite(self.col_steps).all(), "column steps")

    def _lossy_part(self, at):
        need(self.dtype in LOSSY, f"lossy coding of {self.dtype}")
        (step, self.snr, self.seed), at = self._take("<ffI", at)
        need(math.isfinite(step) and math.copysign(1, step) == 1, "step")
        need(not math.isnan(self.snr), "snr")
        need(self.flags & ROTATED or self.seed == 0, "seed without rotation")
        self.step = np.float32(step)
        return at

    def _tile_table(self, at, count):
        need(self.H == at + 12 * count + 4, "header length")
        self.tiles, offset = [], self.H
        for i in range(count):
            stored, stored_hash, decoded_hash = struct.unpack_from("<III", self.data, at + 12 * i)
            self.tiles.append((offset, stored, stored_hash, decoded_hash))
            offset += stored
        need(self.F == ceil_div(offset, 8) * 8, "frame length")
        need(not any(self.data[offset:]), "padding")

    def decode(self):
        """The tensor's bytes (not for an alias)."""
        if not self.values:
            return b""
        tiles = []
        for i in range(len(self.tiles)):
            try:
                tiles.append(self._tile(i))
            except Bad as error:
                raise Bad(f"tile {i}: {error}") from None
        across = ceil_div(self.cols, self.tile_cols)
        coded = np.vstack([np.hstack(tiles[i:i + across]) for i in range(0, len(tiles), across)])
        if self.flags & TRANSPOSED:
            coded = coded.reshape(self.rows, self.cols, -1).transpose(1, 0, 2)
        return coded.tobytes()

    def _tile(self, i):
        """Tile i as an array of bytes, one row per row."""
        across = ceil_div(self.cols, self.tile_cols)
        rows = min(self.tile_rows, self.rows - i // across * self.tile_rows)
        cols = min(self.tile_cols, self.cols - i % across * self.tile_cols)
        offset, stored, stored_hash, decoded_hash = self.tiles[i]
        data = self.data[offset:offset + stored]
        need(hash32(data) == stored_hash, "checksum of the stored bytes")
        if self.codec == EXACT:
            need(stored * 8 == rows * cols * self.bits, "stored size")
        if self.codec == LOSSLESS:
            values = decode_lossless_tile(self.dtype, data, rows * cols * self.bits // 8)
        else:
            first = i % across * self.tile_cols
            values = data if self.codec == EXACT else decode_lossy_tile(self, data, rows, cols, first)
        need(hash32(values) == decoded_hash, "checksum of the decoded values")
        return np.frombuffer(values, np.uint8).reshape(rows, -1)


# ---- lossless tiles ----------------------------------------------------------------------------------------------

FEW_LANES, LANES, FEW_SYMBOLS, BLOCK = 4, 32, 4096, 256


def number_bytes(dtype):
    """Bytes of the numbers that a lossless tile is taken as."""
    return 4 if dtype == "C64" else max(1, BITS[dtype] // 8)


def unfold(y, dtype, base=None):
    """Numbers back from their folded form; base: mode 2's."""
    n = 8 * y.dtype.itemsize
    if base is not None:
        low = (1 << n - 9) - 1
        u = [v >> 1 & ~low | v & low for v in y.tolist()]
        u = [(v + (base << n - 8)) % (1 << n) if v >> n - 8 else v for v in u]
        return np.array([v >> 1 | (v & 1) << n - 1 for v in u], y.dtype)
    if dtype in ("F16", "BF16", "F32", "C64", "F64"):
        return np.array([v >> 1 | (v & 1) << n - 1 for v in y.tolist()], y.dtype)
    if dtype in ("I16", "I32", "I64"):
        return np.array([v >> 1 ^ ((1 << n) - 1) * (v & 1) for v in y.tolist()], y.dtype)
    return y


def read_table(data, at):
    """(frequencies, where the table ends)."""
    need(at + 2 <= len(data) and data[at] <= data[at + 1], "symbols of a table")
    first, last = data[at], data[at + 1]
    number, bit, frequencies = int.from_bytes(data[at + 2:at + 600], "little"), 0, [0] * 256
    for symbol in range(first, last + 1):
        m = number >> bit & 15
        bit += 4
        need(m <= 12, "length of a frequency")
        if m:
            frequencies[symbol] = (1 << m - 1) + (number >> bit & (1 << m - 1) - 1)
            bit += m - 1
    at += 2 + ceil_div(bit, 8)
    need(at <= len(data), "table is cut off")
    need(sum(frequencies) == 4096 and max(frequencies) < 4096, "frequencies")
    return frequencies, at


def decode_rans(data, n):
    need(data and data[0] <= 2, "bits of a class")
    bits, blocks = data[0], ceil_div(n, BLOCK)
    at = 1 + ceil_div(blocks * bits, 8)
    need(at <= len(data), "class map is cut off")
    class_map = int.from_bytes(data[1:at], "little")
    tables = []
    for _ in range(1 << bits):
        frequencies, at = read_table(data, at)
        starts = np.concatenate(([0], np.cumsum(frequencies))).tolist()
        tables.append((frequencies, starts, [s for s in range(256) for _ in range(frequencies[s])]))
    lanes = FEW_LANES if n < FEW_SYMBOLS else LANES
    need(at + 4 * lanes <= len(data), "states are cut off")
    states = list(struct.unpack_from(f"<{lanes}I", data, at))
    need(min(states) >= 1 << 16, "state")
    at += 4 * lanes
    out = bytearray(n)
    for i in range(n):
        frequencies, starts, symbols = tables[class_map >> i // BLOCK * bits & (1 << bits) - 1]
        x = states[i % lanes]
        q = x % 4096
        out[i] = s = symbols[q]
        x = frequencies[s] * (x // 4096) + q - starts[s]
        if x < 1 << 16:
            need(at + 2 <= len(data), "words are cut off")
            x = x << 16 | data[at] | data[at + 1] << 8
            at += 2
        states[i % lanes] = x
    need(set(states) == {1 << 16} and at == len(data), "end of the rANS stream")
    return bytes(out)


def decode_plane(data, at, n):
    """(the plane's n bytes, where it ends)."""
    need(at < len(data), "plane is cut off")
    mode, at = data[at], at + 1
    if mode == 3:
        need(at + 4 <= len(data), "plane is cut off")
        (size,), at = struct.unpack_from("<I", data, at), at + 4
    else:
        need(mode <= 2, "mode of a plane")
        size = (n, 1, n // 512 * 448 + n % 512)[mode]
    end = at + size
    need(end <= len(data), "plane is cut off")
    piece = data[at:end]
    if mode == 1:
        return piece * n, end
    if mode == 2:
        groups = np.frombuffer(piece[:n // 512 * 448], np.uint8).reshape(-1, 7, 64)
        last = (groups >> 7 << np.arange(7, dtype=np.uint8)[:, None]).sum(1, dtype=np.uint8)
        return np.concatenate((groups & 127, last[:, None]), 1).tobytes() + piece[n // 512 * 448:], end
    return (decode_rans(piece, n) if mode == 3 else piece), end


def decode_numbers(dtype, data, at, n):
    """(n numbers of a dtype stored in mode 0, 1 or 2, where they end)."""
    width, base = number_bytes(dtype), None
    need(at < len(data) and data[at] <= 2, "mode of a tile")
    mode, at = data[at], at + 1
    if mode == 0:
        need(at + n * width <= len(data), "size of a raw tile")
        return np.frombuffer(data, f"<u{width}", n, at), at + n * width
    if mode == 2:
        need(dtype in ("BF16", "F32", "C64") and at < len(data), "narrow tile")
        base, at = data[at], at + 1
    y = np.zeros(n, f"<u{width}")
    for p in range(width):
        plane, at = decode_plane(data, at, n)
        y |= np.frombuffer(plane, np.uint8).astype(y.dtype) << y.dtype.type(8 * (width - 1 - p))
    return unfold(y, dtype, base), at


def products(levels, scales, offsets, dtype, rounding):
    """Levels times scales, plus offsets, as the dtype's numbers."""
    with np.errstate(over="ignore", under="ignore"):
        y = levels * scales
        if offsets is not None:
            y = y + offsets
        if rounding == "BF16":
            u = y.view(np.uint32)
            y = ((u + 0x7FFF + (u >> 16 & 1)) & 0xFFFF0000).view(np.float32)
        if rounding == "F16":
            y = y.astype(np.float16).astype(np.float32)
    if dtype == "F16":
        return y.astype(np.float16).view(np.uint16)
    return (y.view(np.uint32) >> 16).astype("<u2") if dtype == "BF16" else y.view(np.uint32)


def read_scales(data, at, n, inner):
    """(n scales or offsets, where they end); inner: they are those of scales, which have no levels of their own."""
    if data[at:at + 1] == b"\3" and not inner:
        numbers, at = decode_levels("F32", data, at, n, True)
    else:
        numbers, at = decode_numbers("F32", data, at, n)
    scales = numbers.view(np.float32)
    need(np.isfinite(scales).all(), "scales or offsets")
    return scales, at


def decode_levels(dtype, data, at, n, inner=False):
    """(the numbers of a tile of mode 3 or 4, where it ends); inner: the numbers are scales or offsets."""
    need(len(data) >= at + 16, "head is cut off")
    mode, bits, count, rounding, group, first, literals = struct.unpack_from("<BBBBIII", data, at)
    need(bits in (1, 2, 4, 8) and 1 <= count <= 1 << bits, "levels and bits of a code")
    need(literals <= n and (literals == 0 or count < 1 << bits), "number of literals")
    at, width = at + 16, number_bytes(dtype)
    if group:
        need(group >= (8 if inner else 16) and 1 <= first <= group, "segments")
        rounding = NAMES[rounding] if rounding < len(NAMES) else None
        need(dtype in ("F16", "BF16", "F32") and rounding in (("F16", "BF16", "F32") if dtype == "F32" else (dtype,)),
             "rounding")
    else:
        need(first == 0 and rounding == 0 and mode == 3, "segments without scales")
    need(at + (4 if group else width) * count <= len(data), "levels are cut off")
    levels = np.frombuffer(data, "<f4" if group else f"<u{width}", count, at)
    at += (4 if group else width) * count
    segment = np.maximum(np.arange(n) - first + group, 0) // group if group else None
    offsets = None
    if group:
        need(np.isfinite(levels).all(), "levels")
        scales, at = read_scales(data, at, int(segment[-1]) + 1, inner)
    if mode == 4:
        offsets, at = read_scales(data, at, int(segment[-1]) + 1, inner)
        offsets = offsets[segment]
    if literals:
        own, at = decode_numbers(dtype, data, at, literals)
    plane, at = decode_plane(data, at, ceil_div(n * bits, 8))
    codes = (np.frombuffer(plane, np.uint8)[:, None] >> np.arange(0, 8, bits) & (1 << bits) - 1).reshape(-1)[:n]
    need(codes.max() <= count and (codes == count).sum() == literals, "codes")
    known = np.append(levels, levels[:1])[codes]
    out = products(known, scales[segment], offsets, dtype, rounding) if group else known.copy()
    if literals:
        out[codes == count] = own
    return out, at


def decode_lossless_tile(dtype, data, size):
    n = size // number_bytes(dtype)
    need(len(data) <= size + 1, "tile longer than its values and a byte")
    numbers, at = (decode_levels if data[:1] in (b"\3", b"\4") else decode_numbers)(dtype, data, 0, n)
    need(at == len(data), "bytes after the values")
    return numbers.tobytes()


# ---- video tiles -------------------------------------------------------------------------------------------------

def picture_size(rows, cols):
    """(width, height, wrapped) of the picture of a tile."""
    wrapped = rows < 64 or cols < 64
    width, height = ceil_div(cols, 8) * 8, ceil_div(rows, 8) * 8
    if wrapped:
        n = rows * cols
        width = ceil_div(math.isqrt(n - 1) + 1, 64) * 64
        height = max(64, ceil_div(ceil_div(n, width), 8) * 8)
    need(width <= MAX_SIDE and height <= MAX_SIDE, "picture too large")
    return width, height, wrapped


OUTPUT = re.compile(r"Output #0.*?Video: rawvideo.*?, (\w+)(?:\([^)]*\))?, (\d+)x(\d+)", re.S)
FORMATS = {"gray": 8, "gray10le": 10, "gray12le": 12, "yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10,
           "yuv420p12le": 12}


def decode_picture(codec, data, width, height, depth):
    """The luma samples of the one picture in data.  No pixel format is asked for, so ffmpeg writes the decoder's own
    and nothing is converted (a conversion to gray would rescale the range)."""
    run = subprocess.run(["ffmpeg", "-hide_banner", "-nostdin", "-threads", "1", "-err_detect", "explode",
                          "-f", {H264: "h264", H265: "hevc"}[codec], "-i", "pipe:0",
                          "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"], input=data, capture_output=True)
    found = OUTPUT.search(run.stderr.decode("utf-8", "replace"))
    need(run.returncode == 0 and found and found[1] in FORMATS, "the stream does not decode")
    need((int(found[2]), int(found[3])) == (width, height), f"picture is {found[2]}x{found[3]}, not {width}x{height}")
    need(FORMATS[found[1]] == depth, f"picture is {found[1]}, not {depth} bits")
    luma = width * height
    samples = np.frombuffer(run.stdout, np.uint8 if depth == 8 else "<u2")
    need(len(samples) == (luma if found[1].startswith("gray") else luma * 3 // 2), "not exactly one picture")
    return samples[:luma].reshape(height, width).astype(np.int32)


def video_values(frame, data, rows, cols, scales):
    width, height, wrapped = picture_size(rows, cols)
    q = decode_picture(frame.codec, data, width, height, frame.depth)
    q = q.reshape(-1)[:rows * cols].reshape(rows, cols) if wrapped else q[:rows, :cols]
    delta = frame.step * scales if scales is not None else frame.step
    return (q - (1 << frame.depth - 1)).astype(np.float32) * delta


def tensor_values(frame, data, rows, cols, first_col):
    try:
        span = slice(first_col, first_col + cols)
        y = refdec_tensor.decode_values(frame, data, rows, cols, frame.col_classes[span], frame.col_steps[span])
        y = refdec_tensor.inverse_transform(y, frame.down, frame.along)
        return y if frame.means is None else y + frame.means[span]
    except refdec_tensor.Damaged as error:
        raise Bad(str(error)) from None


def decode_lossy_tile(frame, data, rows, cols, first_col):
    runs, scales, data = read_sides(frame, data, rows, cols)
    with np.errstate(all="ignore"):
        if frame.codec == TENSOR:
            y = tensor_values(frame, data, rows, cols, first_col)
        else:
            y = video_values(frame, data, rows, cols, scales)
        if frame.flags & ROTATED:
            y = inverse_rotation(y, frame.seed)
        values = bytearray(round_to(frame.dtype, y))
    size = frame.bits // 8
    for first, length, value in runs:
        values[first * size:(first + length) * size] = value * length
    return bytes(values)


def read_sides(frame, data, rows, cols):
    """Non-finite runs, row scales (a column of f32, or None) and the rest of the tile."""
    runs, scales, at = [], None, 0
    size = frame.bits // 8
    if frame.flags & NON_FINITE:
        need(len(data) >= 4, "run list cut off")
        count, at, end = struct.unpack_from("<I", data)[0], 4, 0
        need(count * (8 + size) <= len(data) - at, "run list cut off")
        for _ in range(count):
            first, length = struct.unpack_from("<II", data, at)
            need(length >= 1 and first >= end and first + length <= rows * cols, "runs")
            runs.append((first, length, data[at + 8:at + 8 + size]))
            at, end = at + 8 + size, first + length
    if frame.flags & ROW_SCALES:
        need(len(data) - at >= 2 * rows, "row scales cut off")
        upper = np.frombuffer(data, "<u2", rows, at).astype(np.uint32)
        scales = (upper << 16).view(np.float32).reshape(rows, 1)
        need(np.all(upper < 0x7F80), "row scales")
        at += 2 * rows
    return runs, scales, data[at:]


def round_to(dtype, y):
    """f32 to the dtype's bytes: limited to its finite range (F64: that of f32), nearest even."""
    limit = {"F16": np.float32(65504), "BF16": np.uint32(0x7F7F0000).view(np.float32)}.get(dtype, FLT_MAX)
    y = np.clip(y, -limit, limit)
    if dtype == "BF16":
        u = np.ascontiguousarray(y).view(np.uint32)
        rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16
        return np.where(np.isnan(y), u >> 16 | 0x40, rounded).astype("<u2").tobytes()
    return y.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).tobytes()


# ---- rotation ----------------------------------------------------------------------------------------------------

def signs(seed, axis, n):
    z = np.uint64((seed << 33) + (axis << 32) & 0xFFFFFFFFFFFFFFFF) + np.arange(n, dtype=np.uint64)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z = z ^ z >> np.uint64(31)
    return np.where(z >> np.uint64(63), np.float32(-1), np.float32(1))


def blocks(n):
    """(start, k) of the blocks of 2^k that make n, largest first."""
    start = 0
    for k in reversed(range(n.bit_length())):
        if n >> k & 1:
            yield start, k
            start += 1 << k


def walsh_hadamard(x):
    """Along the last axis, whose length is a power of two."""
    n, h = x.shape[-1], 1
    while h < n:
        pairs = x.reshape(-1, n // (2 * h), 2, h)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        x = np.stack((a + b, a - b), axis=2).reshape(-1, n)
        h *= 2
    return x


def inverse_along_rows(y, seed, axis):
    out = np.empty_like(y)
    for start, k in blocks(y.shape[1]):
        span = slice(start, start + (1 << k))
        out[:, span] = walsh_hadamard(np.ascontiguousarray(y[:, span])) * np.float32(2.0 ** (-k / 2))
    return out * signs(seed, axis, y.shape[1])


def inverse_rotation(y, seed):
    y = np.ascontiguousarray(inverse_along_rows(np.ascontiguousarray(y.T), seed, 1).T)
    return inverse_along_rows(y, seed, 0)


# ---- safetensors -------------------------------------------------------------------------------------------------

class File:
    """A safetensors file: tensors is [(name, dtype, shape, begin, end)] in order of offset."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            data = file.read()
        need(len(data) >= 8, "shorter than 8 bytes")
        length = struct.unpack_from("<Q", data)[0]
        need(length <= HEADER_LIMIT and 8 + length <= len(data), "header length")
        self.header = data[8:8 + length]
        self.data = memoryview(data)[8 + length:]
        self.metadata, self.tensors = parse_header(self.header)
        self._check_layout()

    def _check_layout(self):
        at = 0
        self.tensors.sort(key=lambda tensor: tensor[3:5])
        for name, dtype, shape, begin, end in self.tensors:
            bits = math.prod(shape) * BITS[dtype]
            need(begin == at and end >= begin, f"{name}: gap or overlap")
            need(bits % 8 == 0 and bits // 8 == end - begin, f"{name}: bytes are not what dtype and shape imply")
            at = end
        need(at == len(self.data), "data ends elsewhere than its last tensor")

    def bytes_of(self, index):
        return bytes(self.data[self.tensors[index][3]:self.tensors[index][4]])


def unique(pairs):
    keys = [key for key, _ in pairs]
    need(len(set(keys)) == len(keys), "duplicate key in the header")
    strings = "".join(keys + [value for _, value in pairs if isinstance(value, str)])
    need("\0" not in strings and not re.search("[\ud800-\udfff]", strings), "NUL or half a surrogate pair in a string")
    return dict(pairs)


def parse_header(header):
    need(header[:1] == b"{", "header does not begin with {")
    try:
        text = header.decode("utf-8")
        root, end = json.JSONDecoder(object_pairs_hook=unique).raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise Bad(f"header: {error}") from None
    need(text[end:].strip(" ") == "", "bytes after the header's JSON")
    metadata = root.pop("__metadata__", {})
    need(isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values()), "__metadata__")
    return metadata, [parse_entry(name, entry) for name, entry in root.items()]


def parse_entry(name, entry):
    need(isinstance(entry, dict) and sorted(entry) == ["data_offsets", "dtype", "shape"], f"{name}: entry")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    need(isinstance(dtype, str) and dtype in BITS, f"{name}: dtype")
    for numbers, most in ((shape, 16), (offsets, 2)):
        need(isinstance(numbers, list) and len(numbers) <= most, f"{name}: shape or offsets")
        need(all(type(n) is int and 0 <= n < 1 << 63 for n in numbers), f"{name}: shape or offsets")
    need(len(offsets) == 2, f"{name}: offsets")
    return name, dtype, tuple(shape), offsets[0], offsets[1]


def canonical_header(metadata, tensors):
    """tensors: (name, dtype, shape, begin, end).  Padding included."""
    root = {"__metadata__": metadata} if metadata else {}
    for name, dtype, shape, begin, end in tensors:
        root[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return text + b" " * (-len(text) % 8)


def container_hash(metadata, tensors):
    h = xxhash.xxh3_128()
    pairs = {key.encode("utf-8"): value.encode("utf-8") for key, value in metadata.items() if key != "vcllm.hash"}
    for key in sorted(pairs):
        h.update(struct.pack("<I", len(key)) + key + struct.pack("<I", len(pairs[key])) + pairs[key])
    for name, dtype, shape, begin, end in tensors:
        name = name.encode("utf-8")
        h.update(struct.pack("<I", len(name)) + name)
        h.update(struct.pack(f"<II{len(shape)}QQQ", CODES[dtype], len(shape), *shape, begin, end))
    return h.hexdigest()


# ---- compressed files --------------------------------------------------------------------------------------------

def parse_files(text):
    """vcllm.files: {name: hash128}."""
    try:
        files = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Bad(f"vcllm.files: {error}") from None
    need(isinstance(files, dict), "vcllm.files is no object")
    for name, digest in files.items():
        need(name not in ("", ".", "..") and "/" not in name, f"vcllm.files: {name} is no plain file name")
        need(isinstance(digest, str) and re.fullmatch("[0-9a-f]{32}", digest), f"vcllm.files: hash of {name}")
    return files


def unpack_header(canonical, kept):
    """The original header from a kept one: "~" and items."""
    text, at = bytearray(canonical), 1
    while at < len(kept):
        item = re.compile(rb"(0|[1-9]\d{0,8})(?::|@(0|[1-9]\d{0,8});)").match(kept, at)
        need(item, f"vcllm.header: no item at {at}")
        n, at = int(item[1]), item.end()
        need(len(text) + n <= 5 * len(canonical), "vcllm.header: too long")
        if item[2] is None:
            need(at + n <= len(kept), "vcllm.header: text is missing")
            text += kept[at:at + n]
            at += n
        else:
            place = int(item[2])
            need(place < len(text), "vcllm.header: a copy from beyond the text")
            for i in range(place, place + n):
                text.append(text[i])
    return bytes(text[len(canonical):])


class Compressed(File):
    """A compressed file: container rules, hash and every frame's header checked when opened."""

    def __init__(self, path):
        super().__init__(path)
        need("vcllm.hash" in self.metadata, "not a compressed file: no vcllm.hash")
        need(self.header.startswith(canonical_header(self.metadata, self.tensors)), "header is not canonical")
        need(self.metadata["vcllm.hash"] == container_hash(self.metadata, self.tensors), "vcllm.hash")
        self.frames = {}
        for i, (name, dtype, shape, _, _) in enumerate(self.tensors):
            need(dtype == "U8" and len(shape) == 1, f"{name}: not a frame")
            self.frames[name] = self._named(name, lambda i=i: Frame(self.bytes_of(i)))
        for name, frame in self.frames.items():
            if frame.codec == ALIAS:
                self._named(name, lambda frame=frame: self._check_alias(frame))
        self._check_original()
        self._check_files()

    def _check_alias(self, frame):
        target = self.frames.get(frame.target)
        need(target is not None, f"alias of a missing tensor, {frame.target}")
        need(target.codec != ALIAS, "alias of an alias")
        need((target.dtype, target.shape) == (frame.dtype, frame.shape), "alias of another dtype or shape")

    def _check_files(self):
        for name, digest in parse_files(self.metadata.get("vcllm.files", "{}")).items():
            path = os.path.join(os.path.dirname(self.path), name)
            need(os.path.isfile(path), f"copied file {name}: missing")
            with open(path, "rb") as file:
                need(xxhash.xxh3_128_hexdigest(file.read()) == digest, f"copied file {name}: hash")

    def _check_original(self):
        """vcllm.header is a header of the frames' tensors and of the other metadata."""
        if "vcllm.header" not in self.metadata:
            return
        sizes = [math.prod(frame.shape) * BITS[frame.dtype] // 8 for frame in self.frames.values()]
        ends = list(itertools.accumulate(sizes))
        metadata, original = parse_header(self._original_header(
            [(name, frame.dtype, frame.shape, end - size, end)
             for (name, frame), size, end in zip(self.frames.items(), sizes, ends)]))
        original.sort(key=lambda tensor: tensor[3:5])
        at = 0
        need(len(original) == len(self.frames), "vcllm.header has other tensors than the file")
        for (name, frame), tensor in zip(self.frames.items(), original):
            size = math.prod(frame.shape) * BITS[frame.dtype] // 8
            need(tensor == (name, frame.dtype, frame.shape, at, at + size), f"{name}: vcllm.header does not agree")
            at += size
        strangers = {key: value for key, value in metadata.items() if not key.startswith("vcllm.")}
        need(strangers == self._own_metadata(), "vcllm.header has other metadata than the file")

    def _original_header(self, tensors):
        canonical = canonical_header(self._own_metadata(), tensors)
        kept = self.metadata.get("vcllm.header")
        if kept is None:
            return canonical
        return unpack_header(canonical, kept.encode("utf-8")) if kept.startswith("~") else kept.encode("utf-8")

    def _own_metadata(self):
        return {key: value for key, value in self.metadata.items() if not key.startswith("vcllm.")}

    @staticmethod
    def _named(name, action):
        try:
            return action()
        except Bad as error:
            raise Bad(f"{name}: {error}") from None

    def decode(self, name):
        frame = self.frames[name]
        if frame.codec == ALIAS:
            frame = self.frames[frame.target]
        return self._named(name, frame.decode)

    def restore(self):
        """The file that was compressed: all its bytes (with the decoded values where coding was lossy)."""
        parts, tensors, at = [], [], 0
        for name, frame in self.frames.items():
            parts.append(self.decode(name))
            tensors.append((name, frame.dtype, frame.shape, at, at + len(parts[-1])))
            at += len(parts[-1])
        header = self._original_header(tensors)
        return struct.pack("<Q", len(header)) + header + b"".join(parts)


# ---- command -----------------------------------------------------------------------------------------------------

def compare(compressed, other):
    """Prints a line per tensor; the number of mismatches."""
    wrong = 0
    expected = {entry[0]: (entry[1], entry[2], i) for i, entry in enumerate(other.tensors)} if other else None
    for name, frame in compressed.frames.items():
        values, verdict = compressed.decode(name), "ok"
        if other:
            dtype, shape, index = expected.pop(name, (None, None, None))
            if (dtype, shape) != (frame.dtype, frame.shape) or other.bytes_of(index) != values:
                verdict, wrong = "mismatch", wrong + 1
        print(f"{verdict:8}  {name}")
    for name in expected or ():
        print(f"missing   {name}")
        wrong += 1
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Decodes a compressed model by docs/format.md.")
    parser.add_argument("file")
    parser.add_argument("--compare", metavar="OTHER.safetensors", help="the values every tensor must decode to")
    args = parser.parse_args()
    try:
        wrong = compare(Compressed(args.file), File(args.compare) if args.compare else None)
    except (Bad, OSError) as error:
        sys.exit(f"refdec: {args.file}: {error}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
