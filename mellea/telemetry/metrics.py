"""Metrics of what a program does, as OpenTelemetry histograms under the names of `semconv.py`.

A request is recorded once, when it ends: its duration, the time to its first chunk, the mean time of the chunks behind
that, its tokens and its cost. What isn't known isn't recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Meter

from mellea.core.observer import Observer, Span
from mellea.core.span_data import describe_end
from mellea.telemetry import semconv
from mellea.telemetry.spans import operation_of

__all__ = ["MetricObserver"]


class MetricObserver(Observer):
    """Records metrics.

    Args:
        meter: makes the histograms.
    """

    def __init__(self, meter: Meter) -> None:
        self._histograms = {
            key: meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.description,
                explicit_bucket_boundaries_advisory=list(metric.buckets),
            )
            for key, metric in semconv.METRICS.items()
        }

    def end(self, span: Span) -> None:
        """Record what a request, a tool, an agent or a call of several requests took."""
        operation = operation_of(span)
        if operation is None:
            return
        data = describe_end(span)
        attributes: dict[str, Any] = {semconv.OPERATION_NAME: operation}
        for field in semconv.METRIC_ATTRIBUTES:
            if field in data:
                attributes[semconv.ATTRIBUTES.get(field, "gen_ai.provider.name")] = data[field]
        field, attribute = semconv.SUBJECTS[operation]
        if operation != "invoke_workflow" and (subject := getattr(span, field, None)) is not None:
            attributes.setdefault(attribute, subject)
        if span.backend is not None:
            provider = data.get("provider", span.backend)
            attributes["gen_ai.provider.name"] = semconv.PROVIDERS.get(provider, provider)
        self._record(semconv.DURATIONS.get(operation, "duration"), span.seconds, attributes)
        if span.is_request:
            self._record_request(data, attributes)

    def _record_request(self, data: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        first, chunks = data.get("time_to_first_chunk"), data.get("chunk_count", 0)
        if first is not None:
            self._record("first", first, attributes)
            if chunks > 1:
                self._record("chunk", max(0.0, data["seconds"] - first) / (chunks - 1), attributes)
        for kind in ("input", "output"):
            if (tokens := data.get(f"{kind}_tokens")) is not None:
                self._record("tokens", tokens, {**attributes, semconv.TOKEN_TYPE: kind})
        if "cost" in data:
            self._record("cost", data["cost"], attributes)

    def _record(self, metric: str, value: float, attributes: Mapping[str, Any]) -> None:
        self._histograms[metric].record(value, attributes)
