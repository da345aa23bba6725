"""driver.py - runs the vcllm program for tests.  The environment's VCLLM names it (build/vcllm); VCLLM_LONG stands for
`make check-long`."""
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONG = bool(os.environ.get("VCLLM_LONG"))
VCLLM = os.environ.get("VCLLM", str(ROOT / "build" / "vcllm"))


def is_sanitized():
    with open(VCLLM, "rb") as program:
        text = program.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def run_vcllm(*args, env=None):
    """env: set beside what is there."""
    return subprocess.run([VCLLM, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=600, env={**os.environ, **(env or {})})


class Case(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def succeed(self, *args):
        run = run_vcllm(*args)
        self.assertEqual(run.returncode, 0, f"vcllm {' '.join(map(str, args))}\n{run.stderr}")
        return run
