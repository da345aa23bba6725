#!/usr/bin/python3
"""test_pack.py - whole models from Python: vcllm.compress, decompress, verify and eval.

Faults it would catch: other bytes than the command line writes, an option that does not arrive, a setting that resume
does not compare, an argument that C takes for another, a fault without its words, a ctrl-C that is lost or leaves
something behind, a callable whose exception is printed instead of raised.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

import numpy as np

import driver
import refenc
from driver import ROOT

sys.path.insert(0, str(ROOT / "python"))

import vcllm
from vcllm import bindings, errors, pack

MODEL = ROOT / "models" / "tiny-llama"
SEED = 11


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


class Pack(driver.Case):
    def weights(self, name="plain.safetensors", count=3, shape=(128, 512)):
        rng = np.random.default_rng(SEED)
        tensors = [(f"w{i}", "F32", shape, rng.normal(size=shape).astype("float32").tobytes()) for i in range(count)]
        return self.write(name, refenc.plain(tensors))

    def test_folder(self):
        """As the command line does it, byte for byte; and back."""
        small, same, back = self.folder / "small", self.folder / "same", self.folder / "back"
        totals = vcllm.compress(MODEL, small, bits=2.5, effort=2, rules=["norm=copy", "embed=snr:20"], threads=2)
        run = self.succeed("compress", MODEL, "-o", same, "--allocate", "fixed", "--bits", 2.5, "--effort", 2, "--rule",
                           "norm=copy", "--rule", "embed=snr:20", "--json")
        self.assertEqual(files_of(small), files_of(same))
        printed = json.loads(run.stdout)["totals"]
        for name in ("tensors", "lossy", "exact", "tied", "values", "lossy_bytes", "file_bytes", "missed", "zero"):
            self.assertEqual(getattr(totals, name), printed[name], name)
        self.assertAlmostEqual(totals.bits, printed["bits"])
        self.assertAlmostEqual(totals.worst_snr, printed["worst_snr"])
        self.assertEqual(vcllm.verify(small), (True, totals.tensors, 2))
        self.assertEqual(vcllm.decompress(small, back, threads=1).tensors, totals.tensors)
        self.assertEqual(set(files_of(back)), set(files_of(MODEL)))
        self.succeed("compare", "--min-snr", 8, MODEL, back)

    def test_targets(self):
        """Fault: an option that is taken for another or not at all."""
        plain, out = self.weights(), self.folder / "out.safetensors"
        self.assertTrue(2.8 < vcllm.compress(plain, out).bits <= 2.9)
        self.assertTrue(3.9 < vcllm.compress(plain, out, 4, force=True).bits <= 4)
        self.assertTrue(100e3 < vcllm.compress(plain, out, size=120000, force=True).file_bytes <= 120000)
        self.assertTrue(24 <= vcllm.compress(plain, out, snr=24, force=True).worst_snr < 26)
        vcllm.compress(plain, out, max_error=0.01, force=True)
        with vcllm.open(plain) as before, vcllm.open(out) as after:
            self.assertTrue(0.005 < np.abs(before["w1"] - after["w1"]).max() <= 0.01)
        self.assertEqual(vcllm.compress(plain, out, lossless=True, force=True).lossy, 0)
        back = self.folder / "back.safetensors"
        vcllm.decompress(out, back)
        self.assertEqual(back.read_bytes(), plain.read_bytes())
        vcllm.decompress(out, back, dtype="bf16", force=True)
        self.assertEqual(back.stat().st_size // 1000, plain.stat().st_size // 2000)
        mse = vcllm.compress(plain, out, bits=1.5, objective="mse", force=True).worst_snr
        self.assertGreater(mse, vcllm.compress(plain, out, bits=1.5, force=True).worst_snr)
        totals = vcllm.compress(plain, out, rules=("w0=copy", "none=3"), row_floor=0, force=True)
        self.assertEqual((totals.lossy, totals.exact), (2, 1))
        self.assertIn("rule 'none=3' decides nothing", totals.notes[0])

    def test_arguments(self):
        """Fault: what no model can be compressed by is begun, or ends in ctypes' words."""
        plain, out = self.weights(), self.folder / "out"
        for wrong, kind in (({"bits": "3"}, TypeError), ({"rules": "w=3"}, TypeError), ({"rules": [3]}, TypeError),
                            ({"progress": 1}, TypeError), ({"threads": 1.5}, TypeError), ({"force": 2}, ValueError),
                            ({"bits": 3, "snr": 9}, ValueError), ({"bits": 3, "lossless": True}, ValueError),
                            ({"effort": 10}, ValueError), ({"snr": 201}, ValueError),
                            ({"max_error": -1}, ValueError), ({"size": -1}, ValueError), ({"size": 0}, ValueError),
                            ({"bits": 0.001}, ValueError), ({"bits": float("nan")}, ValueError),
                            ({"row_floor": 61}, ValueError), ({"snr": 20, "row_floor": 9}, ValueError),
                            ({"codec": "mp3"}, ValueError), ({"codec": "exact"}, ValueError),
                            ({"objective": "best"}, ValueError), ({"rules": ["w"]}, ValueError),
                            ({"rules": ["a\0=3"]}, ValueError), ({"threads": -1}, ValueError)):
            with self.assertRaises(kind, msg=wrong):
                vcllm.compress(plain, out, **wrong)
        for call in (lambda: vcllm.compress(plain, 3), lambda: vcllm.compress(None, out),
                     lambda: vcllm.verify(3), lambda: vcllm.decompress(plain, None)):
            self.assertRaises(TypeError, call)
        self.assertRaises(ValueError, vcllm.decompress, plain, out, dtype="I8")
        self.assertFalse(out.exists())

    def test_errors(self):
        """Fault: a failure without its words or its status, or with a file half written."""
        plain, out = self.weights(), self.folder / "out.safetensors"
        for call, status, words in (
                (lambda: vcllm.compress(self.folder / "none", out), errors.E_IO, "none: cannot open"),
                (lambda: vcllm.compress(plain, self.folder), errors.E_IO, "is a folder"),
                (lambda: vcllm.compress(plain, plain), errors.E_ARGUMENT, "are the same file"),
                (lambda: vcllm.decompress(plain, out), errors.E_ARGUMENT, "is not compressed"),
                (lambda: vcllm.compress(plain, out, size=100), -40, "headers and exact tensors alone take")):
            with self.assertRaises(vcllm.Error) as caught:
                call()
            self.assertEqual(caught.exception.status, status)
            self.assertIn(words, str(caught.exception))
        self.assertFalse(out.exists())

    def test_damage(self):
        """Fault: verify finds one fault of two, or what is damaged comes back."""
        out = self.folder / "out.safetensors"
        vcllm.compress(self.weights(), out)
        with vcllm.open(out) as model:
            ends = [model._entries[name].contents.offset + model._entries[name].contents.bytes for name in ("w0", "w2")]
        data = bytearray(out.read_bytes())
        for end in ends:
            data[end - 20] ^= 1
        out.write_bytes(data)
        with self.assertRaises(vcllm.Error) as caught:
            vcllm.verify(out)
        self.assertEqual(caught.exception.status, -22)
        self.assertEqual(len(caught.exception.faults), 2)
        self.assertEqual(str(caught.exception), caught.exception.faults[0])
        self.assertIn(f"{out}: tensor 'w", str(caught.exception))
        self.assertRaises(vcllm.Error, vcllm.decompress, out, self.folder / "back")
        self.assertFalse((self.folder / "back").exists())

    def test_progress(self):
        """Fault: progress that goes back or does not reach its end, or an exception in it that is lost."""
        plain, out, seen = self.weights(), self.folder / "out.safetensors", []
        vcllm.compress(plain, out, progress=lambda *now: seen.append(now))
        self.assertEqual({(total, stage) for _, total, stage in seen}, {(3 * 128 * 512 * 4, "compress")})
        done = [now[0] for now in seen]
        self.assertEqual((done[0], done[-1], done), (0, seen[0][1], sorted(done)))
        os.remove(out)

        def refuse(done, total, stage):
            raise LookupError(stage)
        with self.assertRaisesRegex(LookupError, "compress"):
            vcllm.compress(plain, out, progress=refuse)
        self.assertEqual(os.listdir(self.folder), ["plain.safetensors"])

    def test_threads(self):
        """Fault: two calls at once share hooks, words or targets."""
        plain, results = self.weights(count=6), {}

        def compress(bits):
            results[bits] = vcllm.compress(plain, self.folder / f"{bits}", bits=bits, rules=[f"none{bits}=1"], threads=2)
        threads = [threading.Thread(target=compress, args=(bits,)) for bits in (1, 2, 3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for bits, totals in results.items():
            self.assertTrue(0.97 * bits < totals.bits <= bits)
            self.assertEqual(len(totals.notes), 1)
            self.assertIn(f"none{bits}", totals.notes[0])
        self.assertEqual(len(results), 4)

    # Fields of options and parameters that the journal need not have: they change no byte, or stand for others.
    NEUTRAL = {"size", "params", "rule_count", "threads", "pool", "overwrite", "resume", "io", "header_limit"}
    FOR_EACH = {"size", "columns", "col_weight", "feedback", "nearest", "row_floor"}    # set for each tensor, by others

    def test_journal(self):
        """Fault: a setting that the journal lacks, or has as another's, so that a folder begun otherwise is resumed.
        That Python knows every field there is, test_python.py checks."""
        options, params = pack.options_of("compress", pack.CompressOptionsStruct, 1), bindings.ParamsStruct()
        bindings.lib.vcl_params_init_sized(bindings.ctypes.byref(params), params.size)
        told = {}
        for i, (name, kind) in enumerate(params._fields_):
            if name not in self.FOR_EACH | {"codec"}:
                told[name] = f"text {i}" if kind is bindings.c_char_p else 1 if name == "goal" else 20 + i
                setattr(params, name, told[name].encode() if kind is bindings.c_char_p else told[name])
        told.update(codec="tensor", lossless=True, size=0, row_floor=-3, rules=["norm=copy", "none=3"])
        self.assertEqual(self.NEUTRAL | {"lossless", "file_bytes", "row_floor", "rules"},
                         {name for name, _ in options._fields_})
        options.params, options.lossless, options.row_floor = bindings.ctypes.pointer(params), 1, -3
        pack.set_rules(options, told["rules"])
        seen, journal = [], self.folder / "small.partial" / "vcllm-journal.json"

        def look(*_):
            if journal.exists():
                seen.append(json.loads(journal.read_text(encoding="utf-8"))["settings"])
                raise LookupError("seen")
        with self.assertRaisesRegex(LookupError, "seen"):
            pack.Errand(look).call(pack.library().vcl_compress_model, str(MODEL).encode(),
                                   str(self.folder / "small").encode(), options, pack.TotalsStruct())
        beside = {name: seen[0].pop(name) for name in ("version", "format", "allocate", "imatrix")}
        self.assertEqual((seen[0], beside["allocate"], beside["imatrix"]), (told, 0, None))

    def interrupt(self, call, begun):
        """A child that runs call gets SIGINT once `begun` is there; what it printed."""
        script = (f"import sys, pathlib; sys.path.insert(0, {str(ROOT / 'python')!r}); import vcllm\n"
                  f"try:\n    {call}\n    print('done')\nexcept KeyboardInterrupt:\n    print('interrupted')\n")
        child = subprocess.Popen([sys.executable, "-B", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True, cwd=self.folder)
        end = time.monotonic() + 60
        while not begun() and child.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        child.send_signal(signal.SIGINT)
        said, complained = child.communicate(timeout=120)
        self.assertEqual((child.returncode, complained), (0, ""), said)
        return said.strip()

    def test_interrupted(self):
        """Fault: ctrl-C waits for the end, is printed and forgotten, or leaves a file or folder behind."""
        self.weights(count=24, shape=(512, 1024))
        before = os.listdir(self.folder)

        def writing():
            return any(name.endswith(".tmp") for name in os.listdir(self.folder))
        call = "vcllm.compress('plain.safetensors', 'out', effort=9, threads=%d, progress=lambda *now: None)"
        for threads in (1, 2):
            self.assertEqual(self.interrupt(call % threads, writing), "interrupted")
            self.assertEqual(sorted(os.listdir(self.folder)), sorted(before))

    def test_interrupted_folder(self):
        """The same of a folder: what no shard of is finished goes, and the next call need not force anything."""
        shutil.copytree(MODEL, self.folder / "model")
        partial = self.folder / "small.partial"
        call = "vcllm.compress('model', 'small', effort=9, threads=1)"
        said = self.interrupt(call, lambda: partial.exists() and len(os.listdir(partial)) > 2)
        self.assertEqual((said, os.listdir(self.folder)), ("interrupted", ["model"]))
        vcllm.compress(self.folder / "model", self.folder / "small", effort=1)
        self.assertTrue(vcllm.verify(self.folder / "small").compressed)

    def test_eval(self):
        """Fault: other figures than the command line prints, a text that is taken for another, or a mean without its
        error."""
        small, words = self.folder / "small", (MODEL.parent / "demo.txt").read_text(encoding="utf-8")
        vcllm.compress(MODEL, small, bits=2, effort=1)
        seen = []
        found = vcllm.eval(small, words, baseline=MODEL, context=64, windows=6, threads=2,
                           progress=lambda *now: seen.append(now))
        printed = json.loads(self.succeed("eval", small, "--text", MODEL.parent / "demo.txt", "--baseline", MODEL,
                                          "--context", 64, "--windows", 6, "--json").stdout)
        for ours, theirs in (("perplexity", "perplexity"), ("nll", "nll"), ("difference", "nll_difference"), ("kl", "kl"),
                             ("baseline_perplexity", "baseline_perplexity"), ("same_top", "top1_agreement")):
            for value, field in zip(getattr(found, ours), ("mean", "error")):
                self.assertAlmostEqual(value, printed[theirs][field], 9, ours)
        self.assertEqual((found.tokens, found.windows, found.context), (6 * 64, 6, 64))
        self.assertAlmostEqual(found.kl_99, printed["kl_99"], 9)
        self.assertEqual(seen[-1], (6 * 64, 6 * 64, "eval"))
        alone = vcllm.eval(small, tokens=range(3, 200), context=64)
        self.assertEqual((alone.kl, alone.baseline_perplexity, alone.windows), (None, None, 3))
        self.assertGreater(alone.perplexity.mean, found.perplexity.mean)

    def test_eval_refusals(self):
        """Fault: a model whose configuration was altered is evaluated, or arguments that C would take for others are."""
        small = self.folder / "small"
        vcllm.compress(MODEL, small, effort=1)
        for wrong, kind in (({}, ValueError), ({"text": "a", "tokens": [1]}, ValueError), ({"text": MODEL}, TypeError),
                            ({"tokens": [2 ** 32, 1]}, ValueError), ({"tokens": ["a"]}, TypeError),
                            ({"tokens": [1, 2 ** 31]}, ValueError), ({"tokens": [1]}, ValueError),
                            ({"tokens": [1, 2, 3], "context": 0}, ValueError), ({"text": "a\udc80"}, vcllm.Error),
                            ({"tokens": [1, 2, 3], "context": 2 ** 40}, ValueError)):
            with self.assertRaises(kind, msg=wrong):
                vcllm.eval(small, **wrong)
        with self.assertRaisesRegex(vcllm.Error, "none"):
            vcllm.eval(self.folder / "none", tokens=[1, 2])
        with open(small / "config.json", "a", encoding="utf-8") as file:
            file.write(" ")
        with self.assertRaisesRegex(vcllm.Error, "config.json: was altered"):
            vcllm.eval(small, tokens=[1, 2, 3])

    def test_no_library(self):
        """Fault: a package without libvcllm_pack cannot be imported, or does not say what is missing."""
        library = pathlib.Path(os.environ.get("VCLLM_LIBRARY", ROOT / "build" / "libvcllm.so"))
        shutil.copy(library, self.folder / "libvcllm.so")
        script = (f"import sys; sys.path.insert(0, {str(ROOT / 'python')!r}); import vcllm\n"
                  "try:\n    vcllm.verify('none')\nexcept vcllm.Error as error:\n    print(error.status, error)\n")
        run = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True,
                             env={**os.environ, "VCLLM_LIBRARY": str(self.folder / "libvcllm.so")})
        self.assertIn("-30 libvcllm_pack, which whole models need, cannot be loaded", run.stdout)
        self.assertIn("set VCLLM_LIBRARY", run.stdout)


if __name__ == "__main__":
    unittest.main()
