"""Telemetry into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra telemetry isn't installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import mellea
from tests.telemetry.receiver import receiver as receiver


@dataclass
class Seen:
    """What the SDK's exporters in memory got."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def tree(self) -> list[str]:
        known = {span.context.span_id for span in self.spans if span.context}
        children: dict[int, list[ReadableSpan]] = {}
        for span in self.spans:
            above = span.parent.span_id if span.parent is not None and span.parent.span_id in known else 0
            children.setdefault(above, []).append(span)

        def lines(above: int, level: int) -> Iterator[str]:
            for span in children.get(above, []):
                yield "  " * level + span.name
                assert span.context
                yield from lines(span.context.span_id, level + 1)

        return list(lines(0, 0))

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        found = [each for scope in scopes for each in scope.metrics if each.name == metric]
        return [point for each in found for point in each.data.data_points]

    def text(self) -> str:
        """Everything that was exported."""
        data = self.reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans), data.to_json() if data else ""])


@pytest.fixture
def enabled() -> Iterator[Callable[..., Seen]]:
    """Switch telemetry on for a test; gives a function that does so, and returns what is seen."""

    def enable(**arguments: Any) -> Seen:
        seen = Seen()
        mellea.telemetry.enable(tracer_provider=seen.tracers, meter_provider=seen.meters, **arguments)
        return seen

    yield enable
    mellea.telemetry.disable()
