"""The figures of fresh processes: the import, and the way to the first text."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from benchmarks.pairs import Samples, Setting, interleave

IMPORT = "import benchmarks, time; before = time.process_time(); import mellea; print(time.process_time() - before)"


def import_time(setting: Setting) -> Samples:
    """Seconds of CPU of `import mellea`, without the interpreter's own start."""
    command = [sys.executable, "-c", IMPORT]

    def once() -> float:
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    once()
    return Samples([], [once() for _ in range(setting.pairs)])


def first_text(setting: Setting) -> Samples:
    """Seconds of CPU of a whole process that prints the first text of a short answer.

    Both find their bytecode compiled, as an installed package's is after its first run. Where the environment forbids
    Python to write it, compiling all sources anew would be most of what is measured.
    """
    with tempfile.TemporaryDirectory() as bytecode:
        return _first_text(setting, _keep_bytecode(bytecode))


def _keep_bytecode(folder: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": folder}


def _first_text(setting: Setting, environment: dict[str, str]) -> Samples:
    def program(which: str) -> float:
        arguments = [sys.executable, "-m", "benchmarks.first_text", which, f"{setting.url}/chunks=3"]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"the program of {which} failed"
        return used.ru_utime + used.ru_stime

    return interleave(lambda: program("floor"), lambda: program("ours"), setting.pairs)
