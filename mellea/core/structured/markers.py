"""Marks for the fields of a type, which say when a field shows while the answer is being written.

    class Order(TypedDict):
        id: Annotated[str, HoldBack()]
        title: Annotated[str, Needed()]
        note: str

They change partial objects only, not what the model is asked for. BAML has the same three ideas as
attributes of its own language: `@stream.done` is `HoldBack()`, `@stream.not_null` is `Needed()`, and for
`@stream.with_state` every partial object has `state(path)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HOLD_BACK", "KEYS", "NEEDED", "HoldBack", "Needed", "unmarked"]

HOLD_BACK = "x-mellea-hold-back"
NEEDED = "x-mellea-needed"
KEYS = "x-mellea-keys"
"""The ways in which a property is read, where there are several; each a list of keys and indexes."""


@dataclass(frozen=True, slots=True)
class HoldBack:
    """Leave the field out until it is complete: a text doesn't grow, an object or a list comes at once."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(core_schema), HOLD_BACK: True}


@dataclass(frozen=True, slots=True)
class Needed:
    """Leave out the object that the field is in until the field is there.

    A text is there with its first character; together with `HoldBack()` it is when it is complete. An
    object that ends without the field is shown then.
    """

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(core_schema), NEEDED: True}


def unmarked(schema: Any) -> Any:
    """Return a JSON Schema without the marks, as models get it; the same one if there are none."""
    if isinstance(schema, Mapping):
        new = {key: unmarked(value) for key, value in schema.items() if key not in (HOLD_BACK, KEYS, NEEDED)}
        is_same = len(new) == len(schema) and all(new[key] is value for key, value in schema.items())
        return schema if is_same else new
    if isinstance(schema, list):
        values = [unmarked(value) for value in schema]
        return schema if all(map(_is, values, schema)) else values
    return schema


def _is(one: Any, other: Any) -> bool:
    return one is other
