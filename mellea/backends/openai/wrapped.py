"""Answers that aren't objects, under a format that only allows objects: put in one, and taken out of it again.

OpenAI's structured output wants an object at the top, so a list, a union or a number is asked for as
`{"value": …}`; the events have the value alone, piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Unwrapper", "wrapped"]

_NAME = "value"
_OPENING = re.compile(r'\s*\{\s*"value"\s*:\s*(?=\S)')
_OPENING_SO_FAR = re.compile(r'\s*(\{\s*("(v(a(l(u(e("\s*(:\s*)?)?)?)?)?)?)?)?)?\Z')
_CLOSING = re.compile(r"[\s}]*\Z")


def wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that holds the value as its only property."""
    inner = {name: value for name, value in schema.items() if name not in ("$defs", "definitions")}
    outer: dict[str, Any] = {
        "type": "object",
        "properties": {_NAME: inner},
        "required": [_NAME],
        "additionalProperties": False,
    }
    return outer | {name: schema[name] for name in ("$defs", "definitions") if name in schema}


class Unwrapper:
    """Takes the value out of its object while it is being written; what isn't wrapped passes as it is."""

    __slots__ = ("_held", "_is_inside", "_is_open")

    def __init__(self) -> None:
        self._held = ""  # the beginning that isn't decided yet, later closing brackets that may be the last
        self._is_open = False
        self._is_inside = False

    def feed(self, text: str) -> str:
        """Take more text and return what of the value is certain."""
        text = self._held + text
        self._held = ""
        if not self._is_open:
            if (opening := _OPENING.match(text)) is not None:
                text = text[opening.end() :]
                self._is_inside = True
            elif _OPENING_SO_FAR.match(text):
                self._held = text
                return ""
            self._is_open = True
        if not self._is_inside:
            return text
        closing = _CLOSING.search(text)
        if closing is not None:
            self._held = closing[0]
            text = text[: closing.start()]
        return text

    def close(self) -> str:
        """Return what was held back, but for the object's own end."""
        rest, self._held = self._held, ""
        if self._is_inside:
            rest = rest.rstrip().removesuffix("}").rstrip()
        return rest
