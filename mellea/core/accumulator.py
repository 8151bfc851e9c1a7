"""The fold: events in, one generation out. Nothing else puts events together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    Event,
    FileEvent,
    FinishReason,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    Usage,
    UsageEvent,
)
from mellea.core.messages import Message

__all__ = ["Accumulator", "Generation", "join_deltas"]


@dataclass(frozen=True, slots=True)
class Generation:
    """All that one generation has said: complete, or so far.

    Attributes:
        text: the text of the answer.
        message: the whole answer, as a message to put behind the others.
        usage: tokens taken, `None` if the provider didn't say.
        finish_reason: why the model stopped, `None` while it writes.
        response_id: the provider's id of the response.
        model: the model that answered, as the provider calls it.
        sources: what the answer cites.
    """

    text: str
    message: Message
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    response_id: str | None = None
    model: str | None = None
    sources: tuple[Source, ...] = ()

    @property
    def thinking(self) -> str:
        """What the model thought before it answered."""
        return self.message.thinking

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of your own tools that the model asks for."""
        return self.message.tool_calls

    @property
    def files(self) -> tuple[FileBlock, ...]:
        """The files that the model made."""
        return self.message.files


class Accumulator:
    """Folds events; `generation()` may be asked for at any time.

    Text and reasoning deltas of one stretch become one block each; calls, results and files become
    blocks where they end. An empty delta says nothing, and divides nothing either.
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._text: list[str] = []  # the stretch that is being written
        self._thinking: list[str] = []
        self._signature: str | None = None
        self._is_thinking = False
        self._sources: list[Source] = []
        self._usage: Usage | None = None
        self._end: StreamEnd | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Take more events, in their order."""
        for event in events:
            if type(event) is TextDelta:
                if self._is_thinking and event.chunk:
                    self._end_thinking()
                self._text.append(event.chunk)
            elif (fold := _FOLDS.get(type(event))) is not None:
                fold(self, event)

    def generation(self) -> Generation:
        """Return what the events fed so far come to."""
        blocks = self._blocks + self._open_blocks()
        message = Message("assistant", blocks)
        end = self._end
        return Generation(
            message.content,
            message,
            self._usage,
            end.finish_reason if end else None,
            end.response_id if end else None,
            end.model if end else None,
            tuple(self._sources),
        )

    def _open_blocks(self) -> list[Block]:
        blocks: list[Block] = []
        if self._is_thinking:
            blocks.append(ThinkingBlock("".join(self._thinking), self._signature))
        if text := "".join(self._text):
            blocks.append(CBlock(text))
        return blocks

    def _end_thinking(self) -> None:
        self._blocks.append(ThinkingBlock("".join(self._thinking), self._signature))
        self._thinking.clear()
        self._signature = None
        self._is_thinking = False

    def _append(self, block: Block) -> None:
        self._blocks += self._open_blocks()
        self._text.clear()
        self._thinking.clear()
        self._signature = None
        self._is_thinking = False
        self._blocks.append(block)

    def _reasoning(self, event: ReasoningDelta) -> None:
        if not event.chunk and event.signature is None:
            return
        if text := "".join(self._text):
            self._blocks.append(CBlock(text))
        self._text.clear()
        self._is_thinking = True
        self._thinking.append(event.chunk)
        if event.signature is not None:
            self._signature = event.signature
            self._end_thinking()

    def _file(self, event: FileEvent) -> None:
        kind = ImageBlock if event.media_type.startswith("image/") else FileBlock
        self._append(kind(media_type=event.media_type, data=event.data, url=event.url, filename=event.filename))

    def _call(self, event: ToolEnd | BuiltinToolEnd) -> None:
        self._append(event.tool_call)

    def _result(self, event: BuiltinToolResult) -> None:
        self._append(event.result)

    def _source(self, event: SourceEvent) -> None:
        self._sources.append(event.source)

    def _use(self, event: UsageEvent) -> None:
        self._usage = event.usage if self._usage is None else self._usage.updated(event.usage)

    def _finish(self, event: StreamEnd) -> None:
        self._end = event


_FOLDS: dict[type, Callable[[Accumulator, Any], None]] = {
    ReasoningDelta: Accumulator._reasoning,
    FileEvent: Accumulator._file,
    ToolEnd: Accumulator._call,
    BuiltinToolEnd: Accumulator._call,
    BuiltinToolResult: Accumulator._result,
    SourceEvent: Accumulator._source,
    UsageEvent: Accumulator._use,
    StreamEnd: Accumulator._finish,
}


def join_deltas(events: Sequence[Event]) -> list[Event]:
    """Return the events with adjacent deltas of one kind (and one tool call) made into one.

    A signature ends a stretch of reasoning, so a delta that carries one is the last of its stretch.
    """
    joined: list[Event] = []
    for kind, group in groupby(events, type):
        if kind is TextDelta:
            joined.append(TextDelta("".join([event.chunk for event in group])))  # type: ignore[attr-defined]
        elif kind is ReasoningDelta:
            joined += _join_reasoning(group)  # type: ignore[arg-type]
        elif kind is ToolDelta:
            joined += _join_calls(group)  # type: ignore[arg-type]
        else:
            joined += group
    return joined


def _join_calls(events: Iterable[ToolDelta]) -> list[Event]:
    calls = groupby(events, attrgetter("tool_call_id"))
    return [ToolDelta(call, "".join([event.chunk for event in group])) for call, group in calls]


def _join_reasoning(events: Iterable[ReasoningDelta]) -> list[Event]:
    joined: list[Event] = []
    chunks: list[str] = []
    for event in events:
        chunks.append(event.chunk)
        if event.signature is not None:
            joined.append(ReasoningDelta("".join(chunks), event.signature))
            chunks.clear()
    if chunks:
        joined.append(ReasoningDelta("".join(chunks)))
    return joined
