"""Streams, plain and async."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import anyio
import pytest

import mellea
from mellea.core.events import StreamEnd, TextDelta
from mellea.core.messages import Message
from mellea.errors import ParseError, UsageError
from mellea.testing import Gate, Pause, ScriptedBackend

WORDS = ["Once ", "upon ", "a ", "time"]


def spaced(request: object) -> list[object]:
    return [step for word in WORDS for step in (word, Pause(0.001))]


def session(*replies: object, **kwargs: object) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*(replies or (spaced,)), **kwargs))  # type: ignore[arg-type]


def wait_until_closed(backend: ScriptedBackend) -> None:
    for _ in range(200):
        if all(backend.closed):
            return
        threading.Event().wait(0.01)
    backend.assert_closed()


def test_for_loop_in_a_plain_function() -> None:
    m = session()
    chunks = list(m.stream("Tell."))
    assert len(chunks) > 1
    assert "".join(chunks) == "Once upon a time"


def test_for_loop_in_a_thread() -> None:
    m = session()
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: "".join(m.stream("Tell.")), range(8)))
    assert texts == ["Once upon a time"] * 8


@pytest.mark.anyio
async def test_for_loop_inside_a_running_loop() -> None:
    assert "".join(session().stream("Tell.")) == "Once upon a time"


def test_every_step_may_come_from_another_thread_and_context() -> None:
    variable = ContextVar("variable", default="outside")
    seen: list[str] = []

    def reply(request: object) -> list[object]:
        seen.append(variable.get())
        return spaced(request)

    variable.set("caller")
    stream = session(reply).stream("Tell.")
    reader = iter(stream)
    chunks: list[str] = []
    while True:
        with ThreadPoolExecutor(1) as pool:
            chunk = pool.submit(next, reader, None).result()
        if chunk is None:
            break
        chunks.append(chunk)
    assert "".join(chunks) == stream.text == stream.output
    del seen[:]
    assert list(session(reply).stream("Tell."))
    assert seen == ["caller"]


def test_an_unused_stream_sends_nothing() -> None:
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    m.stream("Tell.")
    m.astream("Tell.")
    assert backend.requests == []


def test_with_launches_and_leaving_it_closes() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    with mellea.start_session(backend).stream("Tell.") as stream:
        for chunk in stream:
            assert chunk == "a"
            break
    backend.assert_closed()
    with pytest.raises(mellea.errors.GenerationCancelledError) as caught:
        _ = stream.result
    assert caught.value.partial == "a" == stream.text


def test_break_without_with_cancels() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    m = mellea.start_session(backend)
    for _ in m.stream("Tell."):
        break
    gc.collect()
    wait_until_closed(backend)


def test_closing_the_iterator_closes_the_stream() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    reader = iter(mellea.start_session(backend).stream("Tell."))
    assert next(reader) == "a"
    reader.close()
    backend.assert_closed()


def test_live_and_final_properties() -> None:
    gate = Gate()
    stream = session([*WORDS[:2], gate, *WORDS[2:]]).stream("Tell.")
    assert stream.text == ""
    reader = iter(stream)
    while stream.text != "Once upon ":
        next(reader)
    assert stream.message == Message("assistant", "Once upon ")
    for name in ("result", "output", "parsed"):
        with pytest.raises(UsageError, match="hasn't ended"):
            getattr(stream, name)
    gate.open()
    assert "".join(reader) == "a time"
    assert stream.result.value == stream.output == stream.text == "Once upon a time"
    assert stream.result.finish_reason == "stop"


def test_events_and_text_are_the_same_from_the_beginning() -> None:
    with session().stream("Tell.") as stream:
        events = list(stream.events())
        assert "".join(e.chunk for e in events if isinstance(e, TextDelta)) == "Once upon a time"
        assert isinstance(events[-1], StreamEnd)
        assert "".join(stream) == "Once upon a time", "a second reader sees all of it"


def test_text_that_does_not_fit_the_format_is_read_all_the_same() -> None:
    stream = session(["4", "x"]).stream("A number.", format=int)
    assert "".join(stream) == "4x"
    for name in ("result", "output", "parsed"):
        with pytest.raises(ParseError, match="'4x'"):
            getattr(stream, name)


def test_output_is_parsed_where_there_is_a_format() -> None:
    with session(["4", "2"]).stream("A number.", format=int) as stream:
        assert "".join(stream) == "42"
    assert stream.output == 42
    assert stream.result.parsed == 42


def test_a_failure_comes_after_the_text() -> None:
    stream = session(["a", "b", RuntimeError("boom")]).stream("Tell.")
    chunks: list[str] = []
    with pytest.raises(mellea.errors.BackendError, match="boom") as caught:
        chunks.extend(stream)
    assert "".join(chunks) == "ab" == caught.value.partial


def test_without_a_strategy_requirements_are_only_said() -> None:
    m = session()
    assert "".join(m.stream("Tell.", requirements=["short"], strategy=None)) == "Once upon a time"
    assert len(m.backend.requests) == 1  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_async_stream_with_and_without_a_block() -> None:
    m = session()
    assert "".join([chunk async for chunk in m.astream("Tell.")]) == "Once upon a time"
    async with m.astream("Tell.") as stream:
        events = [event async for event in stream.events()]
    assert isinstance(events[-1], StreamEnd)
    assert stream.output == "Once upon a time"


@pytest.mark.anyio
async def test_leaving_an_async_stream_closes_it() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    async with mellea.start_session(backend).astream("Tell.") as stream:
        async for _ in stream:
            break
    backend.assert_closed()


@pytest.mark.anyio
async def test_promise_8_dropping_an_async_stream_cancels_it() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    m = mellea.start_session(backend)
    async for _ in m.astream("Tell."):
        break
    gc.collect()
    with anyio.fail_after(30):
        while not all(backend.closed):
            await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_promise_8_timing_out_a_verb_closes_its_request() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    m = mellea.start_session(backend)
    with anyio.move_on_after(0.05) as scope:
        await m.ainstruct("Tell.")
    assert scope.cancelled_caught
    backend.assert_closed()


def test_a_session_works_on_one_loop_after_the_other() -> None:
    m = session()
    for _ in range(2):
        assert asyncio.run(m.ainstruct("Tell.")).value == "Once upon a time"  # type: ignore[arg-type]
    assert m.instruct("Tell.").value == "Once upon a time"
