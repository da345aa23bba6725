"""anatomy.py - table (d): where a frame's bytes go.  Reads frames of codec 4 as docs/format.md has them."""
import collections
import math
import struct

import tables
from ours import Coder

RATE = 2.9
FLAG_LISTS, FLAG_MEANS, FLAG_STEPS, FLAG_MODELS, FLAG_TABLES, FLAG_MEAN, FLAG_POINTS = 4, 8, 16, 64, 128, 256, 512
CONSTANT = 6    # in a Rice parameter's place: no differences follow
VALUE_BYTES = {13: 2, 14: 2, 17: 4, 19: 8}      # of F16, BF16, F32, F64
PARTS = ["fields", "models", "mean", "points", "col classes", "col steps", "col means", "tile table", "row classes",
         "side list", "states", "escapes", "words"]


def class_list_bytes(data, n):
    """Bytes of a class list of n entries: a first class, a Rice parameter, n - 1 differences."""
    rice, position, size = data[1], 16, len(data) * 8
    if rice == CONSTANT:
        return 2
    for _ in range(n - 1):
        while position < size and data[position >> 3] >> (position & 7) & 1:
            position += 1
        position += 1 + rice
    return (position + 7) >> 3


def side_list_bytes(data, value_bytes):
    return 4 + struct.unpack_from("<I", data)[0] * (8 + value_bytes)


def table_bytes(data):
    """Bytes of one table of frequencies: first and last symbol, for each 4 bits that say how many follow."""
    first, last, position = data[0], data[1], 16
    for _ in range(first, last + 1):
        # four bits lie within two bytes
        pair = data[position >> 3] | data[min((position >> 3) + 1, len(data) - 1)] << 8
        position += 4 + max(0, (pair >> (position & 7) & 15) - 1)
    return (position + 7) >> 3


def models_bytes(side, flags):
    """Bytes of class models and tables, which come first."""
    at = 2 + side[1] if flags & FLAG_MODELS else 0
    if flags & FLAG_TABLES:
        count, at = side[at], at + 1
        for _ in range(count):
            at += 1
            for _ in range(2):
                at += table_bytes(side[at:])
    return at


def count_side(side, flags, cols, parts):
    parts["models"] = models_bytes(side, flags)
    at = parts["models"]
    parts["mean"] = 4 if flags & FLAG_MEAN else 0
    at += parts["mean"]
    parts["points"] = 2 + side[at + 1] if flags & FLAG_POINTS else 0
    at += parts["points"]
    if at < len(side):
        parts["col classes"] = class_list_bytes(side[at:], cols)
        at += parts["col classes"]
    if flags & FLAG_STEPS:
        parts["col steps"] = class_list_bytes(side[at:], cols)
        at += parts["col steps"]
    if flags & FLAG_MEANS:
        parts["col means"] = 1 + class_list_bytes(side[at + 1:], cols)
        at += parts["col means"]
    if at != len(side):
        raise ValueError("the side data are not as docs/format.md has them")


def count_tile(data, flags, dtype, rows, lanes, parts):
    at = side_list_bytes(data, VALUE_BYTES[dtype]) if flags & FLAG_LISTS else 0
    parts["side list"] += at
    classes = class_list_bytes(data[at:], rows)
    parts["row classes"] += classes
    escapes = 4 + struct.unpack_from("<I", data, at + classes)[0]
    parts["escapes"] += escapes
    parts["states"] += 4 * lanes
    parts["words"] += len(data) - at - classes - escapes - 4 * lanes


def count_frame(frame):
    """Bytes of each of PARTS; they add up to the frame."""
    codec, dtype, rank = frame[5], frame[6], frame[7]
    if codec != 4:
        raise ValueError(f"a frame of codec {codec}, not of the tensor codec")
    flags, header = struct.unpack_from("<II", frame, 8)
    part = 24 + 8 * rank
    values = math.prod(struct.unpack_from(f"<{rank}Q", frame, 24))
    cols, tile_rows, tile_cols = struct.unpack_from("<QII", frame, part)
    lanes, side = frame[part + 17], struct.unpack_from("<I", frame, part + 44)[0]
    rows, across = values // cols, -(-cols // tile_cols)
    tiles = -(-rows // tile_rows) * across
    parts = collections.Counter({"tile table": 12 * tiles})
    count_side(frame[part + 48:part + 48 + side], flags, cols, parts)
    at = header
    for tile in range(tiles):
        size = struct.unpack_from("<I", frame, header - 4 - 12 * (tiles - tile))[0]
        tile_height = min(tile_rows, rows - tile // across * tile_rows)
        count_tile(frame[at:at + size], flags, dtype, tile_height, lanes, parts)
        at += size
    parts["fields"] = header - side - 12 * tiles + len(frame) - at      # with the hash and the padding
    return parts


def run(report):
    effort, rows, counts = report.efforts[0], [], []
    for matrix in report.drawn() + report.chosen():
        with Coder(matrix) as coder:
            coder.encode(bits=RATE, effort=effort, objective="mse")
            frame = coder.coded()
        parts, values = count_frame(frame), matrix.raw.size
        share = 1 - (parts["words"] + parts["escapes"]) / len(frame)
        per_value = [8 * bytes_ / values for bytes_ in (len(frame), *(parts[p] for p in PARTS))]
        rows.append([matrix.name, str(values), *(tables.figure(bits, 4) for bits in per_value),
                     f"{100 * share:.2f} %"])
        counts.append({"data": matrix.name, "values": values, "bytes": len(frame),
                       **{p: parts[p] for p in PARTS}})
    tables.show(f"(d) Where the bits go at {RATE} bits, effort {effort}, objective mse: bits per value",
                ["", "values", "all", *PARTS, "aside"], rows,
                "aside: what is not words and escapes, as a share of the frame. fields: the header without "
                "models, mean, points, classes, means and tile table, with hash and padding.")
    report.keep("anatomy", counts)
