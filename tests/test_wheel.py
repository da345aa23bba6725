#!/usr/bin/env python3
"""`pip install ./python`: a wheel that holds the library and needs nothing but libc.

With VCLLM_LONG, and where pip reaches a package index (it fetches scikit-build-core); skipped otherwise.
"""
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

from driver import LONG

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
USE = """
import vcllm, vcllm.bindings
print(vcllm.bindings.find_library()._name)
with vcllm.open(%r) as model:
    print(sorted(model)[0])
try:
    vcllm.verify("any")
except vcllm.Error as error:
    print("not" if "not in the wheel" in str(error) else error)
"""


def run(*args, **settings):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, **settings)


class Wheel(unittest.TestCase):
    """Catches: a package that cannot find its library, or one that another machine cannot load."""

    @unittest.skipUnless(LONG, "half a minute and a package index: with VCLLM_LONG")
    def test_wheel(self):
        with tempfile.TemporaryDirectory() as folder:
            venv, site = os.path.join(folder, "venv"), os.path.join(folder, "site")
            run(sys.executable, "-m", "venv", venv, check=True)
            made = run(os.path.join(venv, "bin", "pip"), "wheel", "--no-deps", "-w", folder, os.path.join(ROOT, "python"))
            if "No matching distribution found for scikit-build-core" in made.stderr + made.stdout:
                self.skipTest("pip reaches no package index")
            self.assertEqual(made.returncode, 0, made.stderr)
            wheel = [f for f in os.listdir(folder) if f.endswith(".whl")][0]
            zipfile.ZipFile(os.path.join(folder, wheel)).extractall(site)
            library = os.path.join(site, "vcllm", "libvcllm.so")
            needed = run("readelf", "-d", library, check=True).stdout.split("\n")
            needed = sorted(line.split("[")[1].rstrip("]") for line in needed if "(NEEDED)" in line)
            self.assertEqual([n for n in needed if n not in ("libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2")], [])
            environment = {k: v for k, v in os.environ.items() if not k.startswith("VCLLM")}
            sample = os.path.join(folder, "sample.safetensors")
            run(os.environ.get("VCLLM", "build/vcllm"), "compress",
                os.path.join(ROOT, "models", "tiny-llama", "model.safetensors"), "-o", sample, "--effort", 1, check=True)
            used = run(sys.executable, "-B", "-c", USE % sample, cwd=folder, env={**environment, "PYTHONPATH": site})
            self.assertEqual(used.returncode, 0, used.stderr)
            self.assertEqual(used.stdout.split(), [library, "lm_head.weight", "not"])


if __name__ == "__main__":
    unittest.main()
