"""Thunks: values that a model is still writing.

A `ModelOutputThunk` is a handle on one run. It becomes computed by delivery alone: when one of its
readers reaches the end. The object stays the same then; its class changes to `ComputedModelOutputThunk`.

The thunk refers to its run and the run to nothing back, so that dropping the last reference to an
unfinished thunk cancels its run.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload

from mellea.core.accumulator import Generation, fold_joined
from mellea.core.attributes import THUNK_WAYS, find_attribute
from mellea.core.blocks import Bound, CBlock, FileBlock, ToolCall
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.events import Event, FinishReason, StreamEnd, TextDelta, Usage
from mellea.core.iterators import EventIterator, Poll, TextIterator, make_piece_filter
from mellea.core.messages import Message
from mellea.core.runtime import Record
from mellea.core.runtime.run_observer import hold_until_end
from mellea.core.tracebacks import shorten
from mellea.errors import StreamingError, UsageError, UsageTypeError

if TYPE_CHECKING:
    from mellea.core.backend import SentRequest
    from mellea.core.card import Card
    from mellea.core.held_span import SpanHold
    from mellea.core.structured.iterators import ItemIterator, PartialIterator
    from mellea.core.structured.readers import OnError

__all__ = [
    "ComputedModelOutputThunk",
    "ModelOutputThunk",
    "copy_outcome",
    "make_computed",
    "sent_request",
]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item

_THE_TEXT: Any = object()
_NO_TEXT = (
    "a thunk was used as if it were its text; .value is the text, .parsed the result of a call with format=…, and "
    "async for piece in thunk reads it as it is written"
)
_poll_lock = threading.Lock()


class ModelOutputThunk(Displayed, Generic[T]):
    """A handle on one generation, made by a session's verbs.

    `await thunk` waits for it, `async for delta in thunk` reads its text as it is written, and any number
    of readers may do so at any time. Dropping the last reference to an unfinished thunk cancels it.

    Args:
        run: the generation.
        value: a known text, instead of a run; makes a `ComputedModelOutputThunk`.
    """

    __slots__ = ("__weakref__", "_poll", "_run")

    def __init__(self, run: Record | None = None, *, value: str | None = None) -> None:
        if value is not None and run is None:
            run = _finish(value)
            self.__class__ = ComputedModelOutputThunk
        if not isinstance(run, Record):
            raise UsageError(
                f"thunks are made by a session's verbs; for a value that is known, ComputedModelOutputThunk({run!r})"
            )
        self._run = run
        self._poll: Poll | None = None  # of astream()

    # -- waiting --------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, ComputedModelOutputThunk[T]]:
        return self._compute().__await__()

    @short_errors
    async def avalue(self) -> str:
        """Wait for the end and return the text.

        Raises:
            MelleaError: the generation failed or was cancelled.
        """
        return (await self._compute())._run.so_far().text

    @short_errors
    async def _compute(self) -> ComputedModelOutputThunk[T]:
        await self._run.wait_until_final()
        return self.deliver()

    @short_errors
    def _compute_blocking(self) -> ComputedModelOutputThunk[T]:
        run = self._run
        run.wait_until_blocking(lambda: run.is_final)
        return self.deliver()

    def deliver(self) -> ComputedModelOutputThunk[T]:
        """Make the thunk computed, like a reader that has reached the end.

        Raises:
            MelleaError: the error of the generation.
        """
        if self._run.error is not None:
            try:
                self._run.raise_error()
            except BaseException as error:
                shorten(error)
                raise
        self.__class__ = ComputedModelOutputThunk
        return cast("ComputedModelOutputThunk[T]", self)

    # -- reading while it is written ------------------------------------------------------------------

    async def astream(self) -> str:
        """Wait for more text and return all text so far, from the beginning.

        Returns as soon as there is text that the previous call hadn't returned, and at the end. The call
        that reaches the end returns the complete text and makes the thunk computed.

        Raises:
            StreamingError: the thunk was computed before its polling began.
            MelleaError: the generation failed; the text before the failure has been returned by then.
        """
        run, poll = self._run, self._begun_poll()
        if poll.is_over:
            raise StreamingError("astream() has returned the complete text already; use .value")
        while (text := poll.take()) is None:
            await run.until(poll.is_ready)
        if not poll.is_at_end:
            return text
        self.deliver()
        poll.end()
        return run.so_far().text

    def _begun_poll(self) -> Poll:
        with _poll_lock:
            if self._poll is None:
                if self.is_computed():
                    raise StreamingError(
                        "astream() was called on a thunk that is computed already; use .value, or iterate over it"
                    )
                self._poll = Poll(self._run)
            return self._poll

    def __aiter__(self) -> TextIterator:
        """Read the text as deltas, from the beginning; a slow reader gets several joined."""
        return TextIterator(self)

    def events(self) -> EventIterator:
        """Read the typed events, from the beginning."""
        return EventIterator(self)

    @overload
    def items(self: ModelOutputThunk[list[I]], on_error: OnError = "raise") -> ItemIterator[I]: ...
    @overload
    def items(self: ModelOutputThunk[Sequence[I]], on_error: OnError = "raise") -> ItemIterator[I]: ...
    @overload
    def items(self: ModelOutputThunk[Iterable[I]], on_error: OnError = "raise") -> ItemIterator[I]: ...
    @overload
    def items(self, on_error: OnError = "raise") -> ItemIterator[Any]: ...
    def items(self, on_error: OnError = "raise") -> ItemIterator[Any]:
        """Read the items of a sequence, whole and validated, each as soon as its last character has arrived.

        For `format=list[T]`, `Sequence[T]`, `Iterable[T]` and similar, and for an object with exactly one such field. A
        number is complete when the character after it has arrived. Under a strategy, these are the items of the
        accepted attempt.

        Args:
            on_error: at a bad item, `"raise"` raises, and cancels the generation unless a later step may produce
                another result; `"skip"` continues with the next one. A result with a bad item is a `ParseError` in both
                cases.

        Raises:
            UsageError: the format has no items.
            ParseError: while reading: an item isn't valid; `.index`, `.raw` and `.items` are its index, its text, and
                the valid items before it.
        """
        return self.read_items(on_error)

    def read_items(self, on_error: OnError, *, by_step: bool = False) -> ItemIterator[Any]:
        """Read the items like `items`; with `by_step` only at the end of a step, so that none is superseded."""
        from mellea.core.structured.iterators import ItemIterator  # lazy: plain text doesn't need it

        text = TextIterator(self, _nothing, text_of=make_piece_filter(self._run))
        return ItemIterator(self, text, on_error, by_step=by_step or self.is_computed())  # no further step can follow

    def partials(self) -> PartialIterator[T]:
        """Read what is known of the result while it is being written, from the beginning.

        Raises:
            UsageError: there is no `format`.
            ParseError: at the end: the complete text is not a value of the format.
        """
        return self.read_partials()

    def read_partials(self, *, by_step: bool = False) -> PartialIterator[T]:
        """Read partial objects like `partials`; with `by_step` only at the end of a step."""
        from mellea.core.structured.iterators import PartialIterator  # lazy: plain text doesn't need it

        text = TextIterator(self, _nothing, text_of=make_piece_filter(self._run))
        return PartialIterator(self, text, by_step=by_step or self.is_computed())

    @property
    def record(self) -> Record:
        """The generation as its readers know it: events, state, waits. For streams, strategies and agents."""
        return self._run

    def so_far(self) -> Generation:
        """Return everything that has arrived so far: text, message, usage; after the end, the complete result."""
        return self._run.so_far()

    @property
    def partial(self) -> str:
        """The text that has arrived so far; after a failure, that is all there will be."""
        return self._run.text()

    # -- ending ---------------------------------------------------------------------------------------

    async def cancel(self) -> None:
        """Stop the generation, and wait until its connection is closed (2 s at most).

        Other readers get the text that had arrived, then a `GenerationCancelledError`. A generation that
        has ended stays as it is.
        """
        await self._run.cancel_and_wait()

    def _go_on_in_(self, hold: SpanHold) -> None:
        hold_until_end(self._run.spans, hold)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._run.cancel_and_wait()  # for a run that has ended, it only waits for the close

    def __del__(self) -> None:
        run = getattr(self, "_run", None)  # not there if the constructor refused its argument
        if run is not None:
            run.post_cancel()

    # -- what it came to ------------------------------------------------------------------------------

    def is_computed(self) -> bool:
        """Whether a reader has reached the end, so that `value` and `parsed` are available."""
        return False

    def has_failed(self) -> bool:
        """Whether the generation has failed or was cancelled, even if no reader has noticed yet."""
        return self._run.error is not None

    @property
    def _done(self) -> Generation | None:
        return None

    @property
    def value(self) -> str | None:
        """The text, `None` until the thunk is computed."""
        return done.text if (done := self._done) else None

    @property
    def content(self) -> str | None:
        """The same as `value`."""
        return self.value

    @property
    def parsed(self) -> T | None:
        """The typed result, `None` until the thunk is computed."""
        return cast("T", self._run.parsed) if self._done else None

    @property
    def parsed_repr(self) -> T | None:
        """The same as `parsed`."""
        return self.parsed

    @property
    def message(self) -> Message | None:
        """The whole answer as a message, `None` until the thunk is computed."""
        return done.message if (done := self._done) else None

    @property
    def usage(self) -> Usage | None:
        """The tokens used; `None` until the thunk is computed, and if the provider doesn't report them."""
        return done.usage if (done := self._done) else None

    @property
    def cost(self) -> float | None:
        """What its requests cost in US dollars, by the list prices of `mellea.prices`; `None` if any of it is unknown.

        Under a strategy, this includes every attempt. It is `None` until the thunk is computed.
        """
        from mellea.core.prices import compute_thunk_cost  # lazy: most programs never need it

        return compute_thunk_cost(self)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the model stopped, `None` until the thunk is computed."""
        return done.finish_reason if (done := self._done) else None

    @property
    def model(self) -> str | None:
        """The model that answered, as the provider calls it."""
        return done.model if (done := self._done) else None

    @property
    def response_id(self) -> str | None:
        """The provider's id of the response."""
        return done.response_id if (done := self._done) else None

    @property
    def request(self) -> SentRequest | None:
        """The request that was sent, without keys: messages, tools, options, and `payload`, the provider's own JSON.

        Under a strategy it is the request of the chosen attempt, and if tools are run, that of the last step. It is
        `None` before anything is sent, and isn't pickled.
        """
        return sent_request(self._run)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the request to the first piece of the answer."""
        return self._run.time_to_first_token

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of your own tools that the model asks for."""
        calls = done.tool_calls if (done := self._done) else ()
        # Done here and not when the calls are decoded: a codec knows the call, but not whose function it is.
        if calls and self._run.sent is not None:
            known = {tool.name: tool.function for tool in self._run.sent.tools if isinstance(tool, Bound)}
            for call in calls:
                if (function := known.get(call.tool_name)) is not None:
                    call.bind(function)
        return calls

    @property
    def thinking(self) -> str:
        """The model's reasoning before the answer."""
        return done.thinking if (done := self._done) else ""

    @property
    def files(self) -> tuple[FileBlock, ...]:
        """The files that the model generated."""
        return done.files if (done := self._done) else ()

    @property
    def success(self) -> bool:
        """Whether there is a result that meets all requirements that were checked."""
        return self._run.is_met

    @property
    def sampling(self) -> Any:
        """The `SamplingResult` with every attempt, `None` without a strategy."""
        return self._run.sampling

    # -- as a Python value ----------------------------------------------------------------------------

    if not TYPE_CHECKING:  # type checkers then report unknown names

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, THUNK_WAYS)

        @short_errors
        def __getitem__(self, index: object) -> Any:  # `for` and `in` also try this
            raise UsageTypeError(_NO_TEXT)

        @short_errors
        def __add__(self, other: object) -> Any:
            raise UsageTypeError(_NO_TEXT)

        __radd__ = __add__

    @short_errors
    def __eq__(self, other: object) -> bool:
        if self is other or isinstance(other, ModelOutputThunk):
            return self is other
        if isinstance(other, str):
            raise UsageError(  # it would be false whatever the model wrote
                f"a thunk was compared with the text {other!r}; compare .value, which is its text"
            )
        return False

    __hash__ = object.__hash__

    def __str__(self) -> str:
        raise UsageError(
            "a thunk that isn't computed yet was converted to text, so its repr would end up in a prompt; await it "
            "first, or pass the thunk itself as a user variable or in grounding_context"
        )

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._run.state.value}, {len(self._run.text())} characters so far>"

    def _card_(self) -> Card:
        from mellea.core.run_card import RunCard  # lazy: only a frontend needs it

        return RunCard(self._run).draw()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise UsageError("a thunk that isn't computed yet can't be pickled; await it first")


class ComputedModelOutputThunk(ModelOutputThunk[T]):
    """A thunk whose result has been delivered: read-only, and can be copied, pickled and read again.

    Args:
        value: the text, to make a computed thunk for a known value.
        parsed: the typed result; the text itself if left out.
    """

    __slots__ = ()

    def __init__(self, value: str, parsed: T | None = _THE_TEXT) -> None:
        super().__init__(_finish(value, parsed))

    def is_computed(self) -> bool:
        """Whether a reader has reached the end: yes."""
        return True

    @property
    def _done(self) -> Generation | None:
        return self._run.so_far()

    @property
    def value(self) -> str:
        """The text."""
        return self._run.so_far().text

    @property
    def content(self) -> str:
        """The same as `value`."""
        return self.value

    @property
    def parsed(self) -> T:
        """The typed result."""
        return cast("T", self._run.parsed)

    @property
    def parsed_repr(self) -> T:
        """The same as `parsed`."""
        return self.parsed

    @property
    def message(self) -> Message:
        """The whole answer as a message."""
        return self._run.so_far().message

    @short_errors
    def __eq__(self, other: object) -> bool:
        parsed = self._run.parsed
        if not isinstance(other, (str, ModelOutputThunk)) and parsed is not None and isinstance(other, type(parsed)):
            raise UsageError(
                f"a thunk was compared with {other!r}; compare .parsed, which is its result of type "
                f"{type(parsed).__name__!r}"
            )
        return super().__eq__(other)

    __hash__ = object.__hash__

    if not TYPE_CHECKING:  # a checker refuses what isn't there

        @short_errors
        def __len__(self) -> int:
            raise UsageTypeError(_NO_TEXT)

    @short_errors
    def __bool__(self) -> bool:
        if isinstance(self._run.parsed, bool):
            raise UsageError(  # it would be true whatever the model wrote
                "a thunk whose result is a bool was used as a condition; use .parsed"
            )
        return True

    def __str__(self) -> str:
        return self._run.so_far().text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._run.so_far().text!r}>"

    def __copy__(self) -> Self:
        twin = _rebuild(*self._state())
        twin._run.sent, twin._run.parts = self._run.sent, self._run.parts
        return cast("Self", twin)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()  # everything in it is immutable or the user's own result

    def __reduce__(self) -> Any:
        return _rebuild, self._state()

    def without_sampling(self) -> Self:
        """Return a copy without the other attempts."""
        return cast("Self", copy_outcome(self._run))

    def _state(self) -> tuple[Generation, Any, list[Event], float | None, Any, Any]:
        run = self._run
        return run.so_far(), run.parsed, run.events, run.time_to_first_token, run.format, run.sampling


def copy_outcome(run: Record, events: list[Event] | None = None) -> ComputedModelOutputThunk[Any]:
    """Return what a run that has ended came to, as a computed thunk of its own, even if it failed or was stopped.

    Args:
        run: has ended.
        events: those that the thunk is to show; by default, all of the run.
    """
    if events is None:
        events = run.events[: run.limit]
    thunk = _rebuild(run.so_far(), run.parsed, events, run.time_to_first_token, run.format, None)
    thunk._run.sent, thunk._run.parts = run.sent, run.parts
    return thunk


def sent_request(run: Record) -> SentRequest | None:
    """Return what was sent for an answer; under a strategy, for the chosen attempt."""
    if run.sent is None and run.sampling is not None:
        chosen: Record = run.sampling.result.record
        return sent_request(chosen) if chosen is not run else None
    return run.sent


def _finish(text: str, parsed: Any = _THE_TEXT) -> Record:
    """Return the generation of a text that is known."""
    message = Message("assistant", CBlock(text))
    generation = Generation(message.content, message, finish_reason="stop", messages=(message,))
    return Record.make_finished(
        generation, text if parsed is _THE_TEXT else parsed, [TextDelta(text), StreamEnd("stop")]
    )


def make_computed(
    events: list[Event], like: Record | None = None, *, parsed: Any = _THE_TEXT, format: Any = None
) -> ComputedModelOutputThunk[Any]:
    """Return a computed thunk of events that are known.

    Args:
        events: all of them; they needn't be joined.
        like: the run that they are of, if its result couldn't be parsed.
        parsed: the typed result; by default the text.
        format: what the answer was to be, if anything but text.
    """
    joined, generation = fold_joined(events)
    if like is None:
        return _rebuild(generation, generation.text if parsed is _THE_TEXT else parsed, joined, None, format, None)
    thunk = _rebuild(generation, None, joined, like.time_to_first_token, like.format, None)
    thunk._run.sent = like.sent
    return thunk


def make_known(generation: Generation) -> ComputedModelOutputThunk[str]:
    """Return a computed thunk of a generation that is known, such as a saved one."""
    events: list[Event] = [TextDelta(generation.text)] if generation.text else []
    return _rebuild(generation, generation.text, events, None, None, None)


def _rebuild(
    generation: Generation,
    parsed: Any,
    events: list[Event],
    time_to_first_token: float | None,
    format: Any,
    sampling: Any,
) -> ComputedModelOutputThunk[Any]:
    run = Record.make_finished(generation, parsed, events, format)
    run.time_to_first_token = time_to_first_token
    run.sampling = sampling
    thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
    return thunk.deliver()


def _nothing() -> None:
    """Leave the end of a text to the reader that is made of it."""
