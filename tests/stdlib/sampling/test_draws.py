"""What a strategy draws is what it asks for: components, options and backends keep all that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import mellea
from mellea.core import SamplingResult
from mellea.errors import StreamingError, UnsupportedError
from mellea.stdlib import functional
from mellea.stdlib.components import Instruction
from mellea.stdlib.requirements import check, req, simple_validate
from mellea.stdlib.sampling import BudgetForcingStrategy, RejectionSamplingStrategy, SOFAIStrategy
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import EVERYTHING

pytestmark = pytest.mark.anyio

GOOD = req("is good", validation_fn=simple_validate(lambda text: "good" in text))


def larger(a: int, b: int) -> int:
    """Return the larger one."""
    return max(a, b)


class Drawing:
    """A strategy that draws once for each set of arguments."""

    requirements = ()

    def __init__(self, *draws: dict[str, Any]) -> None:
        self._draws = draws

    async def sample(self, sampler: Any) -> SamplingResult:
        attempts = [await sampler.draw(**arguments) for arguments in self._draws]
        return SamplingResult(attempts[-1].success, tuple(attempts), len(attempts) - 1)


async def drawn(backend: ScriptedBackend, *draws: dict[str, Any], component: Any = "x", **call: Any) -> Any:
    return await mellea.start_session(backend).aact(component, strategy=Drawing(*draws), **call)


async def test_a_component_that_is_drawn_brings_what_its_answer_begins_with() -> None:
    backend = ScriptedBackend("hello")
    begun = Instruction("other", output_prefix="Sure: ")
    thunk = await drawn(backend, {"component": begun}, {"component": "plain"}, {})
    assert [attempt.output.value for attempt in thunk.sampling.attempts] == ["Sure: hello", "hello", "hello"]
    asked = Instruction("x", output_prefix="Well: ")
    thunk = await drawn(ScriptedBackend("hello"), {"component": begun}, {}, component=asked)
    assert [attempt.output.value for attempt in thunk.sampling.attempts] == ["Sure: hello", "Well: hello"]


async def test_a_component_that_is_drawn_brings_its_requirements() -> None:
    thunk = await drawn(ScriptedBackend("bad"), {"component": Instruction("y", requirements=(GOOD,))}, {})
    first, second = thunk.sampling.attempts
    assert ([str(each) for each, _ in first.failures], second.success) == (["is good"], True)
    thunk = await drawn(
        ScriptedBackend("bad"), {"component": Instruction("y", requirements=(GOOD,))}, requirements=[GOOD]
    )
    assert len(thunk.sampling.attempts[0].validations) == 1


async def test_every_option_that_is_drawn_with_reaches_the_request() -> None:
    backend = ScriptedBackend("hello")
    options = {"tools": [larger], "tool_choice": "larger", "timeout": 5.0, "system_prompt": "Be brief.", "seed": 4}
    await drawn(backend, {"model_options": options}, {})
    with_options, without = backend.requests
    assert [tool.name for tool in with_options.tools] == ["larger"]
    assert with_options.options == {"tool_choice": "larger", "seed": 4}
    assert with_options.deadlines.total == 5
    assert with_options.messages[0].content == "Be brief."
    assert (without.tools, dict(without.options), len(without.messages)) == ((), {}, 1)


async def test_tools_that_are_drawn_with_are_run_where_the_call_runs_tools() -> None:
    call = [mellea.events.ToolEnd(mellea.core.ToolCall("1", "larger", {"a": 1, "b": 2}))]
    backend = ScriptedBackend(call, "It is 2.")
    thunk = await drawn(backend, {"model_options": {"tools": [larger]}}, tool_calls="run")
    assert thunk.value == "It is 2."


async def test_options_that_are_drawn_with_reach_every_request_of_a_composed_answer() -> None:
    class Composed(BudgetForcingStrategy):
        async def sample(self, sampler: Any) -> SamplingResult:
            attempt = await sampler.draw(model_options={"top_k": 3}, compose=self._compose)
            return SamplingResult(attempt.success, (attempt,), 0)

    backend = ScriptedBackend("Hm.")
    await mellea.start_session(backend).ainstruct("x", strategy=Composed(more=0))
    assert [request.options["top_k"] for request in backend.requests] == [3, 3]


@pytest.mark.parametrize("level", ["backend", "call"])
async def test_a_seed_is_for_backends_that_take_one(level: str) -> None:
    less = replace(EVERYTHING, options=EVERYTHING.options - {"seed"})
    slow = ScriptedBackend("good", capabilities=less)
    fast = ScriptedBackend("bad", model_options={"seed": 1} if level == "backend" else None)
    call = mellea.start_session(fast).ainstruct
    options = {"seed": 1} if level == "call" else {}
    if level == "call":  # said before anything is sent
        with pytest.raises(UnsupportedError, match="'seed'"):
            await call("x", requirements=[GOOD], strategy=SOFAIStrategy(slow), model_options=options)
        assert not fast.requests
        return
    thunk = await call("x", requirements=[GOOD], strategy=SOFAIStrategy(slow, loop_budget=2))
    assert thunk.value == "good"
    assert [request.options for request in fast.requests] == [{"seed": 1}, {"seed": 2}]
    assert slow.requests[0].options == {}


async def test_a_backend_has_its_own_seed_and_tools() -> None:
    slow = ScriptedBackend("good", model_options={"seed": 50})
    fast = ScriptedBackend("bad", model_options={"seed": 1, "tools": [larger]})
    await mellea.start_session(fast).ainstruct("x", requirements=[GOOD], strategy=SOFAIStrategy(slow, loop_budget=1))
    assert slow.requests[0].options == {"seed": 51}
    assert (len(fast.requests[0].tools), slow.requests[0].tools) == (1, ())


VERBS: dict[str, Callable[..., Any]] = {
    "session": lambda backend, component, **more: mellea.start_session(backend).aact(component, **more),
    "function": lambda backend, component, **more: functional.aact(component, mellea.ChatContext(), backend, **more),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_act_checks_the_requirements_of_an_instruction(verb: str) -> None:
    async def act(*replies: str, requirements: Any = (GOOD,), **more: Any) -> Any:
        backend = ScriptedBackend(*replies)
        found = await VERBS[verb](backend, Instruction("x", requirements=requirements), **more)
        return (found[0] if verb == "function" else found), len(backend.requests)

    thunk, count = await act("bad", "good")
    assert (thunk.value, thunk.success, count) == ("good", True, 2)
    thunk, count = await act("bad", strategy=RejectionSamplingStrategy(loop_budget=1))
    assert (thunk.success, count) == (False, 1)
    thunk, count = await act("bad", strategy=None)
    assert (thunk.value, count) == ("bad", 1)
    short = check("is short", validation_fn=simple_validate(lambda text: len(text) < 9))
    thunk, _ = await act("very, very good", requirements=[short, GOOD, short])
    assert [str(each) for each, _ in thunk.sampling.attempts[0].validations] == ["is short", "is good", "is short"]
    with pytest.raises(StreamingError, match="await_result=False"):
        await act("bad", await_result=False)
    verdict = '{"reason": "It is.", "verdict": "yes"}'
    thunk, count = await act("polite", verdict, requirements=("be polite",))
    assert (thunk.success, count) == (True, 2)


async def test_instruct_checks_a_requirement_once() -> None:
    thunk = await mellea.start_session(ScriptedBackend("good")).ainstruct("x", requirements=[GOOD])
    assert len(thunk.sampling.attempts[0].validations) == 1
