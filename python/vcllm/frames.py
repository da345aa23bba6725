"""frames.py - arrays to frames and back, in memory."""
import ctypes

from .bindings import E_ARGUMENT, Context, Error, InfoStruct, ParamsStruct, lib
from .values import describe, dtype_name, pointer, present, shape_of

GOAL_BITS, GOAL_SNR, GOAL_ERROR = range(3)
OBJECTIVES = {"model": 0, "mse": 1}
SETTINGS = ("effort", "objective", "rotate", "seed", "row_scales", "depth", "chroma", "disable", "transpose", "encoder",
            "decoder")
WEIGHTS = ("col_weight", "feedback")


def set_weights(params, name, value):
    view = memoryview(value)
    columns = view.shape[0]
    if view.format != "f" or not view.c_contiguous or view.shape != ((columns,) if name == "col_weight" else (columns,) * 2):
        raise Error(E_ARGUMENT, f"{name} must be contiguous float32, one value a column or one a pair of columns")
    params.columns = columns
    params.keep = getattr(params, "keep", ()) + (bytearray(view),)
    setattr(params, name, ctypes.addressof((ctypes.c_char * view.nbytes).from_buffer(params.keep[-1])))


def make_params(codec, bits, snr, max_error, settings):
    params = ParamsStruct()
    lib.vcl_params_init(ctypes.byref(params))
    params.codec = lib.vcl_codec_parse(codec.encode())
    if lib.vcl_codec_name(params.codec) is None or codec == "alias":
        raise Error(E_ARGUMENT, f"no codec '{codec}'")
    if sum(goal is not None for goal in (bits, snr, max_error)) > 1:
        raise Error(E_ARGUMENT, "bits, snr and max_error exclude each other")
    if snr is not None:
        params.goal, params.target = GOAL_SNR, snr
    elif max_error is not None:
        params.goal, params.target = GOAL_ERROR, max_error
    elif bits is not None:
        params.goal, params.target = GOAL_BITS, bits
    for name, value in settings.items():
        if name in WEIGHTS:
            set_weights(params, name, value)
            continue
        if name not in SETTINGS:
            raise TypeError(f"encode() has no setting '{name}'")
        if name == "objective":
            if value not in OBJECTIVES:
                raise Error(E_ARGUMENT, f"objective '{value}' is neither 'model' nor 'mse'")
            value = OBJECTIVES[value]
        setattr(params, name, value.encode() if isinstance(value, str) else value)
    return params


def encode(array, codec="tensor", bits=None, snr=None, max_error=None, dtype=None, threads=1, **settings):
    """The frame of an array, as bytes.

    bits: most bits per value (the default, 2.9), or snr: least dB, or max_error: largest error.  dtype: safetensors' name where the array's own
    does not tell (dtype="BF16" for uint16).  settings: those of struct vcl_params: effort, objective ("model" or
    "mse"), rotate, seed, row_scales, depth, chroma, disable, transpose, encoder, decoder; col_weight and feedback as
    arrays (include/vcllm.h says what they are)."""
    params = make_params(codec, bits, snr, max_error, settings)
    data, tensor = describe(array, dtype)
    frame = bytearray(lib.vcl_bound(ctypes.byref(tensor)))
    size = ctypes.c_size_t(len(frame))
    target, keep = pointer(frame)
    with Context(threads) as context:
        context.check(lib.vcl_encode_buffer(context.pointer, ctypes.byref(tensor), data, ctypes.byref(params), target,
                                            ctypes.byref(size), None))
    return bytes(memoryview(frame)[:size.value])


def decode(frame, raw=False, threads=1):
    """The array in a frame (bytes).  raw=True: bf16 as uint16."""
    frame = bytes(frame)
    info, size = InfoStruct(), ctypes.c_uint64()
    with Context(threads) as context:
        status = lib.vcl_peek(frame, len(frame), ctypes.byref(info), None, None)
        context.check(status, fault=info.fault)
        context.check(lib.vcl_tensor_size(ctypes.byref(info.tensor), None, ctypes.byref(size)))
        values = bytearray(size.value)
        target, keep = pointer(values)
        context.check(lib.vcl_decode_buffer(context.pointer, frame, len(frame), target, len(values)))
    return present(values, dtype_name(info.tensor.dtype), shape_of(info.tensor), raw)
