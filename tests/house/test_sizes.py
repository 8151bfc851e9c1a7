"""Files stay small, and their names say what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, files, name, python_files

LIMITS = {PACKAGE: 600, ROOT / "tests": 900, ROOT / "benchmarks": 600, ROOT / "docs": 600}
EMPTY_WORDS = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}


@pytest.mark.parametrize("folder", LIMITS, ids=name)
def test_no_file_is_too_long(folder: Path) -> None:
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in python_files(folder)}
    long = {path: length for path, length in lengths.items() if length > LIMITS[folder]}
    assert not long, f"over {LIMITS[folder]} lines; give each concept a file of its own: {long}"


def test_no_name_says_nothing() -> None:
    bad = [
        name(path)
        for path in files()
        if path.suffix == ".py"
        and EMPTY_WORDS & {part.lower() for part in path.relative_to(ROOT).with_suffix("").parts}
    ]
    assert not bad, f"a file or room is named after the concept it holds, or the verb it performs: {bad}"
