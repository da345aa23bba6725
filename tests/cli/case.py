"""What every test of the command line shares: a folder, small models, runs that check exit codes."""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest

import stfile

PROGRAM = os.path.abspath(os.environ.get("VCLLM", "build/vcllm"))
DATA = os.environ.get("VCLLM_DATA")
FAST = ["--effort", "1"]
OK, FAILED, USAGE, IO, CODEC, BOUND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


def environment(**extra):
    env = dict(os.environ, **extra)
    env.setdefault("LC_ALL", "C.UTF-8")
    return env


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="vcllm-cli-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def vcllm(self, *args, code=OK, binary=False, **more):
        more.setdefault("env", environment())
        done = subprocess.run([PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL,
                              stdout=more.pop("stdout", subprocess.PIPE),
                              stderr=subprocess.PIPE, timeout=120, **more)
        error = done.stderr.decode("utf-8", "replace")
        self.assertEqual(done.returncode, code, f"vcllm {' '.join(map(str, args))}\n{error}")
        for line in error.splitlines():
            self.assertTrue(line.startswith("vcllm: "), line)
        if code not in (OK, INTERRUPTED):
            self.assertTrue(error, "a failure without a message")
        output = done.stdout if binary or done.stdout is None else done.stdout.decode()
        return output, error

    def run_json(self, *args, code=OK):
        output, error = self.vcllm(*args, "--json", code=code)
        document = json.loads(output)
        self.assertEqual(document["schema"], 1)
        self.assertEqual(document["verb"], args[0])
        return document, error

    def somebody(self):
        """Arguments for vcllm() with which file permissions count; skips where root cannot be given up."""
        become = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        try:
            done = subprocess.run([PROGRAM, "--version"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, **become)
        except OSError:
            done = None
        if done is None or done.returncode:
            self.skipTest("cannot give up root here")
        return become

    def files(self, *names):
        return sorted(os.listdir(self.path(*names)))

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def model(self, name="model.safetensors", seed=1, rows=80, cols=96, **more):
        tensors = [
            stfile.normal("layer.0.weight", [rows, cols], seed),
            stfile.normal("layer.1.weight", [cols, rows], seed + 1, dtype="F16"),
            stfile.normal("layer.norm", [cols], seed + 2),
            ("steps", "I64", [3], struct.pack("<3q", 1, -2, 3)),
        ]
        return stfile.write(self.path(name), tensors, metadata={"format": "pt"}, **more)

    def compressed(self, *options, name="small.safetensors", **more):
        self.vcllm("compress", self.model(**more), "-o", self.path(name), "-q", *FAST, "--bits", 4, *options)
        return self.path(name)
