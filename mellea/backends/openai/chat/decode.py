"""From the bytes of chat completions to events.

A streamed answer is a row of chunks, each with `choices[].delta`:

    chunk* (choice with finish_reason) [chunk with usage and no choices] ["[DONE]"]

The answer has ended once every choice that was seen has its `finish_reason`; what follows it may still say
something about usage. A service that gives no finish reason at all (Snowflake) ends with `[DONE]` behind the
chunk that has only usage. Only choice 0 gives events. `data:` that isn't a JSON object is a `WireError`.

Calls end with the answer, since their deltas may be interleaved to the last. The reasoning before an answer
may be signed (`reasoning_details`); the signature comes with the first event after the reasoning.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

from mellea.backends.openai.chat.calls import Calls
from mellea.backends.openai.chat.reasoning import Details
from mellea.backends.openai.chat.usage import usage_of
from mellea.backends.openai.chat.wire import FINISH_REASONS, REASONING_FIELDS, JsonObject
from mellea.backends.openai.fields import bytes_of, list_of, mapping_of, mappings_of, parse_object, text_of, wrong_type
from mellea.backends.openai.frames import DONE, StreamDecoder
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

__all__ = ["Decoder"]

_USUAL = frozenset({"role", "content", "refusal", "tool_calls", *REASONING_FIELDS})


class Decoder(StreamDecoder):
    """Turns one chat completion into events; the arguments are those of `StreamDecoder`."""

    def __init__(self, model: str = "", *, backend: str = "openai", is_wrapped: bool = False) -> None:
        super().__init__(model, backend=backend, is_wrapped=is_wrapped)
        self._reasons: dict[Any, str] = {}  # of each choice that was seen; "" while it is being written
        self._usage: Usage | None = None
        self._calls = Calls()
        self._details = Details()
        self._cited: set[str] = set()
        self._ran: dict[str, int] = {}
        self._is_refused = False
        self._is_last_chunk_usage = False
        self._knows_answer = False
        self._is_usual = False  # nothing is held back that would come before more text

    def _frames(self, frames: list[bytes], events: list[Event]) -> None:
        """Take chunks; one that is more text and nothing else, as nearly all are, in the shortest way."""
        for frame in frames:
            chunk = text = None
            try:
                chunk = from_json(frame, cache_strings="keys")  # what a model says hardly ever comes again
                (choice,) = chunk["choices"]
                delta = choice["delta"]
                if not (
                    len(delta) != 1
                    or choice["index"] != 0
                    or choice.get("finish_reason")
                    or "usage" in choice
                    or chunk.get("usage") is not None
                    or "error" in chunk
                    or "x_groq" in chunk
                    or "citations" in chunk
                    or "search_results" in chunk
                ):
                    text = delta.get("content")
            except (ValueError, KeyError, TypeError, AttributeError):
                pass  # of another form, or none at all, which `_unusual` knows or complains of
            if text and type(text) is str and self._is_usual:
                self._said.append(text)
                events.append(TextDelta(text))
            elif frame:
                self._unusual(frame, chunk, events)
                if self._has_ended:
                    break

    def _unusual(self, frame: bytes, chunk: Any, events: list[Event]) -> None:
        if type(chunk) is dict:
            self._chunk(chunk, "delta", events)
        elif frame.startswith(DONE):
            self._end(events, is_done=True)
        else:
            parse_object(frame)  # says what is wrong

    def _plain(self, body: dict[str, Any], events: list[Event]) -> None:
        self._chunk(body, "message", events)
        self._end(events)

    def _chunk(self, chunk: JsonObject, part: str, events: list[Event]) -> None:
        choices = chunk.get("choices")
        if type(choices) is not list:
            if choices is not None:
                raise wrong_type("choices", "a list", choices)
            choices = ()
        if not self._knows_answer or part == "message":
            self._answer(chunk)
        if "error" in chunk or not choices:
            self._check(chunk)
        for choice in choices:
            self._choice(choice, part, events)
        if chunk.get("usage") is not None or "x_groq" in chunk:  # most chunks say `"usage": null`
            self._take_usage(chunk, is_last=not choices)
        if "citations" in chunk or "search_results" in chunk:
            self._cite_results(chunk, events)
        self._is_usual = self._knows_answer and 0 in self._reasons and self._wrap is None and not self._details.held

    def _choice(self, choice: Any, part: str, events: list[Event]) -> None:
        if type(choice) is not dict:
            raise wrong_type("choices", "a list of objects", choice)
        index = choice.get("index") or 0
        if type(index) is not int:
            raise wrong_type("index", "a whole number", index)
        if index not in self._reasons:
            self._reasons[index] = ""
        delta = choice.get(part)
        if delta and index == 0:
            if type(delta) is not dict:
                raise wrong_type(part, "an object", delta)
            self._delta(delta, events)
        if reason := choice.get("finish_reason"):
            self._finish(index, reason, choice)
        if "usage" in choice:
            self._take_usage(choice, is_last=False)

    def _delta(self, delta: JsonObject, events: list[Event]) -> None:
        self._reason(delta, events)
        content = delta.get("content")
        if type(content) is list:
            self._parts(mappings_of(delta, "content"), events)
        elif content:
            self._answer_text(text_of(delta, "content"), events)
        if refusal := text_of(delta, "refusal"):
            self._is_refused = True
            self._answer_text(refusal, events)
        for call in mappings_of(delta, "tool_calls"):
            self._sign(events)
            self._calls.feed(call, self._response_id, events)
        if not delta.keys() <= _USUAL:
            self._extras(delta, events)

    def _extras(self, delta: JsonObject, events: list[Event]) -> None:
        for image in mappings_of(delta, "images"):
            self._image(image, events)
        for annotation in mappings_of(delta, "annotations"):
            self._cite(mapping_of(annotation, "url_citation"), events)
        if "provider_metadata" in delta:
            self._count_tools(delta)

    def _reason(self, delta: JsonObject, events: list[Event]) -> None:
        details = mappings_of(delta, "reasoning_details") if "reasoning_details" in delta else []
        said = self._details.feed(details)
        for name in REASONING_FIELDS:
            if thought := text_of(delta, name):
                events.append(ReasoningDelta(thought))
                return
        if said:
            events.append(ReasoningDelta(said))

    def _answer_text(self, text: str, events: list[Event]) -> None:
        self._sign(events)
        self._say(text, events)

    def _parts(self, parts: list[JsonObject], events: list[Event]) -> None:
        """Take content in parts, as Mistral's thinking models send it."""
        for part in parts:
            if part.get("type") == "thinking":
                thoughts = "".join([text_of(thought, "text") for thought in mappings_of(part, "thinking")])
                if thoughts:
                    events.append(ReasoningDelta(thoughts))
            elif part.get("type") == "text" and (text := text_of(part, "text")):
                self._answer_text(text, events)

    def _image(self, image: JsonObject, events: list[Event]) -> None:
        self._sign(events)
        url = text_of(mapping_of(image, "image_url"), "url")
        if url.startswith("data:"):
            head, _, payload = url.removeprefix("data:").partition(",")
            events.append(FileEvent(head.partition(";")[0] or "image/png", data=bytes_of(payload, "image_url")))
        elif url:
            events.append(FileEvent("image/png", url=url))

    def _sign(self, events: list[Event]) -> None:
        if self._details.held:
            events.append(ReasoningDelta("", signature=f"{self._backend}:{self._details.taken()}"))

    def _cite(self, source: JsonObject, events: list[Event]) -> None:
        url = text_of(source, "url")
        if url and url not in self._cited:
            self._cited.add(url)
            text = text_of(source, "content") or text_of(source, "snippet")
            events.append(SourceEvent(Source(url, text_of(source, "title") or None, text or None)))

    def _cite_results(self, chunk: JsonObject, events: list[Event]) -> None:
        """Take what Perplexity and xAI cite; they repeat it in every chunk."""
        for source in mappings_of(chunk, "search_results"):
            self._cite(source, events)
        for url in list_of(chunk, "citations"):
            self._cite(url if type(url) is dict else {"url": url}, events)

    def _count_tools(self, delta: JsonObject) -> None:
        # Vercel's gateway says no more of a tool that it ran than how often.
        gateway = mapping_of(mapping_of(delta, "provider_metadata"), "gateway")
        self._ran.update({name: n for name, n in mapping_of(gateway, "gatewayToolCalls").items() if type(n) is int})

    def _finish(self, index: int, reason: Any, choice: JsonObject) -> None:
        if type(reason) is not str:
            raise wrong_type("finish_reason", "a text", reason)
        if choice.get("error"):
            raise self._reported(choice["error"])
        self._reasons[index] = reason

    def _answer(self, chunk: JsonObject) -> None:
        self._response_id = text_of(chunk, "id") or self._response_id
        self._model = text_of(chunk, "model") or self._model
        self._knows_answer = bool(chunk.get("choices"))  # Azure begins with a chunk that knows neither

    def _check(self, chunk: JsonObject) -> None:
        if error := chunk.get("error") or mapping_of(chunk, "x_groq").get("error"):
            raise self._reported(error)
        if "choices" in chunk:
            return
        if chunk.get("object") == "error" or chunk.get("type") == "error" or "detail" in chunk:
            raise self._reported(chunk)

    def _take_usage(self, chunk: JsonObject, *, is_last: bool) -> None:
        usage = mapping_of(chunk, "usage") or mapping_of(mapping_of(chunk, "x_groq"), "usage")
        if usage:
            self._usage = usage_of(usage)
            self._is_last_chunk_usage = is_last

    def _end(self, events: list[Event], *, is_done: bool = False) -> None:
        unfinished = not self._reasons or "" in self._reasons.values()
        if unfinished and not (is_done and self._reasons and self._is_last_chunk_usage):
            raise self._interrupted("a finish reason")
        finish = self._finish_reason()
        self._sign(events)
        self._say_rest(events)
        self._calls.end(events, is_cut_off=finish in ("length", "content_filter", "error"))
        for name, count in self._ran.items():
            for number in range(count):
                call = ToolCall(f"{name}_{number}", name, {}, json.dumps({}), is_builtin=True)
                events += (BuiltinToolStart(call.tool_call_id, name), BuiltinToolEnd(call))
        if self._usage is not None:
            events.append(UsageEvent(self._usage))
        events.append(StreamEnd(finish, self._response_id, self._model))
        self._has_ended = True

    def _finish_reason(self) -> FinishReason:
        reason = self._reasons.get(0, "")
        finish: FinishReason = FINISH_REASONS.get(reason, "other")
        if self._is_refused:
            return "content_filter"
        if self._calls and finish in ("stop", "other"):
            return "tool_call"  # some services say "stop" of an answer that is a call
        return finish
