"""The tool loop: a call that asks, runs the tools that the answer calls, and asks again."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Message, ToolCall, ToolOutput, ToolSpec, Usage
from mellea.core.events import StepEnd, StepStart, StreamEnd, TextDelta, ToolEnd, ToolResult, ToolStart
from mellea.errors import (
    DeadlineError,
    InterruptedStreamError,
    ParseError,
    RateLimitError,
    ToolLoopLimitError,
    UsageError,
)
from mellea.stdlib.context import ChatContext, SimpleContext
from mellea.stdlib.functional import aact
from mellea.stdlib.requirements import check, simple_validate
from mellea.stdlib.tools import Allow, Ask, Deny, Step, ToolLoop, choose_loop
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import until

pytestmark = pytest.mark.anyio


def look(place: str) -> str:
    """Look somewhere."""
    if place == "nowhere":
        raise LookupError("there is no such place")
    return f"a cat in {place}"


def call(name: str = "look", number: int = 1, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"c{number}", name, args))


def session(*replies: Any, **kwargs: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies, **kwargs)
    return mellea.start_session(backend), backend


async def test_calls_are_only_shown_unless_they_are_to_be_run() -> None:
    m, backend = session([call(place="Rome")])
    thunk = await m.ainstruct("x", tools=[look])
    assert [shown.tool_name for shown in thunk.tool_calls] == ["look"]
    assert len(backend.requests) == 1
    assert [tool.name for tool in backend.requests[0].tools] == ["look"]
    assert (await m.achat("x", tools=[look])).tool_calls == thunk.tool_calls
    async with m.astream("x", tools=[look]) as stream:
        assert call(place="Rome") in [event async for event in stream.events()]


async def test_the_outputs_of_tools_go_back_to_the_model() -> None:
    m, backend = session(["Let me look.", call(place="Rome")], ["A cat, ", "in Rome."], usage=Usage(3, 4))
    thunk = await m.ainstruct("What is in Rome?", tools=[look], tool_calls="run")
    assert thunk.value == "Let me look.\n\nA cat, in Rome."
    assert thunk.parsed == "A cat, in Rome."
    assert thunk.message.content == "A cat, in Rome."
    assert thunk.finish_reason == "stop"
    assert thunk.usage == Usage(6, 8)
    assert backend.requests[1].messages == (
        *backend.requests[0].messages,
        Message("assistant", ["Let me look.", ToolCall("c1", "look", {"place": "Rome"})]),
        Message("tool", ToolOutput("c1", "look", "a cat in Rome")),
    )
    assert pickle.loads(pickle.dumps(thunk)).value == thunk.value


async def test_every_reader_sees_the_text_of_all_steps_and_the_events_live() -> None:
    gate = Gate()

    async def slow() -> str:
        await gate.wait()
        return "done"

    m, _ = session(["One.", ToolStart("c1", "slow"), call("slow")], ["Two."])
    thunk = await m.aact("x", tools=[slow], tool_calls="run", await_result=False)
    seen = []
    async for event in thunk.events():
        seen.append(event)
        if isinstance(event, ToolEnd):
            gate.open()
    assert seen == [
        StepStart(1),
        TextDelta("One."),
        ToolStart("c1", "slow"),
        call("slow"),
        ToolResult(ToolOutput("c1", "slow", "done")),
        StepEnd(1),
        StepStart(2),
        TextDelta("Two."),
        StepEnd(2),
        StreamEnd("stop", "script-2", "script"),
    ]
    assert "".join([chunk async for chunk in thunk]) == "One.\n\nTwo." == thunk.value


async def test_the_sync_stream_says_the_same() -> None:
    m, _ = session(["One.", call(place="Rome")], "Two.")

    def read() -> tuple[str, str]:
        with m.stream("x", tools=[look], tool_calls="run") as stream:
            return "".join(stream), stream.output

    assert await anyio.to_thread.run_sync(read) == ("One.\n\nTwo.", "One.\n\nTwo.")


async def test_tools_run_together_in_threads_and_their_results_are_in_order() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(n: int) -> int:
        both.wait()
        return n

    m, backend = session([call("meet", 1, n=1), call("meet", 2, n=2)], "ok")
    await m.ainstruct("x", tools=[meet], tool_calls="run")
    results = [message.blocks[0] for message in backend.requests[1].messages[2:]]
    assert results == [ToolOutput("c1", "meet", 1), ToolOutput("c2", "meet", 2)]


async def test_results_are_in_the_order_of_the_calls_however_they_end() -> None:
    second_is_shown = anyio.Event()

    async def wait(is_first: bool) -> None:
        if is_first:
            await second_is_shown.wait()

    m, backend = session([call("wait", 1, is_first=True), call("wait", 2, is_first=False)], "ok")
    thunk = await m.ainstruct("x", tools=[wait], tool_calls="run", await_result=False)
    results = []
    async for event in thunk.events():
        if isinstance(event, ToolResult):
            results.append(event.result.tool_call_id)
            second_is_shown.set()
    assert results == ["c2", "c1"], "shown as they come"
    sent = [message.blocks[0].tool_call_id for message in backend.requests[1].messages[2:]]  # type: ignore[union-attr]
    assert sent == ["c1", "c2"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (call(place="nowhere"), "LookupError: there is no such place"),
        (call(where="Rome"), "the argument 'place' is missing; there is no argument 'where'"),
        (call("peek"), "there is no tool 'peek'; the tools are 'look'"),
    ],
)
async def test_a_failed_call_goes_on_with_the_model_told(asked: ToolEnd, said: str) -> None:
    m, backend = session([asked], "Sorry.")
    assert (await m.ainstruct("x", tools=[look], tool_calls="run")).value == "Sorry."
    output = backend.requests[1].messages[-1].blocks[0]
    assert output == ToolOutput("c1", asked.tool_call.tool_name, said, is_error=True)


async def test_part_4_number_14_an_endless_loop_stops_at_the_limit_with_the_text_so_far() -> None:
    m, backend = session(["Again.", call(place="Rome")])
    with pytest.raises(
        ToolLoopLimitError, match=r"asked 3 times and still calls tools \('look'\); raise max_turns=, or"
    ) as caught:
        await m.ainstruct("x", tools=[look], tool_calls="run", max_turns=3)
    assert len(backend.requests) == 3
    assert caught.value.partial == "Again.\n\nAgain.\n\nAgain."
    backend.assert_closed()


async def test_the_limit_is_ten_turns_if_nothing_is_said() -> None:
    m, backend = session([call(place="Rome")])
    with pytest.raises(ToolLoopLimitError):
        await m.achat("x", tools=[look], tool_calls="run")
    assert len(backend.requests) == 10


async def test_the_typed_value_comes_from_the_last_step_alone() -> None:
    m, _ = session(["Let me see.", call(place="Rome")], "[1, 2]")
    thunk = await m.ainstruct("x", tools=[look], tool_calls="run", format=list[int])
    assert thunk.parsed == [1, 2]
    m, _ = session(["[1, 2]", call(place="Rome")], "none")
    with pytest.raises(ParseError):
        await m.ainstruct("x", tools=[look], tool_calls="run", format=list[int])


async def test_part_4_number_8_errors_are_the_same_as_in_a_direct_call() -> None:
    m, backend = session(["One.", call(place="Rome")], ["Tw", RateLimitError("slow down", retry_after=3)])
    with pytest.raises(RateLimitError) as caught:
        await m.ainstruct("x", tools=[look], tool_calls="run")
    assert caught.value.retry_after == 3
    assert caught.value.partial == "One.\n\nTw"
    backend.assert_closed()


async def test_part_4_number_7_leaving_a_stream_stops_the_request_and_runs_no_tool_any_more() -> None:
    ran = []

    def note() -> None:
        ran.append(1)

    m, backend = session(["a", Pause(float("inf")), call("note")])
    async with m.astream("x", tools=[note], tool_calls="run") as stream:
        async for chunk in stream:
            assert chunk == "a"
            break
    backend.assert_closed()
    assert not ran


async def test_part_4_number_1_no_tool_runs_after_a_stream_that_was_cut() -> None:
    ran = []

    def note() -> None:
        ran.append(1)

    m, _ = session(["One.", call("note")], is_cut=True)
    with pytest.raises(InterruptedStreamError) as caught:
        await m.ainstruct("x", tools=[note], tool_calls="run")
    assert caught.value.partial == "One."
    assert not ran


async def test_a_call_whose_arguments_were_cut_off_at_the_token_limit_isnt_run() -> None:
    ran: list[int] = []

    def note(times: int = 0) -> None:
        ran.append(times)

    cut = [call("note", 1, times=1), call("note", 2, times=2), call("note", 3), StreamEnd("length")]
    m, backend = session(cut, [call("note", 4), StreamEnd("tool_call")], "Done.")
    assert (await m.ainstruct("x", tools=[note], tool_calls="run")).value == "Done."
    assert sorted(ran) == [0, 1, 2], "the cut one isn't, and without arguments it is fine where nothing was cut"
    told = [block for message in backend.requests[1].messages for block in message.blocks if type(block) is ToolOutput]
    assert [output.is_error for output in told] == [False, False, True]


async def test_cancelling_while_a_tool_runs_ends_the_tool() -> None:
    begun, ended = list[int](), list[int]()

    async def forever() -> None:
        begun.append(1)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(1)

    m, backend = session([call("forever")], "never")
    thunk = await m.aact("x", tools=[forever], tool_calls="run", await_result=False)
    async for event in thunk.events():
        if isinstance(event, ToolEnd):
            break
    await until(lambda: begun)
    await thunk.cancel()
    assert ended == [1]
    assert len(backend.requests) == 1


async def test_the_total_deadline_is_that_of_the_whole_loop() -> None:
    async def forever() -> None:
        await anyio.sleep_forever()

    m, _ = session([call("forever")])
    with pytest.raises(DeadlineError, match=r"and its tools did not finish within 0\.05 s"):
        await m.ainstruct("x", tools=[forever], tool_calls="run", model_options={"timeout": 0.05})


async def test_a_tool_that_must_be_called_need_not_be_called_again() -> None:
    m, backend = session([call(place="Rome")], "ok")
    await m.ainstruct("x", tools=[look], tool_calls="run", model_options={"tool_choice": "required", "seed": 1})
    assert [dict(request.options) for request in backend.requests] == [
        {"tool_choice": "required", "seed": 1},
        {"seed": 1},
    ]


async def test_a_later_turn_sees_the_calls_and_their_results() -> None:
    backend = ScriptedBackend([call(place="Rome")], "A cat.", "Yes.")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("What is in Rome?", tools=[look], tool_calls="run")
    await m.achat("Sure?")
    assert [message.role for message in backend.requests[2].messages] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


async def test_a_strategy_makes_attempts_that_are_loops() -> None:
    m, backend = session([call(place="Rome")], "A dog.", [call(place="Rome")], "A cat.")
    is_cat = check("a cat", validation_fn=simple_validate(lambda text: "cat" in text))
    thunk = await m.ainstruct("x", tools=[look], tool_calls="run", requirements=[is_cat])
    assert (thunk.value, thunk.success) == ("A cat.", True)
    assert len(backend.requests) == 4


async def test_an_ingredient_that_is_still_written_is_awaited_first() -> None:
    gate = Gate()
    m, backend = session([gate, "Rome"], [call(place="Rome")], "ok")
    place = await m.ainstruct("Name a place.", await_result=False)
    thunk = await m.ainstruct(
        "Look in {{place}}.", user_variables={"place": place}, tools=[look], tool_calls="run", await_result=False
    )
    await anyio.sleep(0.01)
    assert len(backend.requests) == 1
    gate.open()
    assert (await thunk).value == "ok"
    assert backend.prompts[1] == "Look in Rome."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tool_calls": "do"}, "tool_calls takes 'show' or 'run', not 'do'"),
        ({"tools": [ToolSpec("bare", "", {})], "tool_calls": "run"}, "can't run 'bare', which is only a schema"),
        ({"tools": [look, look]}, "two tools have the name 'look'"),
        ({"tools": [3]}, "tools takes functions and Tools, not 3"),
        ({"max_turns": 0}, "max_turns takes a whole number from 1, not 0"),
        ({"tool_calls": "run", "output_prefix": "So"}, "output_prefix='So' can't be combined with tool_calls='run'"),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_sent(arguments: dict[str, Any], said: str) -> None:
    m, backend = session("x")
    with pytest.raises(UsageError, match=said):
        await m.ainstruct("x", **arguments)
    with pytest.raises(UsageError, match=said):
        m.astream("x", **arguments)
    assert not backend.requests


# -- a loop is a value -------------------------------------------------------------------------------------


async def loop_through(loop: ToolLoop, *replies: Any, tools: Any = (look,)) -> tuple[Any, ScriptedBackend]:
    """Ask with such a loop, and return the thunk and the backend."""
    backend = ScriptedBackend(*replies)
    thunk, _ = await aact("x", SimpleContext(), backend, tools=tools, loop=loop)
    return thunk, backend


async def test_a_loop_is_handed_to_a_call() -> None:
    thunk, backend = await loop_through(ToolLoop(max_steps=2), [call(place="Rome")], ["A cat."])
    assert thunk.value == "A cat." and len(backend.requests) == 2


async def test_at_its_limit_a_loop_raises_or_returns_what_there_is() -> None:
    with pytest.raises(ToolLoopLimitError, match=r"asked 1 time and still .* raise max_steps= of the ToolLoop, or"):
        await loop_through(ToolLoop(max_steps=1), ["So far.", call(place="Rome")])
    thunk, backend = await loop_through(ToolLoop(max_steps=1, on_limit="return"), ["So far.", call(place="Rome")])
    assert (thunk.value, len(backend.requests)) == ("So far.", 1)
    assert [shown.tool_name for shown in thunk.tool_calls] == ["look"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_policy_decides_before_each_call_and_a_denied_one_is_told_why(is_async: bool) -> None:
    asked, ran = [], []

    def decide(tool_call: ToolCall) -> Allow | Deny:
        asked.append(tool_call.tool_args["place"])
        return Deny("not there") if tool_call.tool_args["place"] == "Mars" else Allow()

    async def adecide(tool_call: ToolCall) -> Allow | Deny:
        return decide(tool_call)

    def visit(place: str) -> str:
        """Visit a place."""
        ran.append(place)
        return "nice"

    calls = [call("visit", 1, place="Mars"), call("visit", 2, place="Rome")]
    loop = ToolLoop(policy=adecide if is_async else decide)
    _, backend = await loop_through(loop, calls, ["Well."], tools=[visit])
    assert (asked, ran) == (["Mars", "Rome"], ["Rome"])
    results = [message.blocks[0] for message in backend.requests[1].messages if message.role == "tool"]
    assert results == [ToolOutput("c1", "visit", "not there", is_error=True), ToolOutput("c2", "visit", "nice")]


async def test_a_policy_that_asks_in_a_plain_call_or_says_nonsense_is_an_error() -> None:
    with pytest.raises(UsageError, match="the policy asks 'sure\\?' before the tool 'look' runs"):
        await loop_through(ToolLoop(policy=lambda _: Ask("sure?")), [call(place="Rome")])
    with pytest.raises(
        UsageError, match="a policy returns Allow\\(\\), Deny\\(reason\\) or Ask\\(question\\), not True"
    ):
        await loop_through(ToolLoop(policy=lambda _: True), [call(place="Rome")])  # type: ignore[arg-type,return-value]


async def test_a_step_can_be_changed_before_it_is_asked() -> None:
    other = ScriptedBackend("Other.")

    def prepare(step: Step) -> Step | None:
        if step.number == 1:
            return None
        return replace(
            step, backend=other, messages=(*step.messages, Message("user", "Now.")), tools=(), options={"seed": 7}
        )

    thunk, backend = await loop_through(ToolLoop(prepare_step=prepare), [call(place="Rome")])
    assert thunk.value == "Other." and len(backend.requests) == 1
    [request] = other.requests
    assert request.messages[-1] == Message("user", "Now.") and request.messages[-2].role == "tool"
    assert (request.tools, request.options) == ((), {"seed": 7})
    with pytest.raises(UsageError, match="prepare_step returns a Step"):
        await loop_through(ToolLoop(prepare_step=lambda step: "x"), ["x"])  # type: ignore[arg-type,return-value]


async def test_one_at_a_time_runs_the_calls_in_the_order_of_the_model() -> None:
    ran = []

    async def visit(place: str) -> None:
        """Visit a place."""
        ran.append(f"to {place}")
        await anyio.sleep(0)
        ran.append(f"from {place}")

    calls = [call("visit", 1, place="a"), call("visit", 2, place="b")]
    await loop_through(ToolLoop(concurrency=1), calls, ["Well."], tools=[visit])
    assert ran == ["to a", "from a", "to b", "from b"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"max_steps": 0}, "max_steps takes a whole number from 1, or None, not 0"),
        ({"concurrency": True}, "concurrency takes a whole number from 1, not True"),
        ({"on_limit": "stop"}, "on_limit takes 'raise' or 'return', not 'stop'"),
        ({"policy": 3}, "policy takes a function, not 3"),
    ],
)
def test_a_loop_with_a_wrong_part_is_refused(arguments: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        ToolLoop(**arguments)
    with pytest.raises(UsageError, match="loop takes a ToolLoop"):
        choose_loop("run", "show")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="max_turns=3 can't be combined with loop="):
        choose_loop(ToolLoop(max_steps=5), "run", 3)
