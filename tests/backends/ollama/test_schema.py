"""Tools as Ollama's server understands them: nothing that matters stands in a word that it drops."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from mellea.backends.ollama.schema import write_tool_schema
from mellea.stdlib.tools import as_tool

KNOWN = {"type", "items", "anyOf", "enum", "description", "properties", "required"}


class Cat(BaseModel):
    kind: Literal["cat"]
    name: str


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: str


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    value: int
    children: list[Node] = []


@dataclass
class Address:
    """Where."""

    street: Annotated[str, Field(max_length=12)]


CAT = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["cat"]}, "name": {"type": "string"}},
    "required": ["kind", "name"],
}


def seen(kind: Any, default: Any = ...) -> Any:
    """What the model sees of a parameter of this type."""

    def f(it: Any) -> None:
        """Do it."""

    f.__annotations__["it"] = kind
    if default is not ...:
        f.__defaults__ = (default,)
    parameters = write_tool_schema(as_tool(f).spec.parameters)
    assert_known(parameters)
    return parameters["properties"]["it"]


def assert_known(schema: Any) -> None:
    assert schema.keys() <= KNOWN
    for each in [
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", ()),
        *filter(None, [schema.get("items")]),
    ]:
        assert_known(each)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Cat, CAT),
        (list[Cat], {"type": "array", "items": CAT}),
        (Cat | None, {"anyOf": [CAT, {"type": "null"}]}),
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (Literal["a", 1], {"type": ["string", "integer"], "enum": ["a", 1]}),
        (tuple[int, int], {"type": "array", "items": {"type": "integer"}, "description": "(maxItems: 2, minItems: 2)"}),
        (
            Annotated[int, Field(ge=1, description="How many")],
            {"type": "integer", "description": "How many (minimum: 1)"},
        ),
    ],
)
def test_types_are_written_out(kind: Any, wanted: Any) -> None:
    assert seen(kind) == wanted


def test_a_union_told_by_a_field_is_anyof() -> None:
    union = seen(Annotated[Cat | Dog, Field(discriminator="kind")])
    assert [each["properties"]["kind"]["enum"] for each in union["anyOf"]] == [["cat"], ["dog"]]


def test_limits_defaults_and_what_a_mapping_holds_are_said() -> None:
    assert seen(Address)["properties"]["street"] == {"type": "string", "description": "(maxLength: 12)"}
    assert seen(int, 3)["description"] == "(default: 3)"
    assert seen(dict[str, Cat])["type"] == "object"
    assert json.dumps(CAT["properties"]["name"]) in seen(dict[str, Cat])["description"]  # type: ignore[index]
    places = seen(tuple[int, str])
    assert places["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert 'in this order: [{"type": "integer"}, {"type": "string"}]' in places["description"]


def test_a_type_that_holds_itself_is_named_where_it_would_go_on() -> None:
    node = seen(Node)
    inner = node["properties"]["children"]["items"]
    assert inner["properties"]["value"] == {"type": "integer"}
    assert inner["properties"]["children"]["items"] == {"type": "object", "description": "Node, as described above"}


def test_parts_of_an_allof_are_put_together() -> None:
    written = write_tool_schema(
        {
            "allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": {"const": 1}}, "required": ["b"]}],
            "$defs": {"A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
        }
    )
    assert written == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer", "enum": [1]}},
        "required": ["a", "b"],
    }


def test_schemas_that_grow_without_end_are_bounded() -> None:
    """Each of sixty types names the next one twice; others are nested, or part of themselves."""
    doubling = {
        f"n{number}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/n{number + 1}"} for side in "ab"}}
        for number in range(60)
    }
    bomb = {"type": "object", "properties": {"x": {"$ref": "#/$defs/n0"}}, "$defs": doubling}
    assert len(json.dumps(write_tool_schema(bomb))) < 100_000
    deep: Any = {"type": "string"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    assert write_tool_schema({"properties": {"x": deep}})["properties"]["x"]["type"] == "array"
    itself = {"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}}
    assert write_tool_schema(itself) == {"type": "object", "properties": {}}
