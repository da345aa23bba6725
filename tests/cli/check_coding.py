"""What goes through compress and comes back."""
import functools
import json
import math
import os
import random
import struct

import stfile
from case import FAST, FAILED, USAGE, CODEC, BOUND, Case, environment


class Lossless(Case):
    """Catches: any byte of the input that does not come back."""

    def round_trip(self, model):
        small, back = self.path("small"), self.path("back")
        self.vcllm("compress", model, "-o", small, "--lossless", "-q", "-f")
        self.vcllm("verify", small, "-q")
        self.vcllm("decompress", small, "-o", back, "-q", "-f")
        with open(model, "rb") as file:
            self.assertEqual(file.read(), self.read("back"))
        return small

    def test_every_dtype(self):
        generator = random.Random(7)
        tensors = [(f"t.{dtype}", dtype, [2, 3, 8], generator.randbytes(48 * bits // 8))
                   for dtype, bits in sorted(stfile.BITS.items(), key=lambda item: -item[1])]
        self.round_trip(stfile.write(self.path("model"), tensors, metadata={"b": "2", "a": "1"}))

    def test_shapes(self):
        generator = random.Random(8)
        shapes = [[], [0], [1], [3, 0, 5], [1, 1, 1, 1], [7, 11, 13], [70000], [2, 9000]]
        tensors = [(f"s{i}", "F32", shape, generator.randbytes(4 * stfile.count(shape))) for i,
                   shape in enumerate(shapes)]
        self.round_trip(stfile.write(self.path("model"), tensors))
        self.round_trip(stfile.write(self.path("none"), []))

    def test_odd_headers(self):
        body = struct.pack("<4f", 1, 2, 3, float("nan"))
        headers = [
            '{"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},'
            '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
            '{ "a" : {"shape":[2], "dtype":"F32",\n "data_offsets":[0, 8]}, '
            '"b":{"data_offsets":[8,16],"shape":[2],"dtype":"F32"} }   ',
            '{"\\u00e9\\ud83d\\ude00":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
            '"__metadata__":{"k\\n":"\\u0001\\"v\\\\"}}',
            '{"a":{"dtype":"F32","shape":[4,0],"data_offsets":[0,0]},'
            '"é\\u0007":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
            '{"__metadata__":{},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        ]
        for i, header in enumerate(headers):
            raw = header.encode()
            model = self.write(f"odd{i}", struct.pack("<Q", len(raw)) + raw + body)
            with self.subTest(header=header):
                self.round_trip(model)

    def many(self, name, count, dump, order=lambda entries: entries):
        entries = {f"model.layers.{i}.mlp.experts.{i % 7}.up_proj.weight":
                   {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(count)}
        raw = dump(dict(order(list(entries.items())))).encode()
        self.write(name, struct.pack("<Q", len(raw)) + raw + bytes(i & 255 for i in range(count)))
        return self.path(name), len(raw)

    def test_other_headers_cost_little(self):
        """A header of another order, keys or spaces is kept as what differs, not once more as a whole."""
        def swapped(entries):
            return json.dumps({name: {key: entry[key] for key in sorted(entry)} for name, entry in entries.items()},
                              separators=(",", ":"))

        def shuffled(entries):
            random.Random(1).shuffle(entries)
            return entries
        compact = functools.partial(json.dumps, separators=(",", ":"))
        for most, *how in [(0.16, compact, shuffled), (0.4, swapped, sorted), (0.5, json.dumps),
                           (0.5, functools.partial(json.dumps, indent=1))]:
            model, length = self.many("model", 2000, *how)
            kept = stfile.read(self.round_trip(model))[0]["__metadata__"]["vcllm.header"]
            self.assertLess(len(kept), most * length)
            self.assertEqual(kept[0], "~")
        model, length = self.many("model", 3, lambda entries: json.dumps(entries) + " " * 9000)
        kept = stfile.read(self.round_trip(model))[0]["__metadata__"]["vcllm.header"]
        self.assertEqual((kept[0], len(kept)), ("{", length))       # longer than a reader makes room for

    def test_headers_beyond_the_limit(self):
        """Said before the work, with the option that helps, not by whoever reads the output."""
        model, length = self.many("model", 2000, functools.partial(json.dumps, separators=(",", ":")))
        options = ["compress", model, "-o", self.path("small"), "-q"]
        _, error = self.vcllm(*options, "--header-limit", length + 8, code=FAILED)
        self.assertIn("--header-limit", error)
        self.assertEqual(self.files(), ["model"])
        self.vcllm(*options, "--header-limit", 2 * length)
        self.vcllm("info", self.path("small"), "--header-limit", 2 * length)
        self.vcllm("info", self.path("small"), "--header-limit", length, code=FAILED)

    def test_canonical_header_costs_nothing(self):
        small = self.round_trip(self.model())
        self.assertNotIn(b"vcllm.header", self.read(os.path.basename(small)))


class RowFloor(Case):
    """Catches: rows below the floor that was asked for, a floor that is missed unsaid, bytes that depend on the
    machine."""

    def spread(self, name="model.embed_tokens.weight", rows=700, cols=96):
        """Row norms of a factor of 30 either way; four rows are zeros."""
        generator, values = random.Random(8), []
        for row in range(rows):
            deviation = 0 if row % 175 == 3 else 10 ** generator.uniform(-1.5, 1.5)
            values += [generator.gauss(0, deviation) for _ in range(cols)]
        tensor = (name, "F32", [rows, cols], struct.pack(f"<{len(values)}f", *values))
        return stfile.write(self.path("m"), [tensor, stfile.normal("head", [128, 96], 9)])

    def worst(self, model, small):
        """As compare finds it, from what decodes."""
        return self.run_json("compare", model, small)[0]["tensors"][0]

    def test_floor_holds(self):
        model, small = self.spread(), self.path("s")
        self.vcllm("compress", model, "-o", small, "-q", "--bits", 4, "--row-floor", 0, *FAST)
        self.assertLess(self.worst(model, small)["worst_row_snr"], 3)
        for floor in [3, 6, 10]:
            document, error = self.run_json("compress", model, "-o", small, "-f", "--bits", 4,
                                            "--row-floor", floor, *FAST)
            found, told = self.worst(model, small), document["tensors"][0]
            self.assertEqual(error, "")
            self.assertLessEqual(told["bits"], 4)
            self.assertGreater(told["bits"], 0.95 * 4)
            self.assertGreaterEqual(found["worst_row_snr"], floor - 0.5)
            self.assertLess(found["worst_row_snr"], floor + 3)
            self.assertAlmostEqual(found["worst_row_snr"], told["worst_row"], places=3)
            self.assertEqual((told["row_floor"], found["rows_lost"]), (floor, 0))
            self.assertNotIn("row_floor", document["tensors"][1])
        self.assertRegex(self.vcllm("compress", model, "-o", small, "-f", "--bits", 4, "--row-floor", 6, *FAST)[0],
                         r"(?m)^row floor model\.embed_tokens\.weight: worst row \d+\.\d\d dB$")
        self.vcllm("verify", small, "-q")
        self.vcllm("decompress", small, "-o", self.path("b"), "-q")
        raw = stfile.read(self.path("b"))[1][0][3]
        for row in [3, 178, 353, 528]:
            self.assertLess(max(map(abs, struct.unpack_from("<96f", raw, 384 * row))), 0.02)

    def unlike(self, name, spread):
        """Rows whose deviations are exp(N(0, spread))."""
        generator, values = random.Random(10), []
        for _ in range(200):
            deviation = math.exp(generator.gauss(0, spread))
            values += [generator.gauss(0, deviation) for _ in range(64)]
        values[640:704] = [0] * 64 if name.startswith("zero") else values[640:704]
        return stfile.write(self.path("m"), [(name, "F32", [200, 64], struct.pack("<12800f", *values))])

    def test_default(self):
        """10 dB for embeddings whose rows are unlike in size; nothing for others, for other matrices and other goals,
        or where rows are all zero, which would come back as something else."""
        for name, spread, options, floor in [("wte.weight", 1, [], 10), ("token_embd.weight", 1, [], 10),
                                             ("zero.wte.weight", 1, [], None), ("wte.weight", 0.2, [], None),
                                             ("layer.weight", 1, [], None), ("wte.weight", 1, ["--row-floor", 0], None),
                                             ("wte.weight", 1, ["--snr", 20], None), ("wte.weight", 1, ["--rotate"], None)]:
            model = self.unlike(name, spread)
            document, error = self.run_json("compress", model, "-o", self.path("s"), "-f", *options, *FAST)
            self.assertEqual((document["tensors"][0].get("row_floor"), error), (floor, ""), (name, spread, options))

    def test_floor_beyond_the_bits_is_said(self):
        """Also where nobody asked for the floor."""
        small = self.path("s")
        for make, name, bits, floor, options in (
                (self.spread, "model.embed_tokens.weight", 1.5, 20, ["--row-floor", 20]),
                (lambda: self.unlike("wte.weight", 1), "wte.weight", 1, 10, [])):
            model = make()
            _, error = self.vcllm("compress", model, "-o", small, "-f", "--bits", bits, *options, *FAST)
            worst = self.worst(model, small)["worst_row_snr"]
            self.assertIn(f"--row-floor {floor}: {name}: its worst row has {worst:.2f} dB", error)

    def test_threads_and_processors_do_not_matter(self):
        """Narrow tiles, many of them: 80 rows of 16000 values."""
        model, written = self.spread(rows=80, cols=16000), []
        for i, (threads, level) in enumerate([(1, "c"), (3, "avx2"), (2, "avx512")]):
            self.vcllm("compress", model, "-o", self.path(f"s{i}"), "--bits", 3, "--row-floor", 8, "-q", "-j", threads,
                       *FAST, env=environment(VCLLM_CPU=level))
            written.append(self.read(f"s{i}"))
        self.assertEqual(written[0], written[1])
        self.assertEqual(written[0], written[2])
        self.assertEqual(self.run_json("info", self.path("s0"))[0]["tensors"][0]["tiles"], 2)

    def test_what_it_cannot_serve(self):
        model, out = self.spread("layer.weight"), ["-o", self.path("s")]
        for options in [["--snr", 20], ["--max-error", 0.1], ["--lossless"], ["--codec", "h265"], ["--rotate"]]:
            _, error = self.vcllm("compress", model, *out, "--row-floor", 10, *options, code=USAGE)
            self.assertIn("--row-floor goes with --bits and --size", error)
        self.vcllm("compress", model, *out, "--row-floor", 61, code=USAGE)
        _, error = self.vcllm("compress", model, *out, "--row-floor", 10, "--bits", 4, *FAST)
        self.assertIn("no tensor coded lossily has the name of an embedding", error)
        for name, rows, cols, rule in [("wte.weight", 200, 48, "none=copy"), ("wte.weight", 16, 320, "none=copy"),
                                       ("wte", 200, 64, "wte=snr:20")]:
            model = self.spread(name, rows, cols)
            _, error = self.vcllm("compress", model, *out, "-f", "--row-floor", 10, "--bits", 4, "--rule", rule, *FAST)
            self.assertIn(f"--row-floor leaves '{name}' out: ", error)


class Lossy(Case):
    """Catches: a rate above its target, reports that do not fit the file, rules that are not obeyed."""

    def test_rows_that_become_zero_are_told(self):
        """Rows far below the others come back as zeros while the whole tensor's SNR is good."""
        generator, rows, cols = random.Random(5), 512, 128
        values = []
        for _ in range(rows):
            deviation = 10 ** generator.uniform(-2, 2)
            values += [generator.gauss(0, deviation) for _ in range(cols)]
        model = stfile.write(self.path("m"), [("embed", "F32", [rows, cols], struct.pack("<65536f", *values)),
                                              stfile.normal("other", [64, 64], 6)])
        small, exact = self.path("s"), self.path("e")
        self.vcllm("compress", model, "-o", small, "-q", "--bits", 2, "--row-floor", 0, *FAST)
        self.vcllm("decompress", small, "-o", self.path("b"), "-q")
        raw = stfile.read(self.path("b"))[1][0][3]
        lost = [i for i in range(rows) if not any(raw[512 * i:512 * i + 512])]
        self.assertTrue(lost)
        document, _ = self.run_json("compare", model, small)
        embed, other = document["tensors"]
        self.assertGreater(embed["snr"], 8)
        self.assertEqual((embed["rows_lost"], embed["worst_row_snr"], embed["worst_row"] in lost),
                         (len(lost), 0, True))
        self.assertEqual(other["rows_lost"], 0)
        self.assertEqual([document["totals"][key] for key in ["rows_lost", "worst_row_snr", "worst_row_tensor"]],
                         [len(lost), 0, "embed"])
        text, _ = self.vcllm("compare", model, small)
        self.assertRegex(text, rf"(?m)^embed .* 0\.00 dB  {len(lost)} rows lost$")
        self.assertRegex(text, rf"; worst row 0\.00 dB, row \d+ of embed; {len(lost)} rows lost\n")

        self.assertRegex(self.vcllm("info", "-v", small)[0], rf"(?m)^embed .*, {len(lost)} zero rows$")
        self.assertEqual([t["zero_rows"] for t in self.run_json("info", "-v", small)[0]["tensors"]],
                         [len(lost), 0])
        self.vcllm("compress", model, "-o", exact, "-q", "--lossless")
        embed, _ = self.run_json("compare", model, exact)[0]["tensors"]
        self.assertEqual((embed["rows_lost"], embed["worst_row"]), (0, None))
        self.assertNotIn("row ", self.vcllm("compare", model, exact)[0].splitlines()[-1])
        for document in [self.run_json("info", small), self.run_json("info", "-v", exact)]:
            self.assertNotIn("zero_rows", document[0]["tensors"][0])

    def test_saturated_tensors_are_named(self):
        _, error = self.vcllm("compress", self.model(), "-o", self.path("s"), "--depth", 8, "--bits", 12,
                              "--codec", "h265", *FAST)
        self.assertRegex(error, r"saturated.*layer\.0\.weight \([\d.]+ bits, \d+\.\d\d dB\), layer\.1\.weight")

    def test_zero_rows_longer_than_a_stretch(self):
        """A row that is decoded in several stretches counts for its last one."""
        some, cols = stfile.normal("", [4096], 7)[3], 1100 * 4096
        rows = [some * 1100, bytes(4 * cols), some + bytes(4 * cols - 4 * 4096)]
        model = stfile.write(self.path("m"), [("x", "F32", [3, cols], b"".join(rows))])
        self.vcllm("compress", model, "-o", self.path("s"), "-q", "--bits", 2, *FAST)
        self.assertEqual(self.run_json("info", "-v", self.path("s"))[0]["tensors"][0]["zero_rows"], 1)

    def test_round_trip(self):
        model, small, back = self.model(rows=256, cols=256), self.path("small"), self.path("back")
        done, error = self.run_json("compress", model, "-o", small, "--bits", 3.2, *FAST)
        self.assertEqual(error, "")
        lossy = [t for t in done["tensors"] if t["codec"] == "tensor"]
        self.assertEqual([t["name"] for t in lossy], ["layer.0.weight", "layer.1.weight"])
        for tensor in lossy:
            self.assertLessEqual(tensor["bits"], 3.2)
            self.assertGreater(tensor["bits"], 0.98 * 3.2)
            self.assertAlmostEqual(tensor["bits"], 8 * tensor["frame_bytes"] / tensor["values"])
        totals = done["totals"]
        self.assertEqual(totals["file_bytes"], os.path.getsize(small))
        self.assertAlmostEqual(totals["file_bits"], 8 * os.path.getsize(small) / totals["values"])
        self.assertEqual(totals["file_bytes"],
                         totals["container_bytes"] + totals["frame_header_bytes"] + totals["tile_bytes"])
        info, _ = self.run_json("info", small)
        for key in info["totals"]:
            self.assertEqual(info["totals"][key], totals[key], key)
        self.vcllm("decompress", small, "-o", back)
        for other in [back, small]:
            compared, _ = self.run_json("compare", model, other)
            for tensor in compared["tensors"]:
                coded = [t for t in lossy if t["name"] == tensor["name"]]
                if coded:
                    self.assertAlmostEqual(tensor["snr"], coded[0]["snr"], places=3)
                elif "nmse" in tensor:
                    self.assertEqual(tensor["nmse"], 0)
                else:
                    self.assertEqual(tensor["differing"], 0)
        header, tensors = stfile.read(back)
        self.assertEqual(header["__metadata__"], {"format": "pt"})
        self.assertEqual([t[:3] for t in tensors], [t[:3] for t in stfile.read(model)[1]])

    def test_goals(self):
        model = self.model(rows=256, cols=256)
        done, _ = self.run_json("compress", model, "-o", self.path("a"), "--snr", 25, "--codec", "h264",
                                *FAST)
        for tensor in done["tensors"]:
            if tensor["codec"] == "h264":
                self.assertGreaterEqual(tensor["snr"], 25)
        self.assertEqual(done["totals"]["lossy"], 2)
        for size in [40000, 70000, 130000, 10 ** 7]:
            done, _ = self.run_json("compress", model, "-o", self.path("b"), "-f", "--size", size, *FAST)
            self.assertLessEqual(os.path.getsize(self.path("b")), size)
            if size < 10 ** 5:
                self.assertGreater(os.path.getsize(self.path("b")), 0.95 * size)
        self.assertEqual(done["totals"]["lossy"], 0)
        self.vcllm("compress", model, "-o", self.path("c"), "--size", "1KiB", code=BOUND)
        self.assertEqual(self.files(), ["a", "b", "model.safetensors"])

    def test_unreachable_target_of_the_whole(self):
        _, error = self.vcllm("compress", self.model(), "-o", self.path("out"), "--bits", 0.02, *FAST,
                              code=BOUND)
        self.assertIn("--bits 0.02", error)
        self.assertEqual(self.files(), ["model.safetensors"])

    def test_rules(self):
        model = self.model(rows=128, cols=128)
        rules = self.write("rules", b"# comment\nlayer.1=lossless\r\n\n")
        done, _ = self.run_json("compress", model, "-o", self.path("a"), *FAST, "--rules", rules, "--rule",
                                "^layer.*weight=5",
                                "--rule", "0.weight=2")
        found = {t["name"]: t for t in done["tensors"]}
        self.assertEqual(found["layer.1.weight"]["codec"], "lossless")
        self.assertEqual(found["layer.1.weight"]["rule"], "layer.1=lossless")
        self.assertEqual(found["layer.0.weight"]["rule"], "^layer.*weight=5")
        self.assertGreater(found["layer.0.weight"]["bits"], 4.5)
        self.assertEqual(found["layer.norm"]["codec"], "lossless")
        self.assertEqual(found["steps"]["codec"], "lossless")
        done, error = self.run_json("compress", model, "-o", self.path("x"), *FAST, "--bits", 4, "--rule", "norm=3")
        norm, = (t for t in done["tensors"] if t["name"] == "layer.norm")
        self.assertEqual((norm["codec"], norm["missed"]), ("lossless", True))
        self.assertIn("layer.norm", error)              # 128 values and a header do not fit 3 bits a value
        done, _ = self.run_json("compress", model, "-o", self.path("b"), *FAST, "--bits", 4, "--rule",
                                ".*=copy")
        self.assertEqual(done["totals"]["lossy"], 0)
        self.assertEqual({t["codec"] for t in done["tensors"]}, {"exact"})
        done, _ = self.run_json("compress", model, "-o", self.path("c"), *FAST, "--rule", "layer.[01]=snr:30")
        for tensor in done["tensors"][:2]:
            self.assertGreaterEqual(tensor["snr"], 30)
        odd = stfile.write(self.path("odd"), [stfile.normal("a=b", [64, 64], 3),
                                              stfile.normal("a", [64, 64], 4)])
        done, _ = self.run_json("compress", odd, "-o", self.path("d"), *FAST, "--bits", 5, "--rule",
                                "a=b=lossless")
        self.assertEqual([t["codec"] for t in done["tensors"]], ["lossless", "tensor"])

    def test_defaults(self):
        """Exact without looking at names: rank <= 1, fewer than 4096 values, no float."""
        tensors = [stfile.normal("flat", [8192], 1), stfile.normal("few", [4095, 1], 2),
                   stfile.normal("enough", [64, 64], 3),
                   ("bytes", "U8", [64, 64], bytes(4096))]
        done, _ = self.run_json("compress", stfile.write(self.path("m"), tensors), "-o", self.path("s"),
                                *FAST, "--bits", 5)
        self.assertEqual({t["name"]: t["codec"] for t in done["tensors"]},
                         {"flat": "lossless", "few": "lossless", "enough": "tensor", "bytes": "lossless"})

    def test_ties(self):
        a, b = stfile.normal("z.first", [128, 64], 5), stfile.normal("b", [128, 64], 6)
        tensors = [a, ("a.second", *a[1:]), b, ("c.flat", "F32", [8192], a[3]),
                   ("tiny", "F32", [4], bytes(16)),
                   ("tiny2", "F32", [4], bytes(16))]
        model, small = stfile.write(self.path("m"), tensors), self.path("s")
        done, _ = self.run_json("compress", model, "-o", small, *FAST, "--bits", 4)
        found = {t["name"]: t for t in done["tensors"]}
        self.assertEqual(done["totals"]["tied"], 1)
        self.assertEqual(found["a.second"]["same_as"], "z.first")
        self.assertEqual(done["totals"]["lossy_values"], 2 * 8192)
        self.assertEqual(done["totals"]["values"], 3 * 8192 + 8)
        self.vcllm("verify", small)
        self.vcllm("decompress", small, "-o", self.path("back"), "-q")
        tensors = {t[0]: t for t in stfile.read(self.path("back"))[1]}
        self.assertEqual(tensors["z.first"][3], tensors["a.second"][3])
        done, _ = self.run_json("compress", model, "-o", self.path("s2"), *FAST, "--bits", 4, "--rule",
                                "second=5")
        self.assertEqual(done["totals"]["tied"], 0)

    def test_packed_models_are_kept_and_named(self):
        weights = ("l.0.weight", "F8_E4M3", [64, 64], bytes(4096))
        gptq = [("l.1.qweight", "I32", [64, 64], bytes(16384)),
                stfile.normal("l.1.scales", [64, 128], 9, dtype="F16")]
        model = stfile.write(self.path("m"), [*gptq, weights,
                                              stfile.normal("l.2.weight", [64, 64], 9, dtype="F16")])
        done, error = self.run_json("compress", model, "-o", self.path("s"), *FAST, "--bits", 5)
        self.assertEqual([t["codec"] for t in done["tensors"] if t["name"] != "l.2.weight"], ["lossless"] * 3)
        self.assertEqual(done["totals"]["lossy"], 1)
        for word in ["warning: 3 tensors", "l.0.weight", "l.1.qweight", "l.1.scales"]:
            self.assertIn(word, error)

    def test_non_finite_values_survive(self):
        name, dtype, shape, raw = stfile.normal("w", [80, 80], 4)
        special = struct.pack("<6I", 0x7F800000, 0xFF800000, 0x7FC12345, 0xFFC00001, 0x7FA00000, 0x7F800000)
        raw = raw[:400] + special + raw[424:]
        model = stfile.write(self.path("m"), [(name, dtype, shape, raw)])
        self.vcllm("compress", model, "-o", self.path("s"), *FAST, "--bits", 5, "-q")
        self.vcllm("decompress", self.path("s"), "-o", self.path("b"), "-q")
        self.assertEqual(stfile.read(self.path("b"))[1][0][3][400:424], special)

    def test_threads_and_reading_do_not_matter(self):
        model = self.model(rows=192, cols=128)
        written = []
        for i, options in enumerate([["-j", 1], ["-j", 3], ["-j", 2, "--io", "mmap"]]):
            self.vcllm("compress", model, "-o", self.path(f"s{i}"), *FAST, "--bits", 4, "-q", *options)
            written.append(self.read(f"s{i}"))
        self.assertEqual(written[0], written[1])
        self.assertEqual(written[0], written[2])

    def test_large_tensor(self):
        """More than 4 M values: all threads in one tensor, streamed from file to file."""
        _, _, _, some = stfile.normal("", [256, 512], 3, dtype="F16")
        model = stfile.write(self.path("m"), [stfile.normal("a", [64, 64], 1),
                                              ("w", "F16", [2100, 2048], (some * 33)[:8601600]),
                                              stfile.normal("z", [64, 64], 2)])
        small, back = self.path("s"), self.path("b")
        for options in [["--lossless"], ["--bits", 4, *FAST]]:
            done, _ = self.run_json("compress", model, "-o", small, "-f", "-j", 2, *options)
            self.vcllm("verify", small)
            self.vcllm("decompress", small, "-o", back, "-f", "-q")
            self.vcllm("compare", model, small, "--min-snr", 18)
            whole = stfile.read(back)[1][1][3]
            rows, _ = self.vcllm("decompress", small, "--tensor", "w", "--rows", "1000:1033", "-o", "-",
                                 binary=True)
            self.assertEqual(rows, whole[1000 * 4096:1033 * 4096])
            if options == ["--lossless"]:
                self.assertEqual(self.read("m"), self.read("b"))
        self.assertLessEqual(done["totals"]["bits"], 4)

    def test_options_reach_the_frame(self):
        model = self.model(rows=128, cols=128)
        done, _ = self.run_json("compress", model, "-o", self.path("s"), *FAST, "--bits", 6, "--rotate",
                                "--codec", "h265", "--row-scales",
                                "--depth", 12, "--chroma", "420", "--seed", 77)
        for tensor in done["tensors"][:2]:
            self.assertTrue(tensor["rotated"] and tensor["row_scales"])
            self.assertEqual(tensor["depth"], 12)
        self.vcllm("verify", self.path("s"))
        self.vcllm("compress", model, "-o", self.path("x"), "--codec", "h265", "--encoder", "no_such",
                   code=CODEC)

    def test_dry_run(self):
        model = self.model(rows=256, cols=128)
        plan, _ = self.run_json("compress", model, "-o", self.path("out"), "--dry-run", "--bits", 3,
                                "--rule", "1.weight=copy", *FAST)
        self.assertEqual(self.files(), ["model.safetensors"])
        self.assertEqual([t["action"] for t in plan["tensors"]], ["lossy", "exact", "exact", "exact"])
        self.assertGreater(plan["estimated_seconds"], 0)
        self.assertGreater(plan["estimated_memory"], 0)
        done, _ = self.run_json("compress", model, "-o", self.path("out"), "--bits", 3, "--rule",
                                "1.weight=copy", *FAST)
        for planned, real in zip(plan["tensors"], done["tensors"]):
            self.assertEqual(planned["name"], real["name"])
            self.assertGreaterEqual(planned["bytes_at_most"], real["frame_bytes"])
        text, _ = self.vcllm("compress", model, "--dry-run", *FAST)
        self.assertIn("nothing was written", text)
