"""What observers are told of a program's calls: in order, once, and as whole trees, however the calls end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mellea
from mellea.core import ToolCall, Usage
from mellea.core.events import Event, KeepAlive, TextDelta, ToolEnd
from mellea.core.observer import Span, add_observer, listening, observe, remove_observer, span_around
from mellea.errors import GenerationCancelledError, MelleaError, ParseError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import check, req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import Gate, Pause, RecordingObserver, ScriptedBackend
from tests.waiting import cancel_once

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


@dataclass
class Person:
    name: str
    age: int


ADA = '{"name": "Ada", "age": 36}'


def session(*replies: Any, **kwargs: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **kwargs))


def call(name: str, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall("c1", name, args))


def tree(recorded: RecordingObserver) -> list[str]:
    recorded.assert_complete()
    return recorded.tree().splitlines()


async def test_a_call_is_one_span_with_what_was_sent_and_what_came() -> None:
    m = session(["The ", "sea"], usage=Usage(3, 4))
    with observe(RecordingObserver(wants_events=True)) as told:
        thunk = await m.ainstruct("What colour is the sea?", name="colour")
    assert tree(told) == ["colour (call)"]
    [span] = told.spans
    assert (span.backend, span.model, span.is_request, span.parent) == ("scripted", "script", True, None)
    assert span.generation is not None and span.request is not None and span.ended is not None
    assert (span.generation.text, span.generation.usage) == ("The sea", Usage(3, 4))
    assert thunk.request is not None and span.request.messages == thunk.request.messages
    assert span.time_to_first_token == thunk.time_to_first_token
    assert told.text_of(span) == "The sea"
    assert span.component.name == "colour" and span.seconds >= 0


async def test_nobody_is_told_outside_the_block_and_nothing_is_left_behind() -> None:
    m, told = session("x"), RecordingObserver()
    before = listening.count
    with observe(told):
        pass
    await m.ainstruct("x")
    assert told.log == [] and listening.count == before


async def test_an_observer_of_the_process_is_told_until_it_is_removed() -> None:
    m, told = session("x"), RecordingObserver()
    add_observer(told)
    add_observer(told)
    try:
        await m.ainstruct("x")
        await anyio.to_thread.run_sync(lambda: m.instruct("y"))
    finally:
        remove_observer(told)
    await m.ainstruct("z")
    assert tree(told) == ["Instruction (call)", "Instruction (call)"]


async def test_attempts_and_their_checks_stand_in_the_call_and_the_reasons_by_the_text() -> None:
    m = session("too long, all of it", "short")
    is_short = check("is short", validation_fn=simple_validate(lambda text: (len(text) < 6, "too long")))
    with observe(RecordingObserver()) as told:
        await m.ainstruct("x", requirements=[is_short])
    assert tree(told) == [
        "Instruction (call)",
        "  attempt 1 (attempt, rejected)",
        "    Instruction (call)",
        "    is short (check: no, too long)",
        "  attempt 2 (attempt)",
        "    Instruction (call)",
        "    is short (check: yes)",
    ]
    rejected = told.spans[1].attempt
    assert rejected is not None
    assert rejected.output.value == "too long, all of it" and rejected.failures[0][1].reason == "too long"
    assert not told.spans[0].is_request and told.spans[2].is_request


async def test_a_typed_call_has_the_same_tree_whether_or_not_it_is_corrected() -> None:
    m = session(ADA, "no", ADA)
    with observe(RecordingObserver(wants_events=True)) as told:
        await m.ainstruct("x", format=Person)
        await m.ainstruct("x", format=Person)
    assert tree(told) == [
        "Instruction (call)",
        "  attempt 1 (attempt)",
        "    Instruction (call)",
        "Instruction (call)",
        f"  attempt 1 (attempt, rejected: {told.spans[4].attempt.error})",
        "    Instruction (call)",
        "  attempt 2 (attempt)",
        "    Repair (call)",
    ]
    requests = [span for span in told.spans if span.is_request]
    assert [told.text_of(span) for span in requests] == [ADA, "no", ADA]
    first = told.spans[1].attempt
    assert first is not None and first.output.parsed == Person("Ada", 36)
    assert told.spans[4].attempt.error is not None


async def test_a_tool_that_calls_the_model_has_the_call_inside() -> None:
    inner = session("inside")

    def look(place: str) -> str:
        """Look somewhere."""
        return str(inner.instruct(place))

    m = session(["Wait.", call("look", place="Rome")], ["A cat."])
    with observe(RecordingObserver()) as told:
        await m.ainstruct("x", tools=[look], tool_calls="run")
    assert tree(told) == [
        "Instruction (call)",
        "  step 1 (step)",
        "    Instruction (call)",
        "    look (tool)",
        "      Instruction (call)",
        "  step 2 (step)",
        "    Instruction (call)",
    ]
    tool = told.spans[3]
    assert tool.tool_call is not None and tool.result is not None
    assert (tool.tool_call.tool_args, tool.result.result) == ({"place": "Rome"}, "inside")


async def test_a_tool_that_fails_is_an_error_and_the_call_goes_on() -> None:
    def look() -> str:
        """Look."""
        raise LookupError("nothing there")

    m = session([call("look")], ["Well."])
    with observe(RecordingObserver()) as told:
        await m.ainstruct("x", tools=[look], tool_calls="run")
    assert "    look (tool, error: LookupError: nothing there)" in tree(told)
    failed = next(span for span in told.spans if span.kind == "tool")
    assert isinstance(failed.error, LookupError) and failed.result is not None and failed.result.is_error


async def test_a_judge_and_a_validator_in_a_thread_stand_in_their_checks() -> None:
    other = session("yes")

    def asks(text: str) -> bool:
        return str(other.instruct(text)) == "yes"

    m = session("x", '{"reason": "it is", "verdict": "yes"}')
    with observe(RecordingObserver()) as told:
        await m.ainstruct("x", requirements=[req("is good"), req("asks", validation_fn=simple_validate(asks))])
    lines = tree(told)
    assert sorted(lines) == sorted(
        [
            "Instruction (call)",
            "  attempt 1 (attempt)",
            "    Instruction (call)",
            "    is good (check: yes)",
            "      judge (call)",
            "    asks (check: yes)",
            "      Instruction (call)",
        ]
    )
    assert lines[lines.index("    is good (check: yes)") + 1] == "      judge (call)"


async def test_a_requirement_that_looks_at_chunks_is_one_check_an_attempt() -> None:
    from mellea.core.requirement import Requirement

    calm = Requirement("is calm", stream_validation_fn=lambda chunk: "!" not in chunk, scope="sentence")
    m = session("Help! Now.", "All is well. Yes.")
    with observe(RecordingObserver()) as told:
        await m.ainstruct("x", requirements=[calm])
    assert [line.strip() for line in tree(told) if "calm" in line] == [
        "is calm (check, while streaming: no)",
        "is calm (check, while streaming: yes)",
    ]


async def test_the_thunks_that_a_call_is_made_of_are_links() -> None:
    m = session("a", "b")
    with observe(RecordingObserver()) as told:
        first = await m.ainstruct("x", await_result=False)
        await m.ainstruct("y {{it}}", user_variables={"it": first})
    one, two = told.spans
    assert two.links == (one,) and one.links == ()
    assert tree(told) == ["Instruction (call)", "Instruction (call, uses Instruction)"]


@pytest.mark.parametrize("way", ["cancel", "drop", "leave"])
async def test_a_call_that_is_given_up_is_told_to_its_end(way: str) -> None:
    m = session(["a", FOREVER])
    with observe(RecordingObserver()) as told:
        if way == "leave":
            async with m.astream("x") as stream:
                assert await anext(aiter(stream)) == "a"
        else:
            thunk = await m.ainstruct("x", await_result=False)
            assert await thunk.astream() == "a"
            if way == "cancel":
                await thunk.cancel()
            else:
                del thunk
                gc.collect()
                with anyio.fail_after(30):
                    while listening.count > 1:
                        await anyio.sleep(0.001)
    assert tree(told) == ["Instruction (call, cancelled)"]
    assert isinstance(told.spans[0].error, GenerationCancelledError)
    assert told.spans[0].generation.text == "a"


async def test_a_plain_stream_that_is_left_with_break_is_told_to_its_end() -> None:
    m, told = session(["a", FOREVER]), RecordingObserver()

    def read() -> None:
        with observe(told):
            for _ in m.stream("x"):
                break
            with m.stream("y") as stream:
                next(iter(stream))

    await anyio.to_thread.run_sync(read)
    with anyio.fail_after(30):
        while len(told.log) < 4:
            await anyio.sleep(0.001)
    assert tree(told) == ["Instruction (call, cancelled)"] * 2


async def test_the_end_is_told_before_readers_get_it() -> None:
    m = session(["a", "b"])
    for _ in range(50):
        told = RecordingObserver()

        def read(told: RecordingObserver = told) -> None:
            with observe(told):
                assert "".join(m.stream("x")) == "ab"
            assert [kind for kind, *_ in told.log] == ["begin", "end"]

        await anyio.to_thread.run_sync(read)


async def test_a_cancelled_strategy_ends_its_spans_from_the_inside() -> None:
    m = session(["a", FOREVER])
    strategy = RejectionSamplingStrategy(loop_budget=3, concurrency_budget=3)
    fine = check("fine", validation_fn=simple_validate(bool))
    with observe(RecordingObserver()) as told:
        await cancel_once(
            lambda: len(told.spans) == 7, lambda: m.ainstruct("x", requirements=[fine], strategy=strategy)
        )
    lines = tree(told)
    assert len(lines) == 7 and all("cancelled" in line for line in lines)


async def test_a_failure_is_told_with_its_error() -> None:
    m = session(["a", ValueError("broken")])
    with observe(RecordingObserver()) as told, pytest.raises(MelleaError) as caught:
        await m.ainstruct("x")
    assert tree(told) == [f"Instruction (call, error: BackendError: {caught.value})"]
    assert str(told.spans[0].error) == str(caught.value)
    with observe(RecordingObserver()) as told, pytest.raises(ParseError):
        await session("no").ainstruct("x", format=Person)
    lines = tree(told)
    assert lines[0].startswith("Instruction (call, error: ParseError: the answer is not a valid 'Person'")
    assert len([line for line in lines if "rejected" in line]) == 2


async def test_a_retry_is_told_to_who_wants_no_other_event() -> None:
    m = session([KeepAlive(is_restart=True), "a", KeepAlive()])
    with observe(RecordingObserver()) as told:
        await m.ainstruct("x")
    assert [more[0] for kind, _, *more in told.log if kind == "event"] == [[KeepAlive(is_restart=True)]]


async def test_a_retry_is_told_once_to_who_wants_all_events() -> None:
    m = session([KeepAlive(is_restart=True), "a"])
    with observe(RecordingObserver(wants_events=True)) as told:
        await m.ainstruct("x")
    events = [event for kind, _, *more in told.log if kind == "event" for event in more[0]]
    assert [event for event in events if isinstance(event, KeepAlive)] == [KeepAlive(is_restart=True)]


async def test_events_come_in_the_order_of_the_answer_and_between_begin_and_end() -> None:
    pieces = [str(n) for n in range(100)]
    m = session(pieces)
    with observe(RecordingObserver(wants_events=True)) as told:
        await m.ainstruct("x")
    said = [event for kind, _, *more in told.log if kind == "event" for event in more[0]]
    assert [event.chunk for event in said if isinstance(event, TextDelta)] == pieces
    assert [told.log[0][0], told.log[-1][0]] == ["begin", "end"]


async def test_what_goes_on_after_the_block_is_told_to_its_end() -> None:
    gate = Gate()
    m = session(["a", gate, "b"], "good")
    fine = check("fine", validation_fn=simple_validate(lambda text: text == "good"))
    with observe(RecordingObserver()) as told:
        stream = m.astream("x", requirements=[fine])
        reader = aiter(stream.events())
        await anext(reader)
    gate.open()
    async for _ in reader:
        pass
    assert len(tree(told)) == 7


async def test_an_observer_that_fails_disturbs_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Bad:
        def begin(self, span: Span) -> None:
            raise ValueError("bad observer")

        def event(self, span: Span, events: Sequence[Event]) -> None:
            raise ValueError("bad observer")

        def end(self, span: Span) -> None:
            raise ValueError("bad observer")

    m = session("x")
    with caplog.at_level(logging.ERROR, "mellea"), observe(Bad()), observe(RecordingObserver()) as told:
        assert (await m.ainstruct("x")).value == "x"
        assert (await m.ainstruct("x")).value == "x"
    assert tree(told) == ["Instruction (call)"] * 2
    assert len(caplog.records) == 1 and "the observer Bad failed in begin()" in caplog.text


async def test_spans_of_the_programs_own_are_parents() -> None:
    m = session("x")
    with observe(RecordingObserver()) as told:
        with span_around("agent", "researcher") as span:
            assert span is not None
            await m.ainstruct("x", name="inner")
        with pytest.raises(KeyError), span_around("agent", "failing"):
            raise KeyError("x")
    assert tree(told) == ["researcher (agent)", "  inner (call)", "failing (agent, error: KeyError: 'x')"]


async def test_compactors_deferred_prompts_images_and_embeddings_are_told() -> None:
    async def compact(turns: Any) -> Any:
        return turns[-1:]

    @mellea.command
    def ask(place: str) -> str:
        return f"Where is {place}?"

    m = mellea.start_session(ScriptedBackend("a"), ctx=ChatContext(compactor=compact))
    with observe(RecordingObserver()) as told:
        await m.achat("one")
        await m.achat("two")
        async with ask.astream(m, "Rome") as stream:
            assert "".join([piece async for piece in stream]) == "a"
        with pytest.raises(MelleaError):
            await m.aembed("x")
    lines = tree(told)
    assert lines[lines.index("ask() (work)") + 1] == "  ask (call)"
    assert lines[-1].startswith("embedding (embedding, error: UnsupportedError: the backend 'scripted'")
    assert any("compactor" in line for line in lines)


async def test_threads_and_tasks_tell_whole_trees() -> None:
    m = session(["a", Pause(0), "b"])
    fine = check("fine", validation_fn=simple_validate(bool))
    told = RecordingObserver()

    def plain() -> None:
        with observe(told):
            for _ in range(5):
                m.instruct("x", requirements=[fine])

    threads = [threading.Thread(target=plain) for _ in range(4)]
    for thread in threads:
        thread.start()
    with observe(told):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(m.ainstruct, "x")
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert len(tree(told)) == 4 * 5 * 4 + 10


@pytest.mark.parametrize("seed", range(8))
async def test_on_any_schedule_spans_nest_and_end_once(seed: int) -> None:
    chance = random.Random(seed)

    def script(request: Any) -> list[Any]:
        pauses = [Pause(chance.choice([0, 0.001, 0.002])) for _ in range(chance.randint(0, 4))]
        steps: list[Any] = ["good ", *pauses, chance.choice(["bad", "good", ADA])]
        if chance.random() < 0.2:
            steps.append(ValueError("broken"))
        if chance.random() < 0.2:
            steps.append(call("look"))
        return steps

    async def look() -> str:
        """Look."""
        await anyio.sleep(chance.choice([0, 0.001]))
        return (await m.ainstruct("inner")).value or ""

    m = session(script)
    good = check("good", validation_fn=simple_validate(lambda text: "bad" not in text))
    told = RecordingObserver(wants_events=True)

    async def one() -> None:
        with anyio.move_on_after(chance.choice([0.003, 0.01, 5])):
            with contextlib.suppress(MelleaError):
                await m.ainstruct(
                    "x",
                    requirements=[good] if chance.random() < 0.5 else None,
                    format=Person if chance.random() < 0.3 else None,
                    tools=[look],
                    tool_calls="run" if chance.random() < 0.5 else "show",
                )

    with observe(told):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)
    told.assert_complete()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_leaves_open_spans_to_its_parent() -> None:
    told, m = RecordingObserver(), session(["a", FOREVER])

    async def main() -> int:
        with observe(told):
            thunk = await m.ainstruct("x", await_result=False)
            await thunk.astream()
            if (child := os.fork()) == 0:
                is_silent = [kind for kind, *_ in told.log] == ["begin"] and listening.count == 1
                os._exit(0 if is_silent else 1)
            await thunk.cancel()
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 0
    assert tree(told) == ["Instruction (call, cancelled)"]


async def test_a_call_may_outlast_the_block_of_a_trace_but_no_other_span_of_its_own() -> None:
    with observe(RecordingObserver()) as told:
        with mellea.traces.start("block"):
            thunk = await session(["a", Pause(0.01), "b"]).ainstruct("x", await_result=False)
        assert [span.status for span in told.spans] == ["ok", "running"]
        with pytest.raises(AssertionError, match="never ended"):
            told.assert_complete()
        await thunk
    told.assert_complete()
    wrong = RecordingObserver()
    with observe(wrong), span_around("attempt", "outer") as outer:
        assert outer is not None
        with span_around("check", "inner"):
            outer.end()
    with pytest.raises(AssertionError, match="ended before"):
        wrong.assert_complete()
