"""Readers who leave: a wait that is cancelled or interrupted ends the generation, whoever holds the traceback."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

import mellea
from mellea.core.runtime.portal import blocking
from mellea.errors import GenerationCancelledError
from mellea.testing import Pause, ScriptedBackend

FOREVER = Pause(float("inf"))
READS: dict[str, Callable[[Any], Any]] = {
    "text": lambda stream: stream,
    "events": lambda stream: stream.events(),
    "items": lambda stream: stream.items(),
    "partials": lambda stream: stream.partials(),
}


def _stream(kind: str, read: str) -> tuple[Any, ScriptedBackend]:
    backend = ScriptedBackend(["[1, 2, ", FOREVER])
    m = mellea.start_session(backend)
    return getattr(m, kind)("x", format=list[int] if read in ("items", "partials") else None), backend


async def _closed(backend: ScriptedBackend) -> bool:
    for _ in range(2000):
        if all(backend.closed):
            return True
        await anyio.sleep(0.01)
    return False


@pytest.mark.anyio
@pytest.mark.parametrize("read", READS)
async def test_a_cancelled_wait_cancels_the_generation_though_the_stream_is_held(read: str) -> None:
    stream, backend = _stream("astream", read)
    reader = aiter(READS[read](stream))
    with anyio.move_on_after(0.1):
        while True:
            await anext(reader)
    assert await _closed(backend)
    with pytest.raises(GenerationCancelledError):
        await anext(reader)


@pytest.mark.anyio
async def test_another_reader_keeps_it_going() -> None:
    stream, backend = _stream("astream", "text")
    first, second = aiter(stream), aiter(stream)
    never_begun = aiter(stream)
    await anext(first)
    await anext(second)
    with anyio.move_on_after(0.05):
        await anext(first)
    await anyio.sleep(0.05)
    assert backend.closed == [False]
    with pytest.raises(GenerationCancelledError, match="its wait was cancelled"):
        await anext(first)
    await second.aclose()
    assert backend.closed == [True]
    with pytest.raises(GenerationCancelledError):
        [chunk async for chunk in never_begun]


@pytest.mark.anyio
async def test_a_reader_that_was_dropped_doesnt_count() -> None:
    stream, backend = _stream("astream", "text")
    async for _ in stream:
        break
    reader = stream.events()
    with anyio.move_on_after(0.05):
        [event async for event in reader]
    assert await _closed(backend)


@pytest.mark.anyio
async def test_a_wait_on_a_thunk_may_be_cancelled_and_taken_up_again() -> None:
    m = mellea.start_session(ScriptedBackend(["a", Pause(0.1), "b"]))
    thunk = await m.ainstruct("x", await_result=False)
    reader, got = aiter(thunk), ""
    while got != "ab":
        with anyio.move_on_after(0.03):
            got += await anext(reader)
    assert await thunk.avalue() == "ab"


@pytest.mark.parametrize("read", READS)
def test_an_interrupted_reader_of_a_plain_stream_cancels_the_generation(read: str) -> None:
    stream, backend = _stream("stream", read)
    with pytest.raises(KeyboardInterrupt) as held:
        threading.Timer(0.1, _thread.interrupt_main).start()
        for _ in READS[read](stream):
            pass
    began = time.monotonic()
    while not all(backend.closed) and time.monotonic() - began < 30:
        time.sleep(0.01)
    assert backend.closed == [True] and held.value is not None


@pytest.mark.parametrize("read", READS)
def test_closing_the_last_reader_of_a_plain_stream_closes_it(read: str) -> None:
    stream, backend = _stream("stream", read)
    readers = [iter(READS[read](stream)) for _ in range(2)]
    for reader in readers:
        next(reader)
    readers[0].close()
    assert backend.closed == [False]
    readers[1].close()
    assert backend.closed == [True]
    with pytest.raises(GenerationCancelledError):
        next(readers[1])


@pytest.mark.parametrize("read", READS)
def test_a_reader_of_a_plain_stream_that_is_closed_while_it_launches_leaves_nothing_behind(read: str) -> None:
    stream, backend = _stream("stream", read)
    launch = stream._launch
    reader = iter(READS[read](stream))

    def close_and_launch() -> Any:
        reader.close()
        return launch()

    stream._launch = close_and_launch
    with pytest.raises(GenerationCancelledError):
        list(reader)  # what came before
    began = time.monotonic()
    while not all(backend.closed) and time.monotonic() - began < 30:
        time.sleep(0.01)
    assert all(backend.closed)


def test_a_stream_that_is_closed_on_the_thread_of_synchronous_verbs_is_cancelled_there() -> None:
    """As the garbage collector does it, wherever it runs: the generator around a stream was dropped in a cycle."""
    backend = ScriptedBackend(["a", Pause(float("inf"))])
    m = mellea.start_session(backend)

    def pieces() -> Iterator[str]:
        yield from m.stream("x")

    parts: Any = pieces()
    assert next(parts) == "a"

    async def close() -> None:
        parts.close()

    blocking(close)()
    for _ in range(1000):
        if all(backend.closed):
            break
        time.sleep(0.005)
    backend.assert_closed()
