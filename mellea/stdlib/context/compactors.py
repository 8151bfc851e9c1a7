"""Compactors: shorten the history of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mellea.core.context import Turn
from mellea.core.entrance import entrance
from mellea.core.messages import Message
from mellea.core.numbers import check_whole
from mellea.core.runtime.tasks import find_outcome
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.errors import OutputError, UsageError
from mellea.stdlib.context.compaction import Compactor
from mellea.stdlib.context.tokens import TokenCounter, estimate_tokens, get_turn_texts
from mellea.stdlib.context.window import WindowLimits, select

__all__ = ["SUMMARY_PROMPT", "SummaryCompactor", "ThresholdCompactor", "WindowCompactor"]

SUMMARY_PROMPT = (
    "Summarise the conversation below, so that it can go on from your summary alone. Keep names, numbers, decisions, "
    "what tools found, and what is still open. Write at most 200 words, and nothing but the summary."
)

_SUMMARY_QUESTION = "What have we said so far?"


@entrance("WindowCompactor", pin_predicate="ctx.pin(…) and ChatContext(pinned=[…]) keep turns whatever the size")
@dataclass(frozen=True, slots=True)
class WindowCompactor:
    """Keeps the last turns. On its own it does what `window_size=` does; it is meant for a `ThresholdCompactor`.

    Args:
        size: the most turns to keep.
    """

    size: int

    def __post_init__(self) -> None:
        check_whole("size", self.size)

    def __call__(self, turns: Sequence[Turn]) -> list[Turn]:
        """Return the last turns."""
        return _keep_last(turns, self.size)


@entrance(
    "ThresholdCompactor", inner="the compactor to call is compactor=…", threshold="tokens=… is the limit in tokens"
)
@dataclass(frozen=True, slots=True)
class ThresholdCompactor:
    """Calls another compactor only when the turns exceed a number of tokens.

    In between, what the model sees only grows at the end, so the prompt caches of providers and of the embedded engine
    stay useful.

    Args:
        compactor: the compactor to call.
        tokens: the limit; pinned turns aren't counted.
        count_tokens: takes a string and returns its number of tokens; by default an estimate.
    """

    compactor: Compactor
    tokens: int
    count_tokens: Callable[[str], int] = estimate_tokens

    def __post_init__(self) -> None:
        if not callable(self.compactor):
            raise UsageError(f"ThresholdCompactor takes a compactor such as WindowCompactor(4), not {self.compactor!r}")
        check_whole("tokens", self.tokens)

    def __call__(self, turns: Sequence[Turn]) -> Any:
        """Return the turns as they are, or what the other compactor makes of them."""
        size = TokenCounter(self.count_tokens).count_turn
        # The other one may be async: its result is returned as it is, and awaited by the context.
        return self.compactor(turns) if sum(map(size, turns)) > self.tokens else turns


@dataclass(frozen=True, slots=True)
class SummaryTurn(Turn):
    """A turn that replaces many: it asks what was said so far, and its output is the summary."""


@dataclass(frozen=True, slots=True)
class SummaryCompactor:
    """Lets a model summarise the older turns, and keeps the last ones unchanged.

    The summary becomes a turn. The next summary is made from it and the turns since then, so each turn is summarised
    once. Images and files in the older turns are lost.

    Args:
        call: takes the task as a text and returns the summary, as a text or a thunk; sync or async. Use the verb
            `ainstruct` of a separate session: the conversation's own would wait for the summary.
        keep: how many of the last turns are kept unchanged.
        tokens: older turns are summarised when they exceed this number of tokens.
        prompt: the instruction for the model; the conversation is appended.
        count_tokens: takes a string and returns its number of tokens; by default an estimate.
    """

    call: Callable[[str], Any]
    keep: int = 4
    tokens: int = 2000
    prompt: str = SUMMARY_PROMPT
    count_tokens: Callable[[str], int] = estimate_tokens

    def __post_init__(self) -> None:
        if not callable(self.call):
            raise UsageError(
                f"call takes a function of a string, such as the ainstruct of a session, not {self.call!r}"
            )
        check_whole("keep", self.keep, 0)
        check_whole("tokens", self.tokens)

    async def __call__(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """Return the turns as they are, or a summary and the last of them.

        Raises:
            OutputError: the model wrote nothing.
            MelleaError: its generation failed.
        """
        kept = _keep_last(turns, self.keep)
        older = turns[: len(turns) - len(kept)]
        size = TokenCounter(self.count_tokens).count_turn
        # A summary doesn't count, or it would be summarised again at every turn once it is long.
        if sum(size(turn) for turn in older if not isinstance(turn, SummaryTurn)) <= self.tokens:
            return turns
        summary = await self._summarise(f"{self.prompt}\n\n{_write_transcript(older)}")
        # As question and answer, since some providers reject two messages of one role in a row.
        return [SummaryTurn(Message("user", _SUMMARY_QUESTION), ComputedModelOutputThunk(summary)), *kept]

    async def _summarise(self, task: str) -> str:
        said = await find_outcome(self.call, task)
        if isinstance(said, ModelOutputThunk):
            said = await said.avalue()
        if not isinstance(said, str):
            raise UsageError(f"the call of a SummaryCompactor returns a string or a thunk, not {said!r}")
        # An empty summary would silently make the model forget everything.
        if not said.strip():
            raise OutputError("the model that should summarise the conversation wrote nothing")
        return said.strip()


def _keep_last(turns: Sequence[Turn], size: int) -> list[Turn]:
    """Return the last turns, at most `size` of them, without separating tool calls from their outputs."""
    return select(((turn, False) for turn in reversed(turns)), (), WindowLimits(turns=size))


def _write_transcript(turns: Sequence[Turn]) -> str:
    lines = []
    for turn in turns:
        said, answered = get_turn_texts(turn)
        for role, texts in (("User", said), ("Assistant", answered)):
            if texts:
                lines.append(f"{role}: " + "\n".join(texts))
    return "\n\n".join(lines)
