"""Ids of calls: unique within and between answers, in the format that the next provider accepts."""

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
    """Gives each call of one answer a unique id: the provider's, if it sent one that isn't used yet.

    A generated id is the same whenever these bytes are read, and different in the next answer.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make_id(self, sent: str, *known: Any) -> str:
        """Return the id of the next call.

        Args:
            sent: the provider's id, `""` if there is none.
            known: what distinguishes this answer: its id, its time, finally the frame itself; the first non-empty
                one counts.
        """
        number = len(self._taken)
        call_id = sent or f"call_{_make_token(known)}_{number}"
        while call_id in self._taken:
            call_id = f"{call_id}_{number}"
        self._taken.add(call_id)
        return call_id


@quick_value
class IdShape:
    """The format of a provider's call ids.

    Attributes:
        pattern: what an id has to match from end to end.
        length: the length of a generated id.
        alphabet: its characters.
    """

    pattern: re.Pattern[str]
    length: int = 24
    alphabet: str = "0123456789abcdef"

    def fits(self, call_id: str) -> bool:
        """Return whether the provider accepts an id."""
        return self.pattern.fullmatch(call_id) is not None

    def make(self, seed: str) -> str:
        """Return an id derived from the seed."""
        number = int.from_bytes(hashlib.blake2s(seed.encode("utf-8", "surrogatepass")).digest())
        digits: list[str] = []
        for _ in range(self.length):
            number, digit = divmod(number, len(self.alphabet))
            digits.append(self.alphabet[digit])
        return "".join(digits)


ANY_ID = IdShape(re.compile(r"[\x21-\x7e]{1,256}"))
"""The format for a provider that accepts any id; blanks and non-ASCII letters cause trouble everywhere."""


def fit_ids(messages: Sequence[Message], shape: IdShape = ANY_ID) -> Sequence[Message]:
    """Return the messages with call ids that the provider accepts, each used for one call.

    A call and its result stay together. The beginning of a conversation is always converted in the same way, so
    that a provider's prompt cache recognises it. Calls of a provider's own tools are left unchanged. It is for
    conversations with calls (`has_calls`), and visits each block.
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
            sent = self.shape.make(f"{own}#{number}")
        self.taken.add(sent)
        if own not in self.fresh:  # the earlier call with this id gets no result any more
            self.fresh.add(own)
            self.open[own] = []
        self.open[own].append(sent)
        self.last[own] = sent
        return sent

    def _fit(self, own: str) -> str:
        return own if self.shape.fits(own) else self.shape.make(own)


def _make_token(known: Sequence[Any]) -> str:
    """Return a short token for what is known of an answer."""
    for value in known:
        if isinstance(value, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", value):
            return value
        if value:
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr)
            return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return "0"
