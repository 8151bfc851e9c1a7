"""An answer that isn't of the agent's output type: corrected once, in its step, by a model that knows the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mellea.core import Capabilities, ToolCall
from mellea.core.events import NestedEvent, TextDelta, ToolEnd
from mellea.core.observer import observe
from mellea.errors import BackendError, ParseError, ToolLoopLimitError
from mellea.stdlib.agents import Agent, Limits, Pending
from mellea.stdlib.tools import tool
from mellea.testing import ScriptedBackend
from mellea.testing.observing import RecordingObserver

pytestmark = pytest.mark.anyio


@dataclass
class Sight:
    animal: str
    place: str


RIGHT = '{"animal": "cat", "place": "Rome"}'


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


@tool(requires_approval=True)
def buy(what: str) -> str:
    """Buy something."""
    return f"bought {what}"


def call(name: str = "look", number: int = 1, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"c{number}", name, args or {"place": "Rome"}))


def roles(backend: ScriptedBackend, number: int) -> list[str]:
    return [message.role for message in backend.requests[number].messages]


async def test_the_corrective_attempt_knows_the_steps_and_the_results_of_the_run() -> None:
    backend = ScriptedBackend([call()], ["a cat"], [RIGHT])
    run = await Agent(backend, [look], output=Sight, instructions="Be brief.").arun(
        "What is there?", model_options={"max_tokens": 5}
    )
    assert run.output == Sight("cat", "Rome")
    first, second, correction = backend.requests
    assert correction.messages[: len(second.messages)] == second.messages
    assert roles(backend, 2) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert correction.messages[-2].content == "a cat"
    assert "doesn't meet" in correction.messages[-1].content
    assert correction.tools == first.tools and correction.output_schema == first.output_schema
    assert (dict(first.options), dict(correction.options)) == ({"max_tokens": 5}, {}), "it isn't cut short"
    assert [message.role for message in run.messages] == ["system", "user", "assistant", "tool", "assistant"]


async def test_the_corrective_attempt_speaks_the_protocol_of_models_without_tools() -> None:
    backend = ScriptedBackend(
        '{"tool": "look", "arguments": {"place": "Rome"}}',
        '{"answer": "a cat"}',
        f'{{"answer": {RIGHT}}}',
        capabilities=Capabilities(structured_output="prompt"),
    )
    run = await Agent(backend, [look], output=Sight).arun("What is there?")
    assert run.output == Sight("cat", "Rome")
    said = [(message.role, message.text) for message in backend.requests[2].messages]
    assert said[0][1] == backend.requests[1].messages[0].text and "To use a tool, write" in said[0][1]
    assert said[2] == ("assistant", '{"tool": "look", "arguments": {"place": "Rome"}}')
    assert said[4] == ("assistant", '{"answer": "a cat"}')


async def test_the_corrective_attempt_may_call_a_tool_which_may_ask() -> None:
    backend = ScriptedBackend("a cat", [call("buy", what="tea")], RIGHT)
    agent = Agent(backend, [buy], output=Sight)
    run = await agent.arun("x")
    assert run.pending is not None and [each.id for each in run.pending.questions] == ["c1"]
    assert run.parsed is None
    done = await agent.aresume(run.pending.to_json(), {"c1": True})
    assert done.output == Sight("cat", "Rome")
    assert [(step.number, len(step.results)) for step in done.steps] == [(1, 1), (2, 0)]


@pytest.mark.parametrize("limits", [Limits(steps=1), Limits(tool_calls=0)])
async def test_the_limits_hold_for_the_corrective_attempt(limits: Limits) -> None:
    agent = Agent(ScriptedBackend("a cat", [call()], RIGHT), [look], output=Sight, limits=limits)
    with pytest.raises(ToolLoopLimitError):
        await agent.arun("x")


async def test_a_run_that_was_stopped_while_it_was_corrected_is_corrected_when_it_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    agent = Agent(ScriptedBackend([call()], "a cat", RuntimeError("no power")), [look], output=Sight)
    with pytest.raises(BackendError):
        await agent.arun("x", checkpoint=file)
    assert Pending.from_json(file.read_text()).state.messages[-1].content == "a cat"
    backend = ScriptedBackend(RIGHT)
    done = await Agent(backend, [look], output=Sight).aresume(file)
    assert done.output == Sight("cat", "Rome") and done.value == RIGHT
    assert roles(backend, 0) == ["user", "assistant", "tool", "assistant", "user"]
    assert [message.role for message in done.messages] == ["user", "assistant", "tool", "assistant"]
    assert [(step.number, step.text) for step in done.steps] == [(1, ""), (2, RIGHT)]
    assert (await Agent(ScriptedBackend("unused"), [look], output=Sight).aresume(file)).output == Sight("cat", "Rome")


async def test_a_turn_that_was_corrected_is_part_of_the_conversation() -> None:
    backend = ScriptedBackend("a cat", RIGHT, RIGHT)
    conversation = Agent(backend, output=Sight).conversation()
    await conversation.asend("What is there?")
    assert [message.content for message in conversation.messages] == ["What is there?", RIGHT]
    await conversation.asend("And now?")
    assert roles(backend, 2) == ["user", "assistant", "user"]


async def test_an_empty_answer_is_corrected_too() -> None:
    backend = ScriptedBackend([], RIGHT)
    assert (await Agent(backend, output=Sight).arun("x")).output == Sight("cat", "Rome")
    assert roles(backend, 1) == ["user", "user"]


async def test_the_second_wrong_answer_is_the_error() -> None:
    backend = ScriptedBackend([call()], "a cat", "a dog", RIGHT)
    with pytest.raises(ParseError) as caught:
        await Agent(backend, [look], output=Sight).arun("x")
    assert caught.value.partial == "a dog"
    assert len(backend.requests) == 3


async def test_the_answer_of_a_sub_agent_is_corrected_too() -> None:
    inner = Agent(ScriptedBackend("a cat", RIGHT), output=Sight, name="watcher")
    outer = Agent(ScriptedBackend([call("watcher", task="x")], "Done."), [inner])
    async with outer.astream("x") as stream:
        events = [event async for event in stream.events()]
    assert stream.result.steps[0].results[0].value.output == Sight("cat", "Rome")
    texts = [each.event.chunk for each in events if isinstance(each, NestedEvent) and isinstance(each.event, TextDelta)]
    assert texts == ["a cat", RIGHT]


async def test_observers_are_told_of_the_corrective_attempt() -> None:
    backend = ScriptedBackend([call()], ["a cat"], [RIGHT])
    recorder = RecordingObserver()
    with observe(recorder):
        await Agent(backend, [look], output=Sight, name="finder").arun("What is there?")
    recorder.assert_complete()
    assert [line.strip() for line in recorder.tree().splitlines()] == [
        "finder (agent)",
        "step 1 (step)",
        "Message (call)",
        "look (tool)",
        "step 2 (step)",
        "Message (call)",
        "attempt 2 (attempt)",
        "Message (call)",
    ]
