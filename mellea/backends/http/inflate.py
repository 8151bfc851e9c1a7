"""Decompresses gzip and deflate responses as they arrive, never more at once than is requested.

Rules:

- A piece has at most `PIECE_BYTES`, and the loop is released between two pieces of one read: a megabyte on the wire
  may inflate to a gigabyte.
- A gzip body may have several members (RFC 1952, section 2.2). "deflate" means the zlib format (RFC 9110, section
  8.4.1.2), but many servers send raw deflate.
- A body that is plain text despite its header is returned unchanged.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.lowlevel

from mellea.errors import WireError

__all__ = ["ASKED", "PIECE_BYTES", "Inflated", "list_codings"]

PIECE_BYTES = 64 * 1024
"""How many bytes are inflated at once."""

_PLAIN = frozenset({"", "identity", "none", "utf-8", "utf8", "binary"})
ASKED = frozenset({"gzip", "x-gzip", "deflate"})
"""The content codings that are accepted."""

_GZIP, _ZLIB, _BARE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"
_OPENINGS = (b"{", b"[", b"<", b":", b'"', b"data:", b"event:", b"id:", b"retry:")
"""The first bytes of uncompressed bodies."""

_ENOUGH = max(map(len, _OPENINGS))


def list_codings(header: str) -> list[str]:
    """Return the content codings in a header, the one that was applied last first.

    `identity` is left out.
    """
    names = [name.strip().lower() for name in header.split(",")]
    return [name for name in reversed(names) if name not in _PLAIN]


class Inflated:
    """The decompressed reads of a response. It is not a generator, since a dropped one would have to be closed.

    Args:
        reads: the compressed ones.
        coding: how they are compressed. With an unknown one only plain text can be read.
    """

    def __init__(self, reads: AsyncIterator[bytes], coding: str = "gzip") -> None:
        self._reads = reads
        self._coding = coding
        self._step: Callable[[bytes], bytes] = self._begin
        self._inflate: Any = None
        self._rest = b""  # compressed bytes that are waiting
        self._has_more = False  # without further bytes
        self._is_over = False  # no more is read

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the compressed data ended properly."""
        return self._inflate is None or bool(self._inflate.eof)

    async def __anext__(self) -> bytes:
        is_first = True
        while True:
            if self._has_more:
                if is_first:  # the previous piece came from the same read
                    await anyio.lowlevel.checkpoint()
            else:
                try:
                    self._rest += await anext(self._reads)
                except StopAsyncIteration:
                    if self._is_over or not self._rest:
                        raise
                    self._is_over = True
            is_first = False
            self._has_more = False
            data, self._rest = self._rest, b""
            if plain := self._step(data):
                return plain

    def _begin(self, data: bytes) -> bytes:
        """Detect the format from the first bytes."""
        if self._coding in ASKED and data.startswith(_MAGIC):
            return self._open(data, _GZIP)
        if len(data) < _ENOUGH and not self._is_over:
            self._rest = data
            return b""
        if _is_text(data):
            self._step = _pass_on
            return data
        if self._coding in ASKED:
            return self._open(data, _ZLIB if _is_zlib(data) else _BARE)
        raise WireError(
            f"the answer is compressed as {self._coding!r}, which wasn't requested and can't be decoded; check the "
            "server, or a proxy in front of it"
        )

    def _open(self, data: bytes, bits: int) -> bytes:
        self._inflate = zlib.decompressobj(bits)
        self._step = self._inflate_next
        return self._inflate_next(data)

    def _inflate_next(self, data: bytes) -> bytes:
        """Inflate some of the waiting bytes."""
        try:
            plain: bytes = self._inflate.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise WireError(f"the answer can't be decompressed as {self._coding!r}: {error}") from None
        self._rest = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._rest = self._inflate.unused_data
            self._step = self._inflate_further
        self._has_more = bool(self._rest) or len(plain) == PIECE_BYTES
        return plain

    def _inflate_further(self, data: bytes) -> bytes:
        """Continue with the next member, if there is one; anything else is padding."""
        if not data.startswith(_MAGIC[: len(data)]):
            self._step = _drop
        elif len(data) < len(_MAGIC) and not self._is_over:
            self._rest = data
        else:
            return self._open(data, _GZIP)
        return b""


def _pass_on(data: bytes) -> bytes:
    return data


def _drop(data: bytes) -> bytes:
    return b""


def _is_zlib(data: bytes) -> bool:
    # RFC 1950, section 2.2: the method is 8, and the two bytes together are a multiple of 31.
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _is_text(data: bytes) -> bool:
    start = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(_OPENINGS) and not any(byte < 32 and byte not in b"\t\n\r" for byte in start)
