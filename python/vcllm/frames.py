"""frames.py - arrays to frames and back, in memory."""
import ctypes

from .arguments import as_view, flag, integer, real, text, wrong_value
from .bindings import Context, InfoStruct, ParamsStruct, lib
from .values import describe, dtype_name, pointer, present, shape_of

GOALS = ("bits", "snr", "max_error", "step")    # enum vcl_goal
OBJECTIVES = {"model": 0, "mse": 1}
INTEGERS = ("effort", "seed", "depth", "chroma", "disable")
FLAGS = ("nearest", "rotate", "row_scales", "transpose")
REALS = ("row_floor",)
TEXTS = ("encoder", "decoder")
WEIGHTS = {"col_weight": 1, "feedback": 2}      # dimensions
SETTINGS = (*INTEGERS, *FLAGS, *REALS, *TEXTS, *WEIGHTS, "objective")


def set_weights(params, name, value):
    """A copy of the values, as they stay when the caller's change; params keeps it alive."""
    values = as_view(name, value, "an array of float32")
    if values.format.lstrip("@=<") != "f" or not values.c_contiguous:
        raise wrong_value(f"{name} must be contiguous float32")
    if values.ndim != WEIGHTS[name] or len(set(values.shape)) != 1:
        raise wrong_value(f"{name} must have one value a {'pair of columns' if name == 'feedback' else 'column'}, "
                          f"not the shape {list(values.shape)}")
    if params.keep and params.columns != values.shape[0]:
        raise wrong_value("col_weight and feedback must be of as many columns")
    params.columns = values.shape[0]
    address, params.keep[name] = pointer(bytearray(values))
    setattr(params, name, address)


def set_setting(params, name, value):
    if name in WEIGHTS:
        set_weights(params, name, value)
    elif name in INTEGERS:
        setattr(params, name, integer(name, value, dict(ParamsStruct._fields_)[name]))
    elif name in FLAGS:
        setattr(params, name, flag(name, value))
    elif name in REALS:
        setattr(params, name, real(name, value))
    elif name in TEXTS:
        setattr(params, name, text(name, value))
    elif text(name, value).decode() in OBJECTIVES:
        params.objective = OBJECTIVES[value]
    else:
        raise wrong_value(f"objective '{value}' is neither 'model' nor 'mse'")


def set_goal(params, *targets):
    """The one of GOALS whose target is not None; without one it stays the default."""
    given = [goal for goal, target in enumerate(targets) if target is not None]
    if len(given) > 1:
        raise wrong_value("bits, snr, max_error and step exclude each other")
    for goal in given:
        params.goal, params.target = goal, real(GOALS[goal], targets[goal])


def make_params(codec, targets, settings):
    params = ParamsStruct()
    params.keep = {}
    lib.vcl_params_init_sized(ctypes.byref(params), params.size)
    params.codec = lib.vcl_codec_parse(text("codec", codec))
    if lib.vcl_codec_name(params.codec) is None or codec == "alias":
        raise wrong_value(f"no codec '{codec}'")
    set_goal(params, *targets)
    for name, value in settings.items():
        if name not in SETTINGS:
            raise TypeError(f"encode() has no setting '{name}'")
        if value is not None:
            set_setting(params, name, value)
    return params


def encode(array, codec="tensor", bits=None, snr=None, max_error=None, dtype=None, threads=1, step=None, **settings):
    """The frame of an array, as bytes.

    codec: "tensor", "h265", "h264", "lossless" or "exact".  bits: most bits per value (the default, 2.9), or snr: least
    dB, or max_error: largest error, or step: half the distance of the quantiser's points (these two, tensor codec).
    dtype: safetensors' name where the array's own does not tell (dtype="BF16" for uint16).  threads: 0 is one per CPU.  settings: those of struct vcl_params: effort, objective
    ("model" or "mse"), rotate, seed, row_scales, depth, chroma, disable, transpose, encoder, decoder, row_floor; col_weight and
    feedback as contiguous arrays of float32 (include/vcllm.h says what they are).  None is the default.

    TypeError for an argument of a wrong type, ArgumentError (an Error and a ValueError) for a wrong value."""
    params = make_params(codec, (bits, snr, max_error, step), settings)
    data, tensor = describe(array, dtype)
    frame = bytearray(lib.vcl_bound(ctypes.byref(tensor)))
    size = ctypes.c_size_t(len(frame))
    target, keep = pointer(frame)
    with Context(threads) as context:
        status = lib.vcl_encode_buffer(context.pointer, ctypes.byref(tensor), data, ctypes.byref(params), target,
                                       ctypes.byref(size), None)
        context.check(status, names={"params.target": GOALS[params.goal], "params.": ""})
    return bytes(memoryview(frame)[:size.value])


def decode(frame, raw=False, threads=1):
    """The array in a frame (bytes, or what has a buffer of them).  raw=True: bf16 as uint16.  threads: 0 is one per
    CPU."""
    as_view("frame", frame, "bytes")
    frame, raw = bytes(frame), flag("raw", raw)
    info, size = InfoStruct(), ctypes.c_uint64()
    with Context(threads) as context:
        status = lib.vcl_peek(frame, len(frame), ctypes.byref(info), None, None)
        context.check(status, fault=info.fault)
        context.check(lib.vcl_tensor_size(ctypes.byref(info.tensor), None, ctypes.byref(size)))
        values = bytearray(size.value)
        target, keep = pointer(values)
        context.check(lib.vcl_decode_buffer(context.pointer, frame, len(frame), target, len(values)))
    return present(values, dtype_name(info.tensor.dtype), shape_of(info.tensor), raw)
