"""Count the tokens of turns, by an estimate or by a user's function."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mellea.core.blocks import CBlock, FileBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.component import walk
from mellea.core.context import Turn
from mellea.core.messages import Message
from mellea.core.numbers import is_whole
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["TokenCounter", "estimate_tokens", "get_turn_texts"]

_BYTES_A_TOKEN = 4

FILE_TOKENS = 1000
"""The assumed tokens of an image or another file. Providers differ widely; this is the order of magnitude."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text: one per four bytes of UTF-8, which is about four letters of English."""
    # Bytes rather than letters: a letter of Chinese takes three, and about one token.
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


class TokenCounter:
    """Counts the tokens of turns, and caches the result for complete ones.

    Args:
        count: takes a string and returns its number of tokens; called in worker threads.

    Raises:
        UsageError: `count` is not a function.
    """

    __slots__ = ("_known", "count")

    def __init__(self, count: Callable[[str], int] = estimate_tokens) -> None:
        if not callable(count):
            raise UsageError(f"count_tokens takes a function of a string, not {count!r}")
        self.count = count
        self._known: weakref.WeakKeyDictionary[ModelOutputThunk[Any], tuple[Any, int]] = weakref.WeakKeyDictionary()

    def count_turn(self, turn: Turn) -> int:
        """Return the tokens of a turn: those of its texts, and a thousand for each image or file."""
        output = turn.output
        # It still grows, so the count can't be cached.
        if output is None or not output.record.is_final:
            return self._count(turn)
        # Keyed weakly by the output, so counts live as long as their turns; a token counter may be slow.
        said, tokens = self._known.get(output, (None, 0))
        # A compactor may have given the output another input.
        if said is None or said is not turn.rendered:
            tokens = self._count(turn)
            self._known[output] = turn.rendered, tokens
        return tokens

    def __reduce__(self) -> Any:
        # Without the cache: weak references can't be pickled.
        return TokenCounter, (self.count,)

    def _count(self, turn: Turn) -> int:
        said, answered = get_turn_texts(turn)
        return sum(map(self._count_text, [*said, *answered])) + FILE_TOKENS * _count_files(turn)

    def _count_text(self, text: str) -> int:
        tokens = self.count(text)
        if not is_whole(tokens, 0):
            raise UsageError(f"count_tokens returns a whole number from 0, not {tokens!r}")
        return tokens


def get_turn_texts(turn: Turn) -> tuple[list[str], list[str]]:
    """Return the texts of a turn's input, and those of its output, including tool calls and their results."""
    return list(_iterate_texts(turn.rendered)), list(_iterate_texts(_get_answer(turn)))


def _get_answer(turn: Turn) -> tuple[Message, ...]:
    return turn.output.so_far().messages if turn.output is not None else ()


def _count_files(turn: Turn) -> int:
    parts = walk([turn.rendered, _get_answer(turn)])
    return sum(len(part.files) if isinstance(part, ToolOutput) else isinstance(part, FileBlock) for part in parts)


def _iterate_texts(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for message in value:
            yield from _iterate_texts(message)
    elif isinstance(value, Message):
        for block in value.blocks:
            yield from _iterate_part_texts(block)
    else:
        for part in walk(value):
            yield from _iterate_part_texts(part)


def _iterate_part_texts(part: Any) -> Iterator[str]:
    match part:
        case str() if part:
            yield part
        case CBlock():
            yield part.value
        case ThinkingBlock():
            yield part.text
        case ToolCall():
            args = part.raw_args or json.dumps(dict(part.tool_args), ensure_ascii=False, default=str)
            yield f"{part.tool_name} {args}"
        case ToolOutput():
            yield from (item.value for item in part.parts if isinstance(item, CBlock))
        case ModelOutputThunk():
            yield part.partial
        case int() | float():
            yield str(part)
        case Mapping():
            yield from (str(key) for key in part)
