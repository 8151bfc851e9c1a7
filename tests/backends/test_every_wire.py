"""Every provider's own wire under faults: the table of `http/test_faults.py`, where the codec has a say.

What a user gets doesn't depend on the provider. Each fault runs on each wire, on asyncio and trio, with a planted
key that may appear in no error, repr or log, and leaves no connection open.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from mellea import MelleaSession
from mellea.backends.anthropic import AnthropicBackend
from mellea.backends.gemini import GeminiBackend
from mellea.backends.http.backend import HttpBackend
from mellea.backends.ollama import OllamaModelBackend
from mellea.backends.openai import OpenAIBackend
from mellea.core.options import Deadlines
from mellea.errors import (
    AuthError,
    BackendError,
    DeadlineError,
    InterruptedStreamError,
    RateLimitError,
    StatusError,
    WireError,
)
from tests.backends.anthropic import answers as anthropic
from tests.backends.gemini import answers as gemini
from tests.backends.http.misbehaving import LAST, Connection, answer, misbehaving
from tests.backends.http.misbehaving import chunk as http_chunk
from tests.backends.ollama import answers as ollama
from tests.backends.openai.bodies import chunk, response, sse

KEY = "sk-planted-0123456789abcdef"

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


@dataclass(frozen=True)
class Wire:
    """One provider's words for the text "all well", and for an error in the middle of it."""

    name: str
    make: Callable[[str], HttpBackend]
    text: Callable[[str], bytes]
    end: bytes
    error: bytes
    nonsense: bytes = b"data: {nonsense}\n\n"
    kind: bytes = b"text/event-stream"

    @property
    def head(self) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-type: " + self.kind + b"\r\ntransfer-encoding: chunked\r\n\r\n"


def _responses_text(text: str) -> bytes:
    return sse({"type": "response.output_text.delta", "output_index": 0, "delta": text}, done=False)


def _numbered() -> Callable[[str], bytes]:
    """Anthropic's blocks have numbers, and the first one comes after the head of the message."""

    def text(text: str) -> bytes:
        number = 0 if text != "well" else 1
        head = [anthropic.start()] if number == 0 else []
        return anthropic.framed(*head, *anthropic.text(number, text))

    return text


WIRES = [
    Wire(
        "chat",
        lambda url: OpenAIBackend("m", base_url=url, api_key=KEY),
        lambda text: sse(chunk(content=text), done=False),
        sse(chunk("stop")),
        sse({"error": {"message": "overheated", "type": "server_error"}}, done=False),
    ),
    Wire(
        "responses",
        lambda url: OpenAIBackend("m", api="responses", base_url=url, api_key=KEY),
        _responses_text,
        sse({"type": "response.completed", "response": response()}, done=False),
        sse({"type": "error", "code": "server_error", "message": "overheated"}, done=False),
    ),
    Wire(
        "anthropic",
        lambda url: AnthropicBackend("m", base_url=url, api_key=KEY),
        _numbered(),
        anthropic.framed(*anthropic.end()),
        anthropic.framed({"type": "error", "error": {"type": "overloaded_error", "message": "overheated"}}),
    ),
    Wire(
        "gemini",
        lambda url: GeminiBackend("m", base_url=url, api_key=KEY),
        lambda text: gemini.stream(gemini.text(text)),
        gemini.stream(gemini.end()),
        b'data: {"error": {"code": 503, "message": "overheated", "status": "UNAVAILABLE"}}\r\n\r\n',
    ),
    Wire(
        "ollama",
        lambda url: OllamaModelBackend("m", base_url=url.removesuffix("/v1"), api_key=KEY),
        lambda text: ollama.lines(ollama.message(text)),
        ollama.lines(ollama.end()),
        b'{"error": "overheated"}\n',
        b"{nonsense}\n",
        b"application/x-ndjson",
    ),
]

Behaviour = Callable[[Connection, Wire], None]


def _begin(connection: Connection, wire: Wire) -> None:
    connection.send(wire.head, http_chunk(wire.text("all ")))


def well(connection: Connection, wire: Wire) -> None:
    _begin(connection, wire)
    connection.send(http_chunk(wire.text("well")), http_chunk(wire.end), LAST)


def byte_by_byte(connection: Connection, wire: Wire) -> None:
    connection.send(wire.head)
    connection.send(b"".join(http_chunk(bytes([byte])) for byte in wire.text("all ") + wire.text("well") + wire.end))
    connection.send(LAST)


def reset(connection: Connection, wire: Wire) -> None:
    _begin(connection, wire)
    time.sleep(0.05)  # the reset overtakes what the client hasn't read yet
    connection.reset()


def silent(connection: Connection, wire: Wire) -> None:
    _begin(connection, wire)
    connection.wait_for_close()


def unended(connection: Connection, wire: Wire) -> None:
    _begin(connection, wire)
    connection.send(LAST)


def cut_in_a_character(connection: Connection, wire: Wire) -> None:
    body = wire.text("well").replace(b"well", "é".encode())
    _begin(connection, wire)
    connection.send(http_chunk(body[: body.index(b"\xc3") + 1]), LAST)


def nonsense(connection: Connection, wire: Wire) -> None:
    _begin(connection, wire)
    connection.send(http_chunk(wire.nonsense), http_chunk(wire.end), LAST)


def reported(connection: Connection, wire: Wire) -> None:
    _begin(connection, wire)
    connection.send(http_chunk(wire.error), LAST)


def large(connection: Connection, wire: Wire) -> None:
    connection.send(wire.head, http_chunk(wire.text("x" * 10_000_000)), http_chunk(wire.end), LAST)


def page(connection: Connection, wire: Wire) -> None:
    connection.send(answer(502, b"<html><title>502 Bad Gateway</title></html>", content_type="text/html"))


def refused(connection: Connection, wire: Wire) -> None:
    _, headers, _ = connection.server.requests[-1]
    said = json.dumps({"error": {"message": f"no such key: {sorted(headers.values())}"}}).encode()
    connection.send(answer(401, said, content_type="application/json"))


def too_many(connection: Connection, wire: Wire) -> None:
    said = b'{"error": {"message": "slow down"}}'
    connection.send(answer(429, said, content_type="application/json", retry_after="0"))


@dataclass(frozen=True)
class Fault:
    name: str
    behaviours: list[Behaviour]
    gets: type[BackendError] | str
    says: str = ""
    partial: str = ""
    requests: int = 1
    deadlines: Deadlines = field(default_factory=Deadlines)


SHORT = Deadlines(between_bytes=0.3)

FAULTS = [
    Fault("none", [well], "all well"),
    Fault("one byte after another", [byte_by_byte], "all well"),
    Fault("reset after the first byte", [reset], InterruptedStreamError, "connection broke", "all "),
    Fault("silence in mid-stream", [silent], DeadlineError, "was silent for 0.3 s", "all ", deadlines=SHORT),
    Fault("a stream without its end", [unended], InterruptedStreamError, "", "all "),
    Fault("cut inside a character", [cut_in_a_character], InterruptedStreamError, "", "all "),
    Fault("invalid JSON in one event", [nonsense], WireError, "JSON", "all "),
    Fault("an error in mid-stream", [reported], BackendError, "overheated", "all "),
    Fault("10 MB in one event", [large], "x" * 10_000_000),
    Fault("429, then well", [too_many, well], "all well", requests=2),
    Fault("429, each time", [too_many], RateLimitError, "slow down", requests=3),
    Fault("an HTML error page", [page], StatusError, "502 Bad Gateway", requests=3),
    Fault("401 that shows the key", [refused], AuthError, "***"),
]


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("mellea.backends.http.exchange._FIRST_PAUSE", 0.02)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    yield
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_what_the_user_gets(fault: Fault, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    behaviours = [lambda connection, behave=behave: behave(connection, wire) for behave in fault.behaviours]
    with misbehaving(*behaviours) as server:
        backend = wire.make(server.url)
        async with MelleaSession(backend) as session:
            options = {"timeout": fault.deadlines}
            thunk = await session.ainstruct("hi", await_result=False, strategy=None, model_options=options)
            if isinstance(fault.gets, str):
                assert await thunk.avalue() == fault.gets
            else:
                await _fails(thunk, fault)
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0
    assert len(server.requests) == fault.requests
    assert any(KEY in value for value in server.requests[-1][1].values()), "the key wasn't sent at all"
    assert KEY not in caplog.text + repr(backend) + repr(vars(backend))


async def _fails(thunk: Any, fault: Fault) -> None:
    with pytest.raises(BackendError) as caught:
        await thunk.avalue()
    error: BaseException | None = caught.value
    assert isinstance(error, fault.gets), repr(error)
    assert fault.says in str(error)
    assert (error.partial, error.model) == (fault.partial, "m")
    while error is not None:
        assert KEY not in f"{error!s} {error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__
