"""Compactors: when they are at work, that it is done once, and what a call sees of it."""

import gc
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Message
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.context import Turn
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import BackendError, OutputError, UsageError
from mellea.stdlib.context import ChatContext, SummaryCompactor, ThresholdCompactor, WindowCompactor, get_turn_texts
from mellea.stdlib.requirements import req, simple_validate
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import cancel_once

pytestmark = pytest.mark.anyio


def contents(backend: ScriptedBackend, number: int = -1) -> list[str]:
    return [message.content for message in backend.requests[number].messages]


async def say(m: mellea.MelleaSession, *words: str) -> None:
    for word in words:
        await m.achat(word)


def summariser(*replies: Any, **settings: Any) -> tuple[ScriptedBackend, SummaryCompactor]:
    backend = ScriptedBackend(*replies)
    return backend, SummaryCompactor(mellea.start_session(backend).ainstruct, **settings)


# -- summaries ----------------------------------------------------------------------------------------------


async def test_older_turns_are_summarised_and_the_last_stay() -> None:
    _, compactor = summariser("We spoke of a and b.", keep=1, tokens=3)
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await say(m, "aaaa", "bbbb", "cccc", "dddd")
    assert contents(backend, 2) == ["aaaa", "yes", "bbbb", "yes", "cccc"], "2 tokens are no more than 3"
    assert contents(backend, 3) == ["What have we said so far?", "We spoke of a and b.", "cccc", "yes", "dddd"]
    assert [message.role for message in backend.requests[3].messages] == ["user", "assistant"] * 2 + ["user"]
    assert len(m.ctx.turns()) == 4, "the context itself forgets nothing"


async def test_the_model_gets_the_conversation_and_the_earlier_summary() -> None:
    helper, compactor = summariser("First.", "Second.", keep=0, tokens=1)
    m = mellea.start_session(ScriptedBackend("yes"), ctx=ChatContext(compactor=compactor))
    await say(m, "aaaa", "bbbb", "cccc")
    task, *transcript = helper.prompts[0].split("\n\n")
    assert "Summarise the conversation below" in task
    assert transcript == ["User: aaaa", "Assistant: yes"]
    assert helper.prompts[1].split("\n\n")[1:] == [
        "User: What have we said so far?",
        "Assistant: First.",
        "User: bbbb",
        "Assistant: yes",
    ]


async def test_a_summary_is_made_once_and_each_turn_is_summarised_once() -> None:
    helper, compactor = summariser(lambda request: f"Summary {len(helper.requests)}.", keep=2, tokens=10)
    backend = ScriptedBackend("yes!")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    words = [f"word{number:04}" for number in range(60)]  # three tokens a turn, four turns a summary
    await say(m, *words)
    assert len(helper.requests) == 14
    for word in words[:56]:
        assert sum(word in prompt for prompt in helper.prompts) == 1
    assert max(len(request.messages) for request in backend.requests) <= 2 * (1 + 3 + 2) + 1
    before = len(helper.requests)
    m.ctx.view_for_generation()
    await say(m.clone(), "again")
    assert len(helper.requests) == before


async def test_calls_at_the_same_time_wait_for_one_summary() -> None:
    gate = Gate()
    helper, compactor = summariser([gate, "Short."], keep=0, tokens=1)
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await m.achat("aaaa")
    twins = [m.clone() for _ in range(5)]
    thunks = [await twin.achat("next", await_result=False) for twin in twins]
    await anyio.sleep(0.02)
    assert len(backend.requests) == 1, "launching is immediate; the requests wait"
    gate.open()
    for thunk in thunks:
        await thunk
    assert len(helper.requests) == 1
    assert all(contents(backend, number)[1] == "Short." for number in range(1, 6))


async def test_a_summary_that_fails_is_the_calls_error_and_is_tried_again() -> None:
    _, compactor = summariser([ValueError("no model")], "Short.", keep=0, tokens=1)
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await m.achat("aaaa")
    with pytest.raises(BackendError, match="no model"):
        await m.achat("bbbb")
    await m.achat("cccc")
    assert contents(backend) == ["What have we said so far?", "Short.", "cccc"]


async def test_an_empty_summary_is_an_error() -> None:
    _, compactor = summariser("  ", keep=0, tokens=1)
    m = mellea.start_session(ScriptedBackend("yes"), ctx=ChatContext(compactor=compactor))
    await m.achat("aaaa")
    with pytest.raises(OutputError, match="wrote nothing"):
        await m.achat("bbbb")


async def test_a_cancelled_call_cancels_the_summary_that_nobody_else_waits_for() -> None:
    helper, compactor = summariser([Pause(60)], "Short.", keep=0, tokens=1)
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await m.achat("aaaa")
    await cancel_once(lambda: helper.requests, lambda: m.achat("bbbb"))
    gc.collect()
    with anyio.fail_after(30):
        while not all(helper.closed):
            await anyio.sleep(0.01)
    await m.achat("cccc")
    assert contents(backend)[1] == "Short."


async def test_a_summary_made_by_the_conversation_itself_is_an_error_and_no_hang() -> None:
    sessions: list[mellea.MelleaSession] = []

    async def call(task: str) -> Any:
        return await sessions[0].ainstruct(task)

    ctx = ChatContext(compactor=SummaryCompactor(call, keep=0, tokens=1))
    sessions.append(mellea.start_session(ScriptedBackend("yes"), ctx=ctx))
    await sessions[0].achat("aaaa")
    with anyio.fail_after(30), pytest.raises(UsageError, match="session of its own"):
        await sessions[0].achat("bbbb")


async def test_a_synchronous_verb_will_do() -> None:
    helper = mellea.start_session(ScriptedBackend("Short."))
    backend = ScriptedBackend("yes")
    compactor = SummaryCompactor(helper.instruct, keep=0, tokens=1)
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await say(m, "aaaa", "bbbb")
    assert contents(backend)[1] == "Short."


def test_from_plain_code_too() -> None:
    _, compactor = summariser("Short.", keep=0, tokens=1)
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    m.chat("aaaa")
    m.chat("bbbb")
    assert contents(backend)[1] == "Short."


async def test_pinned_turns_are_not_summarised() -> None:
    helper, compactor = summariser("Short.", keep=0, tokens=1)
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor, pinned=[Message("system", "Be kind.")]))
    await say(m, "aaaa", "bbbb")
    assert contents(backend) == ["Be kind.", "What have we said so far?", "Short.", "bbbb"]
    assert "Be kind." not in helper.prompts[0]


async def test_a_tools_call_and_its_output_are_summarised_together() -> None:
    helper, compactor = summariser("Short.", keep=1, tokens=1)
    context = ChatContext(compactor=compactor).add(Message("user", "go"))
    context = context.add(Message("assistant", ToolCall("1", "look", {"at": "sky"})))
    context = context.add(Message("tool", ToolOutput("1", "look", "blue"))).add(ComputedModelOutputThunk("It is blue."))
    m = mellea.start_session(ScriptedBackend("yes"), ctx=context)
    await m.achat("next")
    assert 'look {"at": "sky"}' in helper.prompts[0]
    assert "blue" in helper.prompts[0]


# -- windows and thresholds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("requirements", [None, ["be short"]])
@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_compactor_is_shown_the_first_turns_as_they_were_sent(requirements: Any, is_restored: bool) -> None:
    shown: list[Any] = []

    def compact(turns: Sequence[Turn]) -> Sequence[Turn]:
        shown.append([get_turn_texts(turn) for turn in turns])
        return turns

    context = ChatContext(compactor=compact)
    m = mellea.start_session(ScriptedBackend("Earl Grey"), ctx=context)
    await m.ainstruct("Name a {{x}}.", user_variables={"x": "tea"}, requirements=requirements, strategy=None)
    last = m.ctx.last_turn()
    assert last is not None
    said = get_turn_texts(last)[0][0]
    if is_restored:
        m = mellea.start_session(ScriptedBackend("Earl Grey"), ctx=context.add(Turn(last.input, last.output)))
    await m.achat("Another one?")
    assert said.startswith("Name a tea.")
    assert shown[-1] == [([said], ["Earl Grey"])]


async def test_a_simple_context_shows_its_last_turn_as_it_was_sent() -> None:
    m = mellea.start_session(ScriptedBackend("Earl Grey"))
    thunk = await m.ainstruct("Name a {{x}}.", user_variables={"x": "tea"})
    turn = m.ctx.last_turn()
    assert turn is not None and get_turn_texts(turn) == (["Name a tea."], ["Earl Grey"]) and turn.output is thunk


async def test_under_a_strategy_a_turn_has_the_messages_of_its_task() -> None:
    backend = ScriptedBackend("long", "ok")
    m = mellea.start_session(backend, ctx=ChatContext())
    short = req("Be brief.", validation_fn=simple_validate(lambda text: len(text) < 3))
    await m.ainstruct("Name a {{x}}.", user_variables={"x": "tea"}, requirements=[short])
    turn = m.ctx.last_turn()
    assert turn is not None and get_turn_texts(turn) == (["Name a tea.\n\nRequirements:\n- Be brief."], ["ok"])


async def test_a_window_compactor_keeps_the_last_turns() -> None:
    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=WindowCompactor(1)))
    await say(m, "a", "b", "c")
    assert contents(backend) == ["b", "yes", "c"]
    assert [turn.input.content for turn in m.ctx.view_for_generation()] == ["c"]


async def test_between_two_compactions_the_prompt_only_grows_at_its_end() -> None:
    backend = ScriptedBackend("yes!")
    compactor = ThresholdCompactor(WindowCompactor(2), tokens=12)
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await say(m, *[f"{number:04}" for number in range(30)])  # two tokens a turn
    firsts = [contents(backend, number)[0] for number in range(30)]
    assert len(set(firsts)) == 6, "the beginning changes every five turns"
    assert max(len(request.messages) for request in backend.requests) <= 13


async def test_a_threshold_may_hold_a_summary() -> None:
    helper, summary = summariser("Short.", keep=1, tokens=1)
    m = mellea.start_session(ScriptedBackend("yes"), ctx=ChatContext(compactor=ThresholdCompactor(summary, tokens=7)))
    await say(m, *["aaaa"] * 4)
    assert len(helper.requests) == 0
    await say(m, "aaaa")
    assert len(helper.requests) == 1


# -- the user's own ---------------------------------------------------------------------------------------------


async def test_a_plain_function_will_do_and_runs_in_a_thread() -> None:
    helper = mellea.start_session(ScriptedBackend("x"))

    def odd(turns: Sequence[Turn]) -> list[Turn]:
        helper.chat("a synchronous verb works here")
        return [turn for turn in turns if turn.input.content != "b"]

    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=odd))
    await say(m, "a", "b", "c")
    assert contents(backend) == ["a", "yes", "c"]


async def test_it_gets_what_came_of_it_before_and_the_turns_since() -> None:
    lengths: list[int] = []

    async def last(turns: Sequence[Turn]) -> Sequence[Turn]:
        lengths.append(len(turns))
        return turns[-2:]

    m = mellea.start_session(ScriptedBackend("yes"), ctx=ChatContext(compactor=last))
    await say(m, *"abcdef")
    assert lengths == [0, 1, 2, 3, 3, 3]


async def test_a_thunk_that_it_puts_there_is_awaited() -> None:
    helper = mellea.start_session(ScriptedBackend([Pause(0.01), "late"]))

    async def lazily(turns: Sequence[Turn]) -> list[Turn]:
        return [Turn(Message("user", "sum up"), await helper.ainstruct("x", await_result=False))] if turns else []

    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(compactor=lazily))
    await say(m, "a", "b")
    assert contents(backend) == ["sum up", "late", "b"]


@pytest.mark.parametrize(
    ("compactor", "message"),
    [
        (lambda turns: "none", "returns a list of turns, not 'none'"),
        (lambda turns: [5], r"returns a list of turns, not \[5\]"),
        (lambda turns: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
async def test_what_goes_wrong_in_it_says_so(compactor: Any, message: str) -> None:
    m = mellea.start_session(ScriptedBackend("yes"), ctx=ChatContext(compactor=compactor))
    with pytest.raises((UsageError, OutputError), match=message):
        await m.achat("a")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowCompactor(0), "size takes"),
        (lambda: ThresholdCompactor("window", 5), "takes a compactor"),  # type: ignore[arg-type]
        (lambda: ThresholdCompactor(WindowCompactor(1), 0), "tokens takes"),
        (lambda: SummaryCompactor("model"), "call takes a function"),  # type: ignore[arg-type]
        (lambda: SummaryCompactor(print, keep=-1), "keep takes"),
    ],
)
def test_a_wrong_setting_is_named(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
