"""What a type checker has to see of functions that a model answers. Checked by mypy and pyright, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, assert_type

from mellea import MelleaSession, aask, ask, command, generative, tool
from mellea.stdlib.generative import AsyncItemStream, ItemStream
from mellea.stdlib.streaming import AsyncStream, Stream
from mellea.stdlib.tools import Tool


@dataclass
class Person:
    name: str


@generative
def classify(text: str, *, language: str = "en") -> bool:  # type: ignore[empty-body]
    """Classify."""
    ...  # noqa: PIE790 - as the docs have it


@generative(model_options={"temperature": 0})
async def people(text: str) -> list[Person]:  # type: ignore[empty-body]
    """Find people."""
    ...  # noqa: PIE790 - as the docs have it


@command
def brainstorm(topic: str) -> str:
    return topic


@command(output=list[Person], tools=[len])
def find_people(query: str) -> list[Person]: ...  # type: ignore[empty-body]


@command(output=Literal["good", "bad"])
def mood(text: str) -> str:
    return text


@command(output=int)
async def count(query: str) -> str:
    return query


class Greeter:
    @generative
    def greet(self, whom: str) -> str:  # type: ignore[empty-body]
        """Greet."""
        ...  # noqa: PIE790 - as the docs have it


def calls(m: MelleaSession, greeter: Greeter) -> None:
    assert_type(classify("x", language="de"), bool)
    assert_type(classify(m, "x"), bool)
    assert_type(classify(m, text="x"), bool)
    assert_type(classify.with_options(session=m, strategy=None)("x"), bool)
    assert_type(brainstorm("x"), str)
    assert_type(find_people("x"), list[Person])
    assert_type(ask("x"), str)
    assert_type(ask("x", format=Person), Person)
    assert_type(ask("x", format=Literal["a", "b"]), Literal["a", "b"])
    assert_type(ask("x", format=int | None), int | None)
    assert_type(ask("x", format=Annotated[int, "above 0"]), int)
    assert_type(ask.stream("x", format=Annotated[list[int], "two"]), ItemStream[int])
    assert_type(ask.stream("x", format=int | str), Stream[int | str])
    assert_type(mood("x"), Literal["good", "bad"])
    assert_type(greeter.greet("Ann"), str)
    assert_type(greeter.greet(m, whom="Ann"), str)


def wrong_calls(m: MelleaSession) -> None:
    classify(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    classify(m, tone="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def wrong_options(m: MelleaSession) -> None:
    generative(strategy=None, session=m, max_turns=2)
    generative(strict=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    command(output=int, max_turns="2")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    classify.with_options(requirements=["x"], tools=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ask("x", tols=[])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def async_calls(m: MelleaSession) -> None:
    assert_type(await people("x"), list[Person])
    assert_type(await people(m, "x"), list[Person])
    assert_type(await count("x"), int)
    assert_type(await aask("x"), str)
    assert_type(await aask("x", format=list[int]), list[int])


def streams(m: MelleaSession) -> None:
    assert_type(brainstorm.stream("x"), Stream[str])
    assert_type(classify.stream(m, "x"), Stream[bool])
    assert_type(classify.stream("x").output, bool)
    assert_type(find_people.stream("x"), ItemStream[Person])
    assert_type(find_people.stream("x").output, list[Person])
    assert_type(ask.stream("x"), Stream[str])
    for person in find_people.stream("x"):
        assert_type(person, Person)
    for person in ask.stream("x", format=list[Person]):
        assert_type(person, Person)
    for chunk in brainstorm.stream(m, "x"):
        assert_type(chunk, str)


async def async_streams(m: MelleaSession) -> None:
    assert_type(find_people.astream("x"), AsyncItemStream[Person])
    assert_type(count.astream("x"), AsyncStream[int])
    async for person in people.astream(m, "x"):
        assert_type(person, Person)
    async for chunk in ask.astream("x"):
        assert_type(chunk, str)


@tool
def double(x: int) -> int:
    return 2 * x


def tools() -> None:
    assert_type(double(3), int)
    named = tool(name="twice")(double)
    assert_type(named(3), int)
    any_tool: Tool[..., int] = double
    assert_type(any_tool(1), int)
