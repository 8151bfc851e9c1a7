"""References of every form in JSON Schemas of users, and the words of older drafts."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from mellea.backends.openai.schema import make_strict_schema
from mellea.core.accumulator import Generation
from mellea.core.messages import Message
from mellea.core.structured import make_output_format
from mellea.errors import ParseError, UsageError

INTEGER = {"type": "integer"}


def is_taken(schema: Any, value: Any) -> bool:
    text = json.dumps(value)
    try:
        make_output_format(schema).parse(Generation(text, Message("assistant", text), finish_reason="stop"))
    except ParseError:
        return False
    return True


def x(pointer: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": {"$ref": pointer}}, **more}


@pytest.mark.parametrize(
    "schema",
    [
        x("#/$defs/A", **{"$defs": {"A": INTEGER}}),
        x("#/definitions/A", definitions={"A": INTEGER}),
        x("#/$defs/Box%5Bint%5D", **{"$defs": {"Box[int]": INTEGER}}),
        x("#/$defs/a~1b~0c", **{"$defs": {"a/b~c": INTEGER}}),
        x("#/$defs/a%2520b", **{"$defs": {"a%20b": INTEGER}}),
        x("#/$defs/U/anyOf/1", **{"$defs": {"U": {"anyOf": [{"type": "null"}, INTEGER]}}}),
        x("#/$defs/A/properties/b", **{"$defs": {"A": {"properties": {"b": INTEGER}}}}),
        x("#num", **{"$defs": {"A": {"$anchor": "num", **INTEGER}}}),
        x("#num", definitions={"A": {"$id": "#num", **INTEGER}}),
        x("int.json", **{"$id": "http://x/y/top.json", "$defs": {"A": {"$id": "/y/int.json", **INTEGER}}}),
        x("http://x/a#/$defs/B", **{"$defs": {"A": {"$id": "http://x/a", "$defs": {"B": INTEGER}}}}),
        x("urn:a#b", **{"$defs": {"A": {"$id": "urn:a", "$defs": {"B": {"$anchor": "b", **INTEGER}}}}}),
        x("#/$defs/A", **{"$defs": {"A": {"$ref": "#/$defs/B"}, "B": INTEGER}}),
    ],
)
def test_a_reference_of_every_form_is_followed_to_the_check_and_to_the_wire(schema: Any) -> None:
    assert is_taken(schema, {"x": 1})
    assert not is_taken(schema, {"x": "a"})
    sent = make_strict_schema(schema).schema
    assert "anchor" not in json.dumps(sent)


LIST_OF_LISTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/items"}}]}


@pytest.mark.parametrize("items", [{"$ref": "#"}, LIST_OF_LISTS])
def test_a_reference_from_the_top_still_leads_there_when_the_schema_is_wrapped(items: Any) -> None:
    sent = json.dumps(make_strict_schema({"type": "array", "items": items}).schema)
    assert '"#"' not in sent
    assert '"#/items"' not in sent


@pytest.mark.parametrize("pointer", ["#/$defs/B", "#b", "other.json", "http://x/y", "#/$defs/A/-1", 3])
def test_a_reference_that_leads_nowhere_is_refused_at_once(pointer: Any) -> None:
    with pytest.raises(UsageError, match=r"points|takes a string"):
        make_output_format(x(pointer, **{"$defs": {"A": {}}}))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "array", "items": [INTEGER], "additionalItems": False}, [1], [1, 2]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1.5, 1),
        ({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, {"a": 1, "b": 1}, {"c": 1}),
        ({"type": "string", "nullable": True}, None, 1),
    ],
)
def test_words_of_older_drafts_are_understood(schema: Any, good: Any, bad: Any) -> None:
    assert is_taken(schema, good)
    assert not is_taken(schema, bad)


KEYWORDS = [
    ({"not": INTEGER}, "a", 1),
    ({"if": INTEGER, "then": {"minimum": 2}, "else": {"type": "string"}}, 2, 1),
    ({"if": INTEGER, "then": {"minimum": 2}, "else": {"type": "string"}}, "a", None),
    ({"patternProperties": {"^a": INTEGER}}, {"b": "x"}, {"ab": "x"}),
    ({"patternProperties": {"^a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}),
    ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}),
    ({"dependentRequired": {"a": ["b"]}}, {"b": 1}, {"a": 1}),
    ({"dependentSchemas": {"a": {"minProperties": 2}}}, {"b": 1}, {"a": 1}),
    ({"minProperties": 1, "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 1}),
    ({"uniqueItems": True}, [1, True, "1"], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]),
    ({"contains": INTEGER}, ["a", 1], ["a"]),
    ({"contains": INTEGER, "minContains": 2, "maxContains": 3}, [1, 2], [1, 2, 3, 4]),
    ({"contains": INTEGER, "minContains": 0}, [], "no bad"),
    ({"multipleOf": 0.01}, 19.99, 19.999),
    ({"multipleOf": 1e-300}, 1e300, "no bad"),
    ({"enum": [[1, 2], {"a": 1}]}, {"a": 1.0}, [2, 1]),
    ({"const": {"a": [1]}}, {"a": [1]}, {"a": [True]}),
    ({"properties": {"a": True, "b": False}}, {"a": 1}, {"b": 1}),
    ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"a": 1}, {"b": 1}),
    ({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, {"a": 1}, {"a": 1, "b": 1}),
    ({"prefixItems": [INTEGER], "unevaluatedItems": False}, [1], [1, 2]),
    ({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
    ({"type": "string", "format": "date-time"}, "2024-01-01T00:00:00.5+02:00", "2024-01-01 25:00:00Z"),
    ({"type": "string", "format": "email"}, "a.b@c.org", "a@b@c"),
    ({"type": "string", "format": "uuid"}, "12345678-1234-5678-1234-567812345678", "12345678"),
    ({"type": "string", "format": "ipv6"}, "::1", "1.2.3.4"),
    ({"type": "string", "format": "duration"}, "P1DT2H", "P"),
    ({"type": "string", "pattern": r"^(?=.*[A-Z])(?=.*\d).{4,}$"}, "aB3d", "ab3d"),
    ({"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}, "1.5", "-."),
]


@pytest.mark.parametrize(("schema", "good", "bad"), KEYWORDS, ids=[json.dumps(schema) for schema, _, _ in KEYWORDS])
def test_every_keyword_is_checked_when_the_answer_is_complete(schema: Any, good: Any, bad: Any) -> None:
    assert is_taken(schema, good)
    assert bad == "no bad" or not is_taken(schema, bad)


def test_a_pattern_costs_linear_time_whatever_the_text() -> None:
    begun = time.process_time()
    assert not is_taken({"type": "string", "pattern": "^(a+)+$"}, "a" * 65_000 + "b")
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("pattern", [r"(a)\1", "a(?=b)", "(", "(?<=a)b"])
def test_a_pattern_that_cant_be_checked_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(UsageError, match="linear time"):
        make_output_format({"type": "string", "pattern": pattern})


def test_a_union_that_holds_itself_costs_no_more_than_its_size() -> None:
    node = {"type": "object", "properties": {"c": {"$ref": "#/$defs/N"}}}
    schema = {"$defs": {"N": {"anyOf": [{**node, "required": ["x"]}, node]}}, "$ref": "#/$defs/N"}
    value: dict[str, Any] = {}
    for _ in range(60):
        value = {"c": value}
    begun = time.process_time()
    assert is_taken(schema, value)
    assert time.process_time() - begun < 2
