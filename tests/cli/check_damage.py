"""Broken files; single tensors; comparing."""
import random
import struct
import subprocess

import stfile
from case import PROGRAM, FAILED, USAGE, BOUND, Case


class Damage(Case):
    """Catches: an altered or cut file that passes, crashes, or leaves an output behind."""

    def test_truncation(self):
        small = self.compressed()
        whole = self.read("small.safetensors")
        generator = random.Random(3)
        for n in sorted({0, 1, 7, 8, 9, len(whole) - 1, *generator.sample(range(len(whole)), 12)}):
            cut = self.write("cut", whole[:n])
            with self.subTest(bytes=n):
                self.vcllm("info", cut, code=FAILED)
                _, error = self.vcllm("verify", cut, code=FAILED)
                self.assertIn(cut, error)
                self.vcllm("decompress", cut, "-o", self.path("back"), code=FAILED)
        self.vcllm("verify", self.write("long", whole + b"\0"), code=FAILED)
        self.assertNotIn("back", self.files())

    def test_flipped_bits(self):
        self.compressed()
        whole = bytearray(self.read("small.safetensors"))
        generator = random.Random(4)
        header = 8 + struct.unpack("<Q", whole[:8])[0]
        mark = bytes(whole).index(b"vcllm.hash")
        places = [*generator.sample(range(8, header), 20), *range(mark - 1, mark + 11),
                  *generator.sample(range(header, len(whole)), 30)]
        for place in places:
            bit = 1 << generator.randrange(8)
            whole[place] ^= bit
            bad = self.write("bad", whole)
            whole[place] ^= bit
            with self.subTest(place=place, bit=bit):
                done = subprocess.run([PROGRAM, "verify", bad], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE)
                self.assertEqual(done.returncode, FAILED, done.stderr)
                done = subprocess.run([PROGRAM, "decompress", bad, "-o", self.path("back")],
                                      stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE)
                self.assertEqual(done.returncode, FAILED, done.stderr)
        self.assertEqual(self.files(), ["bad", "model.safetensors", "small.safetensors"])

    def test_verify_lists_every_fault(self):
        small = self.compressed()
        whole = bytearray(self.read("small.safetensors"))
        header, tensors = stfile.read(small)
        start = 8 + struct.unpack("<Q", whole[:8])[0]
        for name in ["layer.0.weight", "layer.1.weight"]:
            whole[start + header[name]["data_offsets"][1] - 100] ^= 1
        bad = self.write("bad", whole)
        document, error = self.run_json("verify", bad, code=FAILED)
        self.assertEqual(document["bad_tensors"], ["layer.0.weight", "layer.1.weight"])
        for name in document["bad_tensors"]:
            self.assertIn(f"tensor '{name}' at offset {start + header[name]['data_offsets'][0]}", error)

    def test_info_decodes_only_where_asked(self):
        """info without -v reads more than headers, or with it keeps a fault, or its list, to itself."""
        small = self.compressed()
        whole = bytearray(self.read("small.safetensors"))
        header, _ = stfile.read(small)
        whole[8 + struct.unpack("<Q", whole[:8])[0] + header["layer.0.weight"]["data_offsets"][1] - 100] ^= 1
        bad = self.write("bad", whole)
        plain, _ = self.vcllm("info", bad)
        verbose, error = self.vcllm("info", "-v", bad, code=FAILED)
        self.assertIn("tensor 'layer.0.weight' at offset", error)
        self.assertEqual(verbose.splitlines()[5:], plain.splitlines()[5:])
        self.assertNotIn("zero_rows", self.run_json("info", "-v", bad, code=FAILED)[0]["tensors"][0])

    def test_not_safetensors(self):
        for i, data in enumerate([b"", b"hello", bytes(100), b"\xff" * 64, b"PK\3\4" + bytes(60),
                                  struct.pack("<Q", 2) + b"[]",
                                  struct.pack("<Q", 1 << 62) + b"{}"]):
            bad = self.write(f"bad{i}", data)
            for args in [["info", bad], ["verify", bad], ["compress", bad, "-o", self.path("o")],
                         ["decompress", bad, "-o", self.path("o")], ["compare", bad, bad]]:
                self.assertIn(bad, self.vcllm(*args, code=FAILED)[1])
        self.assertNotIn("o", self.files())

    def test_header_limit(self):
        model = self.model()
        self.vcllm("info", model, "--header-limit", 64, code=FAILED)
        self.vcllm("info", model, "--header-limit", "1MiB")


class Extract(Case):
    """Catches: wrong rows, wrong order, wrong conversion."""

    def test_rows(self):
        small = self.compressed(rows=300, cols=70)
        self.vcllm("decompress", small, "-o", self.path("back"), "-q")
        whole = {t[0]: t for t in stfile.read(self.path("back"))[1]}["layer.0.weight"][3]
        row = 70 * 4
        for rows, first, last in [("0:1", 0, 1), ("17:205", 17, 205), ("299:300", 299, 300), (":5", 0, 5),
                                  ("290:", 290, 300),
                                  ("4:4", 4, 4), ("0:300", 0, 300)]:
            raw, error = self.vcllm("decompress", small, "--tensor", "layer.0.weight", "--rows", rows, "-o",
                                    "-", binary=True)
            self.assertEqual(raw, whole[first * row:last * row], rows)
            self.assertEqual(error, "")
            self.vcllm("decompress", small, "--tensor", "layer.0.weight", "--rows", rows, "-o",
                       self.path("part"), "-f", "-q")
            header, tensors = stfile.read(self.path("part"))
            self.assertEqual(tensors, [("layer.0.weight", "F32", [last - first, 70],
                                        whole[first * row:last * row])])
            self.assertEqual(header["__metadata__"], {"format": "pt"})
        for rows in ["5", "3:2", "0:301", "-1:4", "a:b", "1:2:3", "99999999999999999999:"]:
            self.vcllm("decompress", small, "--tensor", "layer.0.weight", "--rows", rows, "-o", "-",
                       code=USAGE)
        self.vcllm("decompress", small, "--tensor", "layer", "-o", "-", code=USAGE)

    def test_dtype(self):
        values = [0.0, 1.0, -2.5, 65504.0, 0.333333]
        model = stfile.write(self.path("m"), [("x", "F32", [5], struct.pack("<5f", *values)),
                                              ("n", "I32", [1], b"\1\0\0\0")])
        self.vcllm("compress", model, "-o", self.path("s"), "--lossless", "-q")
        for dtype, form in [("f16", "e"), ("f64", "d"), ("f32", "f")]:
            raw, _ = self.vcllm("decompress", self.path("s"), "--tensor", "x", "--dtype", dtype, "-o", "-",
                                binary=True)
            exact = struct.unpack("<5f", struct.pack("<5f", *values))
            self.assertEqual(raw, struct.pack(f"<5{form}", *exact))
            self.vcllm("decompress", self.path("s"), "--dtype", dtype, "-o", self.path("b"), "-q", "-f")
            tensors = {t[0]: t for t in stfile.read(self.path("b"))[1]}
            self.assertEqual(tensors["x"][1:], (dtype.upper(), [5], raw))
            self.assertEqual(tensors["n"][1], "I32")
        raw, _ = self.vcllm("decompress", self.path("s"), "--tensor", "x", "--dtype", "bf16", "-o", "-",
                            binary=True)
        self.assertEqual(raw[2:6], b"\x80\x3f\x20\xc0")


class Compare(Case):
    """Catches: numbers that are not those of the definition, differences that pass."""

    def test_numbers(self):
        a = stfile.write(self.path("a"), [("x", "F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)),
                                          ("i", "I32", [1], bytes(4))])
        b = stfile.write(self.path("b"), [("x", "F64", [2, 2], struct.pack("<4d", 1, 2, 3, 4.5)),
                                          ("i", "I32", [1], b"\1\0\0\0")])
        document, _ = self.run_json("compare", a, b)
        found = {t["name"]: t for t in document["tensors"]}
        self.assertAlmostEqual(found["x"]["nmse"], 0.25 / 30)
        self.assertEqual(found["x"]["max_error"], 0.5)
        self.assertEqual(found["i"]["differing"], 1)
        self.assertAlmostEqual(document["totals"]["snr"], 20.7918, places=3)
        self.vcllm("compare", a, b, "--min-snr", 20, "--json", code=BOUND)     # the integer differs
        self.vcllm("compare", a, a, "--min-snr", 200)

    def test_rows(self):
        """Rows that were zero before count as lost, or those of NaN or of -0 do not; short rows count."""
        ones = struct.pack("<16f", *[1] * 16)
        pairs = [(bytes(64), ones), (ones, b"\0\0\0\x80" * 16), (b"\0\0\xc0\x7f" * 16, bytes(64)),
                 (ones, struct.pack("<16f", *[-1] * 16)), (ones, bytes(60) + ones[:4]), (bytes(64), bytes(64))]
        a, b = [stfile.write(self.path(name), [("x", "F32", [2, 3, 16], b"".join(p[i] for p in pairs)),
                                               ("short", "F32", [4, 4], bytes(64) if i else ones),
                                               ("flat", "F32", [16], bytes(64) if i else ones)])
                for i, name in enumerate("ab")]
        document, _ = self.run_json("compare", a, b)
        x, short, flat = document["tensors"]
        self.assertEqual((x["worst_row"], x["rows_lost"]), (3, 2))
        self.assertAlmostEqual(x["worst_row_snr"], -6.0206, places=4)
        for tensor in [short, flat]:
            self.assertEqual((tensor["worst_row_snr"], tensor["worst_row"], tensor["rows_lost"]), (None, None, 0))

    def test_rows_longer_than_a_stretch(self):
        """A row that is read in several stretches counts as lost for its last one."""
        cols = 4500000
        one = struct.pack("<f", 1)
        a = stfile.write(self.path("a"), [("x", "F32", [2, cols], one * 2 * cols)])
        b = stfile.write(self.path("b"), [("x", "F32", [2, cols], one + bytes(8 * cols - 4))])
        x = self.run_json("compare", a, b)[0]["tensors"][0]
        self.assertEqual((x["worst_row"], x["worst_row_snr"], x["rows_lost"]), (1, 0, 1))

    def test_differences(self):
        a = stfile.write(self.path("a"), [stfile.normal("x", [4, 4], 1), stfile.normal("y", [4, 4], 2)])
        b = stfile.write(self.path("b"), [stfile.normal("x", [2, 8], 1), stfile.normal("z", [4, 4], 2)])
        document, _ = self.run_json("compare", a, a)
        self.assertEqual(document["totals"]["compared"], 2)
        output, _ = self.vcllm("compare", a, b, code=FAILED)
        for word in ["only in A", "only in B", "[4, 4] against [2, 8]"]:
            self.assertIn(word, output)

    def test_nothing_to_compare(self):
        """No value was compared: nothing is exact."""
        empty = stfile.write(self.path("a"), [])
        output, _ = self.vcllm("compare", empty, empty)
        self.assertNotIn("exact", output)
        hollow = stfile.write(self.path("b"), [("x", "F32", [0], b""), ("n", "F32", [1], b"\0\0\xc0\x7f")])
        self.assertNotIn("exact", self.vcllm("compare", hollow, hollow)[0])

    def test_bound(self):
        small = self.compressed()
        model = self.path("model.safetensors")
        self.vcllm("compare", model, small, "--min-snr", 10)
        _, error = self.vcllm("compare", model, small, "--min-snr", 60, "-q", code=BOUND)
        self.assertIn("tensors below 60 dB: 2", error)
