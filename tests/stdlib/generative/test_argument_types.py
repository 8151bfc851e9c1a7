"""Arguments of prompt functions are checked against their annotations before the model is asked."""

from __future__ import annotations

import copy
import datetime
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import pytest
from pydantic import BaseModel, Field

from mellea import command, generative, start_session
from mellea.core import CBlock, Component, ImageBlock, Message, ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components import Document
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Name = NewType("Name", str)


class Colour(Enum):
    RED = "red"


class Picture:
    """A class of somebody else."""


class Model(BaseModel):
    age: int


@dataclass
class Person:
    age: int


class Row(TypedDict):
    age: int


class Named(Protocol):
    name: str


@runtime_checkable
class Closable(Protocol):
    def close(self) -> None: ...


def make(kind: Any) -> Any:
    """Return a generative function with one parameter of a type."""

    def ask(it: Any) -> str:
        """Say something."""
        raise AssertionError

    ask.__annotations__["it"] = kind
    return generative(ask)


def ask(function: Any, *args: Any, **kwargs: Any) -> int:
    """Call a function, and return how many requests it made."""
    backend = ScriptedBackend("yes")
    function(start_session(backend), *args, **kwargs)
    return len(backend.requests)


FITS: list[tuple[Any, Any]] = [
    (str, "a"), (str, 5), (str, 1.5), (str, b"a"),
    (int, 5), (int, True), (int, "5"), (int, 5.0), (float, 1), (float, "1.5"), (bool, "yes"), (bool, 0),
    (int | None, None), (Union["int", None], "5"), ("int | None", None), (Literal["a", None], None), (None, None),
    (Any, None), (object, None), (T, None), (list[T], [None]), (Hashable, None),
    ("Unknown", None), ("list[Unknown]", 5), (Named, None), (Closable, 5), (list[Closable], [5]),
    (CBlock, "a"), (list[CBlock], ["a"]), (ModelOutputThunk[int], "a"), (Component, "a"), (Document, "a"),
    (Message, {"role": "user", "content": "hi"}), (list[Message], [{"role": "user", "content": "hi"}]),
    (Sequence[str], ("a",)), (list[str], ("a", "b")), (set[int], [1]), (Iterable[str], ["a"]), (tuple[int, ...], [1]),
    (Model, {"age": 5}), (Model, {}), (Person, {"age": 5}), (Row, {"years": 5}), (Mapping[str, list[int]], {"a": [1]}),
    (Colour, "red"), (datetime.date, "2026-11-27"), (Name, "a"), (Annotated[int, Field(gt=0)], 1),
    (Annotated[str, "what a customer wrote"], "a"),
]  # fmt: skip
"""Types, and values that may stand for them."""

MISTAKES: list[tuple[Any, Any, str]] = [
    (str, None, "takes 'it' as str, not None; annotate it with `str | None` if it may be missing"),
    (str, ["a"], r"as str, not \['a'\]$"), (str, {"a": 1}, "as str, not {'a': 1}$"), (str, True, "as str, not True"),
    (int, None, "as int, not None"), (int, {"a": 1}, "as int, not {'a': 1}$"), (int, "many", "as int, not 'many'$"),
    (int, 1.5, "as int, not 1.5"), (float, "x", "as float, not 'x'"), (bool, "perhaps", "as bool, not 'perhaps'"),
    ("int | None", "x", r"as int \| None, not 'x'"), (None, 5, "as NoneType, not 5"),
    (Literal["a", "b"], "c", r"as Literal\['a', 'b'\], not 'c'"), (Colour, "blue", "as Colour, not 'blue'"),
    (Sequence[str], "abc", r"as Sequence\[str\], not 'abc'"), (list[str], 5, r"as list\[str\], not 5"),
    (list[str], ["a", None], r"not \['a', None\]; 1: Input should be a valid string"),
    (dict[str, int], {"a": "x"}, "a: Input should be a valid integer"), (tuple[int, ...], ["x"], "0: Input should be"),
    (Person, "Ann", "as Person, not 'Ann'"), (Person, {"age": "x"}, "age: Input should be a valid integer"),
    (Model, None, "as Model, not None"), (Model, [5], r"as Model, not \[5\]"), (Row, "a", "as Row, not 'a'"),
    (list[Row], ["a"], r"as list\[Row\], not \['a'\]"), (list[Closable], 5, "not 5"), (list[CBlock], "a", "not 'a'"),
    (Picture, "a.png", "as Picture, not 'a.png'"), (ImageBlock, "a.png", "as ImageBlock, not 'a.png'"),
    (Message, "hi", "as Message, not 'hi'"), (Document, None, "as Document, not None"), (CBlock, None, "not None"),
    (Callable[[int], str], "a", "not 'a'"), (datetime.date, "tomorrow", "as date, not 'tomorrow'"),
    (Name, None, "as Name, not None"),
    (Annotated[int, Field(gt=0)], -1, "as int, not -1; Input should be greater than 0"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), FITS, ids=str)
def test_a_value_that_may_stand_for_its_type_is_accepted(kind: Any, value: Any) -> None:
    assert ask(make(kind), value) == 1


@pytest.mark.parametrize(("kind", "value", "message"), MISTAKES, ids=str)
def test_a_value_of_another_type_is_refused_before_the_model_is_asked(kind: Any, value: Any, message: str) -> None:
    backend = ScriptedBackend("yes")
    with pytest.raises(UsageError, match=message) as caught:
        make(kind)(start_session(backend), value)
    assert str(caught.value).startswith("ask() takes 'it' as ")
    assert not backend.requests


@pytest.mark.parametrize("kind", [str, int, list[str], Literal["a"], Person, Row])
def test_objects_are_not_checked(kind: Any) -> None:
    class Text(str):
        pass

    class Number:
        def format_for_llm(self) -> str:
            return "5"

        def parts(self) -> list[Any]:
            return []

        def parse(self, generation: Any) -> str:
            return ""

    for value in (Text("b"), CBlock("b"), Number(), Document("b"), [CBlock("b")], {"a": Document("b")}):
        assert ask(make(kind), value) == 1


async def test_thunks_are_accepted_before_and_after_they_are_computed() -> None:
    backend = ScriptedBackend("5", "yes", "yes", "yes")
    m = start_session(backend)
    thunk = await m.ainstruct("Say a number.", format=int, await_result=False)

    @generative
    async def double(number: int, more: list[int]) -> str:
        """Double it."""
        raise AssertionError

    @command
    async def triple(number: int) -> str:
        return f"Three times {number}?"

    await double(m, thunk, [thunk])
    await triple(m, thunk)
    await double(m, thunk, more=[thunk])
    assert len(backend.requests) == 4


async def test_each_way_to_call_a_function_checks() -> None:
    backend = ScriptedBackend("yes")
    m = start_session(backend)

    @generative
    async def count(text: str) -> int:
        """Count."""
        raise AssertionError

    @command(output=list[int])
    def repeat(text: str) -> str:
        return text

    for call in (lambda: repeat(m, None), lambda: repeat.stream(m, None), lambda: repeat.astream(m, None),
                 lambda: count.stream(m, text=None), lambda: count.astream(m, text=None)):  # fmt: skip
        with pytest.raises(UsageError, match="takes 'text' as str, not None"):
            call()
    with pytest.raises(UsageError, match=r"count\(\) takes 'text' as str, not None"):
        await count(m, None)
    assert not backend.requests


def test_methods_and_parameters_of_any_number_are_checked() -> None:
    class Desk:
        @generative
        def sort(self, *letters: str, **counts: int) -> str:
            """Sort."""
            raise AssertionError

    assert ask(Desk.sort, Desk(), "a", "b", x=1) == 1
    m = start_session(ScriptedBackend("yes"))
    with pytest.raises(UsageError, match=r"sort\(\) takes '\*letters' as str, not None"):
        Desk().sort(m, "a", None)
    with pytest.raises(UsageError, match=r"sort\(\) takes 'x' as int, not 'y'"):
        Desk().sort(m, "a", x="y")


def test_a_default_is_never_checked() -> None:
    @generative
    def tell(text: str = None, count: int = "all") -> str:  # noqa: RUF013
        """Tell."""
        raise AssertionError

    assert ask(tell) == 1
    assert ask(tell, None, "all") == 1
    with pytest.raises(UsageError, match="as int, not 'some'"):
        tell(start_session(ScriptedBackend("yes")), None, "some")


def test_a_field_as_default_reports_once() -> None:
    @generative
    def tell(count: int = Field(3, gt=0)) -> str:
        """Tell."""
        raise AssertionError

    with pytest.raises(UsageError, match=r"^tell\(\): 'x' isn't a valid 'count'"):
        tell(start_session(ScriptedBackend("yes")), "x")


def test_a_value_is_given_to_the_body_as_it_is() -> None:
    seen: list[Any] = []

    @command
    def tell(count: int, names: list[str]) -> str:
        seen.extend([count, names])
        return "hi"

    names = ("a", "b")
    ask(tell, "5", names)
    assert seen == ["5", names]
    assert seen[1] is names


def test_a_generator_is_not_used_up_by_the_check() -> None:
    @command
    def tell(names: list[str], more: list[list[str]]) -> str:
        return " ".join([*names, *more[0]])

    backend = ScriptedBackend("yes")
    tell(start_session(backend), (name for name in "ab"), [(name for name in "cd")])
    assert "a b c d" in str(backend.requests[0].messages[-1].content)


def test_a_long_value_is_shortened_and_one_that_contains_itself_is_left_to_the_prompt() -> None:
    with pytest.raises(UsageError) as caught:
        make(int)(start_session(ScriptedBackend("yes")), "x" * 1_000_000)
    assert len(str(caught.value)) < 200
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="contains itself"):
        make(list[str])(start_session(ScriptedBackend("yes")), endless)


def test_a_function_that_was_called_can_be_copied_and_pickled() -> None:
    function = make(list[int])
    ask(function, [1])
    checks = function._wording._types
    with pytest.raises(UsageError, match="not 'x'"):
        copy.copy(function)(start_session(ScriptedBackend("yes")), "x")
    checks._function = make  # a function that can be pickled
    assert pickle.loads(pickle.dumps(checks))._types is None


def test_plain_functions_with_fitting_arguments_load_no_pydantic() -> None:
    program = """
        import sys
        from mellea import generative, start_session
        from mellea.testing import ScriptedBackend

        @generative
        def tell(text: str, count: int, share: float | None = None, loud: bool = False) -> str:
            '''Tell.'''

        m = start_session(ScriptedBackend("yes", "yes"))
        tell(m, "a", 5, 1)
        tell(m, 5, True, None, True)
        try:
            tell(m, None, 5)
        except RuntimeError:
            print("pydantic" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
