"""The chunker for the scope `"item"`: each chunk holds the JSON of one item of a sequence."""

from __future__ import annotations

import re
from typing import Any

from mellea.core.chunkers import Chunk, NonBlankChunker
from mellea.core.structured.items import ItemDecoder, make_item_format
from mellea.core.structured.output_format import OutputFormat

__all__ = ["ItemChunker"]

_PIECE = re.compile(r'[^,\]}"]*+[,\]}"]?')
"""Text up to a character that may end an item, so that chunks don't depend on how the text was split."""


class ItemChunker(NonBlankChunker):
    """Divides a JSON text into chunks with one item each; the last chunk may hold the text after the items.

    Args:
        format: the format of the whole text.
        number: number of the first chunk.
        before: the text that came before, for which no chunks are made.

    Raises:
        UsageError: the format has no items.
    """

    def __init__(self, format: OutputFormat[Any] | None, *, number: int = 0, before: str = "") -> None:
        super().__init__(_ByItem(format, before), number=number, start=len(before))


class _ByItem:
    """Divides a JSON text after each item; its chunks may be blank."""

    def __init__(self, format: OutputFormat[Any] | None, before: str) -> None:
        self._decoder: ItemDecoder[Any] = ItemDecoder(make_item_format(format))
        self._decoder.feed(before)
        self._decoder.take_texts()
        self._parts: list[str] = []
        self._items: list[str] = []  # items whose chunk isn't complete yet

    def feed(self, text: str) -> list[Chunk]:
        """Take more of the text, and return the chunks that are complete now."""
        chunks: list[Chunk] = []
        for piece in _PIECE.findall(text):
            self._parts.append(piece)
            self._decoder.feed(piece)
            self._items += self._decoder.take_texts()
            if self._items and piece[-1:] in (",", "]", "}", '"'):
                chunks += self._make_chunks()
        return chunks

    def close(self) -> list[Chunk]:
        """Return the rest of the text as the last chunk."""
        self._decoder.close()
        self._items += self._decoder.take_texts()
        return self._make_chunks() if self._items or any(self._parts) else []

    def _make_chunks(self) -> list[Chunk]:
        """Return a chunk for each pending item; where several end at one place, the last one gets the text."""
        *before, last = self._items or [""]
        chunks = [Chunk("", item=item) for item in before]
        chunks.append(Chunk("".join(self._parts), item=last))
        self._parts.clear()
        self._items.clear()
        return chunks
