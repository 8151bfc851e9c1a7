"""Reads JSON values as they arrive: strings unescaped, anything else raw.

Both are lenient, since a model writes them: strings may have control characters and stray backslashes, and of other
values only the end is searched.
"""

from __future__ import annotations

import re

from mellea.core.surrogates import is_high

__all__ = ["QuotedText", "RawValue"]

_RUN = re.compile(r'[^"\\]*+')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([^u])|u)", re.DOTALL)
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
# Inside a value: everything that is neither a bracket nor a quote.
_FLAT = re.compile(r'[^"{}\[\]]*+')
_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(r"[^ \t\n\r,\]}]*+")

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class QuotedText:
    """Reads a quoted string, starting after the first quote."""

    __slots__ = ("_half_escape", "_high", "_pieces")

    def __init__(self) -> None:
        self._half_escape = ""
        self._high = ""  # the first half of a surrogate pair
        self._pieces: list[str] = []

    def read(self, text: str, place: int) -> tuple[str, int, bool]:
        """Return the certain part of the text, the end position, and whether the string has ended."""
        kept = len(self._half_escape)
        if kept:
            text, place, moved = self._half_escape + text[place:], 0, kept - place
            self._half_escape = ""
        else:
            moved = 0
        is_over = False
        while place < len(text) and not is_over:
            place, is_over = self._step(text, place)
        shown = "".join(self._pieces)
        self._pieces.clear()
        return shown, place - moved, is_over

    def close(self) -> str:
        """Return the replacement for half a surrogate pair at the end of a truncated text."""
        return _UNKNOWN if self._high else ""

    def _step(self, text: str, place: int) -> tuple[int, bool]:
        end = _RUN.match(text, place).end()  # type: ignore[union-attr]
        if end > place:
            self._add(text[place:end])
        if end == len(text):
            return end, False
        if text[end] == '"':
            self._add("")
            return end + 1, True
        if _HALF_ESCAPE.match(text, end):
            self._half_escape = text[end:]
            return len(text), False
        return self._read_escape(text, end), False

    def _read_escape(self, text: str, place: int) -> int:
        found = _ESCAPE.match(text, place)
        if found is None:  # never: there is a character after the backslash
            raise ValueError(f"no escape at {place}")
        code, char = found.groups()
        half = chr(int(code, 16)) if code else ""
        is_low = "\udc00" <= half <= "\udfff"
        if self._high and is_low:
            self._pieces.append((self._high + half).encode("utf-16-le", "surrogatepass").decode("utf-16-le"))
            self._high = ""
        elif code and is_high(half):
            self._add("")
            self._high = half
        elif code:
            self._add(_UNKNOWN if is_low else half)
        else:  # LaTeX and patterns with single backslashes stay as they are
            self._add(_ESCAPES.get(char or "", found.group()))
        return found.end()

    def _add(self, text: str) -> None:
        """Add text; half a surrogate pair before it has stayed incomplete."""
        if self._high:
            self._pieces.append(_UNKNOWN)
            self._high = ""
        self._pieces.append(text)


class RawValue:
    """Looks for the end of a value.

    Args:
        first: its first character.
    """

    __slots__ = ("_depth", "_is_escaped", "_is_quoted", "_is_scalar")

    def __init__(self, first: str) -> None:
        self._is_scalar = first not in '"{['
        self._is_quoted = self._is_escaped = False
        self._depth = 0

    def read(self, text: str, place: int) -> tuple[int, bool]:
        """Return the end position, and whether the value has ended."""
        is_over = False
        while place < len(text) and not is_over:
            place, is_over = self._step(text, place)
        return place, is_over

    def _step(self, text: str, place: int) -> tuple[int, bool]:
        if self._is_scalar:
            end = _SCALAR.match(text, place).end()  # type: ignore[union-attr]
            return end, end < len(text)
        if self._is_escaped:
            self._is_escaped = False
            return place + 1, False
        if self._is_quoted:
            place = _STRING.match(text, place).end()  # type: ignore[union-attr]
            if place == len(text):
                return place, False
            self._is_escaped = text[place] == "\\"  # the last character: the character that it escapes comes next
            self._is_quoted = self._is_escaped
            return place + 1, not self._is_quoted and self._depth == 0
        place = _FLAT.match(text, place).end()  # type: ignore[union-attr]
        if place == len(text):
            return place, False
        char = text[place]
        self._is_quoted = char == '"'
        self._depth += (char in "{[") - (char in "}]")
        return place + 1, self._depth == 0 and not self._is_quoted
