"""Server-sent events, sans-I/O: bytes in, events out, wherever the bytes are split.

Follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream" (as of 2026-10): lines end in
CR, LF or CRLF; a leading byte order mark is dropped; an event that isn't ended by an empty line isn't
dispatched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mellea.errors import WireError

__all__ = ["MAX_EVENT_BYTES", "ServerSentEvent", "SseDecoder"]

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""How large one event may become before the stream counts as broken."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(slots=True)
class ServerSentEvent:
    """One event: its type (`"message"` unless the stream says otherwise), its data, and the last id seen."""

    event: str
    data: str
    id: str = ""


class SseDecoder:
    """Splits a byte stream into events. `close` tells whether something was left over."""

    __slots__ = ("_data", "_event", "_has_begun", "_id", "_rest", "_size", "_skips_lf")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that isn't complete
        self._size = 0
        self._data: list[bytes] = []
        self._event = b""
        self._id = b""
        self._has_begun = False
        self._skips_lf = False  # the last read ended in CR, whose LF may follow in the next one

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take more bytes and return the events that are complete now.

        Raises:
            WireError: an event grows beyond `MAX_EVENT_BYTES`.
        """
        if not data:
            return []
        if self._skips_lf:
            self._skips_lf = False
            if data[0] == 10:
                data = data[1:]
        self._skips_lf = data.endswith(b"\r")
        if b"\r" not in data:
            lines = data.split(b"\n")
        else:
            lines = _LINE_END.split(data)
        events: list[ServerSentEvent] = []
        if self._rest and len(lines) > 1:
            self._rest.append(lines[0])
            lines[0] = b"".join(self._rest)
            self._rest.clear()
        for line in lines[:-1]:
            self._line(line, events)
        self._keep(lines[-1])
        return events

    def is_empty(self) -> bool:
        """Whether nothing but complete events has been fed."""
        return not self._rest and not self._data

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._rest.append(rest)
        self._size = sum(map(len, self._data)) + sum(map(len, self._rest)) if not rest else self._size + len(rest)
        if self._size > MAX_EVENT_BYTES:
            raise WireError(f"one event of the stream is larger than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if not self._has_begun:
            self._has_begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(self._dispatch())
            self._event = b""
            return
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value

    def _dispatch(self) -> ServerSentEvent:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        kind = self._event.decode("utf-8", "replace") if self._event else "message"
        return ServerSentEvent(kind, data.decode("utf-8", "replace"), self._id.decode("utf-8", "replace"))
