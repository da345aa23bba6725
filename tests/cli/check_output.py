"""Streams, JSON, exit codes of the system around: disks, folders, modules."""
import json
import os
import resource
import subprocess

import stfile
from case import PROGRAM, FAST, IO, CODEC, BOUND, Case, environment


class Output(Case):
    """Catches: results on the wrong stream, what is no JSON, lost write errors, overwriting, leftovers."""

    def test_json_of_every_verb(self):
        small = self.compressed()
        model = self.path("model.safetensors")
        self.run_json("info", small)
        self.assertFalse(self.run_json("info", model)[0]["compressed"])
        self.assertEqual(self.run_json("verify", small)[0]["faults"], 0)
        self.run_json("verify", model)
        self.run_json("compare", model, small)
        self.run_json("decompress", small, "-o", self.path("back"))
        document, error = self.run_json("codecs")
        self.assertEqual(error, "")
        for backend in document["backends"]:
            self.assertIsInstance(backend["works"], bool)
            self.assertTrue(backend["detail"])
        bench, _ = self.run_json("bench", model, "--values", 16384, "--runs", 1, "--effort", 1, "--bits", "4",
                                 "-o", self.path("points"))
        self.assertEqual(json.loads(self.read("points")), bench)
        self.assertEqual({p["file"] for p in bench["points"]}, {None, "model.safetensors"})
        self.assertEqual(len(bench["points"]), 9)
        for point in bench["points"]:
            self.assertLessEqual(point["bits"], 4)
            self.assertAlmostEqual(point["gap"], point["bits"] - point["snr"] / 6.0206, places=6)
            self.assertGreater(point["encode_mvalues"], 0)
        self.assertGreater(bench["memcpy_bytes_per_second"], 1e6)
        self.assertEqual(bench["backends"]["h265"]["encoder"].count("none"), 0)

    def test_text(self):
        model, small = self.model(), self.path("small")
        output, error = self.vcllm("compress", model, "-o", small, "-v", "--bits", 4, *FAST)
        self.assertEqual(error, "")
        self.assertRegex(output, r"(?m)^\[1/4\] .* -> .* bits  ")
        for word in ["bits", "file bits", "worst SNR", "layer.0.weight"]:
            self.assertIn(word, output)
        self.assertEqual(self.vcllm("compress", model, "-o", small, "-f", "-q", "--bits", 4, *FAST), ("", ""))
        self.assertIn("not compressed", self.vcllm("info", model)[0])
        self.assertIn("no checksums", self.vcllm("verify", model)[0])
        self.assertIn("tiles of", self.vcllm("info", "-v", small)[0])
        self.assertIn("libx265", self.vcllm("codecs")[0])
        self.assertIn("NMSE", self.vcllm("compare", model, small)[0])
        self.assertIn("average trials", self.vcllm("bench", "--values", 4096, "--runs", 1, "--effort", 1,
                                                   "--bits", 6)[0])

    def test_names_cannot_drive_the_terminal(self):
        model = stfile.write(self.path("m"), [stfile.normal("bad\x1b[31m\n\x9b2J", [64, 64], 1)])
        small = self.path("s")
        output = "".join(self.vcllm("compress", model, "-o", small, "-v", "--bits", 5, *FAST))
        output += "".join(self.vcllm("info", small)) + "".join(self.vcllm("compare", model, small))
        output += "".join(self.vcllm("compress", model, "-o", small, "-f", "--bits", 0.02, code=BOUND))
        self.assertNotIn("\x1b", output)
        self.assertNotIn("\x9b", output)
        self.assertIn("bad?[31m?", output)

    def test_overwriting(self):
        small = self.compressed()
        model, before = self.path("model.safetensors"), self.read("small.safetensors")
        self.assertIn("-f", self.vcllm("compress", model, "-o", small, code=IO)[1])
        self.assertEqual(self.read("small.safetensors"), before)
        self.write("back", b"precious")
        self.vcllm("decompress", small, "-o", self.path("back"), code=IO)
        self.assertEqual(self.read("back"), b"precious")
        self.vcllm("decompress", small, "-o", self.path("back"), "-f", "-q")
        os.mkdir(self.path("dir"))
        self.vcllm("compress", model, "-o", self.path("dir"), "-f", code=IO)

    def test_failed_runs_leave_the_old_output(self):
        small = self.compressed()
        before = self.read("small.safetensors")
        self.vcllm("compress", self.path("model.safetensors"), "-o", small, "-f", "--bits", 0.02, code=BOUND)
        self.assertEqual(self.read("small.safetensors"), before)
        self.assertEqual(self.files(), ["model.safetensors", "small.safetensors"])

    def test_places_that_cannot_be_written(self):
        model, small = self.model(), self.compressed()
        for out in [self.path("none", "out"), self.path("model.safetensors", "out")]:
            self.vcllm("compress", model, "-o", out, code=IO)
            self.vcllm("decompress", small, "-o", out, code=IO)
        self.vcllm("compress", self.path("none"), "-o", self.path("out"), code=IO)
        self.vcllm("info", self.path("none"), code=IO)

    def test_read_only_folder(self):
        model = self.model()
        locked = self.path("locked")
        os.mkdir(locked)
        os.chmod(locked, 0o555)
        os.chmod(self.folder, 0o755)
        _, error = self.vcllm("compress", model, "-o", os.path.join(locked, "out"), "--lossless", code=IO,
                              **self.somebody())
        self.assertIn(locked, error)
        self.assertEqual(os.listdir(locked), [])

    def test_full_disk(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        model = self.model(rows=256, cols=256)
        self.vcllm("compress", model, "-o", self.path("out"), "--lossless", code=IO, preexec_fn=limit)
        self.vcllm("compress", model, "-o", self.path("out"), "--bits", 6, *FAST, code=IO, preexec_fn=limit)
        self.assertEqual(self.files(), ["model.safetensors"])
        small = self.compressed(rows=256, cols=256)
        self.vcllm("decompress", small, "-o", self.path("back"), code=IO, preexec_fn=limit)
        self.assertEqual(self.files(), ["model.safetensors", "small.safetensors"])

    def small_disk(self, size):
        disk = self.path("disk")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
                                 stderr=subprocess.DEVNULL)
        if mounted.returncode:
            self.skipTest("cannot mount a small disk here")
        self.addCleanup(subprocess.run, ["umount", disk])
        return disk

    def test_snr_asks_for_no_more_than_it_takes(self):
        disk = self.small_disk("256k")
        _, error = self.vcllm("compress", self.model(rows=256, cols=256), "-o", os.path.join(disk, "out"),
                              "--snr", 10, *FAST)
        self.assertIn("may take up to", error)

    def test_small_disk(self):
        disk = self.small_disk("64k")
        _, error = self.vcllm("compress", self.model(rows=256, cols=256), "-o", os.path.join(disk, "out"),
                              "--lossless", code=IO)
        self.assertIn(disk, error)
        self.assertEqual(os.listdir(disk), [])

    def test_standard_output_errors(self):
        small = self.compressed()
        with open("/dev/full", "wb") as full:
            for args in [["info", small], ["info", "--json", small], ["--help"], ["codecs"],
                         ["decompress", small, "--tensor", "layer.0.weight", "-o", "-"]]:
                self.vcllm(*args, code=IO, stdout=full)
        reader, writer = os.pipe()
        os.close(reader)
        self.vcllm("info", small, code=IO, stdout=writer)
        os.close(writer)

    def test_missing_module(self):
        os.mkdir(self.path("empty"))
        env = environment(VCLLM_MODULE_DIR=self.path("empty"))
        model = self.model()
        _, error = self.vcllm("compress", model, "-o", self.path("s"), "--codec", "h265", code=CODEC, env=env)
        self.assertIn("libvcllm_video", error)
        self.vcllm("codecs", code=CODEC, env=env)
        self.vcllm("compress", model, "-o", self.path("exact"), "--lossless", "-q", env=env)
        self.vcllm("verify", self.path("exact"), env=env)
        small = self.compressed("--codec", "h265")
        _, error = self.vcllm("verify", small, code=CODEC, env=env)
        self.assertEqual(len(error.splitlines()), 1, error)
        self.assertNotIn("fault", error)
        self.vcllm("info", small, env=env)
        self.assertIn("layer.1.weight", self.vcllm("info", "-v", small, code=CODEC, env=env)[0])
        self.vcllm("decompress", small, "-o", self.path("b"), code=CODEC, env=env)
        self.assertEqual(self.files(), ["empty", "exact", "model.safetensors", "small.safetensors"])
