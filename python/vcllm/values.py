"""values.py - bytes of a dtype and shape as Python programs want them: a numpy array, or a Tensor without numpy.

numpy has no bf16, memoryview neither bf16 nor f16: such tensors become float32 (exactly), or with raw=True the uint16
they are stored as.  Dtypes of 8 bits that Python does not know come as uint8; F4 and F6 as their packed bytes, in one
dimension.
"""
import ctypes
import math

from .arguments import as_view, integer, text, wrong_value
from .bindings import TensorStruct, lib
from .errors import E_ARGUMENT, E_LIMIT, failure

try:
    import numpy
except ImportError:
    numpy = None

# safetensors' dtype: numpy's name, memoryview's format (which has no half floats).  U16 before F16 and BF16: it is what
# an array of such numbers is taken for.
KINDS = {"BOOL": ("bool", "?"), "U8": ("uint8", "B"), "I8": ("int8", "b"), "I16": ("int16", "h"),
         "U16": ("uint16", "H"), "F16": ("float16", "H"), "BF16": ("uint16", "H"), "I32": ("int32", "i"),
         "U32": ("uint32", "I"), "F32": ("float32", "f"), "C64": ("complex64", None), "F64": ("float64", "d"),
         "I64": ("int64", "q"), "U64": ("uint64", "Q")}
PACKED = ("F4", "F6_E2M3", "F6_E3M2")


class Tensor:
    """Values without numpy: `data` is a memoryview of them (flat bytes for dtypes that Python does not know), `dtype`
    safetensors' name, `shape` a tuple."""

    def __init__(self, data, dtype, shape):
        self.data, self.dtype, self.shape = data, dtype, shape

    def __repr__(self):
        return f"vcllm.Tensor({self.dtype}, {list(self.shape)})"


def dtype_name(dtype):
    return lib.vcl_dtype_name(dtype).decode()


def shape_of(tensor):
    return tuple(tensor.dims[:tensor.rank])


def pointer(buffer):
    """The address of a bytearray's or a writable memoryview's first byte, and an object that keeps it alive."""
    holder = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    return ctypes.addressof(holder), holder


def widen(buffer, dtype):
    """BF16 or F16 bytes to float32 bytes."""
    wide = bytearray(2 * len(buffer))
    source, keep_source = pointer(buffer)
    target, keep_target = pointer(wide)
    status = lib.vcl_convert(lib.vcl_dtype_parse(dtype.encode()), source, lib.vcl_dtype_parse(b"F32"), target,
                             len(buffer) // 2)
    if status:
        raise failure(status, lib.vcl_status_text(status).decode())
    return wide


def present(buffer, dtype, shape, raw):
    """A bytearray of a tensor's bytes as an array (numpy) or a Tensor."""
    if not raw and (dtype == "BF16" or (dtype == "F16" and numpy is None)):
        buffer, dtype = widen(buffer, dtype), "F32"
    name, letter = KINDS.get(dtype, ("uint8", None))
    if numpy is not None:
        try:
            return numpy.frombuffer(buffer, name).reshape((-1,) if dtype in PACKED else shape)
        except ValueError:      # empty, with dimensions whose product overflows
            raise failure(E_LIMIT, f"no array of numpy has the shape {list(shape)}") from None
    view = memoryview(buffer)
    if letter and math.prod(shape) > 0 and shape:
        view = view.cast(letter, shape)
    elif letter:
        view = view.cast(letter)
    return Tensor(view, dtype, shape)


def name_of(letter, place):
    """The dtype of numpy's name (place 0) or memoryview's format (1), None where there is none."""
    return next((dtype for dtype, kind in KINDS.items() if kind[place] == letter), None)


def take_array(array):
    """Bytes, shape and own dtype of what numpy makes an array of."""
    array = numpy.asarray(array)
    if array.dtype.kind not in "biufcV" or array.dtype.hasobject:
        raise wrong_value(f"array: values of {array.dtype} are no numbers")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.tobytes(), array.shape, name_of(array.dtype.name, 0)


def take_buffer(array):
    """The same of what has a buffer."""
    array = as_view("array", array, "an array of numbers")
    if array.format.startswith((">", "!")):
        raise wrong_value("array: its bytes are not little-endian")
    letter, wide = array.format.lstrip("@=<"), array.itemsize == 8
    return array.tobytes(), array.shape, name_of({"l": "iq"[wide], "L": "IQ"[wide]}.get(letter, letter), 1)


def choose_dtype(own, dtype):
    """dtype, or else the array's own.  Unsigned integers may be the bits of any dtype; other values are what they
    are."""
    if dtype is None and own is None:
        raise wrong_value("array: its values are of no dtype of safetensors; name one (dtype=)")
    dtype = text("dtype", own if dtype is None else dtype).decode()
    if own not in (None, dtype, "U8", "U16", "U32", "U64"):
        raise wrong_value(f"dtype {dtype}: the array's values are {own}; convert them, or give their bits unsigned")
    return dtype


def describe(array, dtype):
    """An array's bytes and its vcl_tensor.  array: numpy's, a Tensor, or what has a buffer of a known format; dtype:
    safetensors' name where the array's own does not say (BF16 in uint16)."""
    if isinstance(array, Tensor):
        data, shape, own = as_view("array.data", array.data, "a memoryview").tobytes(), array.shape, array.dtype
    else:
        data, shape, own = take_array(array) if numpy is not None else take_buffer(array)
    dtype = choose_dtype(own, dtype)
    code = lib.vcl_dtype_parse(dtype.encode())
    if lib.vcl_dtype_bits(code) == 0 or len(shape) > 16:
        raise wrong_value(f"an array of dtype {dtype} and {len(shape)} dimensions is no tensor")
    dims = [integer("array.shape", n, ctypes.c_uint64) for n in shape]
    tensor = TensorStruct(code, len(dims), (ctypes.c_uint64 * 16)(*dims))
    size = ctypes.c_uint64()
    status = lib.vcl_tensor_size(ctypes.byref(tensor), None, ctypes.byref(size))
    if status or size.value != len(data):
        raise failure(status or E_ARGUMENT, f"the array's {len(data)} bytes are not what {dtype} {list(shape)} takes")
    return data, tensor
