"""Several streams are read as one: labelled, as the pieces come, in plain and in async code, and left together."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mellea
from mellea import Agent, MelleaSession
from mellea.core import ToolCall
from mellea.errors import GenerationCancelledError, RateLimitError, UsageError
from mellea.events import StreamEnd, TextDelta, ToolEnd, ToolResult
from mellea.stdlib.streaming import StreamChunk, amerge, merge
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import cancel_once, until

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


def session(*script: Any) -> MelleaSession:
    return mellea.start_session(ScriptedBackend([*script]))


async def collect(merged: AsyncIterator[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [piece async for piece in merged]


# -- what comes out -----------------------------------------------------------------------------------


async def test_pieces_come_as_they_are_written() -> None:
    first, second = Gate(), Gate()
    streams = {
        "sea": session("wide ", first, "sea").astream("x"),
        "sky": session("blue ", second, "sky").astream("x"),
    }
    seen = []
    async for label, piece in amerge(streams):
        seen.append((label, piece))
        if len(seen) == 2:
            second.open()
        if label == "sky":
            first.open() if piece == "sky" else None
    assert sorted(seen[:2]) == [("sea", "wide "), ("sky", "blue ")]
    assert seen[2:] == [("sky", "sky"), ("sea", "sea")]
    assert [streams["sea"].text, streams["sky"].output] == ["wide sea", "blue sky"]


def test_plain_code_reads_them_as_well() -> None:
    streams = {"sea": session("wide ", "sea").stream("x"), "sky": session("blue ", "sky").stream("x")}
    pieces = list(merge(streams))
    assert "".join(piece for label, piece in pieces if label == "sea") == "wide sea"
    assert "".join(piece for label, piece in pieces if label == "sky") == "blue sky"
    assert streams["sea"].text == "wide sea"


def make_sources(sync: bool) -> dict[str, Any]:
    agent = Agent(ScriptedBackend([ToolEnd(ToolCall("c", "look", {}))], ["A ", "cat."]), [look])
    if sync:
        events, chunks = session("x").stream("?").events(), agent.stream("?")
        return {"events": events, "chunks": chunks, "items": session("[1, 2]").stream("?", format=list[int]).items()}
    stream = session("[1, 2]").astream("?", format=list[int])
    return {"events": session("x").astream("?").events(), "chunks": agent.astream("?"), "items": stream.items()}


def look() -> str:
    """Look."""
    return "a cat"


async def test_readers_of_every_kind_may_be_merged_in_both_colours() -> None:
    merged = await collect(amerge(make_sources(sync=False)))
    plain = await anyio.to_thread.run_sync(lambda: list(merge(make_sources(sync=True))))
    for pieces in (merged, plain):
        of = {label: [piece for name, piece in pieces if name == label] for label in ("events", "chunks", "items")}
        assert of["events"][0] == TextDelta("x")
        assert isinstance(of["events"][-1], StreamEnd)
        assert "".join(chunk.text for chunk in of["chunks"]) == "A cat."
        assert of["chunks"][-1] == StreamChunk(of["chunks"][-1].text, 2, is_final=True)
        assert of["items"] == [1, 2]


async def test_any_iterable_may_be_merged() -> None:
    async def count() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert await collect(amerge({"n": count()})) == [("n", 1), ("n", 2)]
    assert list(merge({"n": range(2)})) == [("n", 0), ("n", 1)]


def test_a_reader_that_comes_late_loses_nothing() -> None:
    m = session("one ", "two ", "three")
    merged = merge({"a": m.stream("x")})
    _, first = next(merged)
    time.sleep(0.2)
    assert first + "".join(piece for _, piece in merged) == "one two three"


async def test_a_merged_stream_may_be_merged_and_relayed_by_a_tool() -> None:
    inner = amerge({"a": session("x").astream("?")})
    assert await collect(amerge({"outer": inner})) == [("outer", ("a", "x"))]

    async def compare() -> AsyncIterator[Any]:
        """Compare."""
        async for label, piece in amerge({"a": session("x").astream("?"), "b": session("y").astream("?")}):
            yield f"{label}: {piece}"

    agent = Agent(ScriptedBackend([ToolEnd(ToolCall("c", "compare", {}))], "Done."), [compare])
    async with agent.astream("?") as stream:
        results = [event.result async for event in stream.events() if isinstance(event, ToolResult)]
    assert results[0].result in ("a: x", "b: y")


PIECES = st.lists(st.sampled_from(["a", "bc", "", " ", "🙂"]), min_size=1, max_size=6)


@given(st.dictionaries(st.sampled_from("abcd"), PIECES, min_size=1), st.booleans())
def test_each_stream_keeps_its_text_and_its_order(scripts: dict[str, list[str]], reads_events: bool) -> None:
    """In plain code, on asyncio and on trio."""
    wanted = {label: "".join(pieces) for label, pieces in scripts.items()}

    def sources(verb: str) -> dict[str, Any]:
        streams = {label: getattr(session(*pieces), verb)("x") for label, pieces in scripts.items()}
        return {label: stream.events() for label, stream in streams.items()} if reads_events else streams

    def joined(pieces: list[tuple[str, Any]]) -> dict[str, str]:
        texts = dict.fromkeys(scripts, "")
        for label, piece in pieces:
            texts[label] += piece if isinstance(piece, str) else getattr(piece, "chunk", "")
        return texts

    async def read() -> list[tuple[str, Any]]:
        return await collect(amerge(sources("astream")))

    assert joined(list(merge(sources("stream")))) == wanted
    for loop in ("asyncio", "trio"):
        assert joined(anyio.run(read, backend=loop)) == wanted


# -- errors -------------------------------------------------------------------------------------------


async def test_an_error_of_one_stops_the_others_and_comes_out_as_it_is() -> None:
    other = ScriptedBackend(["b", FOREVER])
    streams = {
        "a": session("a", RateLimitError("slow down", status=429)).astream("x"),
        "b": mellea.start_session(other).astream("x"),
    }
    with pytest.raises(RateLimitError, match="slow down") as raised:
        await collect(amerge(streams))
    assert not isinstance(raised.value, BaseExceptionGroup)
    other.assert_closed()


async def test_an_error_may_be_given_as_a_piece() -> None:
    streams = {
        "a": session("a", RateLimitError("slow down", status=429)).astream("x"),
        "b": session("b", Pause(0.05), "c").astream("x"),
    }
    pieces = await collect(amerge(streams, on_error="give"))
    assert [piece for label, piece in pieces if label == "b"] == ["b", "c"]
    (first, error) = (piece for label, piece in pieces if label == "a")
    assert first == "a"
    assert isinstance(error, RateLimitError)


def test_an_error_comes_out_in_plain_code() -> None:
    streams = {"a": session("a", RateLimitError("slow down", status=429)).stream("x"), "b": session("b").stream("x")}
    with pytest.raises(RateLimitError, match="slow down"):
        list(merge(streams))


@pytest.mark.parametrize("wrong", [{}, [], "text", {"a": 3}, {"a": "text"}, {1: []}, None])
def test_streams_are_given_by_their_labels(wrong: Any) -> None:
    with pytest.raises(UsageError, match="merge takes streams"):
        merge(wrong)
    with pytest.raises(UsageError, match="on_error"):
        amerge({"a": session("x").astream("x")}, on_error="skip")  # type: ignore[arg-type]


# -- leaving ------------------------------------------------------------------------------------------


async def test_leaving_the_block_stops_every_stream() -> None:
    backends = [ScriptedBackend(["x", FOREVER]) for _ in range(3)]
    streams = {str(number): mellea.start_session(each).astream("?") for number, each in enumerate(backends)}
    async with amerge(streams) as merged:
        async for _ in merged:
            break
    for backend in backends:
        backend.assert_closed()


async def test_a_wait_that_is_cancelled_stops_every_stream() -> None:
    backend = ScriptedBackend(["x", FOREVER])
    merged = amerge({"a": mellea.start_session(backend).astream("?")})
    await cancel_once(lambda: backend.requests, lambda: collect(merged))
    await until(lambda: backend.closed == [True])


@pytest.mark.parametrize("reads", ["text", "events"])
def test_leaving_the_block_in_plain_code_stops_every_stream_and_thread(reads: str) -> None:
    before = threading.active_count()
    backend = ScriptedBackend(["x", FOREVER])
    stream = mellea.start_session(backend).stream("?")
    source: Any = stream if reads == "text" else stream.events()
    with merge({"a": source, "b": session("y").stream("?")}) as merged:
        for label, _ in merged:
            if label == "a":
                break
    backend.assert_closed()
    until = time.monotonic() + 20
    while threading.active_count() > before + 4 and time.monotonic() < until:  # those that rest are kept for a while
        time.sleep(0.01)
    with pytest.raises(GenerationCancelledError):
        _ = stream.result


def test_nothing_is_launched_before_the_reading() -> None:
    backend = ScriptedBackend("x")

    def never() -> Iterator[int]:
        raise AssertionError
        yield 1

    merge({"a": mellea.start_session(backend).stream("?"), "b": never()})
    assert backend.requests == []
