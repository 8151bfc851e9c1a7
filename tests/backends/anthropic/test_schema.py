"""What of a JSON Schema the provider holds by itself."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from mellea.backends.anthropic.schema import close_schema, make_object_schema
from mellea.errors import UnsupportedError


class Kind(enum.Enum):
    A = "a"
    B = "b"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9, description="How many are left.")] = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(min_length=1)]


class Home(BaseModel):
    """Where they live."""

    pets: Annotated[list[Annotated[Cat | Dog, Field(discriminator="kind")]], Field(min_length=1, max_length=3)]
    sort: Kind | None = None
    since: Annotated[str, Field(json_schema_extra={"format": "date"})]


class Node(BaseModel):
    next: Node | None = None


def test_a_model_with_all_kinds_of_parts() -> None:
    closed = close_schema(Home.model_json_schema())
    defs = closed["$defs"]
    assert defs["Cat"]["additionalProperties"] is False
    assert defs["Cat"]["properties"]["lives"] == {
        "type": "integer",
        "title": "Lives",
        "default": 9,
        "description": "How many are left.\n\n(maximum: 9, minimum: 1)",
    }
    assert defs["Dog"]["properties"]["name"]["description"] == "(minLength: 1)"
    pets = closed["properties"]["pets"]
    assert pets["items"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert (pets["minItems"], pets["description"]) == (1, "(maxItems: 3)")
    assert closed["properties"]["since"]["format"] == "date"
    assert closed["required"] == ["pets", "since"]


@pytest.mark.parametrize("kind", [list[int], Literal["a", "b"], Kind, int | None, Home, str, tuple[int, ...]])
def test_common_types_can_be_held(kind: object) -> None:
    close_schema(TypeAdapter(kind).json_schema())


@pytest.mark.parametrize("schema", [{}, {"type": "array", "items": {}}, {"type": "array", "items": True}])
def test_a_part_without_a_shape(schema: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match=r"at \$"):
        close_schema(schema)


@pytest.mark.parametrize("kind", [dict[str, int], dict])
def test_an_object_of_any_keys(kind: object) -> None:
    with pytest.raises(UnsupportedError, match="list of pairs"):
        close_schema(TypeAdapter(kind).json_schema())


def test_a_schema_that_holds_itself() -> None:
    for kind in (Node, list[Node]):
        with pytest.raises(UnsupportedError, match="'Node' is recursive"):
            close_schema(TypeAdapter(kind).json_schema())


def test_the_schema_that_was_passed_stays_as_it_is() -> None:
    schema = Home.model_json_schema()
    close_schema(schema)
    assert schema == Home.model_json_schema()


def test_arguments_of_a_tool_are_an_object() -> None:
    assert make_object_schema(Home.model_json_schema()) == Home.model_json_schema()
    assert make_object_schema(Node.model_json_schema())["type"] == "object"
    listed = {"type": "array", "items": {"type": "integer"}}
    assert make_object_schema(listed)["properties"] == {"value": listed}, "anything else is put into one"
