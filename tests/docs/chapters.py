"""Runs chapters of the documentation, each in a fresh process that need not import everything once more.

One process imports what nearly every chapter uses, and begins nothing of it: no thread, no model, no client. For each
chapter it forks. So a chapter finds what a program finds that has just made its imports, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs import run_chapter
from tests.docs.fences import ROOT
from tests.docs.programs import PYTHON, SECONDS, Watched, environment, watch

__all__ = ["Chapters", "chapters"]

IMPORTS = (
    *("mellea", "mellea.stdlib.session", "mellea.stdlib.streaming", "mellea.core.structured", "mellea.testing"),
    *("mellea.backends.llama_cpp", "anyio._backends._asyncio", "httpx", "pydantic.main", "jinja2", "xllamacpp"),
)


class Chapters:
    """The process that forks; where there is no fork, each chapter starts a Python of its own."""

    def __init__(self, process: subprocess.Popen[str] | None, folder: Path) -> None:
        self._process = process
        self._out, self._err = folder / "out", folder / "err"

    def run(self, page: Path, chapter: str) -> Watched:
        if self._process is None:
            return watch([*PYTHON, "-m", "tests.docs.run_chapter", page, chapter])
        assert self._process.stdin and self._process.stdout
        print(page, chapter, self._out, self._err, sep="\t", file=self._process.stdin, flush=True)
        timer = threading.Timer(SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        timer.start()
        code = self._process.stdout.readline()
        timer.cancel()
        out, err = self._out.read_text("utf-8"), self._err.read_text("utf-8")
        assert code, f"not done after {SECONDS:g} s; it wrote {out}\n{err}"
        return Watched(int(code), out, err)


@contextmanager
def chapters(folder: Path) -> Iterator[Chapters]:
    """Give what runs chapters; their output goes through files in that folder."""
    if not hasattr(os, "fork"):
        yield Chapters(None, folder)
        return
    command = [*PYTHON, "-m", "tests.docs.chapters"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # so that all of it can be ended at once
    ) as process:
        yield Chapters(process, folder)
        assert process.stdin
        process.stdin.close()


def serve() -> None:
    for name in IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        page, chapter, out, err = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            _become(out, err)
            run_chapter.main(Path(page), chapter)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(out: str, err: str) -> None:
    for name, fd in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, fd)
        os.close(opened)


if __name__ == "__main__":
    serve()
