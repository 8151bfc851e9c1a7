"""An observer that records what it is told, for tests of what a program does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from mellea.core.events import Event, TextDelta
from mellea.core.observer import Observer, Span

__all__ = ["RecordingObserver"]


class RecordingObserver(Observer):
    """Records spans in the order in which they begin, and all notifications in order.

    Args:
        wants_events: whether to record the events of requests, too.

    Attributes:
        spans: all spans, in the order of their begins.
        log: everything that it was told: `("begin", span)`, `("event", span, events)` and `("end", span)`.
    """

    def __init__(self, *, wants_events: bool = False) -> None:
        self.wants_events = wants_events
        self.spans: list[Span] = []
        self.log: list[tuple[Any, ...]] = []
        self._lock = threading.RLock()  # a span may end while the garbage collector runs

    def begin(self, span: Span) -> None:
        """Record a begin."""
        with self._lock:
            self.spans.append(span)
            self.log.append(("begin", span))

    def event(self, span: Span, events: Sequence[Event]) -> None:
        """Record events."""
        with self._lock:
            self.log.append(("event", span, list(events)))

    def end(self, span: Span) -> None:
        """Record an end."""
        with self._lock:
            self.log.append(("end", span))

    def tree(self) -> str:
        """Return the spans as text: one line each, its name first, two blanks a level."""
        from mellea.core.span_tree import draw_tree  # lazy: it needs the table of prices

        return draw_tree(self.spans)

    def text_of(self, span: Span) -> str:
        """Return a span's text as its events reported it; only with `wants_events`."""
        told = [event for kind, about, *more in self.log if kind == "event" and about is span for event in more[0]]
        return "".join([event.chunk for event in told if isinstance(event, TextDelta)])

    def assert_complete(self) -> None:
        """Fail unless every span was told as it has to be: begun and ended once, inside its parent, events between.

        What was launched in the block of a trace, or in a decorated function, may go on behind its end, and begin more.

        Raises:
            AssertionError: says which span, and what is wrong.
        """
        told = _Told()
        for kind, span, *_ in self.log:
            if mistake := told.find_mistake(kind, span):
                raise AssertionError(mistake)
            told.note(kind, span)
        if left := list(told.open):
            raise AssertionError(f"never ended: {left}")


_OUTLASTED = frozenset({"function", "trace"})
"""Kinds of spans that are the program's own code, which may be over before the work that it has launched."""


class _Told:
    """What an observer has been told so far."""

    def __init__(self) -> None:
        self.open: dict[Span, list[Span]] = {}  # and the spans in each that haven't ended
        self._ended: set[Span] = set()

    def note(self, kind: str, span: Span) -> None:
        """Note that a span has begun or ended."""
        siblings = self.open.get(span.parent, []) if span.parent is not None else []
        if kind == "begin":
            self.open[span] = []
            siblings.append(span)
        elif kind == "end":
            del self.open[span]
            self._ended.add(span)
            if span in siblings:
                siblings.remove(span)

    def find_mistake(self, kind: str, span: Span) -> str | None:
        """Return what is wrong with the next entry of the log, `None` if nothing is."""
        has_ended = span in self._ended
        if kind == "begin":
            if has_ended or span in self.open:
                return f"{span} began twice"
            above = span.parent
            is_late = above in self._ended and above is not None and above.kind not in _OUTLASTED
            return f"{span} began after its parent {above} had ended" if is_late else None
        if has_ended:
            return f"{span} was reported after it had ended"
        if span not in self.open:
            return f"{span} was reported before it had begun"
        still = self.open[span] if kind == "end" and span.kind not in _OUTLASTED else []
        return f"{span} ended before {still}" if still else None
