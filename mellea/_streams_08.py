"""Mellea 0.8's streams, which are a function of a backend and tell of events of their own.

Each is one of our streams: its requirements are wrapped into ours, which call their methods of 0.8, and its events are
read off ours. As there, one attempt is made, and requirements aren't put into the prompt.
"""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mellea.core.backend import Backend
from mellea.core.chunkers import Chunk, Scope
from mellea.core.context import Context
from mellea.core.events import ChunkValidated, TextDelta
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.sampling import Attempt
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.stdlib.streaming import AsyncStream
from mellea.stdlib.verb import ActArguments

__all__ = [
    "ChunkEvent",
    "CompletedEvent",
    "ErrorEvent",
    "FullValidationEvent",
    "PartialValidationResult",
    "QuickCheckEvent",
    "RetryEvent",
    "StreamEvent",
    "Streamer",
    "StreamingDoneEvent",
    "stream",
]

Chunking = Literal["word", "sentence", "paragraph"]
Verdict = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class PartialValidationResult:
    """What a requirement of 0.8 says of a chunk: `"pass"`, `"fail"`, or `"unknown"`, which goes on as well."""

    success: Verdict
    reason: str | None = None
    score: float | None = None
    thunk: ModelOutputThunk[Any] | None = field(default=None, repr=False)
    context: Context | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.success not in get_args(Verdict):
            raise UsageError(f"success is one of {', '.join(map(repr, get_args(Verdict)))}, not {self.success!r}")

    def as_bool(self) -> bool:
        """Return whether the chunk was accepted."""
        return self.success == "pass"


@dataclass
class StreamEvent:
    """Something that happened in a stream; `timestamp` is in seconds since 1970."""

    timestamp: float = field(default_factory=time.time, init=False)


@dataclass
class ChunkEvent(StreamEvent):
    """A chunk that every requirement accepts."""

    text: str
    chunk_index: int
    attempt: int


@dataclass
class QuickCheckEvent(StreamEvent):
    """What the requirements say of a chunk, before it is shown; `results` are of those that have looked at it."""

    chunk_index: int
    attempt: int
    passed: bool
    results: list[PartialValidationResult]


@dataclass
class StreamingDoneEvent(StreamEvent):
    """The model has come to its end."""

    attempt: int
    full_text: str


@dataclass
class FullValidationEvent(StreamEvent):
    """What the requirements say of the whole text."""

    attempt: int
    passed: bool
    results: list[ValidationResult]


@dataclass
class RetryEvent(StreamEvent):
    """Never told, as in 0.8: a stream is one attempt."""

    attempt: int
    reason: str


@dataclass
class CompletedEvent(StreamEvent):
    """The last event; `success` says whether the model came to its end."""

    success: bool
    full_text: str
    attempts_used: int


@dataclass
class ErrorEvent(StreamEvent):
    """An exception ended the stream, and is raised next."""

    exception_type: str
    detail: str


class _Checked:
    """A requirement of 0.8 at work, and what it said of each chunk."""

    def __init__(self, requirement: Requirement, backend: Backend, ctx: Context, scope: Scope) -> None:
        # A requirement may keep a count on itself, so each stream starts from the requirement that was passed in.
        self.requirement = requirement
        self.worker = copy(requirement)
        self.said: dict[int, PartialValidationResult] = {}
        self._backend = backend
        self._ctx = ctx
        self.ours = Requirement(
            str(requirement),
            self._check_text,
            check_only=True,
            stream_validation_fn=self._check_chunk,
            scope=scope,
        )

    async def _check_chunk(self, chunk: Chunk) -> ValidationResult:
        for name in ("_stream_validate", "stream_validate"):
            method = getattr(self.worker, name, None)
            if method is not None and _takes_backend(method):
                outcome = await method(chunk.strip(), backend=self._backend, ctx=self._ctx)
                break
        else:
            outcome = await _ask_our_own(self.worker, chunk)
        if not isinstance(outcome, PartialValidationResult):
            raise UsageError(f"stream_validate returns a PartialValidationResult for a chunk, not {outcome!r}")
        self.said[chunk.number] = outcome
        # `None` in our own requirements would hold the text back until a requirement is sure.
        return ValidationResult(outcome.success != "fail", outcome.reason)

    async def _check_text(self, context: Context) -> ValidationResult:
        if _takes_backend(self.worker.validate):
            # The method of a subclass, with other parameters than ours.
            method: Any = self.worker.validate
            found: ValidationResult = await method(self._backend, context)
            return found
        [result] = await functional.avalidate([self.worker], context, self._backend)
        return result


async def _ask_our_own(requirement: Requirement, chunk: Chunk) -> PartialValidationResult:
    said = await requirement.stream_validate(chunk) if requirement.is_streaming else None
    if said is None:
        return PartialValidationResult("unknown")
    return PartialValidationResult("pass" if said else "fail", said.reason)


def _takes_backend(method: Any) -> bool:
    return "backend" in inspect.signature(method).parameters


class Streamer:
    """A stream of 0.8: chunks of the text, or events, and afterwards what became of it.

    Attributes:
        failed_early: whether a requirement ended it.
        completed_normally: whether the model came to its end.
        failure_reason: why a requirement ended it.
        streaming_failures: the requirements that ended it, each with what it said.
        full_text: the text that every requirement accepts, so far.
        mot: the computed thunk, once the model has come to its end.
        final_validations: what the requirements say of the whole text.
        streaming_id: a name of this stream.
    """

    def __init__(
        self, inner: AsyncStream[str], checks: list[_Checked], *, chunking: Chunking | None, as_events: bool
    ) -> None:
        self.failed_early = False
        self.completed_normally = False
        self.failure_reason: str | None = None
        self.streaming_failures: list[tuple[Requirement, PartialValidationResult]] = []
        self.full_text = ""
        self.mot: ModelOutputThunk[Any] | None = None
        self.final_validations: list[ValidationResult] = []
        self.streaming_id = str(uuid.uuid4())
        self._inner = inner
        self._checks = checks
        self._chunking = chunking
        self._count = 0
        self._events = self._read()
        self._source: AsyncGenerator[Any, None] = self._events if as_events else self._read_texts()

    def __aiter__(self) -> AsyncGenerator[Any, None]:
        return self._source

    async def __aenter__(self) -> Streamer:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the generation, if it hasn't ended."""
        await self._source.aclose()
        await self._events.aclose()
        await self._inner.aclose()

    async def _read_texts(self) -> AsyncGenerator[str, None]:
        async for event in self._events:
            if isinstance(event, ChunkEvent):
                yield event.text

    async def _read(self) -> AsyncGenerator[StreamEvent, None]:
        # There are no chunks if no requirement checks them.
        kind = ChunkValidated if self._checks or self._chunking is not None else TextDelta
        try:
            async for event in self._inner.events():
                if isinstance(event, kind):
                    for told in self._take(event.chunk):
                        yield told
            for told in self._conclude():
                yield told
        except Exception as error:
            yield ErrorEvent(type(error).__name__, str(error))
            yield CompletedEvent(False, self.full_text, 1)
            raise

    def _take(self, text: str) -> Iterator[StreamEvent]:
        if self._checks:
            yield QuickCheckEvent(self._count, 1, True, self._list_said(self._count))
        self.full_text += text
        yield ChunkEvent(text if self._chunking is None else text.strip(), self._count, 1)
        self._count += 1

    def _conclude(self) -> Iterator[StreamEvent]:
        result = self._inner.result
        attempts = self._inner.attempts
        self.completed_normally = not attempts or attempts[-1].is_complete
        if self.completed_normally:
            self.full_text, self.mot = str(result.value), result
            yield StreamingDoneEvent(1, self.full_text)
            if self._checks:
                yield self._tell_validations(attempts[-1])
        else:
            yield self._tell_failure()
        yield CompletedEvent(self.completed_normally, self.full_text, 1)

    def _tell_validations(self, attempt: Attempt) -> FullValidationEvent:
        self.final_validations = [validation for _, validation in attempt.validations]
        return FullValidationEvent(1, all(self.final_validations), self.final_validations)

    def _tell_failure(self) -> QuickCheckEvent:
        self.failed_early = True
        self.streaming_failures = [
            (check.requirement, said)
            for check in self._checks
            for said in check.said.values()
            if said.success == "fail"
        ]
        said = [said for _, said in self.streaming_failures]
        self.failure_reason = next((failure.reason for failure in said if failure.reason), None)
        return QuickCheckEvent(self._count, 1, False, said)

    def _list_said(self, number: int) -> list[PartialValidationResult]:
        return [check.said[number] for check in self._checks if number in check.said]


async def stream(
    action: Any,
    backend: Backend,
    ctx: Context,
    *,
    chunking: Chunking | None = None,
    requirements: Sequence[Requirement] | None = None,
    validation_backend: Backend | None = None,
    as_events: bool = False,
) -> Streamer:
    """Stream an answer in chunks that every requirement accepts; the first that one rejects ends it.

    Args:
        action: what to say to the model.
        backend: which model to ask.
        ctx: what it knows of earlier turns.
        chunking: `"word"`, `"sentence"` or `"paragraph"`; by default text comes as the model writes it, or, with
            requirements, word by word.
        requirements: what chunks, and then the whole text, have to meet.
        validation_backend: what requirements are given in place of `backend`.
        as_events: iterate events in place of chunks.

    Raises:
        UsageError: an argument is wrong.
    """
    if chunking is not None and chunking not in get_args(Chunking):
        raise UsageError(
            f"chunking takes one of {', '.join(map(repr, get_args(Chunking)))}, not {chunking!r}; a requirement that "
            "divides the text by itself can look at each 'line', or at the whole text so far"
        )
    scope: Scope = chunking or "word"
    checks = [_Checked(each, validation_backend or backend, ctx, scope) for each in requirements or ()]
    asked = [check.ours for check in checks]
    if chunking is not None and not asked:  # there are no chunks if no requirement checks them
        asked = [_accept_all(scope)]
    strategy = RejectionSamplingStrategy(loop_budget=1) if asked else None
    host = functional.Alone(ctx, backend)
    arguments = ActArguments(requirements=asked, strategy=strategy)
    verb = functional.prepare(action, host, arguments, is_stream=True)
    inner: AsyncStream[str] = AsyncStream(lambda: host.launch(verb), has_format=False)
    return Streamer(inner, checks, chunking=chunking, as_events=as_events)


def _accept_all(scope: Scope) -> Requirement:
    return Requirement(
        validation_fn=lambda context: True, check_only=True, stream_validation_fn=lambda chunk: True, scope=scope
    )
