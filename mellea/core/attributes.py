"""Attributes that aren't there: the error, with our name for what other libraries call something else.

`find_attribute` stands in the `__getattr__` of a class, which Python calls for names that it hasn't found: what is there
costs nothing. The error is an `AttributeError`, so `hasattr` and `getattr` with a default work as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mellea.errors import UsageAttributeError

__all__ = ["by_name", "find_attribute"]


def by_name(table: Mapping[str, str]) -> dict[str, str]:
    """Return what to do for each name, of a table that has several names for each thing to do."""
    return {name: what for what, names in table.items() for name in names.split()}


def find_attribute(value: Any, name: str, ways: Mapping[str, str]) -> Any:
    """Raise the error for an attribute that `value` hasn't.

    Args:
        value: what was asked for the attribute.
        name: the name of the attribute.
        ways: what to write instead, by the names that others use.

    Raises:
        UsageAttributeError: says what to write instead.
        AttributeError: nobody uses that name.
    """
    kind = type(value)
    if (found := getattr(kind, name, None)) is not None and hasattr(found, "__get__"):
        return found.__get__(value, kind)  # a property, whose own AttributeError made Python ask here: raise that
    if name in ways:
        raise UsageAttributeError(f"{_article(kind)} has no attribute {name!r}; {ways[name]}")
    raise AttributeError(f"{_article(kind)} has no attribute {name!r}", name=name, obj=value)


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"
