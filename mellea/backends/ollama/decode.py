"""Decodes Ollama's lines into events. Each line is a JSON object with a piece of the message; `done: true` is the end.

An answer that isn't streamed is one such line. Tool calls arrive complete; servers before 0.12 give them no ids, and
repeated ids are made unique. Reasoning is in `thinking`, or in tags in the text where the server doesn't know
that the model reasons. An error in mid-stream is a line of its own.
"""

from __future__ import annotations

from pydantic_core import from_json

from mellea.backends.http.call_ids import CallIds
from mellea.backends.http.fields import (
    decode_base64,
    find_id,
    find_int,
    find_text,
    make_type_error,
    read_arguments,
    read_list,
    read_mapping,
    read_mappings,
    read_text,
)
from mellea.backends.http.jsonl import JsonLinesWireDecoder
from mellea.backends.http.report import is_error_report
from mellea.backends.http.thoughts import ThoughtTags
from mellea.backends.ollama.wire import FINISH_REASONS, PROVIDER, Json, JsonObject
from mellea.core.events import (
    Event,
    FileEvent,
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
from mellea.errors import WireError

__all__ = ["Decoder", "read_usage"]

_PLAIN = frozenset({"role", "content"})


class Decoder(JsonLinesWireDecoder):
    """Turns the bytes of one answer into events.

    Args:
        model: the requested model; used in errors, and where the answer doesn't name its model.
    """

    end_mark = "Ollama's done: true"

    def __init__(self, model: str = "") -> None:
        super().__init__(model, backend=PROVIDER, filters=[ThoughtTags()])
        self._ids = CallIds()
        self._has_calls = False

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into lines; those that only add text, nearly all, take a fast path."""
        for line in self._lines.feed(data):
            if self.has_end(events):
                break
            chunk = None
            try:
                chunk = from_json(line, cache_strings="keys")  # a model's text rarely repeats
                message = chunk["message"]
                text = message["content"]
                is_more = chunk["done"] is False and "error" not in chunk and _PLAIN.issuperset(message)
                if is_more and text and type(text) is str:  # nearly all of them
                    self.is_known = True
                    events.append(TextDelta(text))
                    continue
            except (ValueError, KeyError, TypeError):
                pass  # in another form, or not JSON
            if chunk is None:
                self.read_frame(line, events)
            else:
                self.read_value(chunk, line, events)

    def read_chunk(self, chunk: JsonObject, events: list[Event]) -> None:
        """Append the events of one chunk."""
        is_bare = chunk.get("done") is None and "message" not in chunk
        if chunk.get("error") or (is_bare and is_error_report(chunk)):
            raise self.make_reported_error(chunk)
        is_done = chunk.get("done")
        if is_done is not None and type(is_done) is not bool:
            raise make_type_error("done", "true or false", is_done)
        said = read_text(chunk, "response")  # from /api/generate, whose format some servers use
        if is_bare and not said:
            self.skip_unknown(chunk)
            return
        self.is_known = True
        if said:
            events.append(TextDelta(said))
        self._read_message(read_mapping(chunk, "message"), chunk, events)
        if is_done:
            self._finish_answer(chunk, events)

    def _read_message(self, message: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        has_more = not _PLAIN.issuperset(message)
        if has_more:
            if thought := find_text(message, "thinking"):
                events.append(ReasoningDelta(thought))
            events += [FileEvent("image/png", _read_image(image)) for image in read_list(message, "images")]
        if text := read_text(message, "content"):
            events.append(TextDelta(text))
        if has_more:
            for call in read_mappings(message, "tool_calls"):
                self._read_call(call, chunk, events)

    def _read_call(self, call: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        function = read_mapping(call, "function")
        name, raw = read_text(function, "name"), read_arguments(function.get("arguments"))
        if not name:
            raise WireError(f"Ollama sent a call that names no tool: {call!r:.120}")
        self._has_calls = True
        call_id = self._ids.make_id(find_id(call, "id"), find_text(chunk, "created_at"), chunk)
        events.append(ToolStart(call_id, name))
        if raw:
            events.append(ToolDelta(call_id, raw))
        events.append(ToolEnd(parse_tool_call(call_id, name, raw)))

    def _finish_answer(self, chunk: JsonObject, events: list[Event]) -> None:
        if (usage := read_usage(chunk)) != Usage():
            events.append(UsageEvent(usage))
        finish: FinishReason = FINISH_REASONS.get(read_text(chunk, "done_reason") or "stop", "other")
        if finish == "stop" and self._has_calls:
            finish = "tool_call"
        events.append(StreamEnd(finish, None, find_text(chunk, "model") or self.model))


def read_usage(chunk: JsonObject) -> Usage:
    """Return the counts of tokens; the answer's include those of its thoughts."""
    return Usage(find_int(chunk, "prompt_eval_count"), find_int(chunk, "eval_count"))


def _read_image(data: Json) -> bytes:
    if type(data) is not str:
        raise make_type_error("images", "a list of strings in base64", data)
    return decode_base64(data, "images")
