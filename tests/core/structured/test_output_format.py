"""Types as formats: their schemas, and what is and isn't a value of them."""

from __future__ import annotations

import enum
import gc
import json
import pickle
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date
from typing import Annotated, Any, Generic, Literal, NotRequired, Optional, Required, TypedDict, TypeVar, Union

import pytest
from pydantic import BaseModel, ConfigDict, Field

import mellea
from mellea.core.accumulator import Generation
from mellea.core.messages import Message
from mellea.core.structured import HoldBack, Needed, make_output_format
from mellea.errors import ParseError, UsageError
from mellea.testing import ScriptedBackend

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    """Where somebody lives."""

    street: str
    number: int = 1


@dataclass
class Person:
    name: str
    address: Address | None = None
    children: list[Person] = field(default_factory=list)
    born: Optional[date] = None  # noqa: UP045 - on purpose
    color: Color = Color.RED
    shout: InitVar[bool] = False

    def __post_init__(self, shout: bool) -> None:
        if shout:
            self.name = self.name.upper()


class Town(TypedDict):
    name: str
    mayor: NotRequired[Person]


class Loose(TypedDict, total=False):
    size: Required[int]
    twin: Loose


class Model(BaseModel):
    name: str
    age: int = 0


class OpenModel(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


def parse(format: Any, text: str, finish_reason: Any = "stop") -> Any:
    return make_output_format(format).parse(Generation(text, Message("assistant", text), finish_reason=finish_reason))


class AddressBox(Box[Address]):
    pass


GOOD = [
    (AddressBox, '{"content": {"street": "Elm"}}', AddressBox(Address("Elm"))),
    (Model, '{"name": "Ada", "age": "36"}', Model(name="Ada", age=36)),  # lax, as pydantic models are by themselves
    (Address, '{"street": "Elm"}', Address("Elm")),
    (Town, '{"name": "Ulm", "mayor": {"name": "Ada"}}', {"name": "Ulm", "mayor": Person("Ada")}),
    (Loose, '{"size": 1, "twin": {"size": 2}}', {"size": 1, "twin": {"size": 2}}),
    (list[Address], '[{"street": "Elm"}]', [Address("Elm")]),
    (Sequence[Town], '[{"name": "Ulm"}]', [{"name": "Ulm"}]),
    (Iterable[int], "[1, 2]", [1, 2]),
    (dict[str, Address], '{"home": {"street": "Elm"}}', {"home": Address("Elm")}),
    (Mapping[str, int], '{"a": 1}', {"a": 1}),
    (Literal["yes", "no"], '"yes"', "yes"),
    (Literal["yes", "no"], "yes", "yes"),
    (Color, '"blue"', Color.BLUE),
    (Color, " blue\n", Color.BLUE),
    (int | str, '"x"', "x"),
    (
        Union[Address, Model],  # noqa: UP007 - on purpose
        '{"name": "Ada"}',
        Model(name="Ada"),
    ),
    (Address | None, "null", None),
    (Optional[int], "null", None),  # noqa: UP045 - on purpose
    (int, "42", 42),
    (float, "4", 4.0),
    (bool, "true", True),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (Box[Address], '{"content": {"street": "Elm"}}', Box(Address("Elm"))),
    (list[Annotated[int, Field(gt=0)]], "[1]", [1]),
    ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
    (list["Address"], '[{"street": "Elm"}]', [Address("Elm")]),
]


@pytest.mark.parametrize(("format", "text", "value"), GOOD, ids=[f"{format} {text}" for format, text, _ in GOOD])
def test_6_a_value_of_every_kind_of_type(format: Any, text: str, value: Any) -> None:
    parsed = parse(format, text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_dataclass_is_made_by_its_own_constructor() -> None:
    text = '{"name": "Ada", "shout": true, "born": "1815-12-10", "children": [{"name": "Byron", "color": "blue"}]}'
    person = parse(Person, text)
    assert person == Person("ADA", None, [Person("Byron", color=Color.BLUE)], date(1815, 12, 10))


BAD = [
    (Address, '{"street": "Elm", "zip": 1}', "zip"),
    (Address, '{"street": 1}', "street"),
    (Address, '{"street": "Elm", "number": "1"}', "number"),
    (Address, '{"number": 1}', "street"),
    (Town, '{"name": "Ulm", "mayor": {"name": "Ada", "age": 1}}', "mayor.age"),
    (Loose, '{"twin": {"size": 1}}', "size"),
    (list[Town], '[{"name": true}]', "0.name"),
    (dict[str, int], '{"a": "1"}', "valid integer"),
    (int, '"1"', "valid integer"),
    (Literal["yes", "no"], '"maybe"', "'yes' or 'no'"),
    (Literal["yes", "no"], "yesterday", "yesterday"),
    (Model, '{"age": 1}', "name"),
    (int, "", "the text is ''"),
    (int, "4 or 5", "4 or 5"),
    ({"type": "object"}, "{", "EOF"),
]


@pytest.mark.parametrize(("format", "text", "said"), BAD, ids=[f"{format} {text}" for format, text, _ in BAD])
def test_what_is_no_value_is_refused_with_the_reason_and_the_text(format: Any, text: str, said: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(format, text)
    assert said in str(caught.value)
    assert caught.value.partial == text


@pytest.mark.parametrize(
    ("format", "said"),
    [
        (Person, "Person"),
        (list[Person], "list[Person]"),
        (Annotated[list[Person], Field(min_length=1)], "list[Person]"),
        (dict[str, list[Person]], "dict[str, list[Person]]"),
        (Literal["a.b", "c"], "Literal['a.b', 'c']"),
        ({"type": "object", "title": "Thing"}, "Thing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_names_the_type_as_it_was_written(format: Any, said: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(format, "?")
    assert str(caught.value).startswith(f"the answer is not a valid {said!r}: ")


def test_a_cut_is_no_bad_output() -> None:
    with pytest.raises(ParseError, match=r"token limit.*max_tokens"):
        parse(Address, '{"street": "El', "length")


def test_schemas_of_dataclasses_and_typed_dicts_allow_no_other_keys() -> None:
    town = make_output_format(Town).schema.schema
    assert town["additionalProperties"] is False
    assert town["required"] == ["name"]
    assert {name: each["additionalProperties"] for name, each in town["$defs"].items() if "properties" in each} == {
        "Address": False,
        "Person": False,
    }
    assert town["$defs"]["Address"]["description"] == "Where somebody lives."
    assert "description" not in town["$defs"]["Person"], "a docstring that dataclass makes says nothing"


def test_pydantic_models_keep_their_own_configuration() -> None:
    assert make_output_format(OpenModel).schema.schema["additionalProperties"] is True
    assert "additionalProperties" not in make_output_format(Model).schema.schema
    assert parse(OpenModel, '{"name": "Ada", "age": 3}').age == 3


def test_nothing_of_the_users_class_is_changed() -> None:
    before = dict(vars(Address))
    parse(Address, '{"street": "Elm"}')
    assert dict(vars(Address)) == before


FENCED = [
    'Here it is:\n```json\n{"street": "Elm"}\n```\nAnything else?',
    '```\n{"street": "Elm"}\n```',
    'Sure! {"street": "Elm"} is the address.',
    'I looked in [the book] first. {"street": "Elm"}',
    '```json\n{"street": "Elm"}',
    '\n\n  {"street": "Elm"}\n',
]


@pytest.mark.parametrize("text", FENCED)
def test_fences_and_prose_around_a_value_are_tolerated(text: str) -> None:
    assert parse(Address, text) == Address("Elm")


def test_prose_around_a_number_is_tolerated_if_there_is_only_one() -> None:
    assert parse(int, "The answer is 42.") == 42
    assert parse(float, "About 2.5, I think") == 2.5
    assert parse(int, "42 (that is, 42)") == 42
    with pytest.raises(ParseError):
        parse(int, "In 2024 it was 7.")


def test_the_reason_is_that_of_the_json_found() -> None:
    with pytest.raises(ParseError, match="street"):
        parse(Address, '```json\n{"street": 1}\n```')


BROKEN = ['{"home": {"street": "Elm"}, oops}', '[{"street": "Elm"}, {"street', 'So: {"a": [{"street": "Elm"}]']


@pytest.mark.parametrize("text", BROKEN)
def test_nothing_is_taken_out_of_what_is_wrong_or_cut(text: str) -> None:
    for finish_reason in ("stop", "length"):
        with pytest.raises(ParseError):
            parse(Address, text, finish_reason)


def test_a_value_that_was_complete_before_the_cut_is_taken() -> None:
    assert parse(Address, '```json\n{"street": "Elm"}\n```\nThis is the addr', "length") == Address("Elm")
    assert parse(Address, '{"street": "Elm"} is the addr', "length") == Address("Elm")
    with pytest.raises(ParseError, match="token limit"):
        parse(int, "The answer is 4", "length")


def test_text_of_brackets_costs_no_more_than_a_few_looks() -> None:
    with pytest.raises(ParseError):
        parse(Address, "[" * 200_000)
    with pytest.raises(ParseError):
        parse(Address, '{"a": ' * 50_000)


def test_local_classes_that_name_each_other_are_resolved_while_their_function_runs() -> None:
    @dataclass
    class Inner:
        x: int

    @dataclass
    class Outer:
        inner: Inner
        outers: list[Outer] | None = None

    assert parse(Outer, '{"inner": {"x": 1}}') == Outer(Inner(1))
    m = mellea.start_session(ScriptedBackend('{"inner": {"x": 1}, "outers": [{"inner": {"x": 2}}]}'))
    assert m.instruct("x", format=Outer).parsed == Outer(Inner(1), [Outer(Inner(2))]), "in another thread"
    stream = m.stream("x", format=list[Outer])
    assert list(stream)


@pytest.mark.anyio
async def test_local_classes_are_resolved_in_async_functions() -> None:
    class Inner(TypedDict):
        x: int

    class Outer(TypedDict):
        inner: Inner

    m = mellea.start_session(ScriptedBackend('{"inner": {"x": 1}}'))
    assert (await m.ainstruct("x", format=Outer)).parsed == {"inner": {"x": 1}}


def test_a_name_that_is_nowhere_is_named() -> None:
    def make() -> type:
        @dataclass
        class Inner:
            x: int

        @dataclass
        class Outer:
            inner: Inner

        return Outer

    with pytest.raises(UsageError, match=r"'Inner' in the annotations of 'Outer'.*in the module"):
        make_output_format(make())


@pytest.mark.parametrize("format", [object(), "json", 42, lambda: 1], ids=["object", "str", "int", "function"])
def test_what_is_no_type_is_refused(format: Any) -> None:
    with pytest.raises(UsageError, match="format can't be"):
        make_output_format(format)


def test_a_list_of_choices_is_pointed_to_a_literal() -> None:
    with pytest.raises(UsageError, match=r"Literal\[…\] for a choice"):
        make_output_format(["red", "blue"])


def test_marks_are_for_us_and_never_in_the_schema_that_is_sent() -> None:
    class Marked(TypedDict):
        id: Annotated[str, HoldBack()]
        address: Annotated[Address, Needed(), HoldBack()]

    format = make_output_format(list[Marked])
    assert "x-mellea" not in json.dumps(format.schema.schema)
    assert json.dumps(format.marked).count("x-mellea") == 3


def test_a_format_is_made_once_for_a_type_that_means_the_same_everywhere() -> None:
    assert make_output_format(list[Person]) is make_output_format(list[Person])
    assert make_output_format(list["Person"]) is not make_output_format(list["Person"])
    assert make_output_format(int | str).schema.schema != make_output_format(str | int).schema.schema


def test_a_format_pickles_with_its_type() -> None:
    twin = pickle.loads(pickle.dumps(make_output_format(list[Person])))
    assert twin.validate('[{"name": "Ada"}]') == [Person("Ada")]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "integer", "minimum": 11, "maximum": 19, "multipleOf": 10}, "no multiple of 10"),
        ({"type": "number", "minimum": 0.1, "maximum": 0.2, "multipleOf": 0.3}, "no multiple of 0.3"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.7}, "no integer"),
        ({"type": "number", "multipleOf": float("inf")}, "a number above 0, not inf"),
        ({"type": "number", "minimum": float("nan")}, "a number, not nan"),
        (type[int], "JSON has no classes"),
        (list[type[int]], "JSON has no classes"),
    ],
)
def test_what_no_number_and_no_json_can_meet_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        make_output_format(schema)


def test_limits_that_one_number_meets_are_taken() -> None:
    for schema in (
        {"type": "number", "minimum": 0.3, "maximum": 0.3, "multipleOf": 0.1},
        {"type": "integer", "exclusiveMinimum": 10, "maximum": 20, "multipleOf": 10},
        {"type": "integer", "minimum": 10**400, "maximum": 10**400},
    ):
        assert make_output_format(schema)


def test_a_format_keeps_nothing_of_the_function_that_uses_it_first() -> None:
    @dataclass
    class Place:
        name: str

    class Large:
        pass

    def use() -> weakref.ref[Large]:
        large = Large()
        make_output_format(Place)
        return weakref.ref(large)

    gc.disable()
    try:
        assert use()() is None
    finally:
        gc.enable()
