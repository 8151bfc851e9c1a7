"""The shared base of all decoders, sans-I/O: bytes in, events out; each wire adds how its frames become events.

Rules, which every wire follows by deriving from `WireDecoder`:

- The bytes decide the format, not the content type: server-sent events, JSON (one body, a list, or several values),
  lines of JSON, or no answer at all.
- The events that come before an error in one read, or in the last bytes, are returned; the next call raises the error.
- Essential fields are read strictly. Other fields never fail an answer, and null is the same as absent.
- Once the provider has said that the answer is complete (`is_complete`), nothing fails it: later faults are
  logged and skipped.
- An answer in which nothing was recognised is an error that shows what came, never an empty success.
- Split characters are joined, thoughts in tags become reasoning; a wire may add its own filters.

Server-sent events follow the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream" (as of 2026-10): lines
end in CR, LF or CRLF; a leading byte order mark is dropped; an event without a final empty line isn't dispatched. The
data stays bytes, since JSON parsers accept them. Lines of JSON are read in `jsonl.py`.
"""

from __future__ import annotations

import json
import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic_core import from_json

from mellea.backends.http.codec import Filter
from mellea.backends.http.halves import Halves, decode_text, parse_body, parse_cut_body, parse_odd, parse_or_none
from mellea.backends.http.outgoing import MOST_BODY_BYTES
from mellea.backends.http.report import is_error_report, make_reported_error
from mellea.backends.http.words import read_words, show_value
from mellea.core.events import Event, KeepAlive, SourceEvent, StreamEnd, TextDelta, UsageEvent
from mellea.core.terminal import make_visible
from mellea.errors import BackendError, InterruptedStreamError, WireError

__all__ = ["MAX_EVENT_BYTES", "ServerSentEvent", "SseDecoder", "SseWireDecoder", "WireDecoder"]

_log = logging.getLogger("mellea")

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""How large one event may become before the stream counts as broken."""

_STRAY_BYTES = 65536
"""How much is kept of what isn't part of an answer, for errors."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BEGINNING_BYTES = 4096
_SPACE = b" \t\r\n"
_FIELDS = (b"data", b"event", b"id", b"retry")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_EMPTY = (StreamEnd, UsageEvent, SourceEvent, KeepAlive)


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
            line = line.removeprefix(_BYTE_ORDER_MARK)
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
        elif name and name != b"id" and name != b"retry" and len(self._stray) < _STRAY_BYTES:
            self._stray += line[:_STRAY_BYTES] + b"\n"

    def _watch(self, size: int, lines: list[bytes]) -> None:
        # The kept part is only measured if it started in this read, so that the cost stays linear.
        if b"" in lines:
            size = sum(map(len, self._data)) + sum(map(len, self._rest))
            self._size = 0
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise WireError(f"one event of the stream is larger than {MAX_EVENT_BYTES} bytes")


class WireDecoder:
    """Turns one response's bytes into events, wherever the bytes are split.

    Args:
        model: the model that was asked for, until the provider names the one that answers.
        backend: name of the service, for errors and as the prefix of signatures.
        filters: applied to the events in this order, after the one that joins split characters; a filter
            with a true `is_over` is left out from then on.

    Attributes:
        error: what `feed` would raise now.
        model: the model that answers; `response_id`: the answer's id. A wire sets both where the provider says so.
        is_known: whether anything in the wire's own format has arrived; true from the first event on.
        is_lines: whether the wire's frames are lines of JSON, not server-sent events.
        end_mark: the provider's end of an answer, for the error of a cut stream.
        media_type: the response's content type, for errors.
    """

    is_lines: ClassVar[bool] = False
    end_mark: ClassVar[str] = "the provider's end mark"

    def __init__(self, model: str = "", *, backend: str, filters: Sequence[Filter] = ()) -> None:
        self._asked = model
        self.model: str | None = model or None
        self.response_id: str | None = None
        self._backend = backend
        self.error: BackendError | None = None
        self.media_type = ""
        self._has_ended = False  # its StreamEnd has been returned
        self.is_known = False  # something in the wire's own format has arrived
        self._filters = list(filters)
        self._halves: Halves | None = None
        self._has_halves = False  # there was a first half
        self._said: list[str] = []  # the text, for an error's partial
        self._has_content = False  # text, thoughts, calls, files
        self._beginning = b""
        self._overlooked = ""
        self._odd = bytearray()  # data that isn't JSON: heartbeats, or text
        self._undecided: bytes | None = b""
        self._is_quick = False
        self._body: bytearray | None = None

    # -- what a wire adds: `read_chunk` always, the others where the defaults don't fit ------------------------

    @abstractmethod
    def read_chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        """Append the events of one frame's JSON object; the last one of an answer is its `StreamEnd`.

        Raises:
            BackendError: the chunk reports a failure (`raise self.make_reported_error(chunk)`), or an essential
                field has a wrong type.
        """

    def read_body(self, body: dict[str, Any], events: list[Event]) -> None:
        """Append the events of an answer in one JSON object, including its end; by default as for one chunk.

        Raises:
            BackendError: as for `read_chunk`; or it isn't an answer (`raise self.make_alien_error(...)`).
        """
        self.read_chunk(body, events)
        if not events and not self.is_known:
            raise self.make_alien_error(json.dumps(body).encode())
        if not self.has_end(events):
            self.end_answer(events)

    def end_answer(self, events: list[Event]) -> None:
        """End the answer at the end of its bytes: append what is left, `StreamEnd` last; by default it can't end there.

        Raises:
            InterruptedStreamError: the provider's end mark is missing (`raise self.make_interrupted_error(...)`).
        """
        raise self.make_interrupted_error(self.end_mark)

    @property
    def is_complete(self) -> bool:
        """Whether the provider has said that the answer is complete; nothing essential can follow."""
        return self._has_ended

    @abstractmethod
    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split the bytes of a stream into frames, and append the events of each."""

    @abstractmethod
    def read_last_frame(self, events: list[Event]) -> None:
        """Handle the last frame of a stream, if only its terminator is missing."""

    def find_stray(self) -> bytes:
        """Return the text between the frames."""
        return b""

    # -- what a user of a decoder calls ---------------------------------------------------------------------

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete.

        Raises:
            BackendError: the provider reports an error, or its bytes are invalid.
        """
        events: list[Event] = []
        failure: BackendError | None = None
        if self._is_quick:  # nearly always: a stream that has started, and no filters
            try:
                self.read_stream(data, events)
            except BackendError as error:
                failure = error
            if len(events) == 1 and type(event := events[0]) is TextDelta and failure is None and not self._has_halves:
                self._said.append(event.chunk)
                return events
            if failure is not None or self._has_halves or (events and type(events[-1]) is StreamEnd):
                return self._let_out(events, failure)
            self._said += [event.chunk for event in events if type(event) is TextDelta]
            return events
        if self.error is not None:
            raise self.error
        if self._has_ended:
            return events
        try:
            if self._undecided is None and self._body is None:
                self.read_stream(data, events)
            else:
                self._take_undecided(data, events)
        except BackendError as error:
            failure = error
        if not self._has_content and len(self._beginning) < _BEGINNING_BYTES:
            self._beginning += data[:_BEGINNING_BYTES]
        return self._let_out(events, failure)

    def close(self) -> list[Event]:
        """Signal the end of the bytes; returns the last events. Those before an error are returned first, as by `feed`.

        Raises:
            InterruptedStreamError: the provider's end mark is missing.
            BackendError: an error in the last bytes.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        if self._has_ended:
            return events
        failure = None
        try:
            self._take_rest(events)
        except BackendError as error:
            failure = error
        return self._let_out(events, failure)

    # -- for the wires ----------------------------------------------------------------------------------------

    def read_frame(self, data: bytes, events: list[Event], kind: str = "message") -> None:
        """Handle the data of one frame; `kind` is the type in the event line."""
        try:
            chunk = from_json(data)
        except ValueError:
            if (chunk := self._parse_odd(data)) is None:
                return
        self.read_value(_check_type(chunk, kind), data, events)

    def read_value(self, chunk: Any, data: bytes, events: list[Event]) -> None:
        """Handle one frame's JSON value; after the end mark it can't fail the answer."""
        if self.has_end(events):  # several in one frame or body: what comes after the end isn't read
            return
        self.is_known = self.is_known or bool(events)
        try:
            if type(chunk) is dict:
                self.read_chunk(chunk, events)
                if events:
                    self.is_known = True
            elif type(chunk) is list:
                for each in chunk:
                    self.read_value(each, data, events)
            elif chunk is not None:
                self._set_aside(data)
        except BackendError as error:
            if not self.is_complete:
                raise
            _log.debug("ignored after the end of an answer: %s", error)

    def _parse_odd(self, data: bytes) -> Any:
        """Return the JSON value in data that the strict parser rejected; `None` means that it is skipped."""
        try:
            value = parse_odd(data)
        except ValueError as error:
            if self.is_complete or data.lstrip()[:1] not in (b"{", b"["):
                self._set_aside(data)  # a heartbeat; or text, which is shown if the end is missing
                return None
            raise WireError(
                f"the provider sent invalid JSON ({error}): {make_visible(decode_text(data[:200]))!r}"
            ) from error
        self._has_halves = True
        return value

    def _set_aside(self, data: bytes) -> None:
        if len(self._odd) < _STRAY_BYTES:
            self._odd += data[:_STRAY_BYTES] + b"\n"

    def skip_unknown(self, what: Any) -> None:
        """Record an unknown part of the answer, which is shown if nothing else arrives."""
        self._overlooked = self._overlooked or show_value(what)

    def make_reported_error(self, report: Any) -> BackendError:
        """Create the error that the provider reports."""
        return make_reported_error(report)

    def make_interrupted_error(self, missing: str) -> InterruptedStreamError:
        """Make the error of a stream that ended without the provider's end mark."""
        said = read_words(self.find_stray() or bytes(self._odd))
        words = f"; the server said: {said}" if said else ""
        is_sentence = " " in said  # and not a heartbeat
        return InterruptedStreamError(
            f"the stream was cut: it ended without {missing}{words}", is_retryable=not is_sentence
        )

    # -- inside -------------------------------------------------------------------------------------------------

    def _take_undecided(self, data: bytes, events: list[Event]) -> None:
        """Handle bytes while their format is undecided, or if they are a body."""
        if self._body is not None:
            self._body += data
            if len(self._body) > MOST_BODY_BYTES:
                raise WireError(f"the answer is larger than {MOST_BODY_BYTES} bytes")
            return
        data = (self._undecided or b"") + data
        self._undecided = data
        head = data.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
        if not head or _BYTE_ORDER_MARK.startswith(data):
            if len(data) > _STRAY_BYTES:
                self._undecided = data[-1:]  # endless white space
            return
        if self.is_lines and not self._has_line(head):
            return
        self._undecided = None
        if head[0] in b"{[<" and not (self.is_lines and self._begins_with_line(head)):
            self._body = bytearray(head)
        else:
            self.read_stream(head if self.is_lines else data, events)

    def _has_line(self, head: bytes) -> bool:
        return b"\n" in head or len(head) > _STRAY_BYTES

    def _begins_with_line(self, head: bytes) -> bool:
        """Whether the first line is a JSON object, or may become one: a body in one line is read like any other."""
        line, end, _ = head.partition(b"\n")
        return line[:1] == b"{" and (not end or parse_or_none(line) is not None)

    def _take_rest(self, events: list[Event]) -> None:
        """Handle what is left at the end of the bytes, and end the answer."""
        if self._undecided is not None:  # nothing, or one line without its terminator
            head, self._undecided = self._undecided.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE), None
            self._body = bytearray(head) if head else None
        if self._body is not None:
            self._take_body(bytes(self._body), events)
            return
        self.read_last_frame(events)
        if not self.has_end(events) and not self.is_complete:
            self._check_words(events)
        if not self.has_end(events):
            self.end_answer(events)

    def read_unended(self, data: bytes, events: list[Event], kind: str = "message") -> None:
        """Handle a frame without a terminator: it counts if it is complete, and ends the answer or reports a
        failure."""
        found: list[Event] = []
        try:
            chunk = parse_odd(data)
        except ValueError:
            if data.lstrip()[:1] not in (b"{", b"["):
                self._set_aside(data)
            return
        self.read_value(_check_type(chunk, kind), data, found)
        if self.is_complete or self.has_end(found):
            events += found

    def _take_body(self, body: bytes, events: list[Event]) -> None:
        """Handle a JSON answer: one value, a list of chunks, or several values in a row; cut, the chunks before it."""
        failure = None
        try:
            values, is_odd = parse_body(body)
        except ValueError as error:
            values, is_odd, failure = parse_cut_body(body), True, self._make_unreadable_error(body, error)
        self._has_halves = self._has_halves or is_odd
        if len(values) == 1 and type(values[0]) is list:
            values = values[0]
        if len(values) == 1 and type(values[0]) is dict and failure is None:
            self.read_body(values[0], events)
            return
        for value in values:
            self.read_value(value, body, events)
        if failure is not None and not self.is_complete and not self.has_end(events):
            raise failure
        if not self.is_known and not self.is_complete:
            raise self.make_alien_error(body)
        if not self.has_end(events):
            self.end_answer(events)

    def _make_unreadable_error(self, body: bytes, error: ValueError) -> BackendError:
        if body[:1] in (b"{", b"[") and "EOF" in str(error):
            return self.make_interrupted_error("the end of its JSON")
        return self.make_alien_error(body)

    def _check_words(self, events: list[Event]) -> None:
        """Check the text between the frames: a server's message, or a body after comments."""
        said = (self.find_stray() or bytes(self._odd)).strip()
        if said[:1] in (b"{", b"[") and not self.is_known:
            self._take_body(said, events)
        elif said and not self.is_known and (self.find_stray() or b" " in said):  # more than a heartbeat
            raise self.make_alien_error(said)
        elif said and is_error_report(value := parse_or_none(said)):
            raise self.make_reported_error(value)
        elif not self.is_known and self._beginning.strip(_SPACE):
            beginning = read_words(self._beginning[:1024])
            raise self.make_interrupted_error(f"anything that is part of an answer; it began with {beginning!r}")

    def make_alien_error(self, body: bytes) -> BackendError:
        """Create the error for bytes that aren't an answer."""
        kind = f"{self.media_type!r}" if self.media_type else "something"
        if is_error_report(value := parse_or_none(body)):
            return self.make_reported_error(value)
        return WireError(
            f"the server sent {kind} that is not a model's answer; check base_url. It begins: {read_words(body)!r}"
        )

    def has_end(self, events: list[Event]) -> bool:
        """Return whether the answer has ended, in earlier events or in these."""
        return self._has_ended or (bool(events) and type(events[-1]) is StreamEnd)

    def _let_out(self, events: list[Event], failure: BackendError | None) -> list[Event]:
        """Pass events through the filters and keep them; a failure comes after them."""
        if events and type(events[-1]) is StreamEnd and failure is None:
            if self._overlooked and not self._has_content and all(isinstance(event, _EMPTY) for event in events):
                events, failure = events[:-1], self._make_unread_error()
            else:
                self._has_ended = True
        if self._filters or self._has_halves:
            events = self._filter(events)
        for event in events:
            if type(event) is TextDelta:
                self._said.append(event.chunk)
            if not isinstance(event, _EMPTY):
                self._has_content = self.is_known = True
        is_stream = self._undecided is None and self._body is None and not self._has_ended and failure is None
        self._is_quick = is_stream and self._has_content and not self._filters and not self._has_halves
        if failure is not None:
            self._fail(failure)
            if not events:
                raise failure
        return events

    def _filter(self, events: list[Event]) -> list[Event]:
        if self._has_halves:
            # From the first one on: a name with a half in it, such as a tool's, is in several events.
            self._halves = self._halves or Halves()
            events = self._halves.feed(events)
        for one in self._filters[:]:
            events = one.feed(events)
            if getattr(one, "is_over", False):
                self._filters.remove(one)
        return events

    def _make_unread_error(self) -> WireError:
        return WireError(f"the answer has no text, call or file that is known, only this: {self._overlooked}")

    def _fail(self, error: BackendError) -> None:
        error.backend = error.backend or self._backend
        error.model = error.model or self._asked or self.model
        error.partial = error.partial or "".join(self._said)
        self.error = error


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


def _check_type(chunk: Any, kind: str) -> Any:
    """Return an event with its type, which some gateways only send in the event line."""
    if kind != "message" and type(chunk) is dict and chunk.get("type") is None:
        return {**chunk, "type": kind}
    return chunk
