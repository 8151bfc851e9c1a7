"""An open response: reading it, and closing it in any state of the task."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio

from mellea.backends.http.inflate import ASKED, Inflated, codings_of

__all__ = ["Response"]

_log = logging.getLogger("mellea")

_CLOSE_SECONDS = 2.0

_MOST_CODINGS = 3
_STREAMS = frozenset({"text/event-stream", "application/x-ndjson"})


class Response:
    """An open response; it must be closed.

    Args:
        response: the client's own.
        errors: what that raises.
        release: called once, when the response has been closed.
        is_ours: it comes from a client of ours, whose body is read without a copy.

    Attributes:
        status: the HTTP status.
        headers: a mapping that doesn't mind case.
        errors: what reading may raise; whoever reads makes an error of mellea's of it.
    """

    __slots__ = ("_inflated", "_raw", "_reads", "_release", "_response", "errors", "headers", "status")

    def __init__(
        self,
        response: Any,
        errors: tuple[type[BaseException], ...],
        release: Callable[[], None],
        *,
        is_ours: bool = False,
    ) -> None:
        self._response = response
        self._release: Callable[[], None] | None = release
        encoding = response.headers.get("content-encoding", "")
        codings = codings_of(encoding) if encoding else []
        self.errors = errors
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._raw: AsyncIterator[bytes]
        # One that came with its body, as from a mock, has no raw bytes any more; other codings are left to the client.
        if response.is_stream_consumed or not (is_ours or ASKED.issuperset(codings)):
            self._raw = response.aiter_bytes()
            codings = [] if response.is_stream_consumed else codings[:1]
        elif is_ours and self.media_type in _STREAMS:
            self._raw = aiter(response.stream)  # what `aiter_raw` cuts into pieces, at 400 ns each
        else:
            self._raw = response.aiter_raw()
        self._inflated: Inflated | None = None
        self._reads = self._raw
        for coding in codings[:_MOST_CODINGS]:
            self._reads = self._inflated = Inflated(self._reads, coding)

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def reads(self) -> AsyncIterator[bytes]:
        """Return the iterator over what the network brings, decompressed; there is one."""
        return self._reads

    async def read(self, limit: int, seconds: float | None = None) -> tuple[bytes, bool]:
        """Return the body, and whether it is whole: not cut by `limit`, by `seconds` or by the network."""
        body = bytearray()
        try:
            with anyio.move_on_after(seconds):
                async for data in self._reads:
                    body += data
                    if len(body) > limit:
                        return bytes(body[:limit]), False
                return bytes(body), self._inflated is None or self._inflated.is_whole
        except self.errors:
            _log.debug("a response was cut after %d bytes", len(body))
        return bytes(body), False

    async def aclose(self, grace: float = 0.0) -> None:
        """Close the response, in any state of the task; wait at most `grace` seconds for its proper end.

        A proper end keeps the connection for the next request, anything else closes it.
        """
        if self._release is None:
            return
        release, self._release = self._release, None
        try:
            await self._end(grace)
        except self.errors:
            _log.debug("a response failed to close", exc_info=True)
        finally:
            release()

    async def _end(self, grace: float) -> None:
        try:
            # Read to its end, or ended by a cancellation, the iterator has no frame any more. A loop that shuts down
            # ends all generators at once, this one as well as those that read it.
            if getattr(self._raw, "ag_frame", self) is not None and not getattr(self._raw, "ag_running", False):
                with anyio.move_on_after(grace, shield=True):
                    # A client's iterator is a chain of generators. An exception out of the innermost one, which the
                    # scope sends, ends all of them; closing the outermost would leave the others to the collector.
                    async for _ in self._raw:
                        pass
                    if grace:  # at its proper end nothing is left to wait for
                        await self._response.aclose()
        finally:
            if not self._response.is_closed:
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                    await self._response.aclose()
