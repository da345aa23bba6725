"""What a run that was killed leaves, and the next one finds."""
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import time

import stfile
from case import PROGRAM, FAST, FAILED, IO, Case

JOURNAL = "vcllm-journal.json"
SLOW = ["--codec", "h265", "--effort", 9, "--bits", 3, "-j", 1]


class Killed(Case):
    """Catches: a killed run after which the same command is refused, or whose leftovers nothing removes; one
    that costs somebody a file."""

    def make(self, name="model", rows=64):
        os.mkdir(self.path(name))
        weight_map = {}
        for i in range(3):
            shard = f"model-{i + 1:05}-of-00003.safetensors"
            stfile.write(self.path(name, shard), [stfile.normal(f"layer.{i}.weight", [rows, 96], i)])
            weight_map[f"layer.{i}.weight"] = shard
        self.write(f"{name}/model.safetensors.index.json", json.dumps({"weight_map": weight_map}).encode())
        self.write(f"{name}/config.json", b"{}")
        return self.path(name)

    def kill(self, args, ready):
        process = subprocess.Popen([PROGRAM, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not ready(process.pid) and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        self.assertEqual(process.wait(), -signal.SIGKILL, "it ended before it could be killed")

    def mark(self, folder):
        """As a run marks the older output before it steps aside."""
        names = [{"name": name} for name in os.listdir(folder)]
        with open(os.path.join(folder, JOURNAL), "w") as file:
            json.dump({"schema": 1, "input": names}, file)

    def test_file(self):
        """The temporary of a dead writer goes, that of one at work stays."""
        model = stfile.write(self.path("m"), [stfile.normal("w", [1024, 1024], 1)])
        self.kill(["compress", model, "-o", self.path("s"), *SLOW], lambda _: len(self.files()) > 1)
        left = self.files()
        self.assertEqual(len(left), 2, left)
        mine = self.write(".s.vcllm-mine.tmp", b"not a name that vcllm gives")
        other = self.write(".t.vcllm-1-0.tmp", b"of another output")
        with open(self.write(".s.vcllm-7-0.tmp", b"at work"), "r+b") as working:
            fcntl.flock(working, fcntl.LOCK_EX)
            self.vcllm("compress", model, "-o", self.path("s"), "--lossless", "-q")
        self.assertEqual(self.files(), [".s.vcllm-7-0.tmp", ".s.vcllm-mine.tmp", ".t.vcllm-1-0.tmp", "m", "s"])
        os.unlink(mine), os.unlink(other)
        self.vcllm("decompress", self.path("s"), "-o", self.path("s2"), "-q")
        self.vcllm("compress", model, "-o", self.path("s"), "--lossless", "-q", "-f")
        self.assertEqual(self.files(), ["m", "s", "s2"])

    def test_nothing_finished(self):
        model, small, partial = self.make(rows=2048), self.path("small"), self.path("small.partial")
        command = ["compress", model, "-o", small, *SLOW]
        def at_work(pid):                               # on the first shard
            return os.path.exists(partial) and any(name.startswith(".model-00001") and f".vcllm-{pid}-" in name
                                                   for name in os.listdir(partial))
        self.kill(command, at_work)
        self.assertIn(JOURNAL, os.listdir(partial))
        for options in [[], ["--resume"], ["-f"]]:
            shutil.copytree(partial, self.path("kept"))
            shutil.rmtree(small, ignore_errors=True)
            self.vcllm("compress", model, "-o", small, "--bits", 4, *FAST, *options, "-q",
                       code=IO if "-f" not in options else 0)      # another command
            shutil.rmtree(small, ignore_errors=True)
            shutil.rmtree(partial, ignore_errors=True)
            os.rename(self.path("kept"), partial)
        self.kill([*command, "--resume"], at_work)
        self.kill(command, at_work)
        self.assertEqual(self.files(), ["model", "small.partial"])

    def test_before_the_journal(self):
        model, small = self.make(), self.path("small")
        for options in [[], ["--resume"], ["-f"], ["-f", "--resume"]]:
            for left in [[], [f".{JOURNAL}.vcllm-1-0.tmp"]]:
                os.mkdir(self.path("small.partial"))
                for name in left:
                    self.write(f"small.partial/{name}", b"{")
                self.vcllm("compress", model, "-o", small, "--lossless", "-q", *options)
                self.assertEqual(self.files(), ["model", "small"])
                self.assertEqual(self.files("small"), self.files("model"))
                shutil.rmtree(small)
        os.mkdir(self.path("small.partial"))
        self.write("small.partial/notes", b"mine")
        for options in [[], ["--resume"], ["-f"]]:
            self.vcllm("compress", model, "-o", small, "--lossless", *options, code=IO)
        self.assertEqual(self.files("small.partial"), ["notes"])

    def test_decompress(self):
        """There is nothing to continue, so nothing is asked."""
        model, small, back = self.make(rows=4096), self.path("small"), self.path("back")
        self.vcllm("compress", model, "-o", small, "-q", *FAST)
        self.kill(["decompress", small, "-o", back, "-j", 1],
                  lambda _: os.path.exists(back + ".partial") and len(os.listdir(back + ".partial")) > 3)
        foreign = self.write("back.partial/notes", b"mine")
        self.assertIn("'notes'", self.vcllm("decompress", small, "-o", back, code=IO)[1])
        os.unlink(foreign)
        with open(self.path("back.partial", JOURNAL), "r+b") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            self.assertIn("another vcllm", self.vcllm("decompress", small, "-o", back, "-f", code=IO)[1])
        self.vcllm("decompress", small, "-o", back, "-q")
        self.assertEqual(self.files(), ["back", "model", "small"])
        self.assertEqual(self.files("back"), self.files("model"))

    def test_between_the_renames(self):
        """The older output is OUTPUT.old, the new one has not its name yet; or it has, and the other is still there."""
        model, small, old = self.make(), self.path("small"), self.path("small.old")
        command = ["compress", model, "-o", small, "--bits", 4, *FAST, "-q"]
        self.vcllm(*command)
        new = {name: self.read("small", name) for name in self.files("small")}
        shutil.rmtree(small)
        for options in [["-f"], ["-f", "--resume"]]:
            self.vcllm("compress", model, "-o", small, "--lossless", "-q")
            self.mark(small)
            os.rename(small, old)
            self.vcllm(*command, code=IO)               # it comes back, and is not replaced without -f
            self.assertEqual((self.files(), self.files("small")), (["model", "small"], self.files("model")))
            for gone in [[], ["model-00001-of-00003.safetensors", "config.json"]]:
                shutil.copytree(small, old)
                self.mark(old)
                for name in gone:
                    os.unlink(os.path.join(old, name))
                self.write(f"small/{JOURNAL}", b"{}")
                self.vcllm(*command, *options)
                self.assertEqual({name: self.read("small", name) for name in self.files("small")}, new)
                self.assertEqual(self.files(), ["model", "small"])
            shutil.rmtree(small)

    def test_what_is_not_ours_stays(self):
        model, small = self.make(), self.path("small")
        self.vcllm("compress", model, "-o", small, "--lossless", "-q")
        shutil.copytree(small, self.path("small.old"))          # by the user: there is no journal
        self.vcllm("compress", model, "-o", small, "--lossless", "-f", code=IO)
        self.mark(self.path("small.old"))
        self.write("small.old/notes", b"mine")
        self.assertIn("'notes'", self.vcllm("compress", model, "-o", small, "--lossless", "-f", code=IO)[1])
        self.assertEqual(len(self.files("small.old")), len(self.files("small")) + 2)

    def test_at_any_time(self):
        """Whenever it is killed: the same command succeeds, and nothing else is left."""
        model, small = self.make(), self.path("small")
        command = ["compress", model, "-o", small, "--bits", 4, *FAST, "-q", "-f"]
        began = time.monotonic()
        self.vcllm(*command)
        whole, took = self.files("small"), time.monotonic() - began
        generator = random.Random(1)
        for i in range(24):
            options = ["--resume"] if i % 2 else []
            process = subprocess.Popen([PROGRAM, *map(str, command + options)])
            time.sleep(took * generator.uniform(0.05, 1))
            process.kill()
            process.wait()
            self.vcllm(*command, *options)
            self.assertEqual((self.files(), self.files("small")), (["model", "small"], whole), i)

    def test_left_behind_is_no_success(self):
        model, small = self.make(), self.path("small")
        self.vcllm("compress", model, "-o", small, "--lossless", "-q")
        stuck = self.path("small", "config.json")
        if subprocess.run(["mount", "--bind", stuck, stuck], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("cannot mount a file here")
        self.addCleanup(subprocess.run, ["umount", self.path("small.partial", "config.json")])
        _, error = self.vcllm("compress", model, "-o", small, "-f", "-q", *FAST, code=IO)
        self.assertIn("small.partial: cannot be removed", error)
        self.assertIn("small: is complete", error)
        self.vcllm("verify", small, "-q")

    def test_reserved_names(self):
        """A shard under a name that vcllm takes away when it is done."""
        for name in [JOURNAL, ".model.vcllm-1-0.tmp"]:
            shutil.rmtree(self.path("model"), ignore_errors=True)
            os.mkdir(self.path("model"))
            stfile.write(self.path("model", name), [stfile.normal("w", [64, 64], 1)])
            self.write("model/model.safetensors.index.json", json.dumps({"weight_map": {"w": name}}).encode())
            _, error = self.vcllm("compress", self.path("model"), "-o", self.path("small"), "-q", code=FAILED)
            self.assertIn(name, error)
            self.assertEqual(self.files(), ["model"])
