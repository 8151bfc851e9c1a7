"""Reads and writes a provider's JSON: strictly for an answer's essential fields, tolerantly for the rest.

A strict function (`read_…`) returns the value, or an empty one if the field is absent or null, and raises
`WireError` for anything else: a wrong value must not become an answer. A tolerant function (`find_…`) ignores values of
an unknown shape: a token count of a wrong type is no reason to lose the text.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from mellea.backends.http.halves import parse_odd
from mellea.core.surrogates import replace_surrogates
from mellea.core.terminal import make_visible
from mellea.errors import UsageError, WireError

__all__ = [
    "decode_base64",
    "encode_json",
    "find_bytes",
    "find_id",
    "find_int",
    "find_list",
    "find_mapping",
    "find_mappings",
    "find_text",
    "make_jsonable",
    "make_type_error",
    "parse_object",
    "read_arguments",
    "read_int",
    "read_list",
    "read_mapping",
    "read_mappings",
    "read_text",
]

_SHOWN = 120

# -- written ------------------------------------------------------------------------------------------------


def encode_json(payload: Mapping[str, Any]) -> bytes:
    """Return the payload as JSON.

    Raises:
        UsageError: a value has no JSON form.
    """
    try:
        # By pydantic's serialiser, which writes bytes directly and rejects lone surrogates.
        return to_json(payload, fallback=_make_dict)
    except (PydanticSerializationError, ValueError) as error:
        raise UsageError(
            f"the request can't be written as JSON: {error}; look at the messages and extra_body"
        ) from None


def make_jsonable(value: Any) -> Any:
    """Convert a value to JSON values; bytes become base64, anything else that JSON can't represent its `str`.

    Raises:
        UsageError: it is nested too deeply.
    """
    try:
        return to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"a part of the request can't be written as JSON: {error}") from None


def _make_dict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


# -- read, essential ------------------------------------------------------------------------------------------


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse JSON that has to be an object.

    Raises:
        WireError: it is something else.
    """
    try:
        value = from_json(data)
    except ValueError:
        value = _parse_odd(data)
    if type(value) is not dict:
        raise WireError(f"the provider sent {_show(data)} instead of a JSON object")
    return value


def read_text(mapping: dict[str, Any], name: str) -> str:
    """Return a string, `""` if the field is missing.

    Raises:
        WireError: it is something else.
    """
    value = mapping.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise make_type_error(name, "a string", value)
    return value


def read_int(mapping: dict[str, Any], name: str) -> int | None:
    """Return an integer, even if it is written as a string; `None` if there is none.

    Raises:
        WireError: it is something else.
    """
    value = mapping.get(name)
    if value is None or type(value) is int:
        return value
    number = find_int(mapping, name)
    if number is None:
        raise make_type_error(name, "a whole number", value)
    return number


def read_mapping(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object, an empty one if the field is missing.

    Raises:
        WireError: it is something else.
    """
    value = mapping.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise make_type_error(name, "an object", value)
    return value


def read_list(mapping: dict[str, Any], name: str) -> list[Any]:
    """Return a list, an empty one where there is none.

    Raises:
        WireError: it is something else.
    """
    value = mapping.get(name)
    if value is None:
        return []
    if type(value) is not list:
        raise make_type_error(name, "a list", value)
    return value


def read_mappings(mapping: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects, `[]` if the field is missing; nulls in it are skipped.

    Raises:
        WireError: it is something else.
    """
    items = read_list(mapping, name)
    if None in items:
        # Null is the same as absent, in lists as well.
        items = [item for item in items if item is not None]
    for item in items:
        if type(item) is not dict:
            raise make_type_error(name, "a list of objects", items)
    return items


def read_arguments(value: Any, name: str = "arguments") -> str:
    """Return a call's arguments as JSON text: they are sent as text, or as an object.

    PHP writes an empty object as an empty list.

    Raises:
        WireError: they are something else.
    """
    if value is None:
        return ""
    if type(value) is str:
        return value
    # Servers written for another format send the object itself.
    if type(value) is dict:
        return json.dumps(value, ensure_ascii=False)
    if value == []:
        return "{}"
    raise make_type_error(name, "JSON text or an object", value)


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64; characters outside its alphabet, such as line ends, are skipped.

    Raises:
        WireError: it is not base64.
    """
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"the provider's {name!r} is not valid base64: {_show(text)}") from error


def make_type_error(name: str, wanted: str, value: Any) -> WireError:
    """Create the error for an essential field with a wrong value."""
    return WireError(f"the provider's {name!r} should be {wanted}, not {_show(value)}")


# -- read, not essential -------------------------------------------------------------------------------------


def find_text(mapping: dict[str, Any], name: str) -> str:
    """Return a string, `""` for anything else."""
    value = mapping.get(name)
    if type(value) is not str:
        return ""
    # An escape in the JSON may be a lone surrogate, which could be neither printed nor saved.
    return value if value.isascii() else replace_surrogates(value)


def find_id(mapping: dict[str, Any], name: str) -> str:
    """Return an id, which some servers write as a number; `""` for anything else."""
    value = mapping.get(name)
    return str(value) if type(value) is int else find_text(mapping, name)


def find_int(mapping: dict[str, Any], name: str) -> int | None:
    """Return an integer, even if it is written as a string or as `12.0`; `None` for anything else."""
    value = mapping.get(name)
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value) if math.isfinite(value) and value.is_integer() else None
    # `isdecimal` alone accepts the digits of all scripts; 18 of them fit into 64 bits.
    if type(value) is str and len(value) <= 18 and value.isascii() and value.isdecimal():
        return int(value)
    return None


def find_mapping(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    value = mapping.get(name)
    return value if type(value) is dict else {}


def find_list(mapping: dict[str, Any], name: str) -> list[Any]:
    """Return a list, an empty one for anything else."""
    value = mapping.get(name)
    return value if type(value) is list else []


def find_mappings(mapping: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of a list, none for anything else."""
    return [item for item in find_list(mapping, name) if type(item) is dict]


def find_bytes(text: str) -> bytes | None:
    """Decode base64, `None` if it is invalid."""
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return None


def _parse_odd(data: bytes) -> Any:
    try:
        return parse_odd(data)
    except ValueError as error:
        raise WireError(f"the provider sent invalid JSON ({error}): {_show(data)}") from error


def _show(value: Any) -> str:
    text = make_visible(repr(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
