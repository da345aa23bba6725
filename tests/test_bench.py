#!/usr/bin/python3
"""test_bench.py - the benchmark report: that it runs, and that its peers and its arithmetic are right.

Faults it would catch: a section that a change of the library broke, a frame whose parts are no longer those
that the report counts, a peer that is measured worse than it is.
"""
import json
import math
import os
import pathlib
import subprocess
import sys
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "bench")]

import anatomy
import curves
import kinds
import peers
import vcllm
import video_peers
from driver import VCLLM, Case
from matrices import drawn


def exponential(settings):
    """A coder of 6 dB to the bit, 0.3 bit from the bound."""
    return {q: (10 - q / 6, (10 - q / 6 - 0.3) * curves.DB) for q in settings}


class Bench(Case):
    def test_quick_report(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
        environment.pop("VCLLM_DATA", None)
        command = [sys.executable, "-B", ROOT / "bench" / "report.py", "--quick", "--build", os.path.dirname(VCLLM),
                   "-o", self.folder / "report.json"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        self.assertEqual(run.returncode, 0, run.stderr)
        report = json.loads((self.folder / "report.json").read_text())
        self.assertEqual(set(report), {"machine", "efforts", "rate", "stages", "speed", "anatomy", "kinds", "rowfloor", "floors"})
        for point in report["rate"]:
            self.assertTrue(point["snr"] is None or math.isfinite(point["snr"]), point)
        for line in report["floors"]["lines"]:
            self.assertIn(line["verdict"], ("aim", "pass", "MISS", "not measured"), line)
            self.assertIn(line["what"], run.stdout)
        tables = subprocess.run([sys.executable, "-B", ROOT / "bench" / "markdown.py", self.folder / "report.json"],
                                capture_output=True, text=True, check=True, timeout=60).stdout
        self.assertIn(f"| {report['floors']['lines'][0]['what']} |", tables)

    def test_runtime(self):
        """What `vcllm run` says is still understood, and is of the model that was asked for."""
        command = [sys.executable, "-B", ROOT / "bench" / "runtime.py", "--size", "small", "--runs", "1", "--prompt", "40",
                   "--tokens", "8", "-j", "2", "--build", os.path.dirname(VCLLM), "-o", self.folder / "runtime.json"]
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        self.assertEqual(run.returncode, 0, run.stderr)
        rows = {row["name"]: row for row in json.loads((self.folder / "runtime.json").read_text())["rows"]}
        self.assertEqual(list(rows), ["f32", "bf16", "2 bits", "2.9 bits", "4 bits"])
        self.assertAlmostEqual(rows["f32"]["weights"] / rows["bf16"]["weights"], 2, delta=0.05)
        self.assertLess(rows["4 bits"]["weights"], 0.5 * rows["bf16"]["weights"])
        self.assertLess(rows["2 bits"]["weights"], rows["4 bits"]["weights"])
        self.assertTrue(all(row[key] > 0 for row in rows.values() for key in ("cpu_read", "cpu_made", "read", "made", "peak")))

    def test_parts_of_a_frame_add_up(self):
        """Of the golden vectors, which have everything, and of a frame of many tiles."""
        frames = {path.name: path.read_bytes() for path in (ROOT / "tests" / "vectors").glob("tensor*.frame")}
        x = drawn(1 << 20)[1].values
        frames["large"] = vcllm.encode(x, codec="tensor", bits=1)
        frames["means"] = vcllm.encode(x[:512] + 0.3 * x[512], codec="tensor", bits=3)
        for name, frame in frames.items():
            parts = anatomy.count_frame(frame)
            self.assertEqual(sum(parts.values()), len(frame), (name, parts))
            self.assertTrue(all(parts[p] >= 0 for p in anatomy.PARTS), (name, parts))
            self.assertEqual(parts["words"] % 2, 0, (name, parts))
        for part in anatomy.PARTS:
            self.assertGreater(max(anatomy.count_frame(frame)[part] for frame in frames.values()), 0, part)

    def test_curves_interpolate_and_end(self):
        curve = curves.Curve(exponential, 0, 51, 6, lambda metric, value: 30, spacing=2)
        self.assertAlmostEqual(curve.at(curves.BITS, 3.1), (3.1 - 0.3) * curves.DB, places=9)
        self.assertAlmostEqual(curve.at(curves.SNR, 12), 12 / curves.DB + 0.3, places=9)
        self.assertIsNone(curve.at(curves.SNR, 100))
        self.assertIsNone(curve.at(curves.BITS, 0.1))
        self.assertAlmostEqual(curve.at(curves.BITS, 11), 9.7 * curves.DB, places=9)
        self.assertEqual(curves.least_bits([curve], 100), (10, True))
        self.assertLess(len(curve.points), 12)

    def test_bounds(self):
        """Shannon's of N(0,1); of two levels, of which one bit tells all; and what the iteration finds is no
        better than a Gaussian's bound with the entropy of the source (Shannon's lower bound)."""
        _, cdf, (low, high) = kinds.CONTINUOUS["N(0,1)"]
        for rate, snr in zip(kinds.RATES, kinds.bounds(kinds.curve(*kinds.cells(cdf, low, high, 1), low, high))):
            self.assertAlmostEqual(snr, rate * curves.DB, places=2)
        _, cdf, (low, high) = kinds.CONTINUOUS["uniform"]
        for rate, snr in zip(kinds.RATES, kinds.bounds(kinds.curve(*kinds.cells(cdf, low, high, 0.577), low, high))):
            self.assertLess(snr, rate * curves.DB + 10 * math.log10(math.pi * math.e / 6))
            self.assertGreater(snr, rate * curves.DB)
        bits, error = kinds.rate_distortion(np.array([-1.0, 1]), np.array([0.5, 0.5]), np.array([-1.0, 1]), 1e-2)
        self.assertAlmostEqual(bits, 1, places=6)
        self.assertLess(error, 1e-6)

    def test_plain_quantisers(self):
        x = drawn(1 << 18)[0].values
        scalar, tensor, group = peers.scalar(x), peers.rtn(x, "tensor"), peers.rtn(x, "group")
        self.assertAlmostEqual(2.9 - scalar.at(curves.BITS, 2.9) / curves.DB, 0.254, places=2)
        self.assertAlmostEqual(tensor.at(curves.BITS, 4), scalar.at(curves.BITS, 4), places=1)
        self.assertLess(group.at(curves.BITS, 2.9), tensor.at(curves.BITS, 2.9))

    @unittest.skipUnless(video_peers.is_there(), "no ffmpeg program")
    def test_video_peers(self):
        """Gaps of x264 and x265 on N(0,1) as shipped: 0.52 and 0.43 bit at 2.9 bits."""
        x, cache = drawn(1 << 17)[0].values, video_peers.Cache(self.folder / "points.json")
        for coders, gap in ((video_peers.X265[:1], 0.43), (video_peers.X264, 0.52)):
            found = curves.best(video_peers.curves(cache, coders, x), curves.BITS, 2.9)
            self.assertAlmostEqual(2.9 - found / curves.DB, gap, delta=0.04)
        cache.save()
        self.assertEqual(video_peers.Cache(self.folder / "points.json").points.keys(), cache.points.keys())

    @unittest.skipUnless(video_peers.is_there(), "no ffmpeg program")
    def test_prediction_between_pictures(self):
        """Of two pictures, the second the first and a little noise: it costs less if it is predicted."""
        rng = np.random.default_rng(22)
        first = rng.standard_normal((128, 128))
        stack = video_peers.Stack([first, first + 0.01 * rng.standard_normal((128, 128))])
        cache = video_peers.Cache(None)
        coders = [video_peers.Coder("libx265", "medium", 10, inter) for inter in (False, True)]
        intra, inter = (video_peers.curve(cache, stack, coder).at(curves.SNR, 15) for coder in coders)
        self.assertLess(inter, 0.7 * intra)


if __name__ == "__main__":
    unittest.main()
