"""Reduces a JSON Schema to the keywords that Gemini supports, for answers and tools.

`responseJsonSchema` and `parametersJsonSchema` (GenerationConfig in v1beta, as of 2026-11) know the keywords in
`_KEPT`, and a `$ref` may have no siblings, or the request is refused. So `const` is said as an `enum`, what is
next to a reference is put around it, and limits and defaults go into the description, where the model reads them;
mellea validates the answer in any case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from mellea.backends.gemini.wire import Json, JsonObject

__all__ = ["write_schema"]

_KEPT: Final = frozenset(
    {
        "$anchor",
        "$id",
        "$ref",
        "description",
        "enum",
        "format",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "propertyOrdering",
        "required",
        "title",
        "type",
    }
)
_DROPPED: Final = frozenset({"$comment", "$schema", "const", "discriminator", "examples"})
_DEEPEST: Final = 64


def write_schema(schema: Mapping[str, Json]) -> JsonObject:
    """Return the schema as Gemini accepts it."""
    written: JsonObject = _write_part(schema, 0)
    return written


def _write_part(schema: Json, depth: int) -> Json:
    # Deeper parts are sent unchanged, rather than end in a RecursionError.
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return schema
    new: JsonObject = {}
    told: JsonObject = {}
    for name, value in schema.items():
        if name in _INNER:
            new[name] = _INNER[name](value, depth + 1)
        elif name in _KEPT:
            new[name] = value
        elif name not in _DROPPED:
            told[name] = value
    if isinstance(const := schema.get("const"), (str, int, float)) and not isinstance(const, bool):
        new["enum"] = [const]
        # Gemini requires the type of an enumeration.
        new.setdefault("type", "string" if isinstance(const, str) else "number")
    if told:
        words = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in told.items())
        new["description"] = " ".join(filter(None, [new.get("description"), f"({words})"]))
    return _wrap_reference(new)


def _wrap_reference(schema: JsonObject) -> JsonObject:
    """Move keywords next to a `$ref` into a schema around it."""
    beside = {name: value for name, value in schema.items() if not name.startswith("$")}
    if "$ref" not in schema or not beside:
        return schema
    around = {name: value for name, value in schema.items() if name.startswith("$") and name != "$ref"}
    # A reference may have no siblings, so the rest goes into a schema around it, with one alternative.
    return {**around, **beside, "anyOf": [{"$ref": schema["$ref"]}]}


def _write_many(schemas: Json, depth: int) -> Json:
    return [_write_part(schema, depth) for schema in schemas] if isinstance(schemas, list) else schemas


def _rewrite_named(schemas: Json, depth: int) -> Json:
    if not isinstance(schemas, Mapping):
        return schemas
    return {name: _write_part(schema, depth) for name, schema in schemas.items()}


_INNER: dict[str, Callable[[Json, int], Json]] = {
    "$defs": _rewrite_named,
    "additionalProperties": _write_part,
    "anyOf": _write_many,
    "items": _write_part,
    "oneOf": _write_many,
    "prefixItems": _write_many,
    "properties": _rewrite_named,
}
