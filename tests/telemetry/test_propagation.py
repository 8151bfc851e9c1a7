"""The trace context on its way to a model's server: in a header that a hook adds, and around a caller's client."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from opentelemetry import propagate, trace

import mellea
from mellea.core.backend import Request
from mellea.errors import RateLimitError
from mellea.traces import Observer, observe
from tests.telemetry.conftest import Seen

pytestmark = pytest.mark.anyio

Enable = Callable[..., Seen]

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


class Wire(httpx.AsyncBaseTransport):
    """Answers every request, and notes its headers and the OpenTelemetry span that is current."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = [*statuses]
        self.seen: list[tuple[httpx.Headers, trace.SpanContext]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append((request.headers, trace.get_current_span().get_span_context()))
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"content-type": "application/json", "retry-after": "0"}
        return httpx.Response(status, headers=headers, content=json.dumps(ANSWER))


class PassTraceOn(Observer):
    async def before_request(self, request: Request) -> Request:
        return _pass_on(request)


class PassTraceOnInAThread(Observer):
    def before_request(self, request: Request) -> Request:
        return _pass_on(request)


def _pass_on(request: Request) -> Request:
    headers = dict(request.options.get("extra_headers") or {})
    propagate.inject(headers)
    return replace(request, options={**request.options, "extra_headers": headers})


def session(wire: Wire, **options: Any) -> mellea.MelleaSession:
    client = httpx.AsyncClient(transport=wire)
    return mellea.start_session("openai/m", base_url="http://127.0.0.1:9/v1", api_key="k", client=client, **options)


def find_context(seen: Seen) -> trace.SpanContext:
    context = seen.span("chat m").context
    assert context is not None
    return context


@pytest.mark.parametrize("hook", [PassTraceOn(), PassTraceOnInAThread()])
async def test_a_hook_passes_the_trace_on_to_the_models_server(enabled: Enable, hook: Observer) -> None:
    seen, wire = enabled(), Wire()
    with observe(hook):
        await session(wire).ainstruct("x", model_options={"extra_headers": {"x-mine": "1"}})
    ((headers, _),) = wire.seen
    ours = find_context(seen)
    assert headers["traceparent"] == f"00-{ours.trace_id:032x}-{ours.span_id:016x}-{ours.trace_flags:02x}"
    assert headers["x-mine"] == "1"


async def test_what_a_callers_client_does_stands_in_the_span_of_the_request(enabled: Enable) -> None:
    seen, wire = enabled(), Wire()
    with seen.tracers.get_tracer("server").start_as_current_span("GET /") as outer:
        await session(wire).ainstruct("x")
    assert [context for _, context in wire.seen] == [find_context(seen)]
    parent = seen.span("chat m").parent
    assert parent is not None and parent.span_id == outer.get_span_context().span_id


async def test_every_try_of_a_request_stands_in_its_span(enabled: Enable) -> None:
    seen, wire = enabled(), Wire(503, 503)
    await session(wire).ainstruct("x")
    assert [context for _, context in wire.seen] == [find_context(seen)] * 3
    seen, wire = enabled(), Wire(429)
    with pytest.raises(RateLimitError):
        await session(wire, retries=0).ainstruct("x")


async def test_a_stream_is_read_in_the_span_of_its_request(enabled: Enable) -> None:
    seen, wire = enabled(), Wire()
    assert [chunk async for chunk in session(wire).astream("x")] == ["Hello"]
    assert [context for _, context in wire.seen] == [find_context(seen)]


def test_a_sync_call_stands_in_the_span_that_is_current_around_it(enabled: Enable) -> None:
    seen, wire = enabled(), Wire()
    with seen.tracers.get_tracer("server").start_as_current_span("GET /") as outer:
        session(wire).instruct("x")
    assert [context for _, context in wire.seen] == [find_context(seen)]
    parent = seen.span("chat m").parent
    assert parent is not None and parent.span_id == outer.get_span_context().span_id
