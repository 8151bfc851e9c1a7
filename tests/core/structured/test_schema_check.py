"""JSON Schemas of users: what they ask for is held, and what is none is refused at once."""

from __future__ import annotations

from typing import Any

import pytest

import mellea
from mellea.core.accumulator import Generation
from mellea.core.messages import Message
from mellea.core.structured import make_output_format
from mellea.errors import ParseError, UsageError
from mellea.testing import ScriptedBackend

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": ["integer", "null"], "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}


def parse(schema: Any, text: str) -> Any:
    return make_output_format(schema).parse(Generation(text, Message("assistant", text), finish_reason="stop"))


GOOD = [
    (PERSON, '{"name": "Ada"}', {"name": "Ada"}),
    (PERSON, 'Here: {"name": "Ada", "age": null}', {"name": "Ada", "age": None}),
    (TREE, "[[], [[]]]", [[], [[]]]),
    ({}, "1", 1),
    ({"enum": ["a", 1, None]}, "null", None),
    ({"enum": ["a", "b"]}, "A.", "a"),
    ({"type": "integer"}, "2.0", 2.0),
    ({"anyOf": [{"type": "integer"}, {"type": "object"}]}, "{}", {}),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, '"x"', "x"),
    ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, '["a", 1]', ["a", 1]),
    ({"type": "string", "pattern": r"^\d+$"}, '"12"', "12"),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"a": 1}', {"a": 1}),
    ({"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": False}, '{"a": 1}', {"a": 1}),
    ({"type": "number", "multipleOf": 0.1}, "0.3", 0.3),
]


@pytest.mark.parametrize(("schema", "text", "value"), GOOD, ids=[text for _, text, _ in GOOD])
def test_a_value_of_the_schema_is_taken(schema: Any, text: str, value: Any) -> None:
    assert parse(schema, text) == value


BAD = [
    (PERSON, '{"nam": "Ada"}', "'name' is missing"),
    (PERSON, '{"name": 3}', "name: should be string, not 3"),
    (PERSON, '{"name": ""}', 'name: "" doesn\'t meet minLength 1'),
    (PERSON, '{"name": "Ada", "age": true}', "age: should be integer or null, not true"),
    (PERSON, '{"name": "Ada", "age": -1}', "age: -1 doesn't meet minimum 0"),
    (PERSON, '{"name": "Ada", "zip": 1}', "'zip' isn't allowed"),
    (PERSON, '"Ada"', "should be object, not"),
    (TREE, "[[1]]", "0.0: should be array, not 1"),
    ({"enum": ["a", 1]}, "true", 'should be "a" or 1, not true'),
    ({"const": 1}, "2", "should be 1, not 2"),
    ({"type": "integer"}, "2.5", "should be integer"),
    ({"type": "integer"}, "Infinity", "expected value"),
    (
        {"anyOf": [{"type": "integer"}, {"type": "object"}]},
        "[]",
        "should be integer, not []; or should be object, not []",
    ),
    ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, "1", "2 schemas of oneOf"),
    ({"allOf": [{"minimum": 0}, {"maximum": 2}]}, "3", "maximum 2"),
    ({"type": "array", "maxItems": 1}, "[1, 2]", "maxItems 1"),
    ({"type": "array", "items": False}, "[1]", "0 isn't allowed"),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"a": "b"}', "a: should be integer"),
]


@pytest.mark.parametrize(("schema", "text", "said"), BAD, ids=[text for _, text, _ in BAD])
def test_what_the_schema_doesnt_allow_is_refused_and_says_where(schema: Any, text: str, said: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(schema, text)
    assert said in str(caught.value)


NONE = [
    ({"name": str}, "no keyword of JSON Schema"),
    ({"name": "string"}, "no keyword of JSON Schema"),
    ({"type": "objekt"}, "'objekt' isn't one of JSON's"),
    ({"type": "object", "properties": {"a": {"type": str}}}, r"<class 'str'> at a isn't one of JSON's"),
    ({"type": "object", "properties": {"a": "string"}}, "'string' at a isn't a JSON Schema"),
    ({"type": "object", "required": "name"}, "required takes a list of names"),
    ({"type": "array", "items": {"typ": "integer"}}, "at items"),
    ({"anyOf": {"type": "integer"}}, "anyOf takes a list of schemas"),
    ({"enum": {1, 2}}, "enum takes a list of values"),
    ({"const": {1, 2}}, "not JSON serializable"),
    ({1: 2}, "isn't a JSON Schema"),
]


@pytest.mark.parametrize(("schema", "said"), NONE, ids=[repr(schema) for schema, _ in NONE])
def test_what_is_no_schema_is_refused_before_anything_is_sent(schema: Any, said: str) -> None:
    backend = ScriptedBackend("1")
    m = mellea.start_session(backend)
    with pytest.raises(UsageError, match=said):
        m.instruct("x", format=schema)
    assert not backend.requests


def test_items_of_a_schema_are_held_too() -> None:
    schema = {"type": "array", "items": {"$ref": "#/definitions/n"}, "definitions": {"n": {"type": "integer"}}}
    m = mellea.start_session(ScriptedBackend('[1, "2"]'))
    items = m.stream("x", format=schema).items()
    assert next(items) == 1
    with pytest.raises(ParseError, match="item 1"):
        next(items)
