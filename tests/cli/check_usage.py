"""Options, help and refusals."""
import json
import os
import resource
import time

import stfile
from case import FAILED, USAGE, IO, Case


class Usage(Case):
    """Catches: help that is missing or goes to stderr, wrong codes for wrong words, bad values that pass."""

    def test_help(self):
        output, _ = self.vcllm("--help")
        for verb in ["compress", "decompress", "info", "verify", "compare", "codecs", "bench", "run", "eval", "rotate"]:
            self.assertIn(verb, output)
            text, error = self.vcllm(verb, "--help")
            self.assertTrue(text.startswith(f"usage: vcllm {verb}"))
            self.assertIn("Exit codes:", text)
            self.assertIn(f"  vcllm {verb}", text)
            self.assertEqual(error, "")
        self.assertEqual(self.vcllm("help", "info")[0], self.vcllm("info", "-h")[0])
        self.assertRegex(self.vcllm("--version")[0], r"^vcllm \d+\.\d+\.\d+ \(format \d+\)\n$")

    def test_wrong_words(self):
        model, out = self.model(), self.path("out")
        for args in [[], ["frobnicate"], ["compress"], ["compress", model], ["compress", model, "-o"],
                     ["compress", model, model, "-o", out], ["info"], ["compare", model],
                     ["compress", model, "-o", ""], ["compress", self.folder, "-o", ""],
                     ["decompress", model, "-o", ""], ["rotate", model], ["rotate", model, "-o", ""],
                     ["bench", "--effort", "1.5"], ["codecs", "x"],
                     ["compress", model, "-o", out, "--nonsense"], ["verify", "-x", model]]:
            self.vcllm(*args, code=USAGE)

    def test_wrong_values(self):
        model, out = self.model(), self.path("out")
        for option in ["--bits=0", "--bits=65", "--bits=nan", "--bits=3x", "--bits=", "--snr=inf",
                       "--size=0", "--size=3 apples", "--size=-1", "--effort=0", "--effort=2.5",
                       "--codec=h266", "--codec=h26", "--depth=9", "--chroma=444", "--io=aio", "-j-1",
                       "-jx", "--bits=3 --snr=20", "--resume", "--lossless --bits=3",
                       "--size=1MB --rule=x=snr:20", "--header-limit=1GB", "--seed=4294967296"]:
            words = [option] if "apples" in option else option.split(" ")
            self.vcllm("compress", model, "-o", out, *words, code=USAGE)
        self.assertEqual(self.files(), ["model.safetensors"])

    def test_options_that_would_do_nothing(self):
        model, out = self.model(), self.path("out")
        for options in ["--row-scales", "--depth=8", "--chroma=gray", "--encoder=libx265", "--decoder=hevc",
                        "--seed=2", "--codec=h265 --transpose", "--codec=h264 --objective=model",
                        "--codec=h265 --max-error=.1", "--codec=h265 --rule=x=error:.1", "--rotate --max-error=.1"]:
            self.vcllm("compress", model, "-o", out, "--dry-run", *options.split(), code=USAGE)
        self.vcllm("compress", model, "-o", out, "--dry-run", "--codec", "h265", "--row-scales", "--depth", 8,
                   "--chroma", "gray", "--rotate", "--seed", 2)

    def test_standard_output_is_no_file(self):
        model = self.model()
        for args in [["compress", model], ["rotate", self.folder], ["bench"], ["decompress", model]]:
            _, error = self.vcllm(*args, "-o", "-", code=USAGE, cwd=self.folder)
            self.assertIn("'-", error)
        self.assertEqual(self.files(), ["model.safetensors"])

    def test_long_names(self):
        os.mkdir(self.path("model"))
        self.model("model/model.safetensors")
        for model, length in [("model", 250), ("model", 256), ("model/model.safetensors", 256)]:
            for more in [[], ["-f"], ["--resume"]][:3 if model == "model" else 2]:
                _, error = self.vcllm("compress", self.path(model), "-o", self.path("d" * length), *more, code=IO)
                self.assertIn("File name too long", error)
        self.vcllm("compress", self.path("model"), "-o", self.path("d" * 240), "--lossless", "-q")
        self.vcllm("compress", self.path("model", "model.safetensors"), "-o", self.path("e" * 255), "-q")
        self.assertEqual(self.files(), ["d" * 240, "e" * 255, "model"])

    def test_wrong_index(self):
        os.mkdir(self.path("model"))
        self.model("model/model.safetensors")
        index = {"weight_map": {"layer.0.weight": "gone.safetensors"}}
        self.write("model/model.safetensors.index.json", json.dumps(index).encode())
        _, error = self.vcllm("info", self.path("model"), code=IO)
        self.assertIn("gone.safetensors: cannot open", error)
        self.assertIn("'model.safetensors.index.json' names it", error)
        index["weight_map"] = {name: "model.safetensors"
                               for name in ["layer.0.weight", "layer.1.weight", "layer.norm", "steps"]}
        for behind, code in [(b" \n", 0), (b"\0", FAILED), (b" \0{}", FAILED), (b"x", FAILED)]:
            self.write("model/model.safetensors.index.json", json.dumps(index).encode() + behind)
            self.vcllm("info", self.path("model"), code=code)

    def test_wrong_rules(self):
        model, out = self.model(), self.path("out")
        for rule in ["x", "=3", "x=", "x=three", "x=0", "x=snr:", "x=snr:999", "(=3", "x=losless"]:
            self.vcllm("compress", model, "-o", out, "--rule", rule, code=USAGE)
        rules = self.write("rules", b"# fine\n\n layer=3 \n(=2\n")
        _, error = self.vcllm("compress", model, "-o", out, "--rules", rules, code=USAGE)
        self.assertIn(f"{rules}:4:", error)
        self.vcllm("compress", model, "-o", out, "--rules", self.path("none"), code=IO)

    def test_hostile_rules(self):
        """Expressions that crash a regex engine, or take its memory or time; text behind a NUL."""
        model, out = stfile.write(self.path("m"), [stfile.normal("a" * 60, [64, 64], 1)]), self.path("out")
        limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_CPU, (10, 10))}
        for regex in ["(" * 20000 + "a" + ")" * 20000, "((a{1,255}){1,255}){1,255}", "[" * 300 + "a", "a" * 4097]:
            rules = self.write("rules", regex.encode() + b"=3\n")
            began = time.monotonic()
            _, error = self.vcllm("compress", model, "-o", out, "--rules", rules, code=USAGE, **limit)
            self.assertLess(time.monotonic() - began, 10)
            self.assertIn(f"{rules}:1:", error)
        _, error = self.vcllm("compress", model, "-o", out, "--rule", "(a|aa)+[bc]=3", code=USAGE, **limit)
        self.assertIn("too many steps", error)
        for data in [b"a=3\0(=2\n", b"a=3\n\0", b"\0"]:
            _, error = self.vcllm("compress", model, "-o", out, "--rules", self.write("rules", data), code=USAGE)
            self.assertIn("NUL", error)
        self.assertEqual(self.files(), ["m", "rules"])

    def test_many_rules(self):
        """As many as a file may hold: adding one does not take longer the more there are."""
        lines = "".join(f"^x{i:05}$=3\n" for i in range(80000))
        began = time.monotonic()
        self.vcllm("compress", self.model(), "-o", self.path("out"), "--dry-run", "-q", "--rules",
                   self.write("rules", lines.encode()))
        self.assertLess(time.monotonic() - began, 30)

    def test_what_rules_mean(self):
        """As POSIX extended expressions: unanchored, any character means any, $ is the end of the name."""
        names = ["model.layers.7.mlp.up", "line\nbreak\n", "é[0]", "a{b"]
        model = stfile.write(self.path("m"), [stfile.normal(name, [64, 64], i) for i, name in enumerate(names)])
        for regex, matches in [("[.]([0-9]|x+)[.]mlp", {0}), ("line.break", {1}), ("break$", set()), ("break.$", {1}),
                               ("^.\\[[[:digit:]]{1}\\]$", {2}), ("a\\{b|up$", {0, 3}), ("^mlp", set()),
                               ("(e|l){2,}", {0}), ("(e|l){3,}", set()), (".", {0, 1, 2, 3})]:
            plan, _ = self.run_json("compress", model, "-o", self.path("o"), "--dry-run", "--rule", f"{regex}=copy")
            self.assertEqual({i for i, tensor in enumerate(plan["tensors"]) if tensor["action"] == "exact"}, matches,
                             regex)

    def test_rules_that_decide_nothing(self):
        model, out = self.model(), self.path("out")
        _, error = self.vcllm("compress", model, "-o", out, "--dry-run", "--rule", "layr=3", "--rule",
                              "norm=copy", "--rule", "layer.norm=3")
        self.assertIn("'layr=3' decides nothing", error)
        self.assertIn("'layer.norm=3' decides nothing", error)
        self.assertNotIn("'norm=copy'", error)

    def test_refusals(self):
        small = self.compressed()
        out, model = self.path("out"), self.path("model.safetensors")
        self.assertIn("compressed already", self.vcllm("compress", small, "-o", out, code=USAGE)[1])
        self.assertIn("not compressed", self.vcllm("decompress", model, "-o", out, code=USAGE)[1])
        self.vcllm("compress", model, "-o", model, "-f", code=USAGE)
        self.vcllm("decompress", small, "-o", small, "-f", code=USAGE)
        self.vcllm("decompress", small, "-o", "-", code=USAGE)
        self.vcllm("decompress", small, "-o", out, "--rows", "0:1", code=USAGE)
        reserved = stfile.write(self.path("reserved"), [stfile.normal("x", [2], 1)],
                                metadata={"vcllm.header": "x"})
        self.vcllm("compress", reserved, "-o", out, code=USAGE)
        self.assertFalse(os.path.exists(out))
