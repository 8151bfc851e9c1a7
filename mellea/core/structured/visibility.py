"""When each field of a partial object becomes visible, from its JSON Schema and markers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.structured.schema import KEYS, Schema, get_property, list_branches

__all__ = ["HOLD_BACK", "NEEDED", "HoldBack", "Needed", "Plan", "strip_marks"]

HOLD_BACK = "x-mellea-hold-back"
NEEDED = "x-mellea-needed"


@dataclass(frozen=True, slots=True)
class HoldBack:
    """Leave the field out of partial objects until it is complete: a string doesn't grow, an object appears at once."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(core_schema), HOLD_BACK: True}


@dataclass(frozen=True, slots=True)
class Needed:
    """Leave an object out of partial objects until this field of it is present.

    A string is present with its first character, or with `HoldBack()` when it is complete. An object that ends without
    the field appears at its end.
    """

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(core_schema), NEEDED: True}


def strip_marks(schema: Any) -> Any:
    """Return a JSON Schema without our own keywords, as it is sent; the same object if there are none."""
    if isinstance(schema, Mapping):
        new = {key: strip_marks(value) for key, value in schema.items() if key not in (HOLD_BACK, KEYS, NEEDED)}
        is_same = len(new) == len(schema) and all(new[key] is value for key, value in schema.items())
        return schema if is_same else new
    if isinstance(schema, list):
        values = [strip_marks(value) for value in schema]
        return schema if all(map(_is, values, schema)) else values
    return schema


def _is(one: Any, other: Any) -> bool:
    return one is other


class Plan:
    """When one value becomes visible. The plans of its parts are made on demand, since a schema may be recursive.

    Args:
        schema: the schema of the value; `{}` if nothing is known about it.
        root: the schema that references are resolved in.

    Attributes:
        is_held: the value becomes visible when it is complete.
        grows: a string is visible while it grows.
        needed: keys that have to be present before the object becomes visible.
    """

    __slots__ = ("_branches", "_items", "_parts", "_root", "grows", "is_held", "needed")

    def __init__(self, schema: Schema, root: Schema) -> None:
        self._root = root
        self._branches = list_branches(schema, root)
        self._parts: dict[str, Plan] = {}
        self._items: dict[int, Plan] = {}
        marked = [schema, *self._branches]
        # For a union, one member is enough, since only the end shows which of them it is.
        self.is_held = any(each.get(HOLD_BACK) for each in marked)
        self.grows = not self._branches or any(_grows(branch) for branch in self._branches)
        objects = [branch for branch in self._branches if "properties" in branch]
        keys = [{key for key in branch["properties"] if self._is_needed(branch, key)} for branch in objects]
        # Required by every member: a key that one of them lacks would hold its objects back forever.
        self.needed = frozenset(set.intersection(*keys)) if keys else frozenset()

    def _is_needed(self, branch: Schema, key: str) -> bool:
        part = branch["properties"][key]
        return isinstance(part, Mapping) and bool(part.get(NEEDED))

    def get_part(self, key: str) -> Plan:
        """Return the plan of the value of an object's key."""
        if key not in self._parts:
            found = [_find_property(branch, key) for branch in self._branches]
            self._parts[key] = self._merge([part for part in found if part is not None])
        return self._parts[key]

    def get_item(self, index: int) -> Plan:
        """Return the plan of an array's element."""
        # All elements after the listed ones share a plan, however long the array becomes.
        place = min(index, max((len(branch.get("prefixItems", ())) for branch in self._branches), default=0))
        if place not in self._items:
            found = [_find_item(branch, place) for branch in self._branches]
            self._items[place] = self._merge([part for part in found if part is not None])
        return self._items[place]

    def _merge(self, parts: list[Schema]) -> Plan:
        return Plan(parts[0] if len(parts) == 1 else {"anyOf": parts} if parts else {}, self._root)


def _grows(schema: Schema) -> bool:
    """Whether a string makes sense before it is complete: free text does, one of a few words or a date doesn't."""
    kind: Any = schema.get("type")
    is_any_text = not {"enum", "const", "format", "pattern", "contentEncoding"} & schema.keys()
    may_be_text = kind is None or kind == "string" or (isinstance(kind, list) and "string" in kind)
    return may_be_text and is_any_text


def _find_property(schema: Schema, key: str) -> Schema | None:
    part = get_property(schema, key)
    return part if isinstance(part, Mapping) else None


def _find_item(schema: Schema, index: int) -> Schema | None:
    first = schema.get("prefixItems", ())
    part = first[index] if index < len(first) else schema.get("items")
    return part if isinstance(part, Mapping) else None
