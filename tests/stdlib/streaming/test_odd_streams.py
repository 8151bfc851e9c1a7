"""Streams under a strategy where something is odd: formats that fail, tools that run, requirements that can't look."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Requirement
from mellea.core.backend import Capabilities
from mellea.core.blocks import ToolCall
from mellea.core.events import ToolEnd, Usage, UsageEvent
from mellea.core.sampling import SamplingResult
from mellea.errors import (
    BackendError,
    DeadlineError,
    OutputError,
    ParseError,
    RequirementError,
    UnsupportedError,
    UsageError,
)
from mellea.stdlib.sampling import RejectionSamplingStrategy, RepairTemplateStrategy
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


def without_bad(scope: Any = "word") -> Requirement:
    return Requirement("not bad", stream_validation_fn=lambda chunk: "bad" not in chunk, scope=scope)


def double(x: int) -> int:
    """Double a number."""
    return 2 * x


CALLS_DOUBLE = ToolEnd(ToolCall("1", "double", {"x": 1}))


async def read(stream: Any) -> str:
    return "".join([text async for text in stream])


@pytest.mark.parametrize("strategy", [RejectionSamplingStrategy(loop_budget=3), RepairTemplateStrategy(loop_budget=3)])
async def test_what_was_let_out_begins_the_text_even_if_no_attempt_has_the_format(strategy: Any) -> None:
    m = mellea.start_session(ScriptedBackend("no JSON one two", " three four", " five six"))
    stream = m.astream("x", requirements=[without_bad()], format=list[int], release="word", strategy=strategy)
    assert await read(stream) == stream.text == "no JSON one three five six"
    with pytest.raises(ParseError):
        _ = stream.output


async def test_a_strategy_that_accepts_something_else_than_what_was_let_out() -> None:
    class First:
        requirements = ()
        is_sequential = True

        async def sample(self, sampler: Any) -> SamplingResult:
            attempts = [await sampler.draw(), await sampler.draw()]
            return SamplingResult(True, tuple(attempts), 0)

    m = mellea.start_session(ScriptedBackend("one two bad", " three four"))
    stream = m.astream("x", requirements=[without_bad()], release="word", strategy=First())
    with pytest.raises(UsageError, match="doesn't begin with the 13 characters that were released"):
        await read(stream)


async def test_with_release_a_strategy_draws_one_attempt_after_the_other() -> None:
    class AtOnce:
        requirements = ()
        is_sequential = True

        async def sample(self, sampler: Any) -> Any:
            async with anyio.create_task_group() as group:
                group.start_soon(sampler.draw)
                group.start_soon(sampler.draw)

    m = mellea.start_session(ScriptedBackend("one two "))
    with pytest.raises(UsageError, match="one attempt after the other"):
        await read(m.astream("x", requirements=[without_bad()], release="word", strategy=AtOnce()))


async def test_release_cant_go_with_an_answer_of_several_steps() -> None:
    backend = ScriptedBackend(["One. ", CALLS_DOUBLE], "Two.")
    m = mellea.start_session(backend)
    with pytest.raises(UsageError, match="release='sentence' can't be combined with tool_calls='run'"):
        m.astream("x", tools=[double], tool_calls="run", requirements=[without_bad("sentence")], release="sentence")
    assert backend.requests == []


async def test_chunks_of_an_answer_of_several_steps_are_chunks_of_its_text() -> None:
    seen: list[str] = []
    requirement = Requirement("r", stream_validation_fn=lambda chunk: seen.append(chunk) or True, scope="word")
    m = mellea.start_session(ScriptedBackend(["One", CALLS_DOUBLE], "two three"))
    stream = m.astream("x", tools=[double], tool_calls="run", requirements=[requirement])
    assert await read(stream) == "".join(seen) == stream.text == "One\n\ntwo three"
    assert seen == ["One", "\n\ntwo", " three"]


async def test_an_answer_of_several_steps_that_is_stopped_is_asked_for_again() -> None:
    backend = ScriptedBackend(["One", CALLS_DOUBLE], ["two bad ", Gate()], "Good.")
    m = mellea.start_session(backend)
    stream = m.astream("x", tools=[double], tool_calls="run", requirements=[without_bad()])
    with anyio.fail_after(30):
        assert await read(stream) == "Good."
    assert stream.attempts[0].output.value == "One\n\ntwo bad "
    backend.assert_closed()


async def test_a_requirement_that_looks_at_items_takes_an_answer_that_has_some() -> None:
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    item = Requirement("small", stream_validation_fn=lambda chunk: True, scope="item")
    for format in (None, int):
        with pytest.raises(UsageError, match=r"'small' checks items, but the answer has none; .*format=list"):
            m.astream("x", requirements=[item], format=format)
    with pytest.raises(UsageError, match="'small' checks items"):
        await m.ainstruct("x", requirements=[item])
    assert backend.requests == []
    output = await m.ainstruct("x")
    with pytest.raises(UsageError, match="'small' checks items"):
        await m.avalidate([item])
    del output


async def test_attempts_can_be_looked_at_after_an_error_too() -> None:
    m = mellea.start_session(ScriptedBackend("one bad", ConnectionError("gone")))
    stream = m.astream("x", requirements=[without_bad()])
    with pytest.raises(BackendError, match="gone"):
        await read(stream)
    assert [attempt.output.value for attempt in stream.attempts] == ["one bad"]
    m = mellea.start_session(ScriptedBackend("one bad x", capabilities=Capabilities(prefill=False)))
    stream = m.astream("x", requirements=[without_bad()], release="word")
    with pytest.raises(RequirementError) as caught:
        await read(stream)
    assert [[bool(result) for result in results] for results in caught.value.results] == [[False]]
    assert len(stream.attempts) == 1


async def test_a_backend_that_knows_late_that_it_cant_go_on() -> None:
    m = mellea.start_session(ScriptedBackend("one bad", UnsupportedError("not under a schema")))
    stream = m.astream("x", requirements=[without_bad()], release="word")
    with pytest.raises(RequirementError, match=r"3 characters had been released, .* not under a schema") as caught:
        await read(stream)
    assert caught.value.partial == stream.text == "one"


async def test_an_error_in_code_of_ones_own_isnt_the_backends() -> None:
    def broken(_: Any) -> bool:
        raise ZeroDivisionError("by zero")

    m = mellea.start_session(ScriptedBackend("x"))
    for requirement in (Requirement("r", broken), Requirement("r", stream_validation_fn=broken)):
        with pytest.raises(OutputError, match=r"your own failed .* ZeroDivisionError: by zero; .* requirement 'r'"):
            await m.ainstruct("q", requirements=[requirement])


@pytest.mark.parametrize("nonsense", ["no", 1, None])
async def test_a_verdict_is_true_or_false(nonsense: Any) -> None:
    with pytest.raises(UsageError, match=f"True or False, not {nonsense!r}"):
        mellea.core.ValidationResult(nonsense)


async def test_an_attempt_that_was_stopped_keeps_its_text_once() -> None:
    m = mellea.start_session(ScriptedBackend(["one "] * 500 + ["bad "], "good"))
    thunk = await m.ainstruct("q", requirements=[without_bad()])
    assert len(thunk.sampling.attempts[0].output._run.events) == 1


async def test_usage_is_counted_wherever_a_provider_says_it() -> None:
    early, late = UsageEvent(Usage(5, 1)), UsageEvent(Usage(output_tokens=7))
    m = mellea.start_session(ScriptedBackend([early, "one bad ", Gate()], ["fine", early, late], ["never"]))
    stream = m.astream("x", requirements=[without_bad()])
    await read(stream)
    assert stream.usage == stream.result.sampling.usage == Usage(10, 8)
    m = mellea.start_session(ScriptedBackend("bad ", "fine"))
    stream = m.astream("x", requirements=[without_bad()])
    await read(stream)
    assert stream.usage is stream.result.sampling.usage is None


@pytest.mark.parametrize("is_chunk", [False, True])
async def test_the_timeout_holds_for_the_attempts_and_their_checks_together(is_chunk: bool) -> None:
    async def hangs(_: Any) -> bool:
        await anyio.sleep_forever()
        return True

    requirement = Requirement("r", stream_validation_fn=hangs) if is_chunk else Requirement("r", hangs)
    backend = ScriptedBackend("One. Two.")
    m = mellea.start_session(backend)
    with (
        anyio.fail_after(30),
        pytest.raises(DeadlineError, match=r"and their checks did not finish within 0\.1 s") as caught,
    ):
        await m.ainstruct("q", requirements=[requirement], model_options={"timeout": 0.1})
    assert caught.value.partial == "One. Two."
    backend.assert_closed()


async def test_a_requirement_that_gave_no_reason_is_named_without_one() -> None:
    m = mellea.start_session(ScriptedBackend("bad "))
    with pytest.raises(RequirementError, match=r"the chosen one fails: not bad$"):
        await m.ainstruct("q", requirements=[without_bad()], strict=True)
