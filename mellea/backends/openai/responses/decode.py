"""From the bytes of the Responses format to events.

An answer is a list of items: messages, reasoning, calls of one's own tools, and tools that the provider runs.
Streamed, each item is `response.output_item.added`, then deltas of its type, then `response.output_item.done`
with the whole item; the response ends with `response.completed`, `response.incomplete` or `response.failed`.

What holds everywhere: the deltas are taken, and the whole texts behind them only where no delta came. An item
is known by its `output_index`, or, where a server leaves that out (llama.cpp), by its id. What follows the end
is ignored; a second response in the same body is no part of this one.

Reasoning that comes with `encrypted_content` is signed with it, so that it can go back in the next turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mellea.backends._transport.fields import mapping_of, mappings_of, parse_object, text_of, wrong_type
from mellea.backends.openai.frames import DONE, StreamDecoder
from mellea.backends.openai.responses.builtin import end_builtin, is_builtin, output_of, start_builtin
from mellea.backends.openai.responses.usage import usage_of
from mellea.backends.openai.responses.wire import INCOMPLETE, JsonObject
from mellea.core.blocks import Source
from mellea.core.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    ToolDelta,
    ToolEnd,
    ToolStart,
    UsageEvent,
)
from mellea.core.messages import parse_tool_call
from mellea.errors import BackendError, WireError

__all__ = ["Decoder"]


@dataclass(slots=True)
class _Item:
    """What has been said of an item so far."""

    kind: str = ""
    call_id: str = ""
    name: str = ""
    chunks: list[str] = field(default_factory=list)  # of a call's arguments
    has_text: bool = False
    thoughts: int = 0
    cited: int = 0
    is_done: bool = False


class Decoder(StreamDecoder):
    """Turns one response into events; the arguments are those of `StreamDecoder`."""

    def __init__(self, model: str = "", *, backend: str = "openai", is_wrapped: bool = False) -> None:
        super().__init__(model, backend=backend, is_wrapped=is_wrapped)
        self._items: dict[Any, _Item] = {}
        self._has_calls = False
        self._is_refused = False

    def _frames(self, frames: list[bytes], events: list[Event]) -> None:
        for frame in frames:
            if frame:
                self._frame(frame, events)
            if self._has_ended:
                break

    def _frame(self, data: bytes, events: list[Event]) -> None:
        if data.startswith(DONE):
            return
        event = parse_object(data)
        kind = event.get("type")
        if type(kind) is str:
            take = _EVENTS.get(kind)
            if take is not None:
                take(self, event, events)
        elif event.get("error"):
            raise self._reported(event["error"])
        else:
            raise WireError(f"the provider sent an event without a type, with {sorted(event)}")

    def _plain(self, body: dict[str, Any], events: list[Event]) -> None:
        if "output" not in body and body.get("error"):
            raise self._reported(body["error"])
        self._finish(body, events)

    def _end(self, events: list[Event]) -> None:
        raise self._interrupted("response.completed")

    # -- the deltas -----------------------------------------------------------------------------------

    def _text(self, event: JsonObject, events: list[Event]) -> None:
        chunk = event.get("delta")
        if type(chunk) is not str:
            raise wrong_type("delta", "a text", chunk)
        self._item(event).has_text = True
        if chunk:
            self._say(chunk, events)

    def _text_done(self, event: JsonObject, events: list[Event]) -> None:
        item = self._item(event)
        if not item.has_text and (text := text_of(event, "text")):
            item.has_text = True
            self._say(text, events)

    def _refusal(self, event: JsonObject, events: list[Event]) -> None:
        self._is_refused = True
        self._text(event, events)

    def _thought(self, event: JsonObject, events: list[Event]) -> None:
        if chunk := text_of(event, "delta"):
            self._item(event).thoughts += 1
            events.append(ReasoningDelta(chunk))

    def _next_thought(self, event: JsonObject, events: list[Event]) -> None:
        # The parts of a summary are paragraphs.
        if self._item(event).thoughts:
            events.append(ReasoningDelta("\n\n"))

    def _arguments(self, event: JsonObject, events: list[Event]) -> None:
        item, chunk = self._item(event), text_of(event, "delta")
        if chunk and item.call_id:
            item.chunks.append(chunk)
            events.append(ToolDelta(item.call_id, chunk))

    def _annotation(self, event: JsonObject, events: list[Event]) -> None:
        self._item(event).cited += 1
        _cite(mapping_of(event, "annotation"), events)

    # -- the items ------------------------------------------------------------------------------------

    def _item(self, event: JsonObject, whole: JsonObject | None = None) -> _Item:
        key = event.get("output_index")
        if key is None:
            key = event.get("item_id") or (whole or {}).get("id") or (whole or {}).get("call_id")
        if key.__hash__ is None:
            raise wrong_type("output_index", "a whole number", key)
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item()
        return item

    def _added(self, event: JsonObject, events: list[Event]) -> None:
        whole = mapping_of(event, "item")
        self._begin(self._item(event, whole), whole, events)

    def _begin(self, item: _Item, whole: JsonObject, events: list[Event]) -> None:
        if item.kind:
            return
        item.kind = text_of(whole, "type")
        if item.kind in ("function_call", "custom_tool_call"):
            self._has_calls = True
            item.call_id = self._new_call_id(text_of(whole, "call_id") or text_of(whole, "id"))
            item.name = text_of(whole, "name")
            events.append(ToolStart(item.call_id, item.name))
        elif is_builtin(item.kind):
            start_builtin(whole, events)

    def _new_call_id(self, call_id: str) -> str:
        taken = [item.call_id for item in self._items.values() if item.call_id]
        call_id = call_id or f"call_{len(taken)}"
        return f"{call_id}_{len(taken)}" if call_id in taken else call_id

    def _done(self, event: JsonObject, events: list[Event]) -> None:
        whole = mapping_of(event, "item")
        self._complete(self._item(event, whole), whole, events)

    def _complete(self, item: _Item, whole: JsonObject, events: list[Event]) -> None:
        if item.is_done:
            return
        self._begin(item, whole, events)
        item.is_done = True
        if item.kind == "message":
            self._message_done(item, whole, events)
        elif item.kind == "reasoning":
            self._reasoning_done(item, whole, events)
        elif item.kind == "function_call":
            self._call_done(item, text_of(whole, "arguments"), events, whole.get("status") == "incomplete")
        elif item.kind == "custom_tool_call":
            self._custom_call_done(item, text_of(whole, "input"), events)
        elif is_builtin(item.kind):
            end_builtin(whole, self._backend, events)
        elif item.kind.endswith("_output"):
            output_of(whole, events)

    def _message_done(self, item: _Item, whole: JsonObject, events: list[Event]) -> None:
        for part in mappings_of(whole, "content"):
            if not item.has_text:
                self._is_refused = self._is_refused or part.get("type") == "refusal"
                if text := text_of(part, "text") or text_of(part, "refusal"):
                    self._say(text, events)
            annotations = mappings_of(part, "annotations")
            for annotation in annotations[item.cited :]:
                _cite(annotation, events)
            item.cited = max(0, item.cited - len(annotations))

    def _reasoning_done(self, item: _Item, whole: JsonObject, events: list[Event]) -> None:
        thoughts = ""
        if not item.thoughts:
            parts = mappings_of(whole, "summary") or mappings_of(whole, "content")
            thoughts = "\n\n".join([text_of(part, "text") for part in parts])
        signature = None
        if encrypted := text_of(whole, "encrypted_content"):
            kept = {"id": text_of(whole, "id"), "encrypted_content": encrypted}
            signature = f"{self._backend}:{json.dumps(kept)}"
        if thoughts or signature:
            events.append(ReasoningDelta(thoughts, signature))

    def _call_done(self, item: _Item, whole: str, events: list[Event], is_cut_off: bool) -> None:
        written = "".join(item.chunks)
        if not written and whole:
            written = whole
            events.append(ToolDelta(item.call_id, whole))
        call = parse_tool_call(item.call_id, item.name, written)
        if is_cut_off and not call.tool_args:
            call = replace(call, is_valid=False)  # it must not be taken for a call without arguments
        events.append(ToolEnd(call))

    def _custom_call_done(self, item: _Item, whole: str, events: list[Event]) -> None:
        written = "".join(item.chunks)
        if whole.startswith(written) and len(whole) > len(written):
            events.append(ToolDelta(item.call_id, whole[len(written) :]))
            written = whole
        call = parse_tool_call(item.call_id, item.name, "")
        signature = f'{self._backend}:{{"type":"custom_tool_call"}}'
        events.append(ToolEnd(replace(call, tool_args={"input": written}, raw_args=written, signature=signature)))

    # -- the response ---------------------------------------------------------------------------------

    def _created(self, event: JsonObject, events: list[Event]) -> None:
        self._answer(mapping_of(event, "response"))

    def _answer(self, response: JsonObject) -> None:
        self._response_id = text_of(response, "id") or self._response_id
        self._model = text_of(response, "model") or self._model

    def _ended(self, event: JsonObject, events: list[Event]) -> None:
        self._finish(mapping_of(event, "response"), events)

    def _finish(self, response: JsonObject, events: list[Event]) -> None:
        self._answer(response)
        status = text_of(response, "status") or "completed"
        if status not in ("completed", "incomplete"):
            error = response.get("error") or {"message": f"the response is {status}"}
            raise self._reported(error)
        finish = self._finish_reason(response, status)
        self._complete_items(response, events, is_cut_off=status == "incomplete")
        self._say_rest(events)
        if finish == "stop":
            finish = "content_filter" if self._is_refused else "tool_call" if self._has_calls else "stop"
        if usage := mapping_of(response, "usage"):
            events.append(UsageEvent(usage_of(usage)))
        events.append(StreamEnd(finish, self._response_id, self._model))
        self._has_ended = True

    def _finish_reason(self, response: JsonObject, status: str) -> FinishReason:
        if status == "completed":
            return "stop"
        return INCOMPLETE.get(text_of(mapping_of(response, "incomplete_details"), "reason"), "other")

    def _complete_items(self, response: JsonObject, events: list[Event], *, is_cut_off: bool) -> None:
        """Take what came without a stream, and end what was begun and never ended."""
        if not self._items:
            for index, whole in enumerate(mappings_of(response, "output")):
                self._done({"output_index": index, "item": whole}, events)
            return
        for item in self._items.values():
            if item.call_id and not item.is_done:
                item.is_done = True
                whole = self._whole(response, item.call_id)
                self._call_done(item, text_of(whole, "arguments"), events, is_cut_off)

    def _whole(self, response: JsonObject, call_id: str) -> JsonObject:
        found = (item for item in mappings_of(response, "output") if item.get("call_id") == call_id)
        return next(found, {})

    def _failed(self, event: JsonObject, events: list[Event]) -> None:
        error = mapping_of(event, "response").get("error") or {"message": "the response failed", "code": "server_error"}
        raise self._reported(error)

    def _error(self, event: JsonObject, events: list[Event]) -> None:
        raise self._error_event(event)

    def _error_event(self, event: JsonObject) -> BackendError:
        own = {name: value for name, value in event.items() if name != "type"}
        return self._reported(event.get("error") or own)


def _cite(annotation: JsonObject, events: list[Event]) -> None:
    kind = annotation.get("type")
    if kind == "url_citation":
        found = mapping_of(annotation, "url_citation") or annotation
        source = Source(text_of(found, "url") or None, text_of(found, "title") or None)
    elif kind in ("file_citation", "container_file_citation", "file_path"):
        source = Source(title=text_of(annotation, "filename") or text_of(annotation, "file_id") or None)
    else:
        return
    events.append(SourceEvent(source))


_EVENTS: dict[str, Callable[[Decoder, JsonObject, list[Event]], None]] = {
    "error": Decoder._error,
    "response.cancelled": Decoder._ended,
    "response.completed": Decoder._ended,
    "response.created": Decoder._created,
    "response.custom_tool_call_input.delta": Decoder._arguments,
    "response.failed": Decoder._failed,
    "response.function_call_arguments.delta": Decoder._arguments,
    "response.incomplete": Decoder._ended,
    "response.output_item.added": Decoder._added,
    "response.output_item.done": Decoder._done,
    "response.output_text.annotation.added": Decoder._annotation,
    "response.output_text.delta": Decoder._text,
    "response.output_text.done": Decoder._text_done,
    "response.reasoning_summary_part.added": Decoder._next_thought,
    "response.reasoning_summary_text.delta": Decoder._thought,
    "response.reasoning_text.delta": Decoder._thought,
    "response.refusal.delta": Decoder._refusal,
}
