#!/usr/bin/python3
"""test_large.py - a tensor far larger than memory should be, through the program.

300 MB of it; more than 4 GiB where VCLLM_LONG is set and the disk has room.  Faults it would catch: an offset or a size
of 32 bits, a tensor held in memory as a whole, memory that grows faster than a header of many tensors.
"""
import filecmp
import json
import os
import shutil
import struct
import subprocess
import unittest

import refdec
from driver import LONG, VCLLM, Case, is_sanitized

MOST_MEMORY = 200 << 20


@unittest.skipIf(is_sanitized(), "the sanitizers' own memory would be measured")
class Large(Case):
    def run_bounded(self, *args, most=MOST_MEMORY):
        """vcllm must succeed within so much memory."""
        with open(self.folder / "messages", "w+b") as messages:
            process = subprocess.Popen([VCLLM, *map(str, args), "-q", "-j", "2"], stdin=subprocess.DEVNULL,
                                       stdout=messages, stderr=messages)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            messages.seek(0)
            self.assertEqual(process.returncode, 0, messages.read())
        self.assertLess(usage.ru_maxrss * 1024, most, args)

    def sparse_model(self, values):
        """F32 [values] and a small tensor behind it; zeros but for bytes at both ends and around 4 GiB."""
        entries = [("large", "F32", (values // 1024, 1024), 0, 4 * values),
                   ("last", "U8", (5,), 4 * values, 4 * values + 5)]
        header = refdec.canonical_header({}, entries)
        path, start = self.folder / "model.safetensors", 8 + len(header)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for at in (0, (1 << 32) - 4, 1 << 32, 4 * values - 4):
                if at < 4 * values:
                    file.seek(start + at)
                    file.write(struct.pack("<f", 1 + at))
            file.seek(start + 4 * values)
            file.write(b"after")
        return path

    def check(self, values, *how):
        model, small, back = self.sparse_model(values), self.folder / "small", self.folder / "back"
        self.run_bounded("compress", model, "-o", small, *how)
        self.run_bounded("verify", small)
        self.run_bounded("decompress", small, "-o", back)
        self.assertTrue(filecmp.cmp(model, back, shallow=False))
        self.run_bounded("decompress", small, "-o", self.folder / "last", "--tensor", "last")
        self.assertEqual((self.folder / "last").read_bytes()[-5:], b"after")

    def test_lossless(self):
        self.check(75 << 20, "--lossless")

    def test_copy(self):
        self.check(75 << 20, "--rule", ".*=copy")

    def test_many_tensors(self):
        """64 MiB and 16 bytes for a byte of header, here one that is not canonical."""
        entries = {f"{i:x}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(300000)}
        header = json.dumps(entries, separators=(",", ":")).encode()
        model = self.write("many.safetensors", struct.pack("<Q", len(header)) + header)
        small, back = self.folder / "small", self.folder / "back"
        for args in [("compress", model, "-o", small), ("verify", small), ("decompress", small, "-o", back)]:
            self.run_bounded(*args, "--header-limit", "100MB", most=(64 << 20) + 16 * len(header))
        self.assertTrue(filecmp.cmp(model, back, shallow=False))

    @unittest.skipUnless(LONG, "VCLLM_LONG is not set: nothing beyond 4 GiB")
    def test_beyond_4_gib(self):
        if shutil.disk_usage(self.folder).free < 20 << 30:
            self.skipTest("the disk has less than 20 GiB")
        for how in (("--lossless",), ("--rule", ".*=copy")):
            self.check((1 << 30) + (1 << 20), *how)
            for name in ("small", "back", "last"):
                (self.folder / name).unlink()


if __name__ == "__main__":
    unittest.main()
