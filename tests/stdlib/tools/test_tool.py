"""Tools: what a model is told of a function, and what a call of one does."""

from __future__ import annotations

import enum
import functools
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, Required, TypedDict

import pytest
from pydantic import BaseModel, Field

import mellea
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools import Tool, as_tool, tool


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclass
class Place:
    city: str
    tags: list[str] = field(default_factory=list)


@dataclass
class Trip:
    stops: list[Place]


class Model(BaseModel):
    value: int


def weather(city: str, days: int = 1, *, unit: Unit = Unit.CELSIUS) -> str:
    """Look up the weather.

    Args:
        city: where
        unit: which scale
    """
    return f"{city} {days} {unit.name}"


async def later(place: Optional[Place], kind: Literal["a", "b"], number: int | str, trip: Trip | None = None) -> Any:  # noqa: UP045
    return place, kind, number, trip


def properties(function: Any) -> dict[str, Any]:
    return dict(as_tool(function).spec.parameters["properties"])


def test_the_schema_comes_from_annotations_and_docstring() -> None:
    spec = as_tool(weather).spec
    assert (spec.name, spec.description) == ("weather", "Look up the weather.")
    assert spec.parameters["required"] == ["city"]
    assert spec.parameters["additionalProperties"] is False
    assert spec.parameters["properties"]["city"] == {"type": "string", "description": "where"}
    assert spec.parameters["properties"]["days"] == {"type": "integer", "default": 1}
    assert spec.parameters["properties"]["unit"]["description"] == "which scale"
    assert spec.parameters["$defs"]["Unit"]["enum"] == ["C", "F"]


@pytest.mark.anyio
async def test_part_4_number_6_types_in_tools_with_future_annotations() -> None:
    found = properties(later)
    assert found["place"]["anyOf"][1] == {"type": "null"}
    assert found["kind"]["enum"] == ["a", "b"]
    assert [option["type"] for option in found["number"]["anyOf"]] == ["integer", "string"]
    args = {
        "place": {"city": "Rome"},
        "kind": "b",
        "number": "x",
        "trip": {"stops": [{"city": "Oslo", "tags": ["cold"]}]},
    }
    called = await as_tool(later).call(args)
    assert called == (Place("Rome"), "b", "x", Trip([Place("Oslo", ["cold"])]))
    assert await as_tool(later).call({"place": None, "kind": "a", "number": 1}) == (None, "a", 1, None)


class Keys(TypedDict, total=False):
    a: Required[int]
    b: str


@pytest.mark.anyio
async def test_typed_dicts_and_dataclasses_are_held_strictly() -> None:
    def take(keys: Keys, place: Place) -> Any:
        return keys, place

    assert await as_tool(take).call({"keys": {"a": 1}, "place": {"city": "Rome"}}) == ({"a": 1}, Place("Rome"))
    for bad, said in [
        ({"a": "1"}, "'keys.a' is not valid"),
        ({"a": 1, "c": 2}, "no argument 'keys.c'"),
        ({}, "missing"),
    ]:
        with pytest.raises(ToolError, match=said):
            await as_tool(take).call({"keys": bad, "place": {"city": "Rome"}})


def test_annotations_may_name_what_is_local_to_the_function_around() -> None:
    @dataclass
    class Local:
        x: int

    @tool
    def take(value: Local) -> int:
        return value.x

    assert take.spec.parameters["properties"]["value"] == {"$ref": "#/$defs/Local"}


@pytest.mark.anyio
async def test_arguments_become_values_of_their_types() -> None:
    assert await as_tool(weather).call({"city": "Rome", "unit": "F"}) == "Rome 1 FAHRENHEIT"

    def take(model: Model, pair: tuple[int, str], many: set[int]) -> Any:
        return model, pair, many

    given = {"model": {"value": 1}, "pair": [1, "a"], "many": [1, 1]}
    assert await as_tool(take).call(given) == (Model(value=1), (1, "a"), {1})


@pytest.mark.anyio
async def test_names_that_pydantic_has_itself_are_names_like_others() -> None:
    def odd(json: int, schema: int, _x: int, model_config: int, self_: int) -> int:
        return json + schema + _x + model_config + self_

    given = {"json": 1, "schema": 2, "_x": 3, "model_config": 4, "self_": 5}
    assert list(properties(odd)) == list(given)
    assert await as_tool(odd).call(given) == 15


@pytest.mark.anyio
async def test_positional_only_parameters_and_mutable_defaults() -> None:
    def keep(a: int, b: int = 2, /, c: list[int] = []) -> list[int]:  # noqa: B006
        c.append(a + b)
        return c

    assert await as_tool(keep).call({"a": 1}) == [3]
    assert await as_tool(keep).call({"a": 1, "b": 5}) == [3, 6], "the default is the function's own, as in Python"


@pytest.mark.anyio
async def test_a_sync_function_runs_in_a_thread_and_an_async_one_on_the_loop() -> None:
    def thread() -> int:
        return threading.get_ident()

    async def loop() -> int:
        return threading.get_ident()

    assert await as_tool(thread).call({}) != threading.get_ident()
    assert await as_tool(loop).call() == threading.get_ident()
    assert await as_tool(lambda: loop(), name="x").call() == threading.get_ident()


class Shop:
    """A shop."""

    def __init__(self, stock: int) -> None:
        self.stock = stock

    def buy(self, count: int) -> int:
        """Buy some."""
        return self.stock - count

    @tool
    def sell(self, count: int) -> int:
        """Sell some."""
        return self.stock + count

    def __call__(self, count: int) -> int:
        """Count."""
        return count


@pytest.mark.anyio
async def test_methods_partials_and_callable_objects_are_tools() -> None:
    shop = Shop(10)
    assert list(properties(shop.buy)) == list(properties(shop.sell)) == ["count"]
    assert as_tool(shop.sell).spec.description == "Sell some."
    assert [await as_tool(function).call({"count": 3}) for function in (shop.buy, shop.sell, shop)] == [7, 13, 3]
    assert as_tool(shop, name="count").spec.description == "Count."
    partly = as_tool(functools.partial(weather, unit=Unit.FAHRENHEIT))
    assert list(partly.spec.parameters["properties"]) == ["city", "days"]
    assert partly.spec.description == "Look up the weather."
    assert await partly.call({"city": "Rome"}) == "Rome 1 FAHRENHEIT"


def test_a_method_without_its_object_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="take it from an instance"):
        _ = as_tool(Shop.buy).spec


def test_a_tool_is_still_the_function_that_it_is() -> None:
    assert Shop(1).sell(2) == 3
    doubled = tool(name="double", description="Double it.")(lambda x: 2 * x)
    assert doubled(4) == 8
    assert (doubled.spec.name, doubled.spec.description) == ("double", "Double it.")
    assert mellea.stdlib.tools.tool is tool


def test_a_tool_is_renamed_and_otherwise_taken_as_it_is() -> None:
    made = as_tool(weather)
    assert as_tool(made) is made
    assert as_tool(made, name="forecast").spec.name == "forecast"
    assert as_tool(made, name="forecast").spec.parameters == made.spec.parameters


def test_annotated_fields_and_defaults_say_more() -> None:
    def take(count: Annotated[int, Field(ge=1, description="how many")], limit=10, free=None) -> None:  # type: ignore[no-untyped-def]
        """Take."""

    found = properties(take)
    assert found["count"] == {"type": "integer", "minimum": 1, "description": "how many"}
    assert found["limit"] == {"type": "integer", "default": 10}
    assert found["free"] == {"default": None}


def test_a_default_without_a_json_form_is_no_warning() -> None:
    def take(value: Any = object()) -> None:  # noqa: B008
        """Take."""

    assert properties(take) == {"value": {}}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "the argument 'city' is missing"),
        ({"city": 3}, "the argument 'city' is not valid: Input should be a valid string; it was 3"),
        ({"city": "x", "town": 1}, "there is no argument 'town'"),
        ({"city": "x", "unit": "K"}, "the argument 'unit' is not valid: Input should be 'C' or 'F'; it was \"K\""),
        ({"city": "x", "days": [], "unit": 1}, "'days' is not valid.*; the argument 'unit' is not valid"),
        ({"city": object()}, "the arguments can't be read"),
    ],
)
async def test_bad_arguments_are_told_in_words_for_the_model(args: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        await as_tool(weather).call(args)


def variadic(*args: int) -> None: ...
def keywords(**kwargs: int) -> None: ...
def unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def no_json(x: threading.Thread) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (variadic, r"the tool 'variadic' takes \*args"),
        (keywords, r"the tool 'keywords' takes \*\*kwargs"),
        (unknown, "the tool 'unknown' has an annotation with an unknown name: name 'Nowhere' is not defined"),
        (no_json, "a parameter of the tool 'no_json' has a type without a JSON form"),
        (Shop, "a tool is made from a function, not from <class"),
        ("weather", "tools takes functions and Tools, not 'weather'"),
        (lambda x: x, "'<lambda>'; give it one with name="),
    ],
)
def test_what_can_be_no_tool_is_refused_with_the_reason(function: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _ = as_tool(function).spec


def test_a_tool_shows_its_name() -> None:
    assert repr(as_tool(weather)) == "<Tool 'weather'>"
    assert isinstance(as_tool(weather), Tool)


def test_names_that_no_parameter_uses_need_not_exist() -> None:
    """What stands under TYPE_CHECKING alone says nothing that a model has to know."""
    namespace: dict[str, Any] = {}
    source = "def price(self, item: str, when: Missing) -> Absent:\n    'Look up a price.'\n    return item\n"
    exec(f"from __future__ import annotations\n{source}", namespace)
    method = namespace["price"].__get__(object())
    assert Tool(functools.partial(method, when=1)).spec.parameters["properties"] == {"item": {"type": "string"}}
    with pytest.raises(UsageError, match=r"Missing.*TYPE_CHECKING"):
        _ = Tool(method).spec
