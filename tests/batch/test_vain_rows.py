"""A map ends with an error if all its rows fail for one reason that concerns them all, however few rows there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea import amap
from mellea.batch import Row
from mellea.errors import ConnectError, NotFoundError, UsageError
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


def make_classify(backend: ScriptedBackend) -> Any:
    @mellea.generative(session=mellea.MelleaSession(backend))
    def classify(text: str) -> str:
        """Classify a mail."""

    return classify


async def collect(rows: Any) -> list[Row[Any]]:
    return [row async for row in rows]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("has_journal", [False, True])
@pytest.mark.parametrize("error", [NotFoundError("no such model"), ConnectError("is the server running?"), None])
async def test_it_ends_with_the_reason_of_all_rows_however_few_there_are(
    error: Exception | None, has_journal: bool, count: int, tmp_path: Path
) -> None:
    function = make_classify(ScriptedBackend("a" if error is None else error))
    rows: list[Any] = [{"text" if error is not None else "letter": "x"}] * count
    found: list[Row[Any]] = []
    with pytest.raises(UsageError if error is None else type(error)) as caught:
        async for row in amap(
            function, rows, concurrency=1, retries=0, journal=tmp_path / "run.db" if has_journal else None
        ):
            found.append(row)
    assert len(found) == min(count, 2)
    assert all(str(row.error) == str(caught.value) and row.error is not caught.value for row in found)
    if error is None:
        assert "rename 'letter' to 'text'" in str(caught.value)


async def test_rows_that_failed_for_several_reasons_or_beside_an_answer_end_nothing(tmp_path: Path) -> None:
    function, path = make_classify(ScriptedBackend("spam")), tmp_path / "run.db"
    for rows in ([{"letter": "x"}, {"note": "x"}], [{"letter": "x"}, {"text": "x"}], [{"text": "x"}, {"letter": "x"}]):
        assert len(await collect(amap(function, rows, concurrency=1, journal=path))) == 2
    assert await collect(amap(function, [], journal=path)) == []
    # The answer may also be that of an earlier run.
    again = await collect(amap(function, [{"text": "x"}, {"letter": "y"}], concurrency=1, journal=path))
    assert [row.cached for row in again] == [True, False]
    both = amap(function, [{"letter": "x"}, {"letter": "x"}], concurrency=1)
    await anext(both)
    await both.aclose()  # who leaves early gets no error
