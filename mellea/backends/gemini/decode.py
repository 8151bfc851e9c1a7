"""Decodes Gemini's chunks into events. Each chunk is a complete response; `finishReason` is the end.

A chunk has candidates (one is requested), a candidate has parts, and the name of a part's field says what
it is. Every chunk carries the token counts so far, so the last ones are final. They may arrive after the end, and so
may sources; nothing after the end fails the answer.

Calls arrive complete, or in pieces (`willContinue`). An open call ends with its last piece, with the next call
unless both have ids, or with a STOP; where the token limit or a filter ended the answer it ends with `is_valid` false.
Any part may be signed. A signature that a message has no place for, such as a text's, is kept in an empty thinking
block after it.

A method `_on_…` handles a part by the field that says what it is; the table `_PARTS` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from pydantic_core import from_json

from mellea.backends.gemini.partial_args import PartialArgs
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
from mellea.backends.http.call_ids import CallIds
from mellea.backends.http.decoding import SseWireDecoder
from mellea.backends.http.fields import (
    decode_base64,
    find_id,
    find_int,
    find_mapping,
    find_text,
    make_type_error,
    read_arguments,
    read_int,
    read_mapping,
    read_mappings,
    read_text,
)
from mellea.backends.http.report import is_error_report, make_reported_error
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
    Usage,
    UsageEvent,
)
from mellea.core.messages import parse_tool_call
from mellea.errors import BackendError, RateLimitError, WireError

__all__ = ["Decoder", "decode_whole", "find_retry_delay", "read_usage"]


_PLAIN = frozenset({"content", "index", "role", "finishReason", "safetyRatings"})
"""The fields of a candidate that names no sources."""

_MIDDLE = _PLAIN - {"finishReason"}
"""The fields of one that goes on."""

_OWN = frozenset({"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"})
"""The fields of a chunk that is one of Gemini's."""


@dataclass(slots=True)
class _OpenCall:
    """A call whose arguments are still arriving."""

    tool_call_id: str
    name: str
    sent_id: str
    signature: str | None
    args: PartialArgs = field(default_factory=PartialArgs)
    text: list[str] = field(default_factory=list)


class Decoder(SseWireDecoder):
    """Turns the bytes of one answer into events.

    Args:
        model: the requested model; used in errors, and where the answer doesn't name its model.
    """

    def __init__(self, model: str = "") -> None:
        super().__init__(model, backend=PROVIDER)
        self._chunk_read: JsonObject = {}
        self._counts: JsonObject = {}  # the latest token counts, not parsed yet
        self._finish_word: str | None = None
        self._is_blocked = False
        self._is_named = False
        self._ids = CallIds()
        self._has_own_calls = False
        self._has_first = False  # candidate 0, the only one used if there is one
        self._other: int | None = None  # the candidate that is used if candidate 0 never arrives
        self._held: list[JsonObject] = []  # what came of it
        self._open_calls: dict[str, _OpenCall] = {}  # by the id that was sent; at most one without an id
        self._code_call: str | None = None
        self._has_searched = False
        self._sources: set[Source] = set()

    @property
    def is_complete(self) -> bool:
        """Whether Gemini has sent a finish reason; usage and sources may follow."""
        return self._finish_word is not None or self._is_blocked

    def read_whole(self, answer: Json) -> list[Event]:
        """Return the events of an answer that is already parsed.

        Raises:
            BackendError: it reports an error, or isn't an answer of Gemini's.
        """
        events: list[Event] = []
        self.read_body(read_mapping({"answer": answer}, "answer"), events)
        return events

    # -- frames ----------------------------------------------------------------------------------------------

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into chunks; those that only add text, nearly all, take a fast path."""
        for sse in self._sse.feed(data):  # Google's lines end in CRLF, which `payloads` wouldn't split faster
            frame, chunk = sse.data, None
            try:
                chunk = from_json(frame, cache_strings="keys")  # a model's text rarely repeats
                if text := self._read_plain_text(chunk):
                    events.append(TextDelta(text))
                    continue
            except (ValueError, KeyError, TypeError, AttributeError):
                pass  # in another form, or not JSON
            if chunk is None:
                self.read_frame(frame, events)
            else:
                self.read_value(chunk, frame, events)

    def _read_plain_text(self, chunk: Json) -> str:
        """Return the text of a chunk that holds only text, as nearly all do; `""` for any other chunk."""
        (candidate,) = chunk["candidates"]
        (part,) = candidate["content"]["parts"]
        text = part["text"]
        if type(text) is not str or len(part) != 1 or not self._is_named or not _MIDDLE.issuperset(candidate):
            return ""
        if candidate.get("index") not in (None, 0) or "error" in chunk or "promptFeedback" in chunk:
            return ""
        if type(counts := chunk.get("usageMetadata")) is dict:
            self._counts = counts
        return text

    def end_answer(self, events: list[Event]) -> None:
        """End the answer, if the provider has said that it is complete."""
        if not self._has_first:
            for candidate in self._held:
                self._read_candidate(candidate, events)
        if not self.is_complete:
            raise self.make_interrupted_error("Gemini's finishReason")
        for call in list(self._open_calls.values()):
            self._end_call(call, events, is_whole=self._finish_word == "STOP")
        if self._counts:
            events.append(UsageEvent(read_usage(self._counts)))
        events.append(StreamEnd(self._finish_reason(), self.response_id, self.model))

    def read_chunk(self, chunk: JsonObject, events: list[Event]) -> None:
        """Append the events of one chunk."""
        self._chunk_read = chunk
        if not self._is_named or "error" in chunk or "promptFeedback" in chunk:
            self._read_head(chunk)
        self._counts = find_mapping(chunk, "usageMetadata") or self._counts
        candidates = read_mappings(chunk, "candidates")
        if candidates and self._finish_word is not None and self._is_of_another(chunk):
            return
        for candidate in candidates:
            self.is_known = True
            if (index := read_int(candidate, "index") or 0) == 0:
                self._has_first = True
                self._read_candidate(candidate, events)
            elif not self._has_first and index == (self._other or index):
                self._other = index
                self._held.append(candidate)

    def _is_of_another(self, chunk: JsonObject) -> bool:
        """Whether a chunk after the end belongs to another answer, because something merged two into one stream.

        Older servers send no response id, and a finish reason with each chunk; all their chunks count as this answer's.
        """
        return self.response_id is not None and find_id(chunk, "responseId") != self.response_id

    def _read_head(self, chunk: JsonObject) -> None:
        """Read a chunk's fields that concern the whole answer."""
        if chunk.get("error") or (not _OWN & chunk.keys() and is_error_report(chunk)):
            raise self.make_reported_error(chunk)
        if not _OWN & chunk.keys():
            self.skip_unknown(chunk)
        self.response_id = self.response_id or find_id(chunk, "responseId") or None
        if version := find_text(chunk, "modelVersion"):
            self.model = version
        # After the end each chunk is checked: it may belong to another answer.
        is_usual = self._has_first and self._finish_word is None
        self._is_named = is_usual and self.response_id is not None and bool(version)
        if find_mapping(chunk, "promptFeedback").get("blockReason"):
            self.is_known = self._is_blocked = True

    def make_reported_error(self, report: Json) -> BackendError:
        """Make the error of what the provider reports."""
        error = make_reported_error(report)
        if isinstance(error, RateLimitError):
            error.retry_after = find_retry_delay(report)
        return error

    # -- candidates and parts ----------------------------------------------------------------------------------

    def _read_candidate(self, candidate: JsonObject, events: list[Event]) -> None:
        content = candidate.get("content")
        if content is not None:
            for part in read_mappings(
                content if type(content) is dict else read_mapping(candidate, "content"), "parts"
            ):
                text = part.get("text")
                if type(text) is str and text and len(part) == 1:  # nearly all of them
                    events.append(TextDelta(text))
                else:
                    self._read_part(part, events)
        if reason := read_text(candidate, "finishReason"):
            self._finish_word = reason
            self._is_named = False
        if not _PLAIN.issuperset(candidate):
            self._add_found(candidate, events)

    def _read_part(self, part: JsonObject, events: list[Event]) -> None:
        if part.get("text") is not None:
            self._on_text(part, read_text(part, "text"), events)
            return
        for name, decode in self._PARTS.items():
            if part.get(name) is not None:
                decode(self, part, read_mapping(part, name), events)
                return
        if signature := _read_signature(part):
            events.append(ReasoningDelta("", signature))
        elif any(value is not None for value in part.values()):
            self.skip_unknown(part)

    def _on_text(self, part: JsonObject, text: str, events: list[Event]) -> None:
        is_thought = _read_flag(part, "thought")
        signature = _read_signature(part, SIGNATURE_OF_LAST if text and not is_thought else SIGNATURE)
        if is_thought:
            if text or signature:
                events.append(ReasoningDelta(text, signature))
            return
        if text:
            events.append(TextDelta(text))
        if signature is not None:
            events.append(ReasoningDelta("", signature))

    # -- calls of the caller's own tools -----------------------------------------------------------------------

    def _on_function_call(self, part: JsonObject, call: JsonObject, events: list[Event]) -> None:
        name, sent_id = read_text(call, "name"), find_id(call, "id")
        opened = self._find_open_call(name, sent_id)
        args = read_arguments(call.get("args"), "args")
        partials = read_mappings(call, "partialArgs")
        if opened is None:
            if not name and not args and not partials:
                return  # the end of a call that has already ended
            opened = self._begin_call(part, name, sent_id, events)
        self._write(opened, args, events)
        for partial in partials:
            self._write(opened, opened.args.feed(partial), events)
        if not _read_flag(call, "willContinue"):
            self._end_call(opened, events)

    def _find_open_call(self, name: str, sent_id: str) -> _OpenCall | None:
        """Return the open call that this part continues: the one with this id, or the last one for an unnamed part."""
        by_id = self._open_calls.get(sent_id) if sent_id else None
        return by_id or (None if name else next(reversed(self._open_calls.values()), None))

    def _begin_call(self, part: JsonObject, name: str, sent_id: str, events: list[Event]) -> _OpenCall:
        if not name:
            raise WireError("Gemini sent arguments for a call that hasn't begun")
        unnamed = self._open_calls.get("")
        for before in ([unnamed] if unnamed else []) if sent_id else list(self._open_calls.values()):
            self._end_call(before, events)
        self._has_own_calls = True
        opened = _OpenCall(self._make_call_id(sent_id), name, sent_id, _read_signature(part))
        self._open_calls[sent_id] = opened
        events.append(ToolStart(opened.tool_call_id, name))
        return opened

    def _write(self, call: _OpenCall, text: str, events: list[Event]) -> None:
        if text:
            call.text.append(text)
            events.append(ToolDelta(call.tool_call_id, text))

    def _end_call(self, ended: _OpenCall, events: list[Event], *, is_whole: bool = True) -> None:
        is_whole = is_whole and not ended.args.is_in_string
        if is_whole:
            self._write(ended, ended.args.close(), events)
        call = parse_tool_call(ended.tool_call_id, ended.name, "".join(ended.text))
        call = replace(call, signature=ended.signature)
        events.append(ToolEnd(call if is_whole else replace(call, tool_args={}, is_valid=False)))
        del self._open_calls[ended.sent_id]

    def _make_call_id(self, sent_id: str) -> str:
        """Return the call's id, or a deterministic one if the provider sent none."""
        return self._ids.make_id(sent_id, self.response_id, self._chunk_read)

    # -- what the provider runs itself -------------------------------------------------------------------------

    def _on_executable_code(self, part: JsonObject, code: JsonObject, events: list[Event]) -> None:
        self._code_call = self._make_call_id(find_id(code, "id"))
        args: JsonObject = {name: code[name] for name in ("language", "code") if name in code}
        self._emit_builtin_call(self._code_call, CODE_EXECUTION, args, part, events)

    def _on_code_result(self, part: JsonObject, result: JsonObject, events: list[Event]) -> None:
        call_id = find_id(result, "id") or self._code_call or self._make_call_id("")
        is_error = result.get("outcome") != "OUTCOME_OK"
        output = ToolOutput(call_id, CODE_EXECUTION, result.get("output") or "", is_error, is_builtin=True)
        events.append(BuiltinToolResult(output))
        self._keep_signature(part, events)

    def _on_tool_call(self, part: JsonObject, call: JsonObject, events: list[Event]) -> None:
        self._has_searched = True  # reported here, so not again from the grounding metadata
        args = find_mapping(call, "args")
        self._emit_builtin_call(self._make_call_id(find_id(call, "id")), _read_tool_name(call), args, part, events)

    def _on_tool_response(self, part: JsonObject, result: JsonObject, events: list[Event]) -> None:
        call_id = find_id(result, "id") or self._make_call_id("")
        output = ToolOutput(call_id, _read_tool_name(result), result.get("response"), is_builtin=True)
        events.append(BuiltinToolResult(output))
        self._keep_signature(part, events)

    def _emit_builtin_call(
        self, call_id: str, name: str, args: JsonObject, part: JsonObject, events: list[Event]
    ) -> None:
        # Even an empty signature names the provider, so that the call is never sent to another one.
        raw, signature = json.dumps(args, ensure_ascii=False), _read_signature(part) or SIGNATURE
        events.append(BuiltinToolStart(call_id, name))
        events.append(BuiltinToolEnd(ToolCall(call_id, name, args, raw, is_builtin=True, signature=signature)))

    def _add_found(self, candidate: JsonObject, events: list[Event]) -> None:
        """Emit searches and sources; a search has no part of its own and is only reported once it is over."""
        found = list(dict.fromkeys(list_sources(candidate)))
        queries = search_queries(candidate)
        if queries and not self._has_searched:
            self._has_searched = True
            call_id = self._make_call_id("")
            call = ToolCall(call_id, GOOGLE_SEARCH, {"queries": queries}, json.dumps({"queries": queries}), True, True)
            pages = [{"url": source.url, "title": source.title} for source in found]
            events.append(BuiltinToolStart(call_id, GOOGLE_SEARCH))
            events.append(BuiltinToolEnd(call))
            events.append(BuiltinToolResult(ToolOutput(call_id, GOOGLE_SEARCH, pages, is_builtin=True)))
        events += [SourceEvent(source) for source in found if source not in self._sources]
        self._sources.update(found)

    # -- files and the end -------------------------------------------------------------------------------------

    def _on_inline_data(self, part: JsonObject, blob: JsonObject, events: list[Event]) -> None:
        if _read_flag(part, "thought"):  # a draft of an image, made while thinking
            if signature := _read_signature(part):
                events.append(ReasoningDelta("", signature))
            return
        media_type = read_text(blob, "mimeType") or "application/octet-stream"
        data, name = decode_base64(read_text(blob, "data"), "data"), find_text(blob, "displayName") or None
        events.append(FileEvent(media_type, data, filename=name))
        self._keep_signature(part, events)

    def _on_file_data(self, part: JsonObject, file: JsonObject, events: list[Event]) -> None:
        if not (url := read_text(file, "fileUri")):
            raise WireError(f"Gemini sent a file without an address: {repr(file)[:120]}")
        events.append(FileEvent(read_text(file, "mimeType") or "application/octet-stream", url=url))
        self._keep_signature(part, events)

    def _keep_signature(self, part: JsonObject, events: list[Event]) -> None:
        if (signature := _read_signature(part, SIGNATURE_OF_LAST)) is not None:
            events.append(ReasoningDelta("", signature))

    def _finish_reason(self) -> FinishReason:
        if self._finish_word is None:
            return "content_filter"
        if self._finish_word == "STOP" and self._has_own_calls:
            return "tool_call"
        return FINISH_REASONS.get(self._finish_word, "other")

    _PARTS: ClassVar[dict[str, Callable[[Decoder, JsonObject, JsonObject, list[Event]], None]]] = {
        "functionCall": _on_function_call,
        "executableCode": _on_executable_code,
        "codeExecutionResult": _on_code_result,
        "toolCall": _on_tool_call,
        "toolResponse": _on_tool_response,
        "inlineData": _on_inline_data,
        "fileData": _on_file_data,
    }


def decode_whole(answer: Json, model: str) -> list[Event]:
    """Return the events of an answer that is parsed JSON already; raises as `Decoder.read_whole` does."""
    return Decoder(model).read_whole(answer)


def read_usage(usage: JsonObject) -> Usage:
    """Return the token counts; results of the provider's tools count as prompt."""

    def add_up(*names: str) -> int | None:
        counts = [count for name in names if (count := find_int(usage, name)) is not None]
        return sum(counts) if counts else None

    return Usage(
        input_tokens=add_up("promptTokenCount", "toolUsePromptTokenCount"),
        output_tokens=add_up("candidatesTokenCount", "thoughtsTokenCount"),
        cached_tokens=add_up("cachedContentTokenCount"),
        reasoning_tokens=add_up("thoughtsTokenCount"),
    )


def _read_signature(part: JsonObject, prefix: str = SIGNATURE) -> str | None:
    value = part.get("thoughtSignature")
    return prefix + value if isinstance(value, str) else None


def _read_flag(mapping: JsonObject, name: str) -> bool:
    value = mapping.get(name)
    if value is None or type(value) is bool:
        return value is True
    raise make_type_error(name, "true or false", value)


def _read_tool_name(call: JsonObject) -> str:
    return (find_text(call, "toolType") or "unknown").lower()


_RETRY_INFO = "google.rpc.RetryInfo"


def find_retry_delay(report: Json) -> float | None:
    """Return the seconds that an error asks to wait before the next attempt, `None` if it doesn't say.

    Args:
        report: the body of the error, or the error in it.
    """
    if isinstance(report, list) and report:  # the error of a stream comes in a list
        report = report[0]
    if not isinstance(report, dict):
        return None
    error = report.get("error")
    details = (error if isinstance(error, dict) else report).get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(_RETRY_INFO):
            return _read_duration(detail.get("retryDelay"))
    return None


def _read_duration(duration: Json) -> float | None:
    """Read a protobuf Duration: `"2.4s"` in JSON; some proxies write its fields instead."""
    fields = duration if isinstance(duration, dict) else {"seconds": str(duration).removesuffix("s")}
    try:
        seconds = float(fields.get("seconds") or 0) + float(fields.get("nanos") or 0) / 1e9
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


_PIECES = ("web", "retrievedContext", "maps", "image")


def list_sources(candidate: JsonObject) -> Iterator[Source]:
    """Yield the sources of a candidate in order, perhaps repeatedly."""
    for chunk in _read_objects(_read_object(candidate.get("groundingMetadata")).get("groundingChunks")):
        for kind in _PIECES:
            if piece := _read_object(chunk.get(kind)):
                url = piece.get("uri") or piece.get("sourceUri") or piece.get("fileSearchStore")
                yield Source(_read_text(url), _read_text(piece.get("title")), _read_text(piece.get("text")))
    citations = _read_object(candidate.get("citationMetadata"))
    for citation in _read_objects(citations.get("citationSources") or citations.get("citations")):
        yield Source(_read_text(citation.get("uri")), _read_text(citation.get("title")))
    for page in _read_objects(_read_object(candidate.get("urlContextMetadata")).get("urlMetadata")):
        if page.get("urlRetrievalStatus") == "URL_RETRIEVAL_STATUS_SUCCESS":
            yield Source(_read_text(page.get("retrievedUrl")))


def search_queries(candidate: JsonObject) -> list[str]:
    """Return the queries of web searches."""
    queries = _read_object(candidate.get("groundingMetadata")).get("webSearchQueries")
    return [query for query in queries if isinstance(query, str)] if isinstance(queries, list) else []


# Sources are not essential: one of an unknown form is left out, and never fails the answer.


def _read_object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _read_objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _read_text(value: Json) -> str | None:
    return value if isinstance(value, str) else None
