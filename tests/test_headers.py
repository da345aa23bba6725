#!/usr/bin/python3
"""Tests of the public headers as a user sees them: they compile alone, in C and in C++, and the example that each opens
with is a program."""
import os
import pathlib
import re
import shutil
import subprocess
import unittest

import numpy as np

import driver
import refenc
from driver import ROOT

INCLUDE = ROOT / "include"
LIBRARY = pathlib.Path(os.environ.get("VCLLM_LIBRARY", ROOT / "build" / "libvcllm.so"))
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-pedantic", "-Werror", "-I", str(INCLUDE)]
COMPILERS = {"c": [os.environ.get("CC", "cc"), "-std=c11"], "cc": [os.environ.get("CXX", "c++"), "-std=c++17"]}

# What stands around the examples: what they take for granted, and whether they did what they say.
AROUND = {
    "vcllm.h": ("""float *values = calloc(1024 * 1024, 4);
                   for (int i = 0; i < 1024 * 1024; i++) values[i] = (float)(i % 1021) - 510;""",
                """return !ctx || bytes == 0 || bytes > vcl_bound(&tensor);"""),
    "vcllm_file.h": ("""struct vcl_context *ctx;
                        if (vcl_context_create(NULL, &ctx)) return 2;""",
                     """return puts("copied") < 0;"""),
    "vcllm_kv.h": ("""struct vcl_context *ctx;
                      enum { heads = 2, dim = 32, n = heads * dim };
                      static unsigned short k[64 * n], v[64 * n];
                      static float mean[n], basis[n * n], typical[64 * n];
                      for (int i = 0; i < 64 * n; i++) {
                          basis[i] = i % (n + 1) == 0;
                          typical[i] = (float)(i * 37 % 101 - 50) / 50;
                          k[i] = v[i] = (unsigned short)(0x3800 + i % 512);
                      }
                      if (vcl_context_create(NULL, &ctx)) return 2;
                      const struct vcl_kv_shape shape = { 1, heads, dim, dim };
                      const struct vcl_kv_identity identity = { "small", "", "", "" };
                      const struct vcl_kv_part parts[] = { { 0, VCL_KV_KEYS, mean, basis, typical, 64 },
                                                           { 0, VCL_KV_VALUES, mean, basis, typical, 64 } };
                      struct vcl_kv_recipe *learned;
                      double bits;
                      if (vcl_kv_recipe_learn(ctx, &shape, &identity, parts, 2, 0.05, &learned, &bits)) return 3;
                      struct vcl_kv_recipe_info info = { .size = sizeof info };
                      vcl_kv_recipe_describe(learned, &info);
                      size_t file_bytes = info.bytes;
                      void *file = malloc(file_bytes);
                      if (vcl_kv_recipe_save(learned, file, &file_bytes)) return 4;""",
                   """return !page || bytes == 0 || bytes > vcl_kv_bound(recipe, &range) || k[5] < 0x3700 || k[5] > 0x3a00;"""),
    "vcllm_pack.h": ("", """return puts("packed") < 0;"""),
}


def example_of(name):
    """The indented lines of a header's first comment."""
    comment = (INCLUDE / name).read_text(encoding="utf-8").split("*/")[0]
    return "\n".join(re.findall(r"^ \*     (.*)$", comment, re.M))


class Headers(driver.Case):
    def compile(self, suffix, text, *options):
        """The program of this text."""
        source, program = self.write(f"program.{suffix}", text.encode()), self.folder / "program"
        run = subprocess.run([*COMPILERS[suffix], *STRICT, source, "-o", program, *options], capture_output=True, text=True,
                             check=False)
        self.assertEqual(run.returncode, 0, f"{run.stderr}\n{text}")
        return program

    def test_alone(self):
        """Fault: a header needs another one before it, or is no C++."""
        for suffix, compiler in COMPILERS.items():
            for name in AROUND:
                if shutil.which(compiler[0]):
                    self.compile(suffix, f'#include "{name}"\nint none;\n', "-c")

    def example(self, name, *libraries):
        before, after = AROUND[name]
        return self.compile("c", f'#include "{name}"\n#include <stdio.h>\n#include <stdlib.h>\nint main(void) {{\n{before}\n'
                                 f'{example_of(name)}\n{after}\n}}\n',
                            f"-L{LIBRARY.parent}", *libraries, "-lvcllm", f"-Wl,-rpath,{LIBRARY.parent.resolve()}")

    @unittest.skipIf(driver.is_sanitized(), "the library is sanitized, the programs are not")
    def test_tensor_example(self):
        """Fault: the first thing a user copies does not compile."""
        self.assertEqual(len(re.findall("vcl_encode_buffer", example_of("vcllm.h"))), 1)
        self.example("vcllm.h")

    @unittest.skipIf(driver.is_sanitized(), "the library is sanitized, the programs are not")
    def test_file_example(self):
        """Fault: as above; or the example, run on a plain and a compressed file, does not copy the tensor."""
        program = self.example("vcllm_file.h")
        values = np.arange(5000, dtype=np.float32)
        plain = refenc.plain([("other", "U8", (3,), b"abc"), ("weight", "F32", (50, 100), values.tobytes())])
        self.write("in.safetensors", plain)
        self.check_copy(program, values)
        self.succeed("compress", "--lossless", self.folder / "in.safetensors", "-o", self.folder / "packed.safetensors")
        os.replace(self.folder / "packed.safetensors", self.folder / "in.safetensors")
        os.remove(self.folder / "out.safetensors")
        self.check_copy(program, values)
        os.remove(self.folder / "in.safetensors")
        run = subprocess.run([program], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("in.safetensors", run.stderr)

    @unittest.skipIf(driver.is_sanitized(), "the library is sanitized, the programs are not")
    def test_kv_example(self):
        """Fault: as above; or the example, run on a small cache, does not give values back."""
        run = subprocess.run([self.example("vcllm_kv.h")], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)

    @unittest.skipIf(driver.is_sanitized(), "the libraries are sanitized, the programs are not")
    def test_pack_example(self):
        """Fault: as above; or the example, run, does not make what it says."""
        program = self.example("vcllm_pack.h", "-lvcllm_pack")
        values = np.random.default_rng(3).normal(size=(128, 512)).astype(np.float32)
        self.write("in.safetensors", refenc.plain([("weight", "F32", values.shape, values.tobytes())]))
        run = subprocess.run([program], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual((run.returncode, run.stdout[:2], run.stdout[-7:]), (0, "2.", "packed\n"), run.stderr)
        self.succeed("compare", "--min-snr", 14, self.folder / "in.safetensors", self.folder / "back.safetensors")
        os.remove(self.folder / "in.safetensors")
        run = subprocess.run([program], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("in.safetensors", run.stderr)

    def check_copy(self, program, values):
        run = subprocess.run([program], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual((run.returncode, run.stdout), (0, "copied\n"), run.stderr)
        copy = (self.folder / "out.safetensors").read_bytes()
        self.assertTrue(copy.endswith(values.tobytes()))
        self.assertIn(b'"weight":{"dtype":"F32","shape":[50,100]', copy)


if __name__ == "__main__":
    unittest.main()
