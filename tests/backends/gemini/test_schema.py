"""Schemas as Gemini reads them: no keyword that it passes over, and nothing beside a reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from mellea.backends.gemini.encode import encode
from mellea.backends.gemini.schema import write_schema
from mellea.core.backend import OutputSchema, Request, ToolSpec
from mellea.core.messages import user_message

KNOWN = {
    "$anchor",
    "$defs",
    "$id",
    "$ref",
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "oneOf",
    "prefixItems",
    "properties",
    "required",
    "title",
    "type",
}


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    age: Annotated[int, Field(ge=0, lt=40)] = 1


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(max_length=12, pattern="^[A-Z]")]


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Home:
    pet: Annotated[Cat | Dog, Field(discriminator="kind", description="Who lives there")]
    first: Annotated[Cat, Field(description="The first one")]
    colour: Colour = Colour.RED
    other: Cat | None = None
    by_name: dict[str, Dog] | None = None
    place: tuple[int, str] = (1, "a")


KINDS: list[Any] = [
    Cat,
    Dog,
    Node,
    Home,
    list[Home],
    Colour,
    Literal["a", 1],
    dict[str, Cat],
    tuple[int, str],
    set[int],
]


def assert_known(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    assert schema.keys() <= KNOWN
    assert "$ref" not in schema or all(name.startswith("$") for name in schema)
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    for name in ("anyOf", "oneOf", "prefixItems"):
        inner += schema.get(name, [])
    for each in [*inner, schema.get("items"), schema.get("additionalProperties")]:
        assert_known(each)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_only_known_keywords_are_sent(kind: Any) -> None:
    schema = TypeAdapter(kind).json_schema()
    output = OutputSchema("x", schema)
    tool = ToolSpec("f", "F.", {"type": "object", "properties": {"it": schema}})
    payload = encode(Request((user_message("Hi"),), (tool,), output), "gemini-3-flash")
    assert_known(payload["generationConfig"]["responseJsonSchema"])
    assert_known(payload["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"])


def test_what_it_doesnt_know_is_said() -> None:
    dog = write_schema(TypeAdapter(Dog).json_schema())["properties"]
    assert dog["kind"] == {"enum": ["dog"], "type": "string", "title": "Kind"}
    assert dog["name"]["description"] == '(maxLength: 12, pattern: "^[A-Z]")'
    first = write_schema(TypeAdapter(Home).json_schema())["properties"]["first"]
    assert first == {"description": "The first one", "anyOf": [{"$ref": "#/$defs/Cat"}]}


def test_properties_may_be_named_like_keywords() -> None:
    schema = {"type": "object", "properties": {"const": {"type": "string"}, "default": {"const": 1}}}
    assert write_schema(schema)["properties"]["const"] == {"type": "string"}
    assert write_schema(schema)["properties"]["default"] == {"enum": [1], "type": "number"}


def test_a_schema_of_any_depth_is_sent() -> None:
    deep: Any = {"const": "x"}
    for _ in range(300):
        deep = {"items": deep}
    assert json.dumps(write_schema(deep))
