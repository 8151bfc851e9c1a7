"""Validate a value against a JSON Schema that a user wrote.

It implements all validation keywords of draft 2020-12. The checked values of `format` are date, time and date-time (RFC
3339), duration, email, hostname, ipv4, ipv6, uri and uuid; other formats, `content…` and unknown keywords are ignored,
as the draft requires. Python types don't need this: pydantic has their validators.

The cost is bounded by the product of the sizes of value and schema, because each pair of an object or list and a schema
is checked once and remembered, however many references lead there.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

from mellea.core.structured.kinds import make_json_key
from mellea.core.structured.patterns import compile_pattern
from mellea.core.structured.schema import Schema, resolve_reference

__all__ = ["JSON_TYPES", "MismatchError", "check"]

_Seen = frozenset[Any]  # keys or indexes that a schema has evaluated, for the keywords `unevaluated…`
_NONE: _Seen = frozenset()

JSON_TYPES: dict[str, Callable[[Any], bool]] = {
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


# -- the values of `format` that are checked (JSON Schema 2020-12, section 7.3)

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d:\d\d)(?:\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
# ISO 8601 as in appendix A of RFC 3339. The number of digits is limited, since a model wrote the text.
_DURATION = re.compile(
    r"P(?!\Z)(?:\d{1,12}W|(?:\d{1,12}Y)?(?:\d{1,12}M)?(?:\d{1,12}D)?(?:T(?!\Z)(?:\d{1,12}H)?(?:\d{1,12}M)?(?:\d{1,12}S)?)?)",
    re.ASCII,
)
# RFC 1123: letters, digits and hyphens, up to 63 of them, no hyphen at either end.
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
# RFC 5321 without quoted local parts, which models don't write and hardly any mail server accepts.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+", re.ASCII)


def _make_predicate(read: Callable[[str], object]) -> Callable[[str], bool]:
    def is_read(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return is_read


_is_day = _make_predicate(datetime.date.fromisoformat)
_is_clock = _make_predicate(datetime.time.fromisoformat)


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None and _is_day(text)


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    # 60 is a leap second, which Python doesn't know.
    return found is not None and _is_clock(found[1].replace(":60", ":59") + found[2].upper())


def _is_hostname(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _is_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    is_local = _LOCAL.fullmatch(local) is not None and not local.startswith(".") and ".." not in local
    return bool(at) and is_local and not local.endswith(".") and _is_hostname(domain)


FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _is_date,
    "date-time": lambda text: text[10:11] in ("T", "t", " ") and _is_date(text[:10]) and _is_time(text[11:]),
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _make_predicate(ipaddress.IPv4Address),
    "ipv6": _make_predicate(ipaddress.IPv6Address),
    "time": _is_time,
    "uri": lambda text: _URI.fullmatch(text) is not None,
    # `uuid.UUID` also takes braces, URNs and forms without hyphens, which the format doesn't.
    "uuid": lambda text: len(text) == 36 and _make_predicate(uuid.UUID)(text),
}


class MismatchError(ValueError):
    """A JSON value doesn't match its schema."""


def check(value: Any, schema: Any, root: Schema, path: str = "") -> None:
    """Validate a value against a schema.

    Args:
        value: a JSON value.
        schema: the schema.
        root: the schema that references are resolved in.
        path: the path of the value, for the error.

    Raises:
        MismatchError: names the first place that doesn't match, and why.
    """
    try:
        _Checker(root).look(value, schema, path)
    except RecursionError:
        raise _make_mismatch(path, "it is nested too deeply to be checked") from None


class _Checker:
    """Validates values against the parts of one schema."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._known: dict[tuple[int, int], _Seen | MismatchError | None] = {}

    def look(self, value: Any, schema: Any, path: str) -> _Seen:
        """Validate a value, and return the keys or indexes of it that the schema has evaluated."""
        if schema is False:
            raise _make_mismatch(path, "no value is allowed here")
        # `True`, and anything that isn't a schema, allows everything (JSON Schema 2020-12, core, 4.3.2).
        if not isinstance(schema, Mapping):
            return _NONE
        # Scalars can't recurse, and caching them costs more than checking them again.
        if not isinstance(value, (dict, list)):
            return self._look(value, schema, path)
        # Cached, because nested `anyOf` would check the same part exponentially often.
        key = (id(value), id(schema))
        if key not in self._known:
            self._known[key] = None  # in progress, to detect a schema that refers to itself
            try:
                self._known[key] = self._look(value, schema, path)
            except MismatchError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, MismatchError):
            # The same error may be raised many times; without this, each raise adds its frames to it.
            raise known.with_traceback(None)
        if known is None:
            raise _make_mismatch(path, "the schema refers to itself endlessly")
        return known

    def _look(self, value: Any, schema: Schema, path: str) -> _Seen:
        kinds = schema.get("type")
        names = [kinds] if isinstance(kinds, str) else kinds
        if names is not None and not any(JSON_TYPES[name](value) for name in names if name in JSON_TYPES):
            raise _make_mismatch(path, f"should be {' or '.join(names)}, not {_format_value(value)}")
        seen: set[Any] = set()
        for keywords, rule in _get_rules(value):
            # Keywords of other types of values are ignored, as the standard says (validation, 4.2).
            if not keywords.isdisjoint(schema):
                seen |= rule(self, value, schema, path)
        if isinstance(value, (dict, list)):
            # Last, since it is about everything that no other keyword has checked.
            last = "unevaluatedProperties" if isinstance(value, dict) else "unevaluatedItems"
            seen |= self._check_unevaluated(value, schema[last], path, seen) if last in schema else _NONE
        return frozenset(seen)

    def _check_unevaluated(self, value: Any, schema: Any, path: str, seen: set[Any]) -> _Seen:
        others = [name for name in (value if isinstance(value, dict) else range(len(value))) if name not in seen]
        for name in others:
            self._check_part(value, name, schema, path)
        return frozenset(others)

    def _check_part(self, value: Any, name: Any, schema: Any, path: str) -> None:
        if schema is False:
            raise _make_mismatch(path, f"{name!r} isn't allowed")
        self.look(value[name], schema, f"{path}.{name}".lstrip("."))

    def fits(self, value: Any, schema: Any, path: str) -> bool:
        """Whether a value matches."""
        try:
            self.look(value, schema, path)
        except MismatchError:
            return False
        return True

    def check_ref(self, value: Any, schema: Schema, path: str) -> _Seen:
        return self.look(value, resolve_reference(schema["$ref"], self._root), path)

    def check_all_of(self, value: Any, schema: Schema, path: str) -> _Seen:
        return _NONE.union(*[self.look(value, part, path) for part in schema["allOf"]])

    def check_any_of(self, value: Any, schema: Schema, path: str) -> _Seen:
        seen = self._collect_fitting(value, schema["anyOf"], path)
        return _NONE.union(*seen)

    def check_one_of(self, value: Any, schema: Schema, path: str) -> _Seen:
        seen = self._collect_fitting(value, schema["oneOf"], path)
        # Counted after all of them have been tried, because the message says how many fit.
        if len(seen) > 1:
            raise _make_mismatch(path, f"fits {len(seen)} schemas of oneOf, which allows one")
        return seen[0]

    def _collect_fitting(self, value: Any, options: Iterable[Any], path: str) -> list[_Seen]:
        seen, errors = [], []
        for option in options:
            try:
                seen.append(self.look(value, option, path))
            except MismatchError as error:
                errors.append(str(error))
        if not seen:
            # Members of a union often fail for the same reason, which is reported once.
            raise MismatchError("; or ".join(dict.fromkeys(errors)))
        return seen

    def check_not(self, value: Any, schema: Schema, path: str) -> _Seen:
        if self.fits(value, schema["not"], path):
            raise _make_mismatch(path, f"{_format_value(value)} is excluded by 'not'")
        return _NONE

    def check_if(self, value: Any, schema: Schema, path: str) -> _Seen:
        try:
            seen, then = self.look(value, schema["if"], path), schema.get("then", True)
        except MismatchError:
            seen, then = _NONE, schema.get("else", True)
        return seen | self.look(value, then, path)

    def check_choice(self, value: Any, schema: Schema, path: str) -> _Seen:
        options = [schema["const"]] if "const" in schema else schema["enum"]
        # By JSON's equality: `1` equals `1.0`, but `true` doesn't equal `1`, as it does in Python.
        key = make_json_key(value)
        if not any(make_json_key(option) == key for option in options):
            raise _make_mismatch(
                path, f"should be {' or '.join(map(_format_value, options[:20]))}, not {_format_value(value)}"
            )
        return _NONE

    def check_properties(self, value: Any, schema: Schema, path: str) -> _Seen:
        """Check an object's values: by name, by patterns of names, and the remaining ones."""
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        matchers = [(compile_pattern(pattern), part) for pattern, part in patterns.items()]
        seen = set()
        for name in value:
            parts = [known[name]] if name in known else []
            parts += [part for matches, part in matchers if matches(name)]
            if not parts and "additionalProperties" in schema:
                parts = [schema["additionalProperties"]]
            for part in parts:
                self._check_part(value, name, part, path)
                seen.add(name)
        return frozenset(seen)

    def check_property_names(self, value: Any, schema: Schema, path: str) -> _Seen:
        for name in value:
            try:
                self.look(name, schema["propertyNames"], "")
            except MismatchError as error:
                raise _make_mismatch(path, f"{name!r} isn't allowed as a key: {error}") from None
        return _NONE

    def check_dependent(self, value: Any, schema: Schema, path: str) -> _Seen:
        found = [part for name, part in schema["dependentSchemas"].items() if name in value]
        return _NONE.union(*[self.look(value, part, path) for part in found])

    def items(self, value: Any, schema: Schema, path: str) -> _Seen:
        first = schema.get("prefixItems", ())
        for index in range(len(value)):
            if index < len(first):
                self._check_part(value, index, first[index], path)
            elif "items" in schema:
                self._check_part(value, index, schema["items"], path)
        return frozenset(range(len(value) if "items" in schema else min(len(first), len(value))))

    def check_contains(self, value: Any, schema: Schema, path: str) -> _Seen:
        found = [index for index, item in enumerate(value) if self.fits(item, schema["contains"], path)]
        # Both only count together with `contains`; the default lower limit is 1.
        least, most = schema.get("minContains", 1), schema.get("maxContains", len(value))
        if not least <= len(found) <= most:
            raise _make_mismatch(path, f"holds {len(found)} items that fit 'contains', not {least} to {most}")
        return frozenset(found)


_Rule = Callable[[_Checker, Any, Schema, str], _Seen]


_Rules = tuple[tuple[frozenset[str], _Rule], ...]


def _make_rules(*rules: tuple[str, _Rule]) -> _Rules:
    return tuple((frozenset(names.split()), rule) for names, rule in rules)


def _make_limit(name: str, is_met: Callable[[Any, Any], bool]) -> tuple[str, _Rule]:
    def rule(checker: _Checker, value: Any, schema: Schema, path: str) -> _Seen:
        if not is_met(value, schema[name]):
            raise _make_mismatch(path, f"{_format_value(value)} doesn't meet {name} {schema[name]!r}")
        return _NONE

    return name, rule


def _check_required(checker: _Checker, value: Any, schema: Schema, path: str) -> _Seen:
    wanted = list(schema.get("required", ()))
    for name, others in schema.get("dependentRequired", {}).items():
        wanted += others if name in value else ()
    if missing := [name for name in wanted if name not in value]:
        raise _make_mismatch(path, f"{missing[0]!r} is missing")
    return _NONE


def _is_multiple(value: Any, step: Any) -> bool:
    return math.isfinite(value) and Fraction(str(value)) % Fraction(str(step)) == 0


def _is_unique(value: list[Any], wanted: bool) -> bool:
    return not wanted or len({make_json_key(item) for item in value}) == len(value)


_ANY = _make_rules(
    ("const enum", _Checker.check_choice),
    ("$ref", _Checker.check_ref),
    ("allOf", _Checker.check_all_of),
    ("anyOf", _Checker.check_any_of),
    ("oneOf", _Checker.check_one_of),
    ("not", _Checker.check_not),
    ("if", _Checker.check_if),
)
_NUMBER = _ANY + _make_rules(
    _make_limit("minimum", lambda value, limit: value >= limit),
    _make_limit("maximum", lambda value, limit: value <= limit),
    _make_limit("exclusiveMinimum", lambda value, limit: value > limit),
    _make_limit("exclusiveMaximum", lambda value, limit: value < limit),
    _make_limit("multipleOf", _is_multiple),
)
_TEXT = _ANY + _make_rules(
    _make_limit("minLength", lambda value, limit: len(value) >= limit),
    _make_limit("maxLength", lambda value, limit: len(value) <= limit),
    _make_limit("pattern", lambda value, pattern: compile_pattern(pattern)(value)),
    _make_limit("format", lambda value, name: name not in FORMATS or FORMATS[name](value)),
)
_ARRAY = _ANY + _make_rules(
    _make_limit("minItems", lambda value, limit: len(value) >= limit),
    _make_limit("maxItems", lambda value, limit: len(value) <= limit),
    _make_limit("uniqueItems", _is_unique),
    ("items prefixItems", _Checker.items),
    ("contains", _Checker.check_contains),
)
_OBJECT = _ANY + _make_rules(
    ("required dependentRequired", _check_required),
    _make_limit("minProperties", lambda value, limit: len(value) >= limit),
    _make_limit("maxProperties", lambda value, limit: len(value) <= limit),
    ("properties patternProperties additionalProperties", _Checker.check_properties),
    ("propertyNames", _Checker.check_property_names),
    ("dependentSchemas", _Checker.check_dependent),
)


def _get_rules(value: Any) -> _Rules:
    if isinstance(value, dict):
        return _OBJECT
    if isinstance(value, list):
        return _ARRAY
    if isinstance(value, str):
        return _TEXT
    return _NUMBER if JSON_TYPES["number"](value) else _ANY


def _make_mismatch(path: str, why: str) -> MismatchError:
    return MismatchError(f"{path}: {why}" if path else why)


def _format_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]
