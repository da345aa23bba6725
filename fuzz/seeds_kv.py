#!/usr/bin/python3
"""seeds_kv.py FOLDER - inputs to start fuzz_kv from: every golden recipe of a KV cache with its page."""
import pathlib
import struct
import sys

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors"
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for path in sorted(VECTORS.glob("kv-*.recipe")):
    recipe, page = path.read_bytes(), path.with_suffix(".page").read_bytes()
    (folder / path.stem).write_bytes(struct.pack("<I", len(recipe)) + recipe + page)
