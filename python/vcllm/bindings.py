"""bindings.py - libvcllm as ctypes sees it: the structs and functions of vcllm.h and vcllm_file.h used here.

Every struct mirrors its C counterpart field by field, in order.  Those that begin with `size` say how large this package
takes them to be: a newer library keeps to that.
"""
import ctypes
import ctypes.util
import os
import pathlib

from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32,
                    c_uint64, c_void_p)

from .arguments import integer
from .errors import E_CODEC, Error, failure

ALL = 2 ** 64 - 1       # vcl_decode's count for "to the end"

# ---- structs -----------------------------------------------------------------------------------------------------

class TensorStruct(Structure):
    _fields_ = [("dtype", c_int), ("rank", c_uint), ("dims", c_uint64 * 16)]


class SizedStruct(Structure):
    """One that may grow: it says how much of it there is."""

    def __init__(self):
        super().__init__()
        self.size = ctypes.sizeof(self)


class OptionsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("threads", c_uint), ("module_dir", c_char_p), ("user", c_void_p),
                ("allocate", c_void_p), ("release", c_void_p), ("cancel", c_void_p),
                ("pool", c_void_p)]


class ParamsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("codec", c_int), ("goal", c_int), ("target", c_double), ("effort", c_int),
                ("objective", c_int), ("rotate", c_int), ("seed", c_uint32), ("row_scales", c_int), ("depth", c_int),
                ("chroma", c_int), ("disable", c_uint), ("transpose", c_int), ("columns", c_uint64),
                ("col_weight", c_void_p), ("feedback", c_void_p), ("encoder", c_char_p), ("decoder", c_char_p),
                ("nearest", c_int),
                ("row_floor", c_double)]


class InfoStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("tensor", TensorStruct), ("codec", c_int), ("frame_bytes", c_uint64),
                ("header_bytes", c_uint64), ("values", c_uint64), ("cols", c_uint64), ("tiles", c_uint64),
                ("tile_rows", c_uint32), ("tile_cols", c_uint32), ("rotated", c_int),
                ("row_scales", c_int), ("non_finite", c_int), ("depth", c_int), ("snr", c_double), ("transposed", c_int), ("transform_down", c_int),
                ("transform_along", c_int), ("states", c_int), ("lanes", c_int), ("fault", c_char_p)]


class ReportStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("frame_bytes", c_uint64), ("values", c_uint64), ("bits", c_double),
                ("snr", c_double), ("max_error", c_double), ("trials", c_double), ("codec", c_int), ("depth", c_int),
                ("flags", c_uint), ("row_snr", c_double)]


class ErrorStruct(Structure):
    _fields_ = [("status", c_int), ("text", c_char * 1024)]


class EntryStruct(Structure):
    _fields_ = [("name", c_char_p), ("tensor", TensorStruct), ("offset", c_uint64), ("bytes", c_uint64),
                ("shard", c_size_t)]


class HandleStruct(Structure):
    _fields_ = [("model", c_void_p), ("entry", POINTER(EntryStruct)), ("error", ErrorStruct)]


READ = CFUNCTYPE(c_int, c_void_p, c_uint64, c_void_p, c_size_t)
WRITE = CFUNCTYPE(c_int, c_void_p, c_uint64, c_void_p, c_size_t)


class SourceStruct(Structure):
    _fields_ = [("user", c_void_p), ("read", READ), ("base", c_void_p)]


class SinkStruct(Structure):
    _fields_ = [("user", c_void_p), ("write", WRITE), ("base", c_void_p)]


# ---- functions ---------------------------------------------------------------------------------------------------

# name: (result, arguments)
FUNCTIONS = {
    "vcl_status_text": (c_char_p, [c_int]),
    "vcl_dtype_bits": (c_uint, [c_int]),
    "vcl_dtype_name": (c_char_p, [c_int]),
    "vcl_dtype_parse": (c_int, [c_char_p]),
    "vcl_tensor_size": (c_int, [POINTER(TensorStruct), POINTER(c_uint64), POINTER(c_uint64)]),
    "vcl_convert": (c_int, [c_int, c_void_p, c_int, c_void_p, c_size_t]),
    "vcl_options_init_sized": (None, [POINTER(OptionsStruct), c_size_t]),
    "vcl_context_create": (c_int, [POINTER(OptionsStruct), POINTER(c_void_p)]),
    "vcl_context_destroy": (None, [c_void_p]),
    "vcl_context_message": (c_char_p, [c_void_p]),
    "vcl_codec_name": (c_char_p, [c_int]),
    "vcl_codec_parse": (c_int, [c_char_p]),
    "vcl_params_init_sized": (None, [POINTER(ParamsStruct), c_size_t]),
    "vcl_bound": (c_uint64, [POINTER(TensorStruct)]),
    "vcl_encode_buffer": (c_int, [c_void_p, POINTER(TensorStruct), c_void_p, POINTER(ParamsStruct), c_void_p,
                                  POINTER(c_size_t), c_void_p]),
    "vcl_peek": (c_int, [c_void_p, c_size_t, POINTER(InfoStruct), c_void_p, c_void_p]),
    "vcl_decode": (c_int, [c_void_p, POINTER(SourceStruct), c_uint64, c_uint64, c_uint64, c_char_p,
                           POINTER(SinkStruct)]),
    "vcl_decode_buffer": (c_int, [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t]),
    "vcl_model_open": (c_int, [c_char_p, c_void_p, POINTER(c_void_p), POINTER(ErrorStruct)]),
    "vcl_model_close": (None, [c_void_p]),
    "vcl_model_count": (c_size_t, [c_void_p]),
    "vcl_model_entry": (POINTER(EntryStruct), [c_void_p, c_size_t]),
    "vcl_model_shards": (c_size_t, [c_void_p]),
    "vcl_model_is_compressed": (c_int, [c_void_p, c_size_t]),
    "vcl_model_check_hash": (c_int, [c_void_p, c_size_t, POINTER(ErrorStruct)]),
    "vcl_model_read": (c_int, [c_void_p, POINTER(EntryStruct), c_uint64, c_void_p, c_size_t, POINTER(ErrorStruct)]),
    "vcl_model_source": (SourceStruct, [POINTER(HandleStruct)]),
    "vcl_model_frame": (c_int, [c_void_p, POINTER(EntryStruct), POINTER(InfoStruct),
                                POINTER(POINTER(EntryStruct)), POINTER(ErrorStruct)]),
}


def find_library():
    """VCLLM_LIBRARY, the one in a wheel, the installed one, that of the source tree: the first there is."""
    here = pathlib.Path(__file__).resolve()
    wheel, build = here.parent / "libvcllm.so", here.parents[2] / "build" / "libvcllm.so"
    path = (os.environ.get("VCLLM_LIBRARY") or wheel.exists() and wheel or ctypes.util.find_library("vcllm")
            or build)
    try:
        return ctypes.CDLL(os.fspath(path))
    except OSError as error:
        raise Error(E_CODEC, f"libvcllm cannot be loaded: {error}; set VCLLM_LIBRARY to its path") from None


def load_library():
    library = find_library()
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = load_library()


def check_file(status, error):
    """Raises what a call that fills a vcl_error reported."""
    if status:
        raise failure(status, error.text.decode("utf-8", "replace") or lib.vcl_status_text(status).decode())


class Context:
    """A vcl_context; one call at a time."""

    def __init__(self, threads=1):
        options, self.pointer = OptionsStruct(), c_void_p()
        lib.vcl_options_init_sized(byref(options), options.size)
        options.threads = integer("threads", threads, c_uint)
        self.check(lib.vcl_context_create(byref(options), byref(self.pointer)))

    def check(self, status, prefix="", fault=None, names=None):
        """Raises what a call on this context reported.  fault: the words of a call without a context; names: what is
        called otherwise in Python."""
        if status:
            words = fault or (lib.vcl_context_message(self.pointer) if self.pointer else b"")
            words = words.decode("utf-8", "replace") or lib.vcl_status_text(status).decode()
            for theirs, ours in (names or {}).items():
                words = words.replace(theirs, ours)
            raise failure(status, prefix + words)

    def close(self):
        lib.vcl_context_destroy(self.pointer)
        self.pointer = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
