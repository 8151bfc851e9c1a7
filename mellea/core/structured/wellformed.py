"""Check that a dict is a JSON Schema, keyword by keyword."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mellea.core.structured.patterns import PatternError, compile_pattern
from mellea.core.structured.schema import SCHEMA_DICTS, SCHEMA_LISTS, SCHEMAS, iterate_parts
from mellea.core.structured.schema_check import JSON_TYPES

__all__ = ["find_schema_problem", "has_keyword"]

_Test = tuple[Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    return JSON_TYPES["number"](value) and abs(value) < math.inf


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, kind) for each in value)


def _is_count(value: Any) -> bool:
    return JSON_TYPES["integer"](value) and value >= 0


_COUNT: _Test = (_is_count, "a whole number from 0")
_NUMBER: _Test = (lambda value: _is_number(value) or isinstance(value, bool), "a number")
_TEXT: _Test = (lambda value: isinstance(value, str), "a string")
_FLAG: _Test = (lambda value: isinstance(value, bool), "true or false")
_LIST: _Test = (lambda value: _is_list(value, object) and bool(value), "a list of schemas")
_DICT: _Test = (lambda value: isinstance(value, Mapping), "a dict of schemas")

_SHAPES: dict[str, _Test] = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _LIST),
    **dict.fromkeys(sorted(SCHEMA_DICTS), _DICT),
    **dict.fromkeys(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), _NUMBER),
    **dict.fromkeys(("maxItems", "minItems", "maxLength", "minLength", "maxContains", "minContains"), _COUNT),
    **dict.fromkeys(("maxProperties", "minProperties"), _COUNT),
    **dict.fromkeys(("format", "pattern", "title", "$ref", "$anchor", "$id", "$schema"), _TEXT),
    "dependentRequired": (
        lambda value: isinstance(value, Mapping) and all(_is_list(names, str) for names in value.values()),
        "a dict of lists of names",
    ),
    "enum": (lambda value: _is_list(value, object), "a list of values"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "required": (lambda value: _is_list(value, str), "a list of names"),
    "uniqueItems": _FLAG,
}
_KNOWN = frozenset(_SHAPES) | SCHEMAS | SCHEMA_LISTS
_KNOWN |= {"type", "const", "description", "default", "examples", "$comment", "$dynamicRef", "$dynamicAnchor", "id"}
_KNOWN |= {"$recursiveRef", "readOnly", "writeOnly", "deprecated", "contentEncoding", "contentMediaType", "nullable"}


def find_schema_problem(schema: Any, place: str = "") -> str | None:
    """Return why a dict isn't a JSON Schema, or `None`.

    Args:
        schema: the dict, or a part of it.
        place: the path of that part.
    """
    if isinstance(schema, bool):
        return None
    where = f" at {place}" if place else ""
    if not isinstance(schema, Mapping) or not all(isinstance(key, str) for key in schema):
        return f"{schema!r}{where} isn't a JSON Schema"
    # A dict without a single known keyword is an example of an answer, or another library's shorthand.
    if schema and not _KNOWN & schema.keys():
        subject = f"the value at {place}" if place else "it"
        names = ", ".join(map(repr, schema))
        return f"{subject} has no keyword of JSON Schema, such as 'type' or 'properties', only {names}"
    own = _find_type_problem(schema.get("type", []), where) or _find_keyword_problem(schema, where)
    if own is not None:
        return own
    inside = (find_schema_problem(part, f"{place}.{name}".lstrip(".")) for name, part in _list_schemas(schema))
    return next((problem for problem in inside if problem), None)


def has_keyword(schema: Mapping[str, Any]) -> bool:
    """Whether a dict has a keyword of JSON Schema, so that it is meant as one."""
    return not _KNOWN.isdisjoint(schema)


def _find_type_problem(kinds: Any, where: str) -> str | None:
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in JSON_TYPES:
            return f"the type {kind!r}{where} isn't one of JSON's: {', '.join(JSON_TYPES)}"
    return None


def _find_keyword_problem(schema: Mapping[str, Any], where: str) -> str | None:
    for name, (is_right, wanted) in _SHAPES.items():
        if name in schema and not is_right(schema[name]):
            return f"{name}{where} takes {wanted}, not {schema[name]!r}"
    patterns = [schema["pattern"]] if "pattern" in schema else []
    for pattern in [*patterns, *schema.get("patternProperties", ())]:
        try:
            # Checked now: a pattern that can't be checked would make every answer fail.
            compile_pattern(pattern)
        except PatternError as error:
            return f"{error}{where}"
    return None


def _list_schemas(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the direct sub-schemas with readable names, without the lists of names that `dependencies` may have."""
    found = [
        (name, part) for name, part in iterate_parts(schema) if not (name.startswith("dep") and isinstance(part, list))
    ]
    return [(name.removeprefix("properties."), part) for name, part in found]
