"""Reduces a tool's JSON Schema to what Ollama's server passes to the model.

The server reads parameters into a struct (`ToolProperty` in api/types.go, server 0.40) that knows `type`, `items`,
`anyOf`, `enum`, `description`, `properties` and `required`, and drops the rest before the model sees it. So
references are expanded in place, `oneOf` and `const` are written as `anyOf` and `enum`, the parts of an `allOf` are
merged, and limits, defaults and the values of a mapping go into the description.

A recursive type is expanded twice, and then only named. A foreign schema, such as an MCP server's, may expand
endlessly: parts and depth have a limit, after which types are only named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from mellea.backends.ollama.wire import Json, JsonObject
from mellea.core.structured.schema import follow_references

__all__ = ["write_tool_schema"]

_ROUNDS: Final = 2
"""How often a recursive type is expanded."""

_MOST_PARTS: Final = 500
_DEEPEST: Final = 32

_KEPT: Final = frozenset({"description", "enum", "required", "type"})
_WRITTEN: Final = frozenset(
    {"$ref", "additionalProperties", "allOf", "anyOf", "const", "items", "oneOf", "prefixItems", "properties"}
)
_DROPPED: Final = frozenset(
    {"$comment", "$defs", "$id", "$schema", "definitions", "discriminator", "examples", "title"}
)

_TYPES: Final[dict[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def write_tool_schema(parameters: Mapping[str, Json]) -> JsonObject:
    """Return the parameters of a tool as the server understands all of them."""
    written = _Writer(parameters).part(parameters)
    return {**written, "type": "object", "properties": written.get("properties", {})}


class _Writer:
    """Rewrites a schema with its references expanded in place."""

    def __init__(self, root: Mapping[str, Json]) -> None:
        self._root = root
        self._inside: list[str] = []  # the references being expanded, outermost first
        self._parts = 0
        self._depth = 0

    def part(self, schema: Json) -> JsonObject:
        if not isinstance(schema, Mapping) or self._depth > _DEEPEST:
            return {}  # anything
        pointer = schema.get("$ref")
        if not isinstance(pointer, str):
            return self._rewrite(schema)
        # The server drops `$ref` and `$defs` in tools, so references are expanded in place.
        target = follow_references(schema, self._root)
        # A recursive type is expanded a few times, as deep as models nest it, and then only named.
        if self._is_enough(pointer):
            return _describe_named(pointer, target)
        self._inside.append(pointer)
        written = self._rewrite(target)
        self._inside.pop()
        return written

    def _is_enough(self, pointer: str) -> bool:
        return self._parts > _MOST_PARTS or self._inside.count(pointer) >= _ROUNDS

    def _rewrite(self, schema: Mapping[str, Json]) -> JsonObject:
        self._parts += 1
        self._depth += 1
        schema = self._join_all_of(schema)
        new: JsonObject = {name: value for name, value in schema.items() if name in _KEPT}
        if "const" in schema:
            new["enum"] = [schema["const"]]
        if isinstance(new.get("enum"), list) and "type" not in new and (kinds := _find_kinds(new["enum"])):
            new["type"] = kinds[0] if len(kinds) == 1 else kinds
        if isinstance(properties := schema.get("properties"), Mapping):
            new = {"type": "object", **new, "properties": {name: self.part(each) for name, each in properties.items()}}
        if isinstance(options := schema.get("anyOf") or schema.get("oneOf"), list):
            new["anyOf"] = [self.part(option) for option in options]
        told = self._write_items(schema, new)
        values = schema.get("additionalProperties")
        if isinstance(values, Mapping) and values:
            new.setdefault("type", "object")
            told["every value"] = self.part(values)
        # What the server would drop silently, in words, which the model still reads.
        told |= {name: value for name, value in schema.items() if name not in _KEPT | _WRITTEN | _DROPPED}
        self._depth -= 1
        return _describe(new, told)

    def _write_items(self, schema: Mapping[str, Json], new: JsonObject) -> JsonObject:
        """Write an array's items; returns the limits that have to go into the description."""
        places = schema.get("prefixItems")
        if isinstance(places, list) and places:
            written = [self.part(each) for each in places]
            different = [each for number, each in enumerate(written) if each not in written[:number]]
            new.setdefault("type", "array")
            new["items"] = different[0] if len(different) == 1 else {"anyOf": different}
            return {} if len(different) == 1 else {"in this order": written}
        if isinstance(schema.get("items"), Mapping):
            new.setdefault("type", "array")
            new["items"] = self.part(schema["items"])
        return {}

    def _join_all_of(self, schema: Mapping[str, Json], depth: int = 0) -> Mapping[str, Json]:
        """Merge the parts of an `allOf`; keywords next to it take precedence over those inside."""
        parts = schema.get("allOf")
        if not isinstance(parts, list) or depth > _DEEPEST:
            return schema
        joined = {name: value for name, value in schema.items() if name != "allOf"}
        for each in parts:
            # A reference to itself adds nothing new.
            if isinstance(each, Mapping) and each.get("$ref") not in self._inside:
                joined = _merge(joined, self._join_all_of(follow_references(each, self._root), depth + 1))
        return joined


def _merge(schema: JsonObject, part: Mapping[str, Json]) -> JsonObject:
    merged = {**part, **schema}
    if properties := {**part.get("properties", {}), **schema.get("properties", {})}:
        merged["properties"] = properties
    if required := dict.fromkeys([*schema.get("required", ()), *part.get("required", ())]):
        merged["required"] = list(required)
    return merged


def _describe_named(pointer: str, target: Mapping[str, Json]) -> JsonObject:
    """Return the short form of a type that isn't expanded again."""
    name = target.get("title") or pointer.rpartition("/")[2]
    kept = {key: target[key] for key in ("type", "enum") if key in target}
    return {**kept, "description": f"{name}, as described above"}


def _find_kinds(values: Iterable[Json]) -> list[str]:
    return list(dict.fromkeys(_TYPES[type(value)] for value in values if type(value) in _TYPES))


def _describe(new: JsonObject, told: JsonObject) -> JsonObject:
    """Append to the description what the server would drop."""
    if told:
        words = ", ".join(
            f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}" for name, value in told.items()
        )
        new["description"] = " ".join(filter(None, [new.get("description"), f"({words})"]))
    return new
