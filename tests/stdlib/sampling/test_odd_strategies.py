"""Strategies of the user's own that return nonsense, and the odd cases of those that there are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import pytest

import mellea
from mellea.core.backend import Capabilities
from mellea.core.blocks import ToolCall
from mellea.core.events import ReasoningDelta, ToolEnd
from mellea.core.sampling import SamplingResult
from mellea.errors import OutputError, UnsupportedError, UsageError
from mellea.stdlib.components import Conversation, Message
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import check
from mellea.stdlib.sampling import (
    BestOfNStrategy,
    BudgetForcingStrategy,
    MajorityVotingStrategy,
    MultiTurnStrategy,
    RepairTemplateStrategy,
    SOFAIStrategy,
)
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

NEVER = check("is never met", validation_fn=lambda context: False)


class Own:
    """A strategy that does what it is told."""

    requirements = ()

    def __init__(self, sample: Any) -> None:
        self.sample = sample

    def __repr__(self) -> str:
        return "Own()"


async def nothing(sampler: Any) -> Any:
    return None


async def no_attempts(sampler: Any) -> Any:
    return SamplingResult(True, (), 0)


async def out_of_range(sampler: Any) -> Any:
    return SamplingResult(True, (await sampler.draw(),), 1)


async def a_text(sampler: Any) -> Any:
    return SamplingResult(True, (await sampler.draw(),), "0")  # type: ignore[arg-type]


async def foreign(sampler: Any) -> Any:
    other = mellea.start_session(ScriptedBackend("foreign"))
    return await other.ainstruct("q", requirements=[NEVER], return_sampling_results=True)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (nothing, r"returns a SamplingResult, not None"),
        (no_attempts, r"chose 0 of 0 attempts"),
        (out_of_range, r"chose 1 of 1 attempts"),
        (a_text, r"chose '0' of 1 attempts"),
        (foreign, r"chose an output that doesn't belong to this call"),
        (lambda sampler: 5, r"has to be an async function; it returned 5"),
    ],
)
async def test_a_strategy_that_returns_nonsense_is_told_so(sample: Any, message: str) -> None:
    m = mellea.start_session(ScriptedBackend("text"))
    with pytest.raises(UsageError, match=rf"sample\(\) of Own\(\) {message}"):
        await m.ainstruct("q", strategy=Own(sample))


async def test_an_error_in_a_strategys_own_task_group_comes_out_plain() -> None:
    async def fails() -> None:
        raise KeyError("mine")

    async def sample(sampler: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fails)
            group.start_soon(fails)

    m = mellea.start_session(ScriptedBackend("text"))
    with pytest.raises(OutputError, match="KeyError: 'mine'"):
        await m.ainstruct("q", strategy=Own(sample))


async def test_a_strategy_without_requirements_of_its_own_needs_none() -> None:
    class Bare:
        async def sample(self, sampler: Any) -> SamplingResult:
            return SamplingResult(True, (await sampler.draw(),), -1)

    m = mellea.start_session(ScriptedBackend("text"))
    assert (await m.ainstruct("q", strategy=Bare())).value == "text"


SYSTEM = {"role": "system", "content": "be brief"}
USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize("strategy", [RepairTemplateStrategy(), MultiTurnStrategy()])
async def test_a_conversation_is_the_whole_request_in_every_attempt(strategy: Any) -> None:
    backend = ScriptedBackend("old", "bad")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("a secret")
    await m.aact(Conversation([SYSTEM, USER]), requirements=[NEVER], strategy=strategy)
    assert [(message.role, message.content) for message in backend.requests[-1].messages] == [
        ("system", "be brief"),
        ("user", "hi"),
        ("assistant", "bad"),
        ("user", "Your answer doesn't meet:\n- is never met\n\nAnswer again, so that everything is met."),
    ]
    assert len(m.ctx.turns()) == 1


async def test_a_message_that_isnt_the_users_is_repaired_as_it_is() -> None:
    backend = ScriptedBackend("bad")
    m = mellea.start_session(backend)
    await m.aact(Message("system", "be brief"), requirements=[NEVER], strategy=RepairTemplateStrategy())
    assert [message.role for message in backend.requests[-1].messages] == ["system", "assistant", "user"]


async def test_a_correction_after_an_empty_answer_or_a_call_is_one_that_providers_take() -> None:
    def look(x: int) -> int:
        """Look."""
        return x

    backend = ScriptedBackend([ToolEnd(ToolCall("1", "look", {"x": 1}))])
    await mellea.start_session(backend).ainstruct("q", tools=[look], requirements=[NEVER], strategy=MultiTurnStrategy())
    assert [message.role for message in backend.requests[-1].messages] == ["user", "assistant", "tool", "user"]
    backend = ScriptedBackend("", "[1]")
    await mellea.start_session(backend).ainstruct("q", format=list[int], strategy=MultiTurnStrategy())
    assert all(message.blocks for message in backend.requests[-1].messages)


async def test_a_slow_model_that_cant_take_the_call_is_found_before_anything_is_sent() -> None:
    fast, slow = ScriptedBackend("a"), ScriptedBackend("b", capabilities=Capabilities())
    m = mellea.start_session(fast)
    with pytest.raises(UnsupportedError, match="'top_k'"):
        await m.ainstruct("q", requirements=[NEVER], strategy=SOFAIStrategy(slow), model_options={"top_k": 3})
    assert fast.requests == slow.requests == []


async def test_a_judge_is_the_model_that_wrote_the_output() -> None:
    fast = ScriptedBackend("fast", '{"reason": "no", "verdict": "no"}')
    slow = ScriptedBackend("slow", '{"reason": "yes", "verdict": "yes"}')
    m = mellea.start_session(fast)
    thunk = await m.ainstruct("q", requirements=["is good"], strategy=SOFAIStrategy(slow, loop_budget=1))
    assert (thunk.value, thunk.success, len(fast.requests), len(slow.requests)) == ("slow", True, 2, 2)


# -- budget forcing ---------------------------------------------------------------------------------------


async def test_thinking_is_held_to_no_format_and_has_no_tools() -> None:
    backend = ScriptedBackend("hm", "more", '{"x": 1}')
    m = mellea.start_session(backend)
    thunk = await m.ainstruct("q", strategy=BudgetForcingStrategy(), format=dict[str, int])
    assert (thunk.parsed, thunk.thinking) == ({"x": 1}, "hmWaitmore")
    assert [request.output_schema is None for request in backend.requests] == [True, True, False]


@pytest.mark.parametrize(
    ("replies", "thinking", "answer"),
    [
        (["so </think> It's 3", "more</think>", "42"], "soWaitmore", "42"),
        (["", "", "42"], "Wait", "42"),
        ([[ReasoningDelta("deep")], [ReasoningDelta("er")], "42"], "deepWaiter", "42"),
        (["a", "b", "</think>\n\n42"], "aWaitb", "42"),
    ],
    ids=["the mark is written", "nothing is thought", "the backend knows thinking", "the mark is written twice"],
)
async def test_whatever_a_model_does_with_the_marks(replies: list[Any], thinking: str, answer: str) -> None:
    backend = ScriptedBackend(*replies)
    thunk = await mellea.start_session(backend).ainstruct("q", strategy=BudgetForcingStrategy())
    assert (thunk.thinking, thunk.value) == (thinking, answer)
    assert backend.prompts[-1] == f"<think>\n{thinking}\n</think>\n\n"


async def test_a_call_of_a_tool_after_the_thinking_is_in_the_answer() -> None:
    call = ToolCall("1", "look", {})
    m = mellea.start_session(ScriptedBackend("hm", "more", [ToolEnd(call)]))

    def look() -> str:
        """Look."""
        return "x"

    thunk = await m.ainstruct("q", strategy=BudgetForcingStrategy(), tools=[look])
    assert thunk.tool_calls == (call,)


async def test_a_beginning_of_the_answer_isnt_passed_over() -> None:
    backend = ScriptedBackend("hm")
    m = mellea.start_session(backend)
    with pytest.raises(UsageError, match=r"output_prefix='Sure' can't be combined with .* answer_prefix="):
        await m.ainstruct("q", output_prefix="Sure", strategy=BudgetForcingStrategy())
    assert backend.requests == []


# -- votes and scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        lambda output: {"of": [output.value]},
        lambda output: float("nan") if output.value == "a" else 0.0,
        lambda output: {output.value, "x"} if output.value == "a" else {1},
        lambda output: Decimal("1.0" if output.value == "a" else "2"),
    ],
    ids=["unhashable", "NaN", "sets", "decimals"],
)
async def test_votes_for_values_that_are_equal_are_counted_together(key: Any) -> None:
    m = mellea.start_session(ScriptedBackend("b", "a", "c", "a", "a"))
    thunk = await m.ainstruct("q", strategy=MajorityVotingStrategy(5, key=key, concurrency_budget=1))
    assert thunk.value == "a"


async def test_votes_that_are_equal_and_not_written_the_same() -> None:
    numbers = {"b": Decimal(7), "a": Decimal("1.0"), "c": Decimal("1.00")}
    m = mellea.start_session(ScriptedBackend("b", "a", "c"))
    voting = MajorityVotingStrategy(3, key=lambda output: numbers[output.value], concurrency_budget=1)
    assert (await m.ainstruct("q", strategy=voting)).value == "a"


async def test_a_score_that_is_no_number() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(UsageError, match="returns a number, not nan"):
        await m.ainstruct("q", strategy=BestOfNStrategy(2, scorer=lambda output: float("nan")))
