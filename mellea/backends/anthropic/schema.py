"""Reduces a JSON Schema to what Anthropic enforces.

That is types, enumerations, alternatives, references, required properties and a few formats. Any other
limit, such as `minimum`, goes into the description, where the model reads it; mellea validates the answer anyway. What
would change the shape of the answer is rejected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from mellea.backends.anthropic.wire import Json, JsonObject
from mellea.core.structured.envelope import needs_wrapping, wrap_schema
from mellea.errors import UnsupportedError

__all__ = ["close_schema", "make_object_schema"]

_KEPT = frozenset({"$ref", "const", "default", "description", "enum", "required", "title", "type"})
_DROPPED = frozenset({"$comment", "$id", "$schema", "additionalProperties", "discriminator", "examples"})
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"},
)
_TELLS_SHAPE = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "type"})


def close_schema(schema: Mapping[str, Json]) -> JsonObject:
    """Return the schema as the provider accepts it: objects without further properties, and no limits.

    Raises:
        UnsupportedError: a part of it has no type, is an object with arbitrary keys, or is recursive.
    """
    _refuse_recursion({name: _find_references(part) for name, part in schema.get("$defs", {}).items()})
    return _close(schema, "$")


def _close(schema: Mapping[str, Json], path: str) -> JsonObject:
    if not isinstance(schema, Mapping) or not _TELLS_SHAPE & schema.keys():
        raise UnsupportedError(f"Anthropic needs a type at {path} of the schema; give every part a type")
    closed: JsonObject = {}
    limits: JsonObject = {}
    for key, value in schema.items():
        if key in _INNER:
            # The provider knows `anyOf` alone; exactly-one is checked afterwards, with the rest of the schema.
            name = "anyOf" if key == "oneOf" else key
            closed[name] = _INNER[key](value, f"{path}.{key}")
        elif key in _KEPT or (key == "format" and value in _FORMATS) or (key == "minItems" and value in (0, 1)):
            closed[key] = value
        elif key not in _DROPPED:
            limits[key] = value
    if schema.get("type") == "object":
        _refuse_any_keys(schema, path)
        # Required on every object, as in OpenAI's strict form.
        closed |= {"properties": closed.get("properties", {}), "additionalProperties": False}
    # Siblings of a reference are ignored.
    if limits and "$ref" not in closed:
        closed["description"] = "\n\n".join(filter(None, [schema.get("description"), _describe(limits)]))
    return closed


def make_object_schema(schema: Mapping[str, Json]) -> JsonObject:
    """Return the schema for a tool's arguments, which have to be an object; anything else is wrapped in one."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        schema = {**target, "$defs": schema["$defs"]}
    return wrap_schema(schema) if needs_wrapping(schema) else dict(schema)


def _find_references(part: Json) -> set[str]:
    """Return the names of the definitions that a part of a schema mentions."""
    if isinstance(part, list):
        return set().union(*map(_find_references, part))
    if not isinstance(part, Mapping):
        return set()
    name = part.get("$ref")
    return ({name.removeprefix("#/$defs/")} if isinstance(name, str) else set()).union(
        *map(_find_references, part.values())
    )


def _refuse_recursion(mentions: Mapping[str, set[str]]) -> None:
    for name in mentions:
        # Breadth-first, since a chain of definitions may be deeper than Python's stack.
        reached, todo = set[str](), set(mentions[name])
        while todo:
            reached |= todo
            todo = set().union(*(mentions.get(each, set()) for each in todo)) - reached
        if name in reached:
            raise UnsupportedError(
                f"Anthropic can't enforce a schema whose part {name!r} is recursive; refer to items by a number or a "
                "name, or use the embedded model, llama_cpp"
            )


def _refuse_any_keys(schema: Mapping[str, Json], path: str) -> None:
    further = schema.get("additionalProperties", False)
    if (further and further is not True) or (further is True and not schema.get("properties")):
        raise UnsupportedError(
            f"Anthropic doesn't support objects with arbitrary keys, as at {path} of the schema; use a list of pairs, "
            "or the embedded model, llama_cpp"
        )


def _describe(limits: JsonObject) -> str:
    told = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in limits.items())
    return f"({told})"


def _close_many(schemas: Json, path: str) -> list[JsonObject]:
    return [_close(schema, f"{path}[{number}]") for number, schema in enumerate(schemas)]


def _close_named(schemas: Json, path: str) -> JsonObject:
    return {name: _close(schema, f"{path}.{name}") for name, schema in schemas.items()}


_INNER: dict[str, Callable[[Json, str], Json]] = {
    "$defs": _close_named,
    "allOf": _close_many,
    "anyOf": _close_many,
    "items": _close,
    "oneOf": _close_many,
    "properties": _close_named,
}
