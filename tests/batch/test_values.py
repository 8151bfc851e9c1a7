"""Values in a journal come back as they were, or are refused before more is paid for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mellea.batch import map as map_rows
from mellea.errors import UsageError


def test_bytes_come_back_as_they_were(tmp_path: Path) -> None:
    @dataclass
    class Note:
        data: bytes
        many: list[bytes]

    def note(n: int) -> Note:
        return Note(b"abc \xc3\xa4" * n, [b"", b"\0"])

    def draw(n: int) -> bytes:
        return b"\xff\0"

    for is_cached in (False, True):
        [row] = map_rows(note, [1], journal=tmp_path / "run.db")
        assert (row.value, row.cached) == (note(1), is_cached)
    with pytest.raises(UsageError, match=r"a bytes holds bytes that aren't text in UTF-8, .* base64"):
        list(map_rows(draw, [1], journal=tmp_path / "run.db"))


def test_a_value_that_is_not_of_the_annotated_type_is_refused_at_once(tmp_path: Path) -> None:
    asked = []

    def count(n: int) -> int:
        asked.append(n)
        return "many"  # type: ignore[return-value]

    with pytest.raises(
        UsageError, match=r"count\(\) returned 'many', which is not a valid int, .*: Input should be a valid integer"
    ):
        list(map_rows(count, range(100), journal=tmp_path / "run.db", concurrency=1))
    assert len(asked) == 1
