"""`mellea.serve.text(stream)`: the plain text of an answer, as it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from mellea.core.entrance import entrance
from mellea.core.surrogates import replace_surrogates
from mellea.serve.response import (
    RESPONSE_WAYS,
    STALL_SECONDS,
    Encoder,
    Ending,
    ErrorText,
    Refusal,
    StreamResponse,
    describe_error,
)
from mellea.serve.served_stream import ServedStream, Streamable

__all__ = ["TextEncoder", "text"]


class TextEncoder(Encoder):
    """Writes only the final text.

    Plain text can't say that it is incomplete. A failure before the first piece has status 502; a later failure or
    stop cuts the connection.

    Args:
        error_text: makes the text of a refusal.
    """

    media_type: ClassVar[str] = "text/plain; charset=utf-8"
    headers: ClassVar[Mapping[str, str]] = {
        "cache-control": "no-cache",
        # nginx buffers answers unless it is told not to.
        "x-accel-buffering": "no",
        # The text comes from a model: a browser must not interpret it as HTML.
        "x-content-type-options": "nosniff",
    }
    opening: ClassVar[bytes] = b""
    # Every byte is part of the text, so there is no keep-alive.
    keep_alive: ClassVar[bytes | None] = None
    # The headers include the status, and an error before the first piece needs its own.
    begins_at_once: ClassVar[bool] = False

    def __init__(self, error_text: ErrorText = None) -> None:
        self._error_text = error_text

    def read(self, source: ServedStream) -> Sequence[AsyncIterator[Any]]:
        """Read the text."""
        return [source.text()]

    def feed(self, value: str) -> bytes:
        """Return the piece of text in UTF-8."""
        return replace_surrogates(value).encode()

    def finish(self, ending: Ending) -> bytes | None:
        """Return nothing after a complete text, and `None` after one that isn't."""
        return b"" if ending.error is None and not ending.is_stopped else None

    def refuse(self, error: BaseException) -> Refusal:
        """Return a response that reports the failure."""
        said = describe_error(error, self._error_text)
        return Refusal(502, replace_surrogates(said).encode(), self.media_type)


@entrance("text", **RESPONSE_WAYS)
def text(
    stream: Streamable,
    *,
    headers: Mapping[str, str] | None = None,
    error_text: ErrorText = None,
    stall: float = STALL_SECONDS,
) -> StreamResponse:
    """Make a response from the plain text of an answer, sent as it is written.

    It is a Starlette response, also for FastAPI, if Starlette is installed, and always an ASGI application. When the
    client leaves, the model is stopped. If the text ends early, the connection is cut; if there was no text yet, the
    status is 502.

    Args:
        stream: a thunk, a stream of a session, a function or an agent, or an iterator of strings. For an agent, the
            answer is sent; under a strategy, the accepted text.
        headers: additional headers.
        error_text: makes the text of an error; by default it only says that there was one.
        stall: seconds without reading after which a client counts as gone.

    Raises:
        UsageError: an argument is wrong.
    """
    return StreamResponse(stream, TextEncoder(error_text), headers=headers, stall=stall)
