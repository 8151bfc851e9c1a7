"""A map that another thread or task cancels: its reader is told, and its requests stop."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, Awaitable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mellea
from mellea.errors import GenerationCancelledError, UsageTypeError
from mellea.testing import Pause, ScriptedBackend
from tests.waiting import until, until_here


def make_backend() -> ScriptedBackend:
    """Answers the first row, and then nothing for an hour."""
    return ScriptedBackend("Fine.", [Pause(3600), "never"], [Pause(3600), "never"])


def test_another_thread_cancels_a_map(tmp_path: Path) -> None:
    backend = make_backend()
    rows = mellea.map(mellea.MelleaSession(backend).instruct, ["a", "b", "c"], concurrency=1, journal=tmp_path / "j.db")
    found: list[Any] = []

    def cancel() -> None:
        until_here(lambda: len(backend.requests) == 2)
        rows.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(GenerationCancelledError, match=r"cancelled by cancel.*1 rows? (is|are) done and saved"):
        for row in rows:
            found.append(row.value.value)
    thread.join()
    assert found == ["Fine."]
    until_here(lambda: all(backend.closed))
    assert list(rows) == []


@pytest.mark.anyio
async def test_another_task_cancels_an_async_map() -> None:
    backend = make_backend()
    rows = mellea.amap(mellea.MelleaSession(backend).instruct, ["a", "b", "c"], concurrency=1)

    async def cancel() -> None:
        await until(lambda: len(backend.requests) == 2)
        rows.cancel()

    with anyio.fail_after(30), pytest.raises(GenerationCancelledError):
        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            try:
                async for _ in rows:
                    pass
            except GenerationCancelledError as error:
                failure = error
        raise failure
    await until(lambda: all(backend.closed))


def test_a_map_that_is_cancelled_before_it_begins_sends_nothing() -> None:
    backend = make_backend()
    rows = mellea.map(mellea.MelleaSession(backend).instruct, ["a"])
    rows.cancel()
    with pytest.raises(GenerationCancelledError):
        next(rows)
    assert backend.requests == []


def test_cancelling_a_map_that_has_ended_does_nothing() -> None:
    rows = mellea.map(mellea.MelleaSession(ScriptedBackend("Fine.")).instruct, ["a"])
    assert len(list(rows)) == 1
    rows.cancel()
    assert list(rows) == []


# -- read in the wrong way ------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_wrong_kind_of_block_says_what_to_write() -> None:
    m = mellea.MelleaSession(ScriptedBackend("Fine."))
    rows: Any = mellea.map(m.instruct, ["a"])
    with pytest.raises(UsageTypeError, match=r"async for row in mellea\.amap"):
        async with rows:
            pass
    wrong: Any = mellea.amap(m.instruct, ["a"])
    with pytest.raises(UsageTypeError, match=r"in plain code, mellea\.map"), wrong:
        pass


def test_the_rows_of_a_map_are_rows_for_another_one() -> None:
    m = mellea.MelleaSession(ScriptedBackend(lambda request: request.messages[-1].text.upper()))

    def repeat(row: Any) -> str:
        return str(m.instruct(row.value.value))

    first = mellea.map(m.instruct, ["a", "b"])
    assert not isinstance(first, (AsyncIterable, Awaitable))
    assert [row.value for row in mellea.map(repeat, first, version="1")] == ["A", "B"]
