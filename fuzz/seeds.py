#!/usr/bin/python3
"""seeds.py FOLDER - inputs to start fuzz_roundtrip from: every codec, dtype, kind of values and shape at least once, of
200 with VCLLM_LONG; else 16 that are quick, for libFuzzer runs them all before it looks at its clock.

The bytes are random, from a fixed seed, and their number varies, so that some set no single values and some many.
"""
import os
import pathlib
import random
import sys

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for old in folder.iterdir():
    old.unlink()
rng = random.Random(20240521)
every = os.environ.get("VCLLM_LONG")
SLOW = (11, 12)     # half a minute each under MemorySanitizer
for i in range(200 if every else 18):
    data = rng.randbytes(rng.choice((30, 34, 44, 64, 164)))
    if every or i not in SLOW:
        (folder / f"seed-{i:03}").write_bytes(data)
