#!/usr/bin/python3
"""Golden vectors: frames written once, tests/vectors/*.frame, must decode to the same values for ever.

Would catch a change of the format that nobody meant.  SHA256.json holds the hashes of the decoded values.  Both the
library and refdec.py decode each.
"""
import hashlib
import json
import os
import sys
import unittest

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "python"), HERE]
import refdec  # noqa: E402
import vcllm  # noqa: E402

VECTORS = os.path.join(HERE, "vectors")


class Vectors(unittest.TestCase):
    def test_every_vector_decodes_to_its_hash(self):
        with open(os.path.join(VECTORS, "SHA256.json"), encoding="ascii") as file:
            hashes = json.load(file)
        self.assertEqual(sorted(hashes), sorted(n[:-6] for n in os.listdir(VECTORS) if n.endswith(".frame")))
        for name, expected in hashes.items():
            with self.subTest(name), open(os.path.join(VECTORS, name + ".frame"), "rb") as file:
                frame = file.read()
                self.assertEqual(hashlib.sha256(refdec.Frame(frame).decode()).hexdigest(), expected)
                try:
                    values = np.ascontiguousarray(vcllm.decode(frame, raw=True))
                except vcllm.Error as error:
                    if error.status != -30:
                        raise
                    continue        # no video module here
                self.assertEqual(hashlib.sha256(values.tobytes()).hexdigest(), expected)


if __name__ == "__main__":
    unittest.main()
