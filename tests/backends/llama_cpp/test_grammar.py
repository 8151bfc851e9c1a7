"""Each keyword that the schema check lets through is tried in the engine: the constraint really holds."""

import json
import uuid
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import UUID4, AnyUrl, Base64Bytes, BaseModel, Field, TypeAdapter

from mellea.core.structured.schema_check import check
from mellea.errors import BackendError

INTEGER = {"type": "integer"}


def record(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


KEYWORDS = {
    "maxLength": ({"type": "string", "maxLength": 8}, lambda v: len(v) <= 8),
    "minLength": ({"type": "string", "minLength": 12, "maxLength": 14}, lambda v: 12 <= len(v) <= 14),
    "minimum": ({"type": "integer", "minimum": 30, "maximum": 32}, lambda v: v in (30, 31, 32)),
    "exclusive": ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, lambda v: v == 4),
    "number": ({"type": "number", "minimum": 0, "maximum": 1}, lambda v: 0 <= v <= 1),
    "number, free": ({"type": "number"}, lambda v: abs(v) <= 1e15),
    "integer, free": (INTEGER, lambda v: abs(v) < 2**53),
    "multipleOf": ({"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 40}, lambda v: v % 7 == 0),
    "boolean": ({"type": "boolean"}, lambda v: isinstance(v, bool)),
    "null": ({"type": "null"}, lambda v: v is None),
    "types": ({"type": ["boolean", "null"]}, lambda v: v in (True, False, None)),
    "enum": ({"enum": ["x y", 3, None, {"a": 1}]}, lambda v: v in ("x y", 3, None, {"a": 1})),
    "const": ({"const": {"a": [1, "b"]}}, lambda v: v == {"a": [1, "b"]}),
    "items": (
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
        lambda v: 2 <= len(v) <= 3,
    ),
    "prefixItems": (
        {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["q"]}], "minItems": 2},
        lambda v: len(v) == 2 and v[1] == "q",
    ),
    "items false": (
        {"type": "array", "prefixItems": [{"type": "boolean"}], "minItems": 1, "items": False},
        lambda v: len(v) == 1,
    ),
    "properties": (record(a={"type": "boolean"}, b={"enum": [1]}), lambda v: list(v) == ["a", "b"]),
    "optional": ({"properties": {"a": {"type": "boolean"}, "b": {"enum": [1]}}}, lambda v: v.keys() <= {"a", "b"}),
    "maxProperties": (
        {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 2},
        lambda v: 1 <= len(v) <= 2 and all(isinstance(each, bool) for each in v.values()),
    ),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^[ab]$": {"enum": [1]}}, "additionalProperties": False}
        | {"maxProperties": 2},
        lambda v: v.keys() <= {"a", "b"},
    ),
    "anyOf": ({"anyOf": [{"const": 1}, {"const": "two"}]}, lambda v: v in (1, "two")),
    "oneOf": ({"oneOf": [{"const": 1}, {"enum": [1, 2]}]}, lambda v: v in (1, 2)),
    "allOf": ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 4}]}, lambda v: v in (3, 4)),
    "allOf, objects": ({"allOf": [record(a={"enum": [1]}), record(b={"enum": [2]})]}, lambda v: v["a"] + v["b"] == 3),
    "anyOf beside": (
        {"type": "integer", "minimum": 3, "anyOf": [{"maximum": 4}, {"const": 9}]},
        lambda v: v in (3, 4, 9),
    ),
    "ref": ({"$defs": {"N~[x]/y": {"const": 5}}, "$ref": "#/$defs/N~0[x]~1y"}, lambda v: v == 5),
    "ref beside": ({"$defs": {"N": INTEGER}, "$ref": "#/$defs/N", "minimum": 3, "maximum": 4}, lambda v: v in (3, 4)),
    "recursion": (
        {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#"}, "maxItems": 1}}},
        lambda v: v.keys() <= {"c"},
    ),
    "pattern and length": ({"type": "string", "pattern": "^[a-z]+$", "maxLength": 4}, lambda v: len(v) <= 4),
    "date-time": ({"type": "string", "format": "date-time"}, lambda v: len(v) <= 32 and v[10] == "T"),
    "time": ({"type": "string", "format": "time"}, lambda v: len(v) <= 21),
    "date": ({"type": "string", "format": "date"}, lambda v: len(v) == 10),
    "duration": ({"type": "string", "format": "duration"}, lambda v: v[0] == "P"),
    "email": ({"type": "string", "format": "email", "maxLength": 30}, lambda v: "@" in v),
    "hostname": ({"type": "string", "format": "hostname", "maxLength": 20}, lambda v: " " not in v),
    "ipv4": ({"type": "string", "format": "ipv4"}, lambda v: v.count(".") == 3),
    "ipv6": ({"type": "string", "format": "ipv6"}, lambda v: ":" in v),
    "uuid": ({"type": "string", "format": "uuid"}, uuid.UUID),
    "uri": ({"type": "string", "format": "uri", "maxLength": 30}, lambda v: "://" in v),
    "path": ({"type": "string", "format": "path", "maxLength": 10}, lambda v: len(v) <= 10),
}


@pytest.mark.parametrize("name", KEYWORDS)
@pytest.mark.sample(12)
def test_keyword_holds(generate, name):
    schema, is_right = KEYWORDS[name]
    answer = generate(schema)
    if answer.finish_reason == "stop":  # what was cut is held all the same: the backend looks at its beginning
        assert is_right(json.loads(answer.text)), answer.text
        assert "\n" not in answer.text


@pytest.mark.parametrize("name", ["duration", "email", "time", "uri"])
@pytest.mark.sample(1)
def test_texts_of_a_format_pass_our_own_check_whatever_is_sampled(generate, name):
    schema = {"type": "string", "format": name}
    for seed in range(6):
        answer = generate(schema, prompt=f"Give an example of a {name}.", max_tokens=120, temperature=1.5, seed=seed)
        if answer.finish_reason == "stop":
            check(json.loads(answer.text), schema, schema)


@pytest.mark.parametrize(
    ("schema", "right"),
    [
        ({"const": "<|im_end|>"}, "<|im_end|>"),
        ({"enum": ["a <|im_start|>", "a <|im_end|>"]}, None),
        ({"type": "string", "pattern": r"^<\|endoftext\|>$", "maxLength": 20}, "<|endoftext|>"),
        (record(**{"<|im_end|>": {"const": "</s>"}}), {"<|im_end|>": "</s>"}),
    ],
)
def test_a_value_that_reads_like_a_control_token_can_be_answered(generate, schema, right):
    answer = json.loads(generate(schema).text)
    assert answer == right or (right is None and answer in schema["enum"])


def test_a_constraint_that_the_engine_drops_is_noticed(generate):
    with pytest.raises(BackendError, match="didn't enforce the schema"):
        generate({"type": "string", "pattern": "^[a-z]{8}$", "maxLength": 4}, temperature=0)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Tree(BaseModel):
    value: Annotated[int, Field(ge=0, le=9)]
    left: "Tree | None" = None


TYPES = [
    Cat,
    Tree,
    Colour,
    Cat | Dog,
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Literal["a", 2, None],
    tuple[bool, Colour],
    Annotated[dict[str, bool], Field(max_length=2)],
    Annotated[list[Cat], Field(min_length=1, max_length=2)],
    bool | None,
    date,
    datetime,
    time,
    timedelta,
    uuid.UUID,
    AnyUrl,  # a schema says that a text is a URI, and not which schemes its type takes
    Annotated[str, Field(max_length=10)],
    Annotated[float, Field(gt=0, lt=1)],
    bytes,
    Base64Bytes,
    UUID4,
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.sample(6)
def test_pydantic_types_validate(generate, kind):
    adapter = TypeAdapter(kind)
    answer = generate(adapter.json_schema(), prompt="Give an example.", max_tokens=60)
    if answer.finish_reason == "stop":
        # The grammar knows the shape of a date, not the calendar.
        if kind in (date, datetime, time, timedelta):
            return
        adapter.validate_json(answer.text)


def test_twenty_long_strings_start_at_once(generate):
    fields = {f"field_{number}": {"type": "string"} for number in range(20)}
    answer = generate(record(**fields), max_tokens=12)
    assert answer.text.startswith('{"field_0": "')
    assert answer.finish_reason == "length"
