"""Find out whether any value can match a schema, so that an impossible format is an error where it is written.

It finds empty enums, `false`, contradictory limits, required properties that aren't allowed, and values that would have
to contain themselves endlessly. A schema is only called impossible if that is certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mellea.core.structured.schema import Schema, iterate_parts, resolve_reference
from mellea.core.structured.schema_check import MismatchError, check

__all__ = ["explain_impossible"]


def explain_impossible(schema: Schema) -> str | None:
    """Return why no value can match a schema, or `None` if one can or it isn't certain."""
    return _Search(schema).explain()


class _Search:
    """Finds the parts of a schema that have a value.

    A recursive schema has one if some part of it can be built without recursion. References therefore count as
    impossible at first; each round marks those that need only possible ones, until a round finds no more.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._possible = dict.fromkeys(_collect_references(root), False)  # until a value is found
        self._open: list[str] = []

    def explain(self) -> str | None:
        # A fixed point: a schema that refers to itself counts as impossible until a finite value has been found. Each
        # round builds on the previous one, so there are at most as many rounds as references.
        is_news = True
        while is_news:
            is_news = False
            for pointer in [pointer for pointer, is_possible in self._possible.items() if not is_possible]:
                if self._explain(resolve_reference(pointer, self._root), "") is None:
                    self._possible[pointer] = is_news = True
        return self._explain(self._root, "", explain=True)

    def _explain(self, schema: Any, place: str, *, explain: bool = False) -> str | None:
        if schema is False:
            return _place(place, "nothing is allowed")
        if not isinstance(schema, Mapping):
            return None
        for look in (
            self._check_reference,
            self._check_choices,
            self._check_values,
            self._check_all_of,
            self._check_not,
        ):
            if (why := look(schema, place, explain)) is not None:
                return why
        return self._check_limits(schema, place, explain)

    def _check_reference(self, schema: Schema, place: str, explain: bool) -> str | None:
        pointer = schema.get("$ref")
        # A dangling reference allows anything, so it is possible.
        if not isinstance(pointer, str) or self._possible.get(pointer, True):
            return None
        if not explain or pointer in self._open:
            return _place(place, "it would have to contain itself endlessly")
        # Only for the explanation: it leads to the innermost reason, and ends where the schema refers to itself.
        self._open.append(pointer)
        why = self._explain(resolve_reference(pointer, self._root), place, explain=True)
        self._open.pop()
        return why

    def _check_choices(self, schema: Schema, place: str, explain: bool) -> str | None:
        for name in ("anyOf", "oneOf"):
            options = schema.get(name, ())
            whys = [self._explain(option, place, explain=explain) for option in options]
            # The first reason is enough; all of them would be a wall of text.
            if options and all(whys):
                return whys[0]
        return None

    def _check_all_of(self, schema: Schema, place: str, explain: bool) -> str | None:
        parts = schema.get("allOf", ())
        whys = (self._explain(part, place, explain=explain) for part in parts)
        if why := next(filter(None, whys), None):
            return why
        # More than this would need a solver. It errs on the safe side: anything not proved impossible passes.
        kinds = [_get_types(part) for part in (schema, *parts) if isinstance(part, Mapping) and "type" in part]
        if kinds and not set.intersection(*kinds):
            return _place(place, "its types exclude each other")
        return None

    def _check_values(self, schema: Schema, place: str, explain: bool) -> str | None:
        """Check whether one of the enumerated values matches the other keywords; references are assumed to match."""
        if not {"enum", "const"} & schema.keys():
            return None
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not values:
            return _place(place, "its list of values is empty")
        try:
            fits = any(_fits(value, schema, self._root) for value in values)
        except RecursionError:
            return None
        return None if fits else _place(place, f"none of the values {values!r} fits the rest of the schema")

    def _check_not(self, schema: Schema, place: str, explain: bool) -> str | None:
        return _place(place, "'not' excludes everything") if schema.get("not", False) in (True, {}) else None

    def _check_limits(self, schema: Schema, place: str, explain: bool) -> str | None:
        """Check the limits of each allowed type; it is enough if one of them has a value."""
        if "type" not in schema:
            return None
        looks: dict[str, Callable[[Schema, str, bool], str | None]] = {
            "array": self._check_array,
            "integer": _check_number,
            "number": _check_number,
            "object": self._check_object,
            "string": _check_text,
        }
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        whys = [looks[kind](schema, place, explain) if kind in looks else None for kind in kinds]
        if not kinds:
            return _place(place, "no type is allowed")
        return whys[0] if all(whys) else None

    def _check_array(self, schema: Schema, place: str, explain: bool) -> str | None:
        least = schema.get("minItems", 0)
        if least > schema.get("maxItems", math.inf):
            return _place(place, "minItems is above maxItems")
        first, others = schema.get("prefixItems", ()), schema.get("items", True)
        # Only required values: an impossible item is fine in an array that may be empty.
        needed = [*first[: int(least)], *([others] if least > len(first) else [])]
        # With `minContains: 0` nothing has to match (2020-12, validation, 6.4.5).
        if schema.get("minContains", 1) > 0:
            needed += [schema["contains"]] if "contains" in schema else []
        whys = (self._explain(part, f"{place}[]", explain=explain) for part in needed)
        return next(filter(None, whys), None)

    def _check_object(self, schema: Schema, place: str, explain: bool) -> str | None:
        known, required = schema.get("properties", {}), list(dict.fromkeys(schema.get("required", ())))
        is_closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
        for name in required:
            if name not in known and is_closed:
                return _place(place, f"the property {name!r} is required but not allowed")
            if why := self._explain(known.get(name, True), f"{place}.{name}".lstrip("."), explain=explain):
                return why
        # A closed object has no more properties than it declares.
        if max(least, len(required)) > min(most, len(known) if is_closed else math.inf):
            return _place(place, "it requires more properties than it allows")
        return None


def _collect_references(schema: Any) -> set[str]:
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            found |= {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            waiting += [part for _, part in iterate_parts(node)]
    return found


def _get_types(schema: Schema) -> set[str]:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    # Every integer is a number, so the two don't exclude each other.
    return {*kinds, *(("integer",) if "number" in kinds else ())}


def _fits(value: Any, schema: Schema, root: Schema) -> bool:
    # References may be circular, and have already been checked on their own.
    own = {name: rest for name, rest in schema.items() if name != "$ref"}
    try:
        check(value, own, root)
    except MismatchError:
        return False
    return True


def _check_number(schema: Schema, place: str, explain: bool) -> str | None:
    least, most = _get_bound(schema, "minimum", -math.inf), _get_bound(schema, "maximum", math.inf)
    above, below = _get_bound(schema, "exclusiveMinimum", -math.inf), _get_bound(schema, "exclusiveMaximum", math.inf)
    low, high = max(least, above), min(most, below)
    if low > high or (low == high and (above == low or below == high)):
        return _place(place, "its lower limit is above its upper limit")
    step = _get_step(schema)
    if step is None or abs(low) == math.inf or abs(high) == math.inf:
        return None
    # With fractions, since 0.3 / 0.1 isn't 3 as floats.
    lowest, highest = _make_exact(low) / step, _make_exact(high) / step
    first = math.floor(lowest) + 1 if above == low else math.ceil(lowest)
    last = math.ceil(highest) - 1 if below == high else math.floor(highest)
    what = "integer" if step == 1 else f"multiple of {schema['multipleOf']}"
    return _place(place, f"its limits leave no {what} between them") if first > last else None


def _get_bound(schema: Schema, name: str, default: float) -> float:
    bound: float = schema.get(name, default)
    return default if isinstance(bound, bool) else bound  # a boolean in draft 4


def _get_step(schema: Schema) -> Fraction | None:
    """Return the number that every value is a multiple of, or `None`."""
    step = _make_exact(schema["multipleOf"]) if "multipleOf" in schema else None
    if schema["type"] == "integer" and (step is None or step.denominator != 1):
        return Fraction(1)  # the least common multiple would be exact; 1 errs on the safe side
    return step


def _make_exact(number: float) -> Fraction:
    return Fraction(str(number))  # as written in the schema: 0.1 is a tenth, unlike the float


def _check_text(schema: Schema, place: str, explain: bool) -> str | None:
    is_impossible = schema.get("minLength", 0) > schema.get("maxLength", math.inf)
    return _place(place, "minLength is above maxLength") if is_impossible else None


def _place(place: str, why: str) -> str:
    return f"at {place!r} {why}" if place else why
