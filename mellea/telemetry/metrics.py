"""Metrics of what a program does, as OpenTelemetry histograms under the names of `semconv.py`.

A request is recorded once, when it ends: its duration, the time to its first chunk, the mean time of the chunks behind
that, its tokens and its cost. What isn't known isn't recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Meter

from mellea.telemetry import semconv

__all__ = ["Histograms"]


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

    def record(self, operation: str, known: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Record what a request, a tool, an agent or a call of several requests took.

        Args:
            operation: the conventions' name of it.
            known: all attributes of its span; the metrics have some of them.
            data: its plain data, at its end.
        """
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
