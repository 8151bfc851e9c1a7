"""`@trace` over and below other decorators: what it decorates stays what it was, and all of it is a span."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import inspect
from typing import Any

import pytest

import mellea
from mellea.batch import amap
from mellea.core import ToolCall
from mellea.core.events import ToolEnd
from mellea.errors import UsageError
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.tools import Tool
from mellea.testing import Pause, ScriptedBackend
from tests.waiting import until_here

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


def session(*replies: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies))


def lines(t: mellea.traces.Trace) -> list[str]:
    return str(t.tree(figures=False)).splitlines()[1:]


@mellea.trace
@mellea.generative
def above(topic: str) -> str:
    """Write about the topic."""
    raise NotImplementedError


@mellea.generative
@mellea.trace
def below(topic: str) -> str:
    """Write about the topic."""
    raise NotImplementedError


@mellea.generative
@mellea.trace(name="given")
def named(topic: str) -> str:
    """Write about the topic."""
    raise NotImplementedError


@mellea.generative
def untraced(topic: str) -> str:
    """Write about the topic."""
    raise NotImplementedError


@mellea.trace
@mellea.command
def commanded(topic: str) -> str:
    return f"Write about {topic}."


@mellea.trace
@mellea.generative
async def aabove(topic: str) -> str:
    """Write about the topic."""
    raise NotImplementedError


@mellea.generative
@mellea.trace
async def abelow(topic: str) -> str:
    """Write about the topic."""
    raise NotImplementedError


@mellea.trace
@mellea.command
async def acommanded(topic: str) -> str:
    return f"Write about {topic}."


@mellea.trace
@mellea.generative
def listed(topic: str) -> list[int]:
    """Write numbers."""
    raise NotImplementedError


class Poet:
    @mellea.trace
    @mellea.generative
    def above(self, topic: str) -> str:
        """Write about the topic."""
        raise NotImplementedError

    @mellea.generative
    @mellea.trace
    def below(self, topic: str) -> str:
        """Write about the topic."""
        raise NotImplementedError

    @mellea.trace
    @staticmethod
    @mellea.generative
    def static(topic: str) -> str:
        """Write about the topic."""
        raise NotImplementedError


SYNC: list[tuple[str, Any]] = [
    ("above", above),
    ("below", below),
    ("given", named),
    ("commanded", commanded),
    ("above", above.with_options(strategy=None)),
    ("above", Poet().above),
    ("below", Poet().below),
    ("static", Poet.static),
    ("static", Poet().static),
]
ASYNC: list[tuple[str, Any]] = [("aabove", aabove), ("abelow", abelow), ("acommanded", acommanded)]


@pytest.mark.parametrize(("name", "function"), SYNC)
def test_a_traced_prompt_function_is_one_and_its_calls_and_streams_are_spans(name: str, function: Any) -> None:
    assert type(function) is PromptFunction
    assert list(inspect.signature(function).parameters)[-1] == "topic"
    m = session(*[["a ", "b"]] * 3)
    with mellea.traces.start("t") as t:
        assert function(m, "x") == "a b"
    assert lines(t) == [f"  {name} (function)", f"    {function.__name__} (call)"]
    with mellea.traces.start("t") as t:
        stream = function.stream(m, topic="x")
        assert t.spans[1].status == "running"
        assert "".join(stream) == "a b"
        assert stream.output == "a b"
    # The stream of a command begins with its body, which is work of its own.
    shown = [line for line in lines(t) if "(work)" not in line]
    assert shown[0] == f"  {name} (function)" and shown[1].strip() == f"{function.__name__} (call)"
    assert {span.status for span in t.spans} == {"ok"} and shown[2:] == []


@pytest.mark.parametrize(("name", "function"), ASYNC)
async def test_so_is_an_async_one(name: str, function: Any) -> None:
    assert type(function) is AsyncPromptFunction
    m = session(*[["a ", "b"]] * 2)
    with mellea.traces.start("t") as t:
        assert await function(m, "x") == "a b"
        assert "".join([chunk async for chunk in function.astream(m, "x")]) == "a b"
    shown = [line.strip() for line in lines(t) if "(work)" not in line]
    assert shown == [f"{name} (function)", f"{name} (call)"] * 2
    assert {span.status for span in t.spans[1:]} == {"ok"}


@pytest.mark.parametrize("how", ["read", "close", "drop", "never"])
def test_its_stream_ends_its_span_as_what_it_was(how: str) -> None:
    m = session(["[1, ", "2, ", "3]"] if how == "read" else ["[1, 2, ", FOREVER])
    with mellea.traces.start("t") as t:
        stream = listed.stream(m, "x")
        if how == "read":
            assert list(stream) == [1, 2, 3]
        elif how == "close":
            assert next(iter(stream)) == 1
            stream.close()
        elif how == "drop":
            assert next(iter(stream)) == 1
        del stream
        gc.collect()
    until_here(lambda: all(span.ended for span in t.spans))
    assert t.spans[1].name == "listed"
    assert {span.status for span in t.spans[1:]} == {"ok" if how == "read" else "cancelled"}


async def test_rows_of_a_map_are_spans_of_it() -> None:
    m = session("a", "b")
    with mellea.traces.start("t") as t:
        outcomes = [each async for each in amap(above.with_options(session=m), [{"topic": "x"}, {"topic": "y"}])]
    assert sorted(str(outcome.value) for outcome in outcomes) == ["a", "b"]
    assert [span.name for span in t.spans if span.kind == "function"] == ["above", "above"]
    assert all(span.parent is not None and span.parent.kind == "function" for span in t.spans if span.kind == "call")


def test_two_decorators_are_two_spans() -> None:
    twice = mellea.trace(above, name="outer")
    with mellea.traces.start("t") as t:
        twice(session("a"), "x")
    assert lines(t) == ["  outer (function)", "    above (function)", "      above (call)"]


@mellea.trace
@mellea.tool
def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where.
    """
    return "rain"


def test_a_traced_tool_is_a_tool() -> None:
    assert isinstance(weather, Tool)
    assert weather.spec.parameters["properties"]["city"]["description"] == "where."
    m = session([ToolEnd(ToolCall("1", "weather", {"city": "Oslo"}))], "Rain.")
    with mellea.traces.start("t") as t:
        assert weather("Rome") == "rain"
        m.instruct("x", name="ask", tools=[weather.rename("sky"), weather], tool_calls="run")
    assert lines(t)[0] == "  weather (function)"
    assert lines(t)[4:6] == ["      weather (tool)", "        weather (function)"]


class Counter:
    """An object that can be called, and has more."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, step: int) -> int:
        self.count += step
        return self.count

    def reset(self) -> None:
        self.count = 0


class Shelf:
    @mellea.trace
    @functools.cache  # noqa: B019 - the test makes one shelf
    def find(self, key: str) -> str:
        return key * 2


@mellea.trace
@functools.lru_cache(maxsize=4)
def double(key: str) -> str:
    return key * 2


def test_another_object_keeps_all_that_it_has() -> None:
    counter = mellea.trace(Counter(), name="count")
    shelf = Shelf()
    with mellea.traces.start("t") as t:
        assert (counter(2), counter(3), counter.count) == (2, 5, 5)
        counter.reset()
        assert (counter.count, double("a"), double("a"), shelf.find("b")) == (0, "aa", "aa", "bb")
    assert double.cache_info().hits == 1 and Shelf.find.cache_info().misses == 1
    assert [span.name for span in t.spans[1:]] == ["count", "count", "double", "double", "find"]
    assert inspect.signature(double) == inspect.signature(double.__wrapped__) and double.__name__ == "double"
    twin = copy.copy(counter)
    assert twin(1) == 1 and twin.count == 1
    with pytest.raises(AttributeError, match="missing"):
        counter.missing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("function", [above, below, untraced, Poet().above])
def test_a_deep_copy_of_a_prompt_function_is_called_like_it(function: Any) -> None:
    assert copy.deepcopy(function)(session("a"), "x") == "a"


class Rack:
    """Has everything that a decorator makes of a method."""

    def __init__(self) -> None:
        self.kept = 1

    @mellea.trace
    @property
    def size(self) -> int:
        """How much is on it."""
        return self.kept

    @size.setter
    def size(self, size: int) -> None:
        self.kept = size

    @mellea.trace(name="found once")
    @functools.cached_property
    def weight(self) -> int:
        return self.kept * 2

    def add(self, count: int, *, twice: bool = False) -> int:
        return self.kept + count * (2 if twice else 1)

    add_two = mellea.trace(functools.partialmethod(add, 2, twice=True))


def test_what_is_made_of_methods_stays_that_and_is_traced() -> None:
    rack = Rack()
    with mellea.traces.start("t") as t:
        assert (rack.size, rack.weight, rack.weight, rack.add_two()) == (1, 2, 2, 5)
    assert [span.name for span in t.spans] == ["t", "size", "found once", "add"]
    rack.size = 3
    assert (rack.kept, Rack.size.__doc__) == (3, "How much is on it.")


def test_a_descriptor_of_another_kind_says_where_to_put_the_decorator() -> None:
    with pytest.raises(UsageError, match="put @trace below it"):
        mellea.trace(functools.singledispatchmethod(lambda self, x: x))  # type: ignore[type-var]


@dataclasses.dataclass
class Adder:
    """A function with a setting."""

    base: int

    def __call__(self, number: int) -> int:
        return self.base + number


def test_a_traced_object_is_changed_and_compared_as_the_object_itself() -> None:
    adder = Adder(1)
    traced = mellea.trace(adder)
    traced.base = 10
    with mellea.traces.start("t") as t:
        assert (traced(1), adder(1), adder.base) == (11, 11, 10)
    assert [span.name for span in t.spans] == ["t", "Adder"]
    assert traced == adder == Adder(10) == mellea.trace(Adder(10)) and traced != Adder(1)
    del traced.base
    assert not hasattr(adder, "base")
