#!/usr/bin/python3
"""Tests of check_arrows.py on small trees: what it must refuse, it names; what it must not, it leaves alone."""
import os
import subprocess
import sys
import tempfile
import unittest

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check_arrows.py")


def check(files):
    """Exit status and output for a tree of these files."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run([sys.executable, "-B", CHECK, root], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


class Arrows(unittest.TestCase):
    def refused(self, words, files):
        status, output = check(files)
        self.assertEqual((status, words in output), (1, True), output)

    def accepted(self, files):
        self.assertEqual(check(files)[0], 0, check(files)[1])

    def test_tags(self):
        """Fault: two types of one tag, which compile in silence where a file sees the wrong one."""
        here = "struct twin {\n    int a;\n};\n"
        for kind in ("struct", "union", "enum"):
            self.refused("defines twin, as include/one.h", {"include/one.h": here, "lm/net/two.c": f"{kind} twin {{ A }};\n"})
        self.refused("defines twin", {"lm/net/one.c": here + here})
        self.accepted({"include/one.h": here, "lm/net/two.c": "struct twin;\nstruct twin *make(struct twin *of);\n"
                                                           "/* struct twin { was here } */\n"})

    def test_tags_of_levels(self):
        """Fault: the two types that a template takes by level are taken for one defined twice, or a third is let in."""
        levels = {f"src/kernels/lanes_{level}.h": "struct lanes { int x; };\n" for level in ("avx2", "avx512")}
        self.accepted(levels)
        self.refused("defines lanes", dict(levels, **{"src/kernels/other_avx2.h": "struct lanes { int x; };\n"}))

    def test_floors(self):
        """Fault: a floor sees the one above it, or an outsider sees the inside."""
        inside = {"src/base/mem.h": "", "src/codec/plan.h": ""}
        self.refused("base may not include src/codec/plan.h", dict(inside, **{"src/base/a.c": '#include "codec/plan.h"\n'}))
        self.refused("cli may not include src/base/mem.h", dict(inside, **{"cli/a.c": '#include "../src/base/mem.h"\n'}))
        self.accepted(dict(inside, **{"src/codec/scale.c": '#include "base/mem.h"\n#include "plan.h"\n'}))

    def test_rooms(self):
        """Fault: inside the codec a stage sees another stage or what is built of stages."""
        headers = {f"src/codec/{name}.h": "" for name in ("scale", "transform", "model", "tensor", "tile", "plan")}
        for name, included, where in (("scale", "transform", "beside"), ("scale", "tile", "above"),
                                      ("tensor", "tile", "above"), ("plan", "scale", "above")):
            self.refused(f"{name} may not include src/codec/{included}.h, a room {where}",
                         dict(headers, **{f"src/codec/{name}.c": f'#include "codec/{included}.h"\n'}))
        self.refused("newcomer is in no room", dict(headers, **{"src/codec/newcomer.c": '#include "plan.h"\n'}))
        self.accepted(dict(headers, **{"src/codec/tile.c": '#include "tile.h"\n#include "tensor.h"\n#include "scale.h"\n',
                                       "src/codec/trellis.c": '#include "model.h"\n', "src/codec/scale.c": '#include "scale.h"\n'}))

    def test_rooms_of_lm(self):
        """Fault: the network learns to know what measures it, or a new folder of the runtime is in no room."""
        headers = {"lm/net/forward.h": "", "lm/eval/eval.h": ""}
        self.refused("lm/net may not include lm/eval/eval.h", dict(headers, **{"lm/net/a.c": '#include "eval/eval.h"\n'}))
        self.refused("attic is no room of lm", dict(headers, **{"lm/attic/a.c": '#include "net/forward.h"\n'}))
        self.accepted(dict(headers, **{"lm/allot/a.c": '#include "eval/eval.h"\n#include "net/forward.h"\n'}))

    def test_rooms_of_pack(self):
        """Fault: a policy knows the jobs that use it, or pack looks into the runtime."""
        headers = {"pack/policy/choose.h": "", "pack/jobs/verify.h": "", "lm/eval/eval.h": ""}
        self.refused("pack/policy may not include pack/jobs/verify.h",
                     dict(headers, **{"pack/policy/a.c": '#include "jobs/verify.h"\n'}))
        self.refused("pack may not include lm/eval/eval.h",
                     dict(headers, **{"pack/jobs/a.c": '#include "eval/eval.h"\n'}))
        self.accepted(dict(headers, **{"pack/jobs/a.c": '#include "policy/choose.h"\n'}))


if __name__ == "__main__":
    unittest.main()
