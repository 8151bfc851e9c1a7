"""An observer that records what it is told, for tests of what a program does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from mellea.core.events import Event, TextDelta
from mellea.core.observer import Observer, Span

__all__ = ["RecordingObserver"]


class RecordingObserver(Observer):
    """Records spans in the order in which they begin, and everything that it is told in order.

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

        Raises:
            AssertionError: says which span, and what is wrong.
        """
        begun: list[Span] = []
        ended: list[Span] = []
        for kind, span, *_ in self.log:
            if mistake := _find_mistake(kind, span, begun, ended):
                raise AssertionError(mistake)
            if kind == "begin":
                begun.append(span)
            elif kind == "end":
                ended.append(span)
        if left := [span for span in begun if span not in ended]:
            raise AssertionError(f"never ended: {left}")


def _find_mistake(kind: str, span: Span, begun: Sequence[Span], ended: Sequence[Span]) -> str | None:
    """Return what is wrong with an entry of the log, after those spans have begun and ended; `None` if nothing is."""
    if kind == "begin":
        if span in begun:
            return f"{span} began twice"
        return f"{span} began after its parent {span.parent} had ended" if span.parent in ended else None
    if span not in begun:
        return f"{span} was reported before it had begun"
    if span in ended:
        return f"{span} was reported after it had ended"
    still = [child for child in begun if child.parent is span and child not in ended] if kind == "end" else []
    return f"{span} ended before {still}" if still else None
