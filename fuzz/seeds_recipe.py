#!/usr/bin/python3
"""seeds_recipe.py FOLDER - inputs to start fuzz_recipe from: a recipe of every golden frame of the tensor codec.

Checksums are left 0: fuzzers take any.
"""
import pathlib
import struct
import sys

FIXED, VALUES_ASIDE = 24, 4
VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors"


def recipe(frame):
    """docs/format.md, "Recipe": the frame's header without its values, behind what only an encoder knows."""
    rank, flags = frame[7], struct.unpack_from("<I", frame, 8)[0]
    part = FIXED + 8 * rank
    cols, = struct.unpack_from("<Q", frame, part)
    side, = struct.unpack_from("<I", frame, part + 16 + 28)
    codec = bytearray(frame[part:part + 48 + side])
    codec[36:40] = bytes(4)     # the SNR
    header_bytes = FIXED + 16 + len(codec) + 4
    header = frame[:7] + struct.pack("<BIIQQQ", 2, flags & ~VALUES_ASIDE, header_bytes, header_bytes + 7 & ~7, 0, cols)
    fixed = b"VCLR" + struct.pack("<IdfbB6xI", 0, 1.0, 0.25, 20, 0, 0)
    return fixed + header + bytes(codec) + bytes(4)


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for path in sorted(VECTORS.glob("tensor-*.frame")):
    (folder / path.stem).write_bytes(recipe(path.read_bytes()))
