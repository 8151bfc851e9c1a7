"""Run the Python fences of one chapter in their order, in one namespace: `run_chapter.py PAGE CHAPTER`.

A fence with `await` at its top level runs on one event loop that stays open from fence to fence, as in a notebook; the
others run as in a script. Tests that a fence defines are run too. A fence that prints something else than the page says
fails. Each fence is announced by its line of the page.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

from tests.docs import stand_in
from tests.docs.fences import ROOT, Fence, fences


class _Copy(io.StringIO):
    """What a fence prints, shown as well."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)  # type: ignore[union-attr]
        return super().write(text)


def run(fence: Fence, namespace: dict[str, Any], runner: asyncio.Runner) -> None:
    name = fence.page.relative_to(ROOT).as_posix() if fence.page.is_relative_to(ROOT) else str(fence.page)
    code = "\n" * (fence.line - 1) + fence.code  # so that a traceback names the line of the page
    # This file's own `from __future__` isn't theirs.
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    print(f"\n--- {name}:{fence.line}", flush=True)
    known = set(namespace)
    with contextlib.redirect_stdout(_Copy()) as printed:
        _settle(eval(compiled, namespace), runner)
        for test in _tests(namespace, namespace.keys() - known):
            with contextlib.suppress(SkipTest):
                _settle(test(), runner)
    if fence.printed is not None and not stand_in.has_answered():
        assert printed.getvalue().strip() == fence.printed.strip(), (
            f"{name}:{fence.line} says that this is printed:\n{fence.printed}"
        )


def _tests(namespace: dict[str, Any], names: Iterable[str]) -> Iterator[Callable[[], Any]]:
    """Find the tests as pytest does: functions, and methods of classes."""
    for name in sorted(names):
        if name.startswith("test_"):
            yield namespace[name]
        elif name.startswith("Test"):
            for method in inspect.getmembers(namespace[name](), inspect.ismethod):
                if method[0].startswith("test_"):
                    yield method[1]


def _settle(result: Any, runner: asyncio.Runner) -> None:
    if inspect.iscoroutine(result):
        runner.run(result)


def main(page: Path, chapter: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    # What a fence writes, such as `journal="run.db"`, is written where nothing is.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), asyncio.Runner() as runner:
        for fence in fences(page):
            if fence.chapter == chapter and fence.language == "python":
                run(fence, namespace, runner)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
