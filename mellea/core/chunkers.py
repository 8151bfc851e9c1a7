"""Divide a text into words, sentences, paragraphs or lines while it is being written.

Rules:

- A chunk begins with the white space before it. White space at the end of the text belongs to the last chunk.
- No chunk is blank, and every character is in exactly one chunk; a blank text has none.
- The chunks don't depend on how the text was split into deltas.
- A chunk is returned as soon as its end is certain and a character other than white space follows. `flush` returns it
  earlier; the white space after it then belongs to the next chunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

from mellea.errors import UsageError

__all__ = ["SCOPES", "Chunk", "Chunker", "NonBlankChunker", "Scope", "TextChunker", "check_scope", "make_text_chunker"]

Scope = Literal["word", "sentence", "paragraph", "line", "item"]
"""The unit into which a text is divided."""

SCOPES: tuple[str, ...] = get_args(Scope)


def check_scope(name: str, scope: Any) -> None:
    """Reject what isn't a scope.

    Args:
        name: the argument, as the error names it.
        scope: what was passed.

    Raises:
        UsageError: there is no such scope.
    """
    if scope not in SCOPES:
        raise UsageError(f"{name} is one of {', '.join(map(repr, SCOPES))}, not {scope!r}")


class Chunk(str):
    """A piece of the text, as a string with its position. Joined, the chunks of one scope are the whole text.

    Attributes:
        number: how many chunks precede it.
        start: how many characters of the answer precede it.
        item: for the scope `"item"`, the JSON of the item in it; `""` if there is none.
        parsed: for the scope `"item"`, the item itself, as `items()` gives it; `None` for other scopes.
    """

    __slots__ = ("item", "number", "parsed", "start")

    number: int
    start: int
    item: str
    parsed: Any

    def __new__(cls, text: str, number: int = 0, start: int = 0, item: str = "", parsed: Any = None) -> Chunk:
        """Make a chunk of a text and its place."""
        chunk = super().__new__(cls, text)
        chunk.number, chunk.start, chunk.item, chunk.parsed = number, start, item, parsed
        return chunk

    def __getnewargs__(self) -> Any:
        return str(self), self.number, self.start, self.item, self.parsed


_CLOSERS = "\"'”’»)]}*_`」』）】"
_CLASS = re.escape(_CLOSERS)

_ENDS: dict[str, str] = {
    "word": r"\S(?=\s)",
    "line": r"\n",
    "paragraph": r"(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n)",
    "sentence": (  # a run of marks is only examined from its beginning: a model may write endless ones
        rf"(?<![.!?…])[.!?…]++[{_CLASS}]*+(?=\s)"
        rf"|(?<![。！？])[。！？]++[{_CLASS}]*+(?=[^。！？{_CLASS}])"
        r"|(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n)"
    ),
}
"""Expressions that find the end of a chunk. A chunker compiles its own: most programs divide no text."""

_DECIDES: dict[str, str] = {
    "word": r"\s",
    "line": r"\n",
    "paragraph": r"\n",
    "sentence": rf"[^.!?…。！？{_CLASS}]|[。！？{_CLASS}][.!?…]",
}
"""What can make the end of a chunk certain; other text need not be searched yet."""

_ABBREVIATION = (
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|cf|al|No|Nr|Fig|ca|approx|bzw|z\.B|d\.h)\.$"
)
"""After these a full stop doesn't end a sentence, although white space follows."""

_LONGEST_ABBREVIATION = 10


class Chunker(Protocol):
    """Divides a text that arrives in pieces into chunks, which together are the text."""

    def feed(self, text: str) -> list[Chunk]:
        """Take more of the text, and return the chunks that are complete now."""

    def close(self) -> list[Chunk]:
        """Return what is left at the end of the text, as the last chunk."""


class NonBlankChunker:
    """Returns the chunks of another chunker without blank ones.

    A chunk of nothing but white space is merged into the next one, or at the end of the text into the last one. A chunk
    with an item is kept even without text, because several items may end at one place.

    Args:
        chunker: divides the text; its numbers and positions aren't used.
        number: number of the first chunk.
        start: how many characters of the answer precede the text.
    """

    def __init__(self, chunker: Chunker, *, number: int = 0, start: int = 0) -> None:
        self._chunker = chunker
        self._number, self._start = number, start
        self._kept: Chunk | None = None  # held back until something other than white space follows
        self._blank: list[str] = []  # blank chunks after it
        self._fed = self._given = 0  # characters fed to the chunker, and returned by it
        self._inked = 0  # characters up to the last one that isn't white space

    @property
    def is_keeping(self) -> bool:
        """Whether there is a chunk to which only white space can be added."""
        return self._kept is not None

    def feed(self, text: str) -> list[Chunk]:
        """Take more of the text, and return the chunks that are complete now."""
        # Counted in the text that is fed, since the inner chunker may hold some of it back.
        if inked := len(text.rstrip()):
            self._inked = self._fed + inked
        self._fed += len(text)
        chunks = self._merge(self._chunker.feed(text))
        # Something other than white space follows the kept chunk, so nothing more belongs to it.
        return chunks + self.flush() if self._inked > self._given else chunks

    def flush(self) -> list[Chunk]:
        """Return the chunk to which only white space could be added, without waiting for that."""
        kept, self._kept = self._kept, None
        return [] if kept is None else [kept]

    def close(self) -> list[Chunk]:
        """Return what is left at the end of the text."""
        chunks = self._merge(self._chunker.close())
        tail, self._blank = "".join(self._blank), []
        return chunks + [
            Chunk(f"{kept}{tail}", kept.number, kept.start, kept.item) if tail else kept for kept in self.flush()
        ]

    def _merge(self, found: list[Chunk]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for chunk in found:
            self._given += len(chunk)
            self._blank.append(str(chunk))
            if not chunk.strip() and not chunk.item:
                continue
            chunks += self.flush()
            self._kept = Chunk("".join(self._blank), self._number, self._start, chunk.item)
            self._blank.clear()
            self._number += 1
            self._start += len(self._kept)
        return chunks


class TextChunker:
    """Finds the ends of chunks with a regular expression; its chunks may be blank.

    Args:
        scope: the unit.
    """

    def __init__(self, scope: Scope) -> None:
        self._pattern, self._decides = re.compile(_ENDS[scope]), re.compile(_DECIDES[scope])
        self._is_end: Callable[[str], bool] = _ends_sentence if scope == "sentence" else bool
        self._before: list[str] = []  # text of the unfinished chunk that can't contain its end
        self._tail, self._open = "", 0  # the text after that, and the place from which on it may contain the end
        self._later: list[str] = []  # text after that, which can't make an end certain
        self._last = ""  # the last character so far

    def feed(self, text: str) -> list[Chunk]:
        """Take more of the text, and return the chunks that are complete now."""
        # Most pieces can't make an end certain, and searching all of an open chunk for each would be quadratic.
        if not self._is_decisive(text):
            self._later.append(text)
            return []
        tail = "".join([self._tail, *self._later, text])
        self._later.clear()
        chunks: list[Chunk] = []
        start, position = 0, self._open
        while (match := self._pattern.search(tail, position)) is not None:
            end = position = match.end()
            if end > start and self._is_end(tail[max(start, end - _LONGEST_ABBREVIATION) : end]):
                chunks.append(self._make_chunk(tail[start:end]))
                start = end
            elif match.start() == end:  # an empty match
                position += 1
        self._keep(tail[start:])
        return chunks

    def close(self) -> list[Chunk]:
        """Return what is left at the end of the text, as the last chunk."""
        rest, self._tail = "".join([self._tail, *self._later]), ""
        self._later.clear()
        return [self._make_chunk(rest)] if rest or self._before else []

    def _is_decisive(self, text: str) -> bool:
        # More blanks after blanks decide nothing, and a model may write them endlessly.
        is_more_blank = self._last.isspace() and text.isspace() and "\n" not in text
        # With the character before: a mark and the space after it may come in two pieces.
        seen, self._last = self._last + text, text[-1:] or self._last
        return not is_more_blank and self._decides.search(seen) is not None

    def _keep(self, rest: str) -> None:
        """Set aside text that can't contain the end, so that a long chunk costs linear time."""
        closed = rest.rstrip()
        if not closed:  # a chunk doesn't end within its leading white space
            open_from = kept_from = len(rest)
        else:
            open_from = len(closed) if closed != rest else _find_open_end(rest)
            # Keep enough before the open end to recognise an abbreviation.
            kept_from = max(0, open_from - _LONGEST_ABBREVIATION)
        if kept_from:
            self._before.append(rest[:kept_from])
        self._tail, self._open = rest[kept_from:], open_from - kept_from

    def _make_chunk(self, text: str) -> Chunk:
        chunk = Chunk("".join([*self._before, text]))
        self._before.clear()
        return chunk


def make_text_chunker(scope: Scope, *, number: int = 0, start: int = 0) -> NonBlankChunker:
    """Make a chunker for a text.

    Args:
        scope: the unit.
        number: number of the first chunk.
        start: how many characters of the answer precede the text.

    Raises:
        UsageError: there is no chunker for that scope.
    """
    if scope not in _ENDS:
        raise UsageError(f"text is divided into {', '.join(map(repr, _ENDS))}, not {scope!r}")
    return NonBlankChunker(TextChunker(scope), number=number, start=start)


def _ends_sentence(text: str) -> bool:
    return bool(text) and re.search(_ABBREVIATION, text) is None


def _find_open_end(text: str) -> int:
    """Return where trailing punctuation begins that may or may not end a sentence."""
    before = text.rstrip(_CLOSERS)
    return min(len(before.rstrip(".!?…")), len(before.rstrip("。！？")), len(text) - 1)
