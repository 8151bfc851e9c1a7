"""A request that fails is no answer of the wrong type: under every strategy, whoever reads gets its error."""

from __future__ import annotations

from typing import Any

import pytest

import mellea
from mellea.core.backend import Capabilities
from mellea.core.blocks import ToolCall
from mellea.core.chunkers import Chunk
from mellea.core.events import StreamEnd, ToolEnd
from mellea.core.sampling import Sampler, SamplingResult
from mellea.errors import ParseError
from mellea.stdlib.requirements import check, simple_validate
from mellea.stdlib.sampling import (
    BestOfNStrategy,
    MultiTurnStrategy,
    RejectionSamplingStrategy,
    RepairTemplateStrategy,
)
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

NO_TOOLS = Capabilities(structured_output="prompt", prefill=True)
LOOK = '{"tool": "look", "arguments": {"place": "Rome"}}'


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


class Composing:
    """Makes its answer of a request of its own, which needn't be of the asked type."""

    async def sample(self, sampler: Sampler) -> SamplingResult:
        async def compose(generate: Any) -> Any:
            return await generate("", {})

        attempt = await sampler.draw(compose=compose)
        return SamplingResult(attempt.success, (attempt,), 0)


class LastWord(mellea.core.Requirement):
    """Objects to half a word, as the end of a text that was cut off would be."""

    def __init__(self) -> None:
        super().__init__("has whole words", scope="word")

    def stream_validate(self, chunk: Chunk) -> Any:
        return "wor" not in chunk, f"it says {str(chunk)!r}"


STRATEGIES: list[Any] = [
    RejectionSamplingStrategy(loop_budget=2),
    BestOfNStrategy(2),
    RepairTemplateStrategy(loop_budget=2),
    MultiTurnStrategy(loop_budget=2),
    Composing(),
]


def session(*replies: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies, capabilities=NO_TOOLS)
    return mellea.start_session(backend), backend


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"live": True},
        {"tool_calls": "run"},
        {"requirements": [check("is short", validation_fn=simple_validate(lambda _: True))]},
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
async def test_whoever_reads_a_stream_gets_the_error_of_a_broken_protocol(strategy: Any, more: dict[str, Any]) -> None:
    m, backend = session("Hello?")
    how: dict[str, Any] = {"tools": [look], "strategy": strategy, **more}
    with pytest.raises(ParseError, match="was asked twice"):
        _ = [chunk async for chunk in m.astream("x", **how)]
    events: list[Any] = []
    with pytest.raises(ParseError, match="was asked twice"):
        async for event in m.astream("x", **how).events():
            events.append(event)
    assert not any(isinstance(event, StreamEnd) for event in events)
    backend.assert_closed()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
def test_whoever_reads_a_stream_in_plain_code_gets_it_too(strategy: Any) -> None:
    m, _ = session("Hello?")
    with pytest.raises(ParseError, match="was asked twice"):
        list(m.stream("x", tools=[look], strategy=strategy))
    with pytest.raises(ParseError, match="was asked twice"):
        m.instruct("x", tools=[look], strategy=strategy)


async def test_a_broken_protocol_in_a_later_step_of_a_loop_is_told() -> None:
    m, _ = session(LOOK, "Hello?", "Hello?", LOOK, "Hello?")
    stream = m.astream("x", tools=[look], tool_calls="run", strategy=RejectionSamplingStrategy(loop_budget=2))
    with pytest.raises(ParseError, match="was asked twice"):
        _ = [chunk async for chunk in stream]
    assert [attempt.success for attempt in stream.attempts] == [False, False]


@pytest.mark.parametrize("strategy", STRATEGIES[:4], ids=lambda each: type(each).__name__)
async def test_an_attempt_that_broke_the_protocol_is_followed_by_another_one(strategy: Any) -> None:
    m, backend = session("Hello?", "Hello?", '{"answer": "a cat"}')
    how = {
        "tools": [look],
        "strategy": strategy,
        "requirements": [check("is short", validation_fn=simple_validate(lambda _: True))],
    }
    assert "".join([chunk async for chunk in m.astream("What is there?", **how)]) == "a cat"
    # There is nothing to correct: the model is asked the same again.
    assert backend.requests[2].messages == backend.requests[0].messages


@pytest.mark.parametrize("more", [{}, {"tool_calls": "run"}])
async def test_the_second_breach_isnt_corrected_as_if_it_were_a_value(more: dict[str, Any]) -> None:
    m, backend = session("Hello?", "Hello?", "5")
    with pytest.raises(ParseError, match="was asked twice"):
        await m.ainstruct("x", format=int, tools=[look], **more)
    assert len(backend.requests) == 2


async def test_requirements_arent_asked_about_the_end_of_a_text_that_was_cut_off() -> None:
    m = mellea.start_session(ScriptedBackend(["half a wor", ParseError("the protocol was broken")]))
    strategy = RejectionSamplingStrategy(loop_budget=1)
    with pytest.raises(ParseError, match="the protocol was broken"):
        _ = [chunk async for chunk in m.astream("x", requirements=[LastWord()], strategy=strategy)]


async def test_a_reader_that_skips_invalid_items_gets_the_error_of_a_failed_request_too() -> None:
    call = ToolEnd(ToolCall("c1", "look", {"place": "Rome"}))
    m = mellea.start_session(ScriptedBackend(['[1, "x"]', call], ParseError("the protocol was broken")))
    items: list[int] = []
    with pytest.raises(ParseError, match="the protocol was broken"):
        async for item in m.astream("x", format=list[int], tools=[look], tool_calls="run").items("skip"):
            items.append(item)
    assert items == [1]


async def test_an_answer_of_the_wrong_type_is_read_to_its_end_as_before() -> None:
    m = mellea.start_session(ScriptedBackend("five"))
    for strategy in STRATEGIES:
        stream = m.astream("x", format=int, strategy=strategy)
        assert "".join([chunk async for chunk in stream]) == "five"
        with pytest.raises(ParseError):
            _ = stream.output
