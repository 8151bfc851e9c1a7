"""The programs of other libraries beside ours: they are Python, and run where their library is installed.

Some libraries want other versions than ours is tested with. Each file in `others/` is an environment of its own; CI
makes them, and says in `MELLEA_OTHERS` in which folder they are.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.canned_server import CannedServer
from tests.docs.fences import PAGES, THEIRS, Fence, fences
from tests.docs.programs import PYTHON, watch

FENCES = [fence for page in PAGES if page.parent.name == "coming-from" for fence in fences(page)]
PROGRAMS = [fence for fence in FENCES if fence.language == THEIRS]


def _name(fence: Fence) -> str:
    return f"{fence.page.stem}: {fence.chapter}"


def _imports(fence: Fence) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(fence.code)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 36


@pytest.mark.parametrize("fence", PROGRAMS, ids=_name)
def test_a_program_of_theirs_is_complete(fence: Fence) -> None:
    defined = {name for name in _imports(fence) if name not in sys.stdlib_module_names}
    assert defined, "it imports the library that it shows"


@pytest.mark.parametrize("fence", PROGRAMS, ids=_name)
def test_each_of_their_programs_has_ours_beside_it(fence: Fence) -> None:
    below = FENCES[FENCES.index(fence) + 1]
    assert (below.language, below.chapter) == ("python", fence.chapter)


@pytest.fixture(scope="module")
def server() -> Iterator[CannedServer]:
    with CannedServer.running() as server:
        yield server


# Mellea 0.8 has the name of this package; its programs don't run in ours.
RUNNING = [fence for fence in PROGRAMS if "mellea" not in _imports(fence)]


REFUSED = {"alloy: Items of a list": "Streaming supports text-only commands"}
"""What the page says that their release can't do, and what it says to it."""


def _find_python(names: set[str]) -> Path | str:
    """Return a Python that has the packages, or skip the test."""
    missing = [name for name in names - sys.stdlib_module_names if importlib.util.find_spec(name) is None]
    if not missing:
        return PYTHON[0]
    for environment in sorted(Path(os.environ.get("MELLEA_OTHERS", "nowhere")).glob("*")):
        if all(any(environment.glob(f"lib/python*/site-packages/{name}")) for name in missing):
            return environment / "bin" / "python"
    pytest.skip(f"{missing[0]} isn't installed")


@pytest.mark.parametrize("fence", RUNNING, ids=_name)
@pytest.mark.sample(12)  # their imports take a second each
def test_a_program_of_theirs_runs_against_a_canned_server(fence: Fence, server: CannedServer) -> None:
    done = watch([_find_python(_imports(fence)), "-c", fence.code], **server.environment)
    if refusal := REFUSED.get(_name(fence)):
        assert refusal in done.err
        return
    assert done.returncode == 0, done.err
    assert done.out.strip()
