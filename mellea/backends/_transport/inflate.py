"""Compressed responses: what gzip and deflate hold, as it arrives."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from mellea.errors import WireError

__all__ = ["ENCODINGS", "Inflated"]

ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""The content codings that are asked for and understood."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Inflated:
    """The decompressed reads of a response. It is no generator, since a dropped one would have to be closed.

    Args:
        reads: the compressed ones.
    """

    def __init__(self, reads: AsyncIterator[bytes]) -> None:
        self._reads = reads
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            data = await anext(self._reads)
            try:
                plain = self._inflate.decompress(data)
            except zlib.error as error:
                raise WireError(f"the answer can't be decompressed: {error}") from None
            if plain:
                return plain
