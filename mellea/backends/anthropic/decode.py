"""From the bytes of Anthropic's Messages format to events.

A message is a list of blocks. Streamed, it comes as

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with `ping` and `error` anywhere. Blocks have numbers and may be interleaved. `message_stop` is the end;
what follows it is ignored. Gateways are known to send a `message_start` twice, which does no harm, and to
splice a second message into one that broke off, which is an error: its thoughts couldn't be sent back.

A call that the token limit or a refusal cuts off ends with `is_valid` false. One without any arguments
looks the same whether it is cut off or complete, so its end waits until the next block, or the reason for
the stop, tells.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from mellea.backends._transport.sse import SseDecoder
from mellea.backends._transport.status import error_for_status
from mellea.backends.anthropic.calls import Call
from mellea.backends.anthropic.usage import TokenCounts
from mellea.backends.anthropic.wire import (
    CUT_OFF,
    ERROR_STATUS,
    FILES_URL,
    FINISH_REASONS,
    SIGNATURE,
    Json,
    JsonObject,
    text_of,
    text_or_none,
)
from mellea.core.blocks import Source, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    Event,
    FileEvent,
    KeepAlive,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    UsageEvent,
)
from mellea.core.structured.wrapped import Unwrapper
from mellea.errors import BackendError, InterruptedStreamError, WireError

__all__ = ["Decoder", "decode_plain"]


class Decoder:
    """Turns one streamed message into events, wherever its bytes are split.

    Args:
        model: the model that was asked, until the provider names the one that answers.
        answer_tool: the tool whose arguments are the answer, where a schema is held by a forced call.
        is_wrapped: whether the answer is JSON in an object of our own making.
        drops_space: whether the answer's first white space has been said already, at the end of a prefix.
    """

    def __init__(
        self, model: str, *, answer_tool: str | None = None, is_wrapped: bool = False, drops_space: bool = False
    ) -> None:
        self._sse = SseDecoder()
        self._model = model
        self._answer_tool = answer_tool
        self._wrap = Unwrapper() if is_wrapped else None
        self._drops_space = drops_space
        self._texts: list[str] = []
        self.error: BackendError | None = None
        self._response_id: str | None = None
        self._stop_reason: str | None = None
        self._container: str | None = None
        self._tokens = TokenCounts()
        self._calls: dict[int, Call | None] = {}  # that are being written; None where nothing is to be told
        self._waiting: list[Call] = []
        self._names: dict[str, str] = {}  # of the provider's own tools, for their results
        self._has_begun = False
        self._has_answered = False  # by the answer tool
        self._has_ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete.

        Raises:
            BackendError: the provider reports an error; it comes after the events before it.
            WireError: the bytes are no such message.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            for sse in self._sse.feed(data):
                if self._has_ended:
                    break
                self._handle(_parse(sse.data), events)
        except BackendError as error:
            error.partial = "".join(self._texts)
            self.error = error
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """Return the last events.

        Raises:
            InterruptedStreamError: `message_stop` hasn't come.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        if not self._has_ended:
            # Some servers leave out the empty line after the last event.
            for sse in self._sse.feed(b"\n\n"):
                if _is_stop(sse.data):
                    self._handle({"type": "message_stop"}, events)
        if not self._has_ended:
            self.error = InterruptedStreamError(
                "the stream stopped before the provider's message_stop; what had arrived is in .partial",
                partial="".join(self._texts),
                is_retryable=True,
            )
            raise self.error
        return events

    def decode_whole(self, message: Json) -> list[Event]:
        """Return the events of a message that came as one value.

        Raises:
            BackendError: it is an error, or no message.
        """
        events: list[Event] = []
        is_message = isinstance(message, dict) and "content" in message
        self._handle({"type": "message_start", "message": message} if is_message else message, events)
        self._handle({"type": "message_stop"}, events)
        return events

    def _handle(self, event: Json, events: list[Event]) -> None:
        try:
            kind = event["type"] if "type" in event or "error" not in event else "error"
            handler = _HANDLERS.get(kind)
            if handler is not None:
                handler(self, event, events)
        except (AttributeError, KeyError, TypeError) as error:
            raise WireError(f"the provider sent an event that its format doesn't know: {_shown(event)}") from error

    # -- the message -----------------------------------------------------------------------------------

    def _message_start(self, event: JsonObject, events: list[Event]) -> None:
        message = event["message"]
        if self._has_begun:
            if message.get("id") == self._response_id:
                return
            raise WireError(
                "another message began before the first one had ended; somebody between here and the provider "
                "has spliced two answers into one stream",
                is_retryable=True,
            )
        self._has_begun = True
        self._response_id = text_or_none(message.get("id"))
        self._model = text_or_none(message.get("model")) or self._model
        self._take_container(message)
        self._take_usage(message.get("usage"), events)
        for index, block in enumerate(message.get("content") or ()):
            self._block_start({"index": index, "content_block": block}, events)
            self._block_stop({"index": index}, events)
        self._stop_reason = text_or_none(message.get("stop_reason"))

    def _message_delta(self, event: JsonObject, events: list[Event]) -> None:
        delta = event["delta"]
        self._stop_reason = text_or_none(delta.get("stop_reason")) or self._stop_reason
        self._take_container(delta)
        self._end_calls(events)
        self._take_usage(event.get("usage"), events)

    def _message_stop(self, event: JsonObject, events: list[Event]) -> None:
        if not self._has_begun:
            raise WireError("the provider sent the end of a message that had not begun")
        self._end_calls(events)
        self._say("" if self._wrap is None else self._wrap.close(), events)
        finish = FINISH_REASONS.get(self._stop_reason or "", "other")
        if finish == "tool_call" and self._has_answered:
            finish = "stop"
        events.append(StreamEnd(finish, self._response_id, self._model))
        self._has_ended = True

    def _ping(self, event: JsonObject, events: list[Event]) -> None:
        events.append(KeepAlive())

    def _error_event(self, event: JsonObject, events: list[Event]) -> None:
        error = event["error"]
        kind = text_or_none(error.get("type")) or "error"
        message = text_or_none(error.get("message")) or "no message"
        code = error.get("code")
        status = ERROR_STATUS.get(kind) or (code if isinstance(code, int) and 400 <= code < 600 else 500)
        raise error_for_status(
            status,
            f"the provider reports {kind}: {message}",
            request_id=text_or_none(event.get("request_id")),
        )

    # -- blocks ----------------------------------------------------------------------------------------

    def _block_start(self, event: JsonObject, events: list[Event]) -> None:
        self._end_waiting(events, is_cut=False)
        block = event["content_block"]
        self._calls[event["index"]] = None
        starter = _STARTS.get(block["type"])
        if starter is not None:
            starter(self, event["index"], block, events)
        elif block["type"].endswith("_tool_result"):
            self._result(block, events)

    def _block_delta(self, event: JsonObject, events: list[Event]) -> None:
        delta = event["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            self._speak(delta["text"], events)
        elif kind == "input_json_delta":
            self._write(self._calls[event["index"]], text_of(delta["partial_json"]), events)
        elif kind == "thinking_delta":
            if thought := text_of(delta["thinking"]):
                events.append(ReasoningDelta(thought))
        elif kind == "signature_delta":
            self._sign(delta["signature"], events)
        elif kind == "citations_delta":
            self._cite(delta["citation"], events)

    def _block_stop(self, event: JsonObject, events: list[Event]) -> None:
        call = self._calls.pop(event["index"], None)
        if call is not None and call.is_unclear:
            self._waiting.append(call)
        elif call is not None:
            self._end(call, events)

    def _start_text(self, index: int, block: JsonObject, events: list[Event]) -> None:
        for citation in block.get("citations") or ():
            self._cite(citation, events)
        self._speak(block.get("text") or "", events)

    def _start_thinking(self, index: int, block: JsonObject, events: list[Event]) -> None:
        if thought := text_of(block.get("thinking") or ""):
            events.append(ReasoningDelta(thought))
        self._sign(block.get("signature") or "", events)

    def _start_redacted(self, index: int, block: JsonObject, events: list[Event]) -> None:
        events.append(ReasoningDelta("", f"{SIGNATURE}redacted_thinking:{text_of(block['data'])}"))

    def _start_call(self, index: int, block: JsonObject, events: list[Event]) -> None:
        call = self._calls[index] = Call.begun_by(block)
        if call.is_builtin:
            self._names[call.tool_call_id] = call.tool_name
            events.append(BuiltinToolStart(call.tool_call_id, call.tool_name))
        elif call.tool_name == self._answer_tool:
            self._has_answered = True
        else:
            events.append(ToolStart(call.tool_call_id, call.tool_name))
        if block.get("input"):
            self._write(call, json.dumps(block["input"], ensure_ascii=False), events)

    def _start_upload(self, index: int, block: JsonObject, events: list[Event]) -> None:
        self._file(block["file_id"], events)

    def _start_fallback(self, index: int, block: JsonObject, events: list[Event]) -> None:
        self._model = text_or_none(block["to"].get("model")) or self._model

    # -- what they hold --------------------------------------------------------------------------------

    def _speak(self, text: Json, events: list[Event]) -> None:
        self._say(text if self._answer_tool is not None else self._unwrapped(text), events)

    def _unwrapped(self, text: Json) -> Json:
        return text if self._wrap is None else self._wrap.feed(text)

    def _say(self, text: Json, events: list[Event]) -> None:
        if self._drops_space:
            text = text.lstrip()
            self._drops_space = not text
        if type(text) is not str:
            raise TypeError(f"{text!r} is no text")
        if text:
            self._texts.append(text)
            events.append(TextDelta(text))

    def _sign(self, signature: Json, events: list[Event]) -> None:
        if text_of(signature):
            events.append(ReasoningDelta("", SIGNATURE + signature))

    def _cite(self, citation: JsonObject, events: list[Event]) -> None:
        url = citation.get("url") or citation.get("source")
        title = citation.get("title") or citation.get("document_title")
        source = Source(text_or_none(url), text_or_none(title), text_or_none(citation.get("cited_text")))
        events.append(SourceEvent(source))

    def _write(self, call: Call | None, chunk: str, events: list[Event]) -> None:
        if call is None or not chunk:
            return
        if call.is_builtin:
            call.chunks.append(chunk)
        elif call.tool_name == self._answer_tool:
            self._say(self._unwrapped(chunk), events)
        else:
            call.chunks.append(chunk)
            events.append(ToolDelta(call.tool_call_id, chunk))

    def _end(self, call: Call, events: list[Event], *, is_cut: bool = False) -> None:
        if not call.is_builtin and call.tool_name == self._answer_tool:
            return
        made = call.made(container=self._container, is_cut=is_cut)
        events.append(BuiltinToolEnd(made) if call.is_builtin else ToolEnd(made))

    def _end_waiting(self, events: list[Event], *, is_cut: bool) -> None:
        for call in self._waiting:
            # Code that the provider runs calls a tool with arguments that are complete.
            self._end(call, events, is_cut=is_cut and not call.chunks)
        self._waiting.clear()

    def _end_calls(self, events: list[Event]) -> None:
        self._end_waiting(events, is_cut=self._stop_reason in CUT_OFF)
        for call in self._calls.values():
            if call is not None:
                self._end(call, events, is_cut=True)
        self._calls.clear()

    def _result(self, block: JsonObject, events: list[Event]) -> None:
        call_id, content = text_of(block["tool_use_id"]), block.get("content")
        name = self._names.get(call_id) or block["type"].removesuffix("_tool_result")
        is_error = bool(block.get("is_error")) or (isinstance(content, dict) and _is_error(content))
        events.append(BuiltinToolResult(ToolOutput(call_id, name, content, is_error, is_builtin=True)))
        files = content.get("content") if isinstance(content, dict) else None
        for each in files if isinstance(files, list) else ():
            if isinstance(each, dict) and "file_id" in each:
                self._file(each["file_id"], events)

    def _file(self, file_id: Json, events: list[Event]) -> None:
        url = f"{FILES_URL}/{text_of(file_id)}/content"
        events.append(FileEvent("application/octet-stream", url=url))

    def _take_container(self, holder: JsonObject) -> None:
        if (container := holder.get("container")) is not None:
            self._container = text_or_none(container.get("id"))

    def _take_usage(self, usage: JsonObject | None, events: list[Event]) -> None:
        if usage:
            events.append(UsageEvent(self._tokens.take(usage)))


_Handler = Callable[[Decoder, JsonObject, list[Event]], None]
_Starter = Callable[[Decoder, int, JsonObject, list[Event]], None]

_HANDLERS: dict[str, _Handler] = {
    "message_start": Decoder._message_start,
    "content_block_start": Decoder._block_start,
    "content_block_delta": Decoder._block_delta,
    "content_block_stop": Decoder._block_stop,
    "message_delta": Decoder._message_delta,
    "message_stop": Decoder._message_stop,
    "ping": Decoder._ping,
    "error": Decoder._error_event,
}

_STARTS: dict[str, _Starter] = {
    "text": Decoder._start_text,
    "thinking": Decoder._start_thinking,
    "redacted_thinking": Decoder._start_redacted,
    "tool_use": Decoder._start_call,
    "server_tool_use": Decoder._start_call,
    "mcp_tool_use": Decoder._start_call,
    "container_upload": Decoder._start_upload,
    "fallback": Decoder._start_fallback,
}


def decode_plain(body: bytes, model: str, **reading: Any) -> list[Event]:
    """Return the events of a message that came as one JSON body.

    Raises:
        BackendError: it is an error, or no message.
    """
    return Decoder(model, **reading).decode_whole(_parse(body))


def _parse(data: bytes) -> Json:
    try:
        return from_json(data)
    except ValueError as error:
        raise WireError(f"the provider sent what is no JSON: {data[:80]!r}") from error


def _is_stop(data: bytes) -> bool:
    try:
        event = from_json(data)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("type") == "message_stop"


def _is_error(content: JsonObject) -> bool:
    kind = content.get("type")
    return isinstance(kind, str) and kind.endswith("_error")


def _shown(event: Json) -> str:
    text = repr(event)
    return text if len(text) <= 120 else f"{text[:119]}…"
