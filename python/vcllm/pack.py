"""pack.py - whole models: compressed, brought back, verified, evaluated.

The work is libvcllm_pack's, outside the interpreter's lock; ctrl-C and what a progress callable raises end it, and
nothing half-written is left.  That library is looked for beside libvcllm when it is first needed: only it needs jansson
and PCRE2.
"""
import ctypes
import ctypes.util
import os
import threading
import typing

from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p

from .arguments import flag, integer, real, text, wrong_type, wrong_value
from .bindings import ErrorStruct, ParamsStruct, SizedStruct, check_file, lib
from .errors import E_CODEC, Error
from .frames import GOALS, OBJECTIVES

FLOATS = ("F16", "BF16", "F32", "F64")

# ---- libvcllm_pack as ctypes sees it ------------------------------------------------------------------------------


class ProgressStruct(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("stage", c_char_p), ("things", c_char_p), ("count", c_size_t),
                ("counted", c_size_t), ("unit", c_char_p), ("work", c_uint64), ("done", c_uint64)]


ASK = CFUNCTYPE(c_int, c_void_p)
SHOW = CFUNCTYPE(None, c_void_p, POINTER(ProgressStruct))
TELL = CFUNCTYPE(None, c_void_p, c_char_p)


class HooksStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("user", c_void_p), ("cancel", ASK), ("progress", SHOW), ("note", TELL),
                ("fault", TELL), ("writing", c_void_p)]


class CompressOptionsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("params", POINTER(ParamsStruct)), ("lossless", c_int), ("file_bytes", c_uint64),
                ("rules", POINTER(c_char_p)), ("rule_count", c_size_t), ("row_floor", c_double), ("threads", c_uint),
                ("overwrite", c_int), ("resume", c_int), ("io", c_int), ("header_limit", c_uint64),
                ("pool", c_void_p)]


class TotalsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("tensors", c_uint64), ("lossy", c_uint64), ("exact", c_uint64),
                ("tied", c_uint64), ("values", c_uint64), ("lossy_values", c_uint64), ("lossy_bytes", c_uint64),
                ("raw_bytes", c_uint64), ("file_bytes", c_uint64), ("bits", c_double), ("file_bits", c_double),
                ("worst_snr", c_double), ("missed", c_uint64), ("zero", c_uint64)]


class DecompressOptionsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("dtype", c_int), ("decoder", c_char_p), ("threads", c_uint),
                ("overwrite", c_int), ("io", c_int), ("header_limit", c_uint64),
                ("pool", c_void_p)]


class DecompressedStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("tensors", c_uint64), ("bytes", c_uint64)]


class VerifyOptionsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("decoder", c_char_p), ("threads", c_uint), ("io", c_int),
                ("header_limit", c_uint64),
                ("pool", c_void_p)]


class VerifiedStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("compressed", c_int), ("tensors", c_uint64), ("side_files", c_uint64),
                ("faults", c_uint64)]


class EvaluateOptionsStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("text", c_char_p), ("text_bytes", c_size_t), ("tokens", POINTER(c_uint32)),
                ("token_count", c_size_t), ("baseline", c_char_p), ("context", c_size_t), ("stride", c_size_t),
                ("windows", c_size_t), ("memory", c_uint64), ("threads", c_uint), ("pool", c_void_p)]


class MeanStruct(ctypes.Structure):
    _fields_ = [("mean", c_double), ("error", c_double)]


class EvaluationStruct(SizedStruct):
    _fields_ = [("size", c_size_t), ("context", c_uint64), ("stride", c_uint64), ("windows", c_uint64),
                ("tokens", c_uint64), ("perplexity", MeanStruct), ("nll", MeanStruct),
                ("baseline_perplexity", MeanStruct), ("difference", MeanStruct), ("kl", MeanStruct),
                ("same_top", MeanStruct), ("kl_median", c_double), ("kl_99", c_double)]


def functions_of(options, result, paths):
    """The types of a call and of its options' _init."""
    arguments = [c_char_p] * paths + [POINTER(options), POINTER(HooksStruct), POINTER(result), POINTER(ErrorStruct)]
    return (None, [POINTER(options), c_size_t]), (c_int, arguments)


FUNCTIONS = {}
for verb, options, result, paths in (("compress", CompressOptionsStruct, TotalsStruct, 2),
                                     ("decompress", DecompressOptionsStruct, DecompressedStruct, 2),
                                     ("verify", VerifyOptionsStruct, VerifiedStruct, 1),
                                     ("evaluate", EvaluateOptionsStruct, EvaluationStruct, 1)):
    FUNCTIONS[f"vcl_{verb}_options_init_sized"], FUNCTIONS[f"vcl_{verb}_model"] = functions_of(options, result, paths)

loaded = []


def library():
    """libvcllm_pack; loaded once."""
    if not loaded:
        folder = os.path.dirname(lib._name)
        path = os.path.join(folder, "libvcllm_pack.so") if folder else ctypes.util.find_library("vcllm_pack")
        try:
            found = ctypes.CDLL(path or "libvcllm_pack.so")
        except OSError as error:
            raise Error(E_CODEC, f"libvcllm_pack, which whole models need, cannot be loaded: {error}; it is looked for "
                                 "beside libvcllm: set VCLLM_LIBRARY to an installed libvcllm.so, or to that of a build "
                                 "which found jansson and libpcre2-8") from None
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
        loaded.append(found)
    return loaded[0]


# ---- one long call ------------------------------------------------------------------------------------------------

class Errand:
    """The hooks of one call, what they heard, and what ended it.

    The call has a thread of its own: signals' handlers run in the main thread, where an exception that they raise is
    caught; in a hook ctypes would print it and go on."""

    def __init__(self, progress):
        if progress is not None and not callable(progress):
            raise wrong_type("progress", "None or a callable", progress)
        self.progress, self.raised, self.notes, self.faults = progress, None, [], []
        self.hooks = HooksStruct()
        self.hooks.cancel = ASK(lambda _: self.raised is not None)
        self.hooks.note = TELL(lambda _, words: self.notes.append(words.decode("utf-8", "replace")))
        self.hooks.fault = TELL(lambda _, words: self.faults.append(words.decode("utf-8", "replace")))
        if progress is not None:
            self.hooks.progress = SHOW(self._progress)

    def _progress(self, _, progress):
        now = progress.contents
        try:
            if now.stage is not None and self.raised is None:
                self.progress(now.done, now.work, now.stage.decode())
        except BaseException as error:     # raised again where the call was made
            self.raised = error

    def _run(self, function):
        """What function returns.  Whatever is raised meanwhile, it has returned then."""
        status, ended = [], threading.Event()

        def run():
            try:
                status.append(function())
            finally:
                ended.set()

        thread = threading.Thread(target=run)
        while not ended.is_set():
            try:
                if thread.ident is None:
                    thread.start()
                ended.wait(0.1)     # a signal that another thread has got does not wake this one
            except BaseException as error:     # KeyboardInterrupt above all: the next poll of the hook ends the call
                self.raised = self.raised or error
                if thread.ident is None:
                    raise
        thread.join()
        return status[0]

    def call(self, function, *arguments):
        """Runs it; the last arguments are its options and its result.  Raises what it, a hook or a signal reported."""
        error = ErrorStruct()
        *paths, options, result = arguments
        status = self._run(lambda: function(*paths, byref(options), byref(self.hooks), byref(result), byref(error)))
        if self.raised is not None:
            raise self.raised
        try:
            check_file(status, error)
        except Error as failed:
            failed.faults = tuple(self.faults)
            raise


def path_of(name, value):
    return text(name, value, (str, bytes, os.PathLike), os.fsencode)


def options_of(verb, struct, threads):
    options = struct()
    getattr(library(), f"vcl_{verb}_options_init_sized")(byref(options), options.size)
    options.threads = integer("threads", threads, c_uint)
    return options


# ---- compressing --------------------------------------------------------------------------------------------------

class Compressed(typing.NamedTuple):
    """What `vcllm compress` prints: of all tensors, from the headers written; missed and zero of those coded now."""
    tensors: int
    lossy: int
    exact: int
    tied: int
    values: int
    lossy_values: int
    lossy_bytes: int
    raw_bytes: int
    file_bytes: int
    bits: float
    file_bits: float
    worst_snr: float
    missed: int
    zero: int
    notes: tuple


def set_target(options, params, bits, size, snr, max_error, lossless):
    """The one that was given; 2.9 bits where none was."""
    given = [name for name, value in (("bits", bits), ("size", size), ("snr", snr), ("max_error", max_error))
             if value is not None] + ["lossless"] * lossless
    if len(given) > 1:
        raise wrong_value(f"only one of bits, size, snr, max_error and lossless can be given, not {' and '.join(given)}")
    options.lossless = lossless
    if size is not None:
        options.file_bytes = integer("size", size, c_uint64)
        if not options.file_bytes:
            raise wrong_value("size must be above 0")
    for name, value in (("bits", bits), ("snr", snr), ("max_error", max_error)):
        if value is not None:
            params.goal, params.target = GOALS.index(name), real(name, value)


def set_rules(options, rules):
    if isinstance(rules, (str, bytes)):
        raise wrong_type("rules", "a sequence of texts such as 'lm_head=4'", rules)
    words = [text("rules", rule) for rule in rules]
    options.rules = (c_char_p * len(words))(*words)
    options.rule_count = len(words)


def set_params(params, codec, objective, effort):
    number = lib.vcl_codec_parse(text("codec", codec))
    if lib.vcl_codec_name(number) is None:
        raise wrong_value(f"codec: there is no {codec!r}; models are coded by tensor, h265 and h264")
    if objective not in OBJECTIVES:
        raise wrong_value(f"objective must be 'model' or 'mse', not {objective!r}")
    params.codec, params.objective = number, OBJECTIVES[objective]
    params.effort = integer("effort", effort, c_int)
    if not 1 <= params.effort <= 9:
        raise wrong_value(f"effort must be from 1 to 9, not {params.effort}")


def compress(model, out, bits=None, *, size=None, snr=None, max_error=None, lossless=False, rules=(), codec="tensor",
             objective="model", effort=5, row_floor=None, threads=0, force=False, resume=False, progress=None):
    """Compresses a model, a file to a file or a folder to a folder, as `vcllm compress` does; a Compressed.

    At most `bits` per value over all that is coded lossily (2.9), or in place of it: `size` bytes for all files, at
    least `snr` dB for every tensor, no value off by more than `max_error`, or `lossless`.  rules: "REGEX=WHAT", WHAT
    bits, snr:DB, error:E, lossless or copy.  row_floor: dB that each row of an embedding keeps; None: where they differ
    much.  threads: 0 is one per CPU.  force replaces an output, resume continues a folder that was begun.
    progress(done, total, stage) is called now and then, from any thread; bytes of input in each stage.

    Every tensor has the same rate but for the rules: to share out bits the model would have to run (`--allocate`)."""
    errand, params, totals = Errand(progress), ParamsStruct(), TotalsStruct()
    paths = path_of("model", model), path_of("out", out)
    options = options_of("compress", CompressOptionsStruct, threads)
    lib.vcl_params_init_sized(byref(params), params.size)
    set_params(params, codec, objective, effort)
    set_target(options, params, bits, size, snr, max_error, flag("lossless", lossless))
    set_rules(options, rules)
    options.params = ctypes.pointer(params)
    options.row_floor = -1 if row_floor is None else real("row_floor", row_floor)
    if row_floor is not None and not 0 <= options.row_floor <= 60:
        raise wrong_value(f"row_floor must be from 0 to 60 or None, not {options.row_floor}")
    options.overwrite, options.resume = flag("force", force), flag("resume", resume)
    errand.call(library().vcl_compress_model, *paths, options, totals)
    return Compressed(*(getattr(totals, name) for name in Compressed._fields[:-1]), tuple(errand.notes))


# ---- bringing back and verifying ----------------------------------------------------------------------------------

class Decompressed(typing.NamedTuple):
    """What was written: tensors and their bytes."""
    tensors: int
    bytes: int
    notes: tuple


def decompress(model, out, *, dtype=None, threads=0, force=False, progress=None):
    """A compressed model as it was, a file to a file or a folder to a folder; a Decompressed.  dtype: "F16", "BF16",
    "F32" or "F64" for all float tensors; None: as they were."""
    errand, result = Errand(progress), DecompressedStruct()
    paths = path_of("model", model), path_of("out", out)
    options = options_of("decompress", DecompressOptionsStruct, threads)
    if dtype is not None:
        if not isinstance(dtype, str) or dtype.upper() not in FLOATS:
            raise wrong_value(f"dtype must be one of {', '.join(FLOATS)} or None, not {dtype!r}")
        options.dtype = lib.vcl_dtype_parse(dtype.upper().encode())
    options.overwrite = flag("force", force)
    errand.call(library().vcl_decompress_model, *paths, options, result)
    return Decompressed(result.tensors, result.bytes, tuple(errand.notes))


class Verified(typing.NamedTuple):
    """What was looked at and found good; compressed False: there are no checksums."""
    compressed: bool
    tensors: int
    side_files: int


def verify(model, *, threads=0, progress=None):
    """Decodes all of a compressed model against every checksum; a Verified.  Where something is wrong this is an Error:
    its message is the first fault, its `faults` are all."""
    errand, result = Errand(progress), VerifiedStruct()
    options = options_of("verify", VerifyOptionsStruct, threads)
    errand.call(library().vcl_verify_model, path_of("model", model), options, result)
    return Verified(bool(result.compressed), result.tensors, result.side_files)


# ---- evaluating ---------------------------------------------------------------------------------------------------

class Mean(typing.NamedTuple):
    """Over the predictions, and its standard error (the windows are the sample)."""
    mean: float
    error: float


class Evaluation(typing.NamedTuple):
    """What `vcllm eval` prints; nats a token, but for the perplexities and the share same_top.  From
    baseline_perplexity on None without a baseline."""
    context: int
    stride: int
    windows: int
    tokens: int
    perplexity: Mean
    nll: Mean
    baseline_perplexity: typing.Optional[Mean]
    difference: typing.Optional[Mean]
    kl: typing.Optional[Mean]
    same_top: typing.Optional[Mean]
    kl_median: typing.Optional[float]
    kl_99: typing.Optional[float]
    notes: tuple


def set_text(options, given, tokens):
    if (given is None) == (tokens is None):
        raise wrong_value("one of text and tokens must be given")
    if given is not None:
        if not isinstance(given, str):
            raise wrong_type("text", "text, not a path to it", given)
        data = given.encode("utf-8", "surrogatepass")     # the library says where it is no UTF-8
        options.text, options.text_bytes = data, len(data)
        return
    numbers = [integer("tokens", token, c_uint32) for token in tokens]
    options.tokens, options.token_count = (c_uint32 * len(numbers))(*numbers), len(numbers)


def eval(model, text=None, *, tokens=None, baseline=None, context=None, stride=None, windows=None, threads=0,
         progress=None):
    """How well a model, compressed or not, predicts a text; an Evaluation.  model: a folder with config.json.  text:
    the text itself, encoded by the model's tokenizer; or tokens, a sequence of numbers.  baseline: the model that it was
    made from, to compare with.  context: tokens a window reads, None: the model's; stride: from window to window;
    windows: only so many.  progress and threads as compress'."""
    errand, result = Errand(progress), EvaluationStruct()
    path = path_of("model", model)
    options = options_of("evaluate", EvaluateOptionsStruct, threads)
    set_text(options, text, tokens)
    if baseline is not None:
        options.baseline = path_of("baseline", baseline)
    for name, value in (("context", context), ("stride", stride), ("windows", windows)):
        if value is not None:
            if not integer(name, value, c_size_t):
                raise wrong_value(f"{name} must be above 0")
            setattr(options, name, value)
    errand.call(library().vcl_evaluate_model, path, options, result)
    found = {name: getattr(result, name) for name in Evaluation._fields[:-1]}
    found = {name: Mean(value.mean, value.error) if isinstance(value, MeanStruct) else value
             for name, value in found.items()}
    if baseline is None:
        found.update(dict.fromkeys(Evaluation._fields[6:-1]))
    return Evaluation(**found, notes=tuple(errand.notes))
