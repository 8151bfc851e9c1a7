"""Typed looks into a provider's JSON: a field is absent, or what it should be, or a `WireError`."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pydantic_core import from_json

from mellea.errors import WireError

__all__ = ["bytes_of", "int_of", "list_of", "mapping_of", "mappings_of", "parse_object", "text_of", "wrong_type"]


def parse_object(data: str | bytes) -> dict[str, Any]:
    """Parse JSON that has to be an object.

    Raises:
        WireError: it is something else.
    """
    try:
        value = from_json(data)
    except ValueError as error:
        raise WireError(f"the provider sent no valid JSON ({error}): {_shown(data)}") from error
    if type(value) is not dict:
        raise WireError(f"the provider sent {_shown(data)} where a JSON object has to be")
    return value


def text_of(mapping: dict[str, Any], name: str) -> str:
    """Return a text, `""` where there is none."""
    value = mapping.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise wrong_type(name, "a text", value)
    return value


def int_of(mapping: dict[str, Any], name: str) -> int | None:
    """Return a whole number, `None` where there is none."""
    value = mapping.get(name)
    if value is None or type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise wrong_type(name, "a whole number", value)


def mapping_of(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object, an empty one where there is none."""
    value = mapping.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise wrong_type(name, "an object", value)
    return value


def list_of(mapping: dict[str, Any], name: str) -> list[Any]:
    """Return a list, an empty one where there is none."""
    value = mapping.get(name)
    if value is None:
        return []
    if type(value) is not list:
        raise wrong_type(name, "a list", value)
    return value


def mappings_of(mapping: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects, an empty one where there is none."""
    items = list_of(mapping, name)
    for item in items:
        if type(item) is not dict:
            raise wrong_type(name, "a list of objects", items)
    return items


def bytes_of(text: str, name: str) -> bytes:
    """Return what a text in base64 stands for; what isn't of its alphabet, such as line ends, is passed over."""
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"the provider's {name!r} is no base64: {_shown(text)}") from error


def wrong_type(name: str, wanted: str, value: Any) -> WireError:
    """Make the error of a field that holds something else."""
    return WireError(f"the provider's {name!r} should be {wanted}, not {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
