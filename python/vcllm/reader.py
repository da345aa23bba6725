"""reader.py - a model file as a mapping from names to tensors.

Compressed tensors are decoded when asked for, plain ones read; nothing else of the file is held in memory.
"""
import collections.abc
import ctypes
import os
import threading

from .arguments import flag, integer, text, wrong_value
from .bindings import (ALL, WRITE, Context, EntryStruct, ErrorStruct, HandleStruct, InfoStruct, SinkStruct, check_file,
                       lib)
from .errors import E_IO, OK
from .values import dtype_name, pointer, present, shape_of


def open(path, threads=1):
    """A Model of a .safetensors file, a folder of shards or an index file; compressed or not.  threads: those that one
    tensor is decoded with; 0 is one per CPU.  The names, shapes and metadata of what is compressed must be as they were
    written (vcllm.hash), or this is an Error."""
    return Model(path, threads)


def byte_range(name, tensor, rows):
    """Offset and bytes of rows (begin, end): indices begin to end-1 of the slowest dimension.  None is all of them."""
    size = ctypes.c_uint64()
    lib.vcl_tensor_size(ctypes.byref(tensor), None, ctypes.byref(size))
    if rows is None:
        return 0, size.value
    begin, end = rows
    if tensor.rank == 0 or not 0 <= begin <= end <= tensor.dims[0]:
        raise wrong_value(f"tensor '{name}': no rows {begin} to {end} in shape {list(shape_of(tensor))}")
    row, rest = divmod(size.value, tensor.dims[0] or 1)
    if rest:
        raise wrong_value(f"tensor '{name}': its rows do not fill whole bytes")
    return begin * row, (end - begin) * row


class Model(collections.abc.Mapping):
    """A mapping from names to arrays.  Threads may share it: one decodes at a time, and close waits for it; to use a
    closed one is a ValueError.  Close it, or use `with`."""

    def __init__(self, path, threads=1):
        error, self._model, self._entries = ErrorStruct(), ctypes.c_void_p(), {}
        data = text("path", path, (str, bytes, os.PathLike), os.fsencode)
        self._path = os.fsdecode(data)
        self._lock = threading.Lock()
        self._context = Context(threads)
        check_file(lib.vcl_model_open(data, None, ctypes.byref(self._model), ctypes.byref(error)), error)
        for i in range(lib.vcl_model_count(self._model)):
            entry = lib.vcl_model_entry(self._model, i)
            self._entries[entry.contents.name.decode("utf-8")] = entry
        self._check_names()

    def _check_names(self):
        """The hash over names, dtypes, shapes, offsets and metadata of every shard that has one, or frames without."""
        error = ErrorStruct()
        shards = {i for i in range(lib.vcl_model_shards(self._model)) if lib.vcl_model_is_compressed(self._model, i)}
        shards |= {entry.contents.shard for entry in self._entries.values()
                   if entry.contents.shard not in shards and self._holds_frame(entry)}
        for shard in sorted(shards):
            check_file(lib.vcl_model_check_hash(self._model, shard, ctypes.byref(error)), error)

    def _holds_frame(self, entry):
        return lib.vcl_model_frame(self._model, entry, ctypes.byref(InfoStruct()), None, None) == OK

    def close(self):
        """Frees the file; arrays read from it stay good."""
        with self._lock:
            self._entries = None
            lib.vcl_model_close(self._model)
            self._context.close()
            self._model = ctypes.c_void_p()

    def _names(self):
        """The entries by name.  They lead into the library's memory: only who holds the lock may look there."""
        entries = self._entries
        if entries is None:
            raise ValueError(f"{self._path}: closed")
        return entries

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __del__(self):
        if hasattr(self, "_context"):
            self.close()

    def __reduce__(self):
        raise TypeError("a Model cannot be copied or pickled: open its file again")

    def __len__(self):
        return len(self._names())

    def __iter__(self):
        return iter(self._names())

    def __contains__(self, name):
        return name in self._names()

    def __getitem__(self, name):
        return self.read(name)

    def read(self, name, raw=False):
        """The whole tensor; raw=True gives bf16 as uint16."""
        return self._slice(name, None, raw)

    def rows(self, name, begin, end, raw=False):
        """Indices begin to end-1 of the slowest dimension; only the tiles they lie in are decoded."""
        rows = integer("begin", begin, ctypes.c_int64), integer("end", end, ctypes.c_int64)
        return self._slice(name, rows, raw)

    def info(self, name):
        """What a tensor is and how it is stored: dtype, shape, bytes; and of a compressed one values, codec, bits (per
        value), snr (dB), depth, rotated, row_scales, non_finite, tiles, alias_of (a name or None)."""
        with self._lock:
            entry = self._names()[name]
            info, target = self._frame(entry)
            tensor = info.tensor if info else entry.contents.tensor
            result = {"dtype": dtype_name(tensor.dtype), "shape": shape_of(tensor), "bytes": entry.contents.bytes}
            target_name = target.contents.name.decode("utf-8") if info else None
        if info is None:
            return result
        result.update(values=info.values, codec=lib.vcl_codec_name(info.codec).decode(),
                      bits=8 * info.frame_bytes / info.values if info.values else 0.0, snr=info.snr)
        for field in ("depth", "rotated", "row_scales", "non_finite", "tiles"):
            result[field] = getattr(info, field)
        return {**result, "alias_of": target_name if target_name != name else None}

    # The lock is held in all that follows.

    def _frame(self, entry):
        """Header and target of a compressed entry; (None, None) of a plain one."""
        if not lib.vcl_model_is_compressed(self._model, entry.contents.shard):
            return None, None
        info, target, error = InfoStruct(), ctypes.POINTER(EntryStruct)(), ErrorStruct()
        check_file(lib.vcl_model_frame(self._model, entry, ctypes.byref(info), ctypes.byref(target),
                                       ctypes.byref(error)), error)
        return info, target

    def _slice(self, name, rows, raw):
        raw = flag("raw", raw)
        with self._lock:
            entry = self._names()[name]
            info, target = self._frame(entry)
            tensor = info.tensor if info else entry.contents.tensor
            dtype, shape = dtype_name(tensor.dtype), shape_of(tensor)
            offset, size = byte_range(name, tensor, rows)
            values = bytearray(size)
            if info:
                self._decode(name, target, rows, values)
            elif size:
                self._read_plain(entry, offset, values)
        return present(values, dtype, (rows[1] - rows[0], *shape[1:]) if rows else shape, raw)

    def _read_plain(self, entry, offset, values):
        error = ErrorStruct()
        target, keep = pointer(values)
        check_file(lib.vcl_model_read(self._model, entry, offset, target, len(values), ctypes.byref(error)), error)

    def _decode(self, name, entry, rows, values):
        base, keep = pointer(values)
        written = []

        def write(_, offset, source, n):
            if offset + n > len(values):
                return -1
            ctypes.memmove(base + offset, source, n)
            written.append(n)
            return 0

        handle = HandleStruct(self._model, entry)
        source = lib.vcl_model_source(ctypes.byref(handle))
        sink = SinkStruct(None, WRITE(write))
        first, count = (rows[0], rows[1] - rows[0]) if rows else (0, ALL)
        status = lib.vcl_decode(self._context.pointer, ctypes.byref(source), entry.contents.bytes, first, count, None,
                                ctypes.byref(sink))
        if status and handle.error.status:
            check_file(status, handle.error)
        if status == E_IO or (status == OK and sum(written) < len(values)):
            raise KeyboardInterrupt     # by a signal's handler in write; ctypes prints it and returns anything
        self._context.check(status, f"{self._path}: tensor '{name}': ")
