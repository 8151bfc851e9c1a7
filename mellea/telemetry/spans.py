"""Spans of observers as OpenTelemetry spans, under the names of `semconv.py`.

Rules:

- One span for each call, attempt, check, tool, step and agent; none for a delta.
- A span without a parent of ours is a child of the OpenTelemetry span that is current in the program, and ours is
  current for the program's own code inside: tools, validators, decorated functions.
- A span that was cancelled, or whose reader left, is an error of type `cancelled`, without usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

from opentelemetry import context as otel_context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from mellea.core.events import Event
from mellea.core.observer import Observer, Span
from mellea.core.span_data import describe_end, describe_start
from mellea.telemetry import semconv
from mellea.telemetry.attributes import (
    begin_attributes,
    describe_evaluation,
    end_attributes,
    is_remote,
    name_span,
    write_content,
    write_messages,
)
from mellea.telemetry.metrics import Histograms, Series

__all__ = ["Content", "SpanObserver"]

Content = Literal["none", "spans", "events", "both"]
"""Where prompts and answers go."""


class SpanObserver(Observer):
    """Makes OpenTelemetry spans, and records metrics where they end.

    Args:
        tracer: makes the spans; `None` makes none.
        histograms: records the metrics.
        content: where to put prompts, answers, arguments and results of tools, and reasons of checks.
    """

    def __init__(self, tracer: Tracer | None, histograms: Histograms | None = None, content: Content = "none") -> None:
        self._tracer = tracer
        self._histograms = histograms
        self._content = content
        self._has_content = content != "none"
        # Two observers on one span must not read each other's entry.
        self._key = f"otel-{id(self)}"
        self._body_key = f"otel-body-{id(self)}"
        self._known: dict[tuple[Any, ...], _Beginning] = {}

    def begin(self, span: Span) -> None:
        """Start a span."""
        # Most calls of a program start with equal attributes, so they are made once and cached.
        beginning = self._find_beginning(span) if span.is_request else _Beginning(span)
        made = None if self._tracer is None else self._start(self._tracer, span, beginning)
        span.data[self._key] = made, beginning

    def _find_beginning(self, span: Span) -> _Beginning:
        """Return a beginning; requests to one model, of one session, all have the same."""
        given = getattr(span.component, "name", None)
        key = span.kind, span.backend, span.model, span.server, span.session, given if type(given) is str else None
        found = self._known.get(key)
        if found is None:
            # Cleared as a whole: names that are unique to each call would otherwise fill it forever, and order
            # costs time.
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = _Beginning(span)
        return found

    def _start(self, tracer: Tracer, span: Span, beginning: _Beginning) -> OtelSpan:
        # Passed in, since the SDK would look up the current context three times.
        within = otel_context.get_current()
        parent = span.parent
        # If the parent was entered last, the program may have made its own span current inside it.
        if parent is not None and parent is not _entered.get() and (above := self._find_made(parent)) is not None:
            within = set_span_in_context(above, within)
        linked = [self._find_made(each) for each in span.links] if span.links else ()
        links = [Link(made.get_span_context()) for made in linked if made is not None] if linked else None
        return tracer.start_span(beginning.name, within, beginning.kind, beginning.attributes, links)

    def event(self, span: Span, events: Sequence[Event]) -> None:
        """Add an event: the request is sent again."""
        if (made := self._find_made(span)) is not None:
            made.add_event(semconv.RETRY_EVENT)

    def end(self, span: Span) -> None:
        """End a span, with its outcome."""
        made, beginning = span.data.get(self._key, _NOTHING)
        try:
            if beginning is not None:
                self._describe(span, made, beginning.series)
        finally:  # a span ends even if its attributes can't be made
            if made is not None:
                made.end()
                # For links, and for spans that begin late; everything else that the span holds is released.
                span.data[self._key] = made.get_span_context(), None
                span.data.pop(self._body_key, None)

    def _describe(self, span: Span, made: OtelSpan | None, series: Series | None) -> None:
        histograms = None if series is None else self._histograms
        # A span that isn't sampled is made and ended, but its attributes would be wasted work.
        is_seen = made is not None and made.is_recording()
        if not is_seen and histograms is None:
            return
        data = describe_end(span, content=self._has_content)
        attributes = end_attributes(data)
        # Metrics are recorded even for spans that aren't sampled, or their sums would be wrong.
        if series is not None and histograms is not None:
            where = get_current_span() if made is None else made
            histograms.record(series, attributes, data, where.get_span_context())
        if made is not None and is_seen:
            self._tell(made, span, data, attributes)

    def _tell(self, made: OtelSpan, span: Span, data: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        is_in_spans = self._content in ("spans", "both")
        if is_in_spans:
            attributes.update(write_content(data))
        is_checked = span.kind == "check" and "is_met" in data
        if is_checked:
            attributes.update(describe_evaluation(data, content=is_in_spans))
        made.set_attributes(attributes)
        if is_checked:
            made.add_event(semconv.EVALUATION_EVENT, describe_evaluation(data))
        if self._content in ("events", "both") and "messages" in data:
            made.add_event(semconv.OPERATION_DETAILS_EVENT, write_messages(data))
        if "error_type" in data:
            made.set_status(StatusCode.ERROR, data.get("error", data["error_type"]))

    def enter(self, span: Span) -> Any:
        """Also make the span current for OpenTelemetry."""
        made = self._find_made(span)
        if made is None:
            return None
        # A generator's body continues with whatever it had made current itself.
        context = span.data.get(self._body_key) or set_span_in_context(made)
        return context, otel_context.attach(context), _entered.set(span)

    def leave(self, span: Span, token: Any) -> None:
        """Undo `enter`, and whatever a generator's body has made current since; in another context do nothing."""
        if token is None:
            return
        context, attached, entered = token
        try:
            # OpenTelemetry logs an error in another context, and offers no way to check that first.
            _entered.reset(entered)
        except ValueError:
            return
        inside = otel_context.get_current()
        if span.ended is None and inside is not context:
            span.data[self._body_key] = inside
        otel_context.detach(attached)

    def _find_made(self, span: Span) -> OtelSpan | None:
        made: OtelSpan | SpanContext | None = span.data.get(self._key, _NOTHING)[0]
        return NonRecordingSpan(made) if isinstance(made, SpanContext) else made


_NOTHING = (None, None)

_entered: ContextVar[Span | None] = ContextVar("mellea_otel_entered", default=None)
"""The innermost span that was made current for OpenTelemetry."""

_MOST_KNOWN = 256
"""How many sessions and models have their beginnings remembered."""


class _Beginning:
    """What a span begins with.

    Args:
        span: it, or one like it.

    Attributes:
        name: its name.
        kind: whether it is a request to another process.
        attributes: its attributes.
        series: of its metrics; `None` if it has none.
    """

    __slots__ = ("attributes", "kind", "name", "series")

    def __init__(self, span: Span) -> None:
        data = describe_start(span)
        self.name = name_span(data)
        self.kind = SpanKind.CLIENT if is_remote(data) else SpanKind.INTERNAL
        self.attributes = begin_attributes(data)
        operation = self.attributes.get(semconv.OPERATION_NAME)
        self.series = None if operation is None else Series(operation, self.attributes)
