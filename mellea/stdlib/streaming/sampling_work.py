"""A strategy's attempts in one stream: drawn, watched while they are written, and stopped at the first rejection.

The strategy works inside the run that readers read. Each attempt is a separate run; its events are forwarded
to the outer run, one attempt after the other, even if several are written at the same time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio

from mellea.core.backend import Backend, Request
from mellea.core.chunkers import Chunk, Scope
from mellea.core.context import Context
from mellea.core.events import (
    AttemptAccepted,
    AttemptRejected,
    AttemptStart,
    ChunkValidated,
    Event,
    StreamEnd,
    TextDelta,
    UsageEvent,
)
from mellea.core.iterators import Cursor, TextFilter, join_text, make_text_filter
from mellea.core.observer import span_around
from mellea.core.options import ModelOption
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.runtime import Record, Run
from mellea.core.sampling import Attempt, Compose, SamplingResult, SamplingStrategy
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk, copy_outcome, make_computed
from mellea.core.tracebacks import add_note
from mellea.errors import MelleaError, ParseError, RequirementError, UnsupportedError, UsageError
from mellea.stdlib.call import Call, finish
from mellea.stdlib.components import Conversation
from mellea.stdlib.components.repair import format_failures
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.requirements.streaming import TYPED_ANSWER, Failure, Watch
from mellea.stdlib.requirements.validation import add_own_requirements, validate_all
from mellea.stdlib.streaming.outcome import accept, check_result

__all__ = ["check_release", "launch_sampled"]

C = TypeVar("C", bound=Context)

Emit = Callable[[list[Event]], None]

_QUICK_SECONDS = 0.1
"""How long a stream waits for checks of what it has read. A quick rejection ends the attempt at the rejected chunk."""

_PAUSE_SECONDS = 0.02
"""How long a chunk waits for white space that would belong to it."""


def launch_sampled(
    call: Call,
    context: C,
    strategy: SamplingStrategy,
    requirements: Sequence[Requirement],
    *,
    strict: bool = False,
    release: Scope | None = None,
    request: Request | None = None,
) -> tuple[ModelOutputThunk[Any], C]:
    """Start a call under a strategy, and return its thunk with the context that has the new turn.

    Args:
        call: the call to make attempts of.
        context: the earlier turns.
        strategy: the strategy.
        requirements: the requirements that the output has to meet.
        strict: fail if no attempt meets them.
        release: release chunks of that scope as soon as every requirement has passed them.
        request: the request, if it is already rendered; checked attempts render it themselves.

    Raises:
        StreamingError: a synchronous call would wait for a thunk of the loop that it blocks.
    """
    # A list of messages is the whole request, even for an attempt that renders it again.
    known: Context = SimpleContext() if isinstance(call.component, Conversation) else context
    if not requirements and release is None and getattr(strategy, "begins_plainly", False):
        correction = _Correcting(call, known, strategy, strict)
        thunk, after = call.launch(context, correction=correction, request=request)
        thunk.record.sampling = partial(_make_only_attempt, call, known)
        return thunk, after
    has_own_options = getattr(strategy, "has_own_options", False)

    async def work(run: Run) -> Any:
        drawing = _Drawing(call, known, requirements, run.emit, release=release, has_own_options=has_own_options)
        return await _draw_result(run, drawing, strategy, strict)

    return call.begin(
        context,
        call.ingredients(context),
        work=work,
        overdue=f"the attempts with model {call.backend.model_id!r}, and their checks",
    )


async def _draw_result(run: Run, drawing: _Drawing, strategy: SamplingStrategy, strict: bool) -> Any:
    """Let the strategy draw its attempts, and end the run with the one that it chooses."""
    run.sampling = drawing.without_choice
    try:
        result = check_result(await _run_strategy(strategy, drawing), drawing.drawn, strategy)
    except BaseException:
        run.sampling = drawing.without_choice(run)
        raise
    is_typed = drawing.call.format is not None
    return accept(run, result, is_typed=is_typed, is_strict=strict, let_out=drawing.let_out)


class _Correcting:
    """Corrects a first answer that isn't a value of the requested type: it becomes a strategy's first attempt."""

    before: Sequence[Event] = (AttemptStart(1),)
    after: Sequence[Event] = (AttemptAccepted(1),)

    def __init__(self, call: Call, context: Context, strategy: SamplingStrategy, strict: bool) -> None:
        self._call = call
        self._context = context
        self._strategy = strategy
        self._strict = strict

    async def correct(self, run: Run, end: StreamEnd, error: ParseError) -> Any:
        """Continue with the strategy; see `core.runtime.Corrector`."""
        has_own_options = getattr(self._strategy, "has_own_options", False)
        drawing = _Drawing(self._call, self._context, (), run.emit, release=None, has_own_options=has_own_options)
        output = make_computed([*_drop_marks(run.events), end], like=run)
        missing = (Requirement(TYPED_ANSWER, check_only=True), ValidationResult(False, str(error)))
        after = self._context.add(self._call.component).add(output)
        first = Attempt(1, output, after, (missing,), component=self._call.component, error=error)
        if run.spans is not None:
            run.spans.end_first_attempt(run, first)
        drawing.take_first(first)
        return await _draw_result(run, drawing, self._strategy, self._strict)


def _make_only_attempt(call: Call, context: Context, run: Record) -> SamplingResult | None:
    """Return the result of a strategy whose first attempt is the result; rarely needed."""
    if not run.has_succeeded:
        return None
    output = copy_outcome(run, _drop_marks(run.events))
    attempt = Attempt(1, output, context.add(call.component).add(output), (), component=call.component)
    return SamplingResult(True, (attempt,), 0)


def _drop_marks(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if type(event) not in (AttemptStart, AttemptAccepted)]


async def _run_strategy(strategy: SamplingStrategy, drawing: _Drawing) -> object:
    sampling = strategy.sample(drawing)
    if not isinstance(sampling, Awaitable):
        raise UsageError(f"sample() of {strategy!r} has to be an async function; it returned {sampling!r}")
    try:
        return await sampling
    except MelleaError:
        raise
    except Exception as error:
        if not getattr(error, "__notes__", ()):  # errors of validators already have a note, which says more
            add_note(error, f"raised by sample() of {strategy!r}")
        raise


class _Drawing:
    """The sampler of one call; implements `core.sampling.Sampler`."""

    def __init__(
        self,
        call: Call,
        context: Context,
        requirements: Sequence[Requirement],
        emit: Emit,
        *,
        release: Scope | None,
        has_own_options: bool,
    ) -> None:
        self.component: Any = call.component
        self.context = context
        self.backend = call.backend
        self.requirements: Sequence[Requirement] = tuple(requirements)
        self.call = call
        self._lanes = _Lanes(emit)
        self._first: Attempt | None = None  # made before the strategy started
        self._number = 0
        self._is_drawing = False
        self._release = release
        self._has_own_options = has_own_options
        self._committed: list[Chunk] = []
        self.drawn: list[Attempt] = []

    @property
    def committed(self) -> str:
        """The released text."""
        return "".join(self._committed)

    @property
    def let_out(self) -> str | None:
        """The released text, `None` if no text is released before an attempt is accepted."""
        return None if self._release is None else self.committed

    def without_choice(self, run: Record) -> SamplingResult | None:
        """Return the attempts so far, for a strategy that failed or was stopped before it chose one."""
        drawn = tuple(self.drawn)
        return SamplingResult(False, drawn, len(drawn) - 1) if drawn else None

    def take_first(self, attempt: Attempt) -> None:
        """Record a failed attempt made before the strategy started: it is the first that is drawn."""
        self._number = 1
        self._lanes.put(1, [_make_rejection(attempt)])
        self._lanes.end(1)
        self._first = attempt
        self.drawn.append(attempt)

    async def draw(
        self,
        component: Any = None,
        *,
        context: Context | None = None,
        backend: Backend | None = None,
        model_options: Mapping[str, Any] | None = None,
        compose: Compose | None = None,
    ) -> Attempt:
        """Make an attempt and check it; see `Sampler`."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._is_drawing and self._release is not None:
            raise UsageError(f"with release={self._release!r} a strategy makes one attempt after the other")
        if compose is not None and self.call.prefix is not None:
            raise UsageError(
                f"output_prefix={self.call.prefix!r} can't be combined with a strategy that begins the answers "
                f"itself, as "
                "BudgetForcingStrategy does, which has answer_prefix= for that"
            )
        self._number += 1
        number, self._is_drawing = self._number, True
        try:
            committed = self.committed
            try:
                call = self._vary_call(number, component, backend, model_options)
            except UnsupportedError as error:
                raise self.make_dead_end_error(committed, error) if committed else error from None
            self._lanes.put(number, [AttemptStart(number, committed)])
            before = self.context if context is None else context
            with span_around("attempt", f"attempt {number}", number=number) as span:
                attempt = await _Attempting(self, number, call, before, committed).make(compose)
                if span is not None:
                    span.attempt = attempt
            if not attempt.success:
                self._lanes.put(number, [_make_rejection(attempt)])
            self.drawn.append(attempt)
            return attempt
        finally:
            self._is_drawing = False
            self._lanes.end(number)

    def _vary_call(
        self, number: int, component: Any, backend: Backend | None, model_options: Mapping[str, Any] | None
    ) -> Call:
        """Make the call of an attempt; each has its own seed, so that a retry differs."""
        is_own = self._has_own_options and number > 1
        prefix = self.committed or None
        call = self.call.vary(component, backend=backend, model_options=model_options, prefix=prefix, is_own=is_own)
        seed = call.options.get(ModelOption.SEED)  # in the format of that backend; another may support none
        if seed is None or number == 1 or ModelOption.SEED in (model_options or {}):
            return call
        return call.vary(model_options={ModelOption.SEED: seed + number - 1})

    def make_dead_end_error(self, committed: str, error: UnsupportedError) -> RequirementError:
        """Create the error for an attempt that can't begin with the released text."""
        failed = self.drawn[-1]
        reasons = "; ".join(format_failures(failed.failures))
        why = str(error).partition("; ")[0]  # the rest is advice about arguments that may not have been given
        return RequirementError(
            f"attempt {failed.number} failed after {len(committed)} characters had been released, and the next one "
            f"can't continue from there: {why}; attempt {failed.number} fails: {reasons}; leave out "
            f"release={self._release!r} to see an answer only after it was checked",
            results=[[outcome for _, outcome in attempt.validations] for attempt in self.drawn],
            partial=committed,
        )


class _Attempting:
    """One attempt in progress."""

    def __init__(self, drawing: _Drawing, number: int, call: Call, context: Context, committed: str) -> None:
        self._drawing = drawing
        self._number = number
        self._call = call
        self._context = context
        self._release = drawing._release
        self._committed = committed
        self._to_skip = len(committed)  # length of the known beginning of the answer
        self._taken: list[Event] = [TextDelta(committed)]  # what readers have seen of the attempt
        self._text_of: TextFilter = join_text
        self._parts: list[Record] = []  # the requests of a composed output
        self._requirements = add_own_requirements(call.component, drawing.requirements)
        self._watch = Watch(
            self._requirements,
            call.format,
            number=len(drawing._committed),
            before=committed,
            on_passed=self._note,
        )

    async def make(self, compose: Compose | None) -> Attempt:
        if compose is None:
            thunk, _ = self._call.launch(self._context)
            self._text_of = make_text_filter(thunk.record)
            try:
                failure = await self._follow(thunk)
            except UnsupportedError as late:  # some backends only know it then
                raise self._drawing.make_dead_end_error(self._committed, late) if self._committed else late from None
            output, error = _read_outcome(thunk)
            if failure is not None:
                output = self._cut_short(thunk.record)
        else:
            output, error = await self._compose(compose)
            failure = await self._show(output)
        # A SimpleContext only remembers an output while something holds it, as this function does.
        after = self._context.add(self._call.component).add(output)
        if failure is not None:
            return self._make_attempt(output, after, (failure,), is_complete=False)
        if error is not None:
            missing = (Requirement(TYPED_ANSWER, check_only=True), ValidationResult(False, str(error)))
            return self._make_attempt(output, after, (missing,), error=error)
        judged = await validate_all(self._requirements, after, self._call.backend, is_watched=True)
        return self._make_attempt(output, after, judged)

    def _make_attempt(
        self,
        output: ComputedModelOutputThunk[Any],
        after: Context,
        validations: tuple[tuple[Requirement, ValidationResult], ...],
        error: ParseError | None = None,
        is_complete: bool = True,
    ) -> Attempt:
        return Attempt(
            self._number,
            output,
            after,
            validations,
            component=self._call.component,
            error=error,
            is_complete=is_complete,
        )

    async def _follow(self, thunk: ModelOutputThunk[Any]) -> Failure | None:
        """Forward the events of the attempt and watch its text; stops it at the first rejection, which is returned."""
        async with thunk:
            failure = await self._watch.run(partial(self._read, Cursor(thunk.record)))
            if failure is None and not isinstance(thunk.record.error, ParseError):
                thunk.record.raise_error()
            return failure

    async def _read(self, cursor: Cursor) -> bool:
        while (events := await self._read_more(cursor)) is not None:
            await self._take(events)
        # The end of a truncated text isn't the end of a chunk.
        return cursor.run.error is None or cursor.run.is_misread

    async def _read_more(self, cursor: Cursor) -> list[Event] | None:
        if self._watch.is_keeping:
            with anyio.move_on_after(_PAUSE_SECONDS):
                return await cursor.more()
            if not cursor.is_ready():  # possible if the process itself was paused
                self._watch.flush()
                await self._watch.settle(_QUICK_SECONDS)
        return await cursor.more()

    async def _compose(self, compose: Compose) -> tuple[ComputedModelOutputThunk[Any], ParseError | None]:
        output = await compose(self._generate)
        output.record.sent, output.record.parts = self._parts[-1].sent if self._parts else None, tuple(self._parts)
        try:
            output.record.parsed = await self._call.parse(output.so_far())
        except ParseError as error:
            return output, error
        return output, None

    def _cut_short(self, run: Record) -> ComputedModelOutputThunk[Any]:
        """Return what readers have seen of the attempt; more may have arrived while its last chunk was checked."""
        usage = run.usage()
        if usage is not None and UsageEvent(usage) not in self._taken:  # if the provider has reported it
            self._taken.append(UsageEvent(usage))
            self._drawing._lanes.put(self._number, self._taken[-1:])
        output = make_computed(self._taken)
        output.record.sent = run.sent
        return output

    async def _show(self, output: ComputedModelOutputThunk[Any]) -> Failure | None:
        async def read() -> bool:
            await self._take(output.record.events)
            return True

        return await self._watch.run(read)

    async def _take(self, events: list[Event]) -> None:
        new = [event for event in events if type(event) is not StreamEnd]
        if self._to_skip:
            new = self._without_known(new)
        if not self._watch.is_on:
            self._drawing._lanes.put(self._number, new)
            return
        for event in new:
            self._drawing._lanes.put(self._number, [event])
            self._taken.append(event)
            if text := self._text_of([event]):
                self._watch.add(text)
                await self._watch.settle(_QUICK_SECONDS)

    def _note(self, passed: list[Chunk], is_end: bool) -> None:
        # The end of the text is released with the accepted attempt, so that problems of the whole text can still be
        # corrected there.
        commits = self._release is not None and not is_end
        if commits:
            self._drawing._committed += passed
        self._drawing._lanes.put(self._number, [ChunkValidated(self._number, str(chunk), commits) for chunk in passed])

    def _without_known(self, events: list[Event]) -> list[Event]:
        new: list[Event] = []
        for event in events:
            if type(event) is TextDelta and self._to_skip:
                skipped = min(self._to_skip, len(event.chunk))
                self._to_skip -= skipped
                event = TextDelta(event.chunk[skipped:])
            new.append(event)
        return new

    async def _generate(
        self, prefix: str, model_options: Mapping[str, Any], *, is_answer: bool = True
    ) -> ComputedModelOutputThunk[Any]:
        call = self._call.vary(model_options=model_options, prefix=prefix or None)
        thunk, _ = (call if is_answer else call.strip_format()).launch(self._context)
        try:
            await finish(thunk)
        except ParseError:
            if not thunk.record.is_misread:  # the composed output has to have the requested type
                raise
        self._parts.append(thunk.record)
        return copy_outcome(thunk.record)


def _read_outcome(thunk: ModelOutputThunk[Any]) -> tuple[ComputedModelOutputThunk[Any], ParseError | None]:
    error = thunk.record.error
    return copy_outcome(thunk.record), error if isinstance(error, ParseError) else None


def _make_rejection(attempt: Attempt) -> AttemptRejected:
    requirement, outcome = attempt.failures[0]
    return AttemptRejected(attempt.number, str(requirement), outcome.reason)


class _Lanes:
    """Serialises the events of parallel attempts, one attempt after the other."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._front = 1  # the attempt whose events are emitted immediately
        self._held: dict[int, list[Event]] = {}
        self._ended: set[int] = set()

    def put(self, number: int, events: list[Event]) -> None:
        if not events:
            return
        if number == self._front:
            self._emit(events)
        else:
            self._held.setdefault(number, []).extend(events)

    def end(self, number: int) -> None:
        self._ended.add(number)
        while self._front in self._ended:
            self._front += 1
            self._emit(self._held.pop(self._front, []))


def check_release(release: Scope, call: Call, strategy: SamplingStrategy, requirements: Sequence[Requirement]) -> None:
    """Reject calls that can't release chunks as they pass.

    Raises:
        UsageError: a requirement doesn't check such chunks, the strategy doesn't make one attempt after the other, or
            the answer consists of several.
    """
    if call.loop is not None:
        raise UsageError(
            f"release={release!r} can't be combined with tool_calls='run', where the answer consists of several and "
            f"the next attempt can't continue in the middle; leave one of them out"
        )
    for requirement in requirements:
        if not requirement.is_streaming or requirement.scope != release:
            if requirement.is_streaming:
                problem, advice = f"checks a {requirement.scope}", f"give it scope={release!r}"
            else:
                problem, advice = (
                    "only checks complete outputs",
                    f"give it a stream_validation_fn and scope={release!r}",
                )
            raise UsageError(
                f"release={release!r} releases text as soon as every requirement has passed it, so each has to check "
                f"such chunks; {str(requirement)!r} {problem}: {advice}, or leave out release="
            )
    if not getattr(strategy, "is_sequential", False):
        raise UsageError(
            f"release={release!r} needs a strategy that makes one attempt after the other and continues from the "
            f"released text, such as RejectionSamplingStrategy() or RepairTemplateStrategy(), not {strategy!r}"
        )
