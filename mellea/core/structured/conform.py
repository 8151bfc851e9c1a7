"""Holding a value against a JSON Schema that a user wrote: the keywords that say what a value is.

Draft 2020-12, of which `format`, `patternProperties`, `dependent…`, `unevaluated…`, `if` and `not` ask nothing here.
Schemas of Python types need none of this: pydantic has their validators.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mellea.core.structured.schema import Schema, followed

__all__ = ["MismatchError", "check", "problem_of"]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or _is_whole(value),
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


_KEYWORDS = frozenset(
    {"$ref", "$defs", "definitions", "$schema", "$id", "type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if"}
    | {"properties", "required", "additionalProperties", "patternProperties", "items", "prefixItems", "minItems"}
    | {"maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern", "format", "title", "description"}
)


_SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "properties": (lambda value: isinstance(value, Mapping), "a dict of schemas"),
    "required": (lambda value: _is_list(value, str), "a list of names"),
    "enum": (lambda value: _is_list(value, object), "a list of values"),
    "anyOf": (lambda value: _is_list(value, object), "a list of schemas"),
    "oneOf": (lambda value: _is_list(value, object), "a list of schemas"),
    "allOf": (lambda value: _is_list(value, object), "a list of schemas"),
}


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, kind) for each in value)


class MismatchError(ValueError):
    """A JSON value isn't what its schema asks for."""


def problem_of(schema: Any, place: str = "") -> str | None:
    """Say what makes a dict no JSON Schema; `None` if nothing does."""
    if isinstance(schema, bool):
        return None
    where = f" at {place}" if place else ""
    if not isinstance(schema, Mapping) or not all(isinstance(key, str) for key in schema):
        return f"{schema!r}{where} is no JSON Schema"
    if schema and not _KEYWORDS & schema.keys():
        return f"there is no keyword of JSON Schema{where}, such as 'type' or 'properties', among {', '.join(schema)}"
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"the type {kind!r}{where} is none of JSON's: {', '.join(_TYPES)}"
    for name, (is_right, wanted) in _SHAPES.items():
        if name in schema and not is_right(schema[name]):
            return f"{name}{where} is {wanted}, not {schema[name]!r}"
    inside = [problem_of(part, f"{place}.{name}".lstrip(".")) for name, part in _parts(schema)]
    return next((problem for problem in inside if problem), None)


def _parts(schema: Schema) -> Iterator[tuple[str, Any]]:
    yield from schema.get("properties", {}).items()
    if "items" in schema:
        yield "items", schema["items"]
    for name in ("anyOf", "oneOf", "allOf"):
        yield from ((name, option) for option in schema.get(name, ()))


def check(value: Any, schema: Any, root: Schema, path: str = "") -> None:
    """Hold a value against a schema.

    Args:
        value: a JSON value.
        schema: what it is to be.
        root: the schema that references lead into.
        path: where the value stands, for the error.

    Raises:
        MismatchError: names the first place that doesn't fit, and why.
    """
    if schema is False:
        raise _mismatch(path, "nothing may stand here")
    if not isinstance(schema, Mapping):
        return
    schema = followed(schema, root)
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else list(kinds or _TYPES)
    if not any(_TYPES[name](value) for name in names if name in _TYPES):
        raise _mismatch(path, f"it is no {' or '.join(names)}: {_shown(value)}")
    options = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if options is not None and not any(_is_same(value, option) for option in options):
        raise _mismatch(path, f"it is none of {', '.join(map(_shown, options))}: {_shown(value)}")
    for look in (_check_number, _check_text, _check_object, _check_array, _check_choices):
        look(value, schema, root, path)


def _check_number(value: Any, schema: Schema, root: Schema, path: str) -> None:
    if not _TYPES["number"](value):
        return
    limits: dict[str, Callable[[Any], bool]] = {
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "multipleOf": lambda step: math.isclose(value / step, round(value / step), abs_tol=1e-9),
    }
    _check_limits(value, schema, limits, path)


def _check_text(value: Any, schema: Schema, root: Schema, path: str) -> None:
    if not isinstance(value, str):
        return
    limits: dict[str, Callable[[Any], bool]] = {
        "minLength": lambda limit: len(value) >= limit,
        "maxLength": lambda limit: len(value) <= limit,
        "pattern": lambda pattern: _matches(pattern, value),
    }
    _check_limits(value, schema, limits, path)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # JavaScript's patterns aren't all Python's
        return True


def _check_object(value: Any, schema: Schema, root: Schema, path: str) -> None:
    if not isinstance(value, dict):
        return
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        raise _mismatch(path, f"{missing[0]!r} is missing")
    known = schema.get("properties", {})
    other = schema.get("additionalProperties", True) if "patternProperties" not in schema else True
    for name, part in value.items():
        if name not in known and other is False:
            raise _mismatch(path, f"there may be no {name!r}")
        check(part, known.get(name, other), root, f"{path}.{name}".lstrip("."))


def _check_array(value: Any, schema: Schema, root: Schema, path: str) -> None:
    if not isinstance(value, list):
        return
    limits: dict[str, Callable[[Any], bool]] = {
        "minItems": lambda limit: len(value) >= limit,
        "maxItems": lambda limit: len(value) <= limit,
    }
    _check_limits(value, schema, limits, path)
    first = schema.get("prefixItems", ())
    for index, item in enumerate(value):
        part = first[index] if index < len(first) else schema.get("items", True)
        check(item, part, root, f"{path}.{index}".lstrip("."))


def _check_choices(value: Any, schema: Schema, root: Schema, path: str) -> None:
    for part in schema.get("allOf", ()):
        check(value, part, root, path)
    for name in ("anyOf", "oneOf"):
        errors = []
        for option in schema.get(name, ()):
            try:
                check(value, option, root, path)
            except MismatchError as error:
                errors.append(str(error))
        fitting = len(schema.get(name, ())) - len(errors)
        if name in schema and fitting == 0:
            raise MismatchError("; or ".join(dict.fromkeys(errors)))
        if name == "oneOf" and fitting > 1:
            raise _mismatch(path, "it fits more than one of oneOf")


def _check_limits(value: Any, schema: Schema, limits: Mapping[str, Callable[[Any], bool]], path: str) -> None:
    for name, is_met in limits.items():
        if name in schema and not is_met(schema[name]):
            raise _mismatch(path, f"{_shown(value)} doesn't meet {name} {schema[name]!r}")


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _mismatch(path: str, why: str) -> MismatchError:
    return MismatchError(f"{path}: {why}" if path else why)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]
