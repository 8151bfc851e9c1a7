"""Halves of a character: JSON can write a character outside the BMP as two escapes, and a stream can cut between them.

A half that found its other half is that character, and one that stays alone is U+FFFD, the mark for something that
can't be read. No text that leaves this library for a user holds a half: it couldn't be encoded again.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

__all__ = ["is_high", "replace_surrogates", "replace_surrogates_in"]


def is_high(char: str) -> bool:
    """Tell whether a character is the first half of a pair."""
    return "\ud800" <= char <= "\udbff"


def replace_surrogates(text: str) -> str:
    """Return the text with its pairs joined and U+FFFD for each half that stands alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def replace_surrogates_in(value: Any) -> Any:
    """Return the value with all texts in it mended: in dicts, lists, tuples and dataclasses, however deep."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        return {replace_surrogates_in(key): replace_surrogates_in(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([replace_surrogates_in(item) for item in value])
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: replace_surrogates_in(getattr(value, each.name)) for each in fields(value)})
    return value
