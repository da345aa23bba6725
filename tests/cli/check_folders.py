"""Folders of shards, interruptions, real models."""
import json
import os
import re
import signal
import subprocess
import time
import unittest

import stfile
from case import DATA, PROGRAM, FAST, FAILED, USAGE, IO, BOUND, INTERRUPTED, Case


class Folders(Case):
    """Catches: files left behind, a wrong index, work lost by an interruption, half-written folders."""

    def make(self, name="model", shards=3, rows=96, cols=96, dtype="F32"):
        folder = self.path(name)
        os.mkdir(folder)
        weight_map, total = {}, 0
        for i in range(shards):
            shard = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            tensors = [stfile.normal(f"layer.{i}.weight", [rows, cols], 10 + i, dtype=dtype),
                       stfile.normal(f"layer.{i}.norm", [cols], 20 + i)]
            stfile.write(os.path.join(folder, shard), tensors, metadata={"format": "pt"})
            weight_map.update({t[0]: shard for t in tensors})
            total += sum(len(t[3]) for t in tensors)
        metadata = '{"note": "total_size", "total_size": %d}' % total
        index = '{\n  "metadata": %s,\n  "weight_map": %s\n}\n' % (metadata, json.dumps(weight_map))
        for file, text in [("model.safetensors.index.json", index), ("config.json", '{"a": 1}\n'),
                           ("tokenizer.json", "x" * 5000)]:
            with open(os.path.join(folder, file), "w") as out:
                out.write(text)
        return folder

    def contents(self, folder):
        found = {}
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = file.read()
        return found

    def frame_bytes(self, folder):
        return sum(len(t[3]) for name in os.listdir(folder) if name.endswith(".safetensors")
                   for t in stfile.read(os.path.join(folder, name))[1])

    def test_lossless_round_trip(self):
        model, small, back = self.make(), self.path("small"), self.path("back")
        os.mkdir(os.path.join(model, "onnx"))
        self.write("model/pytorch_model.bin", b"weights")
        self.write("model/.gitattributes", b"hidden files come along")
        _, error = self.vcllm("compress", model, "-o", small + "/", "--lossless")
        for word in ["'onnx' is not copied", "'pytorch_model.bin' is not copied"]:
            self.assertIn(word, error)
        index = json.loads(self.read("small", "model.safetensors.index.json"))
        self.assertEqual(index["metadata"]["total_size"], self.frame_bytes(small))
        document, _ = self.run_json("verify", small)
        self.assertEqual((document["side_files"], document["faults"]), (4, 0))
        self.vcllm("decompress", small, "-o", back, "-q")
        os.rmdir(os.path.join(model, "onnx"))
        os.unlink(os.path.join(model, "pytorch_model.bin"))
        self.assertEqual(self.contents(model), self.contents(back))
        self.assertEqual(self.files(), ["back", "model", "small"])

    def test_lossy_and_index_file(self):
        model, small = self.make(), self.path("small")
        index = os.path.join(model, "model.safetensors.index.json")
        done, _ = self.run_json("compress", index, "-o", small, "--size", "45KB", *FAST)
        shards = [f for f in os.listdir(small) if f.endswith(".safetensors")]
        self.assertLessEqual(sum(os.path.getsize(os.path.join(small, f)) for f in shards), 45000)
        self.assertEqual(done["totals"]["lossy"], 3)
        self.vcllm("verify", small)
        self.vcllm("compare", model, small, "--min-snr", 5)
        self.vcllm("decompress", small, "-o", self.path("half"), "--dtype", "bf16", "-q")
        index = json.loads(self.read("half", "model.safetensors.index.json"))
        self.assertEqual(index["metadata"]["total_size"], self.frame_bytes(self.path("half")))

    def test_chosen_index(self):
        """Two sets of weights with an index each: the chosen one is the model, and its output opens."""
        model, small, back = self.make(), self.path("small"), self.path("back")
        chosen = os.path.join(model, "model.fp16.safetensors.index.json")
        tensors = [stfile.normal(f"layer.{i}.weight", [96, 96], 40 + i, dtype="F16") for i in range(3)]
        for i, tensor in enumerate(tensors):
            stfile.write(os.path.join(model, f"model.fp16-{i}.safetensors"), [tensor])
        with open(chosen, "w") as file:
            json.dump({"metadata": {"total_size": sum(len(t[3]) for t in tensors)},
                       "weight_map": {t[0]: f"model.fp16-{i}.safetensors" for i, t in enumerate(tensors)}}, file)
        _, error = self.vcllm("compress", chosen, "-o", small, *FAST, "--bits", 4)
        self.assertIn("'model.safetensors.index.json' is not copied: the index of another model", error)
        self.vcllm("compress", chosen, "-o", small, "-f", "-q", "--lossless")
        self.assertEqual(self.files("small"), ["config.json", *(f"model.fp16-{i}.safetensors" for i in range(3)),
                                               "model.safetensors.index.json", "tokenizer.json"])
        self.vcllm("verify", small)
        self.assertEqual(self.run_json("info", small)[0]["totals"]["tensors"], 3)
        self.assertIn("exact", self.vcllm("compare", small, chosen)[0])
        self.vcllm("decompress", small, "-o", back, "-q")
        self.assertEqual(self.contents(back)["model.safetensors.index.json"],
                         self.contents(model)["model.fp16.safetensors.index.json"])
        for i, tensor in enumerate(tensors):
            self.assertEqual(stfile.read(self.path("back", f"model.fp16-{i}.safetensors"))[1], [tensor])
        self.vcllm("compress", model, "-o", small, "-f", "-q", "--lossless")
        self.assertEqual(self.files("small"), sorted(["config.json", "model.safetensors.index.json", "tokenizer.json"]
                                                     + [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]))

    def test_one_model_in_two_files(self):
        """model.safetensors beside the same weights under other names, or of other precision, and no index."""
        os.mkdir(self.path("model"))
        tensor = stfile.normal("up.weight", [64, 64], 1)
        stfile.write(self.path("model", "model.safetensors"), [tensor])
        stfile.write(self.path("model", "consolidated.safetensors"), [stfile.normal("w1.weight", [64, 64], 1)])
        stfile.write(self.path("model", "model.fp16.safetensors"), [stfile.normal("up.weight", [64, 64], 1, "F16")])
        _, error = self.vcllm("compress", self.path("model"), "-o", self.path("small"), "--lossless")
        for name in ["consolidated.safetensors", "model.fp16.safetensors"]:
            self.assertIn(f"'{name}' is not copied: weights that are not part of this model", error)
        self.assertEqual(self.files("small"), ["model.safetensors"])
        for folder in ["model", "small"]:
            self.assertEqual(self.run_json("info", self.path(folder))[0]["totals"]["tensors"], 1)
        self.vcllm("compress", self.path("model"), "-o", self.path("small"), "--lossless", "-f", "-q")
        os.unlink(self.path("model", "model.safetensors"))
        self.assertEqual(self.run_json("info", self.path("model"))[0]["totals"]["tensors"], 2)

    def test_altered_side_file(self):
        small = self.path("small")
        self.vcllm("compress", self.make(), "-o", small, "--lossless", "-q")
        self.write("small/config.json", b'{"a": 2}\n')
        self.write("small/readme", b"new")
        document, error = self.run_json("verify", small, code=FAILED)
        self.assertEqual(document["faults"], 1)
        self.assertIn("config.json", error)
        self.vcllm("decompress", small, "-o", self.path("back"), code=FAILED)
        os.unlink(self.path("small", "config.json"))
        self.vcllm("verify", small, code=FAILED)
        self.assertEqual(self.files(), ["model", "small"])

    def test_replacing(self):
        model, small = self.make(), self.path("small")
        self.vcllm("compress", model, "-o", small, "--lossless", "-q")
        before = self.contents(small)
        self.vcllm("compress", model, "-o", small, code=IO)
        self.vcllm("compress", model, "-o", model, "-f", code=USAGE)
        self.vcllm("compress", model, "-o", small, "-f", "-q", "--bits", 4, *FAST)
        self.assertNotEqual(before, self.contents(small))
        os.mkdir(os.path.join(small, "mine"))
        self.vcllm("compress", model, "-o", small, "-f", code=IO)
        self.assertEqual(self.files(), ["model", "small"])

    def test_force_spares_what_is_not_ours(self):
        """-f replaces what vcllm wrote, and only where nothing else is there."""
        model, small = self.make(), self.path("small")
        os.mkdir(self.path("thesis"))
        self.write("thesis/thesis.tex", b"years of work")
        os.symlink("thesis", self.path("link"))
        os.symlink("nowhere", self.path("dangling"))
        self.make("other", shards=1)            # a model, but none of ours
        for name in ["thesis", "link", "dangling", "other"]:
            _, error = self.vcllm("compress", model, "-o", self.path(name), "-f", "--lossless", code=IO)
            self.assertIn(name, error)
        self.assertEqual(self.files("thesis"), ["thesis.tex"])
        self.vcllm("compress", model, "-o", small, "--lossless", "-q")
        before = self.contents(small)
        self.vcllm("decompress", small, "-o", self.path("thesis"), "-f", code=IO)
        for name in ["notes", "config.json.bak", ".hidden"]:
            self.write(f"small/{name}", b"mine")
            _, error = self.vcllm("compress", model, "-o", small, "-f", "--lossless", code=IO)
            self.assertIn(f"'{name}'", error)
            os.unlink(self.path("small", name))
        self.assertEqual(self.contents(small), before)
        self.vcllm("decompress", small, "-o", self.path("back"), "-q")
        self.vcllm("decompress", small, "-o", self.path("back"), "-q", "-f")
        self.assertEqual(self.contents(model), self.contents(self.path("back")))
        self.assertEqual(self.files(), ["back", "dangling", "link", "model", "other", "small", "thesis"])

    def test_older_output_in_the_way(self):
        """Said before the work: there is nothing to resume and nothing lost."""
        model, small = self.make(), self.path("small")
        self.vcllm("compress", model, "-o", small, "--lossless", "-q")
        before = self.contents(small)
        os.mkdir(self.path("small.old"))
        self.assertIn("small.old", self.vcllm("compress", model, "-o", small, "-f", code=IO)[1])
        self.assertEqual(self.contents(small), before)
        self.assertEqual(self.files(), ["model", "small", "small.old"])

    def test_unreadable_side_file(self):
        """It fails before the work, not after it."""
        model = self.make()
        os.chmod(self.write("model/unreadable", b"secret"), 0)
        os.chmod(self.folder, 0o777)
        _, error = self.vcllm("compress", model, "-o", self.path("small"), code=IO, **self.somebody())
        self.assertIn("unreadable", error)
        self.assertIn("before a shard was finished", error)
        self.assertEqual(self.files(), ["model"])

    def test_failure_leaves_nothing(self):
        model = self.make()
        _, error = self.vcllm("compress", model, "-o", self.path("small"), "--bits", 0.02, *FAST, code=BOUND)
        self.assertIn("--bits 0.02", error)
        self.assertEqual(self.files(), ["model"])

    def interrupt(self, args, ready):
        """Runs until ready() and sends SIGINT; returns stderr."""
        process = subprocess.Popen([PROGRAM, *map(str, args)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED, error)
        return error.decode()

    def test_interrupt_and_resume(self):
        model, small, partial = self.make(rows=512, cols=512), self.path("small"), self.path("small.partial")
        options = ["--codec", "h265", "--bits", 3, "--effort", 6, "-j", 1]   # slow enough to be interrupted
        first = "model-00001-of-00003.safetensors"
        error = self.interrupt(["compress", model, "-o", small, *options],
                               lambda: os.path.exists(os.path.join(partial, first)))
        self.assertIn("--resume", error)
        self.assertFalse(os.path.exists(small))
        left = os.listdir(partial)
        self.assertIn(first, left)
        self.assertEqual([f for f in left if f.endswith(".tmp")], [])
        kept = os.stat(os.path.join(partial, first)).st_ino
        self.assertIn("--resume", self.vcllm("compress", model, "-o", small, *options, code=IO)[1])
        self.vcllm("compress", model, "-o", small, "--bits", 2.5, "--resume", code=IO)
        self.write("small.partial/.model-00002.vcllm-1-0.tmp", b"x")
        self.vcllm("compress", model, "-o", small, *options, "--resume", "-q")
        self.assertEqual(os.stat(os.path.join(small, first)).st_ino, kept)
        self.vcllm("compress", model, "-o", self.path("whole"), *options, "-q")
        self.assertEqual(self.contents(small), self.contents(self.path("whole")))
        self.assertEqual(self.files(), ["model", "small", "whole"])

    def test_resume_checks_what_it_keeps(self):
        """A shard damaged after the interruption is coded again, whole ones are kept; foreign files stop it."""
        model, small, partial = self.make(rows=256, cols=256), self.path("small"), self.path("small.partial")
        options = ["--codec", "h265", "--effort", 7, "--bits", 3, "-j", 1]   # slow enough to be interrupted
        first, second = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
        self.interrupt(["compress", model, "-o", small, *options],
                       lambda: os.path.exists(os.path.join(partial, second)))
        kept = os.stat(os.path.join(partial, second)).st_ino
        whole = bytearray(self.read("small.partial", first))
        whole[-2000] ^= 4
        self.write(f"small.partial/{first}", whole)
        foreign = self.write("small.partial/notes", b"mine")
        self.assertIn("'notes'", self.vcllm("compress", model, "-o", small, *options, "--resume", code=IO)[1])
        self.vcllm("compress", model, "-o", small, *options, "-f", code=IO)
        os.unlink(foreign)
        _, error = self.vcllm("compress", model, "-o", small, *options, "--resume")
        self.assertIn(f"{first}: is damaged", error)
        self.assertEqual(os.stat(os.path.join(small, second)).st_ino, kept)
        self.vcllm("compress", model, "-o", self.path("whole"), *options, "-q")
        self.assertEqual(self.contents(small), self.contents(self.path("whole")))

    # Options of compress that change no byte of a folder, and for each other one a value that the folders below
    # were not begun with.
    NEUTRAL = {"--output", "--force", "--resume", "--dry-run", "--threads", "--io", "--header-limit", "--json",
               "--quiet", "--verbose"}
    OTHERWISE = {
        "tensor": {"--bits": [2.5], "--size": ["1MB"], "--snr": [20], "--max-error": [0.1], "--lossless": [],
                   "--rule": ["norm=copy"], "--rules": ["rules"], "--allocate": ["depth"], "--imatrix": ["rules"],
                   "--row-floor": [6], "--codec": ["h264"], "--objective": ["mse"], "--effort": [8],
                   "--transpose": [], "--rotate": [], "--seed": [2, "--rotate"]},
        "h265": {"--encoder": ["libx265"], "--decoder": ["hevc"], "--row-scales": [], "--depth": [10],
                 "--chroma": [420]}}
    GOALS = {"--bits", "--size", "--snr", "--max-error", "--lossless"}

    def check_resume_refuses(self, codec):
        """Two settings in one folder."""
        model, small = self.make(rows=1024, cols=512), self.path("small")
        options = ["-j", 1, "--codec", codec, "--effort", 9 if codec == "tensor" else 6]
        shard = small + ".partial/model-00001-of-00003.safetensors"
        self.interrupt(["compress", model, "-o", small, *options, "--bits", 3], lambda: os.path.exists(shard))
        rules = self.write("rules", b"norm=lossless\n")
        for option, values in self.OTHERWISE[codec].items():
            goal = [] if option in self.GOALS else ["--bits", 3]
            values = [rules if v == "rules" else v for v in values]
            _, error = self.vcllm("compress", model, "-o", small, *options, *goal, option, *values, "--resume",
                                  code=IO)
            self.assertIn("other settings", error, option)
            self.assertTrue(os.path.exists(shard), option)

    def test_resume_refuses_other_settings(self):
        self.check_resume_refuses("tensor")

    def test_resume_refuses_other_settings_of_video(self):
        self.check_resume_refuses("h265")

    def test_every_option_is_one_or_the_other(self):
        help_text, _ = self.vcllm("compress", "--help")
        found = set(re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", help_text))
        found |= set(re.findall(r"-\w, (--[a-z-]+)", help_text))
        self.assertEqual(found, self.NEUTRAL.union(*self.OTHERWISE.values()))

    def test_interrupt_before_anything_is_finished(self):
        model, small = self.make(rows=1024, cols=1024), self.path("small")
        self.interrupt(["compress", model, "-o", small, "--codec", "h265", "--effort", 9, "-j", 1],
                       lambda: os.path.exists(small + ".partial") and
                       len(os.listdir(small + ".partial")) > 1)
        self.assertEqual(self.files(), ["model"])

    def test_interrupted_file(self):
        model = stfile.write(self.path("m"), [stfile.normal("w", [1024, 1024], 1)])
        self.interrupt(["compress", model, "-o", self.path("s"), "--codec", "h265", "--effort", 9],
                       lambda: len(self.files()) > 1)
        self.assertEqual(self.files(), ["m"])
        process = subprocess.Popen([PROGRAM, "compress", model, "-o", self.path("s"), "--codec", "h265",
                                    "--effort", "9"],
                                   stderr=subprocess.PIPE)
        while len(self.files()) < 2:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
        process.send_signal(signal.SIGTERM)             # the second does not wait
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED)
        self.assertEqual(self.files(), ["m"])

    def test_links_are_followed(self):
        """Downloaded models are often folders of links into a store."""
        model = self.make()
        os.mkdir(self.path("linked"))
        for name in os.listdir(model):
            os.symlink(os.path.join(model, name), self.path("linked", name))
        self.vcllm("compress", self.path("linked"), "-o", self.path("small"), "--lossless", "-q")
        self.vcllm("decompress", self.path("small"), "-o", self.path("back"), "-q")
        self.assertEqual(self.contents(model), self.contents(self.path("back")))


@unittest.skipUnless(DATA and os.path.isdir(DATA), "VCLLM_DATA is not set: no real models")
class RealModels(Case):
    """Catches: what made-up data do not have."""

    def test_tiny_llama_folder(self):
        model, small, back = os.path.join(DATA, "lm", "tiny-llama"), self.path("small"), self.path("back")
        done, _ = self.run_json("compress", model, "-o", small, "--bits", 2.9, "--effort", 2,
                                "--allocate", "fixed")
        self.assertLessEqual(done["totals"]["bits"], 2.9)
        self.assertGreater(done["totals"]["bits"], 2.75)
        self.assertLessEqual(done["totals"]["average_trials"], 6)
        self.vcllm("verify", small)
        self.vcllm("decompress", small, "-o", back, "-q")
        self.vcllm("compare", model, back, "--min-snr", 12)
        self.assertEqual(sorted(os.listdir(model)), sorted(os.listdir(back)))

    def test_lossless(self):
        for name in ["rnn/silero-vad-v5.f32.safetensors", "gnn/cgcnn-formation-energy.f32.safetensors",
                     "weights/gpt2-124m-attn.f16.safetensors"]:
            model = os.path.join(DATA, name)
            self.vcllm("compress", model, "-o", self.path("s"), "--lossless", "-f", "-q")
            self.vcllm("decompress", self.path("s"), "-o", self.path("b"), "-f", "-q")
            with open(model, "rb") as file:
                self.assertEqual(file.read(), self.read("b"), name)
