"""A streaming ASGI response: a model's output, encoded and sent as it is written.

Rules:

- A response owns its stream. If its client leaves, reads nothing for `stall` seconds, or the server cancels it, the
  model is stopped, and the response ends once the model's connection is closed.
- One task reads and sends; nothing is read while the client is slow, so a response holds one event at a time. Another
  task waits for the client to leave, and a third one sends keep-alives while there is nothing new. A reader is never
  cancelled to send one, since that would end it.
- The encoder writes every ending that can reach the client: finished, failed, stopped, or suspended.
- No framework is needed. If Starlette is installed, the response is a subclass of its `Response`, so that FastAPI
  accepts it.

Source: the ASGI specification, HTTP version 2.4 (https://asgi.readthedocs.io, 2026-11).
"""

from __future__ import annotations

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import anyio
import anyio.lowlevel

from mellea.core.events import Usage
from mellea.core.runtime.tasks import run_together
from mellea.errors import (
    BackendError,
    ConfigurationError,
    GenerationCancelledError,
    MelleaError,
    OutputError,
    ToolError,
    UsageError,
)
from mellea.serve.served_stream import ServedStream, Streamable

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold
    from mellea.stdlib.agents import Pending

__all__ = [
    "BODY_SECONDS",
    "KEEP_ALIVE_SECONDS",
    "REQUEST_ID",
    "RESPONSE_WAYS",
    "STALL_SECONDS",
    "Encoder",
    "Ending",
    "ErrorText",
    "FixedResponse",
    "Receive",
    "Refusal",
    "Scope",
    "Send",
    "StreamResponse",
    "describe_error",
    "log_failure",
    "read_body",
    "unless_left",
]

_log = logging.getLogger("mellea.serve")

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEEP_ALIVE_SECONDS = 15.0
"""How long nothing may be sent before a keep-alive; proxies abandon a silent response after 30 to 60 s."""

STALL_SECONDS = 60.0
"""How long a client may read nothing before it counts as gone."""

BODY_SECONDS = 30.0
"""How long a request's body may take to arrive."""

_LARGEST_PIECE = 64 * 1024
"""Bytes that are passed to the server at once, so that it can wait for a slow client in between."""

_LAST_WORDS_SECONDS = 1.0
"""For the end of a response that the server cancels."""

REQUEST_ID = "mellea.request_id"
"""The key in the scope of a request's id, which the log and the client get."""

_MASKED = "An error occurred."

RESPONSE_WAYS: Mapping[str, str] = {
    **dict.fromkeys(("status", "status_code"), "a stream begins with status 200; StreamResponse takes another one"),
    **dict.fromkeys(("media_type", "content_type", "mimetype"), "write headers={'content-type': …}"),
    **dict.fromkeys(("ping", "heartbeat"), "sse and ui take keep_alive=…, in seconds"),
    "version": "ui takes the version of the clients' package ai",
    "keep_alive": "plain text has no keep-alives; sse and ui have",
    "timeout": "stall=… is how long a client may read nothing, in seconds",
}
"""What to write for arguments that a response doesn't take."""

ErrorText = Callable[[BaseException], str] | None
"""Makes the text of an error for the client; `None` reveals nothing, `str` everything."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream has ended.

    Attributes:
        error: the error.
        is_stopped: whether the generation was stopped while the client is still connected.
        pending: the questions of a suspended agent run.
        usage: the tokens that it used, if known.
    """

    error: BaseException | None = None
    is_stopped: bool = False
    pending: Pending | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A complete response instead of a stream, for failures before anything was sent."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Encoder(ABC):
    """Encodes a model's output as bytes; one encoder serves one response.

    Attributes:
        media_type: the response's content type.
        headers: further headers.
        opening: sent together with the headers.
        keep_alive: the bytes that are sent while there is nothing new; `None` if the format has no keep-alive.
        begins_at_once: whether headers and opening are sent immediately; if not, an early failure has its own status.
    """

    media_type: ClassVar[str] = "text/event-stream"
    headers: ClassVar[Mapping[str, str]] = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    opening: ClassVar[bytes] = b": stream-open\n\n"
    keep_alive: ClassVar[bytes | None] = b": keep-alive\n\n"
    begins_at_once: ClassVar[bool] = True

    def read(self, source: ServedStream) -> Sequence[AsyncIterator[Any]]:
        """Return the reader whose values `feed` takes; the events by default."""
        return [source.events()]

    @abstractmethod
    def feed(self, value: Any) -> bytes:
        """Encode the next value, `b""` for nothing."""

    async def settle(self, ending: Ending) -> None:
        """Do any work that has to be done before the end is sent, such as saving a suspended run."""
        return

    @abstractmethod
    def finish(self, ending: Ending) -> bytes | None:
        """Encode the end; `None` cuts the connection, so that the client can tell."""

    def refuse(self, error: BaseException) -> Refusal | None:
        """Return the response to a failure before anything was sent; `None` if the stream itself reports it."""
        return None


if TYPE_CHECKING:

    class _Response:
        """The part of Starlette's `Response` that is used here."""

        status_code: int
        background: Any
        body: bytes
        media_type: str | None
        raw_headers: list[tuple[bytes, bytes]]

        def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
            """Make the raw headers."""

else:
    try:
        from starlette.responses import Response as _Response  # optional: if it is installed, subclass it
    except ImportError:

        class _Response:
            """Replaces Starlette's `Response` if that isn't installed."""

            def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
                """Make the raw headers."""
                named = {"content-type": self.media_type, **{k.lower(): v for k, v in (headers or {}).items()}}
                self.raw_headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in named.items()]


class StreamResponse(_Response):
    """An ASGI application that answers one request with a model's output.

    Args:
        stream: a thunk, a stream of a session, a function or an agent, sync or async, or an iterator of strings or
            events. The response owns it: it is stopped when the client leaves.
        encoder: encodes it as bytes.
        headers: additional headers, replacing those with the same name.
        status_code: the status of a successful start.
        keep_alive: seconds of silence after which a keep-alive is sent.
        stall: seconds without reading after which a client counts as gone.
        background: awaited at the end, as by Starlette.

    Raises:
        UsageError: the stream can't be served, or a number is wrong.
    """

    def __init__(
        self,
        stream: Streamable,
        encoder: Encoder,
        *,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,
        keep_alive: float = KEEP_ALIVE_SECONDS,
        stall: float = STALL_SECONDS,
        background: Any = None,
    ) -> None:
        for what, seconds in (("keep_alive", keep_alive), ("stall", stall)):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
                raise UsageError(f"{what} takes a number of seconds above 0, not {seconds!r}")
        self.source = ServedStream(stream)
        self.encoder = encoder
        self.status_code = status_code
        self.background = background
        self.media_type = encoder.media_type
        self._keep_alive, self._stall = keep_alive, stall
        self._request_id = ""
        if headers is not None and not isinstance(headers, Mapping):
            raise UsageError(f"headers takes a dict of strings, not {headers!r}")
        given = {name.lower(): value for name, value in (headers or {}).items()}
        self.init_headers({**encoder.headers, **given})

    def _go_on_in_(self, hold: SpanHold) -> None:
        self.source._go_on_in_(hold)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        out = _Output(self, send)
        self._request_id = scope.get(REQUEST_ID, "")
        try:
            async with anyio.create_task_group() as group:
                out.scope = group.cancel_scope
                # Before the first send, which may wait for a slow client until the stall time-out.
                group.start_soon(_watch, receive, out)
                group.start_soon(out.keep_alive, self.encoder.keep_alive, self._keep_alive)
                await self._answer(out)
                # The watcher and the keep-alive never end on their own.
                group.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            # Shielded, or the first await would be cancelled again; bounded, since a server that stops can't wait for
            # long.
            with anyio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
                await out.end(Ending(is_stopped=True))
            raise
        finally:
            with anyio.CancelScope(shield=True):  # bounded by the close itself
                await self.source.aclose()
        if self.background is not None:
            await self.background()

    async def _answer(self, out: _Output) -> None:
        if self.encoder.begins_at_once:
            await out.begin()
        # One reader: unsent data isn't read ahead, so a slow client slows the model's connection and doesn't fill
        # memory.
        await out.end(await self._read(out))

    async def _read(self, out: _Output) -> Ending:
        """Read and send everything, and return the ending."""
        try:
            await self.source.open()
            readers = self.encoder.read(self.source)
            await run_together([functools.partial(self._pump, reader, out) for reader in readers])
            ending = Ending(pending=self.source.check(), usage=self.source.usage)
            # Before the end is sent: an immediate answer to a question must find the saved state.
            await self.encoder.settle(ending)
            return ending
        except GenerationCancelledError:
            return Ending(is_stopped=True)
        except Exception as error:  # noqa: BLE001 - from any program; reported to the client and the log
            _report(error, self._request_id)
            return Ending(error)

    async def _pump(self, reader: AsyncIterator[Any], out: _Output) -> None:
        async for value in reader:
            if data := self.encoder.feed(value):
                await out.send(data)


class FixedResponse(_Response):
    """An ASGI application that answers one request with a complete body, such as an error.

    Args:
        status_code: the status.
        body: the body.
        media_type: its type.
        headers: more headers.
    """

    def __init__(
        self,
        status_code: int,
        body: bytes = b"",
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code, self.body, self.media_type, self.background = status_code, body, media_type, None
        # RFC 9110, section 8.6: a 204 has no content-length.
        sized = {} if status_code == 204 else {"content-length": str(len(body))}
        self.init_headers({**sized, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})
        if self.background is not None:
            await self.background()


class _Output:
    """The output to the client; two tasks may send at the same time."""

    def __init__(self, response: StreamResponse, send: Send) -> None:
        self._response = response
        self._send = send
        # Keep-alives and the answer come from two tasks; without the lock one could split the other's event.
        self._lock = anyio.Lock()
        self._sent_at = anyio.current_time()
        self._has_begun = self._has_ended = False
        self.is_left = False
        self.scope: anyio.CancelScope | None = None

    def leave(self) -> None:
        """Record that the client is gone, and end the response."""
        self.is_left = True
        if self.scope is not None:
            self.scope.cancel()

    async def begin(self) -> None:
        """Send the headers."""
        async with self._lock:
            await self._begin()

    async def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        async with self._lock:
            # The keep-alive may have waited for the lock while the end was sent.
            if not self._has_ended:
                await self._begin()
                await self._send_body(data)

    async def end(self, ending: Ending) -> None:
        """Send the end, once."""
        encoder = self._response.encoder
        async with self._lock:
            if self._has_ended or self.is_left:
                return
            # Set before the send, so that a failed send isn't followed by another end.
            self._has_ended = True
            if ending.error is not None and not self._has_begun and (refusal := encoder.refuse(ending.error)):
                await self._refuse(refusal)
                return
            await self._begin()
            last = encoder.finish(ending)
            if last is not None:  # otherwise the server cuts the connection, since the answer isn't complete
                await self._send_body(last, more=False)

    async def keep_alive(self, sign: bytes | None, seconds: float) -> None:
        """Send a keep-alive whenever nothing was sent for that long."""
        while sign is not None:
            now = anyio.current_time()
            if now - self._sent_at >= seconds:
                await self.send(sign)
                now = self._sent_at
            # Counted from the last send: while data is sent, the task sleeps.
            await anyio.sleep(self._sent_at + seconds - now)

    async def _begin(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        response = self._response
        await self._put(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        if opening := response.encoder.opening:
            await self._send_body(opening)

    async def _refuse(self, refusal: Refusal) -> None:
        headers = {"content-type": refusal.media_type, "content-length": str(len(refusal.body)), **refusal.headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._put({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self._send_body(refusal.body, more=False)

    async def _send_body(self, data: bytes, *, more: bool = True) -> None:
        pieces = [data[start : start + _LARGEST_PIECE] for start in range(0, len(data), _LARGEST_PIECE)] or [b""]
        for piece in pieces[:-1]:
            await self._put({"type": "http.response.body", "body": piece, "more_body": True})
        await self._put({"type": "http.response.body", "body": pieces[-1], "more_body": more})

    async def _put(self, message: MutableMapping[str, Any]) -> None:
        """Pass a message to the server; a client that reads nothing for too long, or is gone, is abandoned."""
        if self.is_left:
            return
        try:
            with anyio.fail_after(self._response._stall):
                await self._send(message)
        except (OSError, TimeoutError):  # by the specification, servers raise an OSError when a client is gone
            self.leave()
            await anyio.lowlevel.checkpoint()  # this task is cancelled here
        self._sent_at = anyio.current_time()


async def read_body(receive: Receive, limit: int, seconds: float = BODY_SECONDS) -> bytes | None:
    """Return a request's body, `None` if it is too long, takes too long, or its client has left."""
    pieces: list[bytes] = []
    size = 0
    with anyio.move_on_after(seconds):
        while True:
            message = await receive()
            # The client is gone; it hasn't sent a complete body.
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            size += len(piece)
            # Counted as it arrives, since a content-length can be absent, or wrong.
            if size > limit:
                return None
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)
    return None


async def unless_left(receive: Receive, work: Callable[[], Awaitable[T]]) -> T | None:
    """Do some work for a client, and cancel it when the client leaves.

    Args:
        receive: the request's; its body has been read.
        work: the work.

    Returns:
        Its result, `None` if the client has left.

    Raises:
        Exception: what the work raises.
    """
    result: T | None = None
    error: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await _wait_until_left(receive)
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            result = await work()
        except Exception as failed:  # noqa: BLE001 - raised below, unwrapped from the group
            error = failed
        # The watcher would wait for the client forever.
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    return result


def describe_error(error: BaseException, error_text: ErrorText = None) -> str:
    """Return the text of an error for a client: by default only that there was one."""
    return _MASKED if error_text is None else error_text(error)


async def _watch(receive: Receive, out: _Output) -> None:
    await _wait_until_left(receive)
    out.leave()


async def _wait_until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _report(error: Exception, request_id: str) -> None:
    """Log the details that the client doesn't get."""
    log_failure(f"the response {request_id}".rstrip(), error)


def log_failure(which: str, error: Exception) -> None:
    """Log that a request failed, without text from clients or models unless the log level is debug.

    Args:
        which: the request.
        error: the error. One of the program's own is logged with its traceback.
    """
    if not isinstance(error, MelleaError):
        _log.error("%s failed", which, exc_info=error)
        return
    _log.error("%s failed with %s", which, _leave_out_content(error))
    _log.debug("%s failed: %s", which, error)


def _leave_out_content(error: MelleaError) -> str:
    kind = type(error).__name__
    # These messages contain the model's text, a tool's arguments, or the client's data.
    if isinstance(error, (OutputError, ToolError, UsageError)):
        return kind
    if not isinstance(error, BackendError) or isinstance(error, ConfigurationError):
        return f"{kind}: {error}"
    # A provider's message may repeat the prompt.
    known = {"backend": error.backend, "model": error.model, "status": error.status, "request": error.request_id}
    told = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
    return f"{kind} ({told})" if told else kind
