"""Spans and metrics reach a collector that speaks gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="the group web isn't installed")

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import mellea
from mellea.core import Usage
from mellea.testing import ScriptedBackend


class Collector(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def Export(self, request: Any, context: Any) -> Any:  # the name that both services have
        if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest):
            scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
            self.metrics |= {metric.name for scope in scopes for metric in scope.metrics}
            return metrics_service_pb2.ExportMetricsServiceResponse()
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, collector.server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector, collector.server)
    collector.server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    yield collector
    mellea.telemetry.disable()
    collector.server.stop(0).wait()


@pytest.mark.one_loop
def test_a_collector_that_speaks_grpc_gets_the_tree_and_the_metrics(collector: Collector) -> None:
    @mellea.trace
    def ask(m: mellea.MelleaSession) -> Any:
        return m.stream("x", name="writing")

    mellea.telemetry.enable("otlp")
    assert list(ask(mellea.start_session(ScriptedBackend("a", usage=Usage(1, 2))))) == ["a"]
    mellea.telemetry.disable()
    parents = {span.name: span.parent_span_id for span in collector.spans}
    assert set(parents) == {"ask", "chat script"} and parents["ask"] == b""
    (call,) = (span for span in collector.spans if span.name == "chat script")
    assert call.parent_span_id == next(span.span_id for span in collector.spans if span.name == "ask")
    assert {"gen_ai.operation.name", "gen_ai.usage.output_tokens"} <= {each.key for each in call.attributes}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= collector.metrics
