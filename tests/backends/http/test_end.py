"""Behind the answer's end mark nothing can turn a complete answer into a failure."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mellea import MelleaSession
from mellea.backends.gemini import GeminiBackend
from mellea.backends.openai import OpenAIBackend
from mellea.core.options import Deadlines
from mellea.errors import AuthError, NotFoundError, RateLimitError
from tests.backends.http.misbehaving import LAST, OK, Connection, answer, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request

pytestmark = pytest.mark.anyio


def events(*values: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


CHAT = events(
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]},
    {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)
GEMINI = events({"candidates": [{"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}]})
USAGE = events({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}) + b"data: [DONE]\n\n"

BACKENDS: dict[str, tuple[bytes, Callable[[str], Any]]] = {
    "chat": (CHAT, lambda url: OpenAIBackend("m", base_url=url, api_key="k", retries=0)),
    "gemini": (GEMINI, lambda url: GeminiBackend("gemini-x", base_url=url, api_key="k", retries=0)),
}

AFTER: dict[str, Callable[[Connection], Any]] = {
    "silence": lambda connection: connection.wait_for_close(),
    "a reset": lambda connection: connection.reset(),
    "an end": lambda connection: connection.send(LAST),
    "an error": lambda connection: connection.send(chunk(events({"error": {"message": "late"}})), LAST),
    "endless data": lambda connection: flood(connection),
    "nonsense": lambda connection: connection.send(chunk(b"data: {nonsense\n\n"), LAST),
    "broken chunks": lambda connection: connection.send(b"zz\r\n"),
}


def flood(connection: Connection) -> None:
    with contextlib.suppress(OSError):  # until the client has had enough
        connection.send(chunk(b"data: "))
        for _ in range(80):
            connection.send(chunk(b"x" * 1024 * 1024))


@pytest.mark.parametrize("wire", BACKENDS)
@pytest.mark.parametrize("after", AFTER)
async def test_a_complete_answer_stays_complete(wire: str, after: str, anyio_backend: str) -> None:
    body, make = BACKENDS[wire]

    def behave(connection: Connection) -> None:
        connection.send(OK, chunk(body))
        time.sleep(0.1)  # what aiohttp can't parse takes with it what came in the same packet
        AFTER[after](connection)

    options = {"timeout": Deadlines(between_bytes=0.5)}
    with misbehaving(behave) as server:
        async with MelleaSession(make(server.url), model_options=options) as m:
            thunk = await m.achat("hi")
        assert (thunk.value, thunk.finish_reason) == ("Hello", "stop")
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0


async def test_the_usage_that_comes_late_is_waited_for(anyio_backend: str) -> None:
    def behave(connection: Connection) -> None:
        connection.send(OK, chunk(CHAT))
        time.sleep(0.3)
        connection.send(chunk(USAGE), LAST)

    with misbehaving(behave) as server:
        async with MelleaSession(BACKENDS["chat"][1](server.url)) as m:
            usages = [(await m.achat("hi")).usage for _ in range(3)]
        assert [usage and usage.output_tokens for usage in usages] == [2, 2, 2]
        assert server.opened == 1, "the connection is used again"


async def test_no_total_deadline_passes_meanwhile(anyio_backend: str) -> None:
    def behave(connection: Connection) -> None:
        connection.send(OK, chunk(CHAT))
        connection.wait_for_close()

    with misbehaving(behave) as server:
        async with MelleaSession(BACKENDS["chat"][1](server.url), model_options={"timeout": 3.0}) as m:
            assert (await m.achat("hi")).value == "Hello"


async def test_a_number_is_the_total_and_silence_may_last_as_long() -> None:
    assert Deadlines.of(600) == Deadlines(first_byte=600.0, between_bytes=600.0, total=600.0)
    assert Deadlines.of(600).connect == 10.0
    own = Deadlines(total=1)
    assert Deadlines.of(own) is own


USED_UP = [
    (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
    (429, {"error": {"message": "You exceeded your current quota, please check your plan and billing details."}}),
    (402, {"error": {"message": "Insufficient Balance"}}),
    (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"}}),
    (403, {"error": "No credits. Insufficient credits on this account"}),
]


@pytest.mark.parametrize(("status", "body"), USED_UP)
async def test_a_quota_that_is_used_up_says_so_and_is_not_tried_again(
    status: int, body: Any, anyio_backend: str
) -> None:
    with misbehaving(lambda connection: connection.send(answer(status, json.dumps(body).encode()))) as server:
        async with MelleaSession(OpenAIBackend("m", base_url=server.url, api_key="k", retries=2)) as m:
            with pytest.raises(Exception, match="used up") as caught:
                await m.ainstruct("x")
    assert not caught.value.is_retryable and "slow down" not in str(caught.value)  # type: ignore[attr-defined]
    assert len(server.requests) == 1


async def test_a_rate_limit_is_no_used_up_quota(anyio_backend: str) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.01s"}
    said = {"error": {"code": 429, "message": "You exceeded your current quota", "details": [info]}}
    with misbehaving(lambda connection: connection.send(answer(429, json.dumps(said).encode()))) as server:
        async with MelleaSession(GeminiBackend("gemini-x", base_url=server.url, api_key="k", retries=1)) as m:
            with pytest.raises(RateLimitError, match="slow down") as caught:
                await m.ainstruct("x")
    assert caught.value.retry_after == 0.01 and len(server.requests) == 2


async def test_the_way_to_send_a_key_is_no_key(anyio_backend: str) -> None:
    said = json.dumps({"error": "send it as 'Authorization: Bearer …', not k-123456"}).encode()
    with misbehaving(lambda connection: connection.send(answer(401, said))) as server:
        async with MelleaSession(OpenAIBackend("m", base_url=server.url, api_key="k-123456")) as m:
            with pytest.raises(
                AuthError, match="Authorization: Bearer …', not \\*\\*\\*; check the key, which is from"
            ):
                await m.ainstruct("x")


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        ({}, "check the key, which is from OPENAI_API_KEY"),
        ({"api_key": "another-key"}, "check the key, which is from api_key="),
        ({"api_key": "", "headers": {"authorization": "Bearer another-key"}}, "check the key"),
        ({"api_key": ""}, "no key was sent: pass api_key=, or set OPENAI_API_KEY in the environment"),
    ],
)
async def test_a_refused_key_is_told_with_its_source(
    arguments: dict[str, Any], source: str, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-the-environment")
    with misbehaving(lambda connection: connection.send(answer(401, b"{}"))) as server:
        backend = OpenAIBackend("m", base_url=server.url, **arguments)
        for each in (backend, copy.copy(backend)):
            async with MelleaSession(each) as m:
                with pytest.raises(AuthError) as caught:
                    await m.ainstruct("x")
            assert str(caught.value).endswith(source) and "a-key" not in str(caught.value)


async def test_a_refused_request_without_a_key_says_that_none_was_sent(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with misbehaving(lambda connection: connection.send(answer(401, b"{}"))) as server:
        async with MelleaSession(OpenAIBackend("m", base_url=server.url)) as m:
            with pytest.raises(AuthError, match="no key was sent: pass api_key="):
                await m.ainstruct("x")


async def test_a_server_without_videos_may_be_one_that_has_none(anyio_backend: str) -> None:
    with misbehaving(lambda connection: connection.send(answer(404, b'{"detail": "Not Found"}'))) as server:
        async with MelleaSession(OpenAIBackend("m", base_url=server.url)) as m:
            with pytest.raises(NotFoundError, match="whether the server has 'videos'"):
                await m.agenerate_video("a cat")


async def test_a_wait_of_two_minutes_is_told(anyio_backend: str) -> None:
    with misbehaving(lambda connection: connection.send(answer(429, b"{}", retry_after="120"))) as server:
        async with MelleaSession(OpenAIBackend("m", base_url=server.url)) as m:
            with pytest.raises(RateLimitError, match="asks to wait 120 s, so the request wasn't retried"):
                await m.ainstruct("x")
    assert len(server.requests) == 1


async def test_escapes_of_a_server_reach_no_error(anyio_backend: str) -> None:
    said = json.dumps({"error": {"message": "\x1b[2J\x1b]0;owned\x07 it\x00 failed\u202e"}}).encode()
    answered = misbehaving(lambda connection: connection.send(answer(400, said, x_request_id="r")))
    with answered as server, pytest.raises(Exception, match="it failed") as caught:
        [event async for event in TinyBackend("m", base_url=server.url).run(request())]
    assert str(caught.value).isprintable()


async def test_one_line_a_call(anyio_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mellea")

    def behave(connection: Connection) -> None:
        connection.send(OK, chunk(CHAT + USAGE), LAST)

    with misbehaving(behave) as server:
        async with MelleaSession(BACKENDS["chat"][1](server.url)) as m:
            await m.ainstruct("What is the colour of the sea?")
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert len(lines) == 1 and "3 + 2 tokens, stop" in lines[0] and "/m: " in lines[0]
    assert "request: <SentRequest" in caplog.text
    assert "colour" not in caplog.text and "Hello" not in caplog.text


def test_a_stream_that_is_held_when_the_loop_shuts_down_closes_its_connection() -> None:
    held: list[Any] = []

    def hangs(connection: Connection) -> None:
        connection.send(OK, chunk(text("well")))
        connection.wait_for_close()

    async def main() -> None:
        # asyncio closes all generators at once, httpcore's too, and may report that one was being closed already
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: None)
        held.append(TinyBackend("m", base_url=server.url).run(request()))
        await anext(held[0])

    with misbehaving(hangs) as server:
        asyncio.run(main())
        assert server.wait_until_idle() == 0
