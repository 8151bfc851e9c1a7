"""`@command`: the body returns the prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import mellea
from mellea import ask, command
from mellea.core import CBlock, ToolCall
from mellea.errors import GenerationCancelledError, RequirementError, UsageError
from mellea.events import StepStart, StreamEnd, TextDelta, ToolEnd, ToolResult
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.tools import as_tool
from mellea.testing import Gate, Pause, ScriptedBackend

pytestmark = pytest.mark.anyio


def session(*replies: Any, **kwargs: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies, **kwargs)
    return mellea.start_session(backend), backend


@command
def brainstorm(topic: str) -> str:
    return f"Write a short riff about: {topic}"


@command()
def riff(topic: str) -> str:
    return f"Riff on {topic}"


@command(output=int)
def count(topic: str) -> str:
    return f"How many letters has {topic}?"


@command(output=int)
async def acount(topic: str) -> str:
    await anyio.sleep(0)
    return f"How many letters has {topic}?"


def test_it_works_bare_with_brackets_and_with_arguments() -> None:
    m, backend = session("5")
    assert (brainstorm(m, "cats"), riff(m, topic="cats"), count(m, "x")) == ("5", "5", 5)
    assert backend.prompts == ["Write a short riff about: cats", "Riff on cats", "How many letters has x?"]
    assert [request.output_schema is None for request in backend.requests] == [True, True, False]


async def test_an_async_body_is_awaited() -> None:
    m, backend = session("5")
    assert await acount(m, "x") == 5
    assert backend.prompts == ["How many letters has x?"]
    assert [chunk async for chunk in acount.astream(m, "y")] == ["5"]
    assert await anyio.to_thread.run_sync(lambda: list(acount.stream(m, "z"))) == ["5"]
    assert backend.prompts[1:] == ["How many letters has y?", "How many letters has z?"]


def test_a_body_that_returns_nothing_makes_the_docstring_or_the_name_the_prompt() -> None:
    @command
    def find_people(query: str, limit: int = 3):  # type: ignore[no-untyped-def]
        """Find people."""

    @command
    def find_towns(query: str):  # type: ignore[no-untyped-def]
        ...

    @command
    def wait():  # type: ignore[no-untyped-def]
        ...

    m, backend = session("x")
    find_people(m, "LA")
    find_towns(m, "LA")
    wait(m)
    assert backend.prompts == [
        "Find people.\n\nInput:\nquery: LA\nlimit: 3",
        "Find towns.\n\nInput:\nquery: LA",
        "Wait.",
    ]


def test_a_sync_body_runs_in_a_thread_so_that_it_may_ask_itself() -> None:
    threads = []

    @command
    def outer(topic: str) -> str:
        threads.append(threading.current_thread())
        return f"About {ask(f'Shorten {topic}')}."

    m, backend = session("cats", "Meow.")
    with m:
        assert outer("all cats") == "Meow."
    assert backend.prompts == ["Shorten all cats", "About cats."]
    assert threads[0] is not threading.current_thread()


def test_what_the_body_raises_comes_as_it_is_and_in_streams_says_where_it_was() -> None:
    @command
    def broken() -> str:
        raise KeyError("topic")

    m, backend = session("x")
    with pytest.raises(KeyError):
        broken(m)
    with pytest.raises(UsageError, match=r"broken\(\) failed before it asked the model: KeyError: 'topic'"):
        list(broken.stream(m))
    assert not backend.requests


async def test_promise_11_thunks_are_awaited_and_the_body_gets_their_results() -> None:
    @dataclass
    class Person:
        name: str

    @command
    def greet(person: Person, tone: str) -> str:
        return f"Greet {person.name}, {tone}."

    gate = Gate()
    answers = {"Invent.": [gate, '{"name": "Ann"}'], "Tone?": "warmly", "Greet Ann, warmly.": "Hi Ann!"}
    m, backend = session(lambda request: answers[request.messages[-1].content])
    person = await m.ainstruct("Invent.", format=Person, await_result=False)
    tone = await m.ainstruct("Tone?", await_result=False)
    gate.open()
    stream = greet.astream(m, person, tone=tone)  # type: ignore[call-overload]
    assert [chunk async for chunk in stream] == ["Hi Ann!"]
    assert backend.prompts[-1] == "Greet Ann, warmly."


async def test_a_sync_command_that_would_hold_up_its_own_ingredient_says_so() -> None:
    m, _ = session([Pause(0.05), "x"], "y")
    thunk = await m.ainstruct("x", await_result=False)
    with pytest.raises(mellea.errors.StreamingError, match="use the a… verb"):
        brainstorm(m, thunk)  # type: ignore[arg-type]
    with pytest.raises(mellea.errors.StreamingError, match="use the a… verb"):
        list(brainstorm.stream(m, thunk))  # type: ignore[arg-type]


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


CALL = ToolEnd(ToolCall("c", "look", {"place": "Rome"}))


@command(output=bool, tools=[look])
def has_cat(place: str) -> str:
    return f"Is there a cat in {place}?"


async def test_tools_are_run_and_their_events_are_live() -> None:
    m, backend = session(["Wait.", CALL], "true")
    assert has_cat(m, "Rome") is True
    assert [tool.name for tool in backend.requests[0].tools] == ["look"]
    backend = ScriptedBackend(["Wait.", CALL], "true")
    async with has_cat.astream(mellea.start_session(backend), "Rome") as stream:
        kinds = [type(event) for event in [event async for event in stream.events()]]
        assert stream.output is True
    assert kinds.index(ToolEnd) < kinds.index(ToolResult)
    assert kinds.count(StepStart) == 2
    assert kinds.count(StreamEnd) == 1
    assert kinds[1] is TextDelta


async def test_the_sync_stream_has_the_same_events_as_the_async_one() -> None:
    async def events() -> list[Any]:
        m, _ = session(["Wait.", CALL], "true")
        return [event async for event in has_cat.astream(m, "Rome").events()]

    def sync_events() -> list[Any]:
        m, _ = session(["Wait.", CALL], "true")
        return list(has_cat.stream(m, "Rome").events())

    assert await events() == sync_events()


async def test_a_command_is_a_tool() -> None:
    m, backend = session("yes")
    tool = as_tool(brainstorm.with_options(session=m))
    assert (tool.name, list(tool.spec.parameters["properties"])) == ("brainstorm", ["topic"])
    assert await tool.call({"topic": "cats"}) == "yes"
    assert await as_tool(acount.with_options(session=session("7")[0])).call({"topic": "x"}) == 7
    assert len(backend.requests) == 1


async def test_leaving_a_stream_early_closes_the_request() -> None:
    m, backend = session(["a", Pause(float("inf"))])
    async with brainstorm.astream(m, "x") as stream:
        async for chunk in stream:
            assert chunk == "a"
            break
    backend.assert_closed()
    with pytest.raises(GenerationCancelledError):
        _ = stream.output

    with brainstorm.stream(m, "x") as plain:
        assert next(iter(plain)) == "a"
    backend.assert_closed()


def test_conditions_and_options_are_those_of_generative() -> None:
    loud = req("loud", validation_fn=simple_validate(str.isupper))

    @command(requirements=[loud], preconditions=[loud], model_options={"seed": 1})
    def shout(word: str) -> str:
        return word

    m, backend = session("hey", "HEY")
    with pytest.raises(RequirementError, match="its arguments don't meet their requirements: loud"):
        shout(m, "hey")
    assert not backend.requests
    assert brainstorm(m, "x") == "hey"

    @command(requirements=[loud], model_options={"seed": 1})
    def whisper(word: str) -> str:
        return word

    assert whisper(m, "hey") == "HEY"
    assert backend.requests[1].options["seed"] == 1


class Desk:
    def __init__(self, name: str) -> None:
        self.name = name

    @command
    def ask(self, what: str) -> str:
        return f"{self.name} asks: {what}"


def test_the_body_of_a_method_has_its_object() -> None:
    m, backend = session("x")
    Desk("Ann").ask(m, "why?")
    assert backend.prompts == ["Ann asks: why?"]


def test_a_body_may_return_blocks() -> None:
    @command
    def kept() -> Any:
        return CBlock("A long text.", cache=True)

    m, backend = session("x")
    assert kept(m) == "x"
    assert backend.prompts == ["A long text."]


def wrong() -> int: ...
def returns_a_number() -> Any:
    return 3


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda m: command(wrong), r"wrong\(\) is annotated with int, .* write @command\(output=int\)"),
        (
            lambda m: command(returns_a_number)(m),
            r"the body of returns_a_number\(\) has to return the prompt, which is a string, not 3",
        ),
        (lambda m: command(lambda tools: "x"), "has a parameter 'tools'"),
        (lambda m: command(output=int, tool=[look])(wrong), r"wrong\(\) takes no option 'tool'"),
        (lambda m: brainstorm(m), "missing a required argument: 'topic'"),
        (lambda m: command(lambda: "  ")(m), "description is empty"),
    ],
)
def test_mistakes_are_told_with_the_way_out(use: Callable[[Any], Any], said: str) -> None:
    m, backend = session("x")
    with pytest.raises(UsageError, match=said):
        use(m)
    assert not backend.requests
