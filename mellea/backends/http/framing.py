"""The two ways in which a stream of JSON comes: decoders that lack nothing but what a provider's chunks mean.

A wire whose stream is nearly always one kind of chunk may override `read_stream` with a shorter way for that kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from mellea.backends.http.decoding import Filter, WireDecoder
from mellea.backends.http.jsonl import JsonLinesDecoder
from mellea.backends.http.sse import SseDecoder
from mellea.core.events import Event

__all__ = ["JsonLinesWireDecoder", "SseWireDecoder"]


class SseWireDecoder(WireDecoder):
    """Decodes server-sent events whose data are JSON objects; add `read_chunk`. The arguments are `WireDecoder`'s."""

    def __init__(self, model: str = "", *, backend: str, filters: Sequence[Filter] = ()) -> None:
        super().__init__(model, backend=backend, filters=filters)
        self._sse = SseDecoder()

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into events of the stream, and append those of each one's JSON."""
        for sse in self._sse.feed(data):
            if self.has_end(events):
                break
            self.read_frame(sse.data, events, sse.event)

    def read_last_frame(self, events: list[Event]) -> None:
        """Take an event whose empty line is missing."""
        for sse in self._sse.close():
            self.read_unended(sse.data, events, sse.event)

    def stray(self) -> bytes:
        """Return the lines of no known field, which are a server's error as a rule."""
        return self._sse.stray


class JsonLinesWireDecoder(WireDecoder):
    """Decodes one JSON object a line; add `read_chunk`. The arguments are `WireDecoder`'s."""

    is_lines = True

    def __init__(self, model: str = "", *, backend: str, filters: Sequence[Filter] = ()) -> None:
        super().__init__(model, backend=backend, filters=filters)
        self._lines = JsonLinesDecoder()

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into lines, and append the events of each one's JSON."""
        for line in self._lines.feed(data):
            if self.has_end(events):
                break
            self.read_frame(line, events)

    def read_last_frame(self, events: list[Event]) -> None:
        """Take a line whose end is missing."""
        for line in self._lines.close():
            self.read_unended(line, events)
