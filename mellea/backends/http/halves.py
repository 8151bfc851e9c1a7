"""Handles JSON with split characters: lone surrogates, and a filter that joins halves in adjacent deltas.

Seen from OpenRouter and others, which cut a model's text between the two escapes of an emoji. A strict parser
rejects such a chunk, and the whole answer with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

from mellea.core.events import Event, ReasoningDelta, SourceEvent, TextDelta, ToolDelta, ToolEnd, UsageEvent
from mellea.core.surrogates import is_high, replace_surrogates, replace_surrogates_in

__all__ = ["Halves", "decode_text", "parse_body", "parse_cut_body", "parse_odd", "parse_or_none"]

_DELTAS = (TextDelta, ReasoningDelta, ToolDelta)
_BESIDE = (SourceEvent, UsageEvent)


def decode_text(data: bytes) -> str:
    """Decode bytes as text: encoded surrogates stay surrogates, other invalid bytes become U+FFFD."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def parse_odd(data: bytes) -> Any:
    """Parse JSON that the strict parser rejected, in case invalid bytes or escapes are the reason.

    Raises:
        ValueError: that isn't the reason.
    """
    if data.isascii() and b"\\u" not in data:
        return from_json(data)  # raises the error that says where
    try:
        return json.loads(decode_text(data))
    except (ValueError, RecursionError):
        return from_json(data)


def parse_or_none(data: bytes) -> Any:
    """Return a JSON value, `None` where there is none."""
    try:
        return parse_odd(data)
    except ValueError:
        return None


def parse_body(body: bytes) -> tuple[list[Any], bool]:
    """Return the JSON values in a body, nearly always one, and whether the strict parser rejected them.

    Raises:
        ValueError: it isn't JSON.
    """
    try:
        return [from_json(body)], False
    except ValueError as error:
        try:
            return list(_parse_values(decode_text(body))), True
        except ValueError:
            raise error from None


def parse_cut_body(body: bytes) -> list[Any]:
    """Return the complete JSON values at the beginning of a body that isn't JSON: those in a list, or in a row."""
    values = list[Any]()
    try:
        for value in _parse_values(decode_text(body).removeprefix("[")):
            values.append(value)
    except ValueError:
        return values
    return values


def _parse_values(text: str) -> Iterator[Any]:
    """Yield consecutive JSON values in a text, without an SSE end mark after them.

    Raises:
        ValueError: it isn't JSON.
    """
    decoder, place, is_first = json.JSONDecoder(), 0, True
    while (place := _find_next(text, place)) < len(text):
        if not is_first and text.startswith(("data:", "[DONE]", "event:", ":"), place):
            break
        try:
            value, place = decoder.raw_decode(text, place)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        yield value
        is_first = False


def _find_next(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place


class Halves:
    """Joins split characters in adjacent deltas of one kind: text, reasoning, and the arguments of each call.

    A half at the end of a delta waits for the next delta of its kind; deltas of other kinds in between don't matter,
    but a call, a file or the answer's end does.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Any, str] = {}  # the waiting first half, by the kind of delta or the call's id

    def feed(self, events: Sequence[Event]) -> list[Event]:
        """Return the events without split characters."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, _DELTAS):
                self._join_delta(event, out)
                continue
            if isinstance(event, ToolEnd):
                self._release(event.tool_call.tool_call_id, out)
            if not isinstance(event, _BESIDE):
                self._release(TextDelta, out)
                self._release(ReasoningDelta, out)
            out.append(replace_surrogates_in(event))
        return out

    def _join_delta(self, event: TextDelta | ReasoningDelta | ToolDelta, out: list[Event]) -> None:
        key: Any = event.tool_call_id if isinstance(event, ToolDelta) else type(event)
        is_last = isinstance(event, ReasoningDelta) and event.signature is not None
        if not event.chunk and not is_last:
            out.append(event)
            return
        text = self._held.pop(key, "") + event.chunk
        if text and is_high(text[-1]) and not is_last:
            self._held[key] = text[-1]
            text = text[:-1]
        chunk = replace_surrogates(text)
        if isinstance(event, ReasoningDelta):
            event = ReasoningDelta(chunk, event.signature)
        else:
            event = ToolDelta(event.tool_call_id, chunk) if isinstance(event, ToolDelta) else TextDelta(chunk)
        if chunk or is_last:
            out.append(event)

    def _release(self, key: Any, out: list[Event]) -> None:
        if self._held.pop(key, None) is None:
            return
        if isinstance(key, str):
            out.append(ToolDelta(key, "\ufffd"))
        else:
            out.append(key("\ufffd"))
