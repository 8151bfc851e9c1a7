"""Runs that are made of other runs: what their readers see, and what they come to."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import pytest

from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.events import (
    AttemptAccepted,
    AttemptRejected,
    AttemptStart,
    ChunkValidated,
    Event,
    StepEnd,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolEnd,
    ToolResult,
    Usage,
    UsageEvent,
)
from mellea.core.iterators import TextIterator
from mellea.core.runtime import Run, launch
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import GenerationCancelledError, RequirementError

pytestmark = pytest.mark.anyio

CALL = ToolCall("c1", "look", {}, "{}")

ATTEMPTS: list[Event] = [
    AttemptStart(1),
    TextDelta("bad"),
    UsageEvent(Usage(10, 1)),
    AttemptRejected(1, "no bad"),
    AttemptStart(2),
    TextDelta("go"),
    TextDelta("od"),
    UsageEvent(Usage(12, 2)),
    AttemptAccepted(2),
    StreamEnd("stop"),
]

COMMITTED: list[Event] = [
    AttemptStart(1),
    TextDelta("One. Tw"),
    ChunkValidated(1, "One. ", is_committed=True),
    TextDelta("o bad. "),
    AttemptRejected(1, "no bad"),
    AttemptStart(2, "One. "),
    TextDelta("Two. Three."),
    ChunkValidated(2, "Two. ", is_committed=True),
    AttemptAccepted(2),
    StreamEnd("stop"),
]

STEPS: list[Event] = [
    StepStart(1),
    TextDelta("Let me look."),
    ToolEnd(CALL),
    UsageEvent(Usage(1, 1)),
    ToolResult(ToolOutput("c1", "look", "a cat")),
    StepEnd(1),
    StepStart(2),
    TextDelta("It is "),
    TextDelta("a cat."),
    UsageEvent(Usage(2, 2)),
    StepEnd(2),
    StreamEnd("stop"),
]


def playing(events: list[Event], parsed: Any = "parsed") -> ModelOutputThunk[Any]:
    async def work(run: Run) -> Any:
        for event in events:
            run.emit([event])
            await anyio.sleep(0)
        return parsed

    run = launch(work=work)
    return ModelOutputThunk(run)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (ATTEMPTS, "good"),
        (COMMITTED, "One. Two. Three."),
        (STEPS, "Let me look.\n\nIt is a cat."),
    ],
    ids=["attempts", "committed", "steps"],
)
async def test_text_readers_see_the_text_that_stays(events: list[Event], text: str) -> None:
    thunk = playing(events)
    assert "".join([piece async for piece in thunk]) == text
    assert (await thunk).value == text
    assert thunk.parsed == "parsed"
    assert "".join([piece async for piece in thunk]) == text  # and later ones as well
    again = pickle.loads(pickle.dumps(thunk))
    assert "".join([piece async for piece in again]) == text

    polled = playing(events)
    seen = ""
    while not polled.is_computed():
        now = await polled.astream()
        assert now.startswith(seen)
        seen = now
    assert seen == text


async def test_a_live_reader_sees_what_will_be_taken_back() -> None:
    assert "".join([piece async for piece in TextIterator(playing(ATTEMPTS), live=True)]) == "badgood"


async def test_chunks_that_passed_are_joined_at_the_end_like_the_text_that_they_are_of() -> None:
    words = [event for n in range(500) for event in (TextDelta("one "), ChunkValidated(1, "one ", n < 400))]
    thunk = await playing([AttemptStart(1), *words, AttemptAccepted(1), StreamEnd("stop")])
    assert [event async for event in thunk.events()] == [
        AttemptStart(1),
        TextDelta("one " * 500),
        ChunkValidated(1, "one " * 400, is_committed=True),
        ChunkValidated(1, "one " * 100),
        AttemptAccepted(1),
        StreamEnd("stop"),
    ]
    assert "".join([text async for text in thunk]) == "one " * 500


async def test_usage_is_that_of_all_requests_together() -> None:
    assert (await playing(ATTEMPTS)).usage == Usage(22, 3)
    assert (await playing(STEPS)).usage == Usage(3, 3)


async def test_an_earlier_attempt_may_be_the_result() -> None:
    events = [*ATTEMPTS[:-2], AttemptAccepted(1, is_valid=False), StreamEnd("stop")]
    thunk = playing(events)
    assert [piece async for piece in thunk] == ["bad"]
    assert thunk.value == "bad"


async def test_a_tool_loop_is_several_messages() -> None:
    thunk = await playing(STEPS)
    messages = thunk._run.so_far().messages
    assert [message.role for message in messages] == ["assistant", "tool", "assistant"]
    assert messages[0].tool_calls == (CALL,)
    assert thunk.message == messages[-1]
    assert thunk.message.content == "It is a cat."


async def test_every_event_can_be_read() -> None:
    assert [event async for event in playing(COMMITTED).events()] == COMMITTED


async def test_what_fails_in_the_work_comes_after_the_text_that_stays() -> None:
    async def work(run: Run) -> None:
        run.emit(COMMITTED[:5])
        raise RequirementError("no", partial="One. ")

    run = launch(work=work)
    thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
    pieces = []
    with pytest.raises(RequirementError) as caught:
        async for piece in thunk:
            pieces.append(piece)
    assert pieces == ["One. "]
    assert caught.value.partial == "One. "


async def test_cancelling_it_cancels_what_it_is_made_of() -> None:
    inner = []

    async def work(run: Run) -> None:
        async with playing([TextDelta("a"), StreamEnd("stop")]) as child:
            inner.append(child)
            run.emit([StepStart(1), TextDelta("a")])
            await anyio.sleep_forever()

    run = launch(work=work)
    thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
    assert await thunk.astream() == "a"
    await thunk.cancel()
    assert inner[0]._run.is_closed
    with pytest.raises(GenerationCancelledError):
        await thunk
