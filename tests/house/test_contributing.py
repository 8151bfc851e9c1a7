"""What CONTRIBUTING.md sends people to is there."""

from __future__ import annotations

import re

import pytest

from tests.house.tree import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PATHS = sorted(
    path for path in set(re.findall(r"`([\w./-]+(?:\.\w+|/))`", TEXT)) if "/" in path and not path.startswith("/")
)


def _places(path: str) -> list[str]:
    return [path, f"mellea/{path}", f"mellea/backends/{path}", f"mellea/core/{path}", f"mellea/stdlib/{path}"]


def test_there_are_paths_to_check() -> None:
    assert len(PATHS) > 30


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_a_newcomer_is_sent_to_is_there(path: str) -> None:
    assert any((ROOT / place).exists() for place in _places(path)), f"{path} isn't there"


def test_a_file_named_without_its_room_is_in_the_room_named_before_it() -> None:
    rows = [line.split("|")[2] for line in TEXT.splitlines() if line.startswith("| ") and line.count("|") == 3]
    for cell in rows:
        room = ROOT / "mellea"
        for path in re.findall(r"`([\w./<>]+(?:\.py|/))`", cell):
            if "<" in path:  # any backend's, which have the same files
                room, path = ROOT / "mellea/backends/anthropic", path.rpartition("/")[2]
            found = next((p for p in (ROOT / "mellea" / path, ROOT / path, room / path) if p.exists()), None)
            if found is None:
                found = next(iter((ROOT / "mellea").rglob(path)), None)
            assert found is not None, f"{path} in {cell.strip()!r} isn't there"
            room = found if found.is_dir() else found.parent
