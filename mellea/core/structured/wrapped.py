"""Answers that aren't objects, under a format that only allows objects: put in one, and taken out of it again.

OpenAI's structured output and the arguments of a tool want an object at the top, so a list, a union or a number is
asked for as `{"value": …}`; the events have the value alone, piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mellea.core.structured.bundle import bundled
from mellea.core.structured.schema import followed

__all__ = ["Unwrapper", "is_wrapped", "wrapped"]

_NAME = "value"
_OPENING = re.compile(r'\s*\{\s*"value"\s*:\s*(?=\S)')
_OPENING_SO_FAR = re.compile(r'\s*(\{\s*("(v(a(l(u(e("\s*(:\s*)?)?)?)?)?)?)?)?)?\Z')
_FLAT = re.compile(r'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)


def is_wrapped(schema: Mapping[str, Any]) -> bool:
    """Tell whether the values of a schema have to be put into an object."""
    return followed(schema, schema).get("type") != "object"


def wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that holds the value as its only property."""
    schema = bundled(schema)  # a reference from the root would lead to the object around it
    inner = {name: value for name, value in schema.items() if name not in ("$defs", "definitions")}
    outer: dict[str, Any] = {
        "type": "object",
        "properties": {_NAME: inner},
        "required": [_NAME],
        "additionalProperties": False,
    }
    return outer | {name: schema[name] for name in ("$defs", "definitions") if name in schema}


class Unwrapper:
    """Takes the value out of its object while it is being written; what isn't wrapped passes as it is.

    Each character passes as soon as it is certain that it belongs to the value: all but white space that the
    object's end may follow.
    """

    __slots__ = ("_depth", "_held", "_is_escaped", "_is_inside", "_is_open", "_is_over", "_is_quoted")

    def __init__(self) -> None:
        self._held = ""  # the beginning that isn't decided yet, later white space that may stand before the end
        self._is_open = False
        self._is_inside = False
        self._is_over = False
        self._depth = 0  # containers that are open inside the value
        self._is_quoted = self._is_escaped = False

    def feed(self, text: str) -> str:
        """Take more text and return what of the value is certain."""
        if self._is_open:
            return self._inside(text) if self._is_inside else text
        text = self._held + text
        self._held = ""
        if (opening := _OPENING.match(text)) is not None:
            self._is_open = self._is_inside = True
            return self._inside(text[opening.end() :])
        if _OPENING_SO_FAR.match(text):
            self._held = text
            return ""
        self._is_open = True
        return text

    def close(self) -> str:
        """Return what was held back, but for the object's own end."""
        rest, self._held = self._held, ""
        return "" if self._is_inside else rest

    def _inside(self, text: str) -> str:
        if self._is_over:
            return ""
        end = self._end(text)
        text = self._held + text[:end]
        self._held = ""
        if self._depth == 0 and not self._is_quoted:
            bare = text.rstrip()
            self._held = "" if self._is_over else text[len(bare) :]
            return bare
        return text

    def _end(self, text: str) -> int:
        """Return where the value ends in the text."""
        place, end = 0, len(text)
        if self._is_escaped and text:
            place, self._is_escaped = 1, False
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
