"""Decodes chat completions into events.

A streamed answer is a row of chunks, each with `choices[].delta`:

    chunk* (choice with finish_reason) [chunk with usage and no choices] ["[DONE]"]

The answer has ended once every choice that was seen has its `finish_reason`; what follows it may still say
something about usage. A service that gives no finish reason at all (Snowflake) ends with `[DONE]` after the
chunk that has only usage. A choice with a complete `message` needs none. Only the first choice to arrive yields events.

Essential are a choice's index, its text, refusal, calls, finish reason, and an error; everything else is optional.
Calls end with the answer, since their deltas may be interleaved to the last. The reasoning before an answer
may be signed (`reasoning_details`); the signature comes with the first event after the reasoning.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from mellea.backends.http.codec import Filter
from mellea.backends.http.decoding import SseWireDecoder
from mellea.backends.http.fields import (
    find_bytes,
    find_id,
    find_int,
    find_list,
    find_mapping,
    find_mappings,
    find_text,
    make_type_error,
    read_int,
    read_mapping,
    read_mappings,
    read_text,
)
from mellea.backends.http.report import is_error_report
from mellea.backends.http.thoughts import ThoughtTags
from mellea.backends.openai.chat.wire import FINISH_REASONS, NO_REASONS, REASONING_FIELDS, JsonObject
from mellea.backends.openai.frames import DONE, Unwrapping
from mellea.core.blocks import Source, ToolCall
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolStart,
    Event,
    FileEvent,
    FinishReason,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    Usage,
    UsageEvent,
)

if TYPE_CHECKING:
    from mellea.backends.openai.chat.calls import Calls

__all__ = ["Decoder"]

_USUAL = frozenset({"role", "content", "refusal", "tool_calls", *REASONING_FIELDS})
_KNOWN = _USUAL | {
    "annotations", "function_call", "images", "name", "provider_metadata", "reasoning_details", "tool_call_id",
}  # fmt: skip
_MOST_RUNS = 1000
_DONE = frozenset({DONE, b"DONE"})


class Decoder(SseWireDecoder):
    """Turns one chat completion into events.

    Args:
        model: the model that was asked for, until the provider names the one that answers.
        backend: name of the service, for errors and as the prefix of signatures.
        is_wrapped: whether the answer is JSON inside the envelope that this request asked for.
        starts: the characters that the JSON in it may begin with; `""` for any.
    """

    def __init__(self, model: str = "", *, backend: str = "openai", is_wrapped: bool = False, starts: str = "") -> None:
        filters: list[Filter] = [ThoughtTags(), Unwrapping(starts)] if is_wrapped else [ThoughtTags()]
        super().__init__(model, backend=backend, filters=filters)
        self._reasons: dict[int, str] = {}  # of each choice that was seen; "" while it is being written
        self._is_over = False  # every choice has its finish reason
        self._first: int | None = None  # the choice that is decoded
        self._usage: Usage | None = None
        self._calls: Calls | None = None  # set by the first call
        self._details: Details | None = None  # with the first of them
        self._cited: set[str] = set()
        self._ran: dict[str, int] = {}
        self._message = ""  # the text of complete messages in a stream, which may grow
        self._is_refused = False
        self._is_last_chunk_usage = False
        self._knows_answer = False
        self._is_usual = False  # no held event has to be emitted before more text

    @property
    def is_complete(self) -> bool:
        """Whether each choice has its finish reason."""
        return self._is_over or self._has_ended

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into chunks; those that only add text, nearly all, take a fast path."""
        for frame in self._sse.payloads(data):
            chunk = text = None
            try:
                chunk = from_json(frame, cache_strings="keys")  # a model's text rarely repeats
                (choice,) = chunk["choices"]
                delta = choice["delta"]
                if not (
                    len(delta) != 1
                    or choice["index"] != 0
                    or choice.get("finish_reason")
                    or "usage" in choice
                    or "error" in choice
                    or chunk.get("usage") is not None
                    or "error" in chunk
                    or "x_groq" in chunk
                    or "citations" in chunk
                    or "search_results" in chunk
                ):
                    text = delta.get("content")
            except (ValueError, KeyError, TypeError, AttributeError):
                pass  # in another form, which `_read_unusual` handles or rejects
            if text and type(text) is str and self._is_usual:
                events.append(TextDelta(text))
            elif frame:
                if type(chunk) is dict:
                    self.read_value(chunk, frame, events)
                else:
                    self._read_unusual(frame, events)
                if self.has_end(events):
                    break

    def _read_unusual(self, frame: bytes, events: list[Event]) -> None:
        if frame.strip().upper() in _DONE:
            self.end_answer(events, is_done=True)
        else:
            self.read_frame(frame, events)

    def read_last_frame(self, events: list[Event]) -> None:
        """Handle the last frame, if only its terminator is missing."""
        for event in self._sse.close():
            if event.data.strip().upper() in _DONE:
                self.end_answer(events, is_done=True)
            else:
                self.read_unended(event.data, events)

    def read_body(self, body: dict[str, Any], events: list[Event]) -> None:
        """Append the events of an unstreamed response."""
        if "choices" not in body and not is_error_report(body):
            raise self.make_alien_error(json.dumps(body).encode())
        self.read_value(body, b"", events)
        self.end_answer(events)

    def read_chunk(self, chunk: JsonObject, events: list[Event]) -> None:
        """Append the events of one chunk."""
        choices = chunk.get("choices")
        if type(choices) is not list:
            if choices is not None:
                raise make_type_error("choices", "a list", choices)
            choices = ()
        if choices and not self._knows_answer:
            self.response_id = find_id(chunk, "id") or self.response_id
            self.model = find_text(chunk, "model") or self.model
            self._knows_answer = True  # Azure starts with a chunk without either, and without choices
        if chunk.get("error") or not choices:
            self._check(chunk)
        for choice in choices:
            if choice is not None:
                self._read_choice(choice, chunk, events)
        if chunk.get("usage") is not None or "x_groq" in chunk:  # most chunks say `"usage": null`
            self._take_usage(chunk, is_last=not choices)
        if "citations" in chunk or "search_results" in chunk:
            self._read_results(chunk, events)
        self._is_usual = self._knows_answer and self._first == 0 and not (self._details and self._details.held)

    def _read_choice(self, choice: Any, chunk: JsonObject, events: list[Event]) -> None:
        if type(choice) is not dict:
            raise make_type_error("choices", "a list of objects", choice)
        self.is_known = True
        if choice.get("error"):
            raise self.make_reported_error(choice["error"])
        index = read_int(choice, "index") or 0
        if self._first is None:
            choices = chunk["choices"]
            several = (
                [read_int(each, "index") or 0 for each in choices if type(each) is dict] if len(choices) > 1 else ()
            )
            self._first = min(several, default=index)
        self._reasons.setdefault(index, "")
        is_whole = choice.get("delta") is None and choice.get("message") is not None
        if index == self._first:
            self._say(choice, chunk, events, is_whole=is_whole)
        reason = read_text(choice, "finish_reason")
        if reason not in NO_REASONS:
            self._reasons[index] = reason
        elif is_whole and not self._reasons[index] and "finish_reason" in choice:
            self._reasons[index] = "stop"
        self._is_over = "" not in self._reasons.values()
        if choice.get("usage") is not None:
            self._take_usage(choice, is_last=False)

    def _say(self, choice: JsonObject, chunk: JsonObject, events: list[Event], *, is_whole: bool) -> None:
        delta = read_mapping(choice, "message" if is_whole else "delta")
        if is_whole and type(said := delta.get("content")) is str:
            # Some services repeat the text so far in each chunk.
            new = said.removeprefix(self._message)
            delta, self._message = {**delta, "content": new}, said
        if delta:
            self._read_delta(delta, chunk, events)
        elif text := read_text(choice, "text"):  # from the older completions API
            self._emit_text(text, events)

    def _read_delta(self, delta: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        self._read_reasoning(delta, events)
        content = delta.get("content")
        if type(content) is list:
            self._read_parts(content, events)
        elif content is not None:
            self._emit_text(read_text(delta, "content"), events)
        if delta.get("refusal") is not None and (refusal := read_text(delta, "refusal")):
            self._is_refused = True
            self._emit_text(refusal, events)
        for call in read_mappings(delta, "tool_calls") if "tool_calls" in delta else ():
            self._read_call(call, chunk, events)
        if not delta.keys() <= _USUAL:
            self._read_extras(delta, chunk, events)

    def _read_call(self, call: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        self._emit_signature(events)
        if self._calls is None:
            from mellea.backends.openai.chat.calls import Calls  # lazy: most answers call nothing

            self._calls = Calls()
        self._calls.feed(call, (self.response_id, chunk.get("created"), chunk), events)

    def _read_extras(self, delta: JsonObject, chunk: JsonObject, events: list[Event]) -> None:
        if call := read_mapping(delta, "function_call"):  # from the format before tools
            self._read_call({"function": call}, chunk, events)
        for image in find_mappings(delta, "images"):
            self._read_image(image, events)
        for annotation in find_mappings(delta, "annotations"):
            self._emit_source(find_mapping(annotation, "url_citation"), events)
        if "provider_metadata" in delta:
            self._count_tools(delta)
        if unknown := {name: delta[name] for name in delta.keys() - _KNOWN if delta[name]}:
            self.skip_unknown(unknown)

    def _read_reasoning(self, delta: JsonObject, events: list[Event]) -> None:
        said = ""
        if "reasoning_details" in delta:
            self._details = self._details or Details()
            said = self._details.feed(find_mappings(delta, "reasoning_details"))
        for name in REASONING_FIELDS:
            if name in delta and type(thought := delta[name]) is str and thought:
                events.append(ReasoningDelta(thought))
                return
        if said:
            events.append(ReasoningDelta(said))

    def _emit_text(self, text: str, events: list[Event]) -> None:
        if text:
            if self._details is not None:
                self._emit_signature(events)
            events.append(TextDelta(text))

    def _read_parts(self, parts: list[Any], events: list[Event]) -> None:
        """Read content in parts, as Mistral's thinking models send it."""
        for part in parts:
            if type(part) is str:
                self._emit_text(part, events)
                continue
            if type(part) is not dict:
                raise make_type_error("content", "a string or a list of parts", parts)
            kind = part.get("type")
            if kind == "thinking":
                thoughts = "".join([find_text(thought, "text") for thought in find_mappings(part, "thinking")])
                if thoughts := thoughts or find_text(part, "thinking"):
                    events.append(ReasoningDelta(thoughts))
            elif kind in ("text", "output_text", None) and "text" in part:
                self._emit_text(read_text(part, "text"), events)
            elif kind != "reference":  # Mistral's, to a source
                self.skip_unknown(part)

    def _read_image(self, image: JsonObject, events: list[Event]) -> None:
        self._emit_signature(events)
        url = find_text(image, "image_url") or find_text(find_mapping(image, "image_url"), "url")
        if url.startswith("data:"):
            head, _, payload = url.removeprefix("data:").partition(",")
            if data := find_bytes(payload):
                events.append(FileEvent(head.partition(";")[0] or "image/png", data=data))
                return
        elif url:
            events.append(FileEvent("image/png", url=url))
            return
        self.skip_unknown(image)

    def _emit_signature(self, events: list[Event]) -> None:
        if self._details is not None and self._details.held:
            events.append(ReasoningDelta("", signature=f"{self._backend}:{self._details.take()}"))

    def _emit_source(self, source: JsonObject, events: list[Event]) -> None:
        url = find_text(source, "url")
        if url and url not in self._cited:
            self._cited.add(url)
            text = find_text(source, "content") or find_text(source, "snippet")
            events.append(SourceEvent(Source(url, find_text(source, "title") or None, text or None)))

    def _read_results(self, chunk: JsonObject, events: list[Event]) -> None:
        """Read the citations of Perplexity and xAI, which they repeat in every chunk."""
        for source in find_mappings(chunk, "search_results"):
            self._emit_source(source, events)
        for url in find_list(chunk, "citations"):
            self._emit_source(url if type(url) is dict else {"url": url}, events)

    def _count_tools(self, delta: JsonObject) -> None:
        # Vercel's gateway only reports how often each of its tools ran.
        gateway = find_mapping(find_mapping(delta, "provider_metadata"), "gateway")
        counts = find_mapping(gateway, "gatewayToolCalls")
        self._ran.update({name: min(n, _MOST_RUNS) for name, n in counts.items() if type(n) is int})

    def _check(self, chunk: JsonObject) -> None:
        """Raise if a chunk without choices reports a failure."""
        if chunk.get("error") or (("choices" not in chunk or chunk["choices"] is None) and is_error_report(chunk)):
            raise self.make_reported_error(chunk)
        if error := find_mapping(chunk, "x_groq").get("error"):
            raise self.make_reported_error(error)

    def _take_usage(self, chunk: JsonObject, *, is_last: bool) -> None:
        usage = find_mapping(chunk, "usage") or find_mapping(find_mapping(chunk, "x_groq"), "usage")
        if usage:
            self._usage = read_usage(usage)
            self._is_last_chunk_usage = is_last

    def end_answer(self, events: list[Event], *, is_done: bool = False) -> None:
        """End the answer, if the provider has said that it is complete."""
        if not self.is_complete and not (is_done and self._reasons and self._is_last_chunk_usage):
            raise self.make_interrupted_error("a finish reason")
        finish = self._finish_reason()
        self._emit_signature(events)
        if self._calls is not None:
            self._calls.end(events, is_cut_off=finish in ("length", "content_filter", "error"))
        for name, count in self._ran.items():
            for number in range(count):
                call = ToolCall(f"{name}_{number}", name, {}, json.dumps({}), is_builtin=True)
                events += (BuiltinToolStart(call.tool_call_id, name), BuiltinToolEnd(call))
        if self._usage is not None and self._usage != Usage():
            events.append(UsageEvent(self._usage))
        events.append(StreamEnd(finish, self.response_id, self.model))

    def _finish_reason(self) -> FinishReason:
        reason = self._reasons.get(self._first or 0, "")
        finish: FinishReason = FINISH_REASONS.get(reason, "other")
        if self._is_refused:
            return "content_filter"
        if self._calls and finish in ("stop", "other"):
            return "tool_call"  # some services report "stop" for a tool call
        return finish


def read_usage(usage: JsonObject) -> Usage:
    """Return the token counts, normalised across services; one with an unknown form is ignored."""
    prompt, written = find_mapping(usage, "prompt_tokens_details"), find_mapping(usage, "completion_tokens_details")
    given, output = find_int(usage, "prompt_tokens"), find_int(usage, "completion_tokens")
    total, reasoning = find_int(usage, "total_tokens"), find_int(written, "reasoning_tokens")
    if output is not None and given is not None and total is not None and total > given + output:
        # xAI counts the answer without its reasoning, but the total with it; so does Gemini in OpenAI's format,
        # which doesn't report the reasoning at all.
        output = total - given
    cached = find_int(prompt, "cached_tokens")
    if cached is None:
        cached = find_int(usage, "prompt_cache_hit_tokens")  # DeepSeek
    if cached is None:
        cached = find_int(usage, "cached_tokens")  # Moonshot
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=find_int(prompt, "cache_write_tokens"),
        reasoning_tokens=reasoning,
    )


_PIECES = ("text", "summary", "data")


class Details:
    """Collects `reasoning_details`, which OpenRouter and others need back unchanged in the next turn, in `held`.

    OpenRouter, "Reasoning tokens", section "Preserving reasoning" (as of 2026-10): each detail has a type
    (`reasoning.text`, `reasoning.summary`, `reasoning.encrypted`), an id, an index and a format; a text may have a
    signature. Streamed details arrive in pieces, which are joined by type and index.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: list[JsonObject] = []

    def feed(self, details: list[JsonObject]) -> str:
        """Add details and return their readable text."""
        said = []
        for detail in details:
            said += [find_text(detail, "text"), find_text(detail, "summary")]
            last = self.held[-1] if self.held else {}
            # A new detail starts where type or index change; only the first piece has an id.
            if any(last.get(name) != detail.get(name) for name in ("type", "index")) or not last:
                self.held.append(dict(detail))
                continue
            for name, value in detail.items():
                if name in _PIECES:
                    last[name] = find_text(last, name) + find_text(detail, name)
                elif value is not None:
                    last[name] = value
        return "".join(said)

    def take(self) -> str:
        """Return the collected details as JSON, and start over."""
        text = json.dumps(self.held, ensure_ascii=False, separators=(",", ":"))
        self.held = []
        return text
