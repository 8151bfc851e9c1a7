"""Chunks: pieces of a running stream that a requirement can look at before the rest is there."""

from __future__ import annotations

from typing import Any, Literal, get_args

__all__ = ["SCOPES", "Chunk", "Scope"]

Scope = Literal["word", "sentence", "paragraph", "line", "item"]
"""What a chunk is: the piece of the text that is looked at in one go."""

SCOPES: tuple[str, ...] = get_args(Scope)


class Chunk(str):
    """A piece of the text, as a text that knows its place. All chunks of one scope together are the whole text.

    Attributes:
        number: how many chunks came before it.
        start: how many characters of the answer came before it.
        item: for the scope `"item"`, the JSON text of the item alone, `""` where the chunk holds none.
    """

    __slots__ = ("item", "number", "start")

    number: int
    start: int
    item: str

    def __new__(cls, text: str, number: int = 0, start: int = 0, item: str = "") -> Chunk:
        """Make a chunk of a text and its place."""
        chunk = super().__new__(cls, text)
        chunk.number, chunk.start, chunk.item = number, start, item
        return chunk

    def __getnewargs__(self) -> Any:
        return str(self), self.number, self.start, self.item
