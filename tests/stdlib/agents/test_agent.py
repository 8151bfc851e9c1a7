"""Runs of agents: what they come to, how they end, and what they may take."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import mellea
from mellea import prices, tool
from mellea.core import Message, ToolCall, ToolOutput, Usage
from mellea.core.events import (
    NestedEvent,
    Steered,
    StepEnd,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolEnd,
    ToolProgress,
    ToolResult,
    ToolStart,
)
from mellea.core.observer import observe
from mellea.errors import (
    ConfigurationError,
    ParseError,
    RateLimitError,
    ToolLoopLimitError,
    UsageError,
)
from mellea.stdlib.agents import Agent, AgentRun, Limits, Router, chain, react, warn_near_limit
from mellea.stdlib.tools import Step, ToolLoop
from mellea.testing import Gate, Pause, ScriptedBackend
from mellea.testing.observing import RecordingObserver
from tests.waiting import cancel_once

pytestmark = pytest.mark.anyio

COUNT = Usage(10, 5)


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


def call(number: int = 1, name: str = "look", **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"c{number}", name, args or {"place": "Rome"}))


def endless() -> ScriptedBackend:
    """Write a line and call a tool, for ever."""
    return ScriptedBackend(lambda request: ["Hm.", call(len(request.messages))], usage=COUNT)


async def test_a_run_says_what_it_came_to() -> None:
    backend = ScriptedBackend(["Let me look.", call()], ["A cat, ", "in Rome."], usage=COUNT)
    run = await Agent(backend, [look], instructions="Be brief.").arun("What is in Rome?")
    assert isinstance(run, AgentRun)
    assert (run.value, run.parsed, run.output, str(run)) == ("A cat, in Rome.",) * 4
    assert run.messages == (
        Message("system", "Be brief."),
        Message("user", "What is in Rome?"),
        Message("assistant", ["Let me look.", ToolCall("c1", "look", {"place": "Rome"})]),
        Message("tool", ToolOutput("c1", "look", "a cat in Rome")),
        Message("assistant", "A cat, in Rome."),
    )
    assert [(step.number, step.text, step.usage) for step in run.steps] == [
        (1, "Let me look.", COUNT),
        (2, "A cat, in Rome.", COUNT),
    ]
    assert [step.tool_calls[0].tool_name for step in run.steps if step.tool_calls] == ["look"]
    assert [result.result for result in run.steps[0].results] == ["a cat in Rome"]
    assert run.usage == Usage(20, 10)
    assert (run.pending, run.limit) == (None, None)
    backend.assert_closed()


async def test_a_run_neither_reads_nor_extends_the_context_of_its_session() -> None:
    backend = ScriptedBackend("fine")
    m = mellea.start_session(backend, ctx=mellea.ChatContext().add(Message("user", "earlier")))
    before = m.ctx
    await Agent(m).arun("now")
    assert m.ctx is before
    assert [message.content for message in backend.requests[0].messages] == ["now"]


async def test_closing_the_session_cancels_its_runs() -> None:
    backend = ScriptedBackend([Pause(float("inf"))])
    m = mellea.start_session(backend)
    stream = Agent(m).astream("x")
    async with stream:
        await anyio.lowlevel.checkpoint()
        await m.aclose()
        with pytest.raises(mellea.errors.GenerationCancelledError):
            [chunk async for chunk in stream]
    backend.assert_closed()


def test_a_run_is_also_synchronous() -> None:
    run = Agent(ScriptedBackend([call()], ["A cat."]), [look]).run("x")
    assert run.value == "A cat."


async def test_the_model_may_be_a_name_or_the_current_session() -> None:
    with mellea.start_session(ScriptedBackend("from the session")):
        assert (await Agent().arun("x")).value == "from the session"
    with pytest.raises(ConfigurationError, match="nosuchprovider"):
        Agent("nosuchprovider/x")


@dataclass
class Sight:
    animal: str
    place: str


async def test_an_answer_may_be_of_any_type() -> None:
    backend = ScriptedBackend(["Let me look.", call()], ['{"animal": "cat", "place": "Rome"}'])
    agent = Agent(backend, [look], output=Sight)
    run = await agent.arun("x")
    assert run.output == run.parsed == Sight("cat", "Rome")
    assert run.value == '{"animal": "cat", "place": "Rome"}'
    assert (await Agent(ScriptedBackend("[1, 2]"), output=list[int]).arun("x")).output == [1, 2]


async def test_a_wrong_answer_is_corrected_in_its_step() -> None:
    backend = ScriptedBackend([call()], ["a cat"], ['{"animal": "cat", "place": "Rome"}'], usage=COUNT)
    run = await Agent(backend, [look], output=Sight).arun("x")
    assert run.output == Sight("cat", "Rome")
    assert [(step.number, step.text) for step in run.steps] == [(1, ""), (2, '{"animal": "cat", "place": "Rome"}')]
    assert run.usage == Usage(30, 15)
    assert run.messages[-1].content == run.value
    assert "a cat" not in [message.content for message in run.messages]
    with pytest.raises(ParseError):
        await Agent(ScriptedBackend("a cat"), output=Sight).arun("x")


async def test_the_results_of_a_step_are_in_the_order_of_its_calls() -> None:
    gate = Gate()

    async def slow(place: str) -> str:
        await gate.wait()
        return "slow"

    async def quick(place: str) -> str:
        gate.open()
        return "quick"

    backend = ScriptedBackend([call(1, "slow"), call(2, "quick")], "x")
    run = await Agent(backend, [slow, quick]).arun("x")
    assert [result.result for result in run.steps[0].results] == ["slow", "quick"]


# -- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        (Limits(steps=2), 2),
        (Limits(tokens=40), 3),
        (Limits(tool_calls=2), 3),
        (Limits(tool_calls=0), 1),
        (Limits(cost=0.00003), 2),
    ],
)
@pytest.mark.parametrize("on_limit", ["raise", "return"])
async def test_a_limit_ends_the_run_as_the_loop_says(limits: Limits, steps: int, on_limit: Any) -> None:
    name = next(name for name in ("steps", "tokens", "cost", "tool_calls") if getattr(limits, name) is not None)
    prices.set_prices({"scripted/script": {"input": 1, "output": 1}})
    try:
        backend = endless()
        agent = Agent(backend, [look], limits=limits, loop=ToolLoop(20, on_limit=on_limit))
        if on_limit == "raise":
            with pytest.raises(ToolLoopLimitError) as raised:
                await agent.arun("x")
            assert raised.value.partial.startswith("Hm.")
        else:
            run = await agent.arun("x")
            assert (run.value, run.limit, len(run.steps)) == ("Hm.", name, steps)
            assert run.cost == pytest.approx(steps * 15e-6)
        assert len(backend.requests) == steps
    finally:
        prices.reset_prices()


@pytest.mark.parametrize(
    ("settings", "steps", "said"),
    [
        ({"limits": Limits(steps=2)}, 2, r"raise Limits\(steps=2\), or"),
        ({"loop": ToolLoop(2)}, 2, "raise max_steps= of the ToolLoop, or"),
        ({"loop": ToolLoop(2), "limits": Limits(steps=9)}, 2, "raise max_steps= of the ToolLoop, or"),
        ({"loop": ToolLoop(9), "limits": Limits(steps=2)}, 2, r"raise Limits\(steps=2\), or"),
        ({"loop": ToolLoop(concurrency=1), "limits": Limits(steps=12)}, 12, r"raise Limits\(steps=12\), or"),
        ({}, 10, r"raise the limit with limits=Limits\(steps=…\), or"),
        ({"limits": Limits(tokens=20)}, 2, r"^Limits\(tokens=20\) was reached in step 2, and"),
    ],
)
async def test_an_error_at_a_limit_says_it_as_the_user_wrote_it(settings: Any, steps: int, said: str) -> None:
    backend = endless()
    with pytest.raises(ToolLoopLimitError, match=said):
        await Agent(backend, [look], **settings).arun("x")
    assert len(backend.requests) == steps


@pytest.mark.parametrize("on_limit", ["raise", "return"])
@pytest.mark.parametrize("where", ["request", "tool"])
async def test_the_time_ends_a_request_or_a_tool_in_the_middle(on_limit: Any, where: str) -> None:
    is_over = False

    async def forever(place: str) -> str:
        nonlocal is_over
        try:
            await anyio.sleep_forever()
        finally:
            is_over = True

    script: list[Any] = ["Half", Pause(float("inf"))] if where == "request" else ["Half", call(name="forever")]
    backend = ScriptedBackend(["First.", call(name="look")], script)
    agent = Agent(backend, [look, forever], limits=Limits(seconds=0.4), loop=ToolLoop(on_limit=on_limit))
    if on_limit == "raise":
        with pytest.raises(ToolLoopLimitError, match=r"0\.4 s"):
            await agent.arun("x")
    else:
        run = await agent.arun("x")
        assert run.limit == "seconds"
        assert run.value == ("First." if where == "request" else "Half")
    assert is_over == (where == "tool")
    backend.assert_closed()


async def test_what_a_step_wrote_that_the_time_ended_is_no_value() -> None:
    back, limits = ToolLoop(on_limit="return"), Limits(seconds=0.3)
    half = Agent(ScriptedBackend(["12", Pause(float("inf"))]), output=int, loop=back, limits=limits)
    run = await half.arun("x")
    assert (run.value, run.parsed, run.limit) == ("", None, "seconds")
    backend = ScriptedBackend(["[1, 2]", call(name="look")], ["[3", Pause(float("inf"))])
    run_of_two = await Agent(backend, [look], output=list[int], loop=back, limits=limits).arun("x")
    assert (run_of_two.value, run_of_two.parsed) == ("[1, 2]", [1, 2])


async def test_a_cost_that_nobody_knows_cannot_be_limited() -> None:
    with pytest.raises(ConfigurationError, match="scripted/script"):
        await Agent(ScriptedBackend("x"), limits=Limits(cost=1)).arun("x")
    with pytest.raises(ConfigurationError, match="tokens"):
        await Agent(ScriptedBackend([call()]), [look], limits=Limits(tokens=1)).arun("x")


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": 1.5}, {"tokens": -1}, {"cost": 0}, {"seconds": "1"}, {"tool_calls": True}]
)
def test_a_limit_is_a_number(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Limits(**wrong)


# -- steering -----------------------------------------------------------------------------------------


async def test_what_the_user_says_meanwhile_is_told_before_the_next_step() -> None:
    gate = Gate()

    async def slow(place: str) -> str:
        await gate.wait()
        return "a cat"

    backend = ScriptedBackend([call(name="slow")], ["Un chat."])
    async with Agent(backend, [slow]).astream("x") as stream:
        events = []
        async for event in stream.events():
            events.append(event)
            if isinstance(event, ToolEnd):
                stream.steer("In French, please.")
                gate.open()
    assert Steered("In French, please.") in events
    assert [message.role for message in backend.requests[1].messages] == ["user", "assistant", "tool", "user"]
    assert backend.requests[1].messages[-1].content == "In French, please."
    assert stream.result.messages[-2:] == (Message("user", "In French, please."), Message("assistant", "Un chat."))
    with pytest.raises(UsageError, match="has finished"):
        stream.steer("Too late.")


async def test_an_answer_that_was_steered_is_followed_by_another_step() -> None:
    gate = Gate()
    backend = ScriptedBackend(["A ", gate, "cat."], ["Un chat."])
    async with Agent(backend).astream("x") as stream:
        async for event in stream.events():
            if event == TextDelta("A "):
                stream.steer("In French, please.")
                gate.open()
        assert [chunk.text async for chunk in stream] == ["Un chat."]
    assert stream.result.value == "Un chat."
    with pytest.raises(UsageError, match="takes a string"):
        Agent(backend).astream("x").steer("  ")


# -- sub-agents ---------------------------------------------------------------------------------------


def team() -> Agent[str]:
    librarian = Agent(ScriptedBackend("Page 3.", usage=COUNT), name="librarian")
    asks = ScriptedBackend([call(name="librarian", task="cats")], ["It is on page 3."], usage=COUNT)
    researcher = Agent(asks, [librarian], name="researcher")
    leads = ScriptedBackend([call(9, "researcher", task="cats")], ["Page 3, they say."], usage=COUNT)
    return Agent(leads, [researcher])


async def test_the_events_of_sub_agents_are_in_the_stream_with_their_path() -> None:
    async with team().astream("x") as stream:
        nested = [event async for event in stream.events() if isinstance(event, NestedEvent)]
    assert [event.path for event in nested if isinstance(event.event, StepStart)] == [
        "researcher/1",
        "researcher/1/librarian/1",
        "researcher/2",
    ]
    assert {event.tool_call_id for event in nested} == {"c9"}
    said = [(event.path, event.event.chunk) for event in nested if isinstance(event.event, TextDelta)]
    assert said == [("researcher/1/librarian/1", "Page 3."), ("researcher/2", "It is on page 3.")]
    run = stream.result
    assert run.value == "Page 3, they say."
    assert [step.number for step in run.steps] == [1, 2]
    assert run.usage == Usage(50, 25)  # of all three
    inner = run.steps[0].results[0].value
    assert isinstance(inner, AgentRun)
    assert inner.value == "It is on page 3."


async def test_what_a_sub_agent_fails_with_is_told_to_the_model() -> None:
    inner = Agent(ScriptedBackend(RateLimitError("slow down")), name="inner")
    backend = ScriptedBackend([call(name="inner", task="x")], ["Sorry."])
    run = await Agent(backend, [inner]).arun("x")
    assert run.value == "Sorry."
    assert run.steps[0].results[0].is_error
    assert "slow down" in str(run.steps[0].results[0].result)


async def test_leaving_the_stream_stops_the_sub_agents_too() -> None:
    inner = ScriptedBackend(["Hm", Pause(float("inf"))])
    outer = ScriptedBackend([call(name="inner", task="x")])
    async with Agent(outer, [Agent(inner, name="inner")]).astream("x") as stream:
        async for event in stream.events():
            if isinstance(event, NestedEvent) and isinstance(event.event, TextDelta):
                break
    inner.assert_closed()
    outer.assert_closed()


def test_an_agent_without_a_name_is_no_tool() -> None:
    with pytest.raises(UsageError, match="name="):
        Agent(ScriptedBackend("x")).as_tool()


# -- steps that are changed ---------------------------------------------------------------------------


async def test_react_is_a_way_to_prepare_steps() -> None:
    backend = ScriptedBackend(["Thought: look.", call()], ["A cat."])
    agent = Agent(backend, [look], instructions="Be brief.", loop=ToolLoop(prepare_step=react()))
    run = await agent.arun("x")
    systems = [request.messages[0].content for request in backend.requests]
    assert all(system.startswith("Be brief.\n\nWork in turns.") for system in systems)
    assert run.messages[0] == Message("system", "Be brief.")
    assert [message.role for message in backend.requests[1].messages] == ["system", "user", "assistant", "tool"]


async def test_the_model_is_warned_near_the_limit_and_answers_in_the_last_step() -> None:
    backend = ScriptedBackend(lambda request: [call(len(request.messages))] if request.tools else "As far as I know.")
    loop = ToolLoop(4, prepare_step=chain(react(), warn_near_limit(4, ahead=2)))
    run = await Agent(backend, [look], loop=loop).arun("x")
    assert (run.value, run.limit, len(run.steps)) == ("As far as I know.", None, 4)
    said = [request.messages[-1].content for request in backend.requests]
    assert "2 more turns" in said[1]
    assert "one more turn" in said[2]
    assert "last turn" in said[3]
    assert not any("turn" in message.content for message in run.messages)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 10),
        ({"limits": Limits(steps=3)}, 3),
        ({"limits": Limits(tool_calls=2)}, 3),
        ({"limits": Limits(tokens=50)}, 4),  # 15 a step: after three of them, one more is as much as is left
        ({"limits": Limits(tokens=1000, steps=5)}, 5),
    ],
)
async def test_an_agent_knows_its_limits_when_it_warns(settings: dict[str, Any], steps: int) -> None:
    backend = ScriptedBackend(
        lambda request: [call(len(request.messages))] if request.tools else "As far as I know.", usage=COUNT
    )
    run = await Agent(backend, [look], loop=ToolLoop(prepare_step=warn_near_limit()), **settings).arun("x")
    assert (run.value, run.limit, len(run.steps)) == ("As far as I know.", None, steps)
    assert "last turn" in backend.requests[-1].messages[-1].content


async def test_without_an_agent_the_warning_needs_a_number() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(UsageError, match="max_steps"):
        await m.ainstruct("x", tools=[look], loop=ToolLoop(prepare_step=warn_near_limit()))


async def test_a_step_may_go_to_another_model() -> None:
    other = ScriptedBackend("From the other one.")

    def prepare(step: Step) -> Step | None:
        return replace(step, backend=other, tools=()) if step.number == 2 else None

    run = await Agent(ScriptedBackend([call()]), [look], loop=ToolLoop(prepare_step=prepare)).arun("x")
    assert run.value == "From the other one."
    assert len(other.requests) == 1


# -- routing ------------------------------------------------------------------------------------------


async def test_rules_send_a_prompt_to_an_agent() -> None:
    cats, sums, rest = (Agent(ScriptedBackend(name), name=name) for name in ("cats", "sums", "rest"))
    router = Router([(["cat", "kitten"], cats), (lambda text: any(char.isdigit() for char in text), sums)], rest)
    assert [(await router.arun(text)).value for text in ("A CAT?", "2 and 2", "2 cats", "dogs")] == [
        "cats",
        "sums",
        "cats",
        "rest",
    ]
    assert [chunk.text async for chunk in router.astream([Message("user", "kittens")])] == ["cats"]
    with pytest.raises(UsageError, match="rule"):
        Router([("", cats)], rest)
    assert repr(router) == "<Router to 'cats', 'sums', else 'rest'>"


def test_a_word_of_a_rule_stands_at_the_beginning_of_a_word() -> None:
    art, rest = Agent(ScriptedBackend("art"), name="art"), Agent(ScriptedBackend("rest"))
    router = Router([(["art", "c++"], art)], rest)
    assert [router.choose(text) is art for text in ("Is it ART?", "artists", "the party", "in C++, please", "")] == [
        True,
        True,
        False,
        True,
        False,
    ]


async def test_a_conversation_may_be_routed_turn_by_turn() -> None:
    cats = Agent(ScriptedBackend("Miaow."), name="cats", instructions="You are a cat.")
    dogs = Agent(backend := ScriptedBackend("Woof.", "Wuff."), name="dogs", instructions="You are a dog.")
    conversation = Router([("cat", cats)], dogs).conversation()
    assert (await conversation.asend("Hello, cat!")).value == "Miaow."
    assert [chunk.text async for chunk in conversation.astream("And you?")] == ["Woof."]
    (request,) = backend.requests
    assert [message.content for message in request.messages] == ["You are a dog.", "Hello, cat!", "Miaow.", "And you?"]
    later = Router([("cat", cats)], dogs).conversation(conversation.to_json())
    assert "".join([chunk.text async for chunk in later.astream("Still there?")]) == "Wuff."
    assert len(later) == 7


# -- errors -------------------------------------------------------------------------------------------


async def test_plain_exceptions_come_out() -> None:
    backend = ScriptedBackend(["Let me look.", call()], ["Half", RateLimitError("slow down")])
    with pytest.raises(RateLimitError) as raised:
        await Agent(backend, [look]).arun("x")
    assert raised.value.partial == "Let me look.\n\nHalf"


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"tools": "look"}, "tools takes a list"),
        ({"tools": look}, "put it into one"),
        ({"loop": 3}, "loop takes a ToolLoop"),
        ({"limits": 3}, r"limits takes Limits, such as Limits\(steps=5\)"),
        ({"instructions": 3}, "instructions takes a string"),
        ({"max_steps": 3}, r"'max_steps'; write limits=Limits\(steps=…\)"),
        ({"max_turns": 3}, "write limits="),
        ({"output_type": int}, "write output="),
        ({"format": int}, "write output="),
        ({"system_prompt": "x"}, "write instructions="),
        ({"mcp_servers": []}, "with the others"),
        ({"prepare_step": print}, r"write loop=ToolLoop\(prepare_step=…\)"),
        ({"policy": print}, r"write loop=ToolLoop\(policy=…\)"),
        ({"on_limit": "return"}, r"write loop=ToolLoop\(on_limit=…\)"),
    ],
)
def test_a_wrong_argument_says_what_it_takes(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Agent(ScriptedBackend("x"), **wrong)


@pytest.mark.parametrize("script", [[Pause(float("inf"))], [call(name="forever")]])
async def test_cancelling_a_run_stops_what_it_does(script: list[Any]) -> None:
    begun, ended = list[str](), list[str]()

    async def forever(place: str) -> str:
        begun.append(place)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(place)

    backend = ScriptedBackend(script)
    await cancel_once(
        lambda: begun if isinstance(script[0], ToolEnd) else backend.requests,
        lambda: Agent(backend, [forever]).arun("x"),
    )
    backend.assert_closed()
    assert ended == (["Rome"] if isinstance(script[0], ToolEnd) else [])


async def test_results_of_tools_are_events() -> None:
    async with Agent(ScriptedBackend([call()], ["A cat."]), [look]).astream("x") as stream:
        assert ToolResult(ToolOutput("c1", "look", "a cat in Rome")) in [event async for event in stream.events()]


async def test_tools_of_one_step_overlap_and_a_call_is_seen_before_its_tool_has_ended() -> None:
    first, second = Gate(), Gate()

    async def slow(place: str) -> str:
        await first.wait()
        second.open()
        return "slow"

    async def quick(place: str) -> str:
        await second.wait()
        return "quick"

    backend = ScriptedBackend([call(1, "slow"), call(2, "quick")], ["Done."])
    seen: list[str] = []
    async with Agent(backend, [slow, quick]).astream("x") as stream:
        async for event in stream.events():
            if isinstance(event, ToolEnd):
                seen.append(f"calls {event.tool_call.tool_name}")
                if len(seen) == 2:
                    first.open()  # neither has ended: both wait for this
            elif isinstance(event, ToolResult):
                seen.append(f"gets {event.result.result}")
    assert seen[:2] == ["calls slow", "calls quick"]
    assert sorted(seen[2:]) == ["gets quick", "gets slow"]
    blocks = [block for message in stream.result.messages for block in message.blocks]
    assert [block.result for block in blocks if isinstance(block, ToolOutput)] == ["slow", "quick"]


def on_a_virtual_clock(work: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    """Run it on trio with a clock that jumps to the next deadline as soon as everything waits."""
    return trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))


def test_each_event_is_seen_at_the_moment_at_which_it_happens() -> None:
    async def wait(seconds: float) -> str:
        await anyio.sleep(seconds)
        return f"after {seconds:g} s"

    async def report(seconds: float) -> AsyncIterator[str]:
        await anyio.sleep(seconds)
        yield "half"
        await anyio.sleep(seconds)
        yield "whole"

    script = [
        Pause(1),
        "Let me see.",
        ToolStart("c1", "wait"),
        Pause(1),
        call(1, "wait", seconds=30),
        call(2, "wait", seconds=10),
        call(3, "report", seconds=5),
        call(4, "wait", seconds=1),
    ]
    names: dict[type, str] = {
        StepStart: "step",
        TextDelta: "text",
        ToolStart: "begins",
        StepEnd: "ends",
        StreamEnd: "over",
    }

    async def read() -> list[Any]:
        agent = Agent(ScriptedBackend(script, [Pause(2), "Done."]), [wait, report], loop=ToolLoop(concurrency=2))
        log: list[Any] = []
        began = anyio.current_time()
        async with agent.astream("x") as stream:
            async for event in stream.events():
                told: Any = names.get(type(event))
                if isinstance(event, ToolEnd):
                    told = f"calls {event.tool_call.tool_call_id}"
                elif isinstance(event, ToolProgress):
                    told = f"{event.tool_call_id} reports {event.value}"
                elif isinstance(event, ToolResult):
                    told = f"{event.result.tool_call_id} gives"
                log.append((round(anyio.current_time() - began, 3), told))
        return log

    assert on_a_virtual_clock(read) == [
        (0, "step"),
        (1, "text"),
        (1, "begins"),  # a call is seen when it begins, not when it has been written
        (2, "calls c1"),
        (2, "calls c2"),
        (2, "calls c3"),
        (2, "calls c4"),
        (12, "c2 gives"),  # two run at once: c3 begins when c2 has ended
        (17, "c3 reports half"),
        (22, "c3 reports whole"),
        (22, "c3 gives"),
        (23, "c4 gives"),
        (32, "c1 gives"),
        (32, "ends"),
        (32, "step"),
        (34, "text"),
        (34, "ends"),
        (34, "over"),
    ]


async def test_a_tool_may_relay_the_events_of_any_stream() -> None:
    m = mellea.start_session(ScriptedBackend("From inside."))

    async def relay(topic: str) -> Any:
        """Relay."""
        async with m.astream(topic) as inner:
            async for event in inner.events():
                yield event
        yield inner.result.value

    backend = ScriptedBackend([call(1, "relay", topic="x")], ["Done."])
    async with Agent(backend, [relay]).astream("x") as stream:
        nested = [event async for event in stream.events() if isinstance(event, NestedEvent)]
    assert NestedEvent("c1", "relay", TextDelta("From inside.")) in nested
    assert stream.result.steps[0].results[0].result == "From inside."


async def test_observers_are_told_of_an_agent_its_steps_calls_and_tools() -> None:
    recorder = RecordingObserver()
    with observe(recorder):
        await team().arun("x")
    assert [(span.kind, span.name) for span in recorder.spans if span.kind in ("agent", "tool")] == [
        ("agent", "agent"),
        ("tool", "researcher"),
        ("agent", "researcher"),
        ("tool", "librarian"),
        ("agent", "librarian"),
    ]
    inner = next(span for span in recorder.spans if span.name == "librarian" and span.kind == "agent")
    assert inner.parent is not None
    assert inner.parent.kind == "tool"


@pytest.mark.parametrize("tool", ["on_the_loop", "in_a_thread", "inner"])
async def test_one_tool_is_cancelled_and_the_run_goes_on(tool: str) -> None:
    gate = threading.Event()

    async def on_the_loop(task: str) -> str:
        await anyio.sleep_forever()
        return "late"

    def in_a_thread(task: str) -> str:
        gate.wait(10)
        return "late"

    inner = ScriptedBackend(["Hm", Pause(float("inf"))])
    tools: list[Any] = [look, on_the_loop, in_a_thread, Agent(inner, name="inner")]
    backend = ScriptedBackend([call(1, tool, task="x"), call(2)], ["Done."])
    async with Agent(backend, tools).astream("x") as stream:
        async for event in stream.events():
            if isinstance(event, ToolResult) and event.result.tool_call_id == "c2":
                stream.cancel_tool("c1")
    gate.set()
    inner.assert_closed()
    assert stream.result.value == "Done."
    cancelled, looked = (message.blocks[0] for message in backend.requests[1].messages if message.role == "tool")
    assert isinstance(cancelled, ToolOutput)
    assert (cancelled.tool_call_id, cancelled.is_error) == ("c1", True)
    assert "cancelled" in str(cancelled.result)
    assert looked == ToolOutput("c2", "look", "a cat in Rome")
    with pytest.raises(UsageError, match="'c1'"):
        stream.cancel_tool("c1")


async def test_a_tool_of_a_sub_agent_is_cancelled_and_both_runs_go_on() -> None:
    async def forever(place: str) -> str:
        await anyio.sleep_forever()
        return "late"

    inner = ScriptedBackend([call(7, "forever")], ["Nothing there."])
    outer = ScriptedBackend([call(1, "scout", task="x")], ["Done."])
    async with Agent(outer, [Agent(inner, [forever], name="scout")]).astream("x") as stream:
        async for event in stream.events():
            if isinstance(event, NestedEvent) and isinstance(event.event, ToolEnd):
                with pytest.raises(UsageError, match="'c9'"):
                    stream.cancel_tool("c9")
                while True:
                    try:
                        stream.cancel_tool("c7")
                        break
                    except UsageError:  # the answer that calls it isn't whole yet
                        await anyio.sleep(0.01)
    assert stream.result.value == "Done."
    assert [result.result for result in stream.result.steps[0].results] == ["Nothing there."]
    assert "cancelled" in str(inner.requests[1].messages[-1].blocks[0].result)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda: Agent(ScriptedBackend("x")), "stream_async", r"\.astream\(…\)"),
        (lambda: Agent(ScriptedBackend("x")), "run_sync", r"\.run\(…\)"),
        (lambda: Agent(ScriptedBackend("x")).run("x"), "final_output", r"\.output"),
        (lambda: Agent(ScriptedBackend("x")).run("x"), "interruptions", r"\.pending\.questions"),
        (lambda: Agent(ScriptedBackend("x")).stream("x"), "text_stream", "iterate"),
        (lambda: Agent(ScriptedBackend("x")).astream("x"), "messages", r"\.result"),
        (lambda: Agent(ScriptedBackend("x")).conversation(), "run", r"\.send\(…\)"),
    ],
)
def test_names_of_other_libraries_lead_to_ours(make: Any, name: str, says: str) -> None:
    value = make()
    with pytest.raises(AttributeError, match=says):
        getattr(value, name)
    assert not hasattr(value, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = value.nonsense


async def test_a_stream_of_the_other_colour_says_how_it_is_read() -> None:
    agent = Agent(ScriptedBackend("x"))
    with pytest.raises(TypeError, match=r"async for piece in agent\.astream"):
        async with agent.stream("x"):  # type: ignore[attr-defined]
            pass
    with pytest.raises(TypeError, match=r"for piece in agent\.stream"):
        for _ in agent.astream("x"):  # type: ignore[attr-defined]
            pass
    with pytest.raises(TypeError, match=r"await agent\.arun"):
        await agent.astream("x")  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"with agent\.stream"), agent.astream("x"):  # type: ignore[attr-defined]
        pass


async def test_what_is_resumed_or_continued_is_checked() -> None:
    agent = Agent(ScriptedBackend([call()]), [tool(requires_approval=True)(look)])
    run = await agent.arun("x")
    with pytest.raises(UsageError, match=r"that is its \.pending"):
        await agent.aresume(run, {})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'c1' was approved, but there is no tool 'look'"):
        await Agent(ScriptedBackend("x")).aresume(run.pending, {"c1": True})
    assert (await Agent(ScriptedBackend("x")).aresume(run.pending, {"c1": False})).value == "x"
    with pytest.raises(UsageError, match="JSON that to_json"):
        agent.conversation(agent.conversation())  # type: ignore[arg-type]
