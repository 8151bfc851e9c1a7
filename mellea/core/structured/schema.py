"""What can be read off a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["branches", "followed", "openings_of"]

Schema = Mapping[str, Any]


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
