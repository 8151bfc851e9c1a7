"""The answer cache: what was asked before is answered out of a journal, event for event."""

from __future__ import annotations

import re
import time
from pathlib import Path

import anyio
import pytest

import mellea
from mellea import prices
from mellea.backends.cached import CachedBackend
from mellea.core import Requirement, ToolCall, Usage
from mellea.core.events import ReasoningDelta, TextDelta, ToolEnd
from mellea.errors import InterruptedStreamError, RateLimitError, StateError
from mellea.testing import Pause, ScriptedBackend

pytestmark = pytest.mark.anyio


async def test_what_was_asked_before_is_not_asked_again(tmp_path: Path) -> None:
    backend = ScriptedBackend([ReasoningDelta("hm"), "Hello, ", "you"], usage=Usage(3, 4))
    thunks = []
    for _ in range(3):
        session = mellea.start_session(backend, cache=tmp_path / "runs.db")
        thunks.append(await session.ainstruct("Greet me."))
    assert len(backend.requests) == 1
    assert {(thunk.value, thunk.thinking, thunk.usage, thunk.finish_reason) for thunk in thunks} == {
        ("Hello, you", "hm", Usage(3, 4), "stop")
    }
    assert thunks[0].request is not None and thunks[1].request is not None
    assert (thunks[0].request.backend, thunks[1].request.backend) == ("scripted", "cache")


async def test_a_kept_answer_costs_nothing(tmp_path: Path) -> None:
    prices.set_prices({"scripted/script": prices.Price(input=1.0, output=1.0)})
    try:
        backend = ScriptedBackend("x", usage=Usage(3, 4))
        first = mellea.start_session(backend, cache=tmp_path / "runs.db")
        await first.ainstruct("x")
        second = mellea.start_session(backend, cache=tmp_path / "runs.db")
        thunk = await second.ainstruct("x")
        assert first.cost == pytest.approx(7 / 1e6)
        assert second.cost == thunk.cost == 0.0
    finally:
        prices.reset_prices()


async def test_another_model_option_or_context_is_another_request(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda request: str(len(backend.requests)))
    session = mellea.start_session(backend, ctx=mellea.ChatContext(), cache=tmp_path / "runs.db")
    said = [str(await session.achat("x")), str(await session.achat("x"))]
    said.append(str(await session.ainstruct("y", model_options={"temperature": 0.1})))
    assert said == ["1", "2", "3"]
    backend.model_id = "other"
    again = mellea.start_session(backend, ctx=mellea.ChatContext(), cache=tmp_path / "runs.db")
    assert str(await again.achat("x")) == "4"


async def test_attempts_of_one_call_have_answers_of_their_own(tmp_path: Path) -> None:
    backend = ScriptedBackend("no", "yes")
    is_yes = Requirement("is yes", validation_fn=lambda context: str(context) == "yes", check_only=True)
    for _ in range(2):
        session = mellea.start_session(backend, cache=tmp_path / "runs.db")
        assert (await session.ainstruct("x", requirements=[is_yes])).value == "yes"
    assert len(backend.requests) == 2


async def test_failures_and_cut_answers_are_not_kept(tmp_path: Path) -> None:
    cut = ScriptedBackend("half", is_cut=True)
    with pytest.raises(InterruptedStreamError):
        await mellea.start_session(cut, cache=tmp_path / "runs.db").ainstruct("x")
    backend = ScriptedBackend(RateLimitError("no"), "whole")
    session = mellea.start_session(backend, cache=tmp_path / "runs.db")
    with pytest.raises(RateLimitError):
        await session.ainstruct("x")
    assert (await session.ainstruct("x")).value == "whole"
    assert (await session.ainstruct("x")).value == "whole"
    assert len(backend.requests) == 2


async def test_streams_and_tools_come_out_of_the_cache_too(tmp_path: Path) -> None:
    def look(place: str) -> str:
        """Look."""
        return f"a cat in {place}"

    call = ToolEnd(ToolCall("c", "look", {"place": "Rome"}))
    backend = ScriptedBackend(lambda request: [call] if len(request.messages) == 1 else ["A ", "cat."])
    logs = []
    for _ in range(2):
        session = mellea.start_session(backend, cache=tmp_path / "runs.db")
        stream = session.astream("x", tools=[look], tool_calls="run")
        logs.append([event async for event in stream.events()])
    assert logs[0] == logs[1]
    assert [event.chunk for event in logs[1] if isinstance(event, TextDelta)] == ["A ", "cat."]
    assert len(backend.requests) == 2


async def test_an_answer_is_replayed_with_its_timing_where_that_is_asked_for(tmp_path: Path) -> None:
    backend = ScriptedBackend(["a", Pause(0.15), "b"])
    took = []
    for is_timed in (False, False, True):
        session = mellea.MelleaSession(CachedBackend(backend, tmp_path / "runs.db", is_timed=is_timed))
        began = time.monotonic()
        assert (await session.ainstruct("x")).value == "ab"
        took.append(time.monotonic() - began)
    assert took[2] >= 0.14


async def test_a_stream_that_is_left_closes_the_model(tmp_path: Path) -> None:
    backend = ScriptedBackend(["a", Pause(float("inf"))])
    session = mellea.start_session(backend, cache=tmp_path / "runs.db")
    async with session.astream("x") as stream:
        assert await anext(aiter(stream)) == "a"
    with anyio.fail_after(30):
        while not all(backend.closed):
            await anyio.sleep(0.01)


@pytest.mark.parametrize("where", ["", "missing/run.db", "garbage.db"])
async def test_a_file_that_cannot_be_used_is_named_and_no_fault_of_the_model(tmp_path: Path, where: str) -> None:
    (tmp_path / "garbage.db").write_text("no database at all")
    backend = ScriptedBackend("x")
    async with mellea.start_session(backend, cache=tmp_path / where) as m:
        with pytest.raises(StateError, match=re.escape(str(tmp_path / where))) as caught:
            await m.ainstruct("Go.")
    assert "scripted" not in str(caught.value)
    assert backend.requests == []


async def test_one_file_is_a_journal_and_a_cache(tmp_path: Path) -> None:
    backend = ScriptedBackend("x")
    session = mellea.start_session(backend, cache=tmp_path / "runs.db")
    rows = [row async for row in mellea.amap(session.instruct, ["a", "b"], journal=tmp_path / "runs.db")]
    assert [row.value and row.value.value for row in rows] == ["x", "x"]
