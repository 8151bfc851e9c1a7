"""One launch, and records that nobody outside the core reaches into."""

from __future__ import annotations

import ast

import pytest

from tests.house.tree import PACKAGE, name, parse, python_files

CORE = PACKAGE / "core"

THUNKS_OWN = {"_run", "_poll", "_compute", "_compute_blocking", "_deliver", "_done", "_begun_poll"}
"""Private to a thunk; `record`, `so_far()`, `deliver()`, `read_items()` and `read_partials()` are public."""

RECORDS_OWN = {"_clock", "_closed", "_folded", "_live", "_loop", "_lock", "_sampling", "_task", "_waiters", "_wake"}


def attributes(tree: ast.Module, names: set[str], holders: set[str]) -> list[int]:
    """Return the lines where such an attribute of something that is called so is read or set."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            holder = node.value
            called = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            if called in holders or (node.attr == "_run" and called != "self"):
                found.append(node.lineno)
    return found


THUNKS = {"thunk", "output", "verdict", "first", "last", "answer", "_thunk", "result"}
RECORDS = {"run", "record", "inner", "outer", "_run", "request"}


def test_nobody_outside_the_core_touches_what_a_thunk_keeps_for_itself() -> None:
    outside = [path for path in python_files(PACKAGE) if not path.is_relative_to(CORE)]
    bad = {
        name(path): lines
        for path in outside
        if (lines := attributes(parse(path), THUNKS_OWN, THUNKS) + attributes(parse(path), RECORDS_OWN, RECORDS))
    }
    assert not bad, f"use thunk.record, thunk.so_far() or thunk.deliver(): {bad}"


def test_only_the_launch_makes_a_run() -> None:
    bad = {}
    for path in python_files(PACKAGE):
        if path == CORE / "runtime" / "launch.py":
            continue
        tree = parse(path)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        lines = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Run"]
        if lines:
            bad[name(path)] = lines
    assert not bad, f"work begins with launch(…): {bad}"


def test_requests_are_sent_in_one_place() -> None:
    """So that every one of them passes the hooks of observers."""
    bad = {}
    for path in python_files(PACKAGE):
        if (
            path == CORE / "runtime" / "launch.py"
            or path.is_relative_to(PACKAGE / "backends")
            or path.parent.name == "testing"
        ):
            continue
        calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
        ways = [ast.unparse(call.func) for call in calls]
        if lines := [call.lineno for call, way in zip(calls, ways, strict=True) if way.endswith("backend.run")]:
            bad[name(path)] = lines
    assert not bad, f"a request is sent by core.runtime.send(…): {bad}"


@pytest.mark.parametrize("file", ["record.py", "producer.py", "launch.py", "waits.py"])
def test_the_machines_are_short_and_open_with_their_rules(file: str) -> None:
    lines = (CORE / "runtime" / file).read_text("utf-8").splitlines()
    assert len(lines) < 300
    assert file == "launch.py" or "Rules:" in lines[:4]
