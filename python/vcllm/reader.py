"""reader.py - a model file as a mapping from names to tensors.

Compressed tensors are decoded when asked for, plain ones read; nothing else of the file is held in memory.
"""
import collections.abc
import ctypes
import os
import threading

from .bindings import (ALL, E_ARGUMENT, WRITE, Context, EntryStruct, Error, ErrorStruct, HandleStruct, InfoStruct,
                      SinkStruct, check_file, lib)
from .values import dtype_name, pointer, present, shape_of


def open(path, threads=1):
    """A Model of a .safetensors file, a folder of shards or an index file; compressed or not.  threads 0 is one per
    CPU."""
    return Model(path, threads)


def byte_range(name, tensor, begin, end):
    """Offset and bytes of indices begin to end-1 of the slowest dimension; of all of them where end is None."""
    size = ctypes.c_uint64()
    lib.vcl_tensor_size(ctypes.byref(tensor), None, ctypes.byref(size))
    if end is None:
        return 0, size.value
    if tensor.rank == 0 or not 0 <= begin <= end <= tensor.dims[0]:
        raise Error(E_ARGUMENT, f"tensor '{name}': no rows {begin} to {end} in shape {list(shape_of(tensor))}")
    row, rest = divmod(size.value, tensor.dims[0] or 1)
    if rest:
        raise Error(E_ARGUMENT, f"tensor '{name}': its rows do not fill whole bytes")
    return begin * row, (end - begin) * row


class Model(collections.abc.Mapping):
    """A mapping from names to arrays.  Threads may share it (one decodes at a time).  Close it, or use `with`."""

    def __init__(self, path, threads=1):
        error, self._model, self._entries = ErrorStruct(), ctypes.c_void_p(), {}
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._context = Context(threads)
        check_file(lib.vcl_model_open(os.fsencode(path), None, ctypes.byref(self._model), ctypes.byref(error)), error)
        for i in range(lib.vcl_model_count(self._model)):
            entry = lib.vcl_model_entry(self._model, i)
            self._entries[entry.contents.name.decode("utf-8")] = entry
        for shard in range(lib.vcl_model_shards(self._model)):
            if lib.vcl_model_is_compressed(self._model, shard):
                check_file(lib.vcl_model_check_hash(self._model, shard, ctypes.byref(error)), error)

    def close(self):
        """Frees the file; arrays read from it stay good."""
        with self._lock:
            self._entries = {}
            lib.vcl_model_close(self._model)
            self._context.close()
            self._model = ctypes.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __del__(self):
        if hasattr(self, "_context"):
            self.close()

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        return iter(self._entries)

    def __contains__(self, name):
        return name in self._entries

    def __getitem__(self, name):
        return self.read(name)

    def read(self, name, raw=False):
        """The whole tensor; raw=True gives bf16 as uint16."""
        return self._slice(name, 0, None, raw)

    def rows(self, name, begin, end, raw=False):
        """Indices begin to end-1 of the slowest dimension; only the tiles they lie in are decoded."""
        return self._slice(name, begin, end, raw)

    def info(self, name):
        """What a tensor is and how it is stored: dtype, shape, values, bytes; and of a compressed one codec, bits (per
        value), snr (dB), depth, rotated, row_scales, non_finite, tiles, alias_of."""
        with self._lock:
            info, target = self._frame(self._entries[name])
        if info is None:
            entry = self._entries[name].contents
            return {"dtype": dtype_name(entry.tensor.dtype), "shape": shape_of(entry.tensor), "bytes": entry.bytes}
        result = {"dtype": dtype_name(info.tensor.dtype), "shape": shape_of(info.tensor), "values": info.values,
                  "bytes": info.frame_bytes, "codec": lib.vcl_codec_name(info.codec).decode(),
                  "bits": 8 * info.frame_bytes / info.values if info.values else 0.0, "snr": info.snr}
        for field in ("depth", "rotated", "row_scales", "non_finite", "tiles"):
            result[field] = getattr(info, field)
        target_name = target.contents.name.decode("utf-8")
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

    def _slice(self, name, begin, end, raw):
        with self._lock:
            entry = self._entries[name]
            info, target = self._frame(entry)
            tensor = info.tensor if info else entry.contents.tensor
            offset, size = byte_range(name, tensor, begin, end)
            values = bytearray(size)
            if info:
                self._decode(name, target, begin, ALL if end is None else end - begin, values)
            elif size:
                self._read_plain(entry, offset, values)
        shape = shape_of(tensor)
        return present(values, dtype_name(tensor.dtype), shape if end is None else (end - begin, *shape[1:]), raw)

    def _read_plain(self, entry, offset, values):
        error = ErrorStruct()
        target, keep = pointer(values)
        check_file(lib.vcl_model_read(self._model, entry, offset, target, len(values), ctypes.byref(error)), error)

    def _decode(self, name, entry, first, count, values):
        base, keep = pointer(values)

        def write(_, offset, source, n):
            if offset + n > len(values):
                return -1
            ctypes.memmove(base + offset, source, n)
            return 0

        handle = HandleStruct(self._model, entry)
        source = lib.vcl_model_source(ctypes.byref(handle))
        sink = SinkStruct(None, WRITE(write))
        status = lib.vcl_decode(self._context.pointer, ctypes.byref(source), entry.contents.bytes, first, count, None,
                                ctypes.byref(sink))
        if status and handle.error.status:
            check_file(status, handle.error)
        self._context.check(status, f"{self._path}: tensor '{name}': ")
