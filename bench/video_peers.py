"""video_peers.py - x264 and x265 as their users have them: presets as shipped, through the ffmpeg program.

A tensor is rounded to 8, 10 or 12 bits with one scale (absmax, 4 bytes, counted), and its matrix coded as one
intra picture, luma only.  Counted is every byte of the stream but the message in which an encoder names
itself (2 KB in x265's case), which is left out.  What was coded is decoded again, also by ffmpeg, and
compared with the tensor.

Sweeps are slow: points are kept in a JSON file, to be found by the tensor's hash, the coder and its setting.
"""
import collections
import hashlib
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import threading

import numpy as np

from curves import BITS, DB, Curve, snr_of

# inter: the pictures of a stack are predicted from each other (one I picture, then P), else each is alone.
Coder = collections.namedtuple("Coder", "library preset depth inter", defaults=(False,))

X265 = [Coder("libx265", "medium", depth) for depth in (8, 10, 12)]     # its lower envelope is the peer
X265_SLOW = [Coder("libx265", "veryslow", 8)]
X264 = [Coder("libx264", "medium", 8)]

HIGHEST = 51


def finest(coder):
    """The lowest QP of use; below it stands the rounded picture coded losslessly.  A step is 2^((qp-4)/6)
    levels of 256 at every depth; x264 falls back to raw blocks below 8."""
    return 8 if coder.library == "libx264" else 4 if coder.depth == 8 else 0


def is_there():
    return shutil.which("ffmpeg") is not None


def version():
    run = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    return run.stdout.split()[2]


# ---- pictures ----------------------------------------------------------------------------------------------

def matrix_of(x):
    """A tensor as pictures have it: rows of 64 values and more; keys and values with a token to the row."""
    if x.ndim == 3 and 8 <= x.shape[2] < 64 <= x.shape[1]:
        return x.swapaxes(0, 1).reshape(x.shape[1], -1)
    cols, axis = x.shape[-1], x.ndim - 1
    while cols < 64 and axis > 0:
        axis -= 1
        cols *= x.shape[axis]
    return x.reshape(-1, cols)


class Stack:
    """Matrices of one shape, rounded with one scale, as pictures of one sequence."""

    def __init__(self, matrices):
        self.x = np.stack(matrices).astype(np.float64)
        self.absmax = float(np.abs(self.x).max()) or 1.0
        self.signal = float((self.x ** 2).sum())
        self.hash = hashlib.sha256(repr(self.x.shape).encode() + self.x.tobytes()).hexdigest()[:24]

    def rounded(self, depth):
        half = 1 << (depth - 1)
        scale = self.absmax / (half - 1)
        return (np.rint(self.x / scale) + half).astype(sample_type(depth))

    def error(self, samples, depth):
        half = 1 << (depth - 1)
        y = (samples.reshape(self.x.shape).astype(np.float64) - half) * (self.absmax / (half - 1))
        return float(((self.x - y) ** 2).sum())


def sample_type(depth):
    return "u1" if depth == 8 else "<u2"


# ---- the ffmpeg program ------------------------------------------------------------------------------------

def encoder_options(coder, q, pictures):
    """The preset, and what makes pictures stand alone.  ipratio 1: I and P pictures have the same step."""
    exact = q < finest(coder)
    if coder.library == "libx264":
        return ["-c:v", "libx264", "-preset", coder.preset, "-qp", str(0 if exact else q), "-g", "1",
                "-threads", "1", "-bsf:v", "filter_units=remove_types=6", "-f", "h264"]
    params = ["lossless=1" if exact else f"qp={q}", f"keyint={pictures if coder.inter else 1}", "info=0",
              "log-level=none", "pools=none", "frame-threads=1"]
    if pictures > 1:
        params += ["ipratio=1", "bframes=0", "scenecut=0"]
    return ["-c:v", "libx265", "-preset", coder.preset, "-x265-params", ":".join(params), "-f", "hevc"]


def input_options(coder, shape, path):
    pixels = "gray" if coder.depth == 8 else f"gray{coder.depth}le"
    return ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{shape[2]}x{shape[1]}", "-r", "25", "-i", path]


def ffmpeg(*arguments):
    """CPU seconds of the program, all its threads (there is one that works)."""
    process = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)],
                               stderr=subprocess.PIPE)
    with process.stderr:
        message = process.stderr.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ffmpeg: {message.strip()}")
    return usage.ru_utime + usage.ru_stime


def run_points(stack, coder, settings):
    """{q: (bytes, squared error)}: one process encodes at all the settings, one decodes."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        stack.rounded(coder.depth).tofile(folder / "in")
        outputs, inputs, back = [], [], []
        for i, q in enumerate(settings):
            outputs += encoder_options(coder, q, len(stack.x)) + [folder / f"{q}.coded"]
            inputs += ["-threads", "1", "-i", folder / f"{q}.coded"]
            # luma as it is: asked for gray, ffmpeg would stretch x264's pictures to another range
            back += ["-map", i, "-vsync", "passthrough", "-vf", "extractplanes=y", "-f", "rawvideo",
                     folder / f"{q}.raw"]
        ffmpeg(*input_options(coder, stack.x.shape, folder / "in"), *outputs)
        ffmpeg(*inputs, *back)
        return {q: ((folder / f"{q}.coded").stat().st_size + 4,
                    stack.error(np.fromfile(folder / f"{q}.raw", sample_type(coder.depth)), coder.depth))
                for q in settings}


# ---- curves, kept ------------------------------------------------------------------------------------------

class Cache:
    """Points of earlier runs of the same ffmpeg."""

    def __init__(self, path):
        self.path, self.lock, self.points = path, threading.Lock(), {}
        self.ffmpeg = version()
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            if document.get("ffmpeg") == self.ffmpeg:
                self.points = document["points"]

    def get(self, key):
        with self.lock:
            return self.points.get(key)

    def put(self, points):
        with self.lock:
            self.points.update(points)

    def save(self):
        if self.path:
            with self.lock, open(f"{self.path}.new", "w", encoding="utf-8") as file:
                json.dump({"ffmpeg": self.ffmpeg, "points": self.points}, file, indent=0)
            os.replace(f"{self.path}.new", self.path)


def curve(cache, stack, coder):
    def key(q):
        return f"{stack.hash} {' '.join(map(str, coder))} {q}"

    def measure(settings):
        missing = [q for q in settings if cache.get(key(q)) is None]
        if missing:
            cache.put({key(q): point for q, point in run_points(stack, coder, missing).items()})
        found = {q: cache.get(key(q)) for q in settings}
        return {q: (8 * size / stack.x.size, snr_of(stack.signal, error))
                for q, (size, error) in found.items()}

    def guess(metric, value):
        """A fine step's error is step^2/12; these coders take about 0.35 bit more than a Gaussian's bound."""
        snr = (value - 0.35) * DB if metric == BITS else value
        step = math.sqrt(12 * stack.signal / stack.x.size / 10 ** (snr / 10)) * 127 / stack.absmax
        return 4 + 6 * math.log2(step) if step > 0 else 0

    return Curve(measure, finest(coder) - 1, HIGHEST, per_octave=6, guess=guess, spacing=2)


def curves(cache, coders, x):
    stack = Stack([matrix_of(x)])
    return [curve(cache, stack, coder) for coder in coders]


# ---- speed -------------------------------------------------------------------------------------------------

def speed(coder, q, x, pictures, runs):
    """Mvalue/s encoding and decoding one matrix as 8-bit pictures at one QP, one thread, and its bits.  CPU
    time of a run with 1 + `pictures` pictures less that of one with 1: starting ffmpeg is not counted."""
    stack, encode, decode = Stack([x]), [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for n in (1, 1 + pictures):
            np.concatenate([stack.rounded(coder.depth)] * n).tofile(folder / f"{n}.raw")
        for _ in range(runs):
            taken = {n: ffmpeg(*input_options(coder, stack.x.shape, folder / f"{n}.raw"),
                               *encoder_options(coder, q, 1), folder / f"{n}.coded")
                     for n in (1, 1 + pictures)}
            encode.append(taken[1 + pictures] - taken[1])
            # Decoding is quicker: the stream eight times over, as every picture stands alone.
            (folder / "long.coded").write_bytes((folder / f"{1 + pictures}.coded").read_bytes() * 8)
            short, long = (ffmpeg("-threads", "1", "-i", folder / file, "-f", "null", "-")
                           for file in ("1.coded", "long.coded"))
            decode.append(long - short)
        bits = 8 * (folder / "1.coded").stat().st_size / x.size
    decoded = 8 * (1 + pictures) - 1
    return {"bits": bits, "encode": pictures * x.size / statistics.median(encode) / 1e6,
            "decode": decoded * x.size / statistics.median(decode) / 1e6}
