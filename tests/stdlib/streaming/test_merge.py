"""Several streams as one: each event with its label, in the order in which they come; left and failing together."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import mellea
from mellea.core import ToolCall
from mellea.core.events import NestedEvent, StreamEnd, TextDelta, ToolEnd
from mellea.errors import RateLimitError, UsageError
from mellea.stdlib.agents import Agent
from mellea.stdlib.streaming import amerge_streams, merge_streams
from mellea.testing import Gate, Pause, ScriptedBackend

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


def texts(events: list[Any]) -> list[tuple[str, str]]:
    nested = [each for each in events if isinstance(each, NestedEvent)]
    return [(each.path, each.event.chunk) for each in nested if isinstance(each.event, TextDelta)]


async def test_events_come_in_their_order_each_with_the_label_of_its_stream() -> None:
    gates = [Gate(), Gate()]
    left = Agent(ScriptedBackend(["a", gates[0], "c"])).astream("x")
    right = mellea.start_session(ScriptedBackend(["b", gates[1], "d"])).astream("x")
    events: list[Any] = []
    async with amerge_streams({"left": left, "right": right}) as merged:
        async for event in merged.events():
            events.append(event)
            if len(texts(events)) == 2:
                gates[0].open()
            if len(texts(events)) == 3:
                gates[1].open()
    assert sorted(texts(events)[:2]) == [("left", "a"), ("right", "b")]
    assert texts(events)[2:] == [("left", "c"), ("right", "d")]
    assert (left.result.value, right.result.value, merged.result.value) == ("ac", "bd", "")
    assert isinstance(events[-1], StreamEnd)


async def test_events_of_sub_agents_have_their_path_behind_the_label() -> None:
    inner = Agent(ScriptedBackend("Found."), name="finder")
    asks = ToolEnd(ToolCall("c1", "finder", {"task": "x"}))
    outer = Agent(ScriptedBackend([asks], "Done."), [inner])
    stream = amerge_streams({"left": outer.astream("x")})
    assert texts([event async for event in stream.events()]) == [("left/finder/1", "Found."), ("left", "Done.")]


def test_plain_code_reads_them_as_well() -> None:
    streams = {name: Agent(ScriptedBackend(name)).astream("x") for name in ("a", "b")}
    assert sorted(texts(list(merge_streams(streams).events()))) == [("a", "a"), ("b", "b")]
    assert [stream.result.value for stream in streams.values()] == ["a", "b"]


async def test_a_generator_tool_may_relay_them() -> None:
    async def both(topic: str) -> Any:
        """Ask two at once."""
        streams = {name: Agent(ScriptedBackend(name)).astream(topic) for name in ("a", "b")}
        async for event in amerge_streams(streams).events():
            yield event
        yield " and ".join([stream.result.value for stream in streams.values()])

    agent = Agent(ScriptedBackend([ToolEnd(ToolCall("c1", "both", {"topic": "x"}))], "Done."), [both])
    async with agent.astream("x") as stream:
        events = [event async for event in stream.events()]
    assert sorted(texts(events)) == [("both/a", "a"), ("both/b", "b")]
    assert stream.result.steps[0].results[0].result == "a and b"


@pytest.mark.parametrize("way", ["leave", "fail"])
async def test_leaving_it_or_an_error_of_one_ends_all_of_them(way: str) -> None:
    backends = [
        ScriptedBackend(["a", FOREVER]),
        ScriptedBackend(["b", FOREVER if way == "leave" else RateLimitError("no")]),
    ]
    stream = amerge_streams({str(number): Agent(each).astream("x") for number, each in enumerate(backends)})
    with anyio.fail_after(5):
        if way == "fail":
            with pytest.raises(RateLimitError, match="no"):
                _ = [event async for event in stream.events()]
        else:
            async with stream:
                async for event in stream.events():
                    if isinstance(event, NestedEvent) and isinstance(event.event, TextDelta):
                        break
        while not all(all(backend.closed) for backend in backends):
            await anyio.sleep(0.005)


@pytest.mark.parametrize("wrong", [{}, [], {"": None}, {"a": 3}, {3: None}, {"a": "plain"}])
def test_what_isnt_streams_by_labels_is_refused(wrong: Any) -> None:
    if wrong == {"a": "plain"}:
        wrong = {"a": Agent(ScriptedBackend("x")).stream("x")}
    with pytest.raises(UsageError, match=r"streams by their labels|is a text|as astream"):
        amerge_streams(wrong)
