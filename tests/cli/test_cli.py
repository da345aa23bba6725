#!/usr/bin/env python3
"""The command line, driven as a user drives it: real files, real exit codes, real signals.

VCLLM=path of the program (default build/vcllm); VCLLM_DATA=folder of real models (their tests are skipped
without it).
Only the standard library is used.  Data come from seeds.  One test: test_cli.py Folders.test_replacing
"""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import case  # noqa: E402
from check_usage import Usage  # noqa: E402,F401
from check_coding import Lossless, Lossy, RowFloor  # noqa: E402,F401
from check_promises import Promises  # noqa: E402,F401
from check_output import Output  # noqa: E402,F401
from check_damage import Damage, Extract, Compare  # noqa: E402,F401
from check_opening import Opening  # noqa: E402,F401
from check_killed import Killed  # noqa: E402,F401
from check_quantised import Quantised  # noqa: E402,F401
from check_folders import Folders, RealModels  # noqa: E402,F401

if __name__ == "__main__":
    if not os.access(case.PROGRAM, os.X_OK):
        sys.exit(f"{case.PROGRAM}: no such program; set VCLLM")
    unittest.main()
