"""Typed items of prompt functions: whole, validated, each as soon as it is complete."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from pydantic import Field

import mellea
from mellea import ask, command, generative
from mellea.core import ToolCall
from mellea.errors import ParseError
from mellea.events import ToolEnd
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


@dataclass
class Person:
    name: str
    email: str


class Contact(TypedDict):
    name: str
    email: str


def search(query: str) -> str:
    """Search the web."""
    return f"Ann and Bob are at the {query}"


@command(output=list[Person], tools=[search])
def find_people(query: str) -> list[Person]: ...  # type: ignore[empty-body]


@command(output=list[Contact])
def find_contacts(query: str) -> list[Contact]: ...  # type: ignore[empty-body]


@generative
async def people(query: str) -> list[Person]:  # type: ignore[empty-body]
    """Find people."""


ANN = '{"name": "Ann", "email": "ann@x.org"}'
BOB = '{"name": "Bob", "email": "bob@x.org"}'
PEOPLE = [Person("Ann", "ann@x.org"), Person("Bob", "bob@x.org")]
TEXT = f"[{ANN}, {BOB}]"
IN_PIECES = [TEXT[n : n + 7] for n in range(0, len(TEXT), 7)]
CALL = ToolEnd(ToolCall("c", "search", {"query": "meetup"}))


def session(*replies: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies)
    return mellea.start_session(backend), backend


def test_the_items_of_a_command() -> None:
    m, backend = session(IN_PIECES)
    with m:
        seen = []
        for person in find_people.stream("kaggle meetup in LA"):
            seen.append(person)
    assert seen == PEOPLE
    assert backend.prompts == ["Find people.\n\nInput:\nquery: kaggle meetup in LA"]
    assert [tool.name for tool in backend.requests[0].tools] == ["search"]


async def test_the_items_of_a_command_in_async_code() -> None:
    m, _ = session(IN_PIECES)
    async with m:
        seen = []
        async for person in find_people.astream("kaggle meetup in LA"):
            seen.append(person)
        assert seen == PEOPLE
        assert [person async for person in people.astream("x")] == PEOPLE
        assert await people("x") == PEOPLE


async def test_typed_dicts_are_items_as_well() -> None:
    m, _ = session(IN_PIECES)
    contacts = [{"name": "Ann", "email": "ann@x.org"}, {"name": "Bob", "email": "bob@x.org"}]
    assert list(find_contacts.stream(m, "x")) == contacts
    assert [contact async for contact in find_contacts.astream(m, "x")] == contacts
    assert find_contacts(m, "x") == contacts


async def test_part_4_number_11_an_item_comes_before_the_bytes_of_the_next_one() -> None:
    gate = Gate()
    m, _ = session([f"[{ANN}", gate, f", {BOB}]"])
    seen = []
    async for person in find_people.astream(m, "x"):
        seen.append(person)
        gate.open()  # nothing more comes before Ann is here
    assert seen == PEOPLE

    gate = Gate()
    m, _ = session([f"[{ANN}", gate, f", {BOB}]"])
    late = threading.Timer(10, gate.open)
    late.start()
    seen = []
    for person in find_people.stream(m, "x"):
        assert not late.finished.is_set(), "Ann came by herself"
        seen.append(person)
        gate.open()
    late.cancel()
    assert seen == PEOPLE


async def test_part_4_number_11_a_bad_item_raises_after_the_good_ones() -> None:
    m, backend = session([f"[{ANN}, ", '{"name": 3}', f", {BOB}]"])
    seen = []
    with pytest.raises(ParseError):
        for person in find_people.stream(m, "x"):
            seen.append(person)
    with pytest.raises(ParseError):
        async for person in find_people.astream(m, "x"):
            seen.append(person)
    assert seen == [PEOPLE[0], PEOPLE[0]]
    backend.assert_closed()


@pytest.mark.parametrize("said", ["", "I'll search first."])
async def test_tools_run_as_usual_and_the_items_are_those_of_the_last_answer(said: str) -> None:
    m, backend = session([said, CALL], IN_PIECES, [said, CALL], IN_PIECES)
    assert [person async for person in find_people.astream(m, "x")] == PEOPLE
    assert backend.requests[1].messages[-1].blocks[0].result == "Ann and Bob are at the meetup"  # type: ignore[union-attr]
    assert list(find_people.stream(m, "x")) == PEOPLE


async def test_what_the_stream_knows_besides() -> None:
    m, _ = session(IN_PIECES)
    async with find_people.astream(m, "x") as stream:
        assert [person async for person in stream] == PEOPLE
        assert (stream.output, stream.text) == (PEOPLE, TEXT)
        assert len([event async for event in stream.events()]) > 2
    with find_people.stream(m, "x") as plain:
        assert list(plain) == PEOPLE
        assert plain.output == PEOPLE


async def test_ask_gives_items_where_the_format_is_a_sequence() -> None:
    m, _ = session(IN_PIECES)
    assert list(ask.stream("x", format=list[Person], session=m)) == PEOPLE
    assert [person async for person in ask.astream("x", format=list[Person], session=m)] == PEOPLE


@pytest.mark.parametrize(
    ("output", "text", "items"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (tuple[int, ...], "[1, 2]", [1, 2]),
        (list[list[str]], '[["a"], []]', [["a"], []]),
        (list[int], "[]", []),
        (tuple[int, int], "[1, 2]", ["[1, 2]"]),
        (dict[str, int], '{"a": 1}', ['{"a": 1}']),
    ],
)
def test_a_sequence_has_items_and_all_else_text(output: Any, text: str, items: list[Any]) -> None:
    m, _ = session(text)
    make: Callable[..., Any] = command(output=output)(lambda: "x")
    assert list(make.stream(m)) == items


async def test_a_break_closes_the_request() -> None:
    m, backend = session([f"[{ANN}", Gate()])
    async with find_people.astream(m, "x") as stream:
        async for person in stream:
            assert person == PEOPLE[0]
            break
    backend.assert_closed()


def test_a_sequence_that_says_how_many_gives_items_too() -> None:
    """`Annotated` around it changes what is valid, not what is read."""
    m, _ = session(TEXT)
    two = Annotated[list[Person], Field(min_length=2, max_length=2)]
    assert list(ask.stream("Who?", format=two, session=m)) == PEOPLE
    assert list(command(output=two)(lambda: "Who?").stream(m)) == PEOPLE
