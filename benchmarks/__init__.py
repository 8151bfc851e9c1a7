"""Benchmarks: what the library costs against the least that could do the same work.

`python -m benchmarks` prints the table; README.md explains each figure. Nothing in the package imports
this room. Read `floor.py` first, then `wire.py`.
"""

import os
import sys

CHECKOUT = "MELLEA_CHECKOUT"
"""The environment variable that names another checkout, whose `mellea` is measured in place of this one's."""

if CHECKOUT in os.environ:
    sys.path.insert(0, os.environ[CHECKOUT])  # before anything here imports mellea
