"""The schema as it is written anew; `test_grammar.py` tries the result in the engine."""

import json

import pytest

from mellea.backends.llama_cpp.schema import MAX_ITEMS, MAX_LENGTH, write_grammar
from mellea.errors import UnsupportedError


def rewritten(schema):
    return json.loads(write_grammar(schema).split("%json ", 1)[1])


def test_whitespace_is_compact():
    guidance = rewritten({"type": "integer"})["x-guidance"]
    assert guidance["whitespace_flexible"] is False
    assert (guidance["item_separator"], guidance["key_separator"]) == (", ", ": ")


def test_annotations_are_left_out():
    schema = {"type": "boolean", "title": "T", "description": "d", "default": True, "x-own": 1, "uniqueItems": False}
    assert rewritten(schema).keys() == {"type", "x-guidance"}


def test_limits_where_there_are_none():
    assert rewritten({"type": "string"})["maxLength"] == MAX_LENGTH
    assert rewritten({"type": "array", "items": True})["maxItems"] == MAX_ITEMS
    assert rewritten({"type": "object"})["maxProperties"] == MAX_ITEMS
    assert rewritten({"type": "array", "prefixItems": [True, True]})["maxItems"] == 2
    integer = rewritten({"type": "integer", "minimum": 3})
    assert (integer["minimum"], integer["maximum"]) == (3, 2**53 - 1)
    assert rewritten({"type": "number"})["multipleOf"] == 1e-9


def test_a_limit_of_ones_own_stays():
    assert rewritten({"type": "string", "maxLength": 9000})["maxLength"] == 9000
    assert rewritten({"type": "string", "minLength": 9000})["maxLength"] == 9000
    assert rewritten({"type": "array", "minItems": 500})["maxItems"] == 500
    assert "minimum" not in rewritten({"type": "integer", "maximum": 2**60})
    assert rewritten({"type": "number", "multipleOf": 0.5})["multipleOf"] == 0.5


def test_objects_are_closed_unless_they_say_otherwise():
    assert rewritten({"properties": {"a": True}})["additionalProperties"] is False
    assert rewritten({"properties": {"a": True}, "additionalProperties": True})["additionalProperties"] is True


def test_objects_that_hold_together_stay_open():
    part = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": True}}}}
    body = rewritten({"allOf": [part, {"$ref": "#/$defs/P"}], "$defs": {"P": part}})
    assert "additionalProperties" not in json.dumps(body)


def test_references_get_names_of_our_own():
    body = rewritten({"$defs": {"Box[int]": {"type": "boolean"}}, "$ref": "#/$defs/Box[int]"})
    assert body["$ref"] == "#/$defs/d0"
    assert body["$defs"] == {"d0": {"type": "boolean"}}


def test_recursion():
    body = rewritten({"type": "object", "properties": {"c": {"$ref": "#"}}})
    assert body["$defs"]["d0"]["properties"]["c"] == {"$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "name", "path"),
    [
        ({"type": "array", "contains": {"type": "integer"}}, "contains", "#"),
        ({"not": {"type": "null"}}, "not", "#"),
        ({"if": {}, "then": {}}, "if", "#"),
        ({"properties": {"a": {"contains": True}}}, "contains", "#/properties/a"),
        ({"type": "object", "dependentRequired": {}}, "dependentRequired", "#"),
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties", "#"),
        ({"type": "array", "items": {"propertyNames": {}}}, "propertyNames", "#/items"),
        ({"type": "string", "nullable": True}, "nullable", "#"),
        ({"anyOf": [True, {"type": "string", "format": "regex"}]}, "'regex'", "#/anyOf/1/format"),
        ({"type": "string", "pattern": "^(?!a)b$"}, "look|pattern", "#/pattern"),
        ({"patternProperties": {"^(?=a)": True}}, "pattern", "#/patternProperties"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"not": {}}}}, "not", "#/$defs/A"),
        ({"$ref": "http://x/y"}, "points outside", "#/$ref"),
        ({"$ref": "#/$defs/A"}, "points at nothing", "#/$ref"),
        ({"type": "strin"}, "strin", "#/type"),
        ({"type": []}, "type", "#/type"),
        ({"enum": []}, "can't enforce", "#/enum"),
        ({"anyOf": []}, "can't enforce", "#/anyOf"),
        ({"items": [True]}, "can't enforce", "#/items"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, "True", "#/exclusiveMinimum"),
        ({"type": "array", "minItems": 10**9}, "count above", "#/minItems"),
        ({"type": "string", "minLength": 1e9}, "count above", "#/minLength"),
        ({"type": "string", "maxLength": float("inf")}, "inf", "#/maxLength"),
        ({"type": "number", "maximum": float("inf")}, "inf", "#/maximum"),
        ({"const": float("inf")}, "JSON", "#"),
        ({"const": {1, 2}}, "JSON", "#"),
        ({1: True}, "1", "#"),
        ({"properties": {1: True}}, "1", "#/properties"),
        ({"$ref": {}}, "reference", "#/$ref"),
        ({"type": "string", "format": {}}, "can't enforce", "#/format"),
        ({"type": "string", "maxLength": -1}, "-1", "#/maxLength"),
        ({"type": "integer", "minimum": 7, "maximum": 5}, "no value", "#"),
        ({"properties": {}, "required": ["zz"], "additionalProperties": False}, "zz", "#"),
        (False, "False", "#"),
    ],
)
def test_what_cannot_be_held_is_named_with_its_path(schema, name, path):
    with pytest.raises(UnsupportedError, match=name) as caught:
        write_grammar(schema)
    assert f"at {path!r}" in str(caught.value)
    assert caught.value.backend == "llama_cpp"


@pytest.mark.parametrize("name", ["maxItems", "maxLength", "maxProperties"])
def test_a_huge_limit_is_lowered_to_what_the_engine_survives(name):
    assert rewritten({"anyOf": [{name: 10**9}]})["anyOf"][0][name] == 20_000


def test_a_schema_nested_too_deep():
    schema = {}
    for _ in range(3000):
        schema = {"items": schema}
    with pytest.raises(UnsupportedError, match="deep"):
        write_grammar(schema)


def test_a_set_is_an_array_with_no_more_items_than_there_are_values():
    assert rewritten({"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b"]}})["maxItems"] == 2
    assert rewritten({"type": "array", "uniqueItems": True, "items": {"type": "boolean"}})["maxItems"] == 2
    assert rewritten({"type": "array", "uniqueItems": True, "items": {"type": "string"}})["maxItems"] == MAX_ITEMS
    named = {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/K"}, "$defs": {"K": {"enum": [1, 2, 3]}}}
    assert rewritten(named)["maxItems"] == 3


def test_keys_that_are_chosen_from_a_list_become_properties():
    body = rewritten(
        {
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/K"},
            "additionalProperties": {"type": "boolean"},
            "$defs": {"K": {"type": "string", "enum": ["a", "b"]}},
        }
    )
    assert body["properties"] == {"a": {"type": "boolean"}, "b": {"type": "boolean"}}
    assert body["additionalProperties"] is False
    dated = rewritten({"type": "object", "propertyNames": {"format": "date"}, "additionalProperties": {"type": "null"}})
    assert list(dated["patternProperties"].values()) == [{"type": "null"}]
