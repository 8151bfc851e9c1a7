"""Reading the fields of a request: each with its type, and an error that names the field.

A field that is `null` is absent. Unknown fields are skipped: clients send more of them every month.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from mellea.serve.openai.failures import ApiError

__all__ = ["Fields"]

T = TypeVar("T")

_KINDS: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "an array",
    dict: "an object",
}


class Fields:
    """An object of a request.

    Args:
        data: the object.
        path: where it is in the request, `""` for the request itself.

    Raises:
        ApiError: it isn't an object.
    """

    def __init__(self, data: Any, path: str = "") -> None:
        if not isinstance(data, dict):
            raise ApiError(400, f"{path or 'the body'} has to be an object, not {_show(data)}", param=path or None)
        self.data: dict[str, Any] = data
        self._path = path

    def place(self, name: str) -> str:
        """Return where a field is in the request."""
        return f"{self._path}.{name}" if self._path else name

    def refuse(self, name: str, wanted: str, *, code: str | None = None) -> ApiError:
        """Make the error that says what a field takes."""
        place = self.place(name)
        value = _show(self.data.get(name))
        return ApiError(400, f"{place} has to be {wanted}, not {value}", param=place, code=code)

    def get(self, name: str, kind: type[T]) -> T | None:
        """Return a field, `None` if it is absent.

        Raises:
            ApiError: it is of another type.
        """
        value = self.data.get(name)
        if value is None:
            return None
        # JSON's `true` is a bool, and in Python that is an int.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.refuse(name, _KINDS[kind])
        return value

    def need(self, name: str, kind: type[T]) -> T:
        """Return a field that has to be there.

        Raises:
            ApiError: it is absent, or of another type.
        """
        value = self.get(name, kind)
        if value is None:
            place = self.place(name)
            raise ApiError(400, f"{place} is missing; it has to be {_KINDS[kind]}", param=place)
        return value

    def number(self, name: str) -> float | int | None:
        """Return a number, `None` if it is absent.

        Raises:
            ApiError: it is something else.
        """
        value = self.data.get(name)
        if value is None:
            return None
        # `1e999` is valid JSON, and infinite in Python.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.refuse(name, "a number")
        return value

    def objects(self, name: str) -> list[Fields]:
        """Return an array of objects, empty if it is absent.

        Raises:
            ApiError: it is something else.
        """
        return [Fields(item, f"{self.place(name)}[{number}]") for number, item in enumerate(self.get(name, list) or [])]

    def inner(self, name: str) -> Fields | None:
        """Return an object inside, `None` if it is absent.

        Raises:
            ApiError: it is something else.
        """
        value = self.get(name, dict)
        return None if value is None else Fields(value, self.place(name))


def _show(value: Any) -> str:
    shown = "null" if value is None else repr(value)
    # Short, since the value may be a whole file in base64.
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
