"""Runs chapters and example programs, each in a fresh process that need not import everything once more.

One process imports what nearly every chapter uses, and begins nothing of it: no thread, no model, no client. For each
chapter it forks. So a chapter finds what a program finds that has just made its imports, and leaves nothing behind.

In a quick run a stand-in answers in the embedded model's place: `tests/docs/stand_in.py`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs import run_chapter, stand_in
from tests.docs.fences import ROOT
from tests.docs.programs import PYTHON, SECONDS, Watched, environment, watch
from tests.soak import is_thorough

__all__ = ["Chapters", "chapters"]

IMPORTS = (
    *("mellea", "mellea.stdlib.session", "mellea.stdlib.streaming", "mellea.core.structured", "mellea.testing"),
    *("mellea.backends.llama_cpp", "anyio._backends._asyncio", "httpx", "pydantic.main", "jinja2", "xllamacpp"),
)


class Chapters:
    """The process that forks; where there is no fork, each chapter starts a Python of its own."""

    def __init__(self, process: subprocess.Popen[str] | None, folder: Path) -> None:
        self._process = process
        self._out, self._err, self._note = folder / "out", folder / "err", folder / "asked"

    def run_program(self, program: Path) -> Watched:
        """Run an example as a script, in an empty folder."""
        return self.run(program, "")

    def run(self, page: Path, chapter: str, *, asks_the_model: bool = False) -> Watched:
        """Run a chapter of a page, and have the model itself answer, if wanted, in a quick run as well."""
        if self._process is None:
            return watch(
                [*PYTHON, *([page] if page.suffix == ".py" else ["-m", "tests.docs.run_chapter", page, chapter])]
            )
        assert self._process.stdin and self._process.stdout
        self._note.unlink(missing_ok=True)
        note = "" if asks_the_model or is_thorough() else self._note
        print(page, chapter, self._out, self._err, note, sep="\t", file=self._process.stdin, flush=True)
        timer = threading.Timer(SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        timer.start()
        code = self._process.stdout.readline()
        timer.cancel()
        out, err = self._out.read_text("utf-8"), self._err.read_text("utf-8")
        assert code, f"not done after {SECONDS:g} s; it wrote {out}\n{err}"
        return Watched(int(code), out, err, is_by_stand_in=self._note.exists())


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
    # Else each child would look at all of it when it ends, and copy every page for that.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        page, chapter, out, err, note = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            _become(out, err)
            if note:
                stand_in.install(Path(note))
            _run(Path(page), chapter)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(page: Path, chapter: str) -> None:
    if page.suffix != ".py":
        run_chapter.main(page, chapter)
        return
    sys.argv = [str(page)]
    sys.path.insert(0, str(page.parent))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        runpy.run_path(str(page), run_name="__main__")


def _become(out: str, err: str) -> None:
    for name, fd in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, fd)
        os.close(opened)


if __name__ == "__main__":
    serve()
