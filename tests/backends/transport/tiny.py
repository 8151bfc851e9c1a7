"""A provider made up for these tests: `{"text": …}` and `{"end": …}`, as server-sent events or one JSON body."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic_core import from_json

from mellea.backends._transport.backend import HTTP_OPTIONS, HttpBackend, Outgoing
from mellea.backends._transport.codec import Decoder
from mellea.backends._transport.sse import SseDecoder
from mellea.core.backend import Capabilities, Request
from mellea.core.events import Event, StreamEnd, TextDelta
from mellea.core.messages import user_message
from mellea.core.options import Deadlines
from mellea.errors import BackendError, InterruptedStreamError, WireError


class TinyDecoder:
    is_complete = False

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self.error: BackendError | None = None
        self._has_ended = False

    def feed(self, data: bytes) -> list[Event]:
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            for event in self._sse.feed(data):
                events += self._events(event.data)
        except BackendError as error:
            if not events:
                raise
            self.error = error
        return events

    def close(self) -> list[Event]:
        if self.error is not None:
            raise self.error
        if not self._has_ended:
            raise InterruptedStreamError("the stream stopped before its end")
        return []

    def _events(self, data: bytes) -> list[Event]:
        try:
            value = from_json(data)
        except ValueError as error:
            raise WireError(f"an event is no JSON: {error}") from error
        if "error" in value:
            raise BackendError(f"the provider failed: {value['error']}", is_retryable=True)
        if "end" in value:
            self._has_ended = True
            return [StreamEnd(value["end"])]
        return [TextDelta(value["text"])]


class TinyBackend(HttpBackend):
    name = "tiny"
    key_variables: ClassVar[tuple[str, ...]] = ("TINY_API_KEY",)
    capabilities = Capabilities(options=Capabilities().options | HTTP_OPTIONS)

    def _encode(self, request: Request) -> Outgoing:
        is_streamed = request.options.get("stream", True)
        return Outgoing("chat", {"prompt": request.messages[-1].text, "stream": is_streamed})

    def _decoder(self, request: Request) -> Decoder:
        return TinyDecoder()

    def _decode_plain(self, request: Request, body: bytes) -> list[Event]:
        try:
            value = from_json(body)
            return [TextDelta(value["text"]), StreamEnd("stop")]
        except (ValueError, KeyError) as error:
            raise WireError(f"the answer makes no sense: {error}") from error


def request(deadlines: Deadlines | None = None, **options: Any) -> Request:
    return Request((user_message("hi"),), options=options, deadlines=deadlines or Deadlines())
