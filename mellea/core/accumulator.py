"""The fold from events to a generation. Nothing else combines events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.events import (
    AttemptAccepted,
    AttemptStart,
    BuiltinToolEnd,
    BuiltinToolResult,
    ChunkValidated,
    Event,
    FileEvent,
    FinishReason,
    NestedEvent,
    ReasoningDelta,
    SourceEvent,
    Steered,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolResult,
    Usage,
    UsageEvent,
)
from mellea.core.messages import Message
from mellea.core.values import quick_value

__all__ = ["STEP_BREAK", "Accumulator", "Generation", "count_sound", "fold", "fold_joined", "join_deltas"]

STEP_BREAK = "\n\n"
"""The separator between the texts of an answer's steps, where the program's tools ran in between."""


@quick_value
class Generation:
    """The content of one generation, complete or so far.

    Attributes:
        text: the text of the answer.
        message: the whole answer as a message to append to the conversation; the last one of several.
        usage: the tokens, `None` if the provider didn't report them.
        finish_reason: why the model stopped, `None` while it writes.
        response_id: the provider's id of the response.
        model: the model that answered, as the provider calls it.
        sources: what the answer cites.
        messages: the answer's messages; several where the program's tools ran in between.
    """

    text: str
    message: Message
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    response_id: str | None = None
    model: str | None = None
    sources: tuple[Source, ...] = ()
    messages: tuple[Message, ...] = ()

    @property
    def thinking(self) -> str:
        """What the model thought before it answered."""
        return self.message.thinking

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the program's tools."""
        return self.message.tool_calls

    @property
    def files(self) -> tuple[FileBlock, ...]:
        """The files that the model generated."""
        return self.message.files


class Accumulator:
    """Folds events; `generation()`, `text()` and `usage()` may be called at any time, also after each event.

    In a run with several attempts, the answer is that of the accepted attempt, or of the latest one as long as none was
    accepted; the usage is the sum of all attempts.
    """

    def __init__(self) -> None:
        self._answer = _Answer()
        self._attempts: dict[int, _Answer] = {}
        self._usage: Usage | None = None
        self._used_before: Usage | None = None  # by earlier requests
        self._end: StreamEnd | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Take more events, in their order."""
        answer = self._answer
        for event in events:
            # Nearly every event is one, so it is recognised before any table look-up.
            if type(event) is TextDelta:
                answer.write(event.chunk)
            elif (write := _ANSWER_FOLDS.get(type(event))) is not None:
                write(answer, event)
            elif (fold := _FOLDS.get(type(event))) is not None:
                fold(self, event)
                answer = self._answer

    def text(self) -> str:
        """Return the text of the answer so far."""
        return self._answer.text()

    def usage(self) -> Usage | None:
        """Return the usage so far, `None` if nothing was reported."""
        if self._used_before is None or self._usage is None:
            return self._usage or self._used_before
        return self._used_before + self._usage

    def generation(self) -> Generation:
        """Return the generation so far."""
        answer, end = self._answer, self._end
        messages = answer.messages()
        return Generation(
            answer.text(),
            messages[-1],
            self.usage(),
            end.finish_reason if end else None,
            end.response_id if end else None,
            end.model if end else None,
            tuple(answer.sources),
            messages,
        )

    def _begin_request(self) -> None:
        # Within a request later counts replace earlier ones; across requests they add up.
        self._used_before, self._usage = self.usage(), None

    def _begin_attempt(self, event: AttemptStart) -> None:
        self._begin_request()
        # Kept under its number, since attempts may run at once, and any of them may be accepted.
        self._answer = self._attempts[event.number] = _Answer()
        self._answer.write(event.text)

    def _accept(self, event: AttemptAccepted) -> None:
        # The number may be unknown if events were cut off at the front; the events that are left then count as the
        # answer.
        self._answer = self._attempts.get(event.number, self._answer)

    def _begin_step(self, event: StepStart) -> None:
        self._begin_request()
        self._answer.end_message()

    def _add_usage(self, event: UsageEvent) -> None:
        self._usage = event.usage if self._usage is None else self._usage.merge(event.usage)

    def _finish(self, event: StreamEnd) -> None:
        self._end = event


class _Answer:
    """The messages of one answer: one, or several where the program's tools ran in between.

    A stretch of text or reasoning deltas becomes one block; calls, results and files become blocks where they end. An
    empty delta has no effect, and doesn't end a stretch.
    """

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._messages: list[Message] = []  # complete messages
        self._texts: list[str] = []  # texts of the model's complete messages
        self._results: list[Message] = []  # outputs of the last message's tool calls, in the order in which they ended
        self._blocks: list[Block] = []  # of the message that is being written
        self._block_texts: list[str] = []  # texts of these blocks
        self._text: list[str] = []  # the stretch that is being written
        self._thinking: list[str] = []
        self._signature: str | None = None
        self._is_thinking = False

    def write(self, chunk: str) -> None:
        # An empty delta must not end the thoughts: some providers send one with every chunk.
        if self._is_thinking and chunk:
            self._end_thinking()
        self._text.append(chunk)

    def text(self) -> str:
        """Return the text of all messages."""
        text = self._get_message_text()
        return STEP_BREAK.join(filter(None, [*self._texts, text])) if self._texts else text

    def _get_message_text(self) -> str:
        # A single piece is returned as it is, so that a generation and its message share one string.
        text = _join_in_place(self._text)
        return "".join([text for text in (*self._block_texts, text) if text]) if self._block_texts else text

    def messages(self) -> tuple[Message, ...]:
        """Return the messages, the last one from the model."""
        last = Message("assistant", self._blocks + self._make_open_blocks())
        return (*self._messages, *self._sort_results(), last) if self._messages or self._results else (last,)

    def end_message(self) -> None:
        # Before the model's next message: the results belong between its calls and its next answer.
        self._messages += self._sort_results()
        self._results.clear()
        self._close_stretch()
        if self._blocks:
            self._messages.append(Message("assistant", self._blocks))
            self._texts.append(self._get_message_text())
        self._blocks = []
        self._block_texts.clear()

    def _sort_results(self) -> list[Message]:
        """Return the tool outputs since the model's last message, in the order of its calls."""
        if not self._results:
            return []
        asked = next((message for message in reversed(self._messages) if message.role == "assistant"), None)
        places = {} if asked is None else {call.tool_call_id: n for n, call in enumerate(asked.tool_calls)}
        # Concurrent tools end in any order, and a history whose order varies would miss the provider's cache.
        return sorted(self._results, key=lambda message: _find_place(message, places))

    def _close_stretch(self) -> None:
        self._blocks += self._make_open_blocks()
        # The text of the message is kept with its blocks, so that reading it doesn't walk over them.
        self._block_texts.append(_join_in_place(self._text))
        self._forget_open()

    def _make_open_blocks(self) -> list[Block]:
        blocks: list[Block] = []
        if self._is_thinking:
            blocks.append(ThinkingBlock(_join_in_place(self._thinking), self._signature))
        if text := _join_in_place(self._text):
            blocks.append(CBlock(text))
        return blocks

    def _forget_open(self) -> None:
        self._text.clear()
        self._thinking.clear()
        self._signature = None
        self._is_thinking = False

    def _end_thinking(self) -> None:
        self._blocks.append(ThinkingBlock(_join_in_place(self._thinking), self._signature))
        self._thinking.clear()
        self._signature = None
        self._is_thinking = False

    def _append(self, block: Block) -> None:
        self._close_stretch()
        self._blocks.append(block)

    def _add_reasoning(self, event: ReasoningDelta) -> None:
        # Neither text nor signature: a sign of life, not a thought.
        if not event.chunk and event.signature is None:
            return
        if not self._is_thinking:
            self._close_stretch()
        self._is_thinking = True
        self._thinking.append(event.chunk)
        if event.signature is not None:
            self._signature = event.signature
            self._end_thinking()

    def _add_file(self, event: FileEvent) -> None:
        kind = ImageBlock if event.media_type.startswith("image/") else FileBlock
        self._append(kind(media_type=event.media_type, data=event.data, url=event.url, filename=event.filename))

    def _add_call(self, event: ToolEnd | BuiltinToolEnd) -> None:
        self._append(event.tool_call)

    def _add_builtin_result(self, event: BuiltinToolResult) -> None:
        self._append(event.result)

    def _add_tool_result(self, event: ToolResult) -> None:
        # The first result ends the message that asked for it; the others find nothing open.
        if self._blocks or self._text or self._is_thinking:
            self.end_message()
        self._results.append(Message("tool", event.result))

    def _add_steering(self, event: Steered) -> None:
        self.end_message()
        self._messages.append(Message("user", event.text))

    def _add_source(self, event: SourceEvent) -> None:
        self.sources.append(event.source)


def _join_in_place(chunks: list[str]) -> str:
    """Join the chunks in place and return the text, so that reading it after each chunk doesn't join them all again."""
    if len(chunks) > 1:
        # In the caller's own list: the next read starts from here, which makes reading after each chunk linear.
        chunks[:] = ["".join(chunks)]
    return chunks[0] if chunks else ""


def _find_place(message: Message, places: dict[str, int]) -> int:
    return next((places.get(block.tool_call_id, -1) for block in message.blocks if isinstance(block, ToolOutput)), -1)


_FOLDS: dict[type, Callable[[Accumulator, Any], None]] = {
    AttemptStart: Accumulator._begin_attempt,
    AttemptAccepted: Accumulator._accept,
    StepStart: Accumulator._begin_step,
    UsageEvent: Accumulator._add_usage,
    StreamEnd: Accumulator._finish,
}

_ANSWER_FOLDS: dict[type, Callable[[_Answer, Any], None]] = {
    ReasoningDelta: _Answer._add_reasoning,
    FileEvent: _Answer._add_file,
    ToolEnd: _Answer._add_call,
    ToolResult: _Answer._add_tool_result,
    BuiltinToolEnd: _Answer._add_call,
    BuiltinToolResult: _Answer._add_builtin_result,
    SourceEvent: _Answer._add_source,
    Steered: _Answer._add_steering,
}


def join_deltas(events: Sequence[Event]) -> list[Event]:
    """Join adjacent deltas of the same kind (and the same tool call).

    A signature ends a stretch of reasoning, so the delta with it is the last of its stretch. For text that was checked
    while it was written, the accepted chunks follow it, joined as well.
    """
    joined: list[Event] = []
    for kind, group in groupby(events, type):
        if kind is TextDelta:
            first, *more = group
            if more:
                first = TextDelta("".join([event.chunk for event in (first, *more)]))  # type: ignore[attr-defined]
            joined.append(first)
        elif kind is ReasoningDelta:
            joined += _join_reasoning(group)  # type: ignore[arg-type]
        elif kind is ToolDelta:
            joined += _join_calls(group)  # type: ignore[arg-type]
        elif kind is NestedEvent:
            joined += _join_nested(group)  # type: ignore[arg-type]
        else:
            joined += group
    return _join_checked(joined) if ChunkValidated in map(type, joined) else joined


def _join_checked(events: Iterable[Event]) -> list[Event]:
    joined: list[Event] = []
    for is_text, group in groupby(events, lambda event: type(event) in (TextDelta, ChunkValidated)):
        stretch = list(group)
        if is_text and (texts := [event.chunk for event in stretch if type(event) is TextDelta]):
            joined.append(TextDelta("".join(texts)))
        passed = [event for event in stretch if type(event) is ChunkValidated]
        for (number, is_committed), chunks in groupby(passed, attrgetter("number", "is_committed")):
            joined.append(ChunkValidated(number, "".join([event.chunk for event in chunks]), is_committed))
        joined += () if is_text else stretch
    return joined


def _join_calls(events: Iterable[ToolDelta]) -> list[Event]:
    calls = groupby(events, attrgetter("tool_call_id"))
    return [ToolDelta(call, "".join([event.chunk for event in group])) for call, group in calls]


def _join_nested(events: Iterable[NestedEvent]) -> list[Event]:
    joined: list[Event] = []
    for (call, path), group in groupby(events, attrgetter("tool_call_id", "path")):
        joined += [NestedEvent(call, path, event) for event in join_deltas([each.event for each in group])]
    return joined


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


def fold(events: Iterable[Event]) -> Generation:
    """Fold the events into a generation."""
    accumulator = Accumulator()
    accumulator.feed(events)
    return accumulator.generation()


def fold_joined(events: Sequence[Event]) -> tuple[list[Event], Generation]:
    """Join the events and fold the joined ones, so that both share their strings."""
    joined = join_deltas(events)
    return joined, fold(joined)


def count_sound(events: Sequence[Event]) -> int:
    """Return how many events precede the first one that can't be folded."""
    for number, event in enumerate(events):
        try:
            fold_joined([event])
        except Exception:  # noqa: BLE001
            return number
    return len(events)
