"""Streams of agents: chunks of the answer alone, each once, one of them final; live ones; typed ones; leaving."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from mellea import StreamChunk
from mellea.core import ToolCall
from mellea.core.events import StreamEnd, TextDelta, ToolDelta, ToolEnd, ToolStart
from mellea.errors import InterruptedStreamError, ParseError, ToolLoopLimitError, UsageError
from mellea.stdlib.agents import Agent, Limits
from mellea.stdlib.tools import ToolLoop, tool
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import cancel_once, until

pytestmark = pytest.mark.anyio

TWO = ("Let me look.", ["A cat, ", "in Rome."])


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


def call(number: int = 1) -> list[Any]:
    whole = ToolCall(f"c{number}", "look", {"place": "Rome"})
    return [ToolStart(f"c{number}", "look"), ToolDelta(f"c{number}", '{"place": "Rome"}'), ToolEnd(whole)]


def two_steps() -> ScriptedBackend:
    return ScriptedBackend(["Let me ", "look.", *call()], ["A cat, ", "in Rome."])


async def chunks_of(agent: Agent[Any], **how: Any) -> list[StreamChunk]:
    return [chunk async for chunk in agent.astream("x", **how)]


async def test_chunks_are_those_of_the_answer_alone() -> None:
    stream = Agent(two_steps(), [look]).astream("x")
    assert [chunk async for chunk in stream] == [StreamChunk("A cat, ", 2), StreamChunk("in Rome.", 2, is_final=True)]
    assert stream.result.value == stream.output == "A cat, in Rome."


def test_a_plain_stream_gives_the_same_chunks_and_events() -> None:
    stream = Agent(two_steps(), [look]).stream("x")
    assert list(stream) == [StreamChunk("A cat, ", 2), StreamChunk("in Rome.", 2, is_final=True)]
    assert list(stream) == [StreamChunk("A cat, in Rome.", 2, is_final=True)]  # again, once the deltas are joined
    assert stream.result.value == "A cat, in Rome."
    with Agent(two_steps(), [look]).stream("x") as stream:
        assert [event.chunk for event in stream.events() if isinstance(event, TextDelta)] == [
            "Let me ",
            "look.",
            "A cat, ",
            "in Rome.",
        ]


@pytest.mark.parametrize(("size", "texts"), [(3, ["Äö", "ü👩‍👩‍👧é", "!"]), (1, None), (100, None)])
async def test_chunks_are_cut_between_what_a_reader_sees_as_characters(size: int, texts: Any) -> None:
    answer = "Äöü👩‍👩‍👧é!"
    pieces = [list(answer), [answer]]
    for script in pieces:
        chunks = await chunks_of(Agent(ScriptedBackend(script)), chunk_size=size)
        assert "".join(chunk.text for chunk in chunks) == answer
        assert [chunk.is_final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert len(chunks) == -(-6 // size)
        live = await chunks_of(Agent(ScriptedBackend(script)), chunk_size=size, live=True)
        assert [chunk.text for chunk in live[:-1]] == [chunk.text for chunk in chunks]
        assert live[-1] == StreamChunk("", 1, is_final=True)


async def test_live_chunks_come_at_once_each_with_its_step() -> None:
    gate = Gate()
    backend = ScriptedBackend(["Let me ", gate, "look.", *call()], ["A cat, ", "in Rome."])
    seen = []
    async for chunk in Agent(backend, [look]).astream("x", live=True):
        seen.append(chunk)
        gate.open()  # the first chunk came before this
    assert seen == [
        StreamChunk("Let me ", 1),
        StreamChunk("look.", 1),
        StreamChunk("A cat, ", 2),
        StreamChunk("in Rome.", 2),
        StreamChunk("", 2, is_final=True),
    ]


async def test_safe_chunks_and_live_events_are_of_one_run() -> None:
    backend = two_steps()
    async with Agent(backend, [look]).astream("x") as stream:
        events = [event async for event in stream.events()]
        chunks = [chunk async for chunk in stream]
    assert len(backend.requests) == 2
    assert isinstance(events[-1], StreamEnd)
    assert "".join(chunk.text for chunk in chunks) == "A cat, in Rome."


async def test_an_empty_answer_is_one_empty_final_chunk() -> None:
    assert await chunks_of(Agent(ScriptedBackend([]))) == [StreamChunk("", 1, is_final=True)]
    assert await chunks_of(Agent(ScriptedBackend(call(), [""]), [look])) == [StreamChunk("", 2, is_final=True)]


async def test_at_the_limit_the_last_chunk_of_the_fallback_is_final() -> None:
    backend = ScriptedBackend(["Let me ", "look.", *call()], call(2))
    agent = Agent(backend, [look], loop=ToolLoop(2, on_limit="return"))
    assert await chunks_of(agent) == [StreamChunk("Let me ", 1), StreamChunk("look.", 1, is_final=True)]
    stream = Agent(ScriptedBackend(call()), [look], loop=ToolLoop(2, on_limit="return")).astream("x")
    assert [chunk async for chunk in stream] == [StreamChunk("", 2, is_final=True)]
    assert stream.result.limit == "steps"


async def test_without_a_fallback_there_is_no_final_chunk() -> None:
    seen = []
    with pytest.raises(ToolLoopLimitError):
        async for chunk in Agent(ScriptedBackend(["Hm.", *call()]), [look], limits=Limits(steps=2)).astream("x"):
            seen.append(chunk)
    assert seen == []
    with pytest.raises(InterruptedStreamError):
        async for chunk in Agent(ScriptedBackend("Half", is_cut=True)).astream("x"):
            seen.append(chunk)
    assert seen == []


async def test_a_run_that_waits_for_a_person_has_no_final_chunk() -> None:
    asks = tool(requires_approval=True)(look)
    stream = Agent(ScriptedBackend(["May I?", *call()]), [asks]).astream("x")
    assert [chunk async for chunk in stream] == []
    assert stream.result.pending is not None


@pytest.mark.parametrize("wrong", [{"chunk_size": 0}, {"live": 1}, {"release": "word"}, {"release": "step"}])
def test_a_wrong_argument_is_an_error_before_anything_is_sent(wrong: dict[str, Any]) -> None:
    backend = ScriptedBackend("x")
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Agent(backend).stream("x", **wrong)
    assert backend.requests == []


# -- typed answers over tools -------------------------------------------------------------------------


async def test_items_come_while_the_answer_is_written() -> None:
    gate = Gate()
    backend = ScriptedBackend(["I look first.", *call()], ["[1, ", gate, "2]"])
    async with Agent(backend, [look], output=list[int]).astream("x") as stream:
        items = []
        async for item in stream.items():
            items.append(item)
            gate.open()
    assert items == [1, 2]
    assert stream.output == [1, 2]


async def test_items_that_a_later_step_supersedes_are_an_error_that_names_the_way_out() -> None:
    def agent() -> Agent[list[int]]:
        return Agent(ScriptedBackend(["[1, 2]", *call()], ["[3]"]), [look], output=list[int])

    with pytest.raises(ParseError, match='release="step"') as raised:
        [item async for item in agent().astream("x").items()]
    assert raised.value.items == (1, 2)
    assert [item async for item in agent().astream("x", release="step").items()] == [3]
    assert (await agent().arun("x")).output == [3]


async def test_chunks_of_a_wrong_answer_end_well_and_its_output_raises() -> None:
    stream = Agent(ScriptedBackend("no numbers"), output=list[int]).astream("x")
    assert [chunk async for chunk in stream] == [StreamChunk("no numbers", 1, is_final=True)]
    with pytest.raises(ParseError):
        _ = stream.output


# -- leaving ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("script", [["Hm", Pause(float("inf"))], [*call(), Pause(float("inf"))], call()])
async def test_leaving_a_stream_stops_everything(script: list[Any], live: bool) -> None:
    ended = []

    async def look(place: str) -> str:
        """Look somewhere."""
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(place)
        return ""

    backend = ScriptedBackend(script)
    async with Agent(backend, [look]).astream("x", live=live) as stream:
        async for event in stream.events():
            if isinstance(event, (TextDelta, ToolEnd)):
                break
    backend.assert_closed()
    assert ended in ([], ["Rome"])
    begun = len(backend.requests)

    async def read() -> None:
        [chunk async for chunk in Agent(backend, [look]).astream("x", live=live)]

    await cancel_once(lambda: len(backend.requests) > begun, read)
    await until(lambda: all(backend.closed))  # a reader whose wait is cancelled waits for no close


def test_a_plain_stream_that_is_left_stops_everything() -> None:
    before = threading.active_count()
    backend = ScriptedBackend(["Hm", Pause(float("inf"))])
    with Agent(backend).stream("x", live=True) as stream:
        for _chunk in stream:
            break
    backend.assert_closed()
    assert threading.active_count() <= before + 1  # the thread of the synchronous verbs
