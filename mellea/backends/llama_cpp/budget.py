"""How long texts and lists without a limit may get, so that an answer in JSON is complete before its tokens run out.

A small model tends to go on: a text without a `maxLength` would take all of the answer's tokens, and the truncated
document would be invalid. So the tokens of `max_tokens` are divided. A text gets an equal share, but at least
`LEAST_LENGTH` characters; a list gets as many items as fit if their texts have a typical length.
Limits in the schema stay unchanged, and so does an answer with too few tokens for either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["LEAST_ITEMS", "LEAST_LENGTH", "DefaultLimit", "share_out"]

LEAST_LENGTH = 120
"""The least limit of a text, in characters."""

LEAST_ITEMS = 5
"""The least limit of a list, in items."""

_CHARACTERS = 2.5
"""Characters that a token writes, at least in most texts."""

_USED = 0.8
"""The share of the tokens for lists."""

_TEXTS_IN_LIST = 4
"""A text that is an item, or part of one, counts as this many texts."""

_COSTS = {"string": 14, "number": 5, "integer": 4, "boolean": 2, "null": 2}
"""Tokens of a typical value."""

_FOLLOWED = 2
"""How many nested references are followed to estimate a value's cost."""

_ONE = ("items", "additionalProperties")
_LISTS = ("prefixItems", "anyOf", "allOf", "oneOf")
_NAMED = ("properties", "patternProperties", "$defs")


class DefaultLimit(int):
    """A limit that the schema itself doesn't state."""


def share_out(body: dict[str, Any], max_tokens: int) -> None:
    """Lower the default limits in a schema, in place, so that `max_tokens` tokens are enough for the whole answer."""
    texts = sum(
        weight for schema, weight in _walk_schemas(body, 1) if isinstance(schema.get("maxLength"), DefaultLimit)
    )
    length = max(LEAST_LENGTH, int(max_tokens * _CHARACTERS / max(1, texts)))
    definitions = body.get("$defs", {})
    for schema, _ in _walk_schemas(body, 1):
        # Only default limits: those in the schema stay unchanged.
        _lower(schema, "maxLength", "minLength", length)
        for most, least, part in (("maxItems", "minItems", "items"), ("maxProperties", "minProperties", _ONE[1])):
            count = int(max_tokens * _USED / _estimate_cost(schema.get(part), definitions, 0))
            _lower(schema, most, least, max(LEAST_ITEMS, count))


def _lower(schema: dict[str, Any], most: str, least: str, limit: int) -> None:
    stated = schema.get(most)
    if isinstance(stated, DefaultLimit):
        schema[most] = min(stated, max(limit, schema.get(least, 0), len(schema.get("required", ()))))


def _walk_schemas(schema: Any, weight: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield all parts of a schema, each with the number of texts that a text there counts as."""
    if not isinstance(schema, dict):
        return
    yield schema, weight
    for name in _ONE:
        # Bounded, or deeply nested lists would leave no tokens for texts.
        yield from _walk_schemas(schema.get(name), min(weight * _TEXTS_IN_LIST, _TEXTS_IN_LIST**2))
    for name in _LISTS:
        for part in schema.get(name, ()):
            yield from _walk_schemas(part, weight)
    for name in _NAMED:
        for part in schema.get(name, {}).values():
            yield from _walk_schemas(part, weight)


def _estimate_cost(schema: Any, definitions: Mapping[str, Any], depth: int) -> float:
    """Estimate how many tokens a value takes."""
    # A recursive schema has no fixed cost; that of a text is a reasonable guess.
    if not isinstance(schema, Mapping) or depth > _FOLLOWED:
        return _COSTS["string"]
    if "$ref" in schema:
        return _estimate_cost(definitions.get(schema["$ref"].rpartition("/")[2]), definitions, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return max(_estimate_cost(part, definitions, depth) for part in schema[name])
    kind = schema.get("type")
    if kind == "array":
        return 3 + 3 * _estimate_cost(schema.get("items"), definitions, depth)
    if kind == "object":
        parts = schema.get("properties", {}).items()
        return 4 + sum(4 + len(name) / 4 + _estimate_cost(part, definitions, depth) for name, part in parts)
    return _COSTS.get(kind, _COSTS["string"]) if isinstance(kind, str) else _COSTS["string"]
