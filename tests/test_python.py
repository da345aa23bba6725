#!/usr/bin/python3
"""test_python.py - the Python package on libvcllm.

Faults it would catch: a struct that is laid out otherwise than in C, a dtype that comes out as another, rows that are
not those asked for, an error that becomes a crash or an empty message, an argument that C takes for another, memory
that is used after it was freed, a package that fails without numpy.

VCLLM_LIBRARY names libvcllm.so; without it the package's own search finds it.
"""
import copy
import itertools
import math
import os
import pathlib
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

import refdec
import refenc
import vcllm
from vcllm import bindings, errors, frames, pack

SEED = 77


def normal(shape, dtype="float32"):
    return np.random.default_rng(SEED).normal(0, 1, shape).astype(dtype)


def nmse(x, y):
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    return ((x - y) ** 2).sum() / (x ** 2).sum()


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def compressed(self):
        """Frames of the library's own encoder under names; what they should give."""
        weight, exact = normal((300, 200)), np.arange(24, dtype="int64").reshape(4, 3, 2)
        bf16 = (normal((100, 90)).view("uint32") >> 16).astype("uint16")
        frames = [("weight", vcllm.encode(weight, bits=4)), ("exact", vcllm.encode(exact, codec="exact")),
                  ("bf16", vcllm.encode(bf16, codec="exact", dtype="BF16")),
                  ("tied", refenc.alias("F32", (300, 200), "weight")),
                  ("scalar", vcllm.encode(np.float64(2.5), codec="exact")),
                  ("empty", vcllm.encode(np.zeros((0, 7), "float16"), codec="exact"))]
        path = self.folder / "compressed.safetensors"
        path.write_bytes(refenc.container(frames, {"format": "pt"}))
        return path, weight, exact, bf16

    def test_compressed(self):
        path, weight, exact, bf16 = self.compressed()
        with vcllm.open(path) as model:
            self.assertEqual(list(model.keys()), ["weight", "exact", "bf16", "tied", "scalar", "empty"])
            self.assertEqual(len(model), 6)
            self.assertIn("tied", model)
            self.assertNotIn("tide", model)
            self.assertLess(nmse(weight, model["weight"]), 0.01)
            self.assertEqual((model["weight"].dtype, model["weight"].shape), (np.float32, (300, 200)))
            np.testing.assert_array_equal(model["tied"], model["weight"])
            np.testing.assert_array_equal(model["exact"], exact)
            np.testing.assert_array_equal(model.read("bf16", raw=True), bf16)
            np.testing.assert_array_equal(model["bf16"], (bf16.astype("uint32") << 16).view("float32"))
            self.assertEqual((model["scalar"].shape, float(model["scalar"])), ((), 2.5))
            self.assertEqual((model["empty"].shape, model["empty"].dtype), ((0, 7), np.float16))
            decoded = np.frombuffer(refdec.Compressed(path).decode("weight"), "float32").reshape(300, 200)
            np.testing.assert_array_equal(model["weight"], decoded)
            with self.assertRaises(KeyError):
                model["missing"]

    def test_rows(self):
        path, *_ = self.compressed()
        with vcllm.open(path) as model:
            for name in ("weight", "tied", "exact", "bf16", "empty"):
                whole = model[name]
                for begin, end in ((0, len(whole)), (0, min(1, len(whole))), (len(whole), len(whole)),
                                   (len(whole) // 3, len(whole) // 2)):
                    np.testing.assert_array_equal(model.rows(name, begin, end), whole[begin:end], f"{name} {begin}")
            for name, begin, end in (("weight", -1, 3), ("weight", 5, 4), ("weight", 0, 301), ("scalar", 0, 1)):
                with self.assertRaises(vcllm.Error) as caught:
                    model.rows(name, begin, end)
                self.assertEqual(caught.exception.status, errors.E_ARGUMENT)

    def test_info(self):
        path, *_ = self.compressed()
        with vcllm.open(path) as model:
            info = model.info("weight")
            self.assertEqual((info["dtype"], info["shape"], info["codec"]), ("F32", (300, 200), "tensor"))
            self.assertEqual(info["values"], 60000)
            self.assertTrue(3.9 < info["bits"] <= 4 and 15 < info["snr"] < 30, info)
            self.assertIsNone(info["alias_of"])
            self.assertEqual(model.info("tied")["alias_of"], "weight")
            self.assertEqual(model.info("exact")["codec"], "exact")
            self.assertTrue(math.isinf(model.info("exact")["snr"]))

    def test_plain(self):
        """Every dtype of an uncompressed file; rows of it."""
        rng, tensors = np.random.default_rng(SEED), []
        for dtype in refdec.NAMES:
            tensors.append((dtype, dtype, (4, 8), rng.bytes(4 * refdec.BITS[dtype])))
        path = self.folder / "plain.safetensors"
        path.write_bytes(refenc.plain(tensors))
        with vcllm.open(path) as model:
            self.assertEqual(sorted(model), sorted(refdec.NAMES))
            for dtype, _, _, data in tensors:
                self.assertEqual(model.read(dtype, raw=True).tobytes(), data if dtype != "BOOL" else
                                 np.frombuffer(data, "bool").tobytes(), dtype)
                self.assertEqual(model.info(dtype), {"dtype": dtype, "shape": (4, 8), "bytes": len(data)})
                row = len(data) // 4
                self.assertEqual(model.rows(dtype, 1, 3, raw=True).tobytes(), data[row:3 * row], dtype)

    def test_folder(self):
        for number, name in enumerate(("a", "b")):
            frame = vcllm.encode(np.full((3, 4), number, "int32"), codec="exact")
            path = self.folder / f"model-{number + 1:05}-of-00002.safetensors"
            path.write_bytes(refenc.container([(name, frame)]))
        with vcllm.open(self.folder) as model:
            self.assertEqual(sorted(model), ["a", "b"])
            self.assertEqual(int(model["b"].sum()), 12)

    def test_errors(self):
        path, *_ = self.compressed()
        data = path.read_bytes()
        with self.assertRaises(vcllm.Error) as caught:
            vcllm.open(self.folder / "missing.safetensors")
        self.assertIn("missing.safetensors", str(caught.exception))
        path.write_bytes(data.replace(b'"format"', b'"formas"'))
        with self.assertRaises(vcllm.Error) as caught:
            vcllm.open(path)
        self.assertEqual(caught.exception.status, -22)
        path.write_bytes(data[:-9] + b"x" + data[-8:])
        with vcllm.open(path) as model, self.assertRaises(vcllm.Error) as caught:
            model["empty"]
        self.assertIn("empty", caught.exception.message)
        self.assertIn(str(path), caught.exception.message)

    def test_threads(self):
        """One model from several threads at once."""
        path, *_ = self.compressed()
        with vcllm.open(path, threads=2) as model:
            expected, wrong = model["weight"], []

            def work():
                for _ in range(5):
                    if not np.array_equal(model["weight"], expected):
                        wrong.append(1)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [])

    def test_close_while_used(self):
        """Fault: memory of a model that another thread closes is read."""
        path, weight, *_ = self.compressed()
        plain = self.folder / "plain" / "plain.safetensors"
        plain.parent.mkdir()
        plain.write_bytes(refenc.plain([("weight", "F32", (300, 200), weight.tobytes())]))
        calls = (lambda model: model.info("weight")["shape"], lambda model: model["weight"].shape,
                 lambda model: (300, len(model.rows("weight", 0, 200))), lambda model: "weight" in model and (300, 200))
        for turn in range(30):
            model, ready, wrong = vcllm.open(path if turn % 2 else plain), threading.Barrier(9), []

            def work(call):
                ready.wait()
                try:
                    while True:
                        if call(model) != (300, 200):
                            wrong.append("another shape")
                            return
                except ValueError as error:
                    if "closed" not in str(error):
                        wrong.append(error)
                except BaseException as error:
                    wrong.append(error)

            threads = [threading.Thread(target=work, args=(call,)) for call in calls * 2]
            for thread in threads:
                thread.start()
            ready.wait()
            model.close()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [], turn)

    def test_closed(self):
        """Fault: a closed model that seems empty."""
        path, *_ = self.compressed()
        model = vcllm.open(path)
        array = model["weight"]
        model.close()
        model.close()
        for call in (lambda: model["weight"], lambda: model.read("weight"), lambda: model.rows("weight", 0, 1),
                     lambda: model.info("weight"), lambda: len(model), lambda: list(model), lambda: "weight" in model,
                     lambda: model.get("weight"), lambda: list(model.items())):
            with self.assertRaisesRegex(ValueError, "compressed.safetensors: closed"):
                call()
        self.assertTrue(np.isfinite(array).all())

    def test_copies(self):
        """Fault: a copy of a model, by which its memory is freed a second time."""
        path, *_ = self.compressed()
        with vcllm.open(path) as model:
            for copied in (copy.copy, copy.deepcopy, pickle.dumps):
                self.assertRaisesRegex(TypeError, "Model", copied, model)

    def test_hash_taken_away(self):
        """Fault: a file whose vcllm.hash was lost with its metadata, taken for a plain one: frames come as numbers."""
        path, *_ = self.compressed()
        frames = refdec.Compressed(path).frames
        path.write_bytes(refenc.plain([(name, "U8", (len(frame.data),), frame.data)
                                       for name, frame in frames.items()]))
        with self.assertRaises(vcllm.Error) as caught:
            vcllm.open(path)
        self.assertEqual(caught.exception.status, -22)
        self.assertIn(str(path), str(caught.exception))
        path.write_bytes(refenc.plain([("bytes", "U8", (40,), bytes(40))]))
        with vcllm.open(path) as model:
            self.assertEqual(model["bytes"].shape, (40,))

    def test_interrupted(self):
        """Fault: Ctrl-C while a tensor is decoded becomes an error of the file, or values that were never written."""
        path = self.folder / "long.safetensors"
        path.write_bytes(refenc.container([("long", vcllm.encode(normal((4096, 1024)), codec="exact"))]))
        run = subprocess.run([sys.executable, "-c", INTERRUPTED, str(path)], capture_output=True, text=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
        self.assertEqual(run.stdout, 10 * "interrupted\n", run.stderr)

    def test_bad_arguments(self):
        path, *_ = self.compressed()
        for error, name, call in (
                (TypeError, "path", lambda: vcllm.open(5)), (ValueError, "path", lambda: vcllm.open(f"{path}\0x")),
                (ValueError, "path", lambda: vcllm.open(os.fsencode(path) + b"\0")),
                (TypeError, "threads", lambda: vcllm.open(path, threads=1.5)),
                (ValueError, "threads", lambda: vcllm.open(path, threads=-1)),
                (ValueError, "threads", lambda: vcllm.open(path, threads=2 ** 32 + 1))):
            with self.assertRaisesRegex(error, name):
                call()
        with vcllm.open(os.fsencode(path)) as model:
            for error, name, call in (
                    (TypeError, "begin", lambda: model.rows("weight", 0.0, 2)),
                    (TypeError, "begin", lambda: model.rows("weight", False, 2)),
                    (TypeError, "end", lambda: model.rows("weight", 3, None)),
                    (ValueError, "end", lambda: model.rows("weight", 0, 2 ** 64 + 2)),
                    (TypeError, "raw", lambda: model.read("bf16", raw="no")),
                    (ValueError, "raw", lambda: model.rows("bf16", 0, 1, raw=2))):
                with self.assertRaisesRegex(error, name):
                    call()
            self.assertEqual(model.rows("weight", np.int8(1), np.uint64(3)).shape, (2, 200))


INTERRUPTED = """
import signal, sys, vcllm
signal.signal(signal.SIGALRM, signal.default_int_handler)
with vcllm.open(sys.argv[1]) as model:
    for _ in range(10):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            for _ in range(1000):
                model["long"]
        except KeyboardInterrupt:
            print("interrupted")
"""


class Frames(unittest.TestCase):
    def test_round_trip(self):
        for dtype in ("bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32", "complex64",
                      "float64", "int64", "uint64"):
            array = (normal((5, 7)) * 100).astype(dtype)
            back = vcllm.decode(vcllm.encode(array, codec="exact"))
            self.assertEqual((back.dtype, back.shape), (array.dtype, array.shape))
            np.testing.assert_array_equal(back, array, dtype)
        big_endian = np.arange(6, dtype=">f4").reshape(2, 3)
        np.testing.assert_array_equal(vcllm.decode(vcllm.encode(big_endian, codec="exact")), big_endian)
        strided = np.arange(40).reshape(5, 8)[:, ::2].T
        np.testing.assert_array_equal(vcllm.decode(vcllm.encode(strided, codec="exact")), strided)

    def test_built_in(self):
        """The codecs that need no module: lossless, and the tensor codec with either objective."""
        array = normal((256, 384))
        bf16 = (array.view("uint32") >> 16).astype("uint16")
        frame = vcllm.encode(bf16, codec="lossless", dtype="BF16")
        self.assertLess(len(frame), 0.75 * bf16.nbytes)
        np.testing.assert_array_equal(vcllm.decode(frame, raw=True), bf16)
        for objective in frames.OBJECTIVES:
            frame = vcllm.encode(array, codec="tensor", bits=2.9, objective=objective)
            self.assertLessEqual(8 * len(frame) / array.size, 2.9)
            self.assertLess(nmse(array, vcllm.decode(frame)), 0.03, objective)

    def test_lossy(self):
        array = normal((256, 384))
        for codec in ("h264", "h265"):
            frame = vcllm.encode(array, codec=codec, bits=2.9)
            self.assertLessEqual(8 * len(frame) / array.size, 2.9)
            self.assertLess(nmse(array, vcllm.decode(frame)), 0.05, codec)
            self.assertEqual(refdec.Frame(frame).decode(), vcllm.decode(frame).tobytes())
        frame = vcllm.encode(array, codec="h265", snr=25, rotate=True, row_scales=True, depth=10, seed=9, effort=3, threads=2)
        header = refdec.Frame(frame)
        self.assertEqual((header.flags, header.depth, header.seed), (3, 10, 9))
        self.assertLessEqual(10 * math.log10(nmse(array, vcllm.decode(frame))), -25)

    def test_chroma(self):
        """The planes in the stream are those asked for, as ffprobe sees them (monochrome H.264 as 4:2:0)."""
        array = normal((128, 128))
        for codec, chroma, depth in itertools.product(("h264", "h265"), (400, 420), (8, 10)):
            if (codec, chroma) == ("h264", 400):
                continue
            frame = refdec.Frame(vcllm.encode(array, codec=codec, snr=15, chroma=chroma, depth=depth))
            offset, stored = frame.tiles[0][:2]
            kind = ("gray" if chroma == 400 else "yuv420p") + ("10le" if depth == 10 else "")
            run = subprocess.run(["ffprobe", "-v", "error", "-f", {"h264": "h264", "h265": "hevc"}[codec],
                                  "-show_entries", "stream=pix_fmt", "-of", "csv=p=0", "-"],
                                 input=frame.data[offset:offset + stored], capture_output=True)
            self.assertEqual(run.stdout.decode().strip(), kind, f"{codec} {chroma} {depth}")

    def test_bad_arguments(self):
        array = normal((4, 4))
        for call in (lambda: vcllm.encode(array, codec="mp3"), lambda: vcllm.encode(array, codec="alias"),
                     lambda: vcllm.encode(array, bits=3, snr=20), lambda: vcllm.encode(array, bits=-1),
                     lambda: vcllm.encode(array, dtype="F64"), lambda: vcllm.encode(np.array(["text"])),
                     lambda: vcllm.encode(array, depth=9), lambda: vcllm.decode(b""), lambda: vcllm.decode(b"VCLF" * 9),
                     lambda: vcllm.decode(refenc.alias("F32", (2,), "x"))):
            with self.assertRaises(vcllm.Error) as caught:
                call()
            self.assertLess(caught.exception.status, 0)
            self.assertTrue(caught.exception.message)
        with self.assertRaisesRegex(vcllm.ArgumentError, "max_error"):
            vcllm.encode(array, codec="h265", max_error=0.1)
        with self.assertRaisesRegex(vcllm.Error, "shape"):      # numpy's limit is below the format's
            vcllm.decode(refenc.exact("F64", (2 ** 62, 2 ** 62, 0), b""))
        self.assertRaises(TypeError, vcllm.encode, array, qp=3)
        self.assertRaises(vcllm.Error, vcllm.encode, array, objective="best")

    def test_settings_are_checked(self):
        """Faults: an integer that wraps, text that is cut at a NUL, a number taken for an address, a setting lost."""
        array = normal((64, 64))
        whole = ("effort", "seed", "depth", "chroma", "disable", "threads")
        flags = ("rotate", "row_scales", "transpose")
        wrong = [(ValueError, name, value) for name in whole for value in (2 ** 32 + 8, -2 ** 32 + 8, 2 ** 200)]
        wrong += [(TypeError, name, value) for name in whole for value in (8.0, True, np.bool_(True), "8", b"8")]
        wrong += [(TypeError, name, value) for name in flags for value in (1.0, "", [])]
        wrong += [(ValueError, name, value) for name in flags for value in (2, -1)]
        wrong += [(ValueError, name, value) for name in ("seed", "disable", "threads") for value in (-1, 2 ** 32)]
        wrong += [(TypeError, name, value) for name in ("encoder", "decoder") for value in (5, 2 ** 70, b"libx265")]
        wrong += [(TypeError, name, value) for name in ("codec", "objective", "dtype") for value in (5, b"mse", [])]
        wrong += [(ValueError, "codec", "tensor\0x"), (ValueError, "objective", "mse\0"), (ValueError, "dtype", "F3"),
                  (ValueError, "dtype", "F32\0"), (ValueError, "encoder", "x\0y"), (ValueError, "decoder", "\ud800")]
        wrong += [(TypeError, name, value) for name in frames.GOALS for value in ("3", True, 3j, [3])]
        wrong += [(ValueError, name, value) for name in frames.GOALS for value in (math.nan, math.inf, 10 ** 400)]
        wrong += [(TypeError, "row_floor", value) for value in ("3", True, [3])]
        wrong += [(ValueError, "row_floor", value) for value in (-1, 61, math.nan, math.inf)]
        wrong += [(ValueError, "bits", -1), (ValueError, "snr", 201), (ValueError, "max_error", 0)]
        wrong += [(TypeError, "qp", 3), (TypeError, "keep", ()), (TypeError, "columns", 64), (TypeError, "size", 8)]
        for error, name, value in wrong:
            with self.assertRaisesRegex(error, rf"\b{name}\b", msg=f"{name} {value!r}"):
                vcllm.encode(array, **{"codec": "tensor", name: value})
        frame = vcllm.encode(array, bits=np.float32(4), effort=np.int64(3), rotate=np.bool_(True), disable=1,
                             encoder=None, transpose=1, seed=2 ** 32 - 1)
        header = refdec.Frame(frame)
        self.assertEqual((header.seed, header.flags & 33), (2 ** 32 - 1, 33))

    def test_weights_are_checked(self):
        """Faults: memory read beyond arrays whose shapes disagree; float64 or strided values taken for float32."""
        array, weight, feedback = normal((32, 8192)), np.ones(8192, "float32"), np.zeros((64, 64), "float32")
        small = normal((64, 64))
        one = np.zeros((1, 1), "float32")
        for settings in ({"col_weight": weight, "feedback": one}, {"feedback": one, "col_weight": weight},
                         {"feedback": one}, {"col_weight": weight[:1]}, {"col_weight": weight[:0], "feedback": one},
                         {"col_weight": weight[:0]}, {"feedback": feedback}):
            with self.assertRaisesRegex(ValueError, "columns"):
                vcllm.encode(array, **settings)
        self.assertTrue(vcllm.encode(small, feedback=feedback, col_weight=weight[:64]))
        for name, values in (("feedback", feedback), ("col_weight", weight[:64])):
            for value in (values.astype("float64"), values.astype(">f4"), values.view("int32"), values[::2],
                          values[None], values[0], values.sum(), normal((64, 64)).T, bytes(values.nbytes)):
                with self.assertRaisesRegex(ValueError, name):
                    vcllm.encode(small, **{name: value})
            for value in (5, 2 ** 40, "text", values.tolist()):
                with self.assertRaisesRegex(TypeError, name):
                    vcllm.encode(small, **{name: value})
            for value in (math.nan, math.inf, -1e38):
                values.flat[-2] = value
                with self.assertRaisesRegex(vcllm.ArgumentError, name):
                    vcllm.encode(small, **{name: values})

    def test_arrays_are_checked(self):
        """Faults: addresses of objects or floats' bits coded as integers; bytes(n) decoded for a number n."""
        for array in (np.array([None, 1]), np.array(["text"]), None, "text", np.zeros(2, "datetime64[s]"), object()):
            for dtype in (None, "U64"):
                with self.assertRaisesRegex(ValueError, "array"):
                    vcllm.encode(array, codec="exact", dtype=dtype)
        for dtype, array in (("I32", normal(4)), ("BF16", normal(4, "float16")), ("F32", np.zeros(3, "int32"))):
            with self.assertRaisesRegex(ValueError, dtype):
                vcllm.encode(array, codec="exact", dtype=dtype)
        memory = memoryview(bytes(8)).cast("f")
        for data, dtype, shape in ((memory, "F32", (-2,)), (memory, "F32", (2 ** 64 + 2,)), (memory, "F32", (3,)),
                                   (memory, "F33", (2,)), (memory, "F32", (1,) * 16 + (2,))):
            with self.assertRaises(ValueError):
                vcllm.encode(vcllm.Tensor(data, dtype, shape), codec="exact")
        for data, dtype, shape in (([1.0, 2.0], "F32", (2,)), (memory, 17, (2,)), (memory, "F32", (2.0,))):
            with self.assertRaises(TypeError):
                vcllm.encode(vcllm.Tensor(data, dtype, shape), codec="exact")
        for frame in (5, "text", [86, 67, 76, 70], None):
            with self.assertRaisesRegex(TypeError, "frame"):
                vcllm.decode(frame)
        frame = vcllm.encode(np.arange(5), codec="exact")
        np.testing.assert_array_equal(vcllm.decode(np.frombuffer(frame, "uint8")), np.arange(5))
        self.assertRaisesRegex(TypeError, "raw", vcllm.decode, frame, raw="yes")
        self.assertRaisesRegex(ValueError, "threads", vcllm.decode, frame, threads=-1)

    def test_errors_travel(self):
        """Fault: an error that another process cannot send, which pickle makes of its arguments."""
        for error in (errors.failure(errors.E_CODEC, "no codec"), errors.failure(errors.E_ARGUMENT, "no number")):
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(again), again.status, str(again)), (type(error), error.status, str(error)))

    def test_faults_are_told(self):
        """The library's own words on a frame that is none, not only the phrase of the status."""
        frame = bytearray(vcllm.encode(normal((4, 4)), codec="exact"))
        frame[8] ^= 1
        for data, words in ((b"abc", "not a frame: wrong magic bytes"), (b"VCLF", "frame header is cut off"),
                            (bytes(frame), "frame header is damaged: its checksum does not match")):
            with self.assertRaises(vcllm.Error) as caught:
                vcllm.decode(data)
            self.assertEqual(caught.exception.message, words)


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
import array, ctypes, vcllm
from vcllm import values
assert values.numpy is None
numbers = memoryview(array.array("f", [1, 2, 3, 4, 5, 6])).cast("B").cast("f", (2, 3))
frame = vcllm.encode(numbers, codec="exact")
back = vcllm.decode(frame)
assert (back.dtype, back.shape, back.data.tolist()) == ("F32", (2, 3), [[1, 2, 3], [4, 5, 6]]), back
assert vcllm.encode(back, codec="exact") == frame
longs = vcllm.decode(vcllm.encode(array.array("l", [1, -2]), codec="exact"))
assert longs.data.tolist() == [1, -2], longs
for wrong, dtype, error in (((ctypes.c_float.__ctype_be__ * 2)(1, 2), None, ValueError), (numbers, "I32", ValueError),
                            ([1.0, 2.0], None, TypeError), (b"ab", 5, TypeError)):
    try:
        vcllm.encode(wrong, codec="exact", dtype=dtype)
        raise AssertionError(wrong)
    except error:
        pass
bf16 = vcllm.encode(array.array("H", [0x3F80, 0xC000]), codec="exact", dtype="BF16")
assert vcllm.decode(bf16).data.tolist() == [1.0, -2.0]
assert vcllm.decode(bf16, raw=True).data.tolist() == [0x3F80, 0xC000]
f16 = vcllm.encode(array.array("H", [0x3C00, 0xC000]), codec="exact", dtype="F16")
assert (vcllm.decode(f16).dtype, vcllm.decode(f16).data.tolist()) == ("F32", [1.0, -2.0])
with vcllm.open(sys.argv[1]) as model:
    assert model["scalar"].shape == () and model["scalar"].data[0] == 2.5
    assert model["empty"].shape == (0, 7) and len(model["empty"].data) == 0
    assert model["c64"].dtype == "C64" and len(model["c64"].data) == 16
    assert model.rows("rows", 1, 3).data.tolist() == [[2, 3], [4, 5]]
print("fine")
"""


class WithoutNumpy(unittest.TestCase):
    def test_memoryviews(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "plain.safetensors"
            path.write_bytes(refenc.plain([("scalar", "F64", (), struct.pack("<d", 2.5)), ("empty", "F16", (0, 7), b""),
                                           ("c64", "C64", (2,), bytes(16)), ("rows", "U8", (4, 2), bytes(range(8)))]))
            run = subprocess.run([sys.executable, "-c", WITHOUT_NUMPY, str(path)], capture_output=True, text=True,
                                 env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
            self.assertEqual(run.stdout, "fine\n", run.stderr)


# ---- the structs against the headers -----------------------------------------------------------------------------

LAYOUT = """
#include "vcllm_pack.h"
#include <stdio.h>
#define SHOW(type, ...) struct type type = { __VA_ARGS__ }; printf(#type " %zu\\n", sizeof type)
#define FIELD(type, field) printf(#type "." #field " %zu\\n", offsetof(struct type, field))
int main(void) {
"""

STRUCTS = {"vcl_tensor": bindings.TensorStruct, "vcl_options": bindings.OptionsStruct,
           "vcl_params": bindings.ParamsStruct, "vcl_info": bindings.InfoStruct, "vcl_report": bindings.ReportStruct,
           "vcl_error": bindings.ErrorStruct, "vcl_entry": bindings.EntryStruct,
           "vcl_entry_handle": bindings.HandleStruct, "vcl_source": bindings.SourceStruct,
           "vcl_sink": bindings.SinkStruct, "vcl_progress": pack.ProgressStruct, "vcl_hooks": pack.HooksStruct,
           "vcl_compress_options": pack.CompressOptionsStruct, "vcl_pack_totals": pack.TotalsStruct,
           "vcl_decompress_options": pack.DecompressOptionsStruct, "vcl_decompressed": pack.DecompressedStruct,
           "vcl_verify_options": pack.VerifyOptionsStruct, "vcl_verified": pack.VerifiedStruct,
           "vcl_evaluate_options": pack.EvaluateOptionsStruct, "vcl_mean": pack.MeanStruct,
           "vcl_evaluation": pack.EvaluationStruct}


def names_of(struct_class):
    return [name for name, _ in struct_class._fields_]


def zeros_of(struct_class):
    """An initialiser for each field."""
    ctypes = bindings.ctypes
    return ", ".join(f"{{ {zeros_of(kind)} }}" if issubclass(kind, ctypes.Structure)
                     else "{ 0 }" if issubclass(kind, ctypes.Array) else "0" for _, kind in struct_class._fields_)


class Layout(unittest.TestCase):
    def test_structs(self):
        """Sizes, offsets and numbers of fields as the C compiler sees them: it refuses fewer initialisers, and more."""
        program, expected = LAYOUT, ""
        for name, struct_class in STRUCTS.items():
            program += f"SHOW({name}, {zeros_of(struct_class)});\n"
            expected += f"{name} {bindings.ctypes.sizeof(struct_class)}\n"
            for field in names_of(struct_class):
                program += f"FIELD({name}, {field});\n"
                expected += f"{name}.{field} {getattr(struct_class, field).offset}\n"
        with tempfile.TemporaryDirectory() as folder:
            source, binary = pathlib.Path(folder) / "layout.c", pathlib.Path(folder) / "layout"
            source.write_text(program + "return 0; }\n")
            compiler = [os.environ.get("CC", "cc"), "-Wextra", "-Werror", "-I", ROOT / "include"]
            made = subprocess.run([*compiler, source, "-o", binary], capture_output=True, text=True)
            self.assertEqual(made.returncode, 0, made.stderr)
            self.assertEqual(subprocess.run([binary], capture_output=True, text=True).stdout, expected)

    def test_fields(self):
        """All that a caller may set in C, or is told there, Python has too."""
        elsewhere = {"size", "codec", "goal", "target", "columns"}      # arguments of encode, or follow from them
        self.assertEqual(set(frames.SETTINGS), set(names_of(bindings.ParamsStruct)) - elsewhere)
        for struct_class, tuple_class, rest in ((pack.TotalsStruct, pack.Compressed, {"notes"}),
                                                (pack.DecompressedStruct, pack.Decompressed, {"notes"}),
                                                (pack.VerifiedStruct, pack.Verified, set()),
                                                (pack.EvaluationStruct, pack.Evaluation, {"notes"})):
            told = set(names_of(struct_class)) - {"size", "faults"}     # an Error has the faults
            self.assertEqual(set(tuple_class._fields), told | rest)

    def test_constants(self):
        """Numbers this package repeats from vcllm.h."""
        header = (ROOT / "include" / "vcllm.h").read_text()
        for name, value in (("ARGUMENT", errors.E_ARGUMENT), ("IO", errors.E_IO), ("LIMIT", errors.E_LIMIT),
                            ("CODEC", errors.E_CODEC)):
            self.assertEqual(int(re.search(rf"VCL_E_{name} = (-\d+)", header)[1]), value)
        self.assertEqual([bindings.lib.vcl_dtype_name(i).decode() for i in range(22)], refdec.NAMES)
        self.assertEqual([bindings.lib.vcl_codec_name(i).decode() for i in range(6)],
                         ["alias", "exact", "h264", "h265", "tensor", "lossless"])
        self.assertIsNone(bindings.lib.vcl_codec_name(6))
        goals = re.search(r"enum vcl_goal \{(.*?)\};", header, re.S)[1]
        self.assertEqual(re.findall(r"VCL_GOAL_(\w+)", goals), ["BITS", "SNR", "ERROR", "STEP"])
        self.assertEqual(frames.GOALS, ("bits", "snr", "max_error", "step"))
        objectives = re.search(r"enum vcl_objective \{(.*?)\};", header, re.S)[1]
        self.assertEqual([name.lower() for name in re.findall(r"VCL_OBJECTIVE_(\w+)", objectives)],
                         list(frames.OBJECTIVES))


if __name__ == "__main__":
    unittest.main()
