"""gguf_file.py - writes GGUF files for tests, good ones and, where a part is given as it shall stand, bad ones."""
import struct

TYPES = {name: number for number, name in enumerate(
    "u8 i8 u16 i16 u32 i32 f32 bool text list u64 i64 f64".split())}
PACKED = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "B", "u64": "Q",
          "i64": "q", "f64": "d"}
# ggml's number of each type, values of a block, its bytes, and where in it 16-bit scales stand.
STORED = {"F32": (0, 1, 4, ()), "F16": (1, 1, 2, ()), "Q4_0": (2, 32, 18, (0,)), "Q4_1": (3, 32, 20, (0, 2)),
          "Q5_0": (6, 32, 22, (0,)), "Q5_1": (7, 32, 24, (0, 2)), "Q8_0": (8, 32, 34, (0,)),
          "Q2_K": (10, 256, 84, (80, 82)), "Q3_K": (11, 256, 110, (108,)), "Q4_K": (12, 256, 144, (0, 2)),
          "Q5_K": (13, 256, 176, (0, 2)), "Q6_K": (14, 256, 210, (208,)), "I8": (24, 1, 1, ()), "I16": (25, 1, 2, ()),
          "I32": (26, 1, 4, ()), "I64": (27, 1, 8, ()), "F64": (28, 1, 8, ()), "BF16": (30, 1, 2, ()),
          "MXFP4": (39, 32, 17, ())}


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def one(kind, value):
    return text(value) if kind == "text" else struct.pack("<" + PACKED[kind], value)


def pair(key, kind, value):
    """kind: "u32" and so on; "[u32]" for a list."""
    if kind[0] != "[":
        return text(key) + struct.pack("<I", TYPES[kind]) + one(kind, value)
    kind = kind[1:-1]
    return text(key) + struct.pack("<IIQ", TYPES["list"], TYPES[kind], len(value)) + b"".join(one(kind, v) for v in value)


def place(name, dims, number, offset):
    """dims as GGUF has them: the fastest first."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)


def padded(data, unit):
    return data + bytes(-len(data) % unit)


def write(pairs=(), tensors=(), version=3, alignment=32, counts=None, places=None, data=None):
    """pairs: (key, kind, value); tensors: (name, shape slowest first, type's name, stored bytes).  counts, places and data
    stand in for what would be there."""
    body, infos = b"", []
    for name, shape, kind, stored in tensors:
        body = padded(body, alignment)
        infos.append(place(name, tuple(reversed(shape)), STORED[kind][0], len(body)))
        body += stored
    counts = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pair(*p) for p in pairs)
    head = padded(head + b"".join(infos if places is None else places), alignment)
    return head + padded(body if data is None else data, alignment)


def random_blocks(kind, values, rng):
    """Stored bytes of so many values: scales finite, everything else at random."""
    _, block, size, scales = STORED[kind]
    data = bytearray(rng.randbytes(values // block * size))
    for at in range(0, len(data), size):
        for scale in scales:
            data[at + scale + 1] &= 0xBF
    return bytes(data)
