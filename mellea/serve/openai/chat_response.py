"""Writes chat completions: a complete one, or its chunks.

Source: OpenAI's API reference, "The chat completion chunk object", and what the stream reader of the package `openai`
3.57 needs (2026-11): the first delta of a choice has the role; a call's id and name come once; the same `created` in
all chunks; the usage in a chunk without choices, before the end mark.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from mellea.core.blocks import Source
from mellea.core.events import (
    Event,
    FileEvent,
    FinishReason,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from mellea.serve.event_stream import DONE, write_data
from mellea.serve.openai.failures import refuse, to_api_error
from mellea.serve.response import Encoder, Ending, Refusal
from mellea.serve.served_request import write_arguments
from mellea.serve.served_stream import ServedStream

__all__ = ["ChatEncoder", "ChatFold", "Choice", "write_citation", "write_url", "write_usage"]

_FINISH: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_call": "tool_calls",
}


def write_usage(usage: Usage) -> dict[str, Any]:
    """Return tokens in the form of chat completions; unknown counts are 0, since clients expect numbers."""
    written, read = usage.output_tokens or 0, usage.input_tokens or 0
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def write_citation(source: Source, place: int) -> dict[str, Any]:
    """Return a source that the answer cites, in the form of chat completions.

    Providers say where they cite it, not which words: the citation is at the position where it arrived.

    Args:
        source: has an address.
        place: the length of the text when it arrived.
    """
    url = source.url or ""
    cited = {"url": url, "title": source.title or url, "start_index": place, "end_index": place}
    return {"type": "url_citation", "url_citation": cited}


def write_url(file: FileEvent) -> str:
    """Return the URL of a file: its own, or a data URL."""
    return file.url or f"data:{file.media_type};base64,{base64.b64encode(file.data or b'').decode()}"


class Choice(Event):
    """An event of one of several answers.

    Args:
        index: which answer.
        event: the event.
    """

    __slots__ = ("event", "index")

    def __init__(self, index: int, event: Event) -> None:
        self.index = index
        self.event = event


class _Writer:
    """Converts the events of one answer to deltas."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._written: set[str] = set()
        self.usage = Usage()
        self.finish_reason: str | None = None
        self._length = 0  # of the text so far
        self._counts: dict[str, int] = {}  # the last index of each list besides the calls

    @property
    def has_calls(self) -> bool:
        """Whether a tool was called."""
        return bool(self._calls)

    def write(self, event: Event) -> dict[str, Any] | None:
        """Return the delta of an event, `None` if it has none."""
        match event:
            case TextDelta():
                self._length += len(event.chunk)
                return {"content": event.chunk} if event.chunk else None
            case SourceEvent() if event.source.url:
                return self._add("annotations", write_citation(event.source, self._length))
            case FileEvent() if event.media_type.startswith("image/"):
                return self._add("images", {"type": "image_url", "image_url": {"url": write_url(event)}})
            case ReasoningDelta():  # not OpenAI's, but read by its clients
                return {"reasoning_content": event.chunk} if event.chunk else None
            case ToolStart():
                return self._begin_call(event.tool_call_id, event.tool_name)
            case ToolDelta():
                self._written.add(event.tool_call_id)
                return self._continue_call(event.tool_call_id, event.chunk)
            case ToolEnd():
                return self._end_call(event)
            case UsageEvent():
                # Merged, not added: providers repeat the growing usage of one answer.
                self.usage = self.usage.merge(event.usage)
            case StreamEnd():
                # An unknown reason would break the types of OpenAI's client.
                self.finish_reason = _FINISH.get(event.finish_reason, "stop")
        return None

    def _add(self, name: str, item: dict[str, Any]) -> dict[str, Any]:
        """Return the delta that adds to a list: OpenAI's client puts lists together by the index of each item."""
        index = self._counts[name] = self._counts.get(name, -1) + 1
        return {name: [{"index": index, **item}]}

    def _begin_call(self, id: str, name: str, arguments: str = "") -> dict[str, Any] | None:
        if id in self._calls:  # a second call with the same id couldn't be answered
            return None
        index = self._calls[id] = len(self._calls)
        function = {"name": name, "arguments": arguments}
        return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}

    def _continue_call(self, id: str, chunk: str) -> dict[str, Any] | None:
        # A delta for an unknown call has no index for clients.
        if not chunk or id not in self._calls:
            return None
        return {"tool_calls": [{"index": self._calls[id], "function": {"arguments": chunk}}]}

    def _end_call(self, event: ToolEnd) -> dict[str, Any] | None:
        call = event.tool_call
        # Some providers send a call in one piece, without deltas; then the arguments are written here.
        if call.tool_call_id in self._written:
            return None
        self._written.add(call.tool_call_id)
        raw = write_arguments(call)
        if call.tool_call_id in self._calls:
            return self._continue_call(call.tool_call_id, raw)
        return self._begin_call(call.tool_call_id, call.tool_name, raw)


class ChatFold:
    """Assembles a complete chat completion.

    Args:
        model: the id of the model.
        choices: how many answers there are.
    """

    def __init__(self, model: str, choices: int = 1) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time.time())
        self.model = model
        self._writers = [_Writer() for _ in range(choices)]
        self._deltas: list[list[dict[str, Any]]] = [[] for _ in range(choices)]

    def feed(self, choice: Choice) -> None:
        """Take an event."""
        delta = self.delta(choice)
        if delta is not None:
            self._deltas[choice.index].append(delta)

    def delta(self, choice: Choice) -> dict[str, Any] | None:
        """Return the delta of an event, for a stream."""
        return self._writers[choice.index].write(choice.event)

    def finish_reason(self, index: int) -> str:
        """Return why an answer has ended."""
        writer = self._writers[index]
        reason = writer.finish_reason or "stop"
        return "tool_calls" if writer.has_calls and reason == "stop" else reason  # not for truncated calls

    @property
    def usage(self) -> dict[str, Any]:
        """The tokens of all answers."""
        total = Usage()
        for writer in self._writers:
            total = total + writer.usage
        return write_usage(total)

    def write(self) -> dict[str, Any]:
        """Return the completion."""
        choices = [
            {"index": index, "message": _join(deltas), "finish_reason": self.finish_reason(index), "logprobs": None}
            for index, deltas in enumerate(self._deltas)
        ]
        head = {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model}
        return {**head, "choices": choices, "usage": self.usage}


def _join(deltas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join deltas to a message."""
    texts: dict[str, list[str]] = {}
    calls: list[tuple[dict[str, Any], list[str]]] = []
    for delta in deltas:
        for piece in delta.get("tool_calls", ()):
            # The first piece of a call has its id; the others only the index.
            if "id" in piece:
                calls.append((piece, []))
            calls[piece["index"]][1].append(piece["function"]["arguments"])
        for name in ("content", "reasoning_content"):
            if name in delta:
                texts.setdefault(name, []).append(delta[name])
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else "", "refusal": None}
    message |= {name: "".join(pieces) for name, pieces in texts.items()}
    for name in ("annotations", "images"):
        if found := [each for delta in deltas for each in delta.get(name, ())]:
            message[name] = [{key: value for key, value in each.items() if key != "index"} for each in found]
    if calls:
        message["tool_calls"] = [
            {
                "id": first["id"],
                "type": "function",
                "function": {"name": first["function"]["name"], "arguments": "".join(pieces)},
            }
            for first, pieces in calls
        ]
    return message


class ChatEncoder(Encoder):
    """Writes the chunks of a chat completion.

    Args:
        fold: has the ids, and counts.
        choices: how many answers there are.
        has_usage: whether the usage is written at the end.
        answers: the answers to read, all at the same time, and none ahead of its client.
    """

    opening: ClassVar[bytes] = b""
    begins_at_once: ClassVar[bool] = False  # an error before the first token has its own status

    def __init__(
        self, fold: ChatFold, choices: int, *, has_usage: bool, answers: Sequence[AsyncIterator[Event]]
    ) -> None:
        self._fold = fold
        self._answers = answers
        self._choices = choices
        self._has_usage = has_usage
        self._begun: set[int] = set()

    def read(self, source: ServedStream) -> Sequence[AsyncIterator[Any]]:
        """Read the events of all answers, each with the number of its answer."""
        return [_Numbered(index, answer) for index, answer in enumerate(self._answers)]

    def feed(self, value: Choice) -> bytes:
        """Return the chunk of an event."""
        delta = self._fold.delta(value)
        return b"" if delta is None else self._begin(value.index) + self._write(value.index, delta)

    def finish(self, ending: Ending) -> bytes | None:
        """Encode the last chunks and the end mark; after a stop nothing, so that the client can tell."""
        # No end mark either: without it, clients know that the answer is incomplete.
        if ending.is_stopped:
            return None
        if ending.error is not None:
            return write_data(to_api_error(ending.error).body) + DONE
        written = b"".join(
            self._begin(index) + self._write(index, {}, self._fold.finish_reason(index))
            for index in range(self._choices)
        )
        if self._has_usage:
            written += write_data({**self._head, "choices": [], "usage": self._fold.usage})
        return written + DONE

    def refuse(self, error: BaseException) -> Refusal:
        """Return the response if nothing has been written yet."""
        return refuse(error)

    @property
    def _head(self) -> dict[str, Any]:
        fold = self._fold
        return {"id": fold.id, "object": "chat.completion.chunk", "created": fold.created, "model": fold.model}

    def _begin(self, index: int) -> bytes:
        if index in self._begun:
            return b""
        self._begun.add(index)
        return self._write(index, {"role": "assistant", "content": ""})

    def _write(self, index: int, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        # With `include_usage` every chunk has the field, and only the last one a value (OpenAI's reference, 2026-11).
        usage = {"usage": None} if self._has_usage else {}
        return write_data({**self._head, "choices": [choice], **usage})


class _Numbered(AsyncIterator[Choice]):
    """Reads an answer, each event with the number of the answer."""

    def __init__(self, index: int, answer: AsyncIterator[Event]) -> None:
        self._index, self._answer = index, answer

    async def __anext__(self) -> Choice:
        return Choice(self._index, await anext(self._answer))
