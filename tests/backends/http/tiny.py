"""A provider made up for these tests: `{"text": …}` and `{"end": …}`, as server-sent events or one JSON body."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from mellea.backends.http.backend import HTTP_OPTIONS, HttpBackend, Outgoing
from mellea.backends.http.decoding import WireDecoder
from mellea.backends.http.sse import SseDecoder
from mellea.core.backend import Capabilities, Request
from mellea.core.events import Event, StreamEnd, TextDelta
from mellea.core.messages import user_message
from mellea.core.options import Deadlines
from mellea.errors import BackendError


class TinyDecoder(WireDecoder):
    def __init__(self) -> None:
        super().__init__(backend="tiny")
        self._sse = SseDecoder()

    def _take(self, data: bytes, events: list[Event]) -> None:
        for event in self._sse.feed(data):
            if self._has_end(events):
                break
            self._frame(event.data, events)

    def _take_last(self, events: list[Event]) -> None:
        for event in self._sse.close():
            self._last_frame(event.data, events)

    def _chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        if "error" in chunk:
            raise BackendError(f"the provider failed: {chunk['error']}", is_retryable=True)
        self._is_known = True
        events.append(StreamEnd(chunk["end"]) if "end" in chunk else TextDelta(chunk["text"]))

    def _plain(self, body: dict[str, Any], events: list[Event]) -> None:
        if "text" not in body:
            raise self._alien(json.dumps(body).encode())
        events += [TextDelta(body["text"]), StreamEnd("stop")]

    def _end(self, events: list[Event]) -> None:
        raise self._interrupted("its end")

    def _stray(self) -> bytes:
        return self._sse.stray


class TinyBackend(HttpBackend):
    name = "tiny"
    key_variables: ClassVar[tuple[str, ...]] = ("TINY_API_KEY",)
    capabilities = Capabilities(options=Capabilities().options | HTTP_OPTIONS)

    def _encode(self, request: Request) -> Outgoing:
        is_streamed = request.options.get("stream", True)
        return Outgoing("chat", {"prompt": request.messages[-1].text, "stream": is_streamed})

    def _decoder(self, request: Request) -> WireDecoder:
        return TinyDecoder()


def request(deadlines: Deadlines | None = None, **options: Any) -> Request:
    return Request((user_message("hi"),), options=options, deadlines=deadlines or Deadlines())
