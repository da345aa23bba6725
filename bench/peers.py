"""peers.py - peers that run inside this process: plain quantisers with ideal entropy, zfp, zstd.

Quantisers are given what no real coder has: their indices cost exactly their order-0 entropy, with no table
and no rounding to bytes.
"""
import ctypes
import math

import numpy as np

from curves import BITS, DB, Curve, snr_of

try:
    import zfpy
except ImportError:
    zfpy = None

GROUP = 128
SCALE_BITS = 16     # of a row's or a group's scale; f16 in other people's formats


def entropy(index):
    """Bits per value; index: whole numbers of any sign."""
    counts = np.bincount((index - index.min()).ravel())
    share = counts[counts > 0] / index.size
    return float(-(share * np.log2(share)).sum())


def energy(x):
    return float(np.square(x, dtype=np.float64).sum())


def curve_of(point, low, high, per_octave):
    """Of a coder that measures one setting at a time; settings count from where the step is the rms value."""
    return Curve(lambda settings: {q: point(q) for q in settings}, low, high, per_octave,
                 lambda metric, value: per_octave * (1 - (value if metric == BITS else value / DB)))


# ---- plain quantisers --------------------------------------------------------------------------------------

def scalar(x):
    """One step for the tensor, each index decoded to the mean of what fell on it."""
    x, per_octave = x.astype(np.float64).ravel(), 8
    signal = energy(x)
    rms = math.sqrt(signal / x.size)

    def point(q):
        index = np.rint(x / (rms * 2 ** (q / per_octave))).astype(np.int64)
        place = index - index.min()
        kept = np.square(np.bincount(place, x)) / np.maximum(np.bincount(place), 1)     # energy of the means
        return entropy(index), snr_of(signal, max(signal - kept.sum(), 0))
    return curve_of(point, -20 * per_octave, 6 * per_octave, per_octave)


# 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, ... levels on either side of zero
SIDES = sorted({round(2 ** (i / 4)) for i in range(64)})


def grouped(x, how):
    """Rows of one scale each: the tensor, its rows, or groups of GROUP values (zeros fill the last)."""
    if how == "tensor":
        return x.reshape(1, -1)
    if how == "row":
        return x.reshape(x.shape[0], -1)
    return np.pad(x.ravel(), (0, -x.size % GROUP)).reshape(-1, GROUP)


def rtn(x, how):
    """Round to nearest on a lattice scaled by absmax."""
    x = x.astype(np.float64)
    signal, rows = energy(x), grouped(x, how)
    absmax = np.abs(rows).max(1, keepdims=True)
    absmax[absmax == 0] = 1

    def point(q):
        scale = absmax / SIDES[-q]
        index = np.rint(rows / scale).astype(np.int64)
        return entropy(index) + SCALE_BITS * len(rows) / x.size, snr_of(signal, energy(rows - index * scale))
    return curve_of(point, 1 - len(SIDES), 0, 4)


def raw_rtn(x, bits):
    """RTN at whole bits, not entropy coded: (entropy, SNR) of its indices."""
    scale = np.abs(x).max() / (2 ** (bits - 1) - 1)
    index = np.rint(x.astype(np.float64) / scale).astype(np.int64)
    return entropy(index), snr_of(energy(x), energy(x - index * scale))


# ---- zfp ---------------------------------------------------------------------------------------------------

def zfp_is_there():
    return zfpy is not None


def zfp(matrix):
    """Fixed accuracy, two dimensions; on N(0,1) nearer to the bound than fixed rate at every rate."""
    x = np.ascontiguousarray(matrix, np.float32)

    def point(q):
        _, decode, bits = zfp_calls(x, q)
        return bits, snr_of(energy(x), energy(x.astype(np.float64) - decode()))
    return curve_of(point, -20, 8, 1)


def zfp_calls(x, q):
    """Functions that encode and decode, and the bits."""
    tolerance = math.sqrt(energy(x) / x.size) * 2.0 ** q
    coded = zfpy.compress_numpy(x, tolerance=tolerance)
    return (lambda: zfpy.compress_numpy(x, tolerance=tolerance), lambda: zfpy.decompress_numpy(coded),
            8 * len(coded) / x.size)


# ---- zstd --------------------------------------------------------------------------------------------------

class Zstd:
    """libzstd itself, one context each way, buffers made once."""

    def __init__(self, data):
        self.lib = ctypes.CDLL("libzstd.so.1")
        for name in ("ZSTD_compressBound", "ZSTD_compressCCtx", "ZSTD_decompressDCtx"):
            getattr(self.lib, name).restype = ctypes.c_size_t
        for name in ("ZSTD_createCCtx", "ZSTD_createDCtx"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.compressor = ctypes.c_void_p(self.lib.ZSTD_createCCtx())
        self.decompressor = ctypes.c_void_p(self.lib.ZSTD_createDCtx())
        self.data, self.bytes, self.size = data, ctypes.c_size_t(len(data)), ctypes.c_size_t()
        self.coded = ctypes.create_string_buffer(self.lib.ZSTD_compressBound(self.bytes))
        self.room = ctypes.c_size_t(len(self.coded))
        self.back = ctypes.create_string_buffer(len(data))

    def encode(self, level):
        self.size.value = self.lib.ZSTD_compressCCtx(self.compressor, self.coded, self.room, self.data,
                                                     self.bytes, level)

    def decode(self):
        self.lib.ZSTD_decompressDCtx(self.decompressor, self.back, self.bytes, self.coded, self.size)
