"""How many tokens turns take: an estimate, unless somebody counts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mellea.core.blocks import CBlock, FileBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.component import walk
from mellea.core.context import Turn
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["TokenCounter", "estimate_tokens", "texts_of"]

_BYTES_A_TOKEN = 4

FILE_TOKENS = 1000
"""What an image or another file counts. Providers differ widely; this is the order of it."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text: four bytes of UTF-8 make one, so about four letters of English."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


class TokenCounter:
    """Counts the tokens of whole turns, each complete one once.

    Args:
        count: takes a text and returns its tokens. It is called in worker threads.

    Raises:
        UsageError: `count` is not a function.
    """

    __slots__ = ("_known", "count")

    def __init__(self, count: Callable[[str], int] = estimate_tokens) -> None:
        if not callable(count):
            raise UsageError(f"count_tokens takes a function of a text, not {count!r}")
        self.count = count
        self._known: weakref.WeakKeyDictionary[ModelOutputThunk[Any], int] = weakref.WeakKeyDictionary()

    def turn(self, turn: Turn) -> int:
        """Return the tokens of a turn: those of its texts, and a thousand for each image or other file."""
        output = turn.output
        if output is None or not output.record.is_final:
            return self._sum(turn)
        known = self._known.get(output)
        if known is None:
            known = self._known[output] = self._sum(turn)
        return known

    def __reduce__(self) -> Any:
        return TokenCounter, (self.count,)

    def _sum(self, turn: Turn) -> int:
        said, answered = texts_of(turn)
        return sum(map(self._checked, [*said, *answered])) + FILE_TOKENS * _files(turn)

    def _checked(self, text: str) -> int:
        tokens = self.count(text)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise UsageError(f"count_tokens returns a whole number from 0, not {tokens!r}")
        return tokens


def texts_of(turn: Turn) -> tuple[list[str], list[str]]:
    """Return the texts that were said in a turn, and those that the model answered, tools included."""
    return list(_texts(turn.words)), list(_texts(_answered(turn)))


def _answered(turn: Turn) -> tuple[Message, ...]:
    return turn.output.so_far().messages if turn.output is not None else ()


def _files(turn: Turn) -> int:
    return sum(isinstance(part, FileBlock) for part in walk([turn.words, _answered(turn)]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for message in value:
            yield from _texts(message)
    elif isinstance(value, Message):
        for block in value.blocks:
            yield from _text_of(block)
    else:
        for part in walk(value):
            yield from _text_of(part)


def _text_of(part: Any) -> Iterator[str]:
    match part:
        case str() if part:
            yield part
        case CBlock():
            yield part.value
        case ThinkingBlock():
            yield part.text
        case ToolCall():
            yield f"{part.tool_name} {part.raw_args or dict(part.tool_args)}"
        case ToolOutput():
            yield str(part.result)
        case ModelOutputThunk():
            yield part.partial
        case int() | float():
            yield str(part)
        case Mapping():
            yield from (str(key) for key in part)
