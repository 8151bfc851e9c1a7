"""Responses as plain ASGI applications: what is sent, every ending, and that nobody's model goes on for nobody."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

import mellea
from mellea import errors, serve
from mellea.core.serialise import from_jsonable
from mellea.errors import UsageError
from mellea.events import FileEvent, StreamEnd, TextDelta, ToolProgress
from mellea.serve.response import Encoder, Ending, StreamResponse, unless_left
from mellea.stdlib.tools import ToolLoop
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Gate, Pause
from tests.serve.asgi import ask

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


def _session(*script: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(list(script))
    return mellea.start_session(backend), backend


def _plain_generator(m: mellea.MelleaSession) -> Iterator[str]:
    yield from m.stream("Write")


async def _async_generator(m: mellea.MelleaSession) -> AsyncIterator[str]:
    async with m.astream("Write") as stream:
        async for piece in stream:
            yield piece


async def _thunk(m: mellea.MelleaSession) -> Any:
    return await m.ainstruct("Write", await_result=False)


def _agent(m: mellea.MelleaSession) -> Any:
    return mellea.Agent(m).astream("Write")


def _plain_agent(m: mellea.MelleaSession) -> Any:
    return mellea.Agent(m).stream("Write")


@mellea.command
def write() -> None:
    """Write."""


SOURCES: dict[str, Callable[[mellea.MelleaSession], Any]] = {
    "async stream": lambda m: m.astream("Write"),
    "plain stream": lambda m: m.stream("Write"),
    "thunk": _thunk,
    "agent": _agent,
    "plain agent": _plain_agent,
    "function": lambda m: write.astream(m),
    "plain function": lambda m: write.stream(m),
    "async generator": _async_generator,
    "plain generator": _plain_generator,
}
every_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


async def _made(make: Callable[[mellea.MelleaSession], Any], m: mellea.MelleaSession) -> Any:
    made = make(m)
    return await made if hasattr(made, "__await__") and make is _thunk else made


@every_source
async def test_text_is_the_text_of_the_answer(make: Any) -> None:
    m, _ = _session("Once ", "upon ", Pause(0), "a time… 🐟")
    answer = await ask(serve.text(await _made(make, m)))
    assert answer.body.decode() == "Once upon a time… 🐟" and answer.is_complete
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


@every_source
async def test_events_are_the_saved_form_of_the_events(make: Any) -> None:
    m, _ = _session("Once ", Pause(0), "upon")
    answer = await ask(serve.sse(await _made(make, m)))
    start, *values, done = answer.data
    assert start == {"type": "start", "format": "mellea", "version": 1} and done == "[DONE]"
    events = [from_jsonable(value) for value in values]
    assert "".join(event.chunk for event in events if isinstance(event, TextDelta)) == "Once upon"
    if make not in (_plain_generator, _async_generator):
        assert [event.finish_reason for event in events if isinstance(event, StreamEnd)] == ["stop"]
    assert answer.headers["content-type"].startswith("text/event-stream") and answer.is_complete


@every_source
@pytest.mark.parametrize("form", [serve.text, serve.sse])
async def test_a_client_that_leaves_stops_the_model(make: Any, form: Any) -> None:
    m, backend = _session("Once ", "upon ", FOREVER)
    leave = anyio.Event()

    async def leave_once_asked() -> None:
        while not backend.requests:
            await anyio.sleep(0.001)
        leave.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(leave_once_asked)
            answer = await ask(form(await _made(make, m)), leave=leave)
    assert not answer.is_complete
    # What a thread waits for is cancelled, and it isn't waited for.
    with anyio.fail_after(20):
        while make is _plain_generator and not all(backend.closed):
            await anyio.sleep(0.001)
    backend.assert_closed()


@pytest.mark.parametrize("name", ["plain stream", "plain agent", "plain function"])
async def test_a_client_that_leaves_while_a_plain_stream_is_launched_stops_the_model(name: str) -> None:
    """It is launched in a thread, which can't be stopped."""
    m, backend = _session("Once ", "upon ", FOREVER)
    stream = SOURCES[name](m)
    is_launched, may_return, leave = threading.Event(), threading.Event(), anyio.Event()
    enter = stream.__enter__

    def slow_enter(_: Any) -> None:
        enter()
        is_launched.set()
        may_return.wait(20)

    stream.__class__ = type("Slow", (type(stream),), {"__slots__": (), "__enter__": slow_enter})

    async def leave_meanwhile() -> None:
        while not (is_launched.is_set() and backend.requests):
            await anyio.sleep(0.001)
        leave.set()
        await anyio.wait_all_tasks_blocked()
        may_return.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(leave_meanwhile)
            answer = await ask(serve.text(stream), leave=leave)
            backend.assert_closed()
    assert not answer.is_complete


async def test_a_plain_generator_is_closed_at_its_next_piece() -> None:
    m, backend = _session("Once ", "upon ", *["and on ", Pause(0.01)] * 1000)
    await ask(serve.text(_plain_generator(m)), leave_after=1)
    with anyio.fail_after(20):
        while not all(backend.closed):
            await anyio.sleep(0.01)


@pytest.mark.parametrize("form", [serve.text, serve.sse])
async def test_an_error_of_send_is_a_client_that_left(form: Any) -> None:
    m, backend = _session("Once ", "upon ", FOREVER)
    with anyio.fail_after(20):
        await ask(form(m.astream("Write")), fail_at=0)
    backend.assert_closed()


@pytest.mark.parametrize("form", [serve.text, serve.sse])
async def test_a_client_that_takes_nothing_is_left_alone_after_a_while(form: Any) -> None:
    m, backend = _session("Once ", "upon ", FOREVER)
    with anyio.fail_after(20):
        await ask(form(m.astream("Write"), stall=0.05), on_piece=lambda piece: anyio.sleep(60))
    backend.assert_closed()


async def test_nothing_is_read_ahead_of_a_slow_client() -> None:
    seen: list[int] = []

    async def count() -> AsyncIterator[str]:
        for number in range(1000):
            seen.append(number)
            yield f"{number} "

    gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: ask(serve.text(count()), on_piece=lambda piece: gate.wait()))
        await anyio.sleep(0.05)
        assert len(seen) <= 2
        gate.set()
    assert len(seen) == 1000


async def test_a_big_piece_is_handed_over_in_small_ones() -> None:
    m, _ = _session(FileEvent("application/pdf", b"x" * 300_000))
    answer = await ask(serve.sse(m.astream("Write")))
    assert len(answer.pieces) > 4 and max(map(len, answer.pieces)) <= 64 * 1024
    assert len(from_jsonable(answer.data[1]).data) == 300_000


async def test_silence_is_filled_with_comments() -> None:
    gate = Gate()
    m, _ = _session("Once ", gate, "upon")
    signs: list[bytes] = []

    def note(piece: bytes) -> None:
        if piece.startswith(b":"):
            signs.append(piece)
        if len(signs) == 4:
            gate.open()

    answer = await ask(serve.sse(m.astream("Write"), keep_alive=0.01), on_piece=note)
    assert signs[1:4] == [b": keep-alive\n\n"] * 3 and answer.data[-1] == "[DONE]"
    assert [value.get("chunk") for value in answer.data[1:3]] == ["Once ", "upon"]


async def test_a_failure_before_the_first_piece_of_text_is_a_status() -> None:
    m, _ = _session(ValueError("the key is secret"))
    answer = await ask(serve.text(m.astream("Write")))
    assert (answer.status, answer.body) == (502, b"An error occurred.") and answer.is_complete
    told = await ask(serve.text(m.astream("Write"), error_text=lambda error: f"sorry: {type(error).__name__}"))
    assert told.body == b"sorry: BackendError"


async def test_a_failure_after_the_first_piece_of_text_cuts_the_connection() -> None:
    m, _ = _session("Once ", ValueError("secret"))
    answer = await ask(serve.text(m.astream("Write")))
    assert answer.status == 200 and answer.body == b"Once " and not answer.is_complete


async def test_a_failure_among_events_is_an_error_and_the_end_mark(caplog: pytest.LogCaptureFixture) -> None:
    m, _ = _session("Once ", ValueError("the reason"))
    with caplog.at_level(logging.DEBUG, "mellea.serve"):
        answer = await ask(serve.sse(m.astream("Write")))
    assert answer.data[-2:] == [{"type": "error", "error": "An error occurred."}, "[DONE]"] and answer.is_complete
    assert b"the reason" not in answer.body and "the reason" in caplog.text
    told = await ask(serve.sse(m.astream("Write"), error_text=str))
    assert "the reason" in told.data[-2]["error"]


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (errors.ParseError("the answer is not a valid 'int': 'a secret'"), "ParseError"),
        (errors.ToolError("the tool 'find' failed with 'a secret'"), "ToolError"),
        (errors.UsageError("not 'a secret'"), "UsageError"),
        (
            errors.BadRequestError("it says: a secret", backend="acme", model="m", status=400, request_id="r1"),
            "BadRequestError (backend acme, model m, status 400, request r1)",
        ),
        (errors.ConfigurationError("set ACME_API_KEY"), "ConfigurationError: set ACME_API_KEY"),
    ],
)
async def test_the_log_has_nothing_that_a_client_or_a_model_wrote(
    error: Exception, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> AsyncIterator[str]:
        yield "Once "
        raise error

    with caplog.at_level(logging.INFO, "mellea.serve"):
        await ask(serve.text(fail()))
    assert caplog.messages == [f"the response failed with {logged}"]
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "mellea.serve"):
        await ask(serve.text(fail()))
    assert str(error) in caplog.text, "for whoever looks for the reason"


async def test_an_answer_that_does_not_fit_its_format_is_an_error() -> None:
    m, _ = _session("no number")
    answer = await ask(serve.sse(m.astream("Write", format=int)))
    assert answer.data[-2]["type"] == "error" and answer.data[-1] == "[DONE]"


async def test_a_generation_that_somebody_stops_ends_with_abort() -> None:
    m, _ = _session("Once ", FOREVER)
    thunk = await m.ainstruct("Write", await_result=False)
    stopped = anyio.Event()

    async def stop() -> None:
        await stopped.wait()
        await thunk.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        answer = await ask(serve.sse(thunk), on_piece=lambda piece: stopped.set() if b"Once" in piece else None)
    assert answer.data[-2:] == [{"type": "abort"}, "[DONE]"] and answer.is_complete


async def test_a_server_that_cancels_the_request_still_ends_the_stream() -> None:
    m, backend = _session("Once ", FOREVER)
    begun, answers = anyio.Event(), []

    async def request() -> None:
        try:
            await ask(app, on_piece=lambda piece: (answers.append(piece), begun.set())[1])
        finally:
            backend.assert_closed()

    app = serve.sse(m.astream("Write"))
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        while not any(b"Once" in piece for piece in answers):
            await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert answers[-1] == b'data: {"type":"abort"}\n\ndata: [DONE]\n\n'


async def test_an_agent_that_waits_says_what_for() -> None:
    @mellea.tool(requires_approval=True)
    def delete(path: str) -> str:
        """Delete a file."""
        return "deleted"

    from mellea.core.messages import parse_tool_call
    from mellea.events import ToolEnd

    m, _ = _session(ToolEnd(parse_tool_call("c1", "delete", '{"path":"x"}')))
    answer = await ask(serve.sse(mellea.Agent(m, [delete], loop=ToolLoop(3)).astream("Clean up")))
    pending, done = answer.data[-2:]
    assert done == "[DONE]" and pending["type"] == "pending"
    assert [(each["id"], each["kind"], each["call"]["tool_name"]) for each in pending["questions"]] == [
        ("c1", "approval", "delete")
    ]


async def test_what_a_tool_reports_need_not_be_json() -> None:
    m, _ = _session(ToolProgress("c", "t", object()), "x")
    answer = await ask(serve.sse(m.astream("Write")))
    assert answer.data[1]["type"] == "tool_progress" and answer.data[-1] == "[DONE]"


async def test_half_a_character_is_replaced() -> None:
    async def halves() -> AsyncIterator[str]:
        yield "a\ud83d"

    assert (await ask(serve.text(halves()))).body.decode() == "a\ufffd"
    assert (await ask(serve.sse(halves()))).data[1]["chunk"] == "a\ufffd"


async def test_headers_of_ones_own_take_the_place_of_ours() -> None:
    m, _ = _session("x")
    answer = await ask(serve.sse(m.astream("Write"), headers={"Cache-Control": "no-store", "X-Mine": "1"}))
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-mine"] == "1"


@pytest.mark.parametrize("wrong", ["text", b"bytes", bytearray(b"x"), 3, None, object(), {"a": 1}, {"a"}])
async def test_what_can_not_be_streamed_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="astream") as caught:
        serve.text(wrong)
    assert isinstance(caught.value, TypeError) and repr(wrong)[:20] in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, True, "1", float("nan")])
async def test_wrong_seconds_are_refused(seconds: Any) -> None:
    m, _ = _session("x")
    with pytest.raises(UsageError, match="keep_alive"):
        serve.sse(m.astream("Write"), keep_alive=seconds)


async def test_an_iterator_of_other_values_is_an_error_of_the_stream() -> None:
    async def numbers() -> AsyncIterator[Any]:
        yield 1

    answer = await ask(serve.sse(numbers(), error_text=str))
    assert "not 1" in answer.data[-2]["error"]


async def test_an_encoder_of_ones_own_is_a_few_lines() -> None:
    class Shout(Encoder):
        media_type = "text/plain"
        opening = b"<"

        def feed(self, value: Any) -> bytes:
            return value.chunk.upper().encode() if isinstance(value, TextDelta) else b""

        def finish(self, ending: Ending) -> bytes:
            return b">" if ending.error is None else b"!"

    m, _ = _session("once ", "upon")
    assert (await ask(StreamResponse(m.astream("Write"), Shout()))).body == b"<ONCE UPON>"


async def test_work_for_a_client_that_leaves_is_cancelled() -> None:
    m, backend = _session("Once ", FOREVER)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        assert await unless_left(receive, lambda: m.ainstruct("Write")) is None

    with anyio.fail_after(20):
        await ask(app, leave_after=1)
    with anyio.fail_after(20):
        while not all(backend.closed):
            await anyio.sleep(0.01)


async def test_work_for_a_client_that_stays_is_done() -> None:
    async def work() -> int:
        return 3

    async def fail() -> int:
        raise KeyError("x")

    assert await unless_left(anyio.sleep_forever, work) == 3
    with pytest.raises(KeyError):
        await unless_left(anyio.sleep_forever, fail)


def test_responses_need_no_framework() -> None:
    code = """
import sys
sys.modules["starlette"] = sys.modules["starlette.responses"] = None
import anyio, mellea
from mellea import errors, serve
from mellea.testing import ScriptedBackend
sent = []
async def send(message): sent.append(message)
m = mellea.start_session(ScriptedBackend(["Hello"]))
anyio.run(serve.text(m.astream("x")), {"type": "http"}, anyio.sleep_forever, send)
assert b"".join(message.get("body", b"") for message in sent) == b"Hello"
assert (b"content-type", b"text/plain; charset=utf-8") in sent[0]["headers"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
