"""Objects that a model sees: which fields, which methods, and how an object is marked."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field, SecretStr

import mellea
from mellea.core import CBlock, Component, ComputedModelOutputThunk, TemplateRepresentation, ToolCall
from mellea.core.component import is_component
from mellea.core.events import ToolEnd
from mellea.errors import UsageError
from mellea.stdlib.components import (
    Document,
    Instruction,
    MObject,
    Query,
    Table,
    Transform,
    get_tools,
    mify,
    render_messages,
)
from mellea.templates import to_text
from mellea.testing import ScriptedBackend


def said(obj: Any) -> str:
    return render_messages(Query(obj, "?"))[0].content.removesuffix("\n\nAnswer this from the above: ?")


def names(obj: Any) -> list[str]:
    return [tool.name for tool in get_tools(obj)]


class Shop:
    """A shop."""

    country: str = "Norway"
    founded: ClassVar[int] = 1900

    def __init__(self, goods: list[str]) -> None:
        self.goods = goods
        self._secret = "x"
        self.on_sale = print

    @property
    def size(self) -> int:
        """Not a method."""
        return len(self.goods)

    def sell(self, thing: str) -> str:
        """Sell a thing.

        Args:
            thing: what.
        """
        self.goods.remove(thing)
        return f"sold {thing}"

    def undocumented(self) -> None: ...

    def _hidden(self) -> None:
        """Hide."""

    @classmethod
    def make(cls, goods: list[str]) -> Shop:
        """Open a shop."""
        return cls(goods)

    @staticmethod
    def greet() -> str:
        """Greet."""
        return "hi"


def test_public_fields_are_shown_in_their_order_and_documented_methods_are_tools() -> None:
    shop = Shop(["tea", "oil"])
    assert said(shop) == 'Shop:\n- country: Norway\n- goods: ["tea", "oil"]'
    assert names(shop) == ["sell", "make", "greet"]
    spec = get_tools(shop)[0].spec
    assert spec.description == "Sell a thing."
    assert list(spec.parameters["properties"]) == ["thing"]


def test_fields_are_chosen() -> None:
    for chosen in (["size", "country"], {"country", "size"}):
        assert said(mify(Shop(["tea"]), fields_include=chosen)) == "Shop:\n- country: Norway\n- size: 1"
    assert said(mify(Shop(["tea"]), fields_exclude={"goods"})) == "Shop:\n- country: Norway"
    assert said(mify(Shop(["tea"]), fields_include={"goods", "size"}, fields_exclude={"size"})).endswith('["tea"]')
    assert said(mify(Shop([]), fields_include=["_secret"])) == "Shop:\n- _secret: x"
    assert said(mify(Shop([]), fields_include=[])) == "Shop"


def test_a_misspelt_name_is_an_error_rather_than_a_secret_told() -> None:
    with pytest.raises(UsageError, match="Shop has no field 'gods'; did you mean 'goods'"):
        said(mify(Shop([]), fields_include={"gods"}))
    with pytest.raises(UsageError, match="no field 'contry'; did you mean 'country'"):
        said(mify(Shop([]), fields_exclude={"contry"}))
    with pytest.raises(UsageError, match="Shop has no method 'sel'"):
        names(mify(Shop([]), funcs_include={"sel"}))
    with pytest.raises(UsageError, match="Shop has no method 'sel'"):
        names(mify(Shop([]), funcs_exclude={"sel"}))


def test_methods_are_chosen() -> None:
    assert names(mify(Shop([]), funcs_include=["undocumented", "greet"])) == ["undocumented", "greet"]
    assert names(mify(Shop([]), funcs_exclude={"make", "greet"})) == ["sell"]
    assert names(mify(Shop([]), funcs_include=set())) == []


def test_text_of_its_own() -> None:
    @mify
    class Own(Shop):
        def __str__(self) -> str:
            return f"shop with {len(self.goods)}"

    assert said(Own(["tea"])) == "shop with 1"
    assert said(mify(Own(["tea"]), fields_include={"goods"})) == 'Own:\n- goods: ["tea"]'
    assert said(mify(Own([]), stringify_func=lambda shop: f"in {shop.country}")) == "in Norway"
    assert said(mify(Own(["a"]), template="{{ goods|join }} in {{ country }}")) == "a in Norway"
    with pytest.raises(UsageError, match="stringify_func of Own returns a string, not 3"):
        said(mify(Own([]), stringify_func=lambda shop: 3))  # type: ignore[arg-type, return-value]


@mify
@dataclass
class Person:
    name: str
    friends: list[Person] = field(default_factory=list)

    def rename(self, name: str) -> Person:
        """Give another name."""
        return Person(name, self.friends)


@mify(fields_exclude=["password"])
@dataclass(frozen=True, slots=True)
class Account:
    user: str
    password: str


class Model(BaseModel):
    a: int
    b: str = "x"

    def double(self) -> int:
        """Double it."""
        return self.a * 2


def test_dataclasses_slots_and_pydantic_models() -> None:
    assert said(Account("ann", "1234")) == "Account:\n- user: ann"
    assert said(Person("Ann")) == "Person:\n- name: Ann\n- friends: []"
    assert names(Person("Ann")) == ["rename"]
    assert said(Model(a=1)) == "Model:\n- a: 1\n- b: x"
    assert names(Model(a=1)) == ["double"]
    assert names(mify(Model(a=1), funcs_include={"model_dump_json"})) == ["model_dump_json"]


def test_objects_inside_objects_are_said_too_and_circles_end() -> None:
    ann = Person("Ann", [Person("Bo")])
    assert "Person:\\n- name: Bo" in said(ann)
    ann.friends.append(ann)
    with pytest.raises(UsageError, match="contains itself"):
        said(ann)


def test_mify_changes_neither_the_object_nor_its_class() -> None:
    shop = Shop(["tea"])
    assert mify(shop, fields_include={"goods"}) is shop
    assert type(shop) is Shop
    assert not is_component(Shop([])), "other objects of the class aren't marked"
    twin = copy.deepcopy(shop)
    twin.goods.append("oil")
    assert said(twin).endswith('["tea", "oil"]')
    assert said(shop).endswith('["tea"]')
    ann = mify(Person("Ann"), fields_include={"name"})
    assert said(pickle.loads(pickle.dumps(ann))) == "Person:\n- name: Ann"
    assert ann == Person("Ann")
    assert Person.__name__ == "Person"
    assert mify(Person) is Person


def test_a_marked_object_is_a_component() -> None:
    ann = Person("Ann")
    assert isinstance(ann, Component)
    assert to_text(ann) == "Person:\n- name: Ann\n- friends: []"
    assert to_text(ann.format_for_llm()) == to_text(ann)  # type: ignore[attr-defined]
    task = Instruction("Greet {{ who.name }} {{ who }}", user_variables={"who": {"name": "A"}}, input=ann)
    assert render_messages(task)[0].content.endswith("Input:\nPerson:\n- name: Ann\n- friends: []")
    assert is_component(mify(Shop([])))


def test_names_of_the_class_itself_stay_its_own() -> None:
    @mify
    class Parser:
        parts: list[str]

        def __init__(self) -> None:
            self.parts = ["wheel", "door"]

        def parse(self, text: str) -> int:
            """Parse a text."""
            return len(text)

    parser = Parser()
    assert parser.parse("abc") == 3
    assert said(parser) == 'Parser:\n- parts: ["wheel", "door"]'
    assert render_messages(parser)[0].content == said(parser)


def test_a_class_that_says_itself_is_heard() -> None:
    @mify(funcs_exclude={"turn"})
    class Own:
        def format_for_llm(self) -> str:
            return "as I say"

        def turn(self) -> None:
            """Turn."""

    assert said(Own()) == "as I say"
    assert names(Own()) == []
    with pytest.raises(UsageError, match="Own is rendered by its own format_for_llm"):
        mify(fields_include={"x"})(Own)


def test_mobject_does_the_same_by_inheritance() -> None:
    class Base(MObject, fields_exclude={"b"}):
        def __init__(self) -> None:
            self.a, self.b = "1", CBlock("two")

        def go(self) -> None:
            """Go."""

    class Derived(Base):
        def stop(self) -> None:
            """Stop."""

    class Speaker(Base):
        def format_for_llm(self) -> str:
            return "own words"

    assert said(Derived()) == "Derived:\n- a: 1"
    assert names(Derived()) == ["go", "stop"]
    assert said(Speaker()) == "own words"
    assert said(mify(Derived(), fields_include={"b"})) == "Derived:\n- b: two"
    assert isinstance(Base(), Component)
    with pytest.raises(UsageError, match="fields"):

        class Wrong(MObject, fields={"a"}):
            pass


def test_plain_values_texts_and_components_can_be_asked_about() -> None:
    assert said({"a": [1]}) == '{"a": [1]}'
    assert said("text") == "text"
    assert said(ComputedModelOutputThunk("written")) == "written"
    assert names("text") == names(ComputedModelOutputThunk("x")) == names(CBlock("x")) == names([1]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fields_include": "goods"}, "a set of names, not 'goods'"),
        ({"funcs_include": 3}, "a set of names, not 3"),
        ({"fields_exclude": [1]}, "a set of names"),
        ({"stringify_func": "x"}, "a function of the object"),
        ({"template": 1}, "a template or its name"),
        ({"stringify_func": str, "template": "x"}, "makes the whole text"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mify(Shop([]), **arguments)


def test_a_subclass_of_mobject_takes_the_arguments_of_mify_and_no_others() -> None:
    with pytest.raises(UsageError, match=r"takes no argument 'exclude'; fields_exclude=\{…\} hides fields"):
        type("Store", (MObject,), {}, exclude={"password"})
    with pytest.raises(UsageError, match=r"takes no argument 'colour'; it takes fields_include, .*, template$"):
        type("Store", (MObject,), {}, colour="blue")


def test_what_cant_be_marked_or_asked_about_is_refused() -> None:
    for obj in ([], 3, "text", None):
        with pytest.raises(UsageError, match=r"can.t be marked.*query and transform take any object"):
            mify(obj)
    for what in (Query, Transform):
        with pytest.raises(UsageError, match="about an object, not about None"):
            what(None, "x")
        with pytest.raises(UsageError, match="is empty"):
            what("x", " ")
        with pytest.raises(UsageError, match="takes a string, not 3"):
            what("x", 3)  # type: ignore[arg-type]
    for what in (len, lambda: 1, copy):
        with pytest.raises(UsageError, match="takes a class or an object"):
            mify(what)


class Small(Enum):
    ONE = 1


PLAIN_VALUES = [
    (date(2024, 5, 1), '"2024-05-01"'),
    (Decimal("1.5"), '"1.5"'),
    (PurePosixPath("/a"), '"/a"'),
    (Small.ONE, "1"),
    ({Small.ONE}, "[1]"),
    (SimpleNamespace(a=1), "SimpleNamespace:\n- a: 1"),
]


@pytest.mark.parametrize(("obj", "text"), PLAIN_VALUES, ids=[repr(obj) for obj, _ in PLAIN_VALUES])
def test_values_of_pythons_own_classes_are_said_and_not_their_names_alone(obj: Any, text: str) -> None:
    assert said(obj) == text


@pytest.mark.parametrize("obj", [len, copy, ValueError("x"), object()], ids=["builtin", "module", "error", "object"])
def test_what_has_nothing_to_say_is_refused(obj: Any) -> None:
    with pytest.raises(UsageError, match="can't be put into a prompt"):
        said(obj)


def test_a_generator_isnt_used_up_for_a_prompt() -> None:
    numbers = (number for number in range(3))
    with pytest.raises(UsageError, match="make a list of it"):
        to_text(numbers)
    assert list(numbers) == [0, 1, 2]


class Vault(BaseModel):
    owner: str
    code: str = Field("SECRET", exclude=True)
    key: SecretStr = SecretStr("SECRET")


def test_what_a_pydantic_model_excludes_is_shown_only_if_it_is_chosen() -> None:
    assert said(Vault(owner="Ann")) == 'Vault:\n- owner: Ann\n- key: "**********"'
    assert said(mify(fields_include={"code"})(type("Open", (Vault,), {}))(owner="Ann")) == "Open:\n- code: SECRET"


@dataclass(frozen=True)
class Holder:
    inside: Any
    also: str = "x"


class Bank(BaseModel):
    account: Any
    branches: list[Bank] = []


HIDDEN = Account("ann", "SECRET")

PLACES: list[Any] = [
    HIDDEN,
    [HIDDEN],
    {"a": (HIDDEN,)},
    {HIDDEN},
    Holder(HIDDEN),
    [Holder([Holder(HIDDEN)])],
    frozenset({Holder(HIDDEN)}),
    Bank(account=HIDDEN),
    Bank(account=1, branches=[Bank(account=Holder(HIDDEN))]),
    Table([[Holder(HIDDEN)]], ["cell"]),
    Table([[HIDDEN]], ["cell"]),
    Document("x", title="y"),
]


@pytest.mark.parametrize("value", PLACES, ids=lambda value: repr(value)[:40])
def test_a_field_that_isnt_shown_is_shown_nowhere(value: Any) -> None:
    def look() -> Any:
        """Look at it."""
        return value

    call = ToolEnd(ToolCall("1", "look", {}))
    backend = ScriptedBackend([call], "Fine.")
    m = mellea.start_session(backend)
    m.instruct(
        "Look at {{it}}.",
        user_variables={"it": value},
        input=value,
        grounding_context={"it": value},
        icl_examples=[value],
        tools=[look],
        tool_calls="run",
    )
    m.query(value, "?")
    m.query(Holder(value), "?")
    requests = repr(backend.requests)
    assert "SECRET" not in requests
    assert "ann" in requests or isinstance(value, Document)


def test_a_classs_own_methods_may_extend_those_of_mobject() -> None:
    class Customer(MObject, fields_exclude={"pin"}):
        def __init__(self) -> None:
            self.name, self.pin = "Ann", "1234"

        def parts(self) -> Any:
            return [*super().parts(), "more"]

        def format_for_llm(self) -> Any:  # type: ignore[override]
            said = super().format_for_llm()
            return TemplateRepresentation(said.template, {**said.args, "name": "A customer"})

        def parse(self, generation: Any) -> str:
            return f"{super().parse(generation)}!"

    class Loyal(Customer):
        def format_for_llm(self) -> Any:
            return super().format_for_llm()

    @mify(fields_exclude={"pin"})
    class Marked:
        def __init__(self) -> None:
            self.name, self.pin = "Ann", "1234"

    class Extended(Marked):
        def format_for_llm(self) -> Any:
            return super().format_for_llm()  # type: ignore[misc]

    for obj, name in ((Customer(), "A customer"), (Loyal(), "A customer"), (Extended(), "Extended")):
        backend = ScriptedBackend("Yes")
        mellea.start_session(backend).query(obj, "Who?")
        assert backend.prompts[0] == f"{name}:\n- name: Ann\n\nAnswer this from the above: Who?"
    assert mellea.start_session(ScriptedBackend("Yes")).act(Customer()).parsed == "Yes!"
