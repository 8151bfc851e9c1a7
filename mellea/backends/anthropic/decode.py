"""Decodes Anthropic's Messages format into events.

A message is a list of blocks. Streamed, it comes as

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with `ping` and `error` anywhere. Blocks have numbers and may be interleaved; `message_stop` is the end. Gateways are
known to send, and are understood when they do: a repeated `message_start`, types in the `event:` line only,
heartbeats without data, several blocks with one index, blocks that are never stopped. A second message inside
one that broke off is an error, since its thinking couldn't be sent back.

A call ends with its block, with the next call under its index, or with the stop reason. One whose arguments
aren't complete yet when its block ends waits for what comes next, since it may be cut off: a call that the token limit
or a refusal cut off has no arguments, and `is_valid` is false.

A method `_on_…` handles the event, the block or the delta of that name; the tables below the class say which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic_core import from_json

from mellea.backends.anthropic.calls import CallBlock
from mellea.backends.anthropic.kept import KeptBlock
from mellea.backends.anthropic.wire import (
    CALLS,
    CUT_OFF,
    ERROR_STATUS,
    FILES_URL,
    FINISH_REASONS,
    PROVIDER,
    SIGNATURE,
    Json,
    JsonObject,
    as_text,
)
from mellea.backends.http.call_ids import CallIds
from mellea.backends.http.decoding import SseWireDecoder
from mellea.backends.http.fields import (
    find_id,
    find_int,
    find_list,
    find_mapping,
    find_mappings,
    find_text,
    read_arguments,
    read_int,
    read_mapping,
    read_mappings,
    read_text,
)
from mellea.backends.http.report import is_error_report, make_reported_error
from mellea.backends.http.status import make_status_error
from mellea.backends.http.words import find_words
from mellea.core.blocks import Source, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    Event,
    FileEvent,
    FinishReason,
    KeepAlive,
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
from mellea.core.structured.envelope import Unwrapper
from mellea.errors import BackendError, WireError

__all__ = ["Decoder"]


class Decoder(SseWireDecoder):
    """Turns one message into events.

    Args:
        model: the model that was asked, until the provider names the one that answers.
        answer_tool: the tool whose arguments are the answer, where a forced call enforces a schema.
        is_wrapped: whether the answer is JSON in the envelope that this request added.
        starts: the characters that the JSON in it may begin with; `""` for any.
        drops_space: whether to drop the answer's leading white space, since the prefix ended with it.
    """

    end_mark = "the provider's message_stop"

    def __init__(
        self,
        model: str = "",
        *,
        answer_tool: str | None = None,
        is_wrapped: bool = False,
        starts: str = "",
        drops_space: bool = False,
    ) -> None:
        super().__init__(model, backend=PROVIDER)
        self._answer_tool = answer_tool
        self._wrap = Unwrapper(starts) if is_wrapped else None
        self._drops_space = drops_space
        self._is_plain = not is_wrapped and not drops_space  # text is emitted as it arrives
        self._line = ""  # the type in the `event:` line
        self._stop_reason = ""
        self._container: str | None = None
        self._tokens = TokenCounts()
        self._ids = CallIds()
        self._index: int | None = None  # of the last block that had one
        self._calls: dict[int | None, CallBlock] = {}  # that haven't ended, by the number of their block
        self._waiting: list[int | None] = []  # of these, the ones that have stopped
        self._kept: dict[int | None, KeptBlock] = {}
        self._strange: set[int | None] = set()  # the numbers of blocks of unknown kinds
        self._names: dict[str, str] = {}  # of the provider's own tools, for their results
        self._has_begun = False
        self._has_own_calls = False
        self._has_answered = False  # by the answer tool

    # -- frames ----------------------------------------------------------------------------------------

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into events; those that only add text, nearly all, take a fast path."""
        for sse in self._sse.feed(data):
            if self.has_end(events):
                break
            event = None
            try:
                event = from_json(sse.data, cache_strings="keys")  # a model's text rarely repeats
                delta = event["delta"]
                if self._is_plain and event["type"] == "content_block_delta" and delta["type"] == "text_delta":
                    text = delta["text"]
                    if text and type(text) is str:  # nearly all of them
                        events.append(TextDelta(text))
                        continue
            except (ValueError, KeyError, TypeError):
                pass  # in another form, or not JSON
            self._line = sse.event
            if event is None:
                self.read_frame(sse.data, events)
            else:
                self.read_value(event, sse.data, events)

    def read_last_frame(self, events: list[Event]) -> None:
        """Handle the last frame, if only its terminator is missing."""
        for sse in self._sse.close():
            self._line = sse.event
            self.read_unended(sse.data, events)

    def read_body(self, body: JsonObject, events: list[Event]) -> None:
        """Append the events of an unstreamed response."""
        if type(body.get("content")) not in (list, str):
            raise self._make_alien_error(body)
        self._on_message_start({"message": body}, events)
        self._on_message_stop({}, events)

    def _make_alien_error(self, body: JsonObject) -> BackendError:
        if is_error_report(body):
            return self.make_reported_error(body)
        return WireError(f"the provider's answer has no content: {find_words(body) or repr(body)[:120]}")

    def read_chunk(self, chunk: JsonObject, events: list[Event]) -> None:
        """Append the events of one chunk."""
        kind = read_text(chunk, "type") or (self._line if self._line != "message" else "")
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, chunk, events)
        elif kind == "message" and not self.is_known:
            self.read_body(chunk, events)  # a whole answer in one event
        elif chunk.get("error") or (not kind and is_error_report(chunk)):
            raise self.make_reported_error(chunk)
        elif chunk and not kind:
            raise WireError(f"the provider sent an event without a type: {repr(chunk)[:120]}")
        elif chunk:
            self.skip_unknown(chunk)

    # -- the message -----------------------------------------------------------------------------------

    def _on_message_start(self, event: JsonObject, events: list[Event]) -> None:
        message = read_mapping(event, "message")
        response_id = find_id(message, "id") or None
        if self._has_begun and self.response_id and response_id not in (None, self.response_id):
            raise WireError(
                "another message began before the first one had ended; something between this program and the "
                "provider has merged two answers into one stream",
                is_retryable=True,
            )
        if self._has_begun:
            return
        self._has_begun = self.is_known = True
        self.response_id = response_id
        self.model = find_text(message, "model") or self.model
        self._take_container(message)
        self._take_usage(message, events)
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if type(content) is str else read_mappings(message, "content")
        for index, block in enumerate(blocks):
            self._on_block_start({"index": index, "content_block": block}, events)
            self._on_block_stop({"index": index}, events)
        self._stop_reason = read_text(message, "stop_reason")

    def _on_message_delta(self, event: JsonObject, events: list[Event]) -> None:
        delta = read_mapping(event, "delta")
        self._stop_reason = read_text(delta, "stop_reason") or self._stop_reason
        self._take_container(delta)
        if self._stop_reason:
            self._end_calls(events)
        self._take_usage(event, events)

    def _on_message_stop(self, event: JsonObject, events: list[Event]) -> None:
        if not self.is_known:
            raise WireError("the provider sent the end of a message that had not begun")
        self._end_calls(events)
        self._say("" if self._wrap is None else self._wrap.close(), events)
        events.append(StreamEnd(self._finish_reason(), self.response_id, self.model))

    def _finish_reason(self) -> FinishReason:
        if not self._stop_reason:
            return "tool_call" if self._has_own_calls else "stop"
        finish = FINISH_REASONS.get(self._stop_reason, "other")
        return "stop" if finish == "tool_call" and self._has_answered else finish

    def _on_ping(self, event: JsonObject, events: list[Event]) -> None:
        if is_error_report(event):  # an error under the wrong name
            raise self.make_reported_error(event)
        events.append(KeepAlive())

    def _on_error(self, event: JsonObject, events: list[Event]) -> None:
        raise self.make_reported_error(event)

    def make_reported_error(self, report: Json) -> BackendError:
        """Create the error that the provider reports."""
        error = find_mapping(report, "error") if isinstance(report, dict) else {}
        kind, request_id = as_text(error.get("type")), as_text(error and report.get("request_id"))
        if kind is None or kind not in ERROR_STATUS:
            return make_reported_error(report, request_id=request_id)
        message = f"the provider reports {kind}: {find_words(report) or 'no message'}"
        return make_status_error(ERROR_STATUS[kind], message, request_id=request_id)

    # -- blocks ----------------------------------------------------------------------------------------

    def _on_block_start(self, event: JsonObject, events: list[Event]) -> None:
        self.is_known = True
        index, block = self._find_index(event), read_mapping(event, "content_block")
        kind = read_text(block, "type") or ("text" if "text" in block else "")
        self._strange.discard(index)
        if kind in CALLS:
            self._start_call(index, block, events)
            return
        self._end_waiting(events)
        if (starter := _STARTS.get(kind)) is not None:
            starter(self, index, block, events)
        elif kind.endswith("_tool_result"):
            self._emit_result(block, events)
        elif block and not kind:
            raise WireError(f"the provider sent a block without a type: {repr(block)[:120]}")
        elif block:
            self._strange.add(index)
            self.skip_unknown(block)

    def _on_block_delta(self, event: JsonObject, events: list[Event]) -> None:
        self.is_known = True
        index, delta = self._find_index(event), read_mapping(event, "delta")
        kind = read_text(delta, "type") or next((kind for key, kind in _BY_KEY.items() if key in delta), "")
        if (handler := _DELTAS.get(kind)) is not None:
            handler(self, index, delta, events)
        elif delta:
            self.skip_unknown(delta)

    def _on_block_stop(self, event: JsonObject, events: list[Event]) -> None:
        index = self._find_index(event)
        if (kept := self._kept.pop(index, None)) is not None:
            events.append(ReasoningDelta("", kept.signature))
        call = self._calls.get(index)
        if call is not None:
            call.has_stopped = True
            if call.is_unclear:
                self._waiting.append(index)
            else:
                self._end_call(index, events)

    def _find_index(self, event: JsonObject) -> int | None:
        """Return the index of an event's block; an event without one belongs to the last index seen."""
        index = read_int(event, "index")
        if index is not None:
            self._index = index
        return self._index

    def _on_text_start(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        events += [SourceEvent(read_citation(citation)) for citation in find_mappings(block, "citations")]
        self._speak(read_text(block, "text"), events)

    def _on_thinking_start(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        self._on_thinking_delta(index, block, events)
        self._on_signature_delta(index, block, events)

    def _on_redacted_start(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        if data := find_text(block, "data"):
            events.append(ReasoningDelta("", f"{SIGNATURE}redacted_thinking:{data}"))

    def _on_compaction_start(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        self._kept[index] = KeptBlock(dict(block))

    def _start_call(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        before = self._calls.get(index)
        if before is not None and block.get("id") and before.sent_id == block["id"]:
            return  # the same start again
        self._end_waiting(events)
        if index in self._calls:
            self._end_call(index, events)
        call = self._calls[index] = CallBlock.begin(block, self._ids, self.response_id)
        if call.is_builtin:
            self._names[call.tool_call_id] = call.tool_name
            events.append(BuiltinToolStart(call.tool_call_id, call.tool_name))
        elif call.tool_name == self._answer_tool:
            self._has_answered = True
        else:
            self._has_own_calls = True
            events.append(ToolStart(call.tool_call_id, call.tool_name))

    def _on_upload_start(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        self._emit_file(read_text(block, "file_id"), events)

    def _on_fallback_start(self, index: int | None, block: JsonObject, events: list[Event]) -> None:
        self.model = find_text(find_mapping(block, "to"), "model") or self.model

    # -- deltas ----------------------------------------------------------------------------------------

    def _on_text_delta(self, index: int | None, delta: JsonObject, events: list[Event]) -> None:
        self._speak(read_text(delta, "text"), events)

    def _on_input_delta(self, index: int | None, delta: JsonObject, events: list[Event]) -> None:
        chunk = read_arguments(delta.get("partial_json"), "partial_json")
        if (call := self._calls.get(index)) is not None:
            self._write(call, chunk, events)
        elif chunk.strip() and index not in self._strange:
            raise WireError(f"the provider sent arguments for a call that hasn't begun, in the block {index}")

    def _on_thinking_delta(self, index: int | None, delta: JsonObject, events: list[Event]) -> None:
        if thought := find_text(delta, "thinking"):
            events.append(ReasoningDelta(thought))

    def _on_signature_delta(self, index: int | None, delta: JsonObject, events: list[Event]) -> None:
        if signature := as_text(delta.get("signature")):
            events.append(ReasoningDelta("", SIGNATURE + signature))

    def _on_citations_delta(self, index: int | None, delta: JsonObject, events: list[Event]) -> None:
        if citation := find_mapping(delta, "citation"):
            events.append(SourceEvent(read_citation(citation)))

    def _on_compaction_delta(self, index: int | None, delta: JsonObject, events: list[Event]) -> None:
        if (kept := self._kept.get(index)) is not None:
            kept.add(delta)

    # -- their content --------------------------------------------------------------------------------

    def _speak(self, text: str, events: list[Event]) -> None:
        self._say(text if self._answer_tool is not None else self._unwrap(text), events)

    def _unwrap(self, text: str) -> str:
        return text if self._wrap is None else self._wrap.feed(text)

    def _say(self, text: str, events: list[Event]) -> None:
        if self._drops_space:
            text = text.lstrip()
            self._drops_space = not text
            self._is_plain = bool(text) and self._wrap is None
        if text:
            events.append(TextDelta(text))

    def _write(self, call: CallBlock, chunk: str, events: list[Event]) -> None:
        if not chunk:
            return
        call.chunks.append(chunk)
        if not call.is_builtin and call.tool_name == self._answer_tool:
            self._say(self._unwrap(chunk), events)
        elif not call.is_builtin:
            events.append(ToolDelta(call.tool_call_id, chunk))

    def _end_call(self, index: int | None, events: list[Event], *, is_cut: bool = False) -> None:
        call = self._calls.pop(index)
        if not call.chunks:
            self._write(call, call.given, events)
        if not call.is_builtin and call.tool_name == self._answer_tool:
            return
        made = call.make(container=self._container, is_cut=is_cut)
        events.append(BuiltinToolEnd(made) if call.is_builtin else ToolEnd(made))

    def _end_waiting(self, events: list[Event]) -> None:
        """End the calls that were waiting for the next event: since there is one, they are complete."""
        for index in self._waiting:
            if index in self._calls and self._calls[index].has_stopped:
                self._end_call(index, events)
        self._waiting.clear()

    def _end_calls(self, events: list[Event]) -> None:
        """End the remaining calls at the end of the message; its stop reason says whether they are complete."""
        is_cut = self._stop_reason in CUT_OFF
        for index, call in list(self._calls.items()):
            # Code that the provider runs always calls a tool with complete arguments.
            self._end_call(index, events, is_cut=is_cut and not (call.has_stopped and call.is_whole))

    def _emit_result(self, block: JsonObject, events: list[Event]) -> None:
        events.append(BuiltinToolResult(read_result(block, self._names)))
        for file_id in find_file_ids(block.get("content")):
            self._emit_file(file_id, events)

    def _emit_file(self, file_id: str, events: list[Event]) -> None:
        if file_id:
            events.append(FileEvent("application/octet-stream", url=f"{FILES_URL}/{file_id}/content"))

    def _take_container(self, holder: JsonObject) -> None:
        self._container = find_text(find_mapping(holder, "container"), "id") or self._container

    def _take_usage(self, holder: JsonObject, events: list[Event]) -> None:
        if usage := find_mapping(holder, "usage"):
            events.append(UsageEvent(self._tokens.take(usage)))


_Handler = Callable[[Decoder, JsonObject, list[Event]], None]
_Starter = Callable[[Decoder, "int | None", JsonObject, list[Event]], None]

_HANDLERS: dict[str, _Handler] = {
    "message_start": Decoder._on_message_start,
    "content_block_start": Decoder._on_block_start,
    "content_block_delta": Decoder._on_block_delta,
    "content_block_stop": Decoder._on_block_stop,
    "message_delta": Decoder._on_message_delta,
    "message_stop": Decoder._on_message_stop,
    "ping": Decoder._on_ping,
    "error": Decoder._on_error,
}

_STARTS: dict[str, _Starter] = {
    "text": Decoder._on_text_start,
    "thinking": Decoder._on_thinking_start,
    "redacted_thinking": Decoder._on_redacted_start,
    "compaction": Decoder._on_compaction_start,
    "container_upload": Decoder._on_upload_start,
    "fallback": Decoder._on_fallback_start,
}

_DELTAS: dict[str, _Starter] = {
    "text_delta": Decoder._on_text_delta,
    "input_json_delta": Decoder._on_input_delta,
    "thinking_delta": Decoder._on_thinking_delta,
    "signature_delta": Decoder._on_signature_delta,
    "citations_delta": Decoder._on_citations_delta,
    "compaction_delta": Decoder._on_compaction_delta,
}

_BY_KEY = {"text": "text_delta", "partial_json": "input_json_delta", "thinking": "thinking_delta"}
"""The type of a delta that doesn't name it, by its field."""


_NAMES = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "thinking_tokens",
)


class TokenCounts:
    """The latest token counts; later ones replace earlier ones, and `null` changes nothing."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def take(self, usage: JsonObject) -> Usage:
        """Update the counts with the provider's, and return all that is known.

        The provider counts tokens read from the cache, and written to it, separately from the input.
        """
        counts = {**usage, **find_mapping(usage, "output_tokens_details")}
        self._counts |= {name: count for name in _NAMES if (count := find_int(counts, name)) is not None}
        known = self._counts.get
        cached, written = known("cache_read_input_tokens"), known("cache_creation_input_tokens")
        fresh = known("input_tokens")
        total = None if fresh is None else fresh + (cached or 0) + (written or 0)
        return Usage(total, known("output_tokens"), cached, written, known("thinking_tokens"))


def read_result(block: JsonObject, names: Mapping[str, str]) -> ToolOutput:
    """Return the result in a block.

    Args:
        block: such as a `web_search_tool_result`.
        names: of the tools, by the ids of their calls.
    """
    call_id, content = find_id(block, "tool_use_id"), block.get("content")
    name = names.get(call_id) or str(block["type"]).removesuffix("_tool_result")
    kind = content.get("type") if isinstance(content, dict) else None
    is_error = block.get("is_error") is True or (isinstance(kind, str) and kind.endswith("_error"))
    return ToolOutput(call_id, name, content, is_error, is_builtin=True)


def find_file_ids(content: Json) -> Iterator[str]:
    """Yield the ids of the files that executed code has written."""
    for each in find_list(content, "content") if isinstance(content, dict) else ():
        if isinstance(each, dict) and (file_id := find_id(each, "file_id")):
            yield file_id


def read_citation(citation: JsonObject) -> Source:
    """Return the source that a citation names."""
    url = as_text(citation.get("url")) or as_text(citation.get("source"))
    title = as_text(citation.get("title")) or as_text(citation.get("document_title"))
    return Source(url, title, as_text(citation.get("cited_text")))
