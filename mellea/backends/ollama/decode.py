"""From Ollama's lines to events. Each line is a JSON object with a piece of the message; `done: true` is the end.

A plain answer looks like one line that holds everything, so that one decoder reads both. Calls come whole;
servers before 0.12 give them no ids. An error in mid-stream is a line of its own.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TypeVar

from pydantic_core import from_json

from mellea.backends._transport.jsonl import JsonLinesDecoder
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
from mellea.errors import BackendError, InterruptedStreamError, WireError

__all__ = ["Decoder", "decode_plain", "read_usage"]

T = TypeVar("T")

_PLAIN = frozenset({"role", "content"})

_NO_DIGITS = re.compile(r"\D+")


class Decoder:
    """Turns the bytes of one answer into events.

    Args:
        model: the model that was asked for, for errors, and for the end if the answer doesn't say.
    """

    def __init__(self, model: str) -> None:
        self._asked = model
        self._lines = JsonLinesDecoder()
        self._text: list[str] = []  # what an error keeps as its partial
        self.error: BackendError | None = None
        self._has_ended = False
        self._calls = 0

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that more bytes complete; an error is kept until those before it have been returned.

        Raises:
            BackendError: the server reports an error.
            WireError: the bytes make no sense.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            for line in self._lines.feed(data):
                self.line(line, events)
        except BackendError as error:
            self._fail(error)
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """Return the last events: those of the last line, if only the line's own end is missing.

        Raises:
            InterruptedStreamError: the server never said that the answer is complete.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            for line in self._lines.close():
                if _is_last(line):
                    self.line(line, events)
            if not self._has_ended:
                raise InterruptedStreamError(
                    "the stream stopped before Ollama said that the answer is whole; what had arrived is in .partial",
                    is_retryable=True,
                )
        except BackendError as error:
            self._fail(error)
            raise
        return events

    def _fail(self, error: BackendError) -> None:
        error.partial = "".join(self._text)
        error.backend = PROVIDER
        error.model = self._asked
        self.error = error

    def line(self, line: bytes, events: list[Event]) -> None:
        """Append the events of one line; a plain answer is one."""
        if self._has_ended:
            return
        try:
            chunk = from_json(line)
        except ValueError as error:
            raise WireError(f"Ollama sent what is no JSON ({error}): {line[:80]!r}") from error
        if type(chunk) is not dict:
            raise WireError(f"Ollama sent {chunk!r:.80} where an object should be")
        if "error" in chunk:
            raise BackendError(f"Ollama reports an error: {chunk['error']}")
        message = chunk.get("message")
        if type(message) is dict:
            self._message(message, chunk, events)
        elif message is not None:
            raise WireError(f"Ollama sent {message!r:.80} where a message should be")
        if chunk.get("done") is True:
            self._end(chunk, events)

    def _message(self, message: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        text = message.get("content")
        has_more = not _PLAIN.issuperset(message)
        if has_more:
            if thought := message.get("thinking"):
                events.append(ReasoningDelta(_expect(str, thought, "thinking")))
            images = _expect(list, message.get("images") or [], "images")
            events += [FileEvent("image/png", _image(image)) for image in images]
        if text:
            self._text.append(text if type(text) is str else _expect(str, text, "content"))
            events.append(TextDelta(text))
        if has_more:
            for call in _expect(list, message.get("tool_calls") or [], "tool_calls"):
                self._call(_expect(dict, call, "a tool call"), chunk, events)

    def _call(self, call: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        function = _expect(dict, call.get("function"), "a function")
        name = _expect(str, function.get("name"), "a function's name")
        args = function.get("arguments")
        raw = args if isinstance(args, str) else "" if args is None else json.dumps(args, ensure_ascii=False)
        self._calls += 1
        call_id = _expect(str, call.get("id") or self._new_id(chunk), "a tool call's id")
        events.append(ToolStart(call_id, name))
        if raw:
            events.append(ToolDelta(call_id, raw))
        events.append(ToolEnd(parse_tool_call(call_id, name, raw)))

    def _new_id(self, chunk: JsonObject) -> str:
        """Make an id that is the same whenever these bytes are read, and another in the next answer."""
        moment = _NO_DIGITS.sub("", _expect(str, chunk.get("created_at") or "", "created_at"))
        return f"call_{moment or 0}_{self._calls}"

    def _end(self, chunk: JsonObject, events: list[Event]) -> None:
        self._has_ended = True
        if (usage := read_usage(chunk)) != Usage():
            events.append(UsageEvent(usage))
        reason = _expect(str, chunk.get("done_reason") or "stop", "done_reason")
        finish: FinishReason = FINISH_REASONS.get(reason, "other")
        if finish == "stop" and self._calls:
            finish = "tool_call"
        model = _expect(str, chunk.get("model") or self._asked, "model")
        events.append(StreamEnd(finish, None, model))


def decode_plain(body: bytes, model: str) -> list[Event]:
    """Return the events of an answer that came as one JSON body.

    Raises:
        BackendError: the server reports an error.
        WireError: the body makes no sense.
    """
    decoder = Decoder(model)
    events: list[Event] = []
    decoder.line(body, events)
    return events + decoder.close()


def read_usage(chunk: JsonObject) -> Usage:
    """Return the counts of tokens; the answer's include those of its thoughts."""
    counts = [chunk.get("prompt_eval_count"), chunk.get("eval_count")]
    return Usage(*(None if count is None else _expect(int, count, "a count of tokens") for count in counts))


def _is_last(line: bytes) -> bool:
    """Whether a line without its end is whole, and ends the answer."""
    try:
        chunk = from_json(line)
    except ValueError:
        return False
    return isinstance(chunk, dict) and (chunk.get("done") is True or "error" in chunk)


def _image(data: Json) -> bytes:
    try:
        return base64.b64decode(_expect(str, data, "an image"))
    except binascii.Error as error:
        raise WireError("the data of an image is no base64") from error


def _expect(kind: type[T], value: Json, what: str) -> T:
    if isinstance(value, kind):
        return value
    raise WireError(f"Ollama's answer has {value!r:.80} where {what} should be")
