"""Wrap a schema in an object where a provider only accepts objects, and unwrap the answer while it streams.

Strict structured output and tool arguments need an object at the top level, so a list, a union or a number is
requested as `{"value": …}`. The events carry the bare value, piece by piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mellea.core.structured.bundle import bundle_schema
from mellea.core.structured.scanner import ITEMS, Scanner
from mellea.core.structured.schema import follow_references, list_branches

__all__ = ["Unwrapper", "find_starts", "needs_wrapping", "wrap_schema"]

_NAME = "value"
_BRACKET = re.compile(r"[{\[]")
_SPACE = re.compile(r"\s*+")
_OPENING = re.compile(r'\{[ \t\n\r]*+"value"[ \t\n\r]*+:[ \t\n\r]*+(?=(\S))')
_OPENING_SO_FAR = re.compile(r'\{[ \t\n\r]*+("(v(a(l(u(e("[ \t\n\r]*+(:[ \t\n\r]*+)?)?)?)?)?)?)?)?\Z')
_LONGEST = 1000
"""The most characters that may precede the value in a wrapper, white space included."""

_STARTS = {
    "string": '"',
    "integer": "-0123456789",
    "number": "-0123456789",
    "boolean": "tf",
    "null": "n",
    "object": "{",
    "array": "[",
}
_FLAT = re.compile(r'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)


def needs_wrapping(schema: Mapping[str, Any]) -> bool:
    """Return whether the values of a schema have to be wrapped in an object."""
    return follow_references(schema, schema).get("type") != "object"


def wrap_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that holds the value as its only property."""
    schema = bundle_schema(schema)  # a reference to the root would otherwise point at the wrapper
    inner = {name: value for name, value in schema.items() if name not in ("$defs", "definitions")}
    outer: dict[str, Any] = {
        "type": "object",
        "properties": {_NAME: inner},
        "required": [_NAME],
        "additionalProperties": False,
    }
    return outer | {name: schema[name] for name in ("$defs", "definitions") if name in schema}


def find_starts(schema: Mapping[str, Any]) -> str:
    """Return the characters that the JSON of a value may begin with; `""` if any is possible."""
    starts = "n" if _accepts_null(schema, schema) else ""
    # Without null, which has already been handled.
    for branch in list_branches(schema, schema):
        begun = "".join(_list_starts(branch))
        if not begun:
            return ""
        starts += begun
    return starts


def _list_starts(branch: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in branch or "const" in branch:
        words = branch["enum"] if "enum" in branch else [branch["const"]]
        yield from (json.dumps(word)[0] for word in words)
        return
    kinds = branch.get("type", "object" if "properties" in branch else ())
    yield from (_STARTS.get(str(kind), "") for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _accepts_null(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 20) -> bool:
    one = follow_references(schema, root)
    options = [*one.get("anyOf", ()), *one.get("oneOf", ())]
    inside = [option for option in options if isinstance(option, Mapping)] if depth else []
    return one.get("type") == "null" or any(_accepts_null(option, root, depth - 1) for option in inside)


class Unwrapper:
    """Removes the wrapper around a value while it is being written; other text passes through unchanged.

    An object counts as a wrapper if `value` is its first key and the next character can begin a value of the schema. It
    may follow a code fence, prose or thoughts, but not be inside other JSON. A character is passed on as soon as it
    can't belong to the wrapper; white space that may precede the wrapper's end is held back.

    Args:
        starts: the characters that the value may begin with, from `find_starts`; `""` for any.
    """

    __slots__ = (
        "_depth",
        "_held",
        "_is_escaped",
        "_is_inside",
        "_is_over",
        "_is_quoted",
        "_other",
        "_passed",
        "_starts",
    )

    def __init__(self, starts: str = "") -> None:
        self._starts = starts
        self._held = ""  # possibly the beginning of a wrapper, or inside one, white space before its end
        self._other: Scanner | None = None  # scans JSON that isn't a wrapper
        self._passed = 0  # characters of that JSON
        self._is_inside = False
        self._is_over = False
        self._depth = 0  # open containers inside the value
        self._is_quoted = self._is_escaped = False

    def feed(self, text: str) -> str:
        """Take more text, and return what is certain not to be part of a wrapper."""
        if self._is_inside or self._is_over or self._other is not None or self._held:
            return self._feed(text)
        # Plain text, like nearly every piece before and after the JSON.
        return self._feed(text) if "{" in text or "[" in text else text

    def _feed(self, text: str) -> str:
        out: list[str] = []
        place = 0
        while place < len(text):
            if self._is_inside:
                place = self._read_inside(text, place, out)
            elif self._other is not None:
                place = self._pass(self._other, text, place, out)
            else:
                text, place = self._read_outside(text, place, out)
        return "".join(out)

    def close(self) -> str:
        """Return what was held back, unless it is part of a wrapper."""
        rest, self._held = self._held, ""
        return "" if self._is_inside or self._is_over else rest

    def _read_outside(self, text: str, place: int, out: list[str]) -> tuple[str, int]:
        """Pass text on until a wrapper, or other JSON, begins."""
        if self._is_over:  # white space at the very end also belongs to the wrapper
            end = _SPACE.match(text, place).end()  # type: ignore[union-attr]
            self._held += text[place:end]
            if end < len(text):
                out.append(self._held)
                self._held, self._is_over = "", False
            return text, end
        if self._held:
            text, place, self._held = self._held + text[place:], 0, ""
        found = _BRACKET.search(text, place)
        if found is None:
            out.append(text[place:])
            return text, len(text)
        start = found.start()
        out.append(text[place:start])
        opening = _OPENING.match(text, start)
        if opening is not None and (not self._starts or opening[1] in self._starts):
            self._is_inside, self._is_over, self._depth = True, False, 0
            self._is_quoted = self._is_escaped = False
            return text, opening.end()
        # The next piece may make it a wrapper; if it is longer than this, it isn't one.
        if opening is None and len(text) - start <= _LONGEST and _OPENING_SO_FAR.match(text, start):
            self._held = text[start:]
            return text, len(text)
        # Other JSON passes through unchanged: a `{"value": …}` inside it is the user's own.
        self._other, self._passed = Scanner(way=ITEMS if found[0] == "[" else {}), 0
        return text, start

    def _pass(self, other: Scanner, text: str, place: int, out: list[str]) -> int:
        other.feed(text, place)
        end = len(text)
        if other.is_complete:
            end = place + other.end - self._passed
        elif other.error is not None:
            end = max(place + other.error.place - self._passed, place)
        self._passed += end - place
        self._other = None if other.is_complete or other.error is not None else other
        out.append(text[place:end])
        return end

    def _read_inside(self, text: str, place: int, out: list[str]) -> int:
        end = self._find_end(text, place)
        new = self._held + text[place:end]
        self._held = ""
        if self._depth == 0 and not self._is_quoted:
            # White space before the wrapper's end isn't part of the value, but it isn't known yet whether the end
            # follows.
            bare = new.rstrip()
            self._held = "" if self._is_over else new[len(bare) :]
            new = bare
        out.append(new)
        self._is_inside = not self._is_over
        return end + self._is_over

    def _find_end(self, text: str, place: int) -> int:
        """Return where the value ends in the text, or the text's length."""
        end = len(text)
        # The previous piece ended with a backslash, so the first character here is escaped, whatever it is.
        if self._is_escaped:
            place, self._is_escaped = place + 1, False
        while place < end:
            if self._is_quoted:
                place = _STRING.match(text, place).end()  # type: ignore[union-attr]
                if place == end or text[place] == "\\":
                    self._is_escaped = place < end
                    return end
                self._is_quoted = False
            else:
                place = _FLAT.match(text, place).end()  # type: ignore[union-attr]
                if place == end:
                    return end
                char = text[place]
                if char == "}" and self._depth == 0:
                    self._is_over = True
                    return place
                self._is_quoted = char == '"'
                self._depth += (char in "{[") - (char in "}]")
            place += 1
        return end
