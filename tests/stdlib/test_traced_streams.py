"""Functions that return a stream or a thunk instead of reading it: their span lasts as long as what they return."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

import mellea
from mellea import Agent, serve
from mellea.batch import amap
from mellea.batch import map as map_rows
from mellea.core.observer import listening
from mellea.errors import MelleaError
from mellea.stdlib.streaming import amerge, merge
from mellea.testing import Pause, ScriptedBackend
from tests.waiting import cancel_once, until, until_here

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))
WHOLE: tuple[Any, ...] = (["[1, ", "2, ", "3]"],)


def session(*replies: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*(replies or WHOLE)))


def statuses(t: mellea.traces.Trace) -> list[tuple[str, str]]:
    return [(span.name, span.status) for span in t.spans[1:]]


def merged(m: mellea.MelleaSession) -> Any:
    return merge({"a": m.stream("x", name="call")})


def rows(m: mellea.MelleaSession) -> Any:
    return map_rows(m.instruct, ["one", "two"])


PLAIN: dict[str, Callable[[mellea.MelleaSession], Any]] = {
    "stream": lambda m: m.stream("x", name="call"),
    "its reader": lambda m: iter(m.stream("x", name="call")),
    "events": lambda m: m.stream("x", name="call").events(),
    "items": lambda m: m.stream("x", name="call", format=list[int]).items(),
    "partials": lambda m: m.stream("x", name="call", format=list[int]).partials(),
    "agent": lambda m: Agent(m.backend, name="call").stream("x"),
    "its chunks": lambda m: iter(Agent(m.backend, name="call").stream("x")),
    "merged": merged,
    "rows": rows,
}


@pytest.mark.parametrize("kind", PLAIN)
def test_the_span_of_a_function_that_returns_a_stream_ends_with_the_stream(kind: str) -> None:
    make = PLAIN[kind]

    @mellea.trace(name="ask")
    def ask(m: mellea.MelleaSession) -> Any:
        return make(m)

    m, before = session(), listening.count
    with mellea.traces.start("t") as t:
        stream = ask(m)
        function = t.spans[1]
        assert function.status == "running"
        assert len(list(stream)) > 0
    below = t.spans[2:]
    assert function.status == "ok" and below
    assert all(span.ended is not None and function.ended is not None for span in below)
    assert all((span.ended or 0) <= (function.ended or 0) for span in below)
    assert any(span.parent is function for span in below)
    del stream
    assert listening.count == before


ASYNC: dict[str, Callable[[mellea.MelleaSession], Any]] = {
    "stream": lambda m: m.astream("x", name="call"),
    "its reader": lambda m: aiter(m.astream("x", name="call")),
    "events": lambda m: m.astream("x", name="call").events(),
    "items": lambda m: m.astream("x", name="call", format=list[int]).items(),
    "partials": lambda m: m.astream("x", name="call", format=list[int]).partials(),
    "agent": lambda m: Agent(m.backend, name="call").astream("x"),
    "its chunks": lambda m: aiter(Agent(m.backend, name="call").astream("x")),
    "merged": lambda m: amerge({"a": m.astream("x", name="call")}),
    "rows": lambda m: amap(m.instruct, ["one", "two"]),
}


@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("kind", ASYNC)
async def test_the_same_holds_in_async_code(kind: str, *, is_coroutine: bool) -> None:
    make = ASYNC[kind]

    @mellea.trace(name="ask")
    async def ask(m: mellea.MelleaSession) -> Any:
        return make(m)

    @mellea.trace(name="ask")
    def ask_at_once(m: mellea.MelleaSession) -> Any:
        return make(m)

    m = session()
    async with mellea.traces.start("t") as t:
        stream = await ask(m) if is_coroutine else ask_at_once(m)
        function = t.spans[1]
        assert function.status == "running"
        assert [piece async for piece in stream]
    below = t.spans[2:]
    assert function.status == "ok" and any(span.parent is function for span in below)
    assert all((span.ended or 0) <= (function.ended or 0) for span in below)


async def test_a_thunk_that_isnt_computed_holds_the_span_of_the_function_that_returns_it() -> None:
    @mellea.trace
    async def ask(m: mellea.MelleaSession) -> Any:
        return await m.ainstruct("x", name="call", await_result=False)

    m = session(["a", Pause(0.02), "b"])
    with mellea.traces.start("t") as t:
        thunk = await ask(m)
        assert statuses(t) == [("ask", "running"), ("call", "running")]
        await thunk
        assert statuses(t) == [("ask", "ok"), ("call", "ok")]


@pytest.mark.parametrize("container", [list, tuple, lambda each: dict(enumerate(each))])
async def test_of_several_streams_the_last_one_ends_the_span(container: Any) -> None:
    @mellea.trace
    def ask(m: mellea.MelleaSession) -> Any:
        return container([m.astream("x", name="one"), m.astream("y", name="two")])

    with mellea.traces.start("t") as t:
        streams = ask(session())
        async for _ in streams[1]:
            pass
        assert statuses(t) == [("ask", "running"), ("two", "ok")]
        async for _ in streams[0]:
            pass
    assert statuses(t) == [("ask", "ok"), ("two", "ok"), ("one", "ok")]


def end(how: str, stream: Any) -> None:
    if how == "break":
        for _ in stream:
            break
    elif how == "break in a block":
        with stream:
            for _ in stream:
                break
    elif how == "close":
        next(iter(stream))
        stream.close()
    elif how == "fail":
        with pytest.raises(MelleaError, match="planned"):
            list(stream)


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("break", ["cancelled", "cancelled"]),
        ("break in a block", ["cancelled", "cancelled"]),
        ("close", ["cancelled", "cancelled"]),
        ("fail", ["error", "error"]),
        ("never read", ["cancelled"]),
    ],
)
def test_a_returned_stream_ends_the_functions_span_once_as_what_it_was(how: str, found: list[str]) -> None:
    ended: list[str] = []

    class Ends(mellea.Observer):
        def end(self, span: mellea.traces.Span) -> None:
            ended.append(span.name)

    @mellea.trace
    def ask(m: mellea.MelleaSession) -> Any:
        return m.stream("x", name="call")

    m = session(["a", MelleaError("planned")] if how == "fail" else ["a", FOREVER])
    with mellea.traces.start("t") as t, mellea.traces.observe(Ends()):
        end(how, ask(m))
        until_here(lambda: gc.collect() >= 0 and t.spans[1].ended is not None)
    assert [status for _, status in statuses(t)] == found
    assert ended == [*["call"] * (len(found) - 1), "ask"]


async def test_a_wait_that_is_cancelled_ends_the_span_of_the_function_that_returned_the_stream() -> None:
    @mellea.trace
    async def ask(m: mellea.MelleaSession) -> Any:
        return m.astream("x", name="call")

    seen: list[str] = []

    async def read() -> None:
        async for piece in await ask(session(["a", FOREVER])):
            seen.append(piece)

    with mellea.traces.start("t") as t:
        await cancel_once(lambda: seen, read)
        await until(lambda: t.spans[1].ended is not None)
    assert statuses(t) == [("ask", "cancelled"), ("call", "cancelled")]


async def test_what_cant_be_launched_fails_the_function_that_returned_it() -> None:
    @mellea.trace
    def ask(m: mellea.MelleaSession) -> Any:
        return m.astream("{{x}}", user_variables={"y": 1}, name="call")

    with mellea.traces.start("t") as t:
        stream: Any = None
        with pytest.raises(Exception):  # noqa: B017 - wherever it is told
            stream = ask(session())
            async for _ in stream:
                pass
    assert t.spans[1].status == "error"


def test_a_stream_that_is_read_elsewhere_stays_in_the_trace_of_the_function_that_made_it() -> None:
    @mellea.trace
    def ask(m: mellea.MelleaSession) -> Any:
        return m.stream("x", name="call")

    with mellea.traces.start("made") as made:
        stream = ask(session())
    read: list[str] = []

    def reader() -> None:
        with mellea.traces.start("read") as t:
            read.extend(stream)
        assert statuses(t) == []

    thread = threading.Thread(target=reader)
    thread.start()
    thread.join()
    assert read and statuses(made) == [("ask", "ok"), ("call", "ok")]


def test_a_stream_from_before_and_one_that_nobody_watches_hold_nobody_up() -> None:
    m, before = session(), listening.count
    made = m.stream("x")

    @mellea.trace
    def ask(stream: Any) -> Any:
        return stream

    list(made)  # nobody listens
    with mellea.traces.start("t") as t:
        ask(made)
    assert statuses(t) == [("ask", "ok")]
    assert list(ask(m.stream("x"))) and listening.count == before


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_response_of_a_function_serves_is_in_the_functions_span(*, is_async: bool) -> None:
    def pieces(m: mellea.MelleaSession) -> Iterator[str]:
        yield from m.stream("x", name="call")

    async def async_pieces(m: mellea.MelleaSession) -> AsyncIterator[str]:
        async for piece in m.astream("x", name="call"):
            yield piece

    @mellea.trace
    async def handle(m: mellea.MelleaSession) -> Any:
        return serve.text(async_pieces(m) if is_async else pieces(m))

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await anyio.sleep_forever()

    with mellea.traces.start("t") as t:
        response = await handle(session())
        assert t.spans[1].status == "running"
    await response({"type": "http", "method": "GET", "headers": []}, receive, send)
    assert b"".join(each.get("body", b"") for each in sent) == b"[1, 2, 3]"
    assert statuses(t) == [("handle", "ok"), ("call", "ok")]


def test_of_two_streams_one_that_nobody_reads_marks_the_function_as_cancelled_once_it_is_dropped() -> None:
    @mellea.trace
    def both(m: mellea.MelleaSession) -> tuple[Any, Any]:
        return m.stream("x"), m.stream("y")

    m = mellea.start_session(ScriptedBackend(["a", "b"], ["c", "d"]))
    with mellea.traces.start("t") as t:
        read, unread = both(m)
        assert "".join(read) == "ab"
        assert t.spans[1].status == "running"  # it may still be read
        del unread
        gc.collect()
    # Nothing was sent for it, and the work of the function was left early all the same.
    assert [(span.name, span.status) for span in t.spans[1:]] == [("both", "cancelled"), ("Instruction", "ok")]


@pytest.mark.parametrize("kind", ["stream", "map"])
def test_an_error_of_the_code_that_reads_leaves_the_stream_as_cancelled(kind: str) -> None:
    @mellea.trace
    def ask(m: mellea.MelleaSession) -> Any:
        return m.stream("x") if kind == "stream" else map_rows(m.instruct, ["1", "2", "3"], concurrency=1)

    endless = ["b", Pause(float("inf"))]
    m = mellea.start_session(ScriptedBackend(*([endless] if kind == "stream" else [["a"], endless, ["c"]])))
    with mellea.traces.start("t") as t:
        with pytest.raises(ConnectionResetError), ask(m) as pieces:
            for _ in pieces:
                raise ConnectionResetError("the client has left")
        until_here(lambda: all(span.ended for span in t.spans[1:]))
    assert t.spans[1].status == "cancelled" and "error" not in {span.status for span in t.spans[1:]}
