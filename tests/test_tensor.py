#!/usr/bin/python3
"""The tensor codec against refdec.py, which follows docs/format.md: every frame must decode to the same bytes.

Would catch a rule of the format that the document tells otherwise, and rates or errors that are not what they claim.
"""
import math
import os
import sys
import unittest

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "python"), HERE]
import refdec  # noqa: E402
import vcllm  # noqa: E402
from driver import LONG  # noqa: E402

SHAPES = [(64, 64), (100, 80), (33, 129), (5, 1000), (100, 70, 3), (1, 5000), (300, 130), (2, 3, 5, 150)]
DTYPES = (np.float32, np.float16, np.float64)


def random_tensor(rng, shape, dtype):
    """Rows and columns of different scales, heavy tails, two humps, now and then values that are no numbers."""
    x = rng.standard_normal(shape)
    if rng.random() < 0.2:
        x = np.sign(x) * (1 + x / 20)
    x = x * np.exp(rng.standard_normal(shape[:1] + (1,) * (len(shape) - 1)))
    if rng.random() < 0.5:
        x *= np.exp(2 * rng.standard_normal(shape[-1:]))
    if rng.random() < 0.3:
        x.flat[::97] *= 50
    if rng.random() < 0.3:
        x += 5 * rng.standard_normal(shape[-1:])
    if rng.random() < 0.2:
        x += 9
    if rng.random() < 0.4:      # smooth along an axis
        axis = int(rng.integers(len(shape)))
        x = np.cumsum(x, axis) / 4
    x = x.astype(dtype)
    if rng.random() < 0.3:
        x.flat[3], x.flat[77], x.flat[78] = np.nan, np.inf, np.inf
    return x


def snr(x, y):
    keep = np.isfinite(x)
    x, y = x[keep].astype(np.float64), y[keep].astype(np.float64)
    return 10 * math.log10((x * x).sum() / ((x - y) ** 2).sum())


class Tensor(unittest.TestCase):
    def agree(self, x, **settings):
        frame = vcllm.encode(x, codec="tensor", **settings)
        mine = np.frombuffer(refdec.Frame(bytes(frame)).decode(), x.dtype).reshape(x.shape)
        theirs = np.ascontiguousarray(vcllm.decode(frame))
        self.assertEqual(mine.tobytes(), theirs.tobytes(), (x.shape, x.dtype, settings))
        return frame, theirs

    def test_random_frames_decode_as_the_document_says(self):
        rng = np.random.default_rng(11)
        for shape in SHAPES:
            for i in range(18 if LONG else 9):
                settings = {"bits": float(rng.choice([0.7, 1.5, 2.9, 4.5, 7, 11])), "effort": int(rng.choice([1, 2, 5, 6, 7, 8])),
                            "objective": str(rng.choice(["model", "mse"])), "rotate": int(i % 5 == 0),
                            "transpose": int(rng.random() < 0.3), "disable": int(rng.integers(128)) if i % 4 == 1 else 0}
                x = random_tensor(rng, shape, DTYPES[i % 3])
                with self.subTest(shape=shape, i=i, **settings):
                    try:
                        frame, y = self.agree(x, **settings)
                    except vcllm.Error as error:     # so small a tensor cannot carry its states at any rate
                        self.assertEqual(error.status, -40)
                        continue
                    self.assertLessEqual(8 * len(frame), settings["bits"] * x.size)
                    self.assertTrue(np.array_equal(np.isfinite(x), np.isfinite(y)))

    def test_snr_is_a_floor(self):
        rng = np.random.default_rng(12)
        for target in (3, 10, 20, 40, 60):
            x = (rng.standard_normal((300, 256)) * np.exp(rng.standard_normal((300, 1)))).astype(np.float32)
            _, y = self.agree(x, snr=target)
            self.assertGreaterEqual(snr(x, y), target)
            self.assertLess(snr(x, y), target + 0.6)

    def test_what_a_sample_does_not_see(self):
        """Would catch values that need a list met by a pass without one, and rows of zeros taken for rows of deviation 1."""
        rng = np.random.default_rng(19)
        x = rng.standard_normal((1000, 600)).astype(np.float32)
        for value in (np.nan, np.inf, 1e30):
            for place in (5, 300000, x.size - 1):
                y = x.copy()
                y.flat[place] = value
                frame = vcllm.encode(y, bits=2.9)
                self.assertLessEqual(8 * len(frame), 2.9 * y.size)
                self.assertEqual(vcllm.decode(frame).flat[place].tobytes(), y.flat[place].tobytes())
        zeros = rng.standard_normal((1024, 256)).astype(np.float32)
        zeros[rng.permutation(1024)[:383]] = 0
        for scale in (1e-6, 1e-4, 1, 1e6):
            for bits in (1, 2, 2.9):
                written = 8 * len(vcllm.encode(zeros * np.float32(scale), bits=bits)) / zeros.size
                self.assertTrue(0.98 * bits <= written <= bits, (scale, bits, written))

    def test_largest_error_is_a_bound(self):
        """Would catch a value off by more than asked for, and steps far finer than it needs."""
        rng = np.random.default_rng(18)
        for dtype in DTYPES:
            for target in (0.5, 0.02):
                x = (rng.standard_normal((200, 130)) * np.exp(rng.standard_normal((200, 1)))).astype(dtype)
                x[5, 7] = 1e4
                for settings in ({}, {"rotate": 1, "objective": "model", "effort": 9}, {"transpose": 1}):
                    frame, y = self.agree(x, max_error=target, **settings)
                    error = np.abs(x.astype(np.float64) - y.astype(np.float64)).max()
                    self.assertLessEqual(error, target)
                    self.assertGreater(error, 0.7 * target)

    def test_smooth_tensors_are_transformed(self):
        """Would catch a DCT that is not tried, not taken, or taken on the wrong axis."""
        rng = np.random.default_rng(15)
        x = np.cumsum(rng.standard_normal((256, 192)), 0).astype(np.float32)
        for transpose in (0, 1):
            for y in (x, np.ascontiguousarray(x.T)):
                got = {off: snr(y, self.agree(y, bits=2, transpose=transpose, disable=off)[1]) for off in (0, 2)}
                self.assertGreater(got[0], got[2] + 6)

    def test_waves_are_taken_apart(self):
        """A bank of filters: each row one wave, another one in each row.  Rows and columns are all alike."""
        rng = np.random.default_rng(19)
        x = np.cos(np.arange(256) * rng.uniform(0, np.pi, (192, 1)) + rng.uniform(0, 6, (192, 1))).astype(np.float32)
        got = {off: snr(x, self.agree(x, bits=2, disable=off)[1]) for off in (0, 2)}
        self.assertGreater(got[0], got[2] + 10)

    def test_means_are_taken_off_where_they_pay(self):
        """Small means of columns, worth 0.06 bit; not where they only seem to pay, for a few rows have all energy."""
        rng = np.random.default_rng(20)
        x = rng.standard_normal((1024, 256)).astype(np.float32)
        loud = x * np.where(np.arange(1024) < 100, 100, 1).astype(np.float32)[:, None]
        loud[:100] += 50 * rng.standard_normal(256).astype(np.float32)
        for y, pays in ((x, False), (x + 0.3 * rng.standard_normal(256).astype(np.float32), True), (loud, False)):
            frame, z = self.agree(y, bits=2.5)
            self.assertEqual(bool(frame[8] & 8), pays)
            plain = snr(y, self.agree(y, bits=2.5, disable=1)[1])
            self.assertGreater(snr(y, z), plain + (0.2 if pays else -0.05))

    def test_a_mean_of_all_values_costs_nothing(self):
        """Would catch a mean that is not found, or taken off and not added."""
        x = np.random.default_rng(21).standard_normal((512, 256)).astype(np.float32)
        for transpose in (0, 1):
            for bits in (1, 2.5, 4):
                frame, z = self.agree(x + np.float32(9), bits=bits, transpose=transpose)
                _, y = self.agree(x, bits=bits, transpose=transpose)
                self.assertTrue(frame[9] & 1)
                self.assertLess(((x + np.float32(9) - z) ** 2).mean(), 1.03 * ((x - y) ** 2).mean(), (transpose, bits))

    def test_points_move_one_by_one(self):
        """Two humps: would catch moves that are not found or do not help, against those by size and against none."""
        x = np.random.default_rng(22).standard_normal((512, 256)).astype(np.float32)
        x = np.sign(x) * (1 + x / 50)
        frame, y = self.agree(x, bits=2)
        self.assertTrue(frame[9] & 2)
        self.assertGreater(snr(x, y), snr(x, self.agree(x, bits=2, disable=64)[1]) + 3)

    def test_column_weights_are_obeyed(self):
        """Steps as 1 / sqrt(weight): equal weighted errors, and a smaller sum of them than without weights."""
        rng = np.random.default_rng(16)
        for transpose in (0, 1):
            x = rng.standard_normal((256, 160)).astype(np.float32)
            columns = x.shape[1 - transpose]
            weight = np.exp(2 * rng.standard_normal(columns)).astype(np.float32)
            error = []
            for settings in ({}, {"col_weight": weight}):
                _, y = self.agree(x, bits=3, transpose=transpose, **settings)
                error.append(((x - y).astype(np.float64) ** 2).mean(transpose) * weight)
            self.assertLess(error[1].sum(), 0.5 * error[0].sum())
            self.assertLess(error[1].max(), 3 * np.median(error[1]))

    def test_row_floor_is_kept(self):
        """Would catch rows below their floor, or a floor got by giving all rows less; rows of zeros, of infinities, and
        rows that no step reaches stay what they were."""
        rng = np.random.default_rng(23)
        for shape, dtype, objective in (((500, 96), np.float32, "model"), ((64, 640), np.float16, "mse"),
                                        ((40, 33, 64), np.float64, "model"), ((40, 16500), np.float32, "mse")):
            x = rng.standard_normal(shape) * np.exp(1.5 * rng.standard_normal(shape[:-1] + (1,)))
            x.reshape(-1, shape[-1])[[3, 17]] = 0
            x = x.astype(dtype)
            plain, (frame, y) = vcllm.decode(vcllm.encode(x, bits=4, objective=objective)), \
                self.agree(x, bits=4, objective=objective, row_floor=10)
            rows, error = x.reshape(-1, shape[-1]).astype(np.float64), (x - y).reshape(-1, shape[-1]).astype(np.float64)
            live = (rows ** 2).sum(1) > 0
            found = 10 * np.log10((rows[live] ** 2).sum(1) / (error[live] ** 2).sum(1))
            self.assertGreater(found.min(), 9.5, (shape, dtype))
            self.assertGreater(snr(x, y), snr(x, plain) - 1.5, (shape, dtype))
            self.assertLess(np.abs(y.reshape(rows.shape)[~live]).max(), 0.002 * rows.std(), (shape, dtype))
            self.assertTrue(8 * len(frame) <= 4 * x.size)
        x[5, 7], x[6] = np.inf, np.nan
        x[8] *= 1e-30
        frame, y = self.agree(x, bits=4, row_floor=10)
        self.assertTrue(y[5, 7] == np.inf and np.isnan(y[6]).all())

    def test_feedback_lowers_the_error_of_the_product(self):
        """Would catch feedback of the wrong sign, order or scale: x (W - W')^T must err less, with W' no better itself."""
        rng = np.random.default_rng(17)
        columns = 150
        inputs = rng.standard_normal((2000, 40)) @ rng.standard_normal((40, columns)) + 0.3 * rng.standard_normal((2000, columns))
        moments = inputs.T @ inputs / 2000
        flip = np.eye(columns)[::-1]
        upper = flip @ np.linalg.cholesky(flip @ moments @ flip) @ flip
        weight = np.ascontiguousarray(np.diag(upper) ** 2, np.float32)
        feedback = np.ascontiguousarray(np.tril((upper / np.diag(upper)).T, -1), np.float32)
        for transpose, effort, objective in ((0, 5, "model"), (1, 2, "mse"), (0, 1, "model"), (0, 7, "model")):
            x = rng.standard_normal((200, columns)).astype(np.float32)
            y = np.ascontiguousarray(x.T) if transpose else x
            error = []
            for settings in ({}, {"feedback": feedback}, {"feedback": feedback, "col_weight": weight}):
                _, z = self.agree(y, bits=3, transpose=transpose, effort=effort, objective=objective, **settings)
                e = (y - z).T.astype(np.float64) if transpose else (y - z).astype(np.float64)
                error.append(np.einsum("ij,jk,ik->", e, moments, e))
            self.assertLess(error[1], 0.4 * error[0], (transpose, effort))
            self.assertLess(error[2], 0.7 * error[1], (transpose, effort))

    def test_gap_to_the_shannon_bound(self):
        """The figures of docs/results.md: 16 states within 0.08 bit on N(0,1), 256 states within 0.05."""
        x = np.random.default_rng(13).standard_normal((512, 1024)).astype(np.float32)
        for effort, bits, most in ((5, 1, 0.08), (5, 2, 0.08), (5, 2.9, 0.08), (5, 4, 0.082), (9, 2.9, 0.05)):
            frame = vcllm.encode(x, codec="tensor", bits=bits, effort=effort)
            gap = 8 * len(frame) / x.size - snr(x, vcllm.decode(frame)) / 6.0206
            self.assertLess(gap, most, (effort, bits))

    def test_beats_h265_on_weights(self):
        x = np.random.default_rng(14).standard_normal((512, 512)).astype(np.float32)
        y = vcllm.decode(vcllm.encode(x, codec="tensor", bits=2.9))
        try:
            z = vcllm.decode(vcllm.encode(x, codec="h265", bits=2.9))
        except vcllm.Error as error:
            self.skipTest(f"no H.265 here: {error}")
        self.assertGreater(snr(x, y), snr(x, z) + 1)


if __name__ == "__main__":
    unittest.main()
