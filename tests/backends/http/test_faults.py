"""What a user gets when a server misbehaves, and that nothing is left open: on asyncio and on trio.

The table in `FAULTS` is the documentation of it: the server's behaviours, request by request; the options; the
error (or the text) that the user gets; whether trying again may help; the text that had arrived.
"""

from __future__ import annotations

import gzip
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from mellea import MelleaSession
from mellea.core.options import Deadlines
from mellea.errors import (
    AuthError,
    BackendError,
    BadRequestError,
    ConnectError,
    DeadlineError,
    InterruptedStreamError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    StatusError,
    WireError,
)
from tests.backends.http.misbehaving import (
    END,
    LAST,
    OK,
    Connection,
    answer,
    chunk,
    misbehaving,
    text,
    unused_port,
)
from tests.backends.http.tiny import TinyBackend

KEY = "sk-planted-0123456789abcdef"


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(text("well")), chunk(END), LAST)


def reset_before(connection: Connection) -> None:
    connection.reset()


def reset_in_head(connection: Connection) -> None:
    connection.send(OK[:30])
    connection.reset()


def close_before(connection: Connection) -> None:
    connection.socket.close()


def reset_after(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")))
    time.sleep(0.05)  # the reset overtakes what the client hasn't read yet
    connection.reset()


def silence(connection: Connection) -> None:
    connection.wait_for_close()


def silence_in_the_middle(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")))
    connection.wait_for_close()


def slow(connection: Connection) -> None:
    connection.send(OK)
    for byte in text("slow") + END:
        connection.send(chunk(bytes([byte])))
        time.sleep(0.02)
    connection.send(LAST)


def dripping(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")))
    while True:
        connection.send(chunk(b":"))
        time.sleep(0.05)


def commented(connection: Connection) -> None:
    connection.send(OK)
    for _ in range(6):
        connection.send(chunk(b": PROCESSING\n\n"))
        time.sleep(0.25)
    connection.send(chunk(text("late")), chunk(END), LAST)


def status(code: int, body: bytes = b'{"error": {"message": "told you so"}}', **headers: str) -> Callable[..., None]:
    headers = {"content_type": "application/json", **headers}
    return lambda connection: connection.send(answer(code, body, **headers))


def late(code: int) -> Callable[..., None]:
    def behave(connection: Connection) -> None:
        time.sleep(0.5)
        status(code)(connection)

    return behave


def late_and_good(connection: Connection) -> None:
    time.sleep(0.5)
    good(connection)


PAGE = b"<!DOCTYPE html><html><head><style>p {x}</style><title>502 Bad Gateway</title></head>" + b"<p>no</p>" * 5000


def html_with_200(connection: Connection) -> None:
    connection.send(answer(200, PAGE, content_type="text/html; charset=utf-8"))


def error_in_stream(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(b'data: {"error": "overheated"}\n\n'), LAST)


def plain_text(connection: Connection) -> None:
    connection.send(answer(200, b"upstream went away", content_type="text/plain"))


def invalid_json(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(b"data: {nonsense}\n\n"), chunk(END), LAST)


def no_end(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), LAST)


def cut_in_chunk(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), b"ff\r\ndata: {")
    connection.socket.close()


def cut_in_character(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(text("é").partition(b"\xc3")[0] + b"\xc3"), LAST)


def cut_after_end(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(text("well")), chunk(END))
    connection.socket.close()


def open_after_end(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(text("well")), chunk(END))
    connection.wait_for_close()


def ten_megabytes(connection: Connection) -> None:
    connection.send(OK, chunk(text("x" * 10_000_000)), chunk(END), LAST)


def endless(connection: Connection) -> None:
    connection.send(OK)
    while True:
        connection.send(chunk(text("more ")))
        time.sleep(0.001)


def plain_json(connection: Connection) -> None:
    connection.send(answer(200, b'{"text": "all well"}', content_type="application/json; charset=utf-8"))


def plain_json_cut(connection: Connection) -> None:
    connection.send(answer(200, b'{"text": "all well"}', content_type="application/json").removesuffix(b'ell"}'))
    connection.socket.close()


def compressed(connection: Connection) -> None:
    body = gzip.compress(text("all ") + text("well") + END)
    connection.send(answer(200, body, content_type="text/event-stream", content_encoding="gzip"))


def badly_compressed(connection: Connection) -> None:
    body = b"this is not a gzip at all"
    connection.send(answer(200, body, content_type="text/event-stream", content_encoding="gzip"))


def no_http(connection: Connection) -> None:
    connection.send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    connection.socket.close()


def moved(connection: Connection) -> None:
    connection.send(answer(307, location="http://127.0.0.2:1/elsewhere?key=" + KEY))


def moved_here(connection: Connection) -> None:
    connection.send(answer(307, location="/v1/other"))


def echoes_key(connection: Connection) -> None:
    _, headers, _ = connection.server.requests[-1]
    said = f'{{"error": {{"message": "Incorrect API key: {headers["authorization"]}"}}}}'
    connection.send(answer(401, said.encode(), content_type="application/json", x_request_id="req_7"))


@dataclass
class Fault:
    name: str
    behaviours: list[Callable[[Connection], None]]
    gets: type[BackendError] | str
    says: str = ""
    is_retryable: bool = False
    partial: str = ""
    requests: int = 1
    deadlines: Deadlines = field(default_factory=Deadlines)
    options: dict[str, Any] = field(default_factory=dict)
    status: int | None = None


SHORT = Deadlines(connect=2, first_byte=0.3, between_bytes=0.3)
ENOUGH = Deadlines(connect=2, first_byte=1, between_bytes=1)
"""Where an answer is to come in time, also on a busy machine."""

THRICE = 3

FAULTS = [
    Fault("reset before the first byte", [reset_before], ConnectError, "no answer from", True, requests=THRICE),
    Fault("reset in the head", [reset_in_head], ConnectError, "no answer from", True, requests=THRICE),
    Fault("closed without an answer", [close_before], ConnectError, "disconnected", True, requests=THRICE),
    Fault("reset, then well", [reset_before, good], "all well", requests=2),
    Fault("reset after the first byte", [reset_after], InterruptedStreamError, "connection broke", True, "all "),
    Fault("silence", [silence], DeadlineError, "was silent for 0.3 s", True, deadlines=SHORT),
    Fault(
        "silence in mid-stream", [silence_in_the_middle], DeadlineError, "was silent for 0.3 s", True, "all ",
        deadlines=Deadlines(connect=2, first_byte=30, between_bytes=0.3),
    ),
    Fault("one byte after another", [slow], "slow", deadlines=ENOUGH),
    Fault(
        "bytes without end or sense", [dripping], DeadlineError, "did not finish within 0.4 s", True, "all ",
        deadlines=Deadlines(total=0.4),
    ),
    Fault("comments while it thinks", [commented], "late", deadlines=ENOUGH),
    Fault("429, then well", [status(429, retry_after="0.2"), good], "all well", requests=2),
    Fault("429, each time", [status(429)], RateLimitError, "told you so", True, requests=THRICE, status=429),
    Fault("429 for an hour", [status(429, retry_after="3600")], RateLimitError, "told you so", True, status=429),
    Fault(
        "429 for longer than the first byte may take", [status(429, retry_after="1.3"), good], "all well", requests=2,
        deadlines=ENOUGH,
    ),
    Fault(
        "429 for longer than the first byte may take, then silence", [status(429, retry_after="0.5"), silence],
        DeadlineError, "was silent for 0.3 s", True, requests=2, deadlines=Deadlines(first_byte=0.3, between_bytes=60),
    ),
    Fault(
        "503 time and again, each for nearly as long as the first byte may take",
        [late(503), late(503), late_and_good], "all well", requests=3, deadlines=ENOUGH,
    ),
    Fault(
        "429 for longer than everything may take", [status(429, retry_after="5"), good], DeadlineError, "not finish",
        True, deadlines=Deadlines(total=0.3),
    ),
    Fault("429 that asks not to come back", [status(429, x_should_retry="false")], RateLimitError, status=429),
    Fault("500, then well", [status(500), good], "all well", requests=2),
    Fault("503 and 529, then well", [status(503), status(529), good], "all well", requests=3),
    Fault("503, each time", [status(503)], OverloadedError, "told you so", True, requests=THRICE, status=503),
    Fault("400", [status(400)], BadRequestError, "told you so", status=400),
    Fault("401 that shows the key", [echoes_key], AuthError, "***", status=401),
    Fault("403", [status(403)], AuthError, "told you so", status=403),
    Fault("404", [status(404, b'{"detail": "no such model"}')], NotFoundError, "no such model", status=404),
    Fault("418", [status(418, b"")], StatusError, "it gives no reason", status=418),
    Fault(
        "an HTML error page", [status(502, PAGE, content_type="text/html")], StatusError,
        "status 502: 502 Bad Gateway", True, requests=THRICE, status=502,
    ),
    Fault("an HTML page with 200", [html_with_200], WireError, "'text/html'"),
    Fault("a JSON error in mid-stream", [error_in_stream], BackendError, "overheated", True, "all "),
    Fault("a text that is not a stream", [plain_text], WireError, "begins: 'upstream went away'"),
    Fault("invalid JSON in one event", [invalid_json], WireError, "invalid JSON", False, "all "),
    Fault("a stream without its end", [no_end], InterruptedStreamError, "ended without its end", True, "all "),
    Fault("cut inside a chunk", [cut_in_chunk], InterruptedStreamError, "connection broke", True, "all "),
    Fault("cut inside a character", [cut_in_character], InterruptedStreamError, "ended without its end", True, "all "),
    Fault("cut after the end", [cut_after_end], "all well"),
    Fault("left open after the end", [open_after_end], "all well"),
    Fault("10 MB in one event", [ten_megabytes], "x" * 10_000_000),
    Fault("plain JSON instead of a stream", [plain_json], "all well"),
    Fault("a stream instead of plain JSON", [good], "all well", options={"stream": False}),
    Fault("plain JSON that is cut", [plain_json_cut], InterruptedStreamError, "connection broke", True),
    Fault("a compressed stream", [compressed], "all well"),
    Fault("a stream that isn't compressed as it says", [badly_compressed], WireError, "decompressed"),
    Fault("no HTTP", [no_http], WireError, "doesn't speak HTTP"),
    Fault("a redirect elsewhere", [moved], StatusError, "127.0.0.2:1/elsewhere", status=307),
    Fault("a redirect to the same place", [moved_here, good], "all well", requests=2),
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mellea.backends.http.exchange._FIRST_PAUSE", 0.02)


@pytest.mark.one_loop
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_what_the_user_gets(fault: Fault, anyio_backend: str) -> None:
    with misbehaving(*fault.behaviours) as server:
        async with MelleaSession(TinyBackend("m", base_url=server.url, api_key=KEY)) as session:
            thunk = await session.ainstruct(
                "hi", await_result=False, strategy=None, model_options={"timeout": fault.deadlines, **fault.options}
            )
            if isinstance(fault.gets, str):
                assert await thunk.avalue() == fault.gets
            else:
                await _fails(thunk, fault)
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0
    assert len(server.requests) == fault.requests


async def _fails(thunk: Any, fault: Fault) -> None:
    with pytest.raises(BackendError) as caught:
        await thunk.avalue()
    error = caught.value
    assert type(error) is fault.gets
    assert fault.says in str(error)
    assert error.is_retryable == fault.is_retryable
    assert error.partial == fault.partial
    assert (error.backend, error.model, error.status) == ("tiny", "m", fault.status)
    assert len(str(error)) < 700
    while error is not None:
        assert KEY not in f"{error!s} {error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


async def test_nothing_listens(anyio_backend: str) -> None:
    backend = TinyBackend("m", base_url=f"http://127.0.0.1:{unused_port()}/v1")
    async with MelleaSession(backend) as session:
        with pytest.raises(ConnectError, match="is the server running") as caught:
            await session.ainstruct("hi", strategy=None)
    assert caught.value.is_retryable


async def test_no_connection_in_time(anyio_backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):  # fill the queue of connections that nobody accepts
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        backend = TinyBackend("m", base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        async with MelleaSession(backend) as session:
            with pytest.raises(DeadlineError, match="no connection to") as caught:
                await session.ainstruct("hi", strategy=None, model_options={"timeout": Deadlines(connect=0.2)})
    assert caught.value.is_retryable
    assert "within 0.2 s" in str(caught.value)


@pytest.mark.parametrize("behaviour", [endless, silence, silence_in_the_middle, dripping], ids=lambda b: b.__name__)
async def test_a_cancelled_stream_is_closed(
    behaviour: Callable[[Connection], None], anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("core.runtime.source.CLOSE_SECONDS", "core.runtime.record.CLOSE_SECONDS",
                  "backends.http.exchange._CLOSE_SECONDS"):  # fmt: skip
        monkeypatch.setattr(f"mellea.{limit}", 40.0)
    with misbehaving(behaviour) as server:
        session = MelleaSession(TinyBackend("m", base_url=server.url))
        thunk = await session.ainstruct("hi", await_result=False, strategy=None)
        if behaviour is not silence:
            await thunk.astream()
        await anyio.sleep(0.05)
        began = time.monotonic()
        await thunk.cancel()
        assert time.monotonic() - began < 20, "it waited as long as a close may take"
        assert await anyio.to_thread.run_sync(server.wait_until_idle, 5.0) == 0
        await session.aclose()


async def test_a_timeout_around_the_verb_closes_the_connection(anyio_backend: str) -> None:
    with misbehaving(endless) as server:
        session = MelleaSession(TinyBackend("m", base_url=server.url))
        with anyio.move_on_after(0.1) as scope:
            await session.ainstruct("hi", strategy=None)
        assert scope.cancelled_caught
        assert await anyio.to_thread.run_sync(server.wait_until_idle, 5.0) == 0
        await session.aclose()


async def test_closing_the_iterator_closes_the_connection(anyio_backend: str) -> None:
    from tests.backends.http.tiny import request

    with misbehaving(endless) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = TinyBackend("m", base_url=server.url)
        events = backend.run(request())
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
        assert await anyio.to_thread.run_sync(server.wait_until_idle, 5.0) == 0
        await backend.aclose()


async def test_a_proper_end_keeps_the_connection(anyio_backend: str) -> None:
    with misbehaving(status(500), good) as server:
        async with MelleaSession(TinyBackend("m", base_url=server.url)) as session:
            for _ in range(3):
                assert (await session.ainstruct("hi", strategy=None)).value == "all well"
            assert (server.opened, len(server.requests), server.is_open) == (1, 4, 1)
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0
