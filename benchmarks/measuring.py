"""Measuring a figure in processes of its own: of this checkout, or of this one and another in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import CHECKOUT
from benchmarks.pairs import Samples, Setting, Skipped, interleave

ROOT = Path(__file__).resolve().parents[1]


class Child:
    """A process that measures one figure each time it is asked.

    Args:
        process: the process.
        name: the figure.
    """

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def measure(self) -> Samples:
        """Measure once more.

        Raises:
            Skipped: the figure can't be measured here.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the figure {self._name} could not be measured: its process ended in {self._process.wait()}")
        found = json.loads(line)
        if "skipped" in found:
            raise Skipped(found["skipped"])
        return Samples(**found)

    def cost(self) -> float:
        """Measure once more, and return what ours costs."""
        return median(self.measure().ours)


def measure(name: str, setting: Setting) -> Samples:
    """Measure a figure of this checkout: ours against the floor."""
    with _running(name, setting) as child:
        return child.measure()


def measure_against(other: Path, name: str, setting: Setting) -> Samples:
    """Measure a figure of this checkout (ours) and of another one (in the place of the floor) in turns.

    Both are measured by the code that stands here, each in a process of its own that stays warm.
    """
    once = Setting(1, setting.is_quick, setting.url)
    with _running(name, once, other) as there, _running(name, once) as here:
        return interleave(there.cost, here.cost, setting.pairs)


@contextmanager
def _running(name: str, setting: Setting, checkout: Path | None = None) -> Iterator[Child]:
    size = "quick" if setting.is_quick else "full"
    command = [sys.executable, "-m", "benchmarks.child", name, str(setting.pairs), size, setting.url]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(checkout)
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Child(process, name)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(60)


def _environment(checkout: Path | None) -> dict[str, str]:
    # A proxy of the machine's would stand between the client and the loopback server.
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return environment if checkout is None else {**environment, CHECKOUT: str(checkout.resolve())}
