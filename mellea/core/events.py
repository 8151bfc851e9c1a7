"""The events of a running generation.

Every backend turns its provider's bytes into these events, and nothing above a backend sees anything else. Events are
pure deltas; only the accumulator aggregates them. They are frozen only for type checkers (`values.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mellea.core.attributes import USAGE_WAYS, find_attribute
from mellea.core.blocks import Source, ToolCall, ToolOutput
from mellea.core.values import quick_value

__all__ = [
    "AttemptAccepted",
    "AttemptRejected",
    "AttemptStart",
    "BuiltinToolEnd",
    "BuiltinToolResult",
    "BuiltinToolStart",
    "ChunkValidated",
    "Event",
    "FileEvent",
    "FinishReason",
    "KeepAlive",
    "NestedEvent",
    "ReasoningDelta",
    "SourceEvent",
    "Steered",
    "StepEnd",
    "StepStart",
    "StreamEnd",
    "TextDelta",
    "ToolDelta",
    "ToolEnd",
    "ToolProgress",
    "ToolResult",
    "ToolStart",
    "Usage",
    "UsageEvent",
]

FinishReason = Literal["stop", "length", "content_filter", "tool_call", "error", "other"]


N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a generation used, mostly tokens; `None` where the provider doesn't report it.

    Attributes:
        input_tokens: of the prompt, cached ones included.
        output_tokens: of the answer, reasoning included.
        cached_tokens: of the prompt that were read from a cache.
        cache_write_tokens: of the prompt that were written to a cache.
        reasoning_tokens: of the answer that were spent on thinking.
        video_seconds: seconds of video that were made.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    video_seconds: float | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input and output together, or `None` if neither is known."""
        return _add(self.input_tokens, self.output_tokens)

    if not TYPE_CHECKING:  # type checkers then report unknown names

        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, USAGE_WAYS)

    def __add__(self, other: Usage) -> Usage:
        # An unknown summand counts as 0, so a sum may be a lower bound.
        return Usage(*(_add(getattr(self, name), getattr(other, name)) for name in Usage.__slots__))

    def merge(self, later: Usage) -> Usage:
        """Return this usage, updated with the values that `later` has."""
        # A later event may omit values of an earlier one, as the last one of some providers does.
        known = (getattr(later, name) for name in Usage.__slots__)
        return Usage(
            *(new if new is not None else getattr(self, name) for name, new in zip(Usage.__slots__, known, strict=True))
        )


def _add(a: N | None, b: N | None) -> N | None:
    return b if a is None else a if b is None else a + b


class Event:
    """Base of all events."""

    __slots__ = ()


@quick_value
class TextDelta(Event):
    """More text of the answer."""

    chunk: str


@quick_value
class ReasoningDelta(Event):
    """More of a model's thinking; `signature` is sent once, at the end of a block."""

    chunk: str
    signature: str | None = None


@quick_value
class ToolStart(Event):
    """The model begins to write a tool call."""

    tool_call_id: str
    tool_name: str


@quick_value
class ToolDelta(Event):
    """More of a tool call's arguments, as JSON text."""

    tool_call_id: str
    chunk: str


@quick_value
class ToolEnd(Event):
    """A tool call is complete."""

    tool_call: ToolCall


@quick_value
class BuiltinToolStart(Event):
    """The provider begins to run a tool of its own."""

    tool_call_id: str
    tool_name: str


@quick_value
class BuiltinToolEnd(Event):
    """The call of a provider's own tool is complete."""

    tool_call: ToolCall


@quick_value
class BuiltinToolResult(Event):
    """The result of a provider's own tool."""

    result: ToolOutput


@quick_value
class FileEvent(Event):
    """A file that the model generated, as bytes or as a URL."""

    media_type: str
    data: bytes | None = None
    url: str | None = None
    filename: str | None = None


@quick_value
class SourceEvent(Event):
    """A source that the answer cites."""

    source: Source


@quick_value
class UsageEvent(Event):
    """The tokens so far; the values of a later event replace those of an earlier one."""

    usage: Usage


@quick_value
class StreamEnd(Event):
    """The provider's own end of the stream. A stream without one was interrupted."""

    finish_reason: FinishReason
    response_id: str | None = None
    model: str | None = None


@quick_value
class KeepAlive(Event):
    """The provider is alive but has nothing new. A backend yields it to extend deadlines; readers never see it.

    With `is_restart` the request is about to be sent again, and the deadline for the first byte starts over. With
    `sent`, a `SentRequest`, a backend that wraps others reports which of them answers.
    """

    is_restart: bool = False
    sent: Any = None


# -- events of runs that consist of other runs: strategies and tool loops ------------------------------


@quick_value
class AttemptStart(Event):
    """A strategy begins an attempt; numbers start at 1. The attempt continues `text`, which was committed before."""

    number: int
    text: str = ""


@quick_value
class ChunkValidated(Event):
    """All requirements accept a chunk of the attempt; once committed, it stays whatever follows.

    Like deltas, adjacent ones are joined for readers that start after the end.
    """

    number: int
    chunk: str
    is_committed: bool = False


@quick_value
class AttemptRejected(Event):
    """An attempt fails a requirement; its text has to be discarded, except what was committed."""

    number: int
    requirement: str
    reason: str | None = None


@quick_value
class AttemptAccepted(Event):
    """The attempt with that number is the result: it is valid, or else the best one by the strategy's rule."""

    number: int
    is_valid: bool = True


@quick_value
class StepStart(Event):
    """A tool loop sends a request to the model; steps start at 1."""

    step: int


@quick_value
class StepEnd(Event):
    """The model's answer in that step is complete, and the tools that it called have run."""

    step: int


@quick_value
class ToolProgress(Event):
    """A tool of the program is still running and reports `value`, which it yielded; the model doesn't see it."""

    tool_call_id: str
    tool_name: str
    value: Any


@quick_value
class ToolResult(Event):
    """A tool of the program has run."""

    result: ToolOutput


@quick_value
class NestedEvent(Event):
    """An event of another run that a tool of this one makes: of a sub-agent, or of a stream that the tool relays.

    `path` identifies its source: the tool's name; for an agent, also the number of its step, as in
    `"researcher/2"`, followed by those of an agent that this one has called: `"researcher/2/librarian/1"`.
    """

    tool_call_id: str
    path: str
    event: Event


@quick_value
class Steered(Event):
    """The user has sent a message while an agent works; the next step includes it."""

    text: str
