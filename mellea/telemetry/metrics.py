"""Metrics of a program's calls, as OpenTelemetry histograms under the names in `semconv.py`.

A request is recorded once, when it ends: its duration, the time to its first chunk, the mean time of the chunks after
that, its tokens and its cost. Unknown values aren't recorded.

Ended spans wait until there are several, or until the metrics are collected, and go to the SDK together: one by one,
between the steps of a program, the same work takes longer. Each duration is passed on together with its span, so that a
slow one leads to its trace (OpenTelemetry calls that an exemplar); the other metrics don't, since this costs as much as
everything else that is done for a number.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from mellea.telemetry import semconv

__all__ = ["Histograms"]

_MOST = 32
"""How many spans may wait; passing them on takes about a millisecond."""

_numbers = itertools.count(1)


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
        self._waiting: deque[tuple[str, Mapping[str, Any], Mapping[str, Any], Context]] = deque()
        # It observes nothing, but its callback runs before histograms are collected. A meter knows an instrument by its
        # name.
        meter.create_observable_gauge(f"mellea.waiting.{next(_numbers)}", callbacks=[self._collect])

    def _collect(self, options: Any) -> Sequence[Any]:
        self.flush()
        return ()

    def flush(self) -> None:
        """Pass all waiting spans to the SDK; safe from any thread."""
        while self._waiting:
            try:
                waiting = self._waiting.popleft()
            except IndexError:  # another thread has taken the last one
                return
            self._record_now(*waiting)

    def record(self, operation: str, known: Mapping[str, Any], data: Mapping[str, Any], within: Context) -> None:
        """Record the figures of a request, a tool, an agent or a call with several requests.

        Args:
            operation: its name in the conventions.
            known: all attributes of its span; the metrics have some of them.
            data: its plain data, at its end.
            within: the context with the span.
        """
        self._waiting.append((operation, known, data, within))
        if len(self._waiting) >= _MOST:
            self.flush()

    def _record_now(self, operation: str, known: Mapping[str, Any], data: Mapping[str, Any], within: Context) -> None:
        attributes = {name: known[name] for name in semconv.METRIC_ATTRIBUTES if name in known}
        record, seconds = self._record, data["seconds"]
        record[semconv.DURATIONS.get(operation, "duration")](seconds, attributes, within)
        first, chunks = data.get("time_to_first_chunk"), data.get("chunk_count", 0)
        if first is not None:
            record["first"](first, attributes, _NOWHERE)
            if chunks > 1:
                record["chunk"](max(0.0, seconds - first) / (chunks - 1), attributes, _NOWHERE)
        for kind, field in _TOKENS:
            if field in data:
                record["tokens"](data[field], {**attributes, semconv.TOKEN_TYPE: kind}, _NOWHERE)
        if "cost" in data:
            record["cost"](data["cost"], attributes, _NOWHERE)


_NOWHERE = set_span_in_context(INVALID_SPAN, Context())
"""A context without a span. An empty one would mean the current one, where another request may be running."""

_TOKENS = (("input", "input_tokens"), ("output", "output_tokens"))
