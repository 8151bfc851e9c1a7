"""Kinds of saved values that a room above the core defines, each in a module that is loaded for the first such value.

`mellea.core.serialise` saves the values of the core itself. The front door, which may name every room, registers here
what else there is: so a document can be loaded before anything else of that room is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, cast

__all__ = ["SavedKind", "find_kind", "register_kind"]

_HOMES: dict[str, str] = {}


class SavedKind(Protocol):
    """What the module of a kind has. The class of its values names the kind as `saved_kind`."""

    def dump(self, value: Any, /) -> dict[str, Any]:
        """Return the fields of a value as JSON values."""

    def load(self, data: dict[str, Any], path: str, /) -> Any:
        """Return the value of such fields; `path` is where they are, for errors."""


def register_kind(name: str, home: str) -> None:
    """Register a kind.

    Args:
        name: its name in the JSON, which is part of the format and never changes.
        home: the module with its `dump` and `load`.
    """
    _HOMES[name] = home


def find_kind(name: Any) -> SavedKind | None:
    """Return the module of a kind; `None` if nobody registered it."""
    home = _HOMES.get(name)
    return None if home is None else cast("SavedKind", import_module(home))
