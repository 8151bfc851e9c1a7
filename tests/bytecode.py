"""Compiled Python for the test run, also where `PYTHONDONTWRITEBYTECODE` is set.

That variable is for a checkout with nothing beside its sources. It costs a test run a third of its time: each worker
compiles the package, the tests and their libraries, and so does each of the hundreds of programs that the tests start.
So all of them share a folder of compiled files, away from the sources.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

__all__ = ["share_bytecode"]


def share_bytecode(folder: Path) -> None:
    """Keep compiled files in a folder, for this process and those that it starts.

    Where they may stand beside the sources nothing is done. The first process of a test run calls this; its workers
    find it done.
    """
    if not sys.dont_write_bytecode or sys.pycache_prefix:
        return
    # What was compiled of modules that earlier runs wrote into their temporary folders is of no more use.
    temporary = folder.joinpath(*Path(tempfile.gettempdir()).resolve().parts[1:])
    for left in temporary.glob("pytest-of-*"):
        shutil.rmtree(left, ignore_errors=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
    sys.dont_write_bytecode = False
