#!/usr/bin/python3
"""Tests of pages of KV caches against refdec_kv.py, which knows docs/format.md alone, and golden ones.

`test_kv.py --make` writes the golden recipes and pages anew, after a change of format.
"""
import ctypes
import hashlib
import json
import os
import pathlib
import sys
import unittest

import numpy as np

import driver
import refdec_kv
from driver import ROOT

VECTORS = pathlib.Path(__file__).resolve().parent / "vectors"
F32, STEP = 17, 0.08

library = ctypes.CDLL(os.environ.get("VCLLM_LIBRARY", str(ROOT / "build" / "libvcllm.so")))
POINTER, SIZE = ctypes.c_void_p, ctypes.c_size_t


class Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("layers", "heads", "key_dim", "value_dim")]


class Identity(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ("model", "revision", "rope", "layout")]


class Part(ctypes.Structure):
    _fields_ = [("layer", ctypes.c_uint32), ("sides", ctypes.c_uint32), ("mean", POINTER), ("basis", POINTER),
                ("vectors", POINTER), ("tokens", SIZE)]


class Range(ctypes.Structure):
    _fields_ = [("size", SIZE), *((name, ctypes.c_uint32) for name in ("first_layer", "layers", "first_token", "tokens")),
                ("position", ctypes.c_uint64), ("sides", ctypes.c_uint32)]


class View(ctypes.Structure):
    _fields_ = [("data", POINTER), ("dtype", ctypes.c_int), ("layer_stride", SIZE), ("token_stride", SIZE),
                ("head_stride", SIZE)]


library.vcl_context_message.restype = ctypes.c_char_p
library.vcl_context_message.argtypes = [POINTER]
library.vcl_kv_recipe_learn.argtypes = [POINTER, POINTER, POINTER, POINTER, SIZE, ctypes.c_double, POINTER, POINTER]
library.vcl_kv_recipe_load.argtypes = [POINTER, ctypes.c_char_p, SIZE, POINTER]
library.vcl_kv_recipe_save.argtypes = [POINTER, ctypes.c_char_p, POINTER]
library.vcl_kv_bound.argtypes, library.vcl_kv_bound.restype = [POINTER, POINTER], SIZE
library.vcl_kv_coder_create.argtypes = [POINTER, POINTER, ctypes.c_uint32, POINTER]
library.vcl_kv_encode.argtypes = [POINTER] * 6
library.vcl_kv_decode.argtypes = [POINTER, ctypes.c_char_p, SIZE] + [POINTER] * 3
for name in ("vcl_kv_recipe_destroy", "vcl_kv_coder_destroy", "vcl_context_destroy"):
    getattr(library, name).argtypes = [POINTER]
    getattr(library, name).restype = None

# Name: layers, heads, key_dim, value_dim, together, tokens, first layer, layers, sides.
CASES = {"kv-apart": (2, 2, 8, 8, False, 20, 0, 2, 3), "kv-together": (3, 2, 40, 24, True, 96, 0, 3, 3),
         "kv-side": (3, 1, 16, 24, False, 37, 1, 2, 2), "kv-humps": (1, 2, 32, 32, True, 64, 0, 1, 3)}


class Cache:
    """One case's parts and values, from a seed, and what the library makes of them."""

    def __init__(self, name):
        self.layers, self.heads, self.key_dim, self.value_dim, self.together, self.tokens, *wanted = CASES[name]
        self.range = Range(ctypes.sizeof(Range), wanted[0], wanted[1], 0, self.tokens, 7, wanted[2])
        self.rng, self.humps = np.random.default_rng(len(name)), name == "kv-humps"
        self.context = POINTER()
        self.must(library.vcl_context_create(None, ctypes.byref(self.context)))

    def must(self, status):
        if status:
            raise AssertionError(library.vcl_context_message(self.context))

    def close(self):
        library.vcl_context_destroy(self.context)

    def width(self, sides):
        return self.heads * ((self.key_dim if sides & 1 else 0) + (self.value_dim if sides & 2 else 0))

    def draw(self, basis, mean, count):
        n = len(basis)
        z = self.rng.standard_normal((count, n))
        z = np.sign(z) + z / 8 if self.humps else z * 2.0 ** (-np.arange(n) / 8)
        return (mean + z @ basis).astype(np.float32)

    def learn(self):
        """The recipe's bytes, and values of each (layer, sides)."""
        kept, parts, self.values = [], [], {}
        for layer in range(self.layers):
            for sides in (3,) if self.together else (1, 2):
                n = self.width(sides)
                basis = (self.rng.standard_normal((n, n)) / 2 + 2 * np.eye(n)).astype(np.float32)
                mean = self.rng.standard_normal(n).astype(np.float32)
                typical = self.draw(basis, mean, 600)
                kept += [basis, mean, typical]
                parts.append(Part(layer, sides, mean.ctypes.data, basis.ctypes.data, typical.ctypes.data, 600))
                values, keys = self.draw(basis, mean, self.tokens), self.heads * self.key_dim if sides & 1 else 0
                self.values.update({(layer, 1): values[:, :keys]} if sides & 1 else {})
                self.values.update({(layer, 2): values[:, keys:]} if sides & 2 else {})
        shape = Shape(self.layers, self.heads, self.key_dim, self.value_dim)
        recipe, bits, size = POINTER(), ctypes.c_double(), SIZE(1 << 20)
        self.must(library.vcl_kv_recipe_learn(self.context, ctypes.byref(shape),
                                              ctypes.byref(Identity(b"model", b"", b"rope", b"")),
                                              (Part * len(parts))(*parts), len(parts), STEP, ctypes.byref(recipe),
                                              ctypes.byref(bits)))
        data = ctypes.create_string_buffer(size.value)
        self.must(library.vcl_kv_recipe_save(recipe, data, ctypes.byref(size)))
        library.vcl_kv_recipe_destroy(recipe)
        return data.raw[:size.value]

    def view(self, values, dim):
        return View(values.ctypes.data, F32, self.tokens * self.heads * dim, self.heads * dim, dim)

    def code(self, recipe_bytes, page=None):
        """The page of the case's values; or what the library decodes of one."""
        recipe, coder = POINTER(), POINTER()
        self.must(library.vcl_kv_recipe_load(self.context, recipe_bytes, len(recipe_bytes), ctypes.byref(recipe)))
        self.must(library.vcl_kv_coder_create(self.context, recipe, self.tokens, ctypes.byref(coder)))
        layers = range(self.range.first_layer, self.range.first_layer + self.range.layers)
        sides = [np.stack([np.zeros((self.tokens, self.width(side)), np.float32) if page else self.values[layer, side]
                           for layer in layers]) for side in (1, 2)]
        views = [ctypes.byref(self.view(values, dim)) if self.range.sides & side else None
                 for side, values, dim in zip((1, 2), sides, (self.key_dim, self.value_dim))]
        if page is None:
            size = SIZE(library.vcl_kv_bound(recipe, ctypes.byref(self.range)))
            data = ctypes.create_string_buffer(size.value)
            self.must(library.vcl_kv_encode(coder, ctypes.byref(self.range), *views, data, ctypes.byref(size)))
            result = data.raw[:size.value]
        else:
            self.must(library.vcl_kv_decode(coder, page, len(page), None, *views))
            result = {(layer, side): sides[side - 1][i] for i, layer in enumerate(layers) for side in (1, 2)
                      if self.range.sides & side}
        library.vcl_kv_coder_destroy(coder)
        library.vcl_kv_recipe_destroy(recipe)
        return result


def digest(values):
    return hashlib.sha256(b"".join(values[key].tobytes() for key in sorted(values))).hexdigest()


class Pages(driver.Case):
    def check(self, cache, recipe, page):
        """The library and the document agree to the bit."""
        expected, found = refdec_kv.decode_page(refdec_kv.Recipe(recipe), page), cache.code(recipe, page)
        self.assertEqual(sorted(expected), sorted(found))
        for key, values in expected.items():
            self.assertEqual(values.tobytes(), found[key].tobytes(), key)
        return found

    def test_fresh(self):
        """Fault: the library writes what docs/format.md does not say."""
        for name in CASES:
            with self.subTest(name):
                cache = Cache(name)
                recipe = cache.learn()
                found = self.check(cache, recipe, cache.code(recipe))
                spread = {(part.layer, side): np.sqrt(np.sum(part.basis ** 2) / part.n)
                          for part in refdec_kv.Recipe(recipe).parts for side in (1, 2) if part.sides & side}
                for key, values in found.items(): # a component errs by half a half-step
                    error = np.sqrt(np.mean((values - cache.values[key]) ** 2))
                    self.assertLess(error, 0.8 * STEP * spread[key], key)
                    self.assertGreater(error, 0.1 * STEP * spread[key], key)
                cache.close()

    def test_golden(self):
        """Fault: a page written by an earlier version decodes to other values, or not at all."""
        hashes = json.loads((VECTORS / "kv.json").read_text(encoding="ascii"))
        self.assertEqual(sorted(hashes), sorted(CASES))
        for name, expected in hashes.items():
            with self.subTest(name):
                cache = Cache(name)
                recipe, page = ((VECTORS / f"{name}.{kind}").read_bytes() for kind in ("recipe", "page"))
                self.assertEqual(digest(self.check(cache, recipe, page)), expected)
                cache.close()


def make():
    hashes = {}
    for name in CASES:
        cache = Cache(name)
        recipe = cache.learn()
        page = cache.code(recipe)
        (VECTORS / f"{name}.recipe").write_bytes(recipe)
        (VECTORS / f"{name}.page").write_bytes(page)
        hashes[name] = digest(cache.code(recipe, page))
        cache.close()
    (VECTORS / "kv.json").write_text(json.dumps(hashes, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    if "--make" in sys.argv:
        make()
    else:
        unittest.main()
