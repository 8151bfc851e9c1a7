"""Surrogates: JSON may write a character outside the BMP as two escapes, and a stream may be cut between them.

A pair of surrogates becomes its character, and a lone one U+FFFD, the replacement character. No text that this library
returns contains a surrogate, because it couldn't be encoded.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

__all__ = ["is_high", "replace_surrogates", "replace_surrogates_in"]


def is_high(char: str) -> bool:
    """Return whether a character is a high surrogate, the first half of a pair."""
    return "\ud800" <= char <= "\udbff"


def replace_surrogates(text: str) -> str:
    """Return the text with surrogate pairs joined, and U+FFFD for each lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def replace_surrogates_in(value: Any) -> Any:
    """Return the value with the surrogates replaced in all texts inside: in dicts, lists, tuples and dataclasses."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        return {replace_surrogates_in(key): replace_surrogates_in(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([replace_surrogates_in(item) for item in value])
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: replace_surrogates_in(getattr(value, each.name)) for each in fields(value)})
    return value
