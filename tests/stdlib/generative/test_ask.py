"""`ask`: one prompt, one answer, in one line."""

from __future__ import annotations

from typing import Any

import pytest

import mellea
from mellea import aask, ask
from mellea.core import ToolCall
from mellea.errors import RequirementError, UsageError
from mellea.events import TextDelta, ToolEnd
from mellea.stdlib.requirements import check, simple_validate
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


def session(*replies: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies)
    return mellea.start_session(backend), backend


def test_it_asks_the_current_session_or_the_one_given() -> None:
    m, backend = session(["Pur", "r."])
    other, other_backend = session("Woof.")
    with m:
        assert ask("Say something.") == "Purr."
        assert ask("Say something.", session=other) == "Woof."
        assert "".join(ask.stream("Say it.")) == "Purr."
    assert backend.prompts == ["Say something.", "Say it."]
    assert other_backend.prompts == ["Say something."]


async def test_its_twins_are_for_async_code() -> None:
    m, backend = session(["Pur", "r."])
    async with m:
        assert await aask("x") == "Purr."
        assert "".join([chunk async for chunk in ask.astream("y")]) == "Purr."
        async with ask.astream("z") as stream:
            assert TextDelta("Pur") in [event async for event in stream.events()]
            assert stream.output == "Purr."
    assert backend.prompts == ["x", "y", "z"]


def test_the_answer_is_of_the_format() -> None:
    m, _ = session("[1, 2]")
    assert ask("x", format=list[int], session=m) == [1, 2]
    assert ask.stream("x", format=dict, session=m).text == ""


def test_it_takes_what_instruct_takes() -> None:
    m, backend = session("Hello Ann.")
    assert ask("Greet {{name}}.", user_variables={"name": "Ann"}, model_options={"seed": 1}, session=m) == "Hello Ann."
    assert backend.prompts == ["Greet Ann."]
    assert backend.requests[0].options["seed"] == 1
    never = check("never", validation_fn=simple_validate(lambda text: False))
    with pytest.raises(RequirementError):
        ask("x", requirements=[never], session=m)
    assert ask("x", requirements=[never], strict=False, session=m) == "Hello Ann."


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


async def test_tools_are_run() -> None:
    replies = (["Wait.", ToolEnd(ToolCall("c", "look", {"place": "Rome"}))], "A cat.")
    m, _ = session(*replies)
    answer = ask("What is in Rome?", tools=[look], session=m)
    assert answer == "Wait.\n\nA cat."
    m, _ = session(*replies)
    assert "".join([chunk async for chunk in ask.astream("?", tools=[look], session=m)]) == answer
    m, backend = session(*replies)
    ask("?", tools=[look], tool_calls="show", session=m)
    assert len(backend.requests) == 1


def test_messages_are_the_whole_request() -> None:
    m, backend = session("Four.")
    messages = [mellea.system_message("Be short."), mellea.user_message("2 + 2?")]
    assert ask(messages, session=m) == "Four."
    assert list(backend.requests[0].messages) == messages
    assert "".join(ask.stream(messages, session=m)) == "Four."


def test_mistakes_are_told_with_the_way_out() -> None:
    m, backend = session("x")
    with pytest.raises(UsageError, match="takes no argument 'temperature'"):
        ask("x", temperature=1, session=m)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="session= takes a session"):
        ask("x", session="openai")  # type: ignore[call-overload]
    assert not backend.requests
