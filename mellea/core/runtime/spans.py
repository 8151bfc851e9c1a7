"""What observers see of one run: its span, and those of its first attempt and request where these are inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mellea.core.events import Event, ReasoningDelta, TextDelta, ToolDelta
from mellea.core.observer import Span, begin_span, make_span
from mellea.core.runtime.failure import Exit
from mellea.core.runtime.record import Record
from mellea.core.runtime.run_observer import RunObserver
from mellea.core.state import State

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold

__all__ = ["RunSpans", "begin_spans"]


_DELTAS = frozenset({ReasoningDelta, TextDelta, ToolDelta})
"""What is joined at the end of a run."""


class RunSpans(RunObserver[Record]):
    """The spans of one run, the outermost first.

    Attributes:
        wants_events: whether an observer wants the events of the request.
    """

    __slots__ = ("_holds", "_inner", "innermost", "outer", "wants_events")

    def __init__(self, outer: Span, *inner: Span) -> None:
        self.outer, self._inner = outer, [*inner]
        self._holds: list[SpanHold] = []
        self.innermost = inner[-1] if inner else outer
        self.wants_events = self.innermost.is_request and bool(self.innermost.observers.events)

    def make_current(self) -> None:
        """Make the innermost span the parent of what this task starts."""
        try:
            self.innermost.enter()  # never undone: the task has its own context
        except BaseException as exit:  # noqa: BLE001 - an observer's, which is the program's own
            raise Exit(exit) from None

    def tell(self, events: Sequence[Event]) -> None:
        """Report the backend's events, if one `wants_events`."""
        try:
            self.innermost.tell(events)
        except BaseException as exit:  # noqa: BLE001 - as above
            raise Exit(exit) from None

    def tell_retry(self, event: Event) -> None:
        """Report that the request is about to be sent again."""
        self.innermost.tell_retry(
            event, is_for_all=not self.wants_events
        )  # observers that want events get it among these

    def end_first_attempt(self, run: Record, attempt: Any) -> None:
        """End the first attempt, which failed; later ones report themselves.

        Args:
            run: whose spans they are.
            attempt: the first attempt.
        """
        while self._inner:
            span = self._inner.pop()
            # Of the two open spans only the attempt has an outcome to report.
            span.attempt = attempt if span.kind == "attempt" else None
            self._end(span, run, None)
        self.innermost = self.outer
        self.make_current()

    def end(self, run: Record) -> None:
        """End all of them, the innermost first."""
        error = run.error.cause if isinstance(run.error, Exit) else run.error
        while self._inner:
            span = self._inner.pop()
            if span.kind == "attempt" and run.sampling is not None:
                span.attempt = run.sampling.attempts[0]
            self._end(span, run, error)
        self._end(self.outer, run, error)
        if self._holds:
            self._let_go()

    def hold(self, hold: SpanHold) -> None:
        """Hold the span of a function until the outermost one has ended."""
        self._holds.append(hold)
        if self.outer.ended is not None:  # checked last: it may end in another thread in the meantime
            self._let_go()

    def _let_go(self) -> None:
        outer = self.outer
        while self._holds:
            try:
                hold = self._holds.pop()
            except IndexError:  # another thread has taken the last one
                return
            hold.end(outer.error, is_cancelled=outer.status == "cancelled")

    def _end(self, span: Span, run: Record, error: BaseException | None) -> None:
        if span.ended is None:
            span.request, span.time_to_first_token = run.sent, run.time_to_first_token
            span.generation = run.so_far()
            if span.is_request and run.limit is not None:
                # The events have been joined by now; the number of chunks follows from the limit, without non-deltas.
                joined = len([event for event in run.events if type(event) not in _DELTAS])
                span.chunk_count = run.limit - joined
            span.end(error, is_cancelled=run.state is State.CANCELLED)


def begin_spans(
    run: Record,
    kind: str,
    label: Any,
    links: Iterable[Record],
    *,
    is_corrected: bool,
    is_request: bool,
    server: tuple[str, int | None] | None,
    session: str | None,
) -> RunSpans | None:
    """Begin the spans of a run, `None` without observers.

    An answer that will be corrected if it can't be parsed is the first attempt of its call, with a request inside.

    Args:
        run: whose spans they are.
        kind: see `Span.kind`.
        label: a text, or a component, which may have a `name`.
        links: the runs of the thunks that it depends on.
        is_corrected: whether a first answer that can't be parsed is corrected.
        is_request: whether it is one request to a model.
        server: see `Span.server`.
        session: id of the session that launches it.
    """
    linked = tuple([told.outer for each in links if (told := each.spans) is not None]) if links else ()
    outer = _begin(run, kind, label, None, server, session, linked, is_request=is_request and not is_corrected)
    if outer is None:
        return None
    if not is_corrected:
        return RunSpans(outer)
    inner = [begin_span("attempt", "attempt 1", parent=outer, number=1)]
    if is_request:
        inner.append(_begin(run, kind, label, inner[0], server, session, (), is_request=True))
    return RunSpans(outer, *filter(None, inner))


def _begin(
    run: Record,
    kind: str,
    label: Any,
    parent: Span | None,
    server: tuple[str, int | None] | None,
    session: str | None,
    links: tuple[Span, ...],
    *,
    is_request: bool,
) -> Span | None:
    span = make_span(kind, _name(label, kind), parent)
    if span is not None:
        # Set one by one: as keyword arguments, which are forwarded twice, they would cost more than all the rest here.
        span.component = None if isinstance(label, str) else label
        span.backend, span.model, span.server = run.backend, run.model, server
        span.session = session or span.session
        span.links, span.is_request = links, is_request
        span.begin()
    return span


def _name(label: Any, kind: str) -> str:
    if isinstance(label, str):
        return label
    name = getattr(label, "name", None)
    return name if isinstance(name, str) and name else kind if label is None else type(label).__name__
