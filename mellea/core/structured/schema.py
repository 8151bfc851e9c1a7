"""What can be read off a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.structured.markers import KEYS

__all__ = ["Schema", "Shape", "branches", "followed", "openings_of", "property_of", "shapes_of"]

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the JSON of a value looks like, or that of one member of a union.

    Args:
        opening: the bracket that it begins with; `""` where that isn't certain.
        keys: all keys at the top of an object that it is read by: every alias, and names where they count.
        required: a set for each required property; one of its keys has to be there.
        is_open: an object may have other keys than these, which mean something.
    """

    opening: str
    keys: frozenset[str] = frozenset()
    required: tuple[frozenset[str], ...] = ()
    is_open: bool = False


def followed(schema: Schema, root: Schema) -> Schema:
    """Follow `$ref`s within the root; what stands beside one stays. A reference that leads nowhere says nothing."""
    seen: set[str] = set()
    while isinstance(pointer := schema.get("$ref"), str) and pointer not in seen:
        seen.add(pointer)
        target: Any = root
        for step in pointer.removeprefix("#").split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**(target if isinstance(target, Mapping) else {}), **beside}
    return schema


def branches(schema: Schema, root: Schema) -> list[Schema]:
    """Return what a value may be, as schemas without references and unions; null is left out."""
    found: list[Schema] = []
    waiting, seen = [schema], 0
    while waiting and seen < 200:  # a union may hold itself
        seen += 1
        one = followed(waiting.pop(), root)
        options = one.get("anyOf") or one.get("oneOf")
        if isinstance(options, list):
            beside = {name: value for name, value in one.items() if name not in ("anyOf", "oneOf")}
            waiting += [{**beside, **option} for option in reversed(options) if isinstance(option, Mapping)]
        elif isinstance(parts := one.get("allOf"), list) and len(parts) == 1 and isinstance(parts[0], Mapping):
            waiting.append({**parts[0], **{name: value for name, value in one.items() if name != "allOf"}})
        elif one.get("type") != "null":
            found.append(one)
    return found


def openings_of(schema: Schema, root: Schema | None = None) -> str:
    """Return the brackets that a value begins with; `""` if it may begin with something else."""
    openings = {_opening(branch) for branch in branches(schema, schema if root is None else root)}
    return "" if "" in openings else "".join(sorted(openings))


def _opening(schema: Schema) -> str:
    if schema.get("type") == "object" or "properties" in schema:
        return "{"
    return "[" if schema.get("type") == "array" else ""


def shapes_of(schema: Schema, root: Schema) -> tuple[Shape, ...]:
    """Return the shapes that a value may have, one for each member of a union; null is left out."""
    return tuple(_shape(branch) for branch in branches(schema, root))


def _shape(branch: Schema) -> Shape:
    opening = _opening(branch)
    if opening != "{":
        return Shape(opening)
    properties = branch.get("properties", {})
    keys = {name: _keys(name, part) for name, part in properties.items()}
    required = tuple(keys.get(name, frozenset({name})) for name in branch.get("required", ()))
    others = branch.get("additionalProperties", not properties) not in (None, False)
    is_open = others or bool(branch.get("patternProperties"))
    return Shape(opening, frozenset().union(*keys.values()), required, is_open)


def _keys(name: str, part: Any) -> frozenset[str]:
    paths = part.get(KEYS, ()) if isinstance(part, Mapping) else ()
    return frozenset({name, *(str(path[0]) for path in paths)})


def property_of(branch: Schema, key: str) -> Any:
    """Return the schema of the property that is read by a key, under whichever of its aliases.

    Returns:
        `additionalProperties` for other keys; `None` if nothing is said of them.
    """
    properties = branch.get("properties", {})
    if key in properties:
        return properties[key]
    named = (part for part in properties.values() if isinstance(part, Mapping) and [key] in part.get(KEYS, ()))
    return next(named, branch.get("additionalProperties"))
