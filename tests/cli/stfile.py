"""Writes and reads safetensors files for the tests, from the format's description alone."""
import json
import random
import struct

BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
        "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
        "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}


def count(shape):
    values = 1
    for dim in shape:
        values *= dim
    return values


def normal(name, shape, seed, dtype="F32"):
    """A tensor (name, dtype, shape, bytes) of N(0, 0.02) values: the size of a language model's weights."""
    generator = random.Random(seed)
    values = [generator.gauss(0, 0.02) for _ in range(count(shape))]
    return name, dtype, list(shape), struct.pack(f"<{len(values)}{'e' if dtype == 'F16' else 'f'}", *values)


def write(path, tensors, metadata=None):
    """In the order given; the header compact and padded to 8 bytes, as common writers do it."""
    header, offset = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape, data in tensors:
        assert len(data) * 8 == count(shape) * BITS[dtype], name
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            file.write(tensor[3])
    return path


def read(path):
    """(header, [(name, dtype, shape, bytes)] in order of offset)."""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    body = data[8 + length:]
    entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    entries.sort(key=lambda item: item[1]["data_offsets"])
    return header, [(name, entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]) for name,
                    entry in entries]
