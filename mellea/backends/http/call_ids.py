"""Ids of calls: unique within an answer and between answers, and of the shape that the next provider takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mellea.core.blocks import Block, ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.core.values import quick_value

__all__ = ["ANY_ID", "CallIds", "IdShape", "fit_ids"]


class CallIds:
    """Gives each call of one answer an id of its own: the provider's, where it sent one that isn't taken.

    An id of our own making is the same whenever these bytes are read, and another in the next answer.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, sent: str, *known: Any) -> str:
        """Return the id of the next call.

        Args:
            sent: the provider's id, `""` if there is none.
            known: what tells this answer from others: its id, its time, in the end the frame itself; the first that
                says something counts.
        """
        number = len(self._taken)
        call_id = sent or f"call_{_make_token(known)}_{number}"
        while call_id in self._taken:
            call_id = f"{call_id}_{number}"
        self._taken.add(call_id)
        return call_id


@quick_value
class IdShape:
    """What a provider takes as the id of a call.

    Attributes:
        pattern: what an id has to match from end to end.
        length: how long one of our own making is.
        alphabet: what it is made of.
    """

    pattern: re.Pattern[str]
    length: int = 24
    alphabet: str = "0123456789abcdef"

    def fits(self, call_id: str) -> bool:
        """Return whether the provider takes an id as it is."""
        return self.pattern.fullmatch(call_id) is not None

    def made(self, seed: str) -> str:
        """Return an id that follows from the seed."""
        number = int.from_bytes(hashlib.blake2s(seed.encode("utf-8", "surrogatepass")).digest())
        digits: list[str] = []
        for _ in range(self.length):
            number, digit = divmod(number, len(self.alphabet))
            digits.append(self.alphabet[digit])
        return "".join(digits)


ANY_ID = IdShape(re.compile(r"[\x21-\x7e]{1,256}"))
"""The shape for a provider that takes any id; blanks and letters beyond ASCII are asking for trouble everywhere."""


def fit_ids(messages: Sequence[Message], shape: IdShape = ANY_ID) -> Sequence[Message]:
    """Return the messages with ids of calls that the provider takes, each used for one call.

    A call and its result keep to each other. What a conversation's beginning becomes doesn't change as it grows, so
    that a provider's cache of prompts still knows it. Calls of a provider's own tools are left as they are. It is for
    conversations with calls (`has_calls`), and looks at each block.
    """
    ids = _Ids(shape)
    fit = [ids.message(message) for message in messages]
    return fit if ids.has_changed else messages


class _Ids:
    def __init__(self, shape: IdShape) -> None:
        self.shape = shape
        self.has_changed = False
        self.taken: set[str] = set()
        self.open: dict[str, list[str]] = {}  # the ids sent for calls that have no result yet
        self.last: dict[str, str] = {}
        self.fresh: set[str] = set()  # the own ids of the message at hand

    def message(self, message: Message) -> Message:
        self.fresh.clear()
        blocks = tuple([self._fit_block(block) for block in message.blocks])
        if all(new is old for new, old in zip(blocks, message.blocks, strict=True)):
            return message
        self.has_changed = True
        return Message(message.role, blocks)

    def _fit_block(self, block: Block) -> Block:
        if isinstance(block, ToolCall) and not block.is_builtin:
            sent = self._make_id(block.tool_call_id)
        elif isinstance(block, ToolOutput) and not block.is_builtin:
            waiting = self.open.get(block.tool_call_id)
            sent = waiting.pop(0) if waiting else self.last.get(block.tool_call_id) or self._fit(block.tool_call_id)
        else:
            return block
        return block if sent == block.tool_call_id else replace(block, tool_call_id=sent)

    def _make_id(self, own: str) -> str:
        sent, number = self._fit(own), 1
        while sent in self.taken:
            number += 1
            sent = self.shape.made(f"{own}#{number}")
        self.taken.add(sent)
        if own not in self.fresh:  # what an earlier message asked for under this id gets no result any more
            self.fresh.add(own)
            self.open[own] = []
        self.open[own].append(sent)
        self.last[own] = sent
        return sent

    def _fit(self, own: str) -> str:
        return own if self.shape.fits(own) else self.shape.made(own)


def _make_token(known: Sequence[Any]) -> str:
    """Return a short text that stands for what is known of an answer."""
    for value in known:
        if isinstance(value, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", value):
            return value
        if value:
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr)
            return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return "0"
