"""What every verb checks before it believes a compressed model."""
import json
import os
import resource
import struct

import stfile
from case import FAILED, IO, Case

MODEL = os.path.join(os.path.dirname(__file__), "..", "..", "models", "tiny-llama")


class Opening(Case):
    """Catches: another config.json, another tokenizer or exchanged names that give other results and exit 0."""

    def setUp(self):
        super().setUp()
        self.small = self.path("small")
        self.tokens = self.write("text.u16", struct.pack("<80H", *range(3, 83)))
        self.text = self.write("text", b"It was a dark and stormy night. " * 9)
        self.vcllm("compress", MODEL, "-o", self.small, "--lossless", "-q")

    def readers(self):
        yield "eval", self.small, "--tokens", self.tokens
        yield "eval", MODEL, "--baseline", self.small, "--tokens", self.tokens
        yield "run", self.small, "-p", "It was", "--tokens", 2

    def openers(self):
        yield "info", self.small
        yield "compare", MODEL, self.small, "-q"
        yield "compare", self.small, MODEL, "-q"
        yield "compress", self.small, "-o", self.path("again")
        yield "decompress", self.small, "-o", self.path("back")
        yield "rotate", self.small, "-o", self.path("turned")
        yield from self.readers()

    def refuse(self, calls, *words):
        for call in calls:
            with self.subTest(call=call[0]):
                error = self.vcllm(*call, code=FAILED)[1]
                for word in words:
                    self.assertIn(word, error)
        self.assertEqual(self.files(), ["small", "text", "text.u16"])

    def test_side_files(self):
        for name, calls in [("config.json", list(self.readers())),
                            ("tokenizer.json", [("run", self.small, "-p", "It was", "--tokens", 2),
                                                ("eval", self.small, "--text", self.text)])]:
            whole = self.read("small", name)
            digit = next(i for i, byte in enumerate(whole) if byte in b"2468" and whole[i - 1:i] in b" 123456789")
            altered = bytearray(whole)
            altered[digit] ^= 1
            self.write(f"small/{name}", altered)
            self.refuse(calls, os.path.join("small", name), "altered")
            if name == "tokenizer.json":                # which this does not read
                self.vcllm("eval", self.small, "--tokens", self.tokens, "-q")
            self.write(f"small/{name}", whole)
        for call in self.readers():
            self.vcllm(*call)

    def test_exchanged_names(self):
        whole = self.read("small", "model.safetensors")
        a, b, free = b'"model.layers.0.mlp.up_proj.weight"', b'"model.layers.1.mlp.up_proj.weight"', b"\0" * 35
        self.write("small/model.safetensors", whole.replace(a, free, 1).replace(b, a, 1).replace(free, b, 1))
        self.refuse(self.openers(), "model.safetensors", "was altered")

    def test_lost_mark(self):
        """A shard that does not say any more that it is compressed."""
        self.write("small/model.safetensors", self.read("small", "model.safetensors")
                   .replace(b"vcllm.hash", b"vcllm.hasi"))
        self.refuse(self.openers(), "vcllm.hash")

    def test_index(self):
        os.mkdir(self.path("model"))
        stfile.write(self.path("model", "a.safetensors"), [stfile.normal("a", [64, 64], 1)])
        self.write("model/model.safetensors.index.json",
                   json.dumps({"metadata": {"note": 1}, "weight_map": {"a": "a.safetensors"}}).encode())
        small = self.path("folder")
        self.vcllm("compress", self.path("model"), "-o", small, "--lossless", "-q")
        self.vcllm("info", small)
        index = self.read("folder", "model.safetensors.index.json")
        self.write("folder/model.safetensors.index.json", index.replace(b'"note": 1', b'"note": 3'))
        for call in [("info", small), ("compare", small, small), ("decompress", small, "-o", self.path("back"))]:
            self.assertIn("index.json", self.vcllm(*call, code=FAILED)[1])

    def test_unreadable_is_no_fault(self):
        """Too few descriptors say nothing about the model."""
        os.mkdir(self.path("model"))
        for i in range(20):
            stfile.write(self.path("model", f"{i:02}.safetensors"), [stfile.normal(f"w{i}", [8, 8], i)])
        self.write("model/config.json", b"{}")
        small = self.path("folder")
        self.vcllm("compress", self.path("model"), "-o", small, "--lossless", "-q")
        _, error = self.vcllm("verify", small, code=IO,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (23, 23)))
        self.assertIn("config.json: cannot open: Too many open files", error)
