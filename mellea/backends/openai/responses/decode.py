"""Decodes the Responses format into events.

An answer is a list of items: messages, reasoning, calls of the program's tools, and tools that the provider runs.
Streamed, each item is `response.output_item.added`, then deltas of its type, then `response.output_item.done`
with the whole item; the response ends with `response.completed`, `response.incomplete` or `response.failed`.

In all cases the deltas are used, and from the complete texts after them only what the deltas left out. `items.py`
determines an event's item. Anything after the end is ignored; a second response in the same body isn't part of this
one. Essential are the types of events and items, deltas and texts, a call's name and arguments, an item's index, the
status, and an error; everything else is optional.

Reasoning with `encrypted_content` is signed with it, so that it can be sent back in the next turn; a message's `phase`
is kept in an empty thought after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mellea.backends.http.call_ids import CallIds
from mellea.backends.http.decoding import SseWireDecoder
from mellea.backends.http.fields import (
    find_id,
    find_int,
    find_mapping,
    find_mappings,
    find_text,
    make_type_error,
    read_arguments,
    read_mapping,
    read_mappings,
    read_text,
)
from mellea.backends.http.report import is_error_report
from mellea.backends.openai.frames import DONE, Unwrapping
from mellea.backends.openai.responses.builtin import cut_builtin, emit_output, end_builtin, is_builtin, start_builtin
from mellea.backends.openai.responses.citations import Citations
from mellea.backends.openai.responses.items import Item, Items
from mellea.backends.openai.responses.wire import INCOMPLETE, JsonObject
from mellea.core.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from mellea.core.messages import parse_tool_call
from mellea.core.surrogates import replace_surrogates
from mellea.errors import WireError

__all__ = ["Decoder"]

_CALLS = frozenset({"function_call", "custom_tool_call"})
_BREAK = "\n\n"
"""The separator of two messages in one answer: the provider's own text has none."""

_SAYS = ("delta", "item", "text", "response", "arguments")


class Decoder(SseWireDecoder):
    """Turns one response into events.

    Args:
        model: the model that was asked for, until the provider names the one that answers.
        backend: name of the service, for errors and as the prefix of signatures.
        is_wrapped: whether the answer is JSON inside the envelope that this request asked for.
        starts: the characters that the JSON in it may begin with; `""` for any.
        base_url: the base of the service's paths, for the files that it made.
    """

    end_mark = "response.completed"

    def __init__(
        self,
        model: str = "",
        *,
        backend: str = "openai",
        is_wrapped: bool = False,
        starts: str = "",
        base_url: str = "https://api.openai.com/v1",
    ) -> None:
        super().__init__(model, backend=backend, filters=[Unwrapping(starts)] if is_wrapped else ())
        self._items = Items()
        self._ids = CallIds()
        self._citations = Citations(base_url)
        self._spoken: Item | None = None  # the last message with text
        self._builtins: list[Item] = []  # started and not yet reported as ended, in order
        self._has_calls = False
        self._is_refused = False

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into chunks; those that only add text, nearly all, take a fast path."""
        for sse in self._sse.feed(data):
            if not sse.data.startswith(DONE):
                self.read_frame(sse.data, events, sse.event)
                if self.has_end(events):
                    break

    def read_last_frame(self, events: list[Event]) -> None:
        """Handle the last frame, if only its terminator is missing."""
        for sse in self._sse.close():
            if not sse.data.startswith(DONE):
                self.read_unended(sse.data, events, sse.event)

    def read_chunk(self, chunk: JsonObject, events: list[Event]) -> None:
        """Append the events of one chunk."""
        kind = chunk.get("type")
        take = _EVENTS.get(kind) if type(kind) is str else None
        if take is not None:
            self.is_known = True
            take(self, chunk, events)
        elif type(kind) is not str and type(chunk.get("output")) is list:
            self.read_body(chunk, events)  # a whole answer in one event
        elif chunk.get("error") or (type(kind) is not str and is_error_report(chunk)):
            raise self.make_reported_error(chunk)
        elif type(kind) is not str and (kind is not None or any(chunk.get(name) for name in _SAYS)):
            raise WireError(f"the provider sent an event without a type, with {sorted(chunk)}")
        elif "delta" in chunk:
            self.skip_unknown(chunk)

    def read_body(self, body: dict[str, Any], events: list[Event]) -> None:
        """Append the events of an unstreamed response."""
        if type(body.get("type")) is str and body["type"] in _EVENTS:
            self.read_chunk(body, events)  # a stream's only event
            if not self.has_end(events):
                self.end_answer(events)
        elif type(body.get("output")) is list or body.get("status") == "incomplete":
            self.is_known = True
            self._finish(body, events)
        elif is_error_report(body):
            raise self.make_reported_error(body)
        elif body.get("status") in ("failed", "cancelled"):
            self._finish(body, events)
        elif (output := body.get("output")) is not None:
            raise make_type_error("output", "a list", output)
        else:
            raise self.make_alien_error(json.dumps(body).encode())

    # -- the deltas -----------------------------------------------------------------------------------

    def _on_text_delta(self, event: JsonObject, events: list[Event]) -> None:
        chunk = event.get("delta")
        if chunk is None or chunk == "":
            return
        if type(chunk) is not str:
            raise make_type_error("delta", "a string", chunk)
        self._say(self._items.find_for_delta(event, "message"), find_int(event, "content_index") or 0, chunk, events)

    def _say(self, item: Item, part: int, chunk: str, events: list[Event]) -> None:
        if self._spoken is not item:
            self._end_builtins(events, waits=False)
            if self._spoken is not None:
                # A reader sees two messages of one answer as two paragraphs.
                events.append(TextDelta(_BREAK))
            self._spoken = item
        item.texts.setdefault(part, []).append(chunk)
        events.append(TextDelta(chunk))

    def _on_text_done(self, event: JsonObject, events: list[Event]) -> None:
        self._say_rest(event, read_text(event, "text"), events)

    def _on_refusal_delta(self, event: JsonObject, events: list[Event]) -> None:
        self._is_refused = True
        self._on_text_delta(event, events)

    def _on_refusal_done(self, event: JsonObject, events: list[Event]) -> None:
        self._is_refused = True
        self._say_rest(event, read_text(event, "refusal"), events)

    def _on_part_done(self, event: JsonObject, events: list[Event]) -> None:
        part = find_mapping(event, "part")
        self._is_refused = self._is_refused or part.get("type") == "refusal"
        if part.get("type") in ("output_text", "refusal"):
            self._say_rest(event, find_text(part, "text") or find_text(part, "refusal"), events)

    def _say_rest(self, event: JsonObject, whole: str, events: list[Event]) -> None:
        if not whole:
            return
        item, part = self._items.find_for_delta(event, "message"), find_int(event, "content_index") or 0
        # Deltas may have been lost, or never sent: the complete text after them decides.
        if rest := _find_rest(item.text(part), whole):
            self._say(item, part, rest, events)

    def _on_reasoning_delta(self, event: JsonObject, events: list[Event]) -> None:
        delta = event.get("delta")
        chunk = delta if type(delta) is str else find_text(find_mapping(event, "delta"), "text")
        if chunk:
            self._items.find_for_delta(event, "reasoning").thoughts += 1
            events.append(ReasoningDelta(chunk))

    def _on_summary_part_added(self, event: JsonObject, events: list[Event]) -> None:
        # The parts of a summary are paragraphs.
        if self._items.find_for_delta(event, "reasoning").thoughts:
            events.append(ReasoningDelta("\n\n"))

    def _on_arguments_delta(self, event: JsonObject, events: list[Event], kind: str = "function_call") -> None:
        chunk = event.get("delta")
        if type(chunk) is not str:
            chunk = read_arguments(chunk, "delta")
        if chunk:
            item = self._items.find_for_delta(event, kind)
            if item.done is not None:  # the call has been reported with its arguments
                return
            item.chunks.append(chunk)
            if item.call_id:
                events.append(ToolDelta(item.call_id, chunk))

    def _on_input_delta(self, event: JsonObject, events: list[Event]) -> None:
        self._on_arguments_delta(event, events, "custom_tool_call")

    def _on_arguments_done(self, event: JsonObject, events: list[Event]) -> None:
        item = self._items.find_for_delta(event, "function_call")
        item.whole_args = read_arguments(event.get("arguments"))
        item.name = item.name or find_text(event, "name")

    def _on_input_done(self, event: JsonObject, events: list[Event]) -> None:
        self._items.find_for_delta(event, "custom_tool_call").whole_args = read_text(event, "input")

    def _on_annotation(self, event: JsonObject, events: list[Event]) -> None:
        self._items.find_for_delta(event, "message").cited += 1
        self._citations.feed(find_mapping(event, "annotation"), events)

    # -- the items ------------------------------------------------------------------------------------

    def _on_item_added(self, event: JsonObject, events: list[Event]) -> None:
        whole = read_mapping(event, "item")
        if kind := read_text(whole, "type"):
            self._begin(self._items.find_for_item(event, whole, kind, begins=True), whole, events)

    def _begin(self, item: Item, whole: JsonObject, events: list[Event]) -> None:
        # Kept, since an item that never ends is completed from its start.
        item.begun = item.begun or whole
        if item.call_id:
            return
        if not is_builtin(item.kind):
            self._end_builtins(events, waits=False)
        if item.kind in _CALLS:
            self._has_calls = True
            item.name = read_text(whole, "name") or item.name
            if not item.name:
                return
            item.call_id = self._make_id(find_id(whole, "call_id") or find_id(whole, "id"), whole)
            events.append(ToolStart(item.call_id, item.name))
            # Arguments that arrived before the name are reported now.
            events += [ToolDelta(item.call_id, chunk) for chunk in item.chunks]
        elif is_builtin(item.kind):
            item.call_id = self._make_id(find_id(whole, "id") or find_id(whole, "call_id"), whole)
            start_builtin(whole, item.call_id, events)
            self._builtins.append(item)

    def _make_id(self, sent: str, whole: JsonObject) -> str:
        return self._ids.make_id(sent, self.response_id, whole)

    def _on_item_done(self, event: JsonObject, events: list[Event]) -> None:
        whole = read_mapping(event, "item")
        if kind := read_text(whole, "type"):
            self._complete(self._items.find_for_item(event, whole, kind, begins=False), whole, events)
        elif whole:
            raise WireError(f"the provider sent an item without a type, with {sorted(whole)}")

    def _complete(self, item: Item, whole: JsonObject, events: list[Event]) -> None:
        if item.done is not None:
            return
        self._begin(item, whole, events)
        item.done = whole
        if item.kind == "message":
            self._end_message(item, whole, events)
        elif item.kind == "reasoning":
            self._end_reasoning(item, whole, events)
        elif item.kind in _CALLS:
            if not item.call_id:
                raise WireError(f"the provider sent a call without a name, with {sorted(whole)}")
            if item.kind == "function_call":
                own = read_arguments(whole.get("arguments")) or item.whole_args
                end_call(item, own, events, is_cut_off=whole.get("status") == "incomplete")
            else:
                end_custom_call(item, read_text(whole, "input") or item.whole_args, self._backend, events)
        elif is_builtin(item.kind):
            self._end_builtins(events)
        elif item.kind.endswith("_output"):
            emit_output(whole, events)
        else:
            self.skip_unknown(whole)

    def _end_builtins(self, events: list[Event], *, waits: bool = True) -> None:
        """End the provider's finished tools, in the order of the output, in which they are sent back.

        Args:
            events: where the events go.
            waits: whether a finished one waits for an earlier one; not if another item follows.
        """
        for item in list(self._builtins):
            if item.done is not None:
                self._builtins.remove(item)
                end_builtin(item.done, item.call_id, self._backend, events)
            elif waits:
                return

    def _end_message(self, item: Item, whole: JsonObject, events: list[Event]) -> None:
        parts = read_mappings(whole, "content")
        texts = []
        for part in parts:
            self._is_refused = self._is_refused or part.get("type") == "refusal"
            texts.append(read_text(part, "text") or read_text(part, "refusal"))
            if not texts[-1] and part.get("type") not in ("output_text", "text", "refusal"):
                self.skip_unknown(part)
        if rest := _find_rest(item.text(), "".join(texts)):
            self._say(item, len(parts) - 1, rest, events)
        for part in parts:
            annotations = find_mappings(part, "annotations")
            for annotation in annotations[item.cited :]:
                self._citations.feed(annotation, events)
            item.cited = max(0, item.cited - len(annotations))
        if self._spoken is item and (phase := find_text(whole, "phase")):
            events.append(ReasoningDelta("", f"{self._backend}:{json.dumps({'type': 'message', 'phase': phase})}"))

    def _end_reasoning(self, item: Item, whole: JsonObject, events: list[Event]) -> None:
        thoughts = ""
        if not item.thoughts:
            parts = find_mappings(whole, "summary") or find_mappings(whole, "content")
            thoughts = "\n\n".join([text for part in parts if (text := find_text(part, "text"))])
        signature = None
        if encrypted := find_text(whole, "encrypted_content"):
            kept = {"id": find_id(whole, "id"), "encrypted_content": encrypted}
            signature = f"{self._backend}:{json.dumps(kept)}"
        if thoughts or signature:
            events.append(ReasoningDelta(thoughts, signature))

    # -- the response ---------------------------------------------------------------------------------

    def _on_response_begun(self, event: JsonObject, events: list[Event]) -> None:
        self._read_head(find_mapping(event, "response"))

    def _read_head(self, response: JsonObject) -> None:
        self.response_id = find_id(response, "id") or self.response_id
        self.model = find_text(response, "model") or self.model

    def _on_response_ended(self, event: JsonObject, events: list[Event]) -> None:
        response = read_mapping(event, "response")
        if not response.get("status") and event.get("type") != "response.completed":
            response = {**response, "status": find_text(event, "type").removeprefix("response.")}
        self._finish(response, events)

    def _finish(self, response: JsonObject, events: list[Event]) -> None:
        self._read_head(response)
        status = read_text(response, "status") or "completed"
        if status not in ("completed", "incomplete"):
            raise self.make_reported_error(response.get("error") or {"message": f"the response is {status}"})
        finish = self._finish_reason(response, status)
        # Some servers don't stream, and send everything here.
        self._complete_items(response, events, is_cut_off=status == "incomplete")
        if finish == "stop":
            finish = "content_filter" if self._is_refused else "tool_call" if self._has_calls else "stop"
        if (usage := read_usage(find_mapping(response, "usage"))) != Usage():
            events.append(UsageEvent(usage))
        events.append(StreamEnd(finish, self.response_id, self.model))

    def _finish_reason(self, response: JsonObject, status: str) -> FinishReason:
        if status == "completed":
            return "stop"
        return INCOMPLETE.get(find_text(find_mapping(response, "incomplete_details"), "reason"), "other")

    def _complete_items(self, response: JsonObject, events: list[Event], *, is_cut_off: bool) -> None:
        """Handle items that weren't streamed, and end those that never ended."""
        for item, whole in self._items.match(read_mappings(response, "output")):
            kind = read_text(whole, "type")
            if not kind and whole:
                raise WireError(f"the provider sent an item without a type, with {sorted(whole)}")
            if kind:
                self._complete(item if item is not None else self._items.add(whole, kind), whole, events)
        self._end_builtins(events, waits=False)
        if not self._items and (text := find_text(response, "output_text")):  # some servers' shorthand
            self._say(self._items.add({}, "message"), 0, text, events)
        for item in self._items:
            if item.done is None:
                self._end_unended(item, events, is_cut_off=is_cut_off)

    def _end_unended(self, item: Item, events: list[Event], *, is_cut_off: bool) -> None:
        """End an item at the answer's end mark that the provider never ended."""
        item.done = item.begun
        if item.kind in _CALLS and not item.call_id:
            raise WireError("the provider sent a call without a name")
        if item.kind == "function_call":
            is_empty = not item.chunks and not item.whole_args
            end_call(item, item.whole_args, events, is_cut_off=is_cut_off or is_empty)
        elif item.kind == "custom_tool_call":
            end_custom_call(item, item.whole_args, self._backend, events, is_cut_off=True)
        elif item.call_id:
            cut_builtin(item.begun, item.call_id, events)

    def _on_response_failed(self, event: JsonObject, events: list[Event]) -> None:
        response = find_mapping(event, "response")
        error = response.get("error") or event.get("error")
        raise self.make_reported_error(error or {"message": "the response failed", "code": "server_error"})

    def _on_error(self, event: JsonObject, events: list[Event]) -> None:
        own = {name: value for name, value in event.items() if name != "type"}
        raise self.make_reported_error(event.get("error") or own)


def _find_rest(said: str, whole: str) -> str:
    """Return the part of the full text that the deltas left out."""
    said = replace_surrogates(said)
    return whole[len(said) :] if whole.startswith(said) else ""


_EVENTS: dict[str, Callable[[Decoder, JsonObject, list[Event]], None]] = {
    "error": Decoder._on_error,
    "response.cancelled": Decoder._on_response_ended,
    "response.completed": Decoder._on_response_ended,
    "response.content_part.done": Decoder._on_part_done,
    "response.created": Decoder._on_response_begun,
    "response.custom_tool_call_input.delta": Decoder._on_input_delta,
    "response.custom_tool_call_input.done": Decoder._on_input_done,
    "response.done": Decoder._on_response_ended,
    "response.error": Decoder._on_error,
    "response.failed": Decoder._on_response_failed,
    "response.function_call_arguments.delta": Decoder._on_arguments_delta,
    "response.function_call_arguments.done": Decoder._on_arguments_done,
    "response.in_progress": Decoder._on_response_begun,
    "response.incomplete": Decoder._on_response_ended,
    "response.output_item.added": Decoder._on_item_added,
    "response.output_item.done": Decoder._on_item_done,
    "response.output_text.annotation.added": Decoder._on_annotation,
    "response.output_text.delta": Decoder._on_text_delta,
    "response.output_text.done": Decoder._on_text_done,
    "response.queued": Decoder._on_response_begun,
    "response.reasoning.delta": Decoder._on_reasoning_delta,
    "response.reasoning_summary.delta": Decoder._on_reasoning_delta,
    "response.reasoning_summary_part.added": Decoder._on_summary_part_added,
    "response.reasoning_summary_text.delta": Decoder._on_reasoning_delta,
    "response.reasoning_text.delta": Decoder._on_reasoning_delta,
    "response.refusal.delta": Decoder._on_refusal_delta,
    "response.refusal.done": Decoder._on_refusal_done,
}


def read_usage(usage: JsonObject) -> Usage:
    """Return the counts; unknown formats are skipped."""
    given, written = find_mapping(usage, "input_tokens_details"), find_mapping(usage, "output_tokens_details")
    return Usage(
        input_tokens=find_int(usage, "input_tokens"),
        output_tokens=find_int(usage, "output_tokens"),
        cached_tokens=find_int(given, "cached_tokens"),
        cache_write_tokens=find_int(given, "cache_write_tokens"),
        reasoning_tokens=find_int(written, "reasoning_tokens"),
    )


def end_call(item: Item, whole: str, events: list[Event], *, is_cut_off: bool) -> None:
    """Add the end of a function's call.

    Args:
        item: the item so far.
        whole: the arguments in its end event, `""` if there are none.
        events: where the events go.
        is_cut_off: whether it may be incomplete, or never ended.
    """
    call = parse_tool_call(item.call_id, item.name, _complete_arguments(item, whole, events))
    if is_cut_off and not call.tool_args:
        call = replace(call, is_valid=False)
    events.append(ToolEnd(call))


def end_custom_call(item: Item, whole: str, backend: str, events: list[Event], *, is_cut_off: bool = False) -> None:
    """Add the end of a custom tool's call, whose input is a text."""
    written = replace_surrogates(_complete_arguments(item, whole, events))
    call = parse_tool_call(item.call_id, item.name, "")
    signature = f'{backend}:{{"type":"custom_tool_call"}}'
    args = {} if is_cut_off and not written else {"input": written}
    ended = replace(call, tool_args=args, raw_args=written, signature=signature, is_valid=bool(args))
    events.append(ToolEnd(ended))


def _complete_arguments(item: Item, whole: str, events: list[Event]) -> str:
    written = "".join(item.chunks)
    if len(whole) > len(written) and whole.startswith(written):
        events.append(ToolDelta(item.call_id, whole[len(written) :]))
        return whole
    return written
