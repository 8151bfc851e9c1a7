"""Server-sent events, sans-I/O: bytes in, events out, wherever the bytes are split.

The WHATWG HTML standard, section 9.2.6 "Interpreting an event stream" (as of 2026-10), has the rules: lines end in CR,
LF or CRLF; a leading byte order mark is dropped; an event without a final empty line isn't dispatched. The data stays
bytes, since JSON parsers accept them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mellea.backends.http.codec import Filter
from mellea.backends.http.decoding import BYTE_ORDER_MARK, STRAY_BYTES, WireDecoder
from mellea.core.events import Event
from mellea.errors import WireError

__all__ = ["MAX_EVENT_BYTES", "ServerSentEvent", "SseDecoder", "SseWireDecoder"]

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""How large one event may become before the stream counts as broken."""

_FIELDS = (b"data", b"event", b"id", b"retry")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(slots=True)
class ServerSentEvent:
    """One event: its type (`"message"` unless the stream says otherwise), its data, and the last id seen."""

    event: str
    data: bytes
    id: str = ""


class SseDecoder:
    """Splits a byte stream into events; `is_empty` says at the end whether something was left over."""

    __slots__ = ("_data", "_event", "_has_begun", "_id", "_rest", "_size", "_skips_lf", "_stray")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that isn't complete
        self._data: list[bytes] = []  # of an event that isn't complete
        self._size = 0  # of the two, at most
        self._stray = bytearray()
        self._event = "message"
        self._id = ""
        self._has_begun = False
        self._skips_lf = False  # the last read ended in CR, whose LF may follow in the next one

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take more bytes and return the events that are complete now.

        Raises:
            WireError: an event grows beyond `MAX_EVENT_BYTES`.
        """
        lines = data.split(b"\n") if b"\r" not in data and not self._skips_lf else self._split(data)
        rest = lines.pop()
        events = self._read(lines) if lines else []
        if rest:
            self._rest.append(rest)
        if rest or self._data:
            self._watch(len(data), lines)
        else:
            self._size = 0
        return events

    def payloads(self, data: bytes) -> list[bytes]:
        """Take more bytes and return only the data of the events that are complete now; instead of `feed`.

        Raises:
            WireError: an event grows beyond `MAX_EVENT_BYTES`.
        """
        is_clean = not (self._rest or self._data or self._skips_lf or 13 in data)
        # One event in one line: the usual read if the network is faster than the model.
        if is_clean and data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2 and data[-1] == 10:
            self._has_begun = True
            return [data[6:-2]]
        return self._read_payloads(data) if is_clean else self._read_rest(data)

    def _read_rest(self, data: bytes) -> list[bytes]:
        head, blank, tail = data.partition(b"\n\n")
        return [event.data for event in self.feed(head + blank)] + self._read_payloads(tail)

    def _read_payloads(self, data: bytes) -> list[bytes]:
        """Split bytes that start with an event; a row of single lines by one split in C."""
        found: list[bytes] = []
        end = data.rfind(b"\n\n")
        if end > 0 and data.startswith(b"data: ") and 13 not in data and not self._skips_lf:
            payloads = data[6:end].split(b"\n\ndata: ")
            if not [payload for payload in payloads if 10 in payload]:  # `count` examines each byte
                self._has_begun = True
                found = payloads
                data = data[end + 2 :]
        if data:
            found += [event.data for event in self.feed(data)]
        return found

    def close(self) -> list[ServerSentEvent]:
        """Return the last event, if only the empty line after it is missing."""
        line = b"".join(self._rest)
        if any(name.startswith(line) for name in _FIELDS) and line:
            self._rest.clear()  # a cut, not a message
        return self.feed(b"\n\n") if self._rest or self._data else []

    @property
    def stray(self) -> bytes:
        """The beginning of the stream's lines without a known field: usually a server's error."""
        return bytes(self._stray)

    def is_empty(self) -> bool:
        """Whether nothing but complete events has been fed."""
        return not self._rest and not self._data

    def _split(self, data: bytes) -> list[bytes]:
        """Return the lines of a stream that uses CR, or has just used it."""
        if not data:
            return [b""]
        if self._skips_lf and data[0] == 10:
            data = data[1:]
        self._skips_lf = data.endswith(b"\r")
        return _LINE_END.split(data)

    def _read_first(self, line: bytes) -> bytes:
        """Return the first complete line of a read, including its part in earlier reads."""
        line = b"".join([*self._rest, line])
        self._rest.clear()
        if not self._has_begun:
            self._has_begun = True
            line = line.removeprefix(BYTE_ORDER_MARK)
        return line

    def _read(self, lines: list[bytes]) -> list[ServerSentEvent]:
        if self._rest or not self._has_begun:
            lines[0] = self._read_first(lines[0])
        events: list[ServerSentEvent] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data: "):  # nearly all of them
                data.append(line[6:])
            elif line:
                self._read_field(line)
            else:
                if data:
                    events.append(ServerSentEvent(self._event, b"\n".join(data), self._id))
                    data.clear()
                self._event = "message"
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace") or "message"
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name and name != b"id" and name != b"retry" and len(self._stray) < STRAY_BYTES:
            self._stray += line[:STRAY_BYTES] + b"\n"

    def _watch(self, size: int, lines: list[bytes]) -> None:
        # The kept part is only measured if it started in this read, so that the cost stays linear.
        if b"" in lines:
            size = sum(map(len, self._data)) + sum(map(len, self._rest))
            self._size = 0
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise WireError(f"one event of the stream is larger than {MAX_EVENT_BYTES} bytes")


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

    def find_stray(self) -> bytes:
        """Return the lines without a known field, usually a server's error."""
        return self._sse.stray
