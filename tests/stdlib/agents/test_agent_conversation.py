"""Conversations with agents: turns that know each other, saved and loaded."""

from __future__ import annotations

from typing import Any

import pytest

from mellea.core import Message, ToolCall, ToolOutput
from mellea.core.events import ToolEnd
from mellea.errors import RateLimitError, StateError, UsageError
from mellea.stdlib.agents import Agent
from mellea.stdlib.tools import ToolLoop
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


def call() -> ToolEnd:
    return ToolEnd(ToolCall("c1", "look", {"place": "Rome"}))


async def test_a_turn_knows_the_ones_before_it() -> None:
    backend = ScriptedBackend([call()], ["A cat."], ["It is in Rome."])
    conversation = Agent(backend, [look], instructions="Be brief.").conversation()
    assert (await conversation.asend("What is there?")).value == "A cat."
    assert (await conversation.asend("Where?")).value == "It is in Rome."
    assert [message.role for message in backend.requests[2].messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert len(conversation) == 7


def test_turns_are_also_synchronous_and_streamed() -> None:
    conversation = Agent(ScriptedBackend("One.", "Two.", "Three.")).conversation()
    assert conversation.send("1").value == "One."
    assert "".join(chunk.text for chunk in conversation.stream("2", chunk_size=1)) == "Two."
    assert conversation.send("3").value == "Three."
    assert [message.content for message in conversation.messages] == ["1", "One.", "2", "Two.", "3", "Three."]


async def test_a_conversation_is_saved_and_loaded() -> None:
    agent = Agent(ScriptedBackend([call()], ["A cat."], ["In Rome."]), [look])
    conversation = agent.conversation()
    await conversation.asend("What is there?")
    loaded = agent.conversation(conversation.to_json())
    assert loaded.messages == conversation.messages
    assert (await loaded.asend("Where?")).value == "In Rome."
    assert agent.conversation(agent.conversation().to_json()).messages == ()
    with pytest.raises(StateError):
        agent.conversation('{"format": "mellea", "version": 99, "value": []}')
    with pytest.raises(UsageError, match="not both"):
        agent.conversation(conversation.to_json(), messages=[Message("user", "x")])


async def test_a_turn_that_failed_or_was_left_is_left_out() -> None:
    conversation = Agent(ScriptedBackend("One.", RateLimitError("slow"), ["Two", Gate()], "Three.")).conversation()
    await conversation.asend("1")
    with pytest.raises(RateLimitError):
        await conversation.asend("2")
    async with conversation.astream("2", live=True) as stream:
        async for _chunk in stream:
            break
    await conversation.asend("3")
    assert [message.content for message in conversation.messages] == ["1", "One.", "3", "Three."]


async def test_two_turns_at_once_are_refused() -> None:
    gate = Gate()
    conversation = Agent(ScriptedBackend(["One", gate, "."])).conversation()
    async with conversation.astream("1") as stream:
        with pytest.raises(UsageError, match="still answering"):
            await conversation.asend("2")
        gate.open()
        assert [chunk.text async for chunk in stream] == ["One", "."]
    assert len(conversation) == 2


async def test_calls_that_a_limit_left_without_result_get_one() -> None:
    backend = ScriptedBackend([call()], ["Fine."])
    conversation = Agent(backend, [look], loop=ToolLoop(1, on_limit="return")).conversation()
    assert (await conversation.asend("1")).limit == "steps"
    await conversation.asend("2")
    outputs: list[Any] = [message.blocks[0] for message in backend.requests[1].messages if message.role == "tool"]
    assert [type(output) for output in outputs] == [ToolOutput]
    assert outputs[0].is_error
