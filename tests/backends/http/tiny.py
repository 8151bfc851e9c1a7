"""A provider made up for these tests: `{"text": …}` and `{"end": …}`, as server-sent events or one JSON body."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from mellea.backends.http.backend import HTTP_OPTIONS, HttpBackend, Outgoing
from mellea.backends.http.decoding import SseWireDecoder
from mellea.core.backend import Capabilities, Request
from mellea.core.events import Event, StreamEnd, TextDelta
from mellea.core.messages import user_message
from mellea.core.options import Deadlines
from mellea.errors import BackendError


class TinyDecoder(SseWireDecoder):
    end_mark = "its end"

    def __init__(self) -> None:
        super().__init__(backend="tiny")

    def read_chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        if "error" in chunk:
            raise BackendError(f"the provider failed: {chunk['error']}", is_retryable=True)
        events.append(StreamEnd(chunk["end"]) if "end" in chunk else TextDelta(chunk["text"]))

    def read_body(self, body: dict[str, Any], events: list[Event]) -> None:
        if "text" not in body:
            raise self.make_alien_error(json.dumps(body).encode())
        events += [TextDelta(body["text"]), StreamEnd("stop")]


class TinyBackend(HttpBackend):
    name = "tiny"
    key_variables: ClassVar[tuple[str, ...]] = ("TINY_API_KEY",)
    capabilities = Capabilities(options=Capabilities().options | HTTP_OPTIONS)

    def encode(self, request: Request) -> Outgoing:
        is_streamed = request.options.get("stream", True)
        return Outgoing("chat", {"prompt": request.messages[-1].text, "stream": is_streamed})

    def make_decoder(self, request: Request) -> TinyDecoder:
        return TinyDecoder()


def request(deadlines: Deadlines | None = None, **options: Any) -> Request:
    return Request((user_message("hi"),), options=options, deadlines=deadlines or Deadlines())
