"""Agents that wait: resumed in another place, from JSON, a checkpoint or a value; once if there is a store."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import ToolCall, ToolOutput, Usage
from mellea.core.events import StepEnd, StepStart, ToolEnd, ToolResult
from mellea.errors import OutputError, ParseError, RateLimitError, StateError, ToolLoopLimitError, UsageError
from mellea.stdlib.agents import Agent, Limits, Pending
from mellea.stdlib.tools import Ask, Deny, Edited, ToolLoop, ToolSet, tool
from mellea.testing import Gate, ScriptedBackend
from tests.waiting import cancel_once

pytestmark = pytest.mark.anyio

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELLEA_SECRET", raising=False)
    ran.clear()


@tool
def look(place: str) -> str:
    """Look somewhere."""
    ran.append(f"look {place}")
    return f"a cat in {place}"


@tool(requires_approval=True)
def buy(what: str) -> str:
    """Buy something."""
    ran.append(f"buy {what}")
    return f"bought {what}"


@tool(runs="outside")
def measure(place: str) -> float:
    """Measure the temperature."""
    raise AssertionError


TOOLS = [look, buy, measure]


def call(name: str, number: int = 1, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"c{number}", name, args))


def shopper(*replies: Any, **settings: Any) -> tuple[Agent[str], ScriptedBackend]:
    backend = ScriptedBackend(*replies, usage=Usage(10, 5))
    return Agent(backend, TOOLS, **settings), backend


BUY: list[Any] = ["Well.", call("buy", 1, what="tea"), call("look", 2, place="Rome")]


async def test_a_run_that_has_to_ask_is_pending_and_goes_on_in_another_agent_from_json() -> None:
    agent, backend = shopper(BUY, instructions="Be brief.")
    run = await agent.arun("Get tea.")
    assert run.pending is not None and run.parsed is not None
    assert [(each.id, each.kind, each.call.tool_name) for each in run.pending.questions] == [("c1", "approval", "buy")]
    assert ran == ["look Rome"]
    saved = run.pending.to_json()
    other, again = shopper("Done.", instructions="Be brief.")
    done = await other.aresume(saved, {"c1": True})
    assert (done.value, done.pending, ran) == ("Done.", None, ["look Rome", "buy tea"])
    assert (len(backend.requests), len(again.requests)) == (1, 1)
    assert [message.role for message in done.messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert again.requests[0].messages == done.messages[:-1]


async def test_steps_and_usage_count_on_through_a_resume() -> None:
    agent, _ = shopper([call("look", 1, place="Rome")], ["So.", call("buy", 2, what="tea")], "Done.")
    run = await agent.arun("x")
    done = await agent.aresume(run.pending, {"c2": True})  # type: ignore[arg-type]
    assert [(step.number, step.text, len(step.results)) for step in done.steps] == [
        (1, "", 1),
        (2, "So.", 1),
        (3, "Done.", 0),
    ]
    assert done.usage == Usage(30, 15)


async def test_limits_hold_through_a_resume() -> None:
    agent, backend = shopper(BUY, [call("buy", 3, what="jam")], limits=Limits(tool_calls=2))
    run = await agent.arun("x")
    with pytest.raises(ToolLoopLimitError, match=r"^Limits\(tool_calls=2\) was reached in step 2, and"):
        await agent.aresume(run.pending, {"c1": True})  # type: ignore[arg-type]
    assert len(backend.requests) == 2


async def test_at_a_limit_after_a_resume_the_text_of_an_earlier_step_is_the_answer() -> None:
    back = ToolLoop(max_steps=3, on_limit="return")
    agent, _ = shopper(["Hm.", call("look", 1, place="Rome")], [call("buy", 2, what="tea")], loop=back)
    run = await agent.arun("x")
    done = await agent.aresume(run.pending, {"c2": False})  # type: ignore[arg-type]
    assert (done.limit, done.value, done.parsed) == ("steps", "Hm.", "Hm.")
    agent, _ = shopper(["So.", call("buy", 2, what="tea")], [call("look", 3, place="Rome")], loop=ToolLoop(2, "return"))
    run = await agent.arun("x")
    assert (await agent.aresume(run.pending, {"c2": True})).value == "So."  # type: ignore[arg-type]
    backend = ScriptedBackend(["[1]", call("buy", 2, what="tea")], [call("buy", 3, what="jam")])
    typed = Agent(backend, TOOLS, output=list[int], loop=ToolLoop(2, "return"))
    ended = await typed.aresume((await typed.arun("x")).pending, {"c2": True})  # type: ignore[arg-type]
    assert (ended.limit, ended.value, ended.parsed) == ("steps", "[1]", [1])


async def test_what_isnt_answered_stays_pending() -> None:
    agent, backend = shopper([call("buy", 1, what="tea"), call("measure", 2, place="Rome")], "Done.")
    run = await agent.arun("x")
    assert run.pending is not None
    halfway = await agent.aresume(run.pending, {"c2": 21.5})
    assert halfway.pending is not None and halfway.pending.run == run.pending.run
    assert ([each.id for each in halfway.pending.questions], ran, len(backend.requests)) == (["c1"], [], 1)
    nothing = await agent.aresume(halfway.pending)
    assert nothing.pending == halfway.pending
    done = await agent.aresume(halfway.pending, {"c1": Deny("too dear")})
    assert (done.value, [message.blocks[0].result for message in done.messages if message.role == "tool"]) == (  # type: ignore[union-attr]
        "Done.",
        ["too dear", 21.5],
    )


def test_plain_code_waits_and_resumes_too() -> None:
    agent, _ = shopper(BUY, "Done.")
    run = agent.run("Get tea.")
    assert run.pending is not None
    assert agent.resume(run.pending.to_json(), {"c1": Edited({"what": "milk"})}).value == "Done."
    assert ran == ["look Rome", "buy milk"]


async def test_a_pending_stream_has_no_final_chunk() -> None:
    agent, _ = shopper(BUY)
    async with agent.astream("x") as stream:
        chunks = [chunk async for chunk in stream]
        assert not any(chunk.is_final for chunk in chunks)
        events = [event async for event in stream.events()]
    assert stream.result.pending is not None
    assert StepStart(1) in events and StepEnd(1) not in events
    assert [event.result.tool_call_id for event in events if isinstance(event, ToolResult)] == ["c2"]


async def test_a_resumed_run_can_be_streamed() -> None:
    agent, backend = shopper(BUY, ["All ", "done."], BUY, ["All ", "done."])
    run = await agent.arun("x")
    stream = await agent.aresume_stream(run.pending, {"c1": True}, live=True)
    assert ran == ["look Rome"]  # nothing goes on before somebody reads
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks if chunk.step == 2) == "All done."
    assert [chunk.is_final for chunk in chunks][-1]
    assert (stream.result.value, ran) == ("All done.", ["look Rome", "buy tea"])
    with pytest.raises(UsageError, match="no open question 'c9'"):
        await agent.aresume_stream(run.pending, {"c9": True})
    saved = (await agent.arun("x")).pending.to_json()  # type: ignore[union-attr]
    plain = await anyio.to_thread.run_sync(lambda: list(agent.resume_stream(saved, {"c1": False})))
    assert [chunk.text for chunk in plain] == ["All ", "done."]
    assert len(backend.requests) == 4


async def test_a_stream_of_a_state_is_refused_with_the_way_to_stream_it() -> None:
    agent, _ = shopper(BUY)
    run = await agent.arun("x")
    uses: list[Any] = [
        lambda: agent.stream(run.pending),
        lambda: agent.astream(run),
        lambda: agent.stream(run.pending, {"c1": True}),  # type: ignore[call-arg]
        lambda: agent.astream("x", answers={"c1": True}),  # type: ignore[call-arg]
    ]
    for use in uses:
        with pytest.raises(UsageError, match=r"agent\.resume_stream\(pending, answers\) streams"):
            use()


async def test_a_run_that_waits_shows_itself() -> None:
    agent, _ = shopper([call("buy", 1, what="tea")], "Done.")
    with mellea.traces.start("shopping") as trace:
        run = await agent.arun("x")
        assert str(run) == "(waits for answers to buy(what='tea'))"
        assert str(await agent.aresume(run.pending, {"c1": True})) == "Done."
    lines = [line.strip().partition(" (")[::2] for line in str(trace.tree()).splitlines()]
    assert [(name, kind.split(",")[0].rstrip(")")) for name, kind in lines if name == "buy"] == [
        ("buy", "wait"),
        ("buy", "tool"),
    ]


async def test_a_typed_answer_comes_after_a_resume_and_is_corrected_if_it_has_to_be() -> None:
    backend = ScriptedBackend([call("buy", what="tea")], "[1, 2]")
    run = await (agent := Agent(backend, TOOLS, output=list[int])).arun("x")
    assert run.pending is not None and run.parsed is None
    assert (await agent.aresume(run.pending, {"c1": True})).parsed == [1, 2]
    backend = ScriptedBackend([call("buy", what="tea")], "none", "[3]")
    run = await (agent := Agent(backend, TOOLS, output=list[int])).arun("x")
    assert (await agent.aresume(run.pending, {"c1": True})).parsed == [3]  # type: ignore[arg-type]
    backend = ScriptedBackend([call("buy", what="tea")], "none")
    run = await (agent := Agent(backend, TOOLS, output=list[int])).arun("x")
    with pytest.raises(ParseError):
        await agent.aresume(run.pending, {"c1": True})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ({"c9": True}, UsageError, "there is no open question 'c9'; the open ones are 'c1'"),
        ({"c2": True}, UsageError, "there is no open question 'c2'"),
        ({"c1": "please"}, UsageError, "'c1' takes True, False, Deny"),
        ({"c1": Edited({"what": 3})}, UsageError, "the edited arguments of 'c1' don't fit the tool 'buy'"),
    ],
)
async def test_wrong_answers_are_refused_and_the_state_can_still_be_resumed(
    answers: Any, error: type[Exception], said: str, tmp_path: Path
) -> None:
    agent, backend = shopper(BUY, "Done.", store=tmp_path / "resumes.db")
    run = await agent.arun("x")
    assert run.pending is not None
    with pytest.raises(error, match=said):
        await agent.aresume(run.pending, answers)
    assert (ran, len(backend.requests)) == (["look Rome"], 1)
    assert (await agent.aresume(run.pending, {"c1": True})).value == "Done."


async def test_the_policy_is_asked_again_at_resume() -> None:
    asked: list[str] = []

    def policy(call: ToolCall) -> Ask | Deny:
        asked.append(call.tool_name)
        return Ask("Sure?") if len(asked) < 3 else Deny("not any more")

    agent, _ = shopper(
        [call("look", 1, place="Rome"), call("look", 2, place="Oslo")], "Done.", loop=ToolLoop(policy=policy)
    )
    run = await agent.arun("x")
    assert run.pending is not None and [each.text for each in run.pending.questions] == ["Sure?", "Sure?"]
    done = await agent.aresume(run.pending, {"c1": True, "c2": True})
    assert (asked, ran, done.value) == (["look"] * 4, [], "Done.")


# -- secrets and stores ------------------------------------------------------------------------------------


async def test_a_state_that_was_changed_is_refused() -> None:
    agent, _ = shopper(BUY, "Done.", secret="s")
    run = await agent.arun("x")
    assert run.pending is not None
    saved = run.pending.to_json()
    with pytest.raises(StateError, match="the state was changed"):
        await agent.aresume(saved.replace('"what":"tea"', '"what":"gold"'), {"c1": True})
    with pytest.raises(StateError, match="there is no secret"):
        await shopper("Done.")[0].aresume(saved, {"c1": True})
    assert (await agent.aresume(saved, {"c1": True})).value == "Done."
    assert ran == ["look Rome", "buy tea"]


async def test_the_secret_of_a_run_goes_before_the_agents_and_that_before_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MELLEA_SECRET", "of the environment")
    agent, _ = shopper(BUY)
    run = await agent.arun("x")
    with pytest.raises(StateError, match="another secret"):
        await agent.aresume(run.pending, {"c1": True}, secret="of the run")  # type: ignore[arg-type]
    with pytest.raises(StateError, match="another secret"):
        await shopper("Done.", secret="of the agent")[0].aresume(run.pending, {"c1": True})  # type: ignore[arg-type]
    assert (await shopper("Done.")[0].aresume(run.pending, {"c1": True})).value == "Done."  # type: ignore[arg-type]


async def test_with_a_store_no_state_is_resumed_twice(tmp_path: Path) -> None:
    store = tmp_path / "resumes.db"
    agent, _ = shopper(BUY, "Done.", store=store)
    run = await agent.arun("x")
    assert run.pending is not None
    waiting = await agent.aresume(run.pending)
    assert waiting.pending == run.pending, "nothing was done, so it can be resumed still"
    assert (await agent.aresume(run.pending, {"c1": True})).value == "Done."
    for again in (run.pending, run.pending.to_json(), Pending.from_json(run.pending.to_json())):
        with pytest.raises(UsageError, match="has already been resumed, and the store allows this only once per state"):
            await shopper("Done.", store=store)[0].aresume(again, {"c1": True})
    assert ran == ["look Rome", "buy tea"]


async def test_of_two_resumes_at_once_one_is_refused(tmp_path: Path) -> None:
    agent, _ = shopper(BUY, "Done.", store=tmp_path / "resumes.db")
    run = await agent.arun("x")
    ends: list[str] = []

    async def resume() -> None:
        try:
            ends.append((await agent.aresume(run.pending, {"c1": True})).value)  # type: ignore[arg-type]
        except UsageError:
            ends.append("refused")

    async with anyio.create_task_group() as group:
        group.start_soon(resume)
        group.start_soon(resume)
    assert sorted(ends) == ["Done.", "refused"] and ran == ["look Rome", "buy tea"]


# -- checkpoints -------------------------------------------------------------------------------------------


async def test_a_checkpoint_gets_the_state_after_each_answer_and_each_finished_tool(tmp_path: Path) -> None:
    states: list[Pending] = []
    agent, _ = shopper([call("look", 1, place="Rome")], [call("look", 2, place="Oslo")], "Done.")
    await agent.arun("x", checkpoint=states.append)
    told = [(each.state.step, len(each.state.outputs), each.state.is_done) for each in states]
    assert told == [(1, 0, False), (1, 1, False), (2, 0, False), (2, 1, False), (3, 0, True)]
    assert len({each.run for each in states}) == 1 and len({each.id for each in states}) == 5


@pytest.mark.parametrize("is_async", [True, False])
async def test_from_each_checkpoint_the_rest_is_done_and_no_more(is_async: bool) -> None:
    states: list[str] = []

    async def keep(pending: Pending) -> None:
        states.append(pending.to_json())

    script = [[call("look", 1, place="Rome")], [call("look", 2, place="Oslo")], "Done."]
    agent, _ = shopper(*script)
    whole = await agent.arun("x", checkpoint=keep if is_async else lambda pending: states.append(pending.to_json()))
    for saved in states:
        ran.clear()
        state = Pending.from_json(saved).state
        again, backend = shopper(*script[state.step :] or ["x"])
        done = await again.aresume(saved)
        assert (done.value, done.messages) == ("Done.", whole.messages)
        assert [step.number for step in done.steps] == [1, 2, 3]
        assert len(backend.requests) == 3 - state.step
        assert len(ran) == 2 - sum(message.role == "tool" for message in state.messages) - len(state.outputs)


@pytest.mark.parametrize("has_earlier", [False, True])
async def test_empty_answers_are_steps_too_when_a_run_goes_on(has_earlier: bool) -> None:
    states: list[Pending] = []
    gate = Gate()
    backend = ScriptedBackend([gate], [call("look", 1, place="Rome")], ["[1]"])
    earlier = [mellea.core.Message("user", "Before?"), mellea.core.Message("assistant", "[7]")] if has_earlier else []
    conversation = Agent(backend, TOOLS, output=list[int]).conversation(messages=earlier)
    async with conversation.astream("x", checkpoint=states.append) as stream:
        async for _ in stream.events():
            if not gate.is_open:
                stream.steer("Say something.")
                gate.open()
    assert [(step.number, step.text) for step in stream.result.steps] == [(1, ""), (2, ""), (3, "[1]")]
    for state in states:
        rest = [[call("look", 1, place="Rome")], ["[1]"]][state.state.step - 1 :] or ["unused"]
        done = await Agent(ScriptedBackend(*rest), TOOLS, output=list[int]).aresume(state)
        assert done.messages == stream.result.messages
        assert done.output == [1]
        assert [(step.number, step.text, len(step.results)) for step in done.steps] == [
            (1, "", 0),
            (2, "", 1),
            (3, "[1]", 0),
        ]


async def test_a_checkpoint_is_a_file_that_resume_takes_and_goes_on_writing(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    agent, _ = shopper(BUY, "Done.")
    run = await agent.arun("x", checkpoint=file)
    assert run.pending == Pending.from_json(file.read_text())
    done = await agent.aresume(str(file), {"c1": True})
    assert done.value == "Done." and Pending.from_json(file.read_bytes()).state.is_done
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (await shopper("x")[0].aresume(file)).value == "Done.", "a finished run says its answer again"


async def test_a_run_stopped_in_the_middle_goes_on_from_its_checkpoint_with_a_store(tmp_path: Path) -> None:
    file, store = tmp_path / "run.json", tmp_path / "resumes.db"
    agent, _ = shopper(BUY, RateLimitError("slow down"), store=store)
    await agent.arun("x", checkpoint=file)
    waiting = file.read_text()
    with pytest.raises(RateLimitError):
        await agent.aresume(file, {"c1": True})
    assert ran == ["look Rome", "buy tea"]
    again, backend = shopper("Done.", store=store)
    assert (await again.aresume(file)).value == "Done."
    assert ran == ["look Rome", "buy tea"] and len(backend.requests) == 1
    with pytest.raises(UsageError, match="has already been resumed"):
        await again.aresume(waiting, {"c1": True})


async def test_an_answer_given_once_is_kept_for_whoever_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    gate = Gate()

    @tool(requires_approval=True)
    async def slow() -> str:
        """Take a while."""
        ran.append("slow")
        await gate.wait()
        return "done"

    agent = Agent(ScriptedBackend([call("slow")], "Done."), [slow])
    await agent.arun("x", checkpoint=file)
    await cancel_once(lambda: ran, lambda: agent.aresume(file, {"c1": True}))
    assert ran == ["slow"] and Pending.from_json(file.read_bytes()).state.answers == {"c1": True}
    gate.open()
    assert (await agent.aresume(file)).value == "Done."
    assert ran == ["slow", "slow"], "the one that was running runs again"


async def test_a_claim_whose_process_died_before_it_did_anything_is_taken_over(tmp_path: Path) -> None:
    agent, _ = shopper(BUY, "Done.", store=tmp_path / "resumes.db")
    run = await agent.arun("x")

    def fail(pending: Pending) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OutputError, match="the disk is full; raised by the checkpoint of an agent's run"):
        await agent.aresume(run.pending, {"c1": True}, checkpoint=fail)  # type: ignore[arg-type]
    assert ran == ["look Rome"]
    assert (await agent.aresume(run.pending, {"c1": True})).value == "Done."  # type: ignore[arg-type]


def test_wrong_places_for_states_are_refused_at_once(tmp_path: Path) -> None:
    agent, backend = shopper("x")
    for wrong in (3, tmp_path, tmp_path / "nowhere" / "run.json"):
        with pytest.raises(UsageError, match="checkpoint takes the path of a file"):
            agent.run("x", checkpoint=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="secret takes a non-empty string or bytes"):
        Agent(backend, secret="")
    with pytest.raises(UsageError, match="resume takes a Pending, its JSON, or the path of a checkpoint, not 3"):
        agent.resume(3)  # type: ignore[arg-type]
    for path in (tmp_path / "nothing.json", "hello"):
        with pytest.raises(UsageError, match=r"the path of a checkpoint, and '.*' can't be read as one: No such file"):
            agent.resume(path)
    with pytest.raises(StateError):
        agent.resume("{}")
    assert not backend.requests


async def test_another_agents_state_is_refused() -> None:
    agent, _ = shopper(BUY, name="buyer")
    run = await agent.arun("x")
    with pytest.raises(UsageError, match="the state belongs to the agent 'buyer', but this is 'seller'"):
        await shopper("x", name="seller")[0].aresume(run.pending, {"c1": True})  # type: ignore[arg-type]


# -- sub-agents --------------------------------------------------------------------------------------------


async def test_a_sub_agents_question_is_answered_through_the_agent_above() -> None:
    def both() -> tuple[Agent[str], ScriptedBackend, ScriptedBackend]:
        low = ScriptedBackend([call("look", 7, place="Rome")], [call("buy", 8, what="tea")], "Bought.")
        high = ScriptedBackend([call("buyer", 1, task="tea"), call("look", 2, place="Oslo")], "Done.")
        return Agent(high, [Agent(low, TOOLS, name="buyer"), *TOOLS]), low, high

    agent, low, high = both()
    run = await agent.arun("x")
    assert run.pending is not None
    [question] = run.pending.questions
    assert (question.id, question.path, question.call.tool_args) == ("c1/c8", "buyer/2", {"what": "tea"})
    with pytest.raises(UsageError, match="the edited arguments of 'c1/c8' don't fit the tool 'buy'"):
        await agent.aresume(run.pending, {"c1/c8": Edited({})})
    done = await agent.aresume(run.pending.to_json(), {"c1/c8": True})
    assert (done.value, sorted(ran)) == ("Done.", ["buy tea", "look Oslo", "look Rome"])
    assert (len(low.requests), len(high.requests)) == (3, 2)
    assert [message.blocks[0].result for message in done.messages if message.role == "tool"] == [
        "Bought.",
        "a cat in Oslo",
    ]  # type: ignore[union-attr]


async def test_from_every_state_of_a_run_with_a_sub_agent_the_rest_is_done_and_no_more() -> None:
    inner: list[Any] = [[call("look", 7, place="Rome")], [call("look", 8, place="Bonn")], "Seen."]
    outer: list[Any] = [[call("seer", 1, task="x"), call("look", 2, place="Oslo")], "Done."]

    def team(inner_step: int, outer_step: int) -> tuple[Agent[str], list[ScriptedBackend]]:
        low, high = ScriptedBackend(*inner[inner_step:], "x"), ScriptedBackend(*outer[outer_step:], "x")
        return Agent(high, [Agent(low, TOOLS, name="seer"), look]), [low, high]

    states: list[str] = []
    whole = await team(0, 0)[0].arun("x", checkpoint=lambda pending: states.append(pending.to_json()))
    assert len(states) > 5  # states that come at once are saved as one
    places = {"c7": "Rome", "c8": "Bonn", "c2": "Oslo"}
    for saved in states:
        ran.clear()
        state = Pending.from_json(saved).state
        below = state.nested.get("c1")
        is_seen = "c1" in state.outputs or state.step == 2
        agent, backends = team(3 if is_seen else below.step if below else 0, state.step)
        done = await agent.aresume(saved)
        assert [message.text for message in done.messages] == [message.text for message in whole.messages]
        told = [block for each in (state, below) if each for message in each.messages for block in message.blocks]
        finished = {block.tool_call_id for block in told if isinstance(block, ToolOutput)}
        finished |= {*state.outputs, *(below.outputs if below else ()), *(("c7", "c8") if is_seen else ())}
        assert sorted(ran) == sorted(f"look {place}" for key, place in places.items() if key not in finished)
        asked = 0 if is_seen else 3 - (below.step if below else 0)
        assert [len(backend.requests) for backend in backends] == [asked, 2 - state.step]


# -- leaving -----------------------------------------------------------------------------------------------


async def test_cancelling_a_resumed_run_leaves_a_whole_checkpoint_and_no_thread(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    agent, backend = shopper(BUY, Gate())
    await agent.arun("x", checkpoint=file)
    before = threading.active_count()
    await cancel_once(lambda: len(backend.requests) == 2, lambda: agent.aresume(file, {"c1": True}))
    state = Pending.from_json(file.read_text()).state
    assert state.outputs.keys() == {"c1", "c2"} or state.messages[-1].role == "tool"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert threading.active_count() <= before + 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything can be written here")
async def test_a_checkpoint_that_cant_be_written_is_an_error_before_anything_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    agent, backend = shopper(BUY, "Done.")
    tmp_path.chmod(0o500)
    with pytest.raises(StateError, match="can't be written"):
        await agent.arun("x", checkpoint=file)
    assert (ran, len(backend.requests)) == ([], 1)


async def test_what_a_sub_agent_takes_is_counted_once_though_it_waits_in_between() -> None:
    low = ScriptedBackend([call("buy", 8, what="tea")], "Bought.", usage=Usage(10, 5))
    high = ScriptedBackend([call("buyer", 1, task="tea")], "Done.", usage=Usage(10, 5))
    agent = Agent(high, [Agent(low, TOOLS, name="buyer")])
    run = await agent.arun("x")
    assert run.pending is not None and run.usage == Usage(10, 5), "sub-agents are counted once they are done"
    assert (await agent.aresume(run.pending.to_json(), {"c1/c8": True})).usage == Usage(40, 20)


async def test_a_plain_call_with_an_agent_among_its_tools_has_nobody_to_ask() -> None:
    low = ScriptedBackend([call("buy", 8, what="tea")], "Nobody may buy.")
    m = mellea.start_session(ScriptedBackend([call("buyer", 1, task="tea")], "Sorry."))
    thunk = await m.ainstruct("x", tools=[Agent(low, TOOLS, name="buyer").as_tool()], tool_calls="run")
    assert thunk.value == "Sorry." and ran == []


class Shop(ToolSet):
    """Tools that have to be loaded."""

    async def aload(self) -> list[Any]:
        return [look, buy]


@pytest.mark.parametrize("tools", [Shop(), [Shop()]])
async def test_a_set_of_tools_stands_alone_or_in_a_list_also_when_a_run_is_resumed(tools: Any) -> None:
    agent = Agent(ScriptedBackend(BUY, "Done."), tools)
    run = await agent.arun("x")
    done = await agent.aresume(run.pending.to_json(), {"c1": True})  # type: ignore[union-attr]
    assert (done.value, ran) == ("Done.", ["look Rome", "buy tea"])


async def test_edited_arguments_for_a_tool_of_a_set_are_checked_inside_of_sub_agents_too() -> None:
    buyer = Agent(ScriptedBackend([call("buy", 8, what="tea")], "Bought."), Shop(), name="buyer")
    agent = Agent(ScriptedBackend([call("buyer", 1, task="tea")], "Done."), [buyer])
    run = await agent.arun("x")
    assert run.pending is not None
    with pytest.raises(UsageError, match="the edited arguments of 'c1/c8' don't fit the tool 'buy'"):
        await agent.aresume(run.pending, {"c1/c8": Edited({"wat": 1})})
    assert ran == []
    assert (await agent.aresume(run.pending, {"c1/c8": Edited({"what": "jam"})})).value == "Done."
    assert ran == ["buy jam"]


@pytest.mark.parametrize("last", ["3]", ""])
async def test_a_value_that_was_begun_before_a_resume_goes_on_after_it(last: str) -> None:
    first = "[1, 2, " if last else "[1, 2]"
    agent = Agent(ScriptedBackend([first, call("buy", 1, what="tea")], [last]), [buy], output=list[int])
    run = await agent.arun("x")
    done = await agent.aresume(run.pending.to_json(), {"c1": True})  # type: ignore[union-attr]
    assert done.parsed == ([1, 2, 3] if last else [1, 2])
    assert [step.text for step in done.steps] == [first, last]


async def test_a_sub_agent_that_waited_knows_what_it_wrote_before() -> None:
    low = ScriptedBackend(["[1, ", call("buy", 8, what="tea")], "2]")
    buyer = Agent(low, [buy], output=list[int], name="buyer")
    agent = Agent(ScriptedBackend([call("buyer", 1, task="tea")], "Done."), [buyer])
    run = await agent.arun("x")
    done = await agent.aresume(run.pending.to_json(), {"c1/c8": True})  # type: ignore[union-attr]
    inner = done.steps[0].results[0].value
    assert (inner.parsed, [step.text for step in inner.steps]) == ([1, 2], ["[1, ", "2]"])


@pytest.mark.parametrize("output", [str, list[int]])
async def test_every_state_of_a_run_comes_to_the_same(output: Any) -> None:
    states: list[Pending] = []
    agent = Agent(ScriptedBackend(["[1, ", call("look", 1, place="Rome")], "2]"), [look], output=output)
    run = await agent.arun("x", checkpoint=states.append)
    assert len(states) == 3
    for state in states:
        again = await agent.aresume(state)
        assert (again.value, again.parsed, again.messages) == (run.value, run.parsed, run.messages)
        assert [(step.number, step.text) for step in again.steps] == [(1, "[1, "), (2, "2]")]


@pytest.mark.parametrize("saved", ["", " \n", b""])
async def test_an_empty_text_is_no_state(saved: Any) -> None:
    with pytest.raises(StateError, match="isn't JSON"):
        await shopper("x")[0].aresume(saved)
