"""What a type is, said once: sequences, the keys that are read, values, and defaults."""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Generator, Iterator, MutableSequence, Set
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, Json, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

import mellea
from mellea import ask
from mellea.core.structured import make_output_format
from mellea.errors import ParseError, UsageError
from mellea.testing import ScriptedBackend

T = TypeVar("T")


class User(BaseModel):
    name: str


Users = TypeAliasType("Users", "list[User]")
Many = TypeAliasType("Many", list[T], type_params=(T,))
NewUsers = NewType("NewUsers", Users)
Nested = TypeAliasType("Nested", "list[Nested] | int")


class Root(RootModel[list[User]]):
    pass


class RootOfRoot(RootModel[Root]):
    pass


class Holder(BaseModel):
    users: Users


class Upper(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper)
    users: list[User]


@pydantic_dataclass
class Held:
    users: Optional[list[User]] = None  # noqa: UP045 - on purpose


class Hidden(BaseModel):
    users: list[User]
    cache: SkipJsonSchema[list[int]] = []


@dataclass
class Box(Generic[T]):
    more: list[T]


class Lower(BaseModel):
    model_config = ConfigDict(str_to_lower=True)
    names: list[str]


class Suit(enum.Enum):
    HEARTS = "hearts"
    SPADES = "spades"


class Odd(enum.Enum):
    PAIR = (1, 2)
    DAY = date(2020, 1, 1)


BARE, INSIDE = '[{"name": "a"}, {"name": "b"}]', '{"users": [{"name": "a"}, {"name": "b"}]}'
USERS = [User(name="a"), User(name="b")]


def session(*texts: str) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*texts))


@pytest.mark.parametrize(
    ("format", "text", "items"),
    [
        (Users, BARE, USERS),
        (Many[User], BARE, USERS),
        (NewUsers, BARE, USERS),
        (Root, BARE, USERS),
        (RootOfRoot, BARE, USERS),
        (Optional[Users], BARE, USERS),  # noqa: UP045 - on purpose
        (Annotated[Users | None, Field(description="all")], BARE, USERS),
        (list["User"], BARE, USERS),
        (Iterator[User], BARE, USERS),
        (Generator[int, None, None], "[1, 2]", [1, 2]),
        (MutableSequence[int], "[1, 2]", [1, 2]),
        (Set[int], "[1, 2]", [1, 2]),
        (deque[int], "[1, 2]", [1, 2]),
        (tuple, "[1, 2]", [1, 2]),
        (list[Odd], '["2020-01-01", [1, 2]]', [Odd.DAY, Odd.PAIR]),
        (
            {"type": ["array", "null"], "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
            '["a", 1]',
            ["a", 1],
        ),
        ({"$ref": "#/$defs/L", "$defs": {"L": {"type": "array", "items": {"type": "integer"}}}}, "[1, 2]", [1, 2]),
    ],
)
def test_what_is_a_sequence_is_one_to_items_and_to_streams_alike(format: Any, text: str, items: list[Any]) -> None:
    assert list(session(text).stream("x", format=format).items()) == items
    assert list(ask.stream("x", format=format, session=session(text))) == items


@pytest.mark.parametrize(
    ("format", "text", "items"),
    [
        (Holder, INSIDE, USERS),
        (Held, INSIDE, USERS),
        (Hidden, INSIDE, USERS),
        (Upper, INSIDE.replace("users", "USERS"), USERS),
        (Box[User], INSIDE.replace("users", "more"), USERS),
        (Lower, '{"names": ["A"]}', ["a"]),  # validated as the class validates it
        ({"properties": {"a": True, "b": {"anyOf": [{"type": "array"}, {"type": "null"}]}}}, '{"b": [1]}', [1]),
    ],
)
def test_the_only_sequence_of_an_object_has_items_and_its_stream_is_text(
    format: Any, text: str, items: list[Any]
) -> None:
    assert list(session(text).stream("x", format=format).items()) == items
    assert "".join(ask.stream("x", format=format, session=session(text))) == text


@pytest.mark.parametrize("format", [str, bytes, dict[str, int], tuple[int, str], Json[list[int]], int | list[int]])
def test_what_is_no_sequence_has_no_items(format: Any) -> None:
    with pytest.raises(UsageError, match="reads the elements of a sequence"):
        next(session("x").stream("x", format=format).items())


def test_a_name_in_quotes_is_found_where_the_verb_is_called() -> None:
    @dataclass
    class Local:
        a: int

    assert session('[{"a": 1}]').instruct("x", format=list["Local"]).parsed == [Local(1)]


def test_an_alias_that_holds_itself_is_a_format() -> None:
    assert session("[1, [2]]").instruct("x", format=Nested).parsed == [1, [2]]


@pytest.mark.parametrize(
    ("format", "text", "value"),
    [
        (Literal[Suit.HEARTS], '"hearts"', Suit.HEARTS),
        (Literal[Suit.HEARTS, 1, True, None], "true", True),
        (Odd, "[1, 2]", Odd.PAIR),
        (dict[Suit, int], '{"spades": 1}', {Suit.SPADES: 1}),
    ],
)
def test_values_are_read_by_the_form_that_the_schema_shows(format: Any, text: str, value: Any) -> None:
    parsed = session(text).instruct("x", format=format).parsed
    assert parsed == value
    assert type(parsed) is type(value)


class InModel(BaseModel):
    suit: Literal[Suit.HEARTS]


class Loop(BaseModel):
    loop: Loop


@dataclass
class EndlessDataclass:
    again: EndlessDataclass


class Empty(enum.Enum):
    pass


@pytest.mark.parametrize(
    ("format", "name"),
    [
        (InModel, "InModel"),
        (Loop, "Loop"),
        (EndlessDataclass, "EndlessDataclass"),
        (Empty, "Empty"),
        (list[Empty], "Empty"),
        (Annotated[int, Field(gt=1, lt=2)], "int"),
        (Annotated[list[int], Field(min_length=2, max_length=1)], r"list\[int\]"),
        ({"enum": []}, "enum"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "'a'"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a'"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "exclude each other"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "contain itself"),
    ],
)
def test_a_format_that_no_answer_can_meet_is_refused_before_anything_is_sent(format: Any, name: str) -> None:
    backend = ScriptedBackend("{}")
    with pytest.raises(UsageError, match=name):
        mellea.start_session(backend).instruct("x", format=format)
    assert not backend.requests


@pytest.mark.parametrize("format", [Loop | None, list[Loop], {"type": ["array", "null"], "minItems": 2, "maxItems": 1}])
def test_a_format_that_some_answer_can_meet_is_taken(format: Any) -> None:
    make_output_format(format)


@dataclass
class Person:
    name: str = Field(description="first name", max_length=5, alias="Name")
    age: int = Field(default=3, ge=1)
    tags: list[str] = field(default_factory=list)
    notes: list[str] = Field(default_factory=list)  # noqa: RUF009 - on purpose
    id: int = Field(default=7, init=False)


def test_a_field_as_default_of_a_dataclass_means_what_pydantic_means_by_it() -> None:
    assert session('{"Name": "Ann"}').instruct("x", format=Person).parsed == Person("Ann", 3, [], [], 7)
    schema = make_output_format(Person).schema.schema
    assert schema["required"] == ["Name"]
    assert schema["properties"]["Name"]["description"] == "first name"
    for text in ("{}", '{"Name": "Maximilian"}', '{"Name": "Ann", "age": 0}'):
        with pytest.raises(ParseError):
            session(text, text).instruct("x", format=Person)


class Aliases(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(validation_alias=AliasChoices("x", "y"))
    b: int = Field(alias="bee", default=1)


class Inner(BaseModel):
    a: int = Field(validation_alias=AliasPath("data", "list", 1))


def test_the_schema_shows_a_field_where_it_is_read_from() -> None:
    schema = make_output_format(Inner).schema.schema
    assert "a" not in schema["properties"]
    assert schema["required"] == ["data"]
    inner = schema["properties"]["data"]["properties"]["list"]
    assert inner["prefixItems"][1]["type"] == "integer"
    assert session('{"data": {"list": [0, 5]}}').instruct("x", format=Inner).parsed.a == 5


def test_no_model_sees_the_marks_of_aliases() -> None:
    format = make_output_format(list[Aliases])
    assert "x-mellea" not in json.dumps(format.schema.schema)
    assert "x-mellea" in json.dumps(format.marked)


@pytest.mark.parametrize(
    ("format", "name"),
    [(Annotated[int, Field(ge=0)], "'int'"), (Annotated[list[User], "x"], r"'list\[User\]'"), (Users, "'Users'")],
)
def test_errors_name_the_type_as_it_was_written(format: Any, name: str) -> None:
    with pytest.raises(ParseError, match=name):
        session("-1", "-1").instruct("x", format=format)


def test_classes_that_a_function_defines_may_name_each_other_in_a_sync_verb() -> None:
    @dataclass
    class Member:
        name: str

    @dataclass
    class Club:
        members: list[Member]

    parsed = session('{"members": [{"name": "Ada"}]}').instruct("x", format=Club).parsed
    assert parsed == Club([Member("Ada")])


def test_a_name_that_cant_be_found_says_so_in_the_callers_thread() -> None:
    with pytest.raises(UsageError, match=r"'Nowhere'.*can't be found; define it in the module"):
        session("[]").instruct("x", format=list["Nowhere"])  # type: ignore[name-defined]  # noqa: F821
