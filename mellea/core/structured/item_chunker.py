"""The chunker for the scope `"item"`: each chunk of the text holds the JSON of one item of a sequence."""

from __future__ import annotations

import re
from typing import Any

from mellea.core.chunkers import Chunk, NonBlankChunker
from mellea.core.structured.items import ItemDecoder, make_item_format
from mellea.core.structured.output_format import OutputFormat

__all__ = ["ItemChunker"]

_PIECE = re.compile(r'[^,\]}"]*+[,\]}"]?')
"""Text up to a place where an item may have ended, so that a chunk ends there however the text was cut."""


class ItemChunker(NonBlankChunker):
    """Divides a JSON text into chunks that hold an item each; the last one may hold what stands after them.

    Args:
        format: what the whole text is to be.
        number: of the first chunk.
        before: the text that came before, which is looked at no more.

    Raises:
        UsageError: the format has no items.
    """

    def __init__(self, format: OutputFormat[Any] | None, *, number: int = 0, before: str = "") -> None:
        super().__init__(_ByItem(format, before), number=number, start=len(before))


class _ByItem:
    """Divides a JSON text after each item; what it gives may be blank."""

    def __init__(self, format: OutputFormat[Any] | None, before: str) -> None:
        self._decoder: ItemDecoder[Any] = ItemDecoder(make_item_format(format))
        self._decoder.feed(before)
        self._decoder.take_texts()
        self._parts: list[str] = []
        self._items: list[str] = []  # whose chunk isn't complete yet

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
        """Return what is left at the end of the text, as the last chunk."""
        self._decoder.close()
        self._items += self._decoder.take_texts()
        return self._make_chunks() if self._items or any(self._parts) else []

    def _make_chunks(self) -> list[Chunk]:
        """Return a chunk for each item that is there; of several at one place, the last one has the text."""
        *before, last = self._items or [""]
        chunks = [Chunk("", item=item) for item in before]
        chunks.append(Chunk("".join(self._parts), item=last))
        self._parts.clear()
        self._items.clear()
        return chunks
