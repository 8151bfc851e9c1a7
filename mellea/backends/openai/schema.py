"""Converts a JSON Schema to the subset that OpenAI's structured output enforces strictly.

"Structured model outputs", section "Supported schemas" (as of 2026-10): the top is an object; every object names all
its properties as required and allows no others; no `default`, `oneOf`, `allOf`, `not`, `if`, `patternProperties`,
`prefixItems`; a `$ref` has no siblings. Limits of lengths and counts are moved to the description: the answer is
validated against the schema itself afterwards. A schema without such a form is sent without `strict`.

Only OpenAI, and services that copied it, need this. Servers of open weights (LM Studio, vLLM, llama.cpp,
SGLang) enforce the whole schema, including limits, and get it unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mellea.core.structured.bundle import bundle_schema
from mellea.core.structured.envelope import needs_wrapping, wrap_schema
from mellea.core.structured.schema import follow_references

__all__ = ["Holding", "StrictSchema", "make_schema_name", "make_sent_schema", "make_strict_schema"]

Holding = Literal["strict", "whole", "unknown"]
"""How a service enforces schemas: OpenAI's strict form only, any schema, or unknown."""

_DROPPED = frozenset({"default", "discriminator", "examples", "example", "deprecated", "readOnly", "writeOnly"})
_SAID = (
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
)
"""Keywords that strict mode doesn't support; they are moved to the description."""

_LOOSE = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "patternProperties",
        "prefixItems",
        "unevaluatedProperties",
        "unevaluatedItems",
    }
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
)
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class StrictSchema:
    """A schema as it is sent.

    Args:
        schema: in the strict form, or unchanged.
        is_strict: whether the provider can enforce it strictly.
        has_lost_limits: whether limits were moved to a description.
    """

    schema: dict[str, Any]
    is_strict: bool
    has_lost_limits: bool = False


class _TooLoose(Exception):
    """The schema has no strict form."""


def make_schema_name(name: str) -> str:
    """Return a name that the format allows."""
    return _NAME.sub("_", name)[:64] or "answer"


def make_strict_schema(schema: Mapping[str, Any]) -> StrictSchema:
    """Return the schema in the strict form if it has one, else unchanged; the top is always an object."""
    loose = _write_object(schema)
    # For the loose form, whose references are all at the top.
    rewriter = _StrictSubset(loose)
    try:
        return StrictSchema(rewriter.rewrite(), True, rewriter.has_lost_limits)
    except _TooLoose:
        return StrictSchema(loose, False)


def make_sent_schema(schema: Mapping[str, Any], holding: Holding) -> StrictSchema:
    """Return the schema for a service.

    An unknown service may use OpenAI's own models, which reject limits in a strict schema: it gets the strict
    form if that loses nothing, else the whole schema without `strict`.
    """
    # The server is known to convert all of JSON Schema to a grammar.
    if holding == "whole":
        return StrictSchema(_write_object(schema), True)
    sent = make_strict_schema(schema)
    if holding == "unknown" and sent.has_lost_limits:
        return StrictSchema(_write_object(schema), False)
    return sent


def _write_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    return wrap_schema(schema) if needs_wrapping(schema) else bundle_schema(schema)


class _StrictSubset:
    """Rewrites a schema in the strict form."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.has_lost_limits = False
        self._root = root
        self._inlined: list[str] = []  # references being expanded, which may be recursive

    def rewrite(self) -> dict[str, Any]:
        # The top itself may be a reference, which strict mode doesn't allow there.
        top = dict(follow_references(self._root, self._root))
        body = self._write_schema({name: value for name, value in top.items() if name not in ("$defs", "definitions")})
        for name in ("$defs", "definitions"):
            if name in self._root:
                body[name] = self._rewrite_named(self._root[name])
        return body

    def _write_schema(self, schema: Any) -> dict[str, Any]:
        # An empty schema allows anything, and anything has no grammar.
        if not isinstance(schema, Mapping) or not schema or _LOOSE & schema.keys():
            raise _TooLoose
        if "$ref" in schema:
            return self._write_ref(schema)
        if "allOf" in schema:
            return self._write_all_of(schema)
        new: dict[str, Any] = {}
        for name, value in schema.items():
            if name not in _DROPPED:
                rewrite = _KEYWORDS.get(name)
                # Strict mode has no `oneOf`; if members overlap, the check afterwards decides.
                new["anyOf" if name == "oneOf" else name] = value if rewrite is None else rewrite(self, value)
        self.has_lost_limits |= _describe_limits(new)
        if schema.get("type") == "object" or "properties" in schema:
            _close(new)
        elif schema.get("type") == "array" and "items" not in schema:
            raise _TooLoose
        return new

    def _write_ref(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        beside = {name: value for name, value in schema.items() if name != "$ref" and name not in _DROPPED}
        pointer = schema["$ref"]
        # A reference may have no siblings, so its target is written out with the rest merged in; one that leads to
        # itself stays a reference, and loses its siblings.
        if not beside or pointer in self._inlined:
            return {"$ref": pointer}
        self._inlined.append(pointer)
        written = self._write_schema({**follow_references({"$ref": pointer}, self._root), **beside})
        self._inlined.pop()
        return written

    def _write_all_of(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        parts = schema["allOf"]
        # Pydantic's form of a reference with a description; real intersections have no strict form.
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], Mapping):
            raise _TooLoose
        beside = {name: value for name, value in schema.items() if name != "allOf"}
        return self._write_schema({**parts[0], **beside})

    def _rewrite_named(self, schemas: Any) -> dict[str, Any]:
        if not isinstance(schemas, Mapping):
            raise _TooLoose
        return {name: self._write_schema(value) for name, value in schemas.items()}

    def _rewrite_listed(self, schemas: Any) -> list[Any]:
        if not isinstance(schemas, list):
            raise _TooLoose
        return [self._write_schema(value) for value in schemas]


_KEYWORDS: dict[str, Callable[[_StrictSubset, Any], Any]] = {
    "$defs": _StrictSubset._rewrite_named,
    "anyOf": _StrictSubset._rewrite_listed,
    "definitions": _StrictSubset._rewrite_named,
    "items": _StrictSubset._write_schema,
    "oneOf": _StrictSubset._rewrite_listed,
    "properties": _StrictSubset._rewrite_named,
}


def _describe_limits(new: dict[str, Any]) -> bool:
    """Move keywords that strict mode doesn't support into the description; returns whether there were any."""
    said = [f"{name}={new.pop(name)!r}" for name in _SAID if name in new]
    if new.get("format") not in (None, *_FORMATS):
        said.append(f"format={new.pop('format')!r}")
    if said:
        new["description"] = "; ".join([*([new["description"]] if new.get("description") else []), *said])
    return bool(said)


def _close(new: dict[str, Any]) -> None:
    """Require all properties of an object, and allow no others."""
    if new.get("additionalProperties") not in (None, False) or "properties" not in new:
        raise _TooLoose
    # Optional fields don't exist in strict mode: the model writes each, with its default or null.
    new["required"] = list(new["properties"])
    new["additionalProperties"] = False
