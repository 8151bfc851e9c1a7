"""Converts events to the parts of a UI message stream, in the order that its clients need.

Rules of the clients: a delta or an end follows its start; everything about a call follows its input; a field is
omitted rather than `null`; an unknown type ends the chat, so our own types go into `data-*`.

Source: `ai` 5.0.277, 6.0.326 and 7.0.173, `src/ui-message-stream/ui-message-chunks.ts`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal

from mellea.core.blocks import CBlock, FileBlock, Source, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    Event,
    FileEvent,
    NestedEvent,
    ReasoningDelta,
    SourceEvent,
    StepEnd,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolProgress,
    ToolResult,
    ToolStart,
    Usage,
)
from mellea.core.serialise import json_value
from mellea.serve.event_stream import dump_event

__all__ = ["Part", "PartWriter", "Version", "dump_output", "dump_usage"]

Part = dict[str, Any]
Version = Literal[5, 6, 7]

_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_call": "tool-calls",
    "error": "error",
    "other": "other",
}


class PartWriter:
    """Converts events to parts.

    Args:
        version: of the clients.
        shows_text: whether the text is a part; not if typed values replace it.
        denied: the calls that a person has just declined.
        calls: ids of calls in the message that this one continues, and the clients' ids for them.
    """

    def __init__(
        self,
        version: Version,
        *,
        shows_text: bool = True,
        denied: Collection[str] = (),
        calls: Mapping[str, str] | None = None,
    ) -> None:
        self._version = version
        self._shows_text = shows_text
        self._denied = frozenset(denied)
        self._open: Literal["text", "reasoning"] | None = None  # the kind of the part that is being written
        self._number = 0  # of the last text, reasoning or source
        self._is_in_step = self._is_step_empty = False
        self.calls: dict[str, str] = dict(calls or {})  # the ids of calls, and the clients' ids for them
        self._known = set(self.calls.values())  # those ids, for all steps
        self._known_before: set[str] = set()  # the attempt
        self._started: set[str] = set()  # calls that are being written
        self.finish_reason = "other"
        self.model: str | None = None

    def feed(self, event: Event) -> list[Part]:
        """Return the parts of an event."""
        write = _WRITERS.get(type(event))
        return [] if write is None else write(self, event)

    def end(self) -> list[Part]:
        """Return the parts that close all open parts."""
        return self._end_step()

    def find_call(self, tool_call_id: str) -> str:
        """Return the clients' id of a call."""
        return self.calls.get(tool_call_id, tool_call_id)

    # -- attempts -------------------------------------------------------------------------------------

    def begin_attempt(self) -> list[Part]:
        """Return the parts that start a step, which `reset` can retract."""
        self._known_before = set(self._known)
        return [*([] if self._is_step_empty else self._end_step()), *self._enter_step()]

    def reset(self) -> list[Part]:
        """Return the parts that retract everything since the attempt started."""
        self._open, self._is_step_empty = None, True
        self._known = set(self._known_before)
        self._started.clear()
        return [{"type": "reset-step"}]

    # -- steps ----------------------------------------------------------------------------------------

    def _enter_step(self) -> list[Part]:
        if self._is_in_step:
            return []
        self._is_in_step = self._is_step_empty = True
        return [{"type": "start-step"}]

    def _end_step(self) -> list[Part]:
        if not self._is_in_step:
            return []
        parts = self._close()
        self._is_in_step = self._is_step_empty = False
        return [*parts, {"type": "finish-step"}]

    def _write_step_start(self, event: StepStart) -> list[Part]:
        return [*self._end_step(), *self._enter_step()]

    def _write_step_end(self, event: StepEnd) -> list[Part]:
        return self._end_step()

    # -- text and reasoning ---------------------------------------------------------------------------

    def _write_text(self, event: TextDelta) -> list[Part]:
        if not (event.chunk and self._shows_text):
            return []
        return [*self._begin("text"), {"type": "text-delta", "id": self._id, "delta": event.chunk}]

    def _write_reasoning(self, event: ReasoningDelta) -> list[Part]:
        parts: list[Part] = []
        if event.chunk or (event.signature and self._open != "reasoning"):
            parts = self._begin("reasoning")
        if event.chunk:
            parts.append({"type": "reasoning-delta", "id": self._id, "delta": event.chunk})
        if event.signature:
            self._open = None
            parts.append({"type": "reasoning-end", "id": self._id, **_make_metadata(event.signature)})
        return parts

    @property
    def _id(self) -> str:
        return f"p{self._number}"

    def _begin(self, kind: Literal["text", "reasoning"]) -> list[Part]:
        if self._open == kind:
            return []
        parts = self._write_content()
        self._open = kind
        self._number += 1
        return [*parts, {"type": f"{kind}-start", "id": self._id}]

    def _close(self) -> list[Part]:
        kind, self._open = self._open, None
        return [] if kind is None else [{"type": f"{kind}-end", "id": self._id}]

    def _write_content(self) -> list[Part]:
        """Close open parts of other kinds."""
        parts = [*self._close(), *self._enter_step()]
        self._is_step_empty = False
        return parts

    # -- tools ----------------------------------------------------------------------------------------

    def _write_tool_start(self, event: ToolStart | BuiltinToolStart) -> list[Part]:
        parts = self._write_content()
        self._started.add(event.tool_call_id)
        part = {"type": "tool-input-start", "toolCallId": self._name_call(event.tool_call_id)}
        return [*parts, {**part, "toolName": event.tool_name, **_say_executed(isinstance(event, BuiltinToolStart))}]

    def _write_tool_delta(self, event: ToolDelta) -> list[Part]:
        if not event.chunk or event.tool_call_id not in self._started:
            return []
        call = self.find_call(event.tool_call_id)
        return [{"type": "tool-input-delta", "toolCallId": call, "inputTextDelta": event.chunk}]

    def _write_tool_end(self, event: ToolEnd | BuiltinToolEnd) -> list[Part]:
        call = event.tool_call
        parts = self._write_content()
        is_new = call.tool_call_id not in self._started
        name = self._name_call(call.tool_call_id) if is_new else self.find_call(call.tool_call_id)
        self._started.discard(call.tool_call_id)
        part = {"toolCallId": name, "toolName": call.tool_name, **_say_executed(call.is_builtin)}
        if call.is_valid:
            part = {"type": "tool-input-available", **part, "input": json_value(dict(call.tool_args))}
        else:
            said = "the arguments are not a JSON object"
            part = {"type": "tool-input-error", **part, "input": call.raw_args, "errorText": said}
        return [*parts, {**part, **_make_metadata(call.signature)}]

    def _write_tool_result(self, event: ToolResult | BuiltinToolResult) -> list[Part]:
        output = event.result
        part = {"toolCallId": self.find_call(output.tool_call_id)}
        if output.tool_call_id in self._denied and self._version > 5:
            return [{"type": "tool-output-denied", **part}]
        part = {**part, **_say_executed(output.is_builtin)}
        if output.is_error:
            # Unchanged: a model's preserved thinking may depend on the exact text that it has read.
            return [{"type": "tool-output-error", **part, "errorText": _find_text(output)}]
        return [{"type": "tool-output-available", **part, "output": dump_output(output)}]

    def _write_tool_progress(self, event: ToolProgress) -> list[Part]:
        value = json_value(event.value, serialize_unknown=True)
        call = self.find_call(event.tool_call_id)
        return [{"type": "tool-output-available", "toolCallId": call, "output": value, "preliminary": True}]

    def _write_nested(self, event: NestedEvent) -> list[Part]:
        data = {"path": event.path, "event": dump_event(event.event)}
        call = self.find_call(event.tool_call_id)
        return [{"type": "data-nested", "data": {"toolCallId": call, **data}, "transient": True}]

    def _name_call(self, tool_call_id: str) -> str:
        """Give a call a unique id within the message."""
        name, number = tool_call_id, 1
        while name in self._known:
            number += 1
            name = f"{tool_call_id}#{number}"
        self._known.add(name)
        self.calls[tool_call_id] = name
        return name

    # -- the rest -------------------------------------------------------------------------------------

    def _write_file(self, event: FileEvent) -> list[Part]:
        url = event.url
        if event.data is not None:
            url = f"data:{event.media_type};base64,{FileBlock(event.media_type, event.data).base64()}"
        return [*self._write_content(), {"type": "file", "url": url, "mediaType": event.media_type}]

    def _write_source(self, event: SourceEvent) -> list[Part]:
        parts = self._write_content()
        self._number += 1
        return [*parts, _dump_source(event.source, f"s{self._number}")]

    def _write_stream_end(self, event: StreamEnd) -> list[Part]:
        self.finish_reason = _REASONS.get(event.finish_reason, "other")
        self.model = event.model or self.model
        return []


_WRITERS: Mapping[type[Event], Any] = {
    TextDelta: PartWriter._write_text,
    ReasoningDelta: PartWriter._write_reasoning,
    ToolStart: PartWriter._write_tool_start,
    ToolDelta: PartWriter._write_tool_delta,
    ToolEnd: PartWriter._write_tool_end,
    ToolResult: PartWriter._write_tool_result,
    ToolProgress: PartWriter._write_tool_progress,
    BuiltinToolStart: PartWriter._write_tool_start,
    BuiltinToolEnd: PartWriter._write_tool_end,
    BuiltinToolResult: PartWriter._write_tool_result,
    NestedEvent: PartWriter._write_nested,
    FileEvent: PartWriter._write_file,
    SourceEvent: PartWriter._write_source,
    StepStart: PartWriter._write_step_start,
    StepEnd: PartWriter._write_step_end,
    StreamEnd: PartWriter._write_stream_end,
}


def dump_output(output: ToolOutput) -> Any:
    """Return a tool's result as a JSON value; texts and files in the AI SDK's form of tool content."""
    if output.is_value:
        return json_value(output.result, serialize_unknown=True)
    return {"type": "content", "value": [_dump_block(block) for block in output.parts]}


def dump_usage(usage: Usage) -> Part:
    """Return the known token counts, by the AI SDK's names."""
    named = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "cachedInputTokens": usage.cached_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    return {name: tokens for name, tokens in named.items() if tokens is not None}


def _dump_block(block: CBlock | FileBlock) -> Part:
    if isinstance(block, CBlock):
        return {"type": "text", "text": block.value}
    if block.url is not None:
        return {"type": "file-url", "url": block.url, "mediaType": block.media_type}
    return {"type": "file-data", "data": block.base64(), "mediaType": block.media_type}


def _dump_source(source: Source, name: str) -> Part:
    if source.url is not None:
        titled = {} if source.title is None else {"title": source.title}
        return {"type": "source-url", "sourceId": name, "url": source.url, **titled}
    title = source.title or source.text or "source"
    return {"type": "source-document", "sourceId": name, "mediaType": "text/plain", "title": title}


def _find_text(output: ToolOutput) -> str:
    said = dump_output(output)
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _say_executed(by_provider: bool) -> Part:
    return {"providerExecuted": True} if by_provider else {}


def _make_metadata(signature: str | None) -> Part:
    return {} if signature is None else {"providerMetadata": {"mellea": {"signature": signature}}}
