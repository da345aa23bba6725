#!/usr/bin/python3
"""seeds_gguf.py FOLDER - inputs to start fuzz_gguf from: every type of value and tensor, good files and bad ones, each
without the magic, which fuzz_gguf writes."""
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import gguf_file  # noqa: E402
from test_gguf import HOSTILE  # noqa: E402

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
rng = random.Random(20240521)
files = [data for data, _ in HOSTILE.values()]
for kind, (_, block, size, _) in gguf_file.STORED.items():
    files.append(gguf_file.write(tensors=[("a", (2, block), kind, rng.randbytes(2 * size)), ("b", (), "F32", bytes(4))], version=2))
for kind in gguf_file.TYPES:
    value = "text" if kind == "text" else 1
    if kind != "list":
        files.append(gguf_file.write([("k", kind, value), ("list", f"[{kind}]", [value] * 3), ("general.alignment", "u32", 8)],
                                     [("a", (3,), "F16", bytes(6))], alignment=8))
for i, data in enumerate(files):
    (folder / f"seed-{i:03}").write_bytes(data[4:])
