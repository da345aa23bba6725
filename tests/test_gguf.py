#!/usr/bin/python3
"""test_gguf.py - GGUF files as models.

Faults it would catch: a quantised value that is another than ggml's, a shape the wrong way round, a read that starts or
ends inside a block, metadata of another type or value; a hostile file that crashes, is taken for good, or is refused in
words that do not say what and where; a good one that is refused.
What each type's random blocks decode to is written here as hashes, which come from the PyPI package `gguf` 0.19, ggml's
own reader; where that is installed, all is compared with what it says.
"""
import ctypes
import hashlib
import json
import os
import random
import struct
import sys
import tempfile
import unittest

import numpy as np

import gguf_file
from driver import ROOT, Case, run_vcllm

sys.path.insert(0, str(ROOT / "python"))

import vcllm
from vcllm.bindings import ErrorStruct, lib

try:
    import gguf
except ImportError:
    gguf = None

SEED = 20
QUANTISED = [kind for kind, (_, block, _, _) in gguf_file.STORED.items() if block > 1]
ROWS, COLS = 3, 512
DECODED = {"Q4_0": "56af7ed63d94932a", "Q4_1": "2671088e6c754dc3", "Q5_0": "8efb717185b8d0b8", "Q5_1": "b01fd57f4b1d7f54",
           "Q8_0": "b41030b24006a499", "Q2_K": "b78f128920fde1ea", "Q3_K": "ab4f04a38a770dac", "Q4_K": "390a8d13ac1a3f76",
           "Q5_K": "0bb63cdb72ed5778", "Q6_K": "e215fc90a38bd307", "MXFP4": "03e4704d7714ae71"}


def blocks(kind):
    return gguf_file.random_blocks(kind, ROWS * COLS, random.Random(f"{SEED} {kind}"))


def read(model, name, offset, n):
    """Bytes of a tensor, wherever they begin."""
    data, error = ctypes.create_string_buffer(n + 1), ErrorStruct()
    status = lib.vcl_model_read(model._model, model._entries[name], offset, data, n, ctypes.byref(error))
    return data.raw[:n] if status == 0 else status


def whole(model, name):
    return read(model, name, 0, model._entries[name].contents.bytes)


class Values(Case):
    def model(self, *tensors, **more):
        model = vcllm.Model(self.write("model.gguf", gguf_file.write(tensors=tensors, **more)))
        self.addCleanup(model.close)
        return model

    def test_decoded(self):
        """Every bit of every quantised type, as ggml's own reader has them."""
        model = self.model(*((kind, (ROWS, COLS), kind, blocks(kind)) for kind in QUANTISED))
        for kind in QUANTISED:
            self.assertEqual(hashlib.sha256(whole(model, kind)).hexdigest()[:16], DECODED[kind], kind)

    @unittest.skipUnless(gguf, "the package gguf is missing")
    def test_decoded_by_ggml(self):
        model = self.model(*((kind, (ROWS, COLS), kind, blocks(kind)) for kind in QUANTISED))
        for kind in QUANTISED:
            stored = np.frombuffer(blocks(kind), "uint8").reshape(ROWS, -1)
            number = gguf.GGMLQuantizationType[kind]
            with np.errstate(over="ignore"):  # MXFP4's scales go beyond f32
                expected = gguf.quants.dequantize(stored, number).astype("<f4").tobytes()
            if kind == "MXFP4":
                expected = (np.frombuffer(expected, "<u4") >> 16).astype("<u2").tobytes()
            self.assertEqual(whole(model, kind), expected, kind)

    @unittest.skipUnless(gguf, "the package gguf is missing")
    def test_written_by_ggml(self):
        """A file of the package's own writer: names, shapes, dtypes, values."""
        path, rng = self.folder / "theirs.gguf", np.random.default_rng(SEED)
        writer = gguf.GGUFWriter(path, "llama")
        arrays = {f"{d}": rng.integers(-100, 100, (3, 5, 2)).astype(d) for d in
                  ("float32", "float16", "float64", "int8", "int16", "int32", "int64")}
        for name, array in arrays.items():
            writer.add_tensor(name, array)
        matrix = rng.normal(size=(6, 64)).astype("float32")
        stored = gguf.quants.quantize(matrix, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor("q8", stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.add_array("some.list", [1, 2, 3])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with vcllm.Model(path) as model:
            for name, array in arrays.items():
                np.testing.assert_array_equal(model[name], array)
            np.testing.assert_array_equal(model["q8"], gguf.quants.dequantize(stored, gguf.GGMLQuantizationType.Q8_0))

    def test_slices(self):
        """Any range of bytes is that of the whole."""
        rng, kinds = random.Random(SEED), QUANTISED + ["F16", "I64"]
        model = self.model(*((k, (ROWS, COLS), k, gguf_file.random_blocks(k, ROWS * COLS, rng)) for k in kinds))
        for kind in kinds:
            data = whole(model, kind)
            for _ in range(200):
                offset = rng.randrange(len(data) + 1)
                n = rng.choice((0, 1, 3, 130, 5000, len(data)))
                n = min(n, len(data) - offset)
                self.assertEqual(read(model, kind, offset, n), data[offset:offset + n], (kind, offset, n))
            self.assertEqual(read(model, kind, len(data), 1), -1)

    def test_plain(self):
        """Types that stand as they are; shapes of every rank, empty ones and alignments."""
        rng = random.Random(SEED)
        for alignment in (1, 8, 32, 4096, 1 << 20):
            shapes = {"a": ((), "F32"), "b": ((7,), "BF16"), "c": ((2, 3), "F64"), "d": ((2, 3, 5), "I8"), "e": ((2, 0), "F32"),
                      "f": ((2, 3, 4, 5), "I16"), "g": ((5,), "I32"), "h": ((0, 32), "Q4_0"), "i": ((3,), "I64"), "j": ((9, 1), "F16")}
            tensors = [(n, shape, kind, rng.randbytes(int(np.prod(shape)) // gguf_file.STORED[kind][1] * gguf_file.STORED[kind][2]))
                       for n, (shape, kind) in shapes.items()]
            with vcllm.Model(self.write("a.gguf", gguf_file.write([("general.alignment", "u32", alignment)], tensors,
                                                                  alignment=alignment, version=2 + (alignment > 9)))) as model:
                self.assertEqual(sorted(model), sorted(shapes))
                for name, shape, kind, stored in tensors:
                    tensor = model._entries[name].contents.tensor
                    self.assertEqual(tuple(tensor.dims[:tensor.rank]), shape)
                    self.assertEqual(whole(model, name), stored if kind != "Q4_0" else b"")

    def test_large_header(self):
        """A header that is read in many steps, and its limit."""
        words = [f"word {i} " + "x" * (i % 50) for i in range(60000)]
        data = gguf_file.write([("words", "[text]", words), ("after", "u8", 7)], [("t", (2,), "F32", b"12345678")])
        path = self.write("large.gguf", data)
        run = self.succeed("info", "--json", path)
        self.assertEqual(json.loads(run.stdout)["tensors"][0]["name"], "t")
        run = run_vcllm("info", path, "--header-limit", "1MiB")
        self.assertEqual(run.returncode, 1)
        self.assertIn("the header has more than 1048576 bytes, which is the limit", run.stderr)


class Commands(Case):
    """What works on a safetensors file works on a GGUF file."""

    def setUp(self):
        super().setUp()
        rng = random.Random(SEED)
        self.stored = gguf_file.random_blocks("Q4_1", 128 * 256, rng)
        self.input = self.write("m.gguf", gguf_file.write(
            [("general.name", "text", "\u00e9"), ("n", "u64", 1 << 62), ("x", "f32", 0.1), ("y", "bool", 1), ("list", "[u8]", [1]),
             ("bad", "text", b"\xff")],
            [("w", (128, 256), "Q4_1", self.stored), ("v", (3,), "F16", b"123456")]))

    def test_info(self):
        document = json.loads(self.succeed("info", "--json", self.input).stdout)
        self.assertEqual([(t["name"], t["dtype"], t["shape"], t["stored_as"], t["stored_bytes"]) for t in document["tensors"]],
                         [("w", "F32", [128, 256], "Q4_1", len(self.stored)), ("v", "F16", [3], "F16", 6)])
        self.assertRegex(self.succeed("info", self.input).stdout, r"w +\[128, 256\] +Q4_1 +20.00 KiB")

    def test_there_and_back(self):
        small, back = self.folder / "small.safetensors", self.folder / "back.safetensors"
        self.succeed("compress", self.input, "-o", small, "--lossless")
        self.succeed("verify", small)
        self.succeed("decompress", small, "-o", back)
        self.assertIn("exact", self.succeed("compare", self.input, back).stdout)
        head = back.read_bytes()
        header = json.loads(head[8:8 + int.from_bytes(head[:8], "little")])
        self.assertEqual(header["__metadata__"], {"general.name": "\u00e9", "n": str(1 << 62), "x": "0.100000001", "y": "true"})
        with vcllm.Model(self.input) as ours, vcllm.Model(back) as theirs:
            for name in ("w", "v"):
                self.assertEqual(whole(ours, name), whole(theirs, name))

    def test_lossy(self):
        small = self.folder / "small.safetensors"
        self.succeed("compress", self.input, "-o", small, "--bits", "3")
        self.succeed("verify", small)
        self.assertIn("dB", self.succeed("compare", self.input, small).stdout)

    def test_refused(self):
        (self.folder / "folder").mkdir()
        run = run_vcllm("compress", self.input, "-o", self.folder / "folder")
        self.assertEqual(run.returncode, 3)
        self.assertIn("one input file makes one output file", run.stderr)


NAME = "blk.0.attn_q.weight"
F32 = (NAME, (2, 2), "F32", bytes(16))


def tampered(number, value, size=4):
    """A good file with a field at byte `number` replaced."""
    data = bytearray(gguf_file.write([("k", "u32", 1)], [F32]))
    data[number:number + size] = struct.pack({4: "<I", 8: "<Q"}[size], value)
    return bytes(data)


def placed(*places, size=32, **more):
    return gguf_file.write(counts=(len(places), 0), places=[gguf_file.place(*p) for p in places], data=bytes(size), **more)


HUGE = 1 << 62
KEY_END = 4 + 4 + 16 + 8 + 1 + 4 + 4  # of the file that is tampered with: where its tensor's name begins
HOSTILE = {
    "nothing but a magic": (b"GGUF", "the file is cut off or damaged: 4 bytes should follow, 0 do (byte 4)"),
    "version 1": (tampered(4, 1), "is GGUF of version 1; 2 and 3 are read"),
    "version 4": (tampered(4, 4), "is GGUF of version 4; 2 and 3 are read"),
    "version 0": (tampered(4, 0), "is GGUF of version 0"),
    "big-endian": (tampered(4, 3 << 24), "the file is big-endian"),
    "more tensors than bytes": (tampered(8, HUGE, 8), "4611686018427387904 tensors of 25 or more bytes should follow"),
    "more keys than bytes": (tampered(16, HUGE, 8), "4611686018427387904 keys of 14 or more bytes should follow"),
    "a negative count": (tampered(16, (1 << 64) - 1, 8), "18446744073709551615 keys of"),
    "a key longer than the file": (tampered(24, HUGE, 8), "a key's name of 4611686018427387904 bytes"),
    "a key of no bytes": (gguf_file.write([("", "u8", 1)]), "a key's name of 0 bytes"),
    "a key that is no text": (gguf_file.write([(b"a\xff", "u8", 1)]), "the name is not UTF-8"),
    "a key with a NUL": (gguf_file.write([(b"a\0b", "u8", 1)]), "a NUL inside"),
    "a key twice": (gguf_file.write([("b", "u8", 1), ("a", "u8", 1), ("b", "[u8]", [1])]), "key 'b' is there twice"),
    "a type of value unknown": (tampered(KEY_END - 8, 13), "key 'k': is of the unknown type 13"),
    "a text longer than the file": (gguf_file.write(counts=(0, 1), places=[gguf_file.text("k") + struct.pack("<IQ", 8, HUGE)]),
                                    "key 'k': the file is cut off or damaged: 4611686018427387904 bytes should follow"),
    "a list longer than the file": (gguf_file.write(counts=(0, 1), places=[gguf_file.text("k") + struct.pack("<IIQ", 9, 12, HUGE)]),
                                    "4611686018427387904 items of 8 bytes should follow"),
    "a list whose bytes wrap around": (gguf_file.write(counts=(0, 1), places=[gguf_file.text("k") + struct.pack("<IIQ", 9, 12, 1 << 61)]),
                                       "2305843009213693952 items of 8 bytes should follow"),
    "a list of texts longer than the file": (gguf_file.write(counts=(0, 1), places=[
        gguf_file.text("k") + struct.pack("<IIQ", 9, 8, HUGE)]), "should follow"),
    "a list of lists": (gguf_file.write(counts=(0, 1), places=[gguf_file.text("k") + struct.pack("<IIQ", 9, 9, 1)]), "key 'k': is a list of lists"),
    "a list of an unknown type": (gguf_file.write(counts=(0, 1), places=[gguf_file.text("k") + struct.pack("<IIQ", 9, 77, 1)]),
                                  "unknown type 77"),
    **{f"an alignment of {value} as {kind}": (gguf_file.write([("general.alignment", kind, value)], [F32]), "no power of two")
       for kind, value in (("u32", 0), ("u32", 3), ("u32", 1 << 21), ("u32", (1 << 32) - 1), ("u64", 32), ("i32", 32), ("text", "32"),
                           ("[u32]", [32]))},
    "a part of a model": (gguf_file.write([("split.count", "u16", 3)], [F32]), "the file is one of 3 parts"),
    "a tensor's name of no bytes": (placed(("", (4,), 0, 0)), "a tensor's name of 0 bytes"),
    "a tensor's name that is no text": (placed((b"\xc0\x80", (4,), 0, 0)), "not UTF-8"),
    "a tensor twice": (placed(("a", (4,), 0, 0), ("a", (4,), 0, 32), size=64), "tensor 'a' is there twice"),
    "a tensor called as metadata are": (placed(("__metadata__", (4,), 0, 0)), "a tensor with the name '__metadata__'"),
    "five dimensions": (placed(("a", (1,) * 5, 0, 0)), "tensor 'a': has 5 dimensions; 4 is the most"),
    "2^32 - 1 dimensions": (gguf_file.write(counts=(1, 0), places=[gguf_file.text("a") + struct.pack("<I", 0xFFFFFFFF)],
                                            data=bytes(64)), "has 4294967295 dimensions"),
    "dimensions whose product wraps around": (placed(("a", (1 << 32, 1 << 32), 0, 0)), "its size is beyond 63 bits"),
    "a dimension below 0": (placed(("a", ((1 << 64) - 4,), 0, 0)), "its size is beyond 63 bits"),
    "a tensor larger than the file": (placed(("a", (1 << 40,), 0, 0)), "tensor 'a': its 4398046511104 bytes at offset 0 of the data end behind the file, which has 32 bytes of data"),
    "a type that is not read": (placed(("a", (256,), 16, 0)), "tensor 'a': is of type IQ2_XXS, which is not read"),
    "a type that was removed": (placed(("a", (32,), 4, 0)), "is of type Q4_2"),
    "a type unknown": (placed(("a", (32,), 999, 0)), "is of the unknown type 999"),
    "half a block": (placed(("a", (48, 2), 2, 0)), "its rows' length 48 is no multiple of 32, the values of a block of Q4_0"),
    "blocks along another dimension": (placed(("a", (16, 32), 2, 0)), "its rows' length 16 is no multiple"),
    "an offset that is not aligned": (placed(("a", (4,), 0, 16)), "begins at byte 16 of the data, no multiple of the alignment 32"),
    "an offset that wraps around": (placed(("a", (4,), 0, (1 << 64) - 32)), "at offset 18446744073709551584 of the data end behind the file"),
    "a hole": (placed(("a", (4,), 0, 64), size=96), "tensor 'a': bytes 64 to 127 of the file, before it, belong to no tensor"),
    "tensors one inside the other": (placed(("a", (64,), 0, 0), ("b", (4,), 0, 32), size=256),
                                     "tensor 'b': its data begin at byte 128 of the file, inside another tensor's"),
    "bytes that belong to none": (placed(("a", (4,), 0, 0), size=96), "bytes 80 to 159, behind the last tensor, belong to none"),
}


class Hostile(Case):
    def test_refused(self):
        for what, (data, says) in HOSTILE.items():
            run = run_vcllm("info", self.write("bad.gguf", data))
            self.assertEqual(run.returncode, 1, what)
            self.assertIn(says, run.stderr, what)
            self.assertIn("bad.gguf: ", run.stderr, what)

    def test_truncated(self):
        """A file that ends early, wherever, is refused."""
        data = gguf_file.write([("k", "[text]", ["a", "bc"]), ("l", "f64", 0.5)], [F32, ("q", (1, 32), "Q8_0", bytes(34))])
        end = len(data) - (-34 % 32)
        for n in range(end):
            with self.assertRaises((vcllm.Error, OSError), msg=str(n)):
                vcllm.Model(self.write("cut.gguf", data[:n]))
        vcllm.Model(self.write("cut.gguf", data[:end])).close()

    @unittest.skipUnless(os.path.isdir("/dev/shm"), "no file system in memory")
    def test_vast(self):
        """In a file of 2^62 bytes, all but its head a hole, a list whose bytes are 2^64 and a little: no memory for them,
        none read."""
        data = gguf_file.write(counts=(0, 1), places=[gguf_file.text("k") + struct.pack("<IIQ", 9, 12, (1 << 61) + 1)])
        with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".gguf") as file:
            file.write(data)
            file.flush()
            os.truncate(file.name, 1 << 62)
            run = run_vcllm("info", file.name)
        self.assertEqual(run.returncode, 1)
        self.assertIn("key 'k': the file is cut off or damaged: 2305843009213693953 items of 8 bytes should follow", run.stderr)

    def test_places_in_any_order(self):
        data = placed(("b", (4,), 0, 32), ("a", (4,), 0, 0), size=48)
        with vcllm.Model(self.write("order.gguf", data)) as model:
            self.assertEqual(list(model), ["a", "b"])


if __name__ == "__main__":
    unittest.main()
