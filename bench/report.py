#!/usr/bin/python3
"""report.py - the benchmark report: every figure, its floor and aim, and peers measured in the same run.

    PYTHONPATH=python VCLLM_LIBRARY=build/libvcllm.so bench/report.py [SECTION...]

Sections: rate (a), stages (b), speed (c), anatomy (d), kinds (e), rowfloor (f), floors; all by default.  VCLLM_DATA names the folder
of docs/data.md.  Needs numpy.  ffmpeg with libx265 and libx264, and zfpy, are peers: left out where they are
missing.
"""
import argparse
import concurrent.futures
import json
import os
import platform
import sys
import time

import anatomy
import floors
import kinds
import matrices
import peers
import rate
import rowfloor
import speed
import stages
import video_peers

SECTIONS = {"rate": rate, "stages": stages, "speed": speed, "anatomy": anatomy, "kinds": kinds,
            "rowfloor": rowfloor, "floors": floors}


class Report:
    """What sections share: settings, data, the peers' cache, and the document they add to."""

    efforts = (5, 9)                    # default and highest
    rates = (1, 2, 2.9, 3.5, 4)

    def __init__(self, options):
        self.build, self.jobs, self.quick = options.build, options.jobs, options.quick
        self.values, self.runs = (1 << 16, 1) if self.quick else (1 << 20, 5)
        self.video = video_peers.is_there() and not self.quick
        cache = options.cache or os.path.join(options.build, "bench-peers.json")
        self.cache = video_peers.Cache(cache) if self.video else None
        self.document, self.started = {}, time.monotonic()

    def drawn(self):
        return matrices.drawn(self.values)

    def chosen(self):
        return [] if self.quick else matrices.chosen()

    def stacks(self):
        return matrices.stacks() if self.video else []

    def every(self, most):
        return self.drawn()[:1] if self.quick else matrices.every(most)

    def each(self, call, items):
        """[call(item) ...] by as many threads as jobs: the work is the library's and other programs'."""
        items, results = list(items), []
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for result in pool.map(call, items):
                results.append(result)
                if sys.stderr.isatty():
                    print(f"\r{len(results)} of {len(items)} ", end="", file=sys.stderr)
        return results

    def keep(self, name, part):
        self.document[name] = part
        if self.cache:
            self.cache.save()

    def run(self, name):
        if name not in self.document:
            SECTIONS[name].run(self)
            print(f"\n{name}: {time.monotonic() - self.started:.0f} s", file=sys.stderr)


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    name = models[0] if models else platform.machine()
    return f"{name}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def print_head(report):
    print(f"vcllm's benchmark report. {machine()}")
    print(f"Speeds: CPU time of one thread, medians of {report.runs} runs. Bits count every byte written.")
    if not report.video:
        print("Without x264 and x265: " + ("a quick run." if report.quick else "no ffmpeg program here."))
    if not peers.zfp_is_there():
        print("Without zfp: this Python has no zfpy (Debian: python3-zfpy).")
    if not matrices.DATA:
        print("Without the real models of docs/data.md: VCLLM_DATA is not set.")


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="of " + ", ".join(SECTIONS))
    parser.add_argument("-o", "--output", help="write everything as JSON too")
    parser.add_argument("--build", default="build", help="programs, and the cache (default build)")
    parser.add_argument("--cache", help="points of x264 and x265 (default BUILD/bench-peers.json)")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="for all but the speeds")
    parser.add_argument("--quick", action="store_true", help="little data, no video: tests the report")
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"no section '{name}'")
    return options


def main():
    options = parse()
    report = Report(options)
    print_head(report)
    for name in options.sections or SECTIONS:
        report.run(name)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "efforts": report.efforts, **report.document}, file, indent=1)


if __name__ == "__main__":
    main()
