"""Every strategy, against a backend whose answers are known: which prompts it sends and what it chooses."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import pytest

import mellea
from mellea.core.events import StreamEnd, Usage
from mellea.core.sampling import Sampler, SamplingResult
from mellea.errors import RateLimitError, RequirementError, UsageError
from mellea.stdlib.requirements import check, req, simple_validate
from mellea.stdlib.sampling import (
    BestOfNStrategy,
    BudgetForcingStrategy,
    MajorityVotingStrategy,
    MultiTurnStrategy,
    RejectionSamplingStrategy,
    RepairTemplateStrategy,
    SOFAIStrategy,
)
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


def has(word: str) -> mellea.core.Requirement:
    def look(text: str) -> Any:
        return word in text, f"there is no {word} in it"

    return req(f"has a {word}", validation_fn=simple_validate(look))


def session(*replies: Any, **kwargs: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies, usage=Usage(10, 1), **kwargs)
    return mellea.start_session(backend), backend


async def test_rejection_says_the_same_again() -> None:
    m, backend = session("dog", "cat", "never")
    thunk = await m.ainstruct(
        "An animal.", requirements=[has("cat")], strategy=RejectionSamplingStrategy(loop_budget=3)
    )
    assert (thunk.value, thunk.success) == ("cat", True)
    assert len(backend.requests) == 2
    assert backend.prompts[0] == backend.prompts[1]
    assert thunk.usage == Usage(20, 2)  # of all attempts
    assert thunk.sampling.result.usage == Usage(10, 1)  # of the accepted one
    assert [attempt.number for attempt in thunk.sampling.attempts] == [1, 2]


async def test_repair_says_what_was_wrong() -> None:
    m, backend = session("dog", "cat")
    strategy = RepairTemplateStrategy(loop_budget=2)
    thunk = await m.ainstruct("An animal.", requirements=[has("cat")], strategy=strategy)
    assert thunk.value == "cat"
    assert backend.prompts[1] == (
        "An animal.\n\nRequirements:\n- has a cat\n\n"
        "An earlier answer was:\ndog\n\n"
        "It was rejected, because it doesn't meet:\n- has a cat (there is no cat in it)\n\n"
        "Answer again, so that everything is met."
    )


async def test_multi_turn_goes_on_with_the_conversation() -> None:
    backend = ScriptedBackend("Hi.", "dog", "cat")
    m = mellea.start_session(backend, ctx=mellea.ChatContext())
    await m.achat("Hello!")
    thunk = await m.ainstruct("An animal.", requirements=[has("cat")], strategy=MultiTurnStrategy())
    assert thunk.value == "cat"
    said = [(message.role, message.content) for message in backend.requests[-1].messages]
    assert said == [
        ("user", "Hello!"),
        ("assistant", "Hi."),
        ("user", "An animal.\n\nRequirements:\n- has a cat"),
        ("assistant", "dog"),
        (
            "user",
            "Your answer doesn't meet:\n- has a cat (there is no cat in it)\n\n"
            "Answer again, so that everything is met.",
        ),
    ]
    # The session remembers one turn: the task and the answer that was chosen.
    assert [str(turn.output) for turn in m.ctx.turns()] == ["Hi.", "cat"]


async def test_part_4_number_22_exhausted_attempts_are_visible() -> None:
    for strategy, value in [
        (RejectionSamplingStrategy(loop_budget=2), "one"),
        (RepairTemplateStrategy(loop_budget=2), "two"),
        (MultiTurnStrategy(loop_budget=2), "two"),
    ]:
        m, _ = session("one", "two")
        thunk = await m.ainstruct("x", requirements=[has("cat")], strategy=strategy)
        assert (thunk.value, thunk.success) == (value, False)
        m, _ = session("one", "two")
        with pytest.raises(RequirementError, match=r"no attempt out of 2 .*there is no cat in it") as caught:
            await m.ainstruct("x", requirements=[has("cat")], strategy=strategy, strict=True)
        assert [[bool(result) for result in results] for results in caught.value.results] == [[False], [False]]
        assert caught.value.partial == value


async def test_of_failures_the_one_that_meets_most_is_taken() -> None:
    m, _ = session("nothing", "cat", "nothing")
    strategy = RejectionSamplingStrategy(loop_budget=3)
    thunk = await m.ainstruct("x", requirements=[has("cat"), has("dog")], strategy=strategy)
    assert (thunk.value, thunk.success) == ("cat", False)


async def test_attempts_at_the_same_time_and_the_losers_are_cancelled() -> None:
    gate = Gate()
    m, backend = session(["slow ", gate, "dog"], "a cat", "another")
    strategy = RejectionSamplingStrategy(loop_budget=2, concurrency_budget=2)
    with anyio.fail_after(30):
        thunk = await m.ainstruct("x", requirements=[has("cat")], strategy=strategy)
    assert (thunk.value, thunk.success) == ("a cat", True)
    assert [str(attempt.output) for attempt in thunk.sampling.attempts] == ["a cat"]  # trio starts tasks in any order
    assert len(backend.requests) == 2
    backend.assert_closed()


async def test_an_error_of_one_attempt_comes_out_plain_and_stops_the_others() -> None:
    m, backend = session(["a", Gate()], RateLimitError("slow down"))
    strategy = BestOfNStrategy(2)
    with anyio.fail_after(30), pytest.raises(RateLimitError, match="slow down"):
        await m.ainstruct("x", strategy=strategy)
    backend.assert_closed()


async def test_each_attempt_has_a_seed_of_its_own() -> None:
    m, backend = session("a", "b", "c")
    await m.ainstruct("x", strategy=BestOfNStrategy(3, concurrency_budget=1), model_options={"seed": 7})
    assert [request.options["seed"] for request in backend.requests] == [7, 8, 9]


async def test_the_best_of_n_has_the_highest_score() -> None:
    m, _ = session("a", "ccc", "bb", "dddd")
    strategy = BestOfNStrategy(4, scorer=lambda output: len(output.value), concurrency_budget=2)
    thunk = await m.ainstruct("x", strategy=strategy, requirements=[check("no d", validation_fn=simple_validate(no_d))])
    assert (thunk.value, thunk.success) == ("ccc", True)
    assert len(thunk.sampling.attempts) == 4

    async def scored(output: Any) -> float:
        return -len(output.value)

    m, _ = session("aa", "b")
    assert (await m.ainstruct("x", strategy=BestOfNStrategy(2, scorer=scored))).value == "b"
    m, _ = session("a")
    with pytest.raises(UsageError, match="returns a number, not 'high'"):
        await m.ainstruct("x", strategy=BestOfNStrategy(2, scorer=lambda output: "high"))


def no_d(text: str) -> bool:
    return "d" not in text


async def test_the_majority_decides_and_ends_the_vote_when_it_is_certain() -> None:
    m, backend = session("no", "Yes", "yes ", "YES", "no", "no")
    thunk = await m.ainstruct("x", strategy=MajorityVotingStrategy(5, concurrency_budget=1))
    assert thunk.value == "Yes"
    assert len(backend.requests) == 4
    m, _ = session('{"n": 1, "m": 2}', '{"n": 3, "m": 2}', '{"m": 2, "n": 3}')
    thunk = await m.ainstruct("x", format=dict[str, int], strategy=MajorityVotingStrategy(3, concurrency_budget=1))
    assert thunk.parsed == {"n": 3, "m": 2}
    m, _ = session("aa", "b", "cc")
    thunk = await m.ainstruct("x", strategy=MajorityVotingStrategy(3, key=lambda output: len(output.value)))
    assert thunk.value in ("aa", "cc")


async def test_two_solvers() -> None:
    slow = ScriptedBackend("a cat, of course")
    m, fast = session("dog", "dog again", "never")
    thunk = await m.ainstruct("x", requirements=[has("cat")], strategy=SOFAIStrategy(slow, handover="repair"))
    assert (thunk.value, thunk.success) == ("a cat, of course", True)
    assert len(fast.requests) == 2  # the second met no more than the first
    assert "An earlier answer was:\ndog" in slow.prompts[0]
    m, fast = session("cat")
    slow = ScriptedBackend("never")
    await m.ainstruct("x", requirements=[has("cat")], strategy=SOFAIStrategy(mellea.start_session(slow)))
    assert slow.requests == []


async def test_budget_forcing_makes_the_model_think_on_and_stop() -> None:
    def reply(request: Any) -> str:
        begun = request.messages[-1].content
        assert request.messages[-1].role == "assistant"
        if begun.endswith("<think>\n"):
            return "first"
        return " more" if begun.endswith("Wait") else " 42"

    m, backend = session(reply)
    strategy = BudgetForcingStrategy(think_tokens=50, answer_tokens=5, answer_prefix="It is")
    thunk = await m.ainstruct("x", strategy=strategy, format=None)
    assert (thunk.value, thunk.thinking) == ("It is 42", "firstWait more")
    assert [request.options["max_tokens"] for request in backend.requests] == [50, 49, 5]
    assert [request.options.get("stop") for request in backend.requests] == [["</think>"], ["</think>"], None]
    assert backend.requests[-1].messages[-1].content == "<think>\nfirstWait more\n</think>\n\nIt is"
    assert thunk.usage == Usage(30, 3)


async def test_an_answer_without_the_asked_form_is_asked_for_once_more() -> None:
    m, backend = session("a number", "42")
    assert (await m.ainstruct("x", format=int)).parsed == 42
    assert "An earlier answer was:\na number" in backend.prompts[1]
    m, backend = session("a number", "still none", "never")
    with pytest.raises(mellea.errors.ParseError) as caught:
        await m.ainstruct("x", format=int)
    assert caught.value.partial == "still none"
    assert len(backend.requests) == 2
    m, backend = session(["[4, ", StreamEnd("length")], "[42]")  # cut off: it would be again
    with pytest.raises(mellea.errors.ParseError, match="token limit"):
        await m.ainstruct("x", format=list[int])
    assert len(backend.requests) == 1


async def test_a_strategy_of_ones_own() -> None:
    class Twice:
        requirements = ()

        async def sample(self, sampler: Sampler) -> SamplingResult:
            first = await sampler.draw()
            second = await sampler.draw(mellea.CBlock(f"Say it better: {first.output}"))
            return SamplingResult(True, (first, second), 1)

    m, backend = session("so so", "very well")
    thunk = await m.ainstruct("x", strategy=Twice())
    assert thunk.value == "very well"
    assert backend.prompts[1] == "Say it better: so so"

    class Nothing:
        requirements = ()

        async def sample(self, sampler: Sampler) -> Any:
            return None

    with pytest.raises(UsageError, match="returns a SamplingResult, not None"):
        await m.ainstruct("x", strategy=Nothing())


async def test_results_pickle() -> None:
    m, _ = session("dog", "cat")
    result = await m.ainstruct("x", requirements=[has("cat")], return_sampling_results=True)
    again = pickle.loads(pickle.dumps(result))
    assert (again.value, again.success, len(again.attempts)) == ("cat", True, 2)
    assert again.attempts[0].failures[0][1].reason == "there is no cat in it"


async def test_concurrent_verbs_with_strategies_take_their_turns_in_order() -> None:
    backend = ScriptedBackend("dog", "cat", "bird")
    m = mellea.start_session(backend, ctx=mellea.ChatContext())
    async with anyio.create_task_group() as group:

        async def say(text: str, **options: Any) -> None:
            await m.ainstruct(text, **options)

        group.start_soon(lambda: say("one", requirements=[has("cat")]))
        await anyio.sleep(0)
        await anyio.sleep(0)
        group.start_soon(lambda: say("two"))
    assert [str(turn.output) for turn in m.ctx.turns()] == ["cat", "bird"]
    assert [message.content for message in backend.requests[-1].messages][-3:] == [
        "one\n\nRequirements:\n- has a cat",
        "cat",
        "two",
    ]


def test_an_error_says_the_reason_of_a_requirement_only_if_there_is_one() -> None:
    m = mellea.start_session(ScriptedBackend("bad"))
    requirements = [
        req("Be long.", validation_fn=simple_validate(lambda text: False)),
        req("Be kind.", validation_fn=simple_validate(lambda text: (False, "it is rude"))),
    ]
    with pytest.raises(RequirementError, match=r"the chosen one fails: Be long\.; Be kind\. \(it is rude\)$"):
        m.instruct("x", requirements=requirements, strict=True)
