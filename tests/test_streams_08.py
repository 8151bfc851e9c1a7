"""Streams of Mellea 0.8: a function of a backend, with events of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mellea.core.requirement import (  # type: ignore[attr-defined]
    PartialValidationResult,
    Requirement,
    ValidationResult,
)
from mellea.errors import BackendError, UsageError
from mellea.stdlib.components import Instruction
from mellea.stdlib.context import ChatContext, SimpleContext
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.streaming import (  # type: ignore[attr-defined]
    ChunkEvent,
    CompletedEvent,
    ErrorEvent,
    FullValidationEvent,
    QuickCheckEvent,
    StreamingDoneEvent,
    stream,
)
from mellea.testing import ScriptedBackend


class AtMost(Requirement):
    """A requirement as 0.8 has them, which counts on itself."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.seen: list[str] = []

    async def _stream_validate(self, chunk: str, *, backend: Any, ctx: Any) -> Any:
        self.seen = [*self.seen, chunk]
        return PartialValidationResult("fail" if len(self.seen) > self.limit else "unknown", reason=f"after {chunk!r}")

    async def validate(  # type: ignore[override]
        self, backend: Any, ctx: Any, *, format: Any = None, model_options: Any = None
    ) -> ValidationResult:
        assert isinstance(backend, ScriptedBackend)
        return ValidationResult("three" not in str(ctx))


def read(text: Any, **arguments: Any) -> tuple[list[Any], Any]:
    """Return what a stream gives, and the stream."""

    async def run() -> tuple[list[Any], Any]:
        found = []
        made = await stream(Instruction("Count."), ScriptedBackend(text), SimpleContext(), **arguments)
        async with made as source:
            async for value in source:
                found.append(value)
        return found, source

    return asyncio.run(run())


def test_events_tell_of_chunks_checks_and_the_whole_text() -> None:
    limit = AtMost(2)
    for _ in range(2):  # the requirement that was given begins anew with each stream
        events, source = read("One, two. And three.", requirements=[limit], chunking="sentence", as_events=True)
        assert [type(event) for event in events] == [
            *(QuickCheckEvent, ChunkEvent) * 2,
            StreamingDoneEvent,
            FullValidationEvent,
            CompletedEvent,
        ]
        chunks = [event for event in events if isinstance(event, ChunkEvent)]
        assert [(chunk.chunk_index, chunk.text, chunk.attempt) for chunk in chunks] == [
            (0, "One, two.", 1),
            (1, "And three.", 1),
        ]
        assert [event.passed for event in events if isinstance(event, (QuickCheckEvent, FullValidationEvent))] == [
            True,
            True,
            False,
        ]
        assert events[-1].success and source.completed_normally and not source.failed_early
        assert source.full_text == source.mot.value == "One, two. And three."
        assert [result.as_bool() for result in source.final_validations] == [False]
    assert limit.seen == []


def test_the_first_chunk_that_is_rejected_ends_it_and_is_not_shown() -> None:
    limit = AtMost(1)
    events, source = read("One two three", requirements=[limit], chunking="word", as_events=True)
    assert [type(event) for event in events] == [QuickCheckEvent, ChunkEvent, QuickCheckEvent, CompletedEvent]
    assert not events[-2].passed and [result.reason for result in events[-2].results] == ["after 'two'"]
    assert (source.completed_normally, source.failed_early, source.failure_reason) == (False, True, "after 'two'")
    [(failed, said)] = source.streaming_failures
    assert failed is limit and said.success == "fail"
    assert (source.full_text, source.mot, source.final_validations, events[-1].success) == ("One", None, [], False)


@pytest.mark.parametrize(("chunking", "pieces"), [("word", ["a", "b"]), ("paragraph", ["a b"]), (None, ["a b"])])
def test_chunks_come_without_requirements_too(chunking: str | None, pieces: list[str]) -> None:
    assert read("a b", chunking=chunking)[0] == pieces


def test_requirements_of_ours_check_as_well() -> None:
    short = req("Be short.", validation_fn=simple_validate(lambda text: len(text) < 2))
    own = Requirement("No b.", stream_validation_fn=lambda chunk: "b" not in chunk, scope="word")
    pieces, source = read("a c", requirements=[short, own])
    assert pieces == ["a", " c"] and [bool(result) for result in source.final_validations] == [False, True]
    assert read("a b", requirements=[short, own])[1].failed_early


def test_a_failure_is_told_and_raised() -> None:
    events: list[Any] = []

    async def run() -> None:
        made = await stream(Instruction("x"), ScriptedBackend(ValueError("no")), SimpleContext(), as_events=True)
        async with made as source:
            async for event in source:
                events.append(event)

    with pytest.raises(BackendError, match="no"):
        asyncio.run(run())
    assert [type(event) for event in events] == [ErrorEvent, CompletedEvent]
    assert (events[0].exception_type, events[1].success) == ("BackendError", False)


def test_leaving_the_block_cancels_the_generation() -> None:
    async def run() -> Any:
        made = await stream(Instruction("x"), ScriptedBackend("a b c"), SimpleContext(), chunking="word")
        async with made as source:
            async for _ in source:
                break
        return source

    source = asyncio.run(run())
    assert not source.completed_normally and source.mot is None


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="chunking takes one of 'word', 'sentence', 'paragraph', not 'page'"):
        read("x", chunking="page")
    with pytest.raises(UsageError, match="success is one of 'pass', 'fail', 'unknown', not True"):
        PartialValidationResult(True)


def test_a_backend_generates_from_a_context_without_waiting() -> None:
    async def run() -> Any:
        thunk, context = await ScriptedBackend("Blue.").generate_from_context(Instruction("x"), ChatContext())
        assert not thunk.is_computed()
        return await thunk.avalue(), context

    value, context = asyncio.run(run())
    assert value == "Blue." == str(context)
