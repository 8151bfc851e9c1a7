"""An incremental JSON scanner: pieces of text in, events out.

Rules:

- It does no I/O, and the events don't depend on how the text was split, except that a string comes in as many pieces
  as it arrived in.
- It reads each character once or twice and only keeps the unfinished token; runs of characters are matched by one
  regular expression.
- A value `whole_at` containers deep is one event with its raw text; inside it only brackets and quotes are tracked.
  With a `way`, that applies to the elements of the lists that the way leads to, and everything off the way is skipped
  in the same manner.
- Text that isn't JSON ends the scan: `error` says what and where, and the events before it were returned.
- A number ends with the character after it, or with `close`.

The grammar is that of RFC 8259, plus the NaN and Infinity that Python and pydantic read.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

__all__ = ["ITEMS", "MAX_DEPTH", "Kind", "ScanError", "ScanEvent", "Scanner", "Way", "make_way"]

MAX_DEPTH = 200
"""How deeply containers may be nested; pydantic's parser has the same limit."""

_MAX_NUMBER = 4300
"""The most characters of a number; Python refuses to convert longer ones."""


class Kind(IntEnum):
    """The kind of an event. An event is a pair of its kind and a value, which is `None` for brackets and `RESTART`."""

    OBJECT = 0  # begins
    ARRAY = 1  # begins
    KEY = 2  # of the next value
    PIECE = 3  # of a string, unescaped; there is more to come
    STRING = 4  # the last piece of a string
    SCALAR = 5  # a number, true, false or null
    WHOLE = 6  # the raw text of a value
    END = 7  # of an object or array
    RESTART = 8  # earlier events are void: another document begins


ScanEvent = tuple[Kind, Any]

Way = Mapping[str | int, Any]
"""The paths to lists whose elements are returned whole, as a tree of keys and indexes with `ITEMS` at each list."""

ITEMS: Way = MappingProxyType({})


@functools.lru_cache(maxsize=128)
def make_way(paths: tuple[tuple[str | int, ...], ...]) -> Way:
    """Build the way for some paths; `ITEMS` if the whole value is the list."""
    root: dict[str | int, Any] = {}
    for path in paths:
        if not path:
            return ITEMS
        inside = root
        for step in path[:-1]:
            inside = inside.setdefault(step, {})
            if inside is ITEMS:  # another path already ends here
                break
        else:
            inside.setdefault(path[-1], ITEMS)
    return root


OBJECT, ARRAY, KEY, PIECE = Kind.OBJECT, Kind.ARRAY, Kind.KEY, Kind.PIECE
STRING, SCALAR, WHOLE, END = Kind.STRING, Kind.SCALAR, Kind.WHOLE, Kind.END

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'"([^"\\\x00-\x1f]*+)"')
_PLAIN_KEY = re.compile(r'"([^"\\\x00-\x1f]*+)"[ \t\n\r]*+:[ \t\n\r]*+(?=[^ \t\n\r])')
_RUN = re.compile(r'[^"\\\x00-\x1f]*+')
_BODY = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_HIGH_SURROGATE_FIRST = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_WORD = re.compile(r"[-+.0-9A-Za-z]*+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?+([eE][-+]?+[0-9]++)?+\Z")
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
# Inside a value that is returned whole: everything that is neither a bracket nor the start of an unfinished string.
_FLAT = re.compile(r'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING_REST = re.compile(r"(?:[^\"\\]++|\\.)*+", re.DOTALL)
_WHOLE_SCALAR = re.compile(r"[^ \t\n\r,\]}\[{\":]*+")


class ScanError(ValueError):
    """The text is not JSON; `place` is the index of the character that isn't allowed there."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


class Scanner:
    """Scans one JSON document; white space may follow it.

    Args:
        whole_at: how many containers deep values come whole, as raw text; never by default.
        way: where lists are whose elements come whole, instead.

    Attributes:
        error: what ended the scan, if the text is not JSON.
    """

    __slots__ = (
        "_base",
        "_before",
        "_closers",
        "_end",
        "_has_ways",
        "_held",
        "_index",
        "_inner",
        "_is_quoted",
        "_is_silent",
        "_parts",
        "_state",
        "_trail",
        "_way",
        "_whole_at",
        "error",
    )

    def __init__(self, whole_at: int | None = None, *, way: Way | None = None) -> None:
        self._whole_at = whole_at
        self._way = way  # of the next value, if it is on a way
        self._has_ways = way is not None
        self._trail: list[Way] = []  # the way of each open container that is on one
        self._index = 0  # in the innermost container, if that is an array on a way
        self._is_silent = False  # whether whole values are off the way, and skipped
        self.error: ScanError | None = None
        self._state: Callable[[Scanner, str, int, list[ScanEvent]], int] = Scanner._read_value
        self._closers: list[str] = []  # closing brackets of the open containers
        self._held = ""  # the unfinished token
        self._before = 0  # how many characters precede it
        self._parts: list[str] = []  # of a key, or of a whole value
        self._inner = 0  # open containers inside a whole value
        self._is_quoted = False  # whether a whole value is inside a string
        self._end = -1
        self._base = 0  # how many characters precede the text that is being scanned

    @property
    def is_complete(self) -> bool:
        """Whether the document has ended."""
        return self._state is Scanner._read_after_all

    @property
    def end(self) -> int:
        """The length of the document, once it is complete."""
        return self._before if self._end < 0 else self._end

    def feed(self, text: str, start: int = 0) -> list[ScanEvent]:
        """Take more text, from `start` on, and return its events; none after an error."""
        events: list[ScanEvent] = []
        if self.error is not None:
            return events
        if self._held:
            text, start = self._held + (text[start:] if start else text), 0
        place, end = start, len(text)
        self._base = self._before - start
        try:
            while place < end:
                new = self._state(self, text, place, events)
                if new < 0:  # the token continues in the next piece
                    place = ~new
                    break
                place = new
        except ScanError as error:
            error.place += self._base
            error.args = (f"{error.args[0]} at character {error.place}",)
            self.error = error
            return events
        self._held = text[place:]
        self._before += place - start
        return events

    def close(self) -> list[ScanEvent]:
        """End the text, which may complete a number."""
        events: list[ScanEvent] = []
        place = self._before + len(self._held)
        if (
            self.error is None
            and not self._closers
            and self._state in (Scanner._read_value, Scanner._read_whole_scalar)
        ):
            events = self.feed("\n")
        if self.error is None and not self.is_complete:
            self.error = ScanError("the text ends before the JSON does", place)
        return events

    # Each state is a method that takes the text and a place in it, and returns the next place; the complement `~place`
    # means that the token at `place` needs more text.

    def _read_value(self, text: str, place: int, events: list[ScanEvent]) -> int:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place == len(text):
            return place
        char = text[place]
        if self._whole_at == len(self._closers) and char not in ",]}:":
            return self._begin_whole(text, place)
        if self._way is not None and char in "{[":
            return self._open_on_way(self._way, char, place, events)
        if char == '"':
            if (plain := _PLAIN.match(text, place)) is not None:
                events.append((STRING, plain[1]))
                self._end_value()
                return plain.end()
            self._state = Scanner._read_string
            return place + 1
        if char == "{" or char == "[":
            return self._open(char, place, events)
        if char == "]" and self._state is Scanner._read_first_item:
            return self._close_container(place, events)
        return self._read_scalar(text, place, events)

    def _read_first_item(self, text: str, place: int, events: list[ScanEvent]) -> int:
        return self._read_value(text, place, events)

    def _open(self, char: str, place: int, events: list[ScanEvent]) -> int:
        if len(self._closers) == MAX_DEPTH:
            raise ScanError(f"objects and arrays are nested more than {MAX_DEPTH} deep", place)
        if char == "{":
            events.append((OBJECT, None))
            self._closers.append("}")
            self._state = Scanner._read_first_key
        else:
            events.append((ARRAY, None))
            self._closers.append("]")
            self._state = Scanner._read_first_item
        return place + 1

    def _open_on_way(self, way: Way, char: str, place: int, events: list[ScanEvent]) -> int:
        """Open a container on the way; its values come whole, and only elements of a list at `ITEMS` are returned."""
        self._way = None
        is_list = char == "["
        if way is ITEMS and not is_list and self._closers:  # there is no list where one was expected
            self._whole_at, self._is_silent = len(self._closers), True
            return place
        self._trail.append(way)
        place = self._open(char, place, events)
        self._whole_at, self._is_silent = len(self._closers), not (is_list and way is ITEMS)
        if is_list and way is not ITEMS:
            self._index = 0
            self._enter(0)
        return place

    def _enter(self, step: str | int) -> None:
        """Follow the way to the next value, given its key or index."""
        if len(self._trail) == len(self._closers):
            self._way = self._trail[-1].get(step)
            self._whole_at = len(self._closers) if self._way is None else None

    def _close_container(self, place: int, events: list[ScanEvent]) -> int:
        self._closers.pop()
        events.append((END, None))
        if self._has_ways and len(self._trail) > len(self._closers):
            self._trail.pop()
            self._whole_at, self._is_silent, self._way = len(self._closers), True, None
        self._end_value()
        return place + 1

    def _end_value(self) -> None:
        self._state = Scanner._read_after_value if self._closers else Scanner._read_after_all

    def _read_scalar(self, text: str, place: int, events: list[ScanEvent]) -> int:
        end = _WORD.match(text, place).end()  # type: ignore[union-attr]
        if end == place:
            raise _make_error("a value", text, place)
        if end - place > _MAX_NUMBER:
            raise ScanError(f"a number has more than {_MAX_NUMBER} characters", place)
        if end == len(text):
            return ~place
        word = text[place:end]
        events.append((SCALAR, _WORDS[word] if word in _WORDS else _parse_number(word, place)))
        self._end_value()
        return end

    def _read_after_value(self, text: str, place: int, events: list[ScanEvent]) -> int:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place == len(text):
            return place
        char, closer = text[place], self._closers[-1]
        if char == ",":
            self._state = Scanner._read_key if closer == "}" else Scanner._read_value
            if self._has_ways and closer == "]" and self._trail[-1] is not ITEMS:
                self._index += 1
                self._enter(self._index)
            return place + 1
        if char == closer:
            return self._close_container(place, events)
        raise _make_error(f"',' or {closer!r}", text, place)

    def _read_after_all(self, text: str, place: int, events: list[ScanEvent]) -> int:
        if self._end < 0:
            self._end = self._base + place
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place < len(text):
            raise _make_error("nothing more", text, place)
        return place

    def _read_first_key(self, text: str, place: int, events: list[ScanEvent]) -> int:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place < len(text) and text[place] == "}":
            return self._close_container(place, events)
        return self._read_key(text, place, events)

    def _read_key(self, text: str, place: int, events: list[ScanEvent]) -> int:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place == len(text):
            return place
        if (plain := _PLAIN_KEY.match(text, place)) is not None:
            events.append((KEY, plain[1]))
            self._state = Scanner._read_value
            if self._has_ways:
                self._enter(plain[1])
            return plain.end()
        if text[place] != '"':
            raise _make_error("a key in quotes", text, place)
        self._state = Scanner._read_key_rest
        return place + 1

    def _read_key_rest(self, text: str, place: int, events: list[ScanEvent]) -> int:
        piece, end, is_last = _read_string_piece(text, place)
        self._parts.append(piece)
        if not is_last:
            _check_escape(text, end)
            return ~end
        key = "".join(self._parts)
        events.append((KEY, key))
        if self._has_ways:
            self._enter(key)
        self._parts.clear()
        self._state = Scanner._read_colon
        return end

    def _read_colon(self, text: str, place: int, events: list[ScanEvent]) -> int:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place == len(text):
            return place
        if text[place] != ":":
            raise _make_error("':'", text, place)
        self._state = Scanner._read_value
        return place + 1

    def _read_string(self, text: str, place: int, events: list[ScanEvent]) -> int:
        piece, end, is_last = _read_string_piece(text, place)
        if is_last:
            events.append((STRING, piece))
            self._end_value()
            return end
        if piece:
            events.append((PIECE, piece))
        _check_escape(text, end)
        return ~end

    # -- values that are returned whole ---------------------------------------------------------------

    def _begin_whole(self, text: str, place: int) -> int:
        if text[place] in '"{[':
            self._state = Scanner._read_whole
            self._inner, self._is_quoted = 0, False
            if text[place] == '"':
                self._is_quoted = True
                self._parts.append('"')
                return place + 1
        else:
            self._state = Scanner._read_whole_scalar
        return place

    def _read_whole(self, text: str, place: int, events: list[ScanEvent]) -> int:
        start, end = place, len(text)
        while place < end:
            if self._is_quoted:
                place = _STRING_REST.match(text, place).end()  # type: ignore[union-attr]
                if place == end or text[place] == "\\":
                    break
                self._is_quoted = False
                place += 1
            else:
                place = _FLAT.match(text, place).end()  # type: ignore[union-attr]
                if place == end:
                    break
                char = text[place]
                self._is_quoted = char == '"'
                self._inner += (char in "{[") - (char in "}]")
                place += 1
            if self._inner == 0 and not self._is_quoted:
                self._parts.append(text[start:place])
                self._end_whole(events)
                return place
        if place > start:
            self._parts.append(text[start:place])
        return ~place

    def _read_whole_scalar(self, text: str, place: int, events: list[ScanEvent]) -> int:
        end = _WHOLE_SCALAR.match(text, place).end()  # type: ignore[union-attr]
        if end > place:
            self._parts.append(text[place:end])
        if end < len(text):
            word = "".join(self._parts)
            if word not in _WORDS:
                _parse_number(word, end - len(word))
            self._end_whole(events)
        return end

    def _end_whole(self, events: list[ScanEvent]) -> None:
        if not self._is_silent:
            events.append((WHOLE, "".join(self._parts)))
        self._parts.clear()
        self._end_value()


def _read_string_piece(text: str, place: int) -> tuple[str, int, bool]:
    """Return the certain part of a string's content, unescaped; where it ends; and whether the string ends there."""
    end = _RUN.match(text, place).end()  # type: ignore[union-attr]
    if end == len(text):
        return text[place:], end, False
    if text[end] == '"':
        return text[place:end], end + 1, True
    end = _BODY.match(text, place).end()  # type: ignore[union-attr]
    if end < len(text) and text[end] == '"':
        return _unescape(text, place, end), end + 1, True
    # The low surrogate of this pair may be in the next piece.
    half = _HIGH_SURROGATE.search(text, max(place, end - 6), end)
    if half is not None and _is_escape(text, place, half.start()):
        end = half.start()
    return _unescape(text, place, end), end, False


def _check_escape(text: str, end: int) -> None:
    """Raise an error for the character after the certain part of a string, unless it may become an escape."""
    if (half := _HIGH_SURROGATE_FIRST.match(text, end)) is not None:
        end = half.end()
    if end < len(text) and _HALF_ESCAPE.match(text, end) is None:
        what = "an escape that JSON knows" if text[end] == "\\" else "no control character in a string"
        raise ScanError(f"expected {what}, not {text[end]!r}", end)


def _is_escape(text: str, place: int, backslash: int) -> bool:
    """Whether a backslash begins an escape, rather than being escaped itself."""
    before = backslash
    while before > place and text[before - 1] == "\\":
        before -= 1
    return (backslash - before) % 2 == 0


def _unescape(text: str, place: int, end: int) -> str:
    body = text[place:end]
    if "\\" not in body:
        return body
    whole: str = json.loads(f'"{body}"')
    return whole


def _parse_number(word: str, place: int) -> int | float:
    number = _NUMBER.match(word) if len(word) <= _MAX_NUMBER else None
    if number is None:
        raise ScanError(f"expected a number, true, false or null, not {word[:40]!r}", place)
    if number[1] or number[2]:
        return float(word)
    return int(word)


def _make_error(wanted: str, text: str, place: int) -> ScanError:
    return ScanError(f"expected {wanted}, not {text[place]!r}", place)
