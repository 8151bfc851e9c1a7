"""Metrics of what a program does, as OpenTelemetry histograms under the names of `semconv.py`.

A request is recorded once, when it ends: its duration, the time to its first chunk, the mean time of the chunks behind
that, its tokens and its cost. What isn't known isn't recorded.

What has ended waits until there are some, or until somebody collects the metrics, and is handed to the SDK in one go:
one by one, between the steps of a program, the same work takes longer.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.metrics import Meter

from mellea.telemetry import semconv

__all__ = ["Histograms"]

_MOST = 32
"""How many spans may wait; handing them on takes about a millisecond."""

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
        self._waiting: deque[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = deque()
        # It observes nothing, and is asked before histograms are collected. A meter knows an instrument by its name.
        meter.create_observable_gauge(f"mellea.waiting.{next(_numbers)}", callbacks=[self._collect])

    def _collect(self, options: Any) -> Sequence[Any]:
        self.flush()
        return ()

    def flush(self) -> None:
        """Hand everything that waits to the SDK; safe from any thread."""
        while self._waiting:
            try:
                waiting = self._waiting.popleft()
            except IndexError:  # another thread has taken the last one
                return
            self._record_now(*waiting)

    def record(self, operation: str, known: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Record what a request, a tool, an agent or a call of several requests took.

        Args:
            operation: the conventions' name of it.
            known: all attributes of its span; the metrics have some of them.
            data: its plain data, at its end.
        """
        self._waiting.append((operation, known, data))
        if len(self._waiting) >= _MOST:
            self.flush()

    def _record_now(self, operation: str, known: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        attributes = {name: known[name] for name in semconv.METRIC_ATTRIBUTES if name in known}
        record, seconds = self._record, data["seconds"]
        record[semconv.DURATIONS.get(operation, "duration")](seconds, attributes)
        first, chunks = data.get("time_to_first_chunk"), data.get("chunk_count", 0)
        if first is not None:
            record["first"](first, attributes)
            if chunks > 1:
                record["chunk"](max(0.0, seconds - first) / (chunks - 1), attributes)
        for kind, field in _TOKENS:
            if field in data:
                record["tokens"](data[field], {**attributes, semconv.TOKEN_TYPE: kind})
        if "cost" in data:
            record["cost"](data["cost"], attributes)


_TOKENS = (("input", "input_tokens"), ("output", "output_tokens"))
