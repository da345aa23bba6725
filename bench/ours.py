"""ours.py - the project's codecs through the C library, as programs call it: one context, fixed buffers."""
import ctypes
import os
import statistics
import time

import numpy as np

from curves import DB, snr_of
from matrices import as_float
from vcllm.bindings import Context, ReportStruct, lib
from vcllm.frames import make_params
from vcllm.values import describe, pointer

LEVELS = ("c", "avx2", "avx512")


class Coder:
    """Encodes and decodes one matrix, one thread.  level: of LEVELS, at most; None = what the machine has."""

    def __init__(self, matrix, level=None):
        before = os.environ.get("VCLLM_CPU")
        if level:
            os.environ["VCLLM_CPU"] = level
        self.context = Context(1)       # reads VCLLM_CPU
        if level:
            os.environ.pop("VCLLM_CPU") if before is None else os.environ.update(VCLLM_CPU=before)
        self.data, self.tensor = describe(matrix.raw, matrix.dtype)
        self.frame = bytearray(lib.vcl_bound(ctypes.byref(self.tensor)))
        self.back = bytearray(len(self.data))
        self.size, self.report = ctypes.c_size_t(), ReportStruct()

    def encode(self, codec="tensor", bits=None, snr=None, **settings):
        params = make_params(codec, (bits, snr), settings)
        self.size.value = len(self.frame)
        target, keep = pointer(self.frame)
        self.context.check(lib.vcl_encode_buffer(self.context.pointer, ctypes.byref(self.tensor), self.data,
                                                 ctypes.byref(params), target, ctypes.byref(self.size),
                                                 ctypes.byref(self.report)))

    def decode(self):
        frame, keep_frame = pointer(self.frame)
        target, keep = pointer(self.back)
        self.context.check(lib.vcl_decode_buffer(self.context.pointer, frame, self.size.value, target,
                                                 len(self.back)))

    def coded(self):
        return bytes(memoryview(self.frame)[:self.size.value])

    def close(self):
        self.context.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def point(matrix, codec="tensor", bits=None, snr=None, **settings):
    """Bits, SNR in dB and gap of a matrix coded and decoded; saturated: the finest that the codec can hold takes
    fewer bits than asked for.  The error is measured here, not taken from the frame."""
    with Coder(matrix) as coder:
        coder.encode(codec, bits, snr, **settings)
        coder.decode()
        x = matrix.values
        y = as_float(np.frombuffer(coder.back, matrix.raw.dtype).reshape(x.shape), matrix.dtype)
        error = np.square(np.subtract(x, y, dtype=np.float64)).sum()
        taken, saturated = 8 * coder.size.value / x.size, bool(coder.report.flags & 1)
    db = snr_of(np.square(x, dtype=np.float64).sum(), error)
    return {"bits": taken, "snr": db, "gap": taken - db / DB, "saturated": saturated}


def seconds(call, runs):
    """Median CPU seconds of this process, to which others do not add.  A first call is not counted."""
    call()
    taken = []
    for _ in range(runs):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def levels():
    """Those of LEVELS that this machine has, as the library chooses them (src/base/cpu.c)."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        flags = set(next((line for line in file if line.startswith("flags")), "").split())
    avx2 = {"avx2", "fma", "bmi1", "bmi2"} <= flags
    avx512 = avx2 and {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags
    return LEVELS[:1 + avx2 + avx512]
