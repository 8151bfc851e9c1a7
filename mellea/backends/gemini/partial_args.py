"""Joins call arguments, which arrive value by value with JSON paths, into one JSON text.

    {"jsonPath": "$.recipe.steps[0]", "stringValue": "Bo", "willContinue": true}     {"recipe":{"steps":["Bo
    {"jsonPath": "$.recipe.steps[0]", "stringValue": "il."}                          il."
    {"jsonPath": "$.recipe.serves", "numberValue": 4}                                ],"serves":4
    (the end)                                                                        }}

The model writes the arguments in order, so each path continues where the last one ended. Empty containers
(`{}`, `[]`) have no value and are never sent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from mellea.backends.gemini.wire import Json
from mellea.errors import WireError

__all__ = ["PartialArgs"]

Step = str | int

_STEP = re.compile(
    r"""
    \.(?P<name>[^.\[\]]+)
    | \[(?P<index>\d+)\]
    | \['(?P<single>(?:[^'\\]|\\.)*)'\]
    | \["(?P<double>(?:[^"\\]|\\.)*)"\]
    """,
    re.VERBOSE,
)

_ESCAPED = re.compile(r"\\(.)")


@dataclass(slots=True)
class _Container:
    """An object or an array that is being written."""

    is_array: bool
    names: set[str] = field(default_factory=set)
    length: int = 0

    @property
    def end(self) -> str:
        return "]" if self.is_array else "}"


class PartialArgs:
    """Writes the JSON text of one call's arguments.

    Attributes:
        is_in_string: whether the last value is a string that continues.
    """

    def __init__(self) -> None:
        self._path: list[Step] = []  # of the last value
        self._open: list[_Container] = []  # the containers along it, outermost first
        self.is_in_string = False

    def feed(self, partial: Json) -> str:
        """Take a value or its next piece, and return the JSON text that it adds.

        Raises:
            WireError: it doesn't fit the values before it.
        """
        if not isinstance(partial, dict):
            raise WireError(f"a part of a call's arguments is {partial!r}, which is not an object")
        path = _split_path(partial.get("jsonPath"))
        chunk = partial.get("stringValue")
        if chunk is not None and not isinstance(chunk, str):
            raise WireError(f"the stringValue of a part of a call's arguments is {chunk!r}")
        pieces: list[str] = []
        # The next piece of a string has the same path; anything else starts a new value.
        if not (self.is_in_string and path == self._path):
            if (text := _read_scalar(partial)) is None and chunk is None:
                return ""  # it only announces more
            self._go_to(path, pieces)
            pieces.append('"' if text is None else text)
            self.is_in_string = text is None
        if chunk:
            # Escaped piece by piece: no JSON escape spans two characters.
            pieces.append(json.dumps(chunk, ensure_ascii=False)[1:-1])
        if self.is_in_string and not partial.get("willContinue"):
            self._end_string(pieces)
        return "".join(pieces)

    def close(self) -> str:
        """Return the text that completes the arguments: together they are one JSON object, or nothing."""
        pieces: list[str] = []
        self._end_string(pieces)
        self._leave(0, pieces)
        return "".join(pieces)

    def _end_string(self, pieces: list[str]) -> None:
        if self.is_in_string:
            pieces.append('"')
        self.is_in_string = False

    def _leave(self, depth: int, pieces: list[str]) -> None:
        while len(self._open) > depth:
            pieces.append(self._open.pop().end)

    def _go_to(self, path: list[Step], pieces: list[str]) -> None:
        """Close the containers that the path leaves, and open those that it enters."""
        self._end_string(pieces)
        common = 0
        # The common prefix of both paths: those containers stay open.
        while common < min(len(path), len(self._path)) and path[common] == self._path[common]:
            common += 1
        # One path is a prefix of the other, so a value would also be a container.
        if self._path and common in (len(path), len(self._path)):
            raise WireError(f"the value at {path} of a call's arguments was sent twice")
        self._leave(common + 1, pieces)
        for depth in range(common, len(path)):
            if depth == len(self._open):
                container = _Container(isinstance(path[depth], int))
                self._open.append(container)
                pieces.append("[" if container.is_array else "{")
            _begin_member(self._open[depth], path[depth], pieces)
        self._path = path


def _begin_member(container: _Container, step: Step, pieces: list[str]) -> None:
    if container.length:
        pieces.append(",")
    if isinstance(step, str) and not container.is_array and step not in container.names:
        container.names.add(step)
        container.length += 1
        pieces.append(f"{json.dumps(step, ensure_ascii=False)}:")
    elif isinstance(step, int) and container.is_array and step >= container.length:
        # Empty elements are never sent; fill their places, so that the indexes stay right.
        pieces.append("null," * (step - container.length))
        container.length = step + 1
    else:
        raise WireError(f"the member {step!r} of a call's arguments was sent out of order")


def _split_path(path: Json) -> list[Step]:
    """Split a JSON path (RFC 9535, names and indices alone)."""
    steps: list[Step] = []
    if isinstance(path, str) and path.startswith("$"):
        position = 1
        while found := _STEP.match(path, position):
            name = found["name"] or found["single"] or found["double"] or ""
            steps.append(int(found["index"]) if found["index"] else _ESCAPED.sub(r"\1", name))
            position = found.end()
        if position == len(path) and steps and isinstance(steps[0], str):
            return steps
    raise WireError(f"a part of a call's arguments has the path {path!r}, which matches no argument")


def _read_scalar(partial: Json) -> str | None:
    if "nullValue" in partial:
        return "null"
    value = partial.get("boolValue", partial.get("numberValue"))
    if value is None or isinstance(value, (bool, int, float)):
        return None if value is None else json.dumps(value)
    raise WireError(f"a value of a call's arguments is {value!r}, which is neither a number nor true nor false")
