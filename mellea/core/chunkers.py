"""Chunkers: they divide a text into words, sentences, paragraphs or lines while it is being written.

A chunk begins with the white space before it and is given out once its end is certain. However the text was cut
on its way, the chunks are the same, and all together they are the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from mellea.core.chunk import Chunk, Scope
from mellea.errors import UsageError

__all__ = ["Chunker", "TextChunker", "text_chunker"]

_CLOSERS = "\"'”’»)]}*_`」』）】"
_CLASS = re.escape(_CLOSERS)

_ENDS: dict[str, re.Pattern[str]] = {
    "word": re.compile(r"\S(?=\s)"),
    "line": re.compile(r"\n"),
    "paragraph": re.compile(r"(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n)"),
    "sentence": re.compile(  # a run of marks is looked at from its beginning alone: a model may write endless ones
        rf"(?<![.!?…])[.!?…]++[{_CLASS}]*+(?=\s)"
        rf"|(?<![。！？])[。！？]++[{_CLASS}]*+(?=[^。！？{_CLASS}])"
        r"|(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n)"
    ),
}

_DECIDES: dict[str, re.Pattern[str]] = {
    "word": re.compile(r"\s"),
    "line": re.compile(r"\n"),
    "paragraph": re.compile(r"\n"),
    "sentence": re.compile(rf"[^.!?…。！？{_CLASS}]|[。！？{_CLASS}][.!?…]"),
}
"""What makes an end certain; text without it can wait."""

_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|cf|al|No|Nr|Fig|ca|approx|bzw|z\.B|d\.h)\.$"
)
"""After these a point doesn't end a sentence, though white space follows."""

_LONGEST_ABBREVIATION = 10


class Chunker(Protocol):
    """Divides a text that comes in pieces into chunks."""

    def feed(self, text: str) -> list[Chunk]:
        """Take more of the text, and return the chunks that are complete now."""

    def close(self) -> list[Chunk]:
        """Return what is left at the end of the text, as the last chunk."""


class TextChunker:
    """A chunker that finds ends by a pattern.

    Args:
        scope: what a chunk is.
        number: of the first chunk.
        start: how many characters of the answer came before the text.
    """

    def __init__(self, scope: Scope, *, number: int = 0, start: int = 0) -> None:
        self._pattern, self._decides = _ENDS[scope], _DECIDES[scope]
        self._is_end: Callable[[str], bool] = _ends_sentence if scope == "sentence" else bool
        self._number, self._start = number, start
        self._before: list[str] = []  # of the chunk that is being written, where no end can be any more
        self._tail, self._open = "", 0  # and where one can be: from that place on
        self._later: list[str] = []  # and what came after it and decides nothing
        self._last = ""  # character that came

    def feed(self, text: str) -> list[Chunk]:
        """Take more of the text, and return the chunks that are complete now."""
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
                chunks.append(self._chunk(tail[start:end]))
                start = end
            elif match.start() == end:  # an empty match
                position += 1
        self._keep(tail[start:])
        return chunks

    def close(self) -> list[Chunk]:
        """Return what is left at the end of the text, as the last chunk."""
        rest, self._tail = "".join([self._tail, *self._later]), ""
        self._later.clear()
        return [self._chunk(rest)] if rest or self._before else []

    def _is_decisive(self, text: str) -> bool:
        is_more_blank = self._last.isspace() and text.isspace() and "\n" not in text
        seen, self._last = self._last + text, text[-1:] or self._last
        return not is_more_blank and self._decides.search(seen) is not None

    def _keep(self, rest: str) -> None:
        """Look no more at text in which no end can be: so the cost of a long chunk is linear."""
        closed = rest.rstrip()
        if not closed:  # a chunk doesn't end in the white space that it begins with
            open_from = kept_from = len(rest)
        else:
            open_from = len(closed) if closed != rest else _open_end(rest)
            kept_from = max(0, open_from - _LONGEST_ABBREVIATION)
        if kept_from:
            self._before.append(rest[:kept_from])
        self._tail, self._open = rest[kept_from:], open_from - kept_from

    def _chunk(self, text: str) -> Chunk:
        chunk = Chunk("".join([*self._before, text]), self._number, self._start)
        self._before.clear()
        self._number += 1
        self._start += len(chunk)
        return chunk


def text_chunker(scope: Scope, *, number: int = 0, start: int = 0) -> Chunker:
    """Return a new chunker for texts.

    Raises:
        UsageError: there is none for that scope.
    """
    if scope not in _ENDS:
        raise UsageError(f"a text is divided into {', '.join(map(repr, _ENDS))}, not {scope!r}")
    return TextChunker(scope, number=number, start=start)


def _ends_sentence(text: str) -> bool:
    return bool(text) and _ABBREVIATION.search(text) is None


def _open_end(text: str) -> int:
    """Return where the marks at the end begin of which it isn't certain yet whether a sentence ends with them."""
    before = text.rstrip(_CLOSERS)
    return min(len(before.rstrip(".!?…")), len(before.rstrip("。！？")), len(text) - 1)
