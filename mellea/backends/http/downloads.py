"""Downloads a large file from a provider, into memory or into a temporary file that is renamed at the end.

Rules:

- The key is only sent to the provider's own server. A file elsewhere, or a redirect to one, is fetched without our
  headers, and never over plain HTTP if the provider uses TLS.
- A broken download is resumed if the server supports it (`Range`, RFC 9110, section 14), else restarted, as often as
  requests are retried. After that it is an error, never half a file.
- The limit applies to what has arrived, not to what the server announces.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urljoin

import anyio
import anyio.to_thread

from mellea.backends.http.exchange import Attempts, Exchange, Response
from mellea.backends.http.failure import find_root
from mellea.core.videos import open_part
from mellea.errors import BackendError, InterruptedStreamError, MelleaError, StatusError, UsageError, WireError

__all__ = ["Download", "FileHost", "fetch_file"]

_WRITE_BYTES = 2**20
"""How much is written at a time: each write is a thread's."""

_MOST_DIGITS = 18
"""Of a size: what fits into 64 bits."""

_MOST_REDIRECTS = 3
_REPORT_SECONDS = 0.1
"""The time between two reports of progress."""

_SILENCE = 60.0
"""Seconds that a server may be silent while it sends a file."""


class FileHost(Protocol):
    """The owner of a file: what a backend needs for downloads."""

    retries: int

    @property
    def origin(self) -> str:
        """Scheme, host and port of the provider's own server."""

    def open_file(self, place: str, headers: Mapping[str, str]) -> Exchange:
        """Return the exchange that downloads a file."""


@dataclass(frozen=True, slots=True)
class Download:
    """A downloaded file: its media type, and its bytes or its path."""

    media_type: str
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None


async def fetch_file(
    backend: FileHost, place: str, *, to: Path | None, max_bytes: int, report: Callable[[int, int | None], None]
) -> Download:
    """Fetch a file.

    Args:
        backend: the owner of the file.
        place: a path relative to the base URL, or a whole address.
        to: where to write it; `None` for memory.
        max_bytes: its largest size.
        report: called with the number of bytes so far, and in total.

    Raises:
        BackendError: it doesn't exist any more, is too large, or the connection broke too often.
        UsageError: the file can't be written.
    """
    sink = _Sink(max_bytes)
    part = None
    try:
        if to is not None:
            part = sink.part = await anyio.to_thread.run_sync(open_part, to)
            sink.file = await anyio.to_thread.run_sync(part.open, "wb")
        await _Fetch(backend, place, sink, report).run()
        if part is None or to is None:
            return Download(sink.media_type, bytes(sink.waiting))
        await sink.flush()
        await anyio.to_thread.run_sync(sink.close)
        await anyio.to_thread.run_sync(os.replace, part, to)
        return Download(sink.media_type, path=to)
    except OSError as error:
        if isinstance(error, MelleaError):
            raise
        raise UsageError(f"the video can't be written to {str(to)!r}: {error}") from error
    finally:
        sink.close()
        if part is not None:
            part.unlink(missing_ok=True)


class _Sink:
    """The destination of the bytes; it can be restarted."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.part: Path | None = None
        self.file: IO[bytes] | None = None
        self.waiting = bytearray()
        self.size = 0
        self.media_type = "video/mp4"

    async def take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.max_bytes:
            raise _make_too_large_error(self.max_bytes)
        self.waiting += data
        if self.file is not None and len(self.waiting) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self.file is not None and self.waiting:
            data, self.waiting = self.waiting, bytearray()
            await anyio.to_thread.run_sync(self.file.write, data)

    async def restart(self) -> None:
        self.waiting.clear()
        self.size = 0
        if self.file is not None:
            self.file.seek(0)
            await anyio.to_thread.run_sync(self.file.truncate, 0)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class _Fetch:
    """One download with its attempts."""

    def __init__(self, backend: FileHost, place: str, sink: _Sink, report: Callable[[int, int | None], None]) -> None:
        self._backend, self._place, self._sink, self._report = backend, place, sink, report
        self._reported = 0.0
        self._tag = ""  # of the bytes so far: a different one means a different file

    async def run(self) -> None:
        attempts = Attempts(self._backend.retries)
        while True:
            try:
                return await self._attempt()
            except InterruptedStreamError as error:
                if (pause := attempts.pause(error)) is None:
                    raise
            await anyio.sleep(pause)

    async def _attempt(self) -> None:
        sink = self._sink
        # A weak tag says that two files are alike, not that their bytes are the same (RFC 9110, section 13.1.5).
        can_go_on = sink.size > 0 and bool(self._tag)
        headers = {"range": f"bytes={sink.size}-", "if-range": self._tag} if can_go_on else {}
        exchange, response = await self._open(headers)
        try:
            total = await self._begin(response)
            if total is not None and total > sink.max_bytes:
                raise _make_too_large_error(sink.max_bytes)
            try:
                async for data in response.reads:
                    await sink.take(data)
                    if sink.size == total or time.monotonic() - self._reported >= _REPORT_SECONDS:
                        self._reported = time.monotonic()
                        self._report(sink.size, total)
            except response.errors as error:
                root = find_root(error)
                raise _make_interrupted_error(sink.size, total, str(root) or type(root).__name__) from None
            if total is not None and sink.size < total:
                raise _make_interrupted_error(sink.size, total, "the server ended it")
        except MelleaError as error:
            exchange.describe(error)
            raise
        finally:
            await response.aclose()
            if exchange.request.origin != self._backend.origin:
                await exchange.connector.aclose()  # no other request uses that server on this loop

    async def _begin(self, response: Response) -> int | None:
        """Handle the headers of a response: start over, unless it continues where the last one broke. Returns the
        size."""
        headers, sink = response.headers, self._sink
        if response.status == 206:
            start, total = _read_range(headers.get("content-range", ""))
            if start == sink.size:
                return total
            raise WireError(f"the server sent another part of the file than bytes {sink.size} and up")
        if sink.size:
            await sink.restart()
        tag = headers.get("etag", "")
        self._tag = tag if tag.startswith('"') and headers.get("accept-ranges", "") == "bytes" else ""
        if response.media_type.startswith("video/"):
            sink.media_type = response.media_type
        length = headers.get("content-length", "")
        is_sized = length.isascii() and length.isdecimal() and len(length) <= _MOST_DIGITS
        return int(length) if is_sized and not headers.get("content-encoding") else None

    async def _open(self, headers: Mapping[str, str]) -> tuple[Exchange, Response]:
        place = self._place
        for _ in range(_MOST_REDIRECTS + 1):
            exchange = self._backend.open_file(place, headers)
            exchange.request.read = _SILENCE
            try:
                while (response := await exchange.open()) is None:
                    continue
                return exchange, response
            except StatusError as error:
                location = exchange.location
                if error.status is None or not 300 <= error.status < 400 or not location:
                    exchange.describe(error)
                    if exchange.request.origin != self._backend.origin:
                        error.add_note("the provider keeps the file on another server, which isn't sent the key")
                    raise
                place = urljoin(exchange.request.url, location)
            except BackendError as error:
                exchange.describe(error)
                raise
        raise WireError(f"the file is behind more than {_MOST_REDIRECTS} redirects")


def _read_range(text: str) -> tuple[int | None, int | None]:
    """Return the offset of a part of a file, and the size of the file: `bytes 100-199/200` (RFC 9110, 14.4)."""
    unit, _, rest = text.partition(" ")
    place, _, size = rest.partition("/")
    start = place.partition("-")[0]
    is_known = unit == "bytes" and start.isascii() and start.isdecimal() and len(start) <= _MOST_DIGITS
    is_sized = size.isascii() and size.isdecimal() and len(size) <= _MOST_DIGITS
    return int(start) if is_known else None, int(size) if is_sized else None


def _make_too_large_error(limit: int) -> WireError:
    return WireError(f"the video is larger than {limit} bytes; if it may be, raise max_bytes=")


def _make_interrupted_error(size: int, total: int | None, why: str) -> InterruptedStreamError:
    whole = "" if total is None else f" of {total}"
    return InterruptedStreamError(
        f"the connection broke after {size}{whole} bytes of the video ({why})", is_retryable=True
    )
