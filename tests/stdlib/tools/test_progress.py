"""Generator tools report while they run, and their result is what they return, or yield last."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import ToolCall, ToolOutput
from mellea.core.events import StepEnd, ToolEnd, ToolProgress, ToolResult
from mellea.stdlib.tools import ToolReturn, as_tool, run_call, run_calls, tool
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


def count(n: int) -> Iterator[int]:
    yield from range(n)


async def acount(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def search(word: str) -> Iterator[str]:
    yield f"looking for {word}"
    yield "found one"
    return "a cat"


def nothing() -> Iterator[int]:
    return
    yield 1


async def anothing() -> AsyncIterator[int]:
    return
    yield 1


def explicit() -> Iterator[Any]:
    yield 0.5
    yield ToolReturn([1, 2], text="two numbers")
    yield 1.0


async def aexplicit() -> AsyncIterator[Any]:
    for value in explicit():
        yield value


class Walker:
    def __call__(self, n: int) -> Iterator[int]:
        yield from range(n)


async def run(function: Callable[..., Any], **args: Any) -> tuple[ToolOutput, list[Any]]:
    progress: list[Any] = []
    tool = as_tool(function, "it")
    output = await run_call(ToolCall("c1", "it", args), {"it": tool}, on_progress=progress.append)
    assert all((event.tool_call_id, event.tool_name) == ("c1", "it") for event in progress)
    return output, [event.value for event in progress]


@pytest.mark.parametrize("function", [count, acount, Walker(), partial(count), lambda n: count(n), lambda n: acount(n)])
async def test_each_value_is_reported_and_the_last_one_is_the_result(function: Any) -> None:
    output, progress = await run(function, n=3)
    assert (output.result, output.is_error, progress) == (2, False, [0, 1, 2])


async def test_what_a_generator_returns_is_the_result() -> None:
    output, progress = await run(search, word="cats")
    assert (output.result, progress) == ("a cat", ["looking for cats", "found one"])


@pytest.mark.parametrize("function", [nothing, anothing])
async def test_a_generator_that_yields_nothing_gives_nothing(function: Any) -> None:
    output, progress = await run(function)
    assert (output.result, progress) == (None, [])


@pytest.mark.parametrize("function", [explicit, aexplicit])
async def test_a_yielded_tool_return_is_the_result_and_no_progress(function: Any) -> None:
    output, progress = await run(function)
    assert (output.result, output.value, progress) == ("two numbers", [1, 2], [0.5, 1.0])


async def test_an_error_after_some_progress_is_told_to_the_model() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise LookupError("no cats")

    output, progress = await run(fails)
    assert (output.result, output.is_error, progress) == ("LookupError: no cats", True, [1])


async def test_a_sync_generator_runs_in_one_worker_thread() -> None:
    seen: list[int] = []

    def where() -> Iterator[int]:
        for number in range(3):
            seen.append(threading.get_ident())
            yield number
        seen.append(threading.get_ident())

    await run(where)
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


@pytest.mark.parametrize("is_sync", [True, False])
async def test_progress_is_seen_while_the_tool_runs(is_sync: bool) -> None:
    reported, may_end = anyio.Event(), threading.Event()

    def works() -> Iterator[str]:
        yield "begun"
        assert may_end.wait(30)
        yield "done"

    async def aworks() -> AsyncIterator[str]:
        yield "begun"
        await reported.wait()
        may_end.set()
        yield "done"

    def note(event: ToolProgress) -> None:
        reported.set()
        if is_sync:
            may_end.set()

    tool = as_tool(works if is_sync else aworks, "it")
    output = await run_call(ToolCall("c1", "it", {}), {"it": tool}, on_progress=note)
    assert output.result == "done"


@pytest.mark.parametrize("is_sync", [True, False])
async def test_a_generator_whose_call_is_given_up_is_closed(is_sync: bool) -> None:
    closed, may_go_on = threading.Event(), threading.Event()

    def works() -> Iterator[int]:
        try:
            yield 1
            may_go_on.wait(30)
            yield 2
            raise AssertionError("it runs on")
        finally:
            closed.set()

    async def aworks() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            closed.set()

    limited = tool(timeout=0.5)(works if is_sync else aworks)
    progress: list[Any] = []
    output = await run_call(ToolCall("c1", "it", {}), {"it": limited}, on_progress=progress.append)
    assert output.is_error
    assert "took longer than 0.5 s" in output.result
    may_go_on.set()
    assert await anyio.to_thread.run_sync(closed.wait, 30)
    assert [event.value for event in progress] == [1]


async def test_generators_run_at_the_same_time() -> None:
    met = threading.Barrier(2)

    def meet(n: int) -> Iterator[int]:
        yield n
        met.wait(30)
        yield n + 10

    calls = [ToolCall(str(n), "meet", {"n": n}) for n in range(2)]
    outputs = await run_calls(calls, {"meet": as_tool(meet)})
    assert [output.result for output in outputs] == [10, 11]


def backend() -> ScriptedBackend:
    return ScriptedBackend([ToolEnd(ToolCall("c1", "search", {"word": "cats"}))], "A cat.")


async def test_events_show_the_progress_between_the_call_and_its_result() -> None:
    m = mellea.start_session(backend())
    async with m.astream("x", tools=[search], tool_calls="run") as stream:
        events = [event async for event in stream.events()]
    shown = [event for event in events if isinstance(event, (ToolEnd, ToolProgress, ToolResult, StepEnd))]
    assert shown[:4] == [
        ToolEnd(ToolCall("c1", "search", {"word": "cats"})),
        ToolProgress("c1", "search", "looking for cats"),
        ToolProgress("c1", "search", "found one"),
        ToolResult(ToolOutput("c1", "search", "a cat")),
    ]
    assert stream.text == "A cat."


def test_the_sync_stream_shows_the_same() -> None:
    with mellea.start_session(backend()).stream("x", tools=[search], tool_calls="run") as stream:
        progress = [event.value for event in stream.events() if isinstance(event, ToolProgress)]
    assert progress == ["looking for cats", "found one"]
