#!/usr/bin/python3
"""seeds.py FOLDER - inputs to start fuzz_roundtrip from: every codec, dtype, kind of values and shape at least once.

The bytes are random, from a fixed seed, and their number varies, so that some set no single values and some many.
"""
import pathlib
import random
import sys

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
rng = random.Random(20240521)
for i in range(200):
    (folder / f"seed-{i:03}").write_bytes(rng.randbytes(rng.choice((30, 34, 44, 64, 164))))
