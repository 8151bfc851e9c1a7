"""From a response's content type to its decoder, and what it means when the connection breaks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import anyio

from mellea.backends._transport.codec import Decoder
from mellea.backends._transport.decoding import MAX_BODY_BYTES, WireDecoder
from mellea.backends._transport.failure import root_of
from mellea.backends._transport.response import Response
from mellea.backends._transport.words import shortened
from mellea.core.events import Event, StreamEnd
from mellea.errors import BackendError, InterruptedStreamError, MelleaError, WireError

__all__ = ["MAX_BODY_BYTES", "decoder_for", "last_events", "late_events"]

_log = logging.getLogger("mellea")

_BEGINNING_BYTES = 4096
_BEGINNING_SECONDS = 2.0

_UNSAID = frozenset({"", "text/plain", "application/octet-stream", "binary/octet-stream"})
"""Content types that say nothing: the answer is taken for what was asked for."""


class _Whole:
    """The decoder of an answer in one JSON body."""

    is_complete = False

    def __init__(self, decode: Callable[[bytes], list[Event]]) -> None:
        self.error: BackendError | None = None
        self._decode = decode
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            raise WireError(f"the answer is larger than {MAX_BODY_BYTES} bytes")
        return []

    def close(self) -> list[Event]:
        return self._decode(bytes(self._body))


class _Doubtful:
    """The decoder of what a server sends without saying that it is a stream."""

    is_complete = False

    def __init__(self, decoder: Decoder, kind: str) -> None:
        self._decoder = decoder
        self._kind = kind
        self._beginning = b""
        self._is_stream = False

    @property
    def error(self) -> BackendError | None:
        return self._decoder.error

    def feed(self, data: bytes) -> list[Event]:
        events = self._decoder.feed(data)
        self._is_stream = self._is_stream or bool(events)
        if len(self._beginning) < _BEGINNING_BYTES:
            self._beginning += data
        return events

    def close(self) -> list[Event]:
        try:
            return self._decoder.close()
        except InterruptedStreamError:
            if self._is_stream or not self._beginning:
                raise
        raise _alien(self._kind, self._beginning)


async def decoder_for(
    response: Response,
    stream_types: tuple[str, ...],
    streamed: Callable[[], Decoder],
    plain: Callable[[bytes], list[Event]],
    *,
    is_streamed: bool,
) -> Decoder:
    """Return the decoder of a response: what the server says it sends counts, not what was asked for.

    Args:
        response: the open response.
        stream_types: the content types of a stream.
        streamed: makes the decoder of a stream.
        plain: decodes one JSON body.
        is_streamed: whether a stream was asked for.

    Raises:
        WireError: it is neither; the message shows its beginning.
    """
    kind = response.media_type
    decoder = streamed()
    if isinstance(decoder, WireDecoder):
        decoder.media_type = kind
        return decoder
    if kind in stream_types:
        return streamed()
    if kind in _UNSAID and is_streamed:
        return _Doubtful(streamed(), kind)
    if kind == "application/json" or kind.endswith("+json") or kind in _UNSAID:
        return _Whole(plain)
    body, _ = await response.read(_BEGINNING_BYTES, _BEGINNING_SECONDS)
    raise _alien(kind, body)


def _alien(kind: str, body: bytes) -> WireError:
    return WireError(
        f"the server sent {kind or 'something'!r} instead of a model's answer; check base_url. It begins: "
        f"{shortened(body)}"
    )


async def late_events(response: Response, decoder: Decoder, seconds: float) -> list[Event]:
    """Read on behind the answer's end mark, for the usage and the like, and return the events that end the answer.

    The answer is complete: nothing that happens here fails it.

    Args:
        response: has been read up to the end mark.
        decoder: has been fed all that came.
        seconds: how long it may take.
    """
    events: list[Event] = []
    harmless: tuple[type[BaseException], ...] = (MelleaError, *response.errors)
    try:
        with anyio.move_on_after(seconds):
            async for data in response.reads():
                events += decoder.feed(data)
                if (events and type(events[-1]) is StreamEnd) or decoder.error is not None:
                    break
    except harmless as error:
        _log.info("an answer was complete when this came behind its end: %s", error)
    return events if events and type(events[-1]) is StreamEnd else events + decoder.close()


def last_events(decoder: Decoder, cut: BaseException | None) -> list[Event]:
    """Return the events that end an answer.

    Args:
        decoder: has been fed all that came.
        cut: what broke the connection, if anything did.

    Raises:
        InterruptedStreamError: the provider's own end hasn't come.
    """
    if cut is None:
        try:
            return decoder.close()
        except InterruptedStreamError as error:
            error.is_retryable = error.is_retryable or not isinstance(decoder, WireDecoder)
            raise
    with suppress(InterruptedStreamError, WireError):  # half a line is no fault of the provider's then
        if not isinstance(decoder, _Whole):
            return decoder.close()
    root = root_of(cut)
    raise InterruptedStreamError(
        f"the connection broke before the answer was complete ({str(root) or type(root).__name__}); "
        "what had arrived is in .partial",
        is_retryable=True,
    )
