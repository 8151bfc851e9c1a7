"""Metrics of a program's calls, as OpenTelemetry histograms under the names in `semconv.py`.

A request is recorded once, when it ends: its duration, the time to its first chunk, the mean time of the chunks after
that, its tokens and its cost. Unknown values aren't recorded.

The figures of an ended span wait until the metrics are collected, and the thread that collects them passes them to the
SDK, which takes about 6 µs for each. If too many wait, the program's own thread passes some on. Each duration is passed
on together with its span, so that a slow one leads to its trace (OpenTelemetry calls that an exemplar); the other
metrics don't, since this costs as much as everything else that is done for a number.
"""

from __future__ import annotations

import itertools
import os
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, set_span_in_context

from mellea._lazy_exports import lazily
from mellea.telemetry import semconv

__all__ = ["Histograms", "Series"]

_MOST = 4096
"""How many spans may wait; each takes a few hundred bytes."""

_AT_ONCE = 32
"""How many are passed on before other threads get their turn; that takes about a millisecond."""

_MOST_SERIES = 64
"""How many sets of attributes a kind of span remembers."""

_numbers = itertools.count(1)

_Attributes = Mapping[str, Any]
_Series = tuple[_Attributes, _Attributes, _Attributes]


class Series:
    """The attributes of the metrics of spans that begin with equal attributes: made once for each outcome, not for
    each span.

    Args:
        operation: the conventions' name of what the spans are.
        begun: the attributes that they begin with.
    """

    __slots__ = ("_begun", "_made", "duration")

    def __init__(self, operation: str, begun: _Attributes) -> None:
        self.duration = semconv.DURATIONS.get(operation, "duration")
        self._begun = begun
        self._made: dict[tuple[Any, ...], _Series] = {}

    def find(self, ended: _Attributes) -> _Series:
        """Return the attributes of the metrics, and of those that count tokens of the input and of the output.

        Args:
            ended: the attributes of the span that came at its end.
        """
        key = tuple(map(ended.get, semconv.METRIC_ATTRIBUTES))
        found = self._made.get(key)
        if found is None:
            known = {**self._begun, **ended}
            attributes = {name: known[name] for name in semconv.METRIC_ATTRIBUTES if name in known}
            if len(self._made) >= _MOST_SERIES:  # a server may name its model as it likes
                self._made.clear()
            of_input, of_output = ({**attributes, semconv.TOKEN_TYPE: kind} for kind in ("input", "output"))
            found = self._made[key] = attributes, of_input, of_output
        return found


class Histograms:
    """Records spans that have ended.

    Args:
        meter: makes the histograms.
    """

    def __init__(self, meter: Meter) -> None:
        self._record = {
            key: meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.description,
                explicit_bucket_boundaries_advisory=list(metric.buckets),
            ).record
            for key, metric in semconv.METRICS.items()
        }
        self._waiting: deque[tuple[str, _Series, tuple[Any, ...], SpanContext]] = deque()
        # It observes nothing, but its callback runs before histograms are collected. A meter knows an instrument by its
        # name.
        meter.create_observable_gauge(f"mellea.waiting.{next(_numbers)}", callbacks=[self._collect])
        _all.add(self)

    def _collect(self, options: Any) -> Sequence[Any]:
        self.flush()
        return ()

    def flush(self) -> None:
        """Pass all waiting spans to the SDK; safe from any thread."""
        while self._pass_on():
            time.sleep(0)  # the program's own threads go first

    def forget(self) -> None:
        """Drop what waits: in a forked child, whose parent passes it on."""
        self._waiting.clear()

    def record(self, series: Series, ended: _Attributes, data: Mapping[str, Any], where: SpanContext) -> None:
        """Record the figures of a request, a tool, an agent or a call with several requests.

        Args:
            series: of its kind.
            ended: the attributes that its span got at its end.
            data: its plain data, at its end.
            where: the span that took the time.
        """
        # Only what is recorded waits: the plain data may hold whole prompts.
        self._waiting.append((series.duration, series.find(ended), tuple(map(data.get, _FIGURES)), where))
        if len(self._waiting) > _MOST:
            self._pass_on()

    def _pass_on(self) -> bool:
        """Pass some waiting spans to the SDK, and return whether there may be more."""
        for _ in range(_AT_ONCE):
            try:
                waiting = self._waiting.popleft()
            except IndexError:
                return False
            self._record_now(*waiting)
        return True

    def _record_now(self, duration: str, attributes: _Series, figures: tuple[Any, ...], where: SpanContext) -> None:
        record, (known, of_input, of_output) = self._record, attributes
        seconds, first, chunks, input_tokens, output_tokens, cost = figures
        record[duration](seconds, known, set_span_in_context(NonRecordingSpan(where), _EMPTY))
        if first is not None:
            record["first"](first, known, _NOWHERE)
            if chunks is not None and chunks > 1:
                record["chunk"](max(0.0, seconds - first) / (chunks - 1), known, _NOWHERE)
        if input_tokens is not None:
            record["tokens"](input_tokens, of_input, _NOWHERE)
        if output_tokens is not None:
            record["tokens"](output_tokens, of_output, _NOWHERE)
        if cost is not None:
            record["cost"](cost, known, _NOWHERE)


_FIGURES = ("seconds", "time_to_first_chunk", "chunk_count", "input_tokens", "output_tokens", "cost")
"""The fields of a span's plain data that are recorded."""

_EMPTY = Context()
_NOWHERE = set_span_in_context(INVALID_SPAN, _EMPTY)
"""A context without a span. An empty one would mean the current one, where another request may be running."""

_all: weakref.WeakSet[Histograms] = weakref.WeakSet()


def _forget_all() -> None:
    for each in list(_all):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

__getattr__ = lazily(__name__, {})  # as in `mellea.telemetry`
