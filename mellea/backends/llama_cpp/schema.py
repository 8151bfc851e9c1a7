"""Rewrites a JSON Schema as a grammar that the engine really enforces.

The engine (LLGuidance) drops the whole constraint, without an error, for a keyword that it doesn't know.
So the schema is rewritten from the keywords that are known to be enforced, and anything else is rejected
with its path. The result is narrower, never wider, because a small model uses every freedom to go on:

- no whitespace but one space after `,` and `:`;
- no properties beyond the declared ones, unless the schema allows them explicitly;
- limits where the schema has none: `MAX_LENGTH` characters, `MAX_ITEMS` items or keys, integers that fit
  a double, 9 decimals.

`oneOf` is enforced as `anyOf`, and `uniqueItems` at most by a limit; mellea validates every answer anyway. An object
whose keys are all known (`propertyNames` with an `enum`) becomes one that has these properties.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from mellea.backends.llama_cpp.budget import DefaultLimit, share_out
from mellea.backends.llama_cpp.pattern import explain_unsupported
from mellea.core.structured.schema import follow_references
from mellea.errors import UnsupportedError

__all__ = ["MAX_ITEMS", "MAX_LENGTH", "write_grammar"]

MAX_LENGTH = 4000
"""Characters of a string without a `maxLength`, where there are tokens for them (`budget.py`)."""

MAX_ITEMS = 100
"""Items of an array, or keys of an object, without a limit, where there are tokens for them."""

_MAX_COUNT = 20_000
"""The engine aborts the process at counts of 10**9, and drops the constraint from about 100,000."""

_MAX_INTEGER = 2**53 - 1
_DECIMALS = 1e-9
_MAX_NUMBER = 1e15

_ANNOTATIONS = frozenset(
    {"$anchor", "$comment", "$defs", "$id", "$schema", "contentEncoding", "contentMediaType", "contentSchema"}
    | {
        "default",
        "definitions",
        "deprecated",
        "description",
        "discriminator",
        "example",
        "examples",
        "readOnly",
        "title",
    }
    | {"writeOnly"}
)
_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_FORMATS = {"date-time": 32, "time": 21, "date": 10}  # characters at most
_FORMATS |= {"hostname": 253, "ipv4": 15, "ipv6": 45, "uuid": 36}
# These describe a value's meaning, not which texts are valid.
_LOOSE_FORMATS = frozenset(
    {"binary", "byte", "directory-path", "double", "file-path", "float", "int32", "int64", "json-string"}
    | {"password", "path"}
)
# The parts of a duration (RFC 3339, appendix A), each with what may follow it.
_SECONDS = "[0-9]{1,4}S"
_MINUTES = f"[0-9]{{1,4}}M(?:{_SECONDS})?"
_TIME = f"T(?:[0-9]{{1,4}}H(?:{_MINUTES})?|{_MINUTES}|{_SECONDS})"
_DAYS = "[0-9]{1,4}D"
_MONTHS = f"[0-9]{{1,4}}M(?:{_DAYS})?"
_DATE = f"(?:[0-9]{{1,4}}Y(?:{_MONTHS})?|{_MONTHS}|{_DAYS})"
# The engine doesn't know these, or only without limits: a small model writes digits and letters to the token limit.
_SPELLED_FORMATS = {
    "duration": f"^P(?:{_DATE}(?:{_TIME})?|{_TIME}|[0-9]{{1,4}}W)$",
    "email": r"^[A-Za-z0-9]{1,16}(?:[._+\-][A-Za-z0-9]{1,16}){0,2}@(?:[A-Za-z0-9]{1,20}[.\-]){1,4}[a-z]{2,10}$",
    "uri": r"^[a-z][a-z0-9+.\-]*://([a-z0-9]+[.\-])*[a-z][a-z0-9]*(:[1-9][0-9]{0,3})?([/?][!$&-;=?-Z_a-z~]*)?$",
    "base64": "^(?:[A-Za-z0-9+/]{4})*$",
    "base64url": "^(?:[A-Za-z0-9_-]{4})*$",
    **{
        f"uuid{n}": f"^[0-9a-f]{{8}}-[0-9a-f]{{4}}-{n}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$"
        for n in range(1, 9)
    },
}
_KEY_PATTERNS = {
    "date": "^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])$",
    "uuid": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
}
"""Formats of keys, which the engine knows by patterns only."""

# What pydantic writes for Decimal has a look-ahead.
_PATTERNS = {r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$": r"^[+-]?\d{1,30}(?:\.\d{1,30})?$"}
_LIKE_A_MARK = re.compile(r"<|\[/?[A-Z]")
"""How the control tokens of models begin: `<|im_end|>`, `[INST]`."""

_UNBOUNDED = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


def write_grammar(schema: Mapping[str, Any], max_tokens: int = _MAX_COUNT) -> str:
    """Return the grammar of the JSON texts that match the schema.

    Args:
        schema: the JSON Schema.
        max_tokens: of the answer; what the schema doesn't limit is limited so that it fits.

    Raises:
        UnsupportedError: the schema has a keyword that can't be enforced; the message names it and its path.
    """
    try:
        body = _GrammarSubset(schema).rewrite()
        # After rewriting, when all default limits are marked as such.
        share_out(body, max_tokens)
        return _write_grammar(body)
    except RecursionError as error:
        raise _make_unsupported_error("a schema nested as deep as this", "#") from error


def _write_grammar(body: dict[str, Any]) -> str:
    body["x-guidance"] = {
        # With free white space, a small model would write blanks until its tokens are used up.
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
        "coerce_one_of": True,
    }
    try:
        text = json.dumps(body, allow_nan=False)
        # If only one text is valid, the engine tokenises it as a whole, and would turn a mark in it into a control
        # token (llguidance 1.x, November 2026); so it has to be chosen token by token, which is slower.
        options = '{"no_forcing": true}' if _LIKE_A_MARK.search(text) else "{}"
        return f"%llguidance {options}\nstart: %json {text}"
    except (TypeError, ValueError) as error:
        raise _make_unsupported_error(f"a value that JSON doesn't have ({error})", "#") from error


class _GrammarSubset:
    """Rewrites a schema; the target of a `$ref` becomes a definition with a generated name."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._names: dict[tuple[str, bool], str] = {}
        self._definitions: dict[str, Any] = {}
        self._keywords: dict[str, Callable[[Any, str, bool], Any]] = {
            "$ref": self._write_ref,
            "additionalProperties": self._write_schema,
            "allOf": lambda value, path, is_open: self._list(value, path, True),
            "anyOf": self._list,
            "const": _write_literal,
            "enum": _write_enum,
            "exclusiveMaximum": _number,
            "exclusiveMinimum": _number,
            "format": _format,
            "items": self._write_schema,
            "maxItems": _write_most,
            "maxLength": _write_most,
            "maxProperties": _write_most,
            "maximum": _number,
            "minItems": _write_least,
            "minLength": _write_least,
            "minProperties": _write_least,
            "minimum": _number,
            "multipleOf": _number,
            "oneOf": self._list,
            "pattern": _write_pattern,
            "patternProperties": self._write_patterns,
            "prefixItems": self._list,
            "properties": self._write_properties,
            "required": _write_names,
            "type": _write_type,
        }

    def rewrite(self) -> dict[str, Any]:
        body = self._write_schema(self._root, "#", False)
        if not isinstance(body, dict):
            raise _make_unsupported_error(f"the schema {self._root!r}", "#")
        return body | ({"$defs": self._definitions} if self._definitions else {})

    def _write_schema(self, schema: Any, path: str, is_open: bool) -> Any:
        """Rewrite one schema; `is_open` if several schemas apply to one value and must allow each other's
        properties."""
        if isinstance(schema, bool):
            return schema
        if not _has_names(schema):
            raise _make_unsupported_error(f"{schema!r} as a schema", path)
        # Annotations don't restrict anything, and the engine rejects unknown keywords.
        stated = {name: value for name, value in schema.items() if not _is_annotation(name, value)}
        stated = self._with_known_names(self._limit_known_items(stated))
        # If two schemas apply to one value, an object closed by one would forbid the properties of the other.
        is_shared = is_open or (len(stated) > 1 and bool(stated.keys() & {"$ref", "allOf", "anyOf", "oneOf"}))
        new: dict[str, Any] = {}
        for name, value in stated.items():
            if name not in self._keywords:
                raise _make_unsupported_error(f"the keyword {name!r}", path)
            # An unknown keyword is an error, not dropped: a grammar that allows too much is worse than none.
            _put(new, name, self._keywords[name](value, f"{path}/{name}", is_shared))
        return _narrow(new, path, is_shared)

    def _limit_known_items(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Limit an array without duplicates to the number of possible items; the engine can't enforce more."""
        if "uniqueItems" not in schema:
            return schema
        new = {name: value for name, value in schema.items() if name != "uniqueItems"}
        # With enumerated values, an array without duplicates has at most as many items as values.
        values = self._list_values(schema.get("items"))
        if values is not None:
            new["maxItems"] = min(len(values), schema.get("maxItems", len(values)))
        return new

    def _with_known_names(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Write an object with enumerated keys, such as a `dict[Enum, T]`, with a property for each."""
        wanted = schema.get("propertyNames")
        names = self._list_values(wanted)
        pattern = _find_name_pattern(wanted)
        if "patternProperties" in schema or (names is None and pattern is None):
            return schema
        new = {name: value for name, value in schema.items() if name not in ("propertyNames", "additionalProperties")}
        others, known = schema.get("additionalProperties", {}), schema.get("properties", {})
        if names is None:
            return new | {"patternProperties": {pattern: others}, "additionalProperties": False}
        texts = [name for name in names if isinstance(name, str)]
        return new | {"properties": {name: known.get(name, others) for name in texts}, "additionalProperties": False}

    def _list_values(self, schema: Any) -> list[Any] | None:
        """Return the values that a schema names, `None` if it names none."""
        if not isinstance(schema, Mapping):
            return None
        schema = follow_references(schema, self._root)
        if schema.get("type") == "boolean":
            return [True, False]
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        return values if isinstance(values, list) else None

    def _list(self, schemas: Any, path: str, is_open: bool) -> list[Any]:
        if not isinstance(schemas, list) or not schemas:
            raise _make_unsupported_error(f"{schemas!r}", path)
        return [self._write_schema(schema, f"{path}/{index}", is_open) for index, schema in enumerate(schemas)]

    def _write_properties(self, schemas: Any, path: str, is_open: bool) -> dict[str, Any]:
        if not _has_names(schemas):
            raise _make_unsupported_error(f"{schemas!r}", path)
        return {name: self._write_schema(schema, f"{path}/{name}", is_open) for name, schema in schemas.items()}

    def _write_patterns(self, schemas: Any, path: str, is_open: bool) -> dict[str, Any]:
        for pattern in schemas if isinstance(schemas, Mapping) else ():
            _write_pattern(pattern, path, is_open)
        return self._write_properties(schemas, path, is_open)

    def _write_ref(self, pointer: Any, path: str, is_open: bool) -> str:
        target = self._resolve(pointer, path)
        # Twice if necessary: open and closed versions of one definition differ.
        key = (pointer, is_open)
        if key not in self._names:
            # Named before it is written, so that a recursive schema can refer to it.
            name = self._names[key] = f"d{len(self._names)}"
            self._definitions[name] = self._write_schema(target, str(pointer), is_open)
        return f"#/$defs/{self._names[key]}"

    def _resolve(self, pointer: Any, path: str) -> Any:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise _make_unsupported_error(f"the reference {pointer!r}, which points outside the schema,", path)
        target: Any = self._root
        for step in pointer.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(name)] if isinstance(target, list) else target[name]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise _make_unsupported_error(f"the reference {pointer!r}, which points at nothing,", path) from error
        return target


def _find_name_pattern(schema: Any) -> str | None:
    """Return the pattern that the keys of an object have to match, if their schema says no more than that."""
    if not isinstance(schema, Mapping) or len(schema.keys() - {"type", "title"}) != 1:
        return None
    return schema.get("pattern") or _KEY_PATTERNS.get(schema.get("format", ""))


def _has_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_annotation(name: str, value: Any) -> bool:
    return name in _ANNOTATIONS or name.startswith("x-") or (name == "uniqueItems" and value is False)


def _put(new: dict[str, Any], name: str, value: Any) -> None:
    if name != "format":
        new[name] = value
    elif value in _SPELLED_FORMATS:
        new.setdefault("pattern", _SPELLED_FORMATS[value])
    elif value is not None:
        new["format"] = value


def _narrow(schema: dict[str, Any], path: str, is_shared: bool) -> dict[str, Any]:
    if "properties" in schema:
        schema.setdefault("type", "object")
        # Small models go on inventing keys as long as the grammar lets them.
        if not is_shared and "patternProperties" not in schema:
            schema.setdefault("additionalProperties", False)
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "const" not in schema and "enum" not in schema:
        _limit(schema, kinds, is_shared)
    _check_satisfiable(schema, path)
    return schema


def _limit(schema: dict[str, Any], kinds: list[str], is_shared: bool) -> None:
    if "string" in kinds:
        limit = _FORMATS.get(schema.get("format", ""), MAX_LENGTH)
        # Without a limit a text may go on until the tokens are used up, and the JSON is never closed.
        schema.setdefault("maxLength", DefaultLimit(max(limit, schema.get("minLength", 0))))
    if "array" in kinds and schema.get("items") is not False:
        is_tuple = "prefixItems" in schema and "items" not in schema
        limit = len(schema["prefixItems"]) if is_tuple else DefaultLimit(max(MAX_ITEMS, schema.get("minItems", 0)))
        schema.setdefault("maxItems", max(limit, schema.get("minItems", 0)))
    if "object" in kinds and schema.get("additionalProperties") is not False:
        least = max(schema.get("minProperties", 0), len(schema.get("properties", ())) + len(schema.get("required", ())))
        schema.setdefault("maxProperties", DefaultLimit(max(MAX_ITEMS, least)))
    if "number" in kinds and not is_shared:
        # A number could have endless decimals, too.
        schema.setdefault("multipleOf", _DECIMALS)
        _bound(schema, _MAX_NUMBER)
    elif "integer" in kinds:
        _bound(schema, _MAX_INTEGER)


def _bound(schema: dict[str, Any], limit: float) -> None:
    # A larger value in the schema itself means that such numbers are wanted.
    stated = [schema[name] for names in _UNBOUNDED for name in names if name in schema]
    if all(abs(value) < limit for value in stated):
        if not schema.keys() & set(_UNBOUNDED[0]):
            schema["minimum"] = -limit
        if not schema.keys() & set(_UNBOUNDED[1]):
            schema["maximum"] = limit


def _check_satisfiable(schema: Mapping[str, Any], path: str) -> None:
    for low, high in (
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
        ("minimum", "maximum"),
    ):
        if schema.get(low, -math.inf) > schema.get(high, math.inf):
            raise _make_unsupported_error(f"{low!r} above {high!r}, which no value matches,", path)
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        missing = [name for name in schema.get("required", ()) if name not in schema.get("properties", {})]
        if missing:
            raise _make_unsupported_error(f"the required property {missing[0]!r}, which isn't declared,", path)


def _write_type(value: Any, path: str, is_open: bool) -> Any:
    kinds = value if isinstance(value, list) else [value]
    if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        raise _make_unsupported_error(f"the type {value!r}", path)
    return value


def _write_enum(value: Any, path: str, is_open: bool) -> Any:
    if not isinstance(value, list) or not value:
        raise _make_unsupported_error(f"{value!r}", path)
    return value


def _write_literal(value: Any, path: str, is_open: bool) -> Any:
    return value


def _write_names(value: Any, path: str, is_open: bool) -> Any:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _make_unsupported_error(f"{value!r}", path)
    return value


def _write_most(value: Any, path: str, is_open: bool) -> int:
    # Narrower than the schema, but such a long answer would take too long anyway.
    return min(_count(value, path), _MAX_COUNT)


def _write_least(value: Any, path: str, is_open: bool) -> int:
    if (count := _count(value, path)) > _MAX_COUNT:
        raise _make_unsupported_error(f"a count above {_MAX_COUNT:,}", path)
    return count


def _count(value: Any, path: str) -> int:
    is_whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (is_whole or isinstance(value, int)) or value < 0:
        raise _make_unsupported_error(f"{value!r}", path)
    return int(value)


def _number(value: Any, path: str, is_open: bool) -> Any:
    is_infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or is_infinite:
        raise _make_unsupported_error(f"{value!r}", path)
    return value


def _write_pattern(value: Any, path: str, is_open: bool) -> str:
    if not isinstance(value, str):
        raise _make_unsupported_error(f"{value!r}", path)
    pattern = _PATTERNS.get(value, value)
    if (reason := explain_unsupported(pattern)) is not None:
        raise _make_unsupported_error(f"the pattern {value!r} ({reason})", path)
    return pattern


def _format(value: Any, path: str, is_open: bool) -> str | None:
    if not isinstance(value, str):
        raise _make_unsupported_error(f"{value!r}", path)
    if value in _LOOSE_FORMATS:
        return None
    if value not in _FORMATS and value not in _SPELLED_FORMATS:
        known = ", ".join(sorted([*_FORMATS, *_SPELLED_FORMATS]))
        raise _make_unsupported_error(f"the format {value!r} (it knows {known})", path)
    return value


def _make_unsupported_error(what: str, path: str) -> UnsupportedError:
    return UnsupportedError(
        f"the embedded model can't enforce {what} at {path!r} of the schema; "
        "leave it out there and check it in the answer instead",
        backend="llama_cpp",
    )
