"""From Gemini's chunks to events. Each chunk is a whole response of its own; `finishReason` is the end.

Chunks hold candidates (one is asked for), a candidate holds parts, and the name of a part's field says what
it is. Counts of tokens stand in every chunk and go up, so the last ones are the ones that count. A call whose
arguments were cut off by the token limit or a filter ends with `is_valid` false.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from mellea.backends._transport.sse import SseDecoder
from mellea.backends._transport.status import error_for_status
from mellea.backends.gemini.fields import expect, optional_text, parse, read_usage
from mellea.backends.gemini.partial_args import PartialArgs
from mellea.backends.gemini.sources import search_queries, sources
from mellea.backends.gemini.wire import (
    CODE_EXECUTION,
    FINISH_REASONS,
    GOOGLE_SEARCH,
    PROVIDER,
    SIGNATURE,
    SIGNATURE_OF_LAST,
    Json,
    JsonObject,
)
from mellea.core.blocks import Source, ToolCall, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
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
    UsageEvent,
)
from mellea.core.messages import parse_tool_call
from mellea.errors import BackendError, InterruptedStreamError, WireError

__all__ = ["Decoder", "decode_plain", "decode_whole"]


_PLAIN = frozenset({"content", "index", "role", "finishReason", "safetyRatings"})
"""The fields of a candidate that names no sources."""

_NOTHING: list[Json] = []


@dataclass(slots=True)
class _OpenCall:
    """A call whose arguments are still coming."""

    tool_call_id: str
    name: str
    signature: str | None
    args: PartialArgs = field(default_factory=PartialArgs)
    text: list[str] = field(default_factory=list)


class Decoder:
    """Turns the bytes of one streamed answer into events.

    Args:
        model: the model that was asked for, for errors, and for the end if the answer doesn't say.
    """

    def __init__(self, model: str) -> None:
        self._asked = model
        self._sse = SseDecoder()
        self._text: list[str] = []  # what an error keeps as its partial
        self.error: BackendError | None = None
        self._response_id: str | None = None
        self._model: str | None = None
        self._counts: Json = None  # the last ones, not looked at yet
        self._finish: str | None = None
        self._is_blocked = False
        self._calls = 0
        self._has_own_calls = False
        self._open_call: _OpenCall | None = None
        self._code_call: str | None = None
        self._has_searched = False
        self._sources: set[Source] = set()

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that more bytes complete; an error is kept until those before it have been returned.

        Raises:
            StatusError: the provider reports an error.
            WireError: the bytes make no sense.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            for event in self._sse.feed(data):
                self.chunk(parse(event.data), events)
        except BackendError as error:
            self._fail(error)
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """Return the last events.

        Raises:
            InterruptedStreamError: the provider never said why the model stopped.
        """
        if self.error is not None:
            raise self.error
        try:
            return self._last_events()
        except BackendError as error:
            self._fail(error)
            raise

    def chunk(self, chunk: JsonObject, events: list[Event]) -> None:
        """Append the events of one chunk; a plain answer is one."""
        if self._response_id is None or "error" in chunk or "promptFeedback" in chunk:
            self._head(chunk)
        self._counts = chunk.get("usageMetadata", self._counts)
        candidates = chunk.get("candidates", _NOTHING)
        for candidate in candidates if type(candidates) is list else expect(list, candidates, "candidates"):
            if type(candidate) is not dict:
                raise WireError(f"a candidate of Gemini's answer is {candidate!r:.80}, which is no object")
            if not candidate.get("index"):
                self._candidate(candidate, events)

    def _head(self, chunk: JsonObject) -> None:
        """Take what concerns the answer as a whole."""
        if "error" in chunk:
            raise _provider_error(chunk["error"])
        self._response_id = optional_text(chunk, "responseId")
        self._model = optional_text(chunk, "modelVersion")
        if (feedback := chunk.get("promptFeedback")) is not None:
            self._is_blocked = bool(expect(dict, feedback, "promptFeedback").get("blockReason"))

    def _fail(self, error: BackendError) -> None:
        error.partial = "".join(self._text)
        error.backend = PROVIDER
        error.model = self._asked
        self.error = error

    def _candidate(self, candidate: JsonObject, events: list[Event]) -> None:
        content = candidate.get("content")
        if content is not None:
            parts = (content if type(content) is dict else expect(dict, content, "content")).get("parts", _NOTHING)
            for part in parts if type(parts) is list else expect(list, parts, "parts"):
                if type(part) is not dict:
                    raise WireError(f"a part of Gemini's answer is {part!r:.80}, which is no object")
                text = part.get("text")
                if type(text) is str and len(part) == 1:  # nearly all of them
                    if text:
                        self._text.append(text)
                        events.append(TextDelta(text))
                else:
                    self._part(part, text, events)
        if "finishReason" in candidate:
            self._finish = optional_text(candidate, "finishReason")
        if not _PLAIN.issuperset(candidate):
            self._found(candidate, events)

    def _part(self, part: JsonObject, text: Json, events: list[Event]) -> None:
        if text is not None:
            self._text_part(part, expect(str, text, "text"), events)
            return
        for name, decode in self._PARTS.items():
            if (value := part.get(name)) is not None:
                decode(self, part, expect(dict, value, name), events)
                return

    def _text_part(self, part: JsonObject, text: str, events: list[Event]) -> None:
        signature = _signature(part, SIGNATURE_OF_LAST if text and not part.get("thought") else SIGNATURE)
        if part.get("thought"):
            if text or signature:
                events.append(ReasoningDelta(text, signature))
            return
        if text:
            self._text.append(text)
            events.append(TextDelta(text))
        if signature is not None:
            events.append(ReasoningDelta("", signature))

    # -- calls of the caller's own tools ---------------------------------------------------------------------

    def _function_call(self, part: JsonObject, call: JsonObject, events: list[Event]) -> None:
        name = optional_text(call, "name")
        if name is None:
            self._continue_call(call, events)
            return
        if self._open_call is not None:
            raise WireError(f"a call of {name!r} begins before the call of {self._open_call.name!r} has ended")
        self._has_own_calls = True
        opened = _OpenCall(self._call_id(call), name, _signature(part))
        events.append(ToolStart(opened.tool_call_id, name))
        self._open_call = opened
        if (args := call.get("args")) is not None:
            self._write(json.dumps(expect(dict, args, "args"), ensure_ascii=False), events)
        self._continue_call(call, events)

    def _continue_call(self, call: JsonObject, events: list[Event]) -> None:
        partials = expect(list, call.get("partialArgs", []), "partialArgs")
        if self._open_call is None:
            if partials:
                raise WireError("arguments came for a call that hasn't begun")
            return
        for partial in partials:
            self._write(self._open_call.args.feed(partial), events)
        if not call.get("willContinue"):
            self._end_call(events)

    def _write(self, text: str, events: list[Event]) -> None:
        if text and self._open_call is not None:
            self._open_call.text.append(text)
            events.append(ToolDelta(self._open_call.tool_call_id, text))

    def _end_call(self, events: list[Event], *, is_whole: bool = True) -> None:
        if (ended := self._open_call) is None:
            return
        if is_whole:
            self._write(ended.args.close(), events)
        call = parse_tool_call(ended.tool_call_id, ended.name, "".join(ended.text))
        events.append(ToolEnd(replace(call, is_valid=call.is_valid and is_whole, signature=ended.signature)))
        self._open_call = None

    def _call_id(self, call: JsonObject) -> str:
        """Return the call's own id or, where it has none, one that is the same whenever these bytes are read."""
        self._calls += 1
        return optional_text(call, "id") or f"{self._response_id or 'call'}_{self._calls}"

    # -- what the provider runs itself -----------------------------------------------------------------------

    def _code(self, part: JsonObject, code: JsonObject, events: list[Event]) -> None:
        self._code_call = self._call_id(code)
        args: JsonObject = {name: code[name] for name in ("language", "code") if name in code}
        self._builtin_call(self._code_call, CODE_EXECUTION, args, part, events)

    def _code_result(self, part: JsonObject, result: JsonObject, events: list[Event]) -> None:
        call_id = optional_text(result, "id") or self._code_call or self._call_id(result)
        is_error = result.get("outcome") != "OUTCOME_OK"
        output = ToolOutput(call_id, CODE_EXECUTION, result.get("output", ""), is_error, is_builtin=True)
        events.append(BuiltinToolResult(output))
        self._keep_signature(part, events)

    def _server_call(self, part: JsonObject, call: JsonObject, events: list[Event]) -> None:
        self._has_searched = True  # it shows by itself, so that the grounding metadata needn't tell
        args = expect(dict, call.get("args", {}), "args")
        self._builtin_call(self._call_id(call), _tool_name(call), args, part, events)

    def _server_result(self, part: JsonObject, result: JsonObject, events: list[Event]) -> None:
        call_id = optional_text(result, "id") or self._call_id(result)
        events.append(
            BuiltinToolResult(ToolOutput(call_id, _tool_name(result), result.get("response"), is_builtin=True))
        )
        self._keep_signature(part, events)

    def _builtin_call(self, call_id: str, name: str, args: JsonObject, part: JsonObject, events: list[Event]) -> None:
        # An empty signature still says whose call this is, so that it goes back to nobody else.
        raw, signature = json.dumps(args, ensure_ascii=False), _signature(part) or SIGNATURE
        events.append(BuiltinToolStart(call_id, name))
        events.append(BuiltinToolEnd(ToolCall(call_id, name, args, raw, is_builtin=True, signature=signature)))

    def _found(self, candidate: JsonObject, events: list[Event]) -> None:
        """Tell about searches and sources; a search shows in no part of its own, and only once it is over."""
        found = list(dict.fromkeys(sources(candidate)))
        queries = search_queries(candidate)
        if queries and not self._has_searched:
            self._has_searched = True
            call_id = self._call_id({})
            call = ToolCall(call_id, GOOGLE_SEARCH, {"queries": queries}, json.dumps({"queries": queries}), True, True)
            pages = [{"url": source.url, "title": source.title} for source in found]
            events.append(BuiltinToolStart(call_id, GOOGLE_SEARCH))
            events.append(BuiltinToolEnd(call))
            events.append(BuiltinToolResult(ToolOutput(call_id, GOOGLE_SEARCH, pages, is_builtin=True)))
        events += [SourceEvent(source) for source in found if source not in self._sources]
        self._sources.update(found)

    # -- files and the end -----------------------------------------------------------------------------------

    def _inline_data(self, part: JsonObject, blob: JsonObject, events: list[Event]) -> None:
        if part.get("thought"):
            return  # a draft of an image, made while thinking
        media_type = expect(str, blob.get("mimeType"), "mimeType")
        try:
            data = base64.b64decode(expect(str, blob.get("data"), "data"))
        except binascii.Error as error:
            raise WireError(f"the data of a file of type {media_type!r} is no base64") from error
        events.append(FileEvent(media_type, data, filename=optional_text(blob, "displayName")))
        self._keep_signature(part, events)

    def _file_data(self, part: JsonObject, file: JsonObject, events: list[Event]) -> None:
        media_type = optional_text(file, "mimeType") or "application/octet-stream"
        events.append(FileEvent(media_type, url=expect(str, file.get("fileUri"), "fileUri")))
        self._keep_signature(part, events)

    def _keep_signature(self, part: JsonObject, events: list[Event]) -> None:
        if (signature := _signature(part, SIGNATURE_OF_LAST)) is not None:
            events.append(ReasoningDelta("", signature))

    def _last_events(self) -> list[Event]:
        events: list[Event] = []
        if not self._has_ended():
            for event in self._sse.feed(b"\n\n"):  # only the empty line behind the last event may be missing
                if _is_last(event.data):
                    self.chunk(parse(event.data), events)
        if not self._has_ended():
            raise InterruptedStreamError(
                "the stream stopped before Gemini said why the answer ends; what had arrived is in .partial",
                is_retryable=True,
            )
        self._end_call(events, is_whole=self._finish == "STOP")
        if self._counts is not None:
            events.append(UsageEvent(read_usage(expect(dict, self._counts, "usageMetadata"))))
        events.append(StreamEnd(self._finish_reason(), self._response_id, self._model or self._asked))
        return events

    def _has_ended(self) -> bool:
        return self._finish is not None or self._is_blocked

    def _finish_reason(self) -> FinishReason:
        if self._finish is None:
            return "content_filter"
        if self._finish == "STOP" and self._has_own_calls:
            return "tool_call"
        return FINISH_REASONS.get(self._finish, "other")

    _PARTS: ClassVar[dict[str, Callable[[Decoder, JsonObject, JsonObject, list[Event]], None]]] = {
        "functionCall": _function_call,
        "executableCode": _code,
        "codeExecutionResult": _code_result,
        "toolCall": _server_call,
        "toolResponse": _server_result,
        "inlineData": _inline_data,
        "fileData": _file_data,
    }


def decode_plain(body: bytes, model: str) -> list[Event]:
    """Return the events of an answer that came as one JSON body.

    Raises:
        StatusError: the provider reports an error.
        WireError: the body makes no sense.
        InterruptedStreamError: it doesn't say why the model stopped.
    """
    return decode_whole(parse(body), model)


def decode_whole(answer: Json, model: str) -> list[Event]:
    """Return the events of an answer that has been parsed already; raises the same."""
    decoder = Decoder(model)
    events: list[Event] = []
    decoder.chunk(expect(dict, answer, "an object"), events)
    return events + decoder.close()


def _is_last(data: bytes) -> bool:
    """Whether an event without the empty line behind it is whole, and ends the answer."""
    try:
        chunk = parse(data)
        candidates = expect(list, chunk.get("candidates", []), "candidates")
    except WireError:
        return False
    return "error" in chunk or any(isinstance(item, dict) and "finishReason" in item for item in candidates)


def _signature(part: JsonObject, prefix: str = SIGNATURE) -> str | None:
    value = part.get("thoughtSignature")
    return None if value is None else prefix + expect(str, value, "thoughtSignature")


def _tool_name(call: JsonObject) -> str:
    return (optional_text(call, "toolType") or "unknown").lower()


def _provider_error(error: Json) -> BackendError:
    details = error if isinstance(error, dict) else {}
    code, status = details.get("code"), details.get("status")
    message = f"Gemini reports an error: {details.get('message') or error}"
    message += f" ({status})" if status else ""
    return error_for_status(code, message) if type(code) is int else BackendError(message)
