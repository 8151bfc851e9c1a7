"""Metrics of requests, tools and workflows: once each, in the conventions' names and units, and nothing unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mellea
from mellea.core import ToolCall, Usage
from mellea.core.events import ToolEnd
from mellea.errors import OverloadedError
from mellea.telemetry import semconv
from mellea.testing import ScriptedBackend
from tests.telemetry.conftest import Seen

pytestmark = pytest.mark.anyio

Enable = Callable[..., Seen]


async def test_a_request_is_recorded_once_with_what_is_known(enabled: Enable) -> None:
    seen = enabled()
    mellea.prices.set_prices({"scripted/*": mellea.prices.Price(1, 2)})
    try:
        m = mellea.start_session(ScriptedBackend(["a", "b", "c"], usage=Usage(30, 40)))
        await m.ainstruct("x")
    finally:
        mellea.prices.reset_prices()
    known = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "script",
        "gen_ai.response.model": "script",
    }
    for name in ("duration", "time_to_first_chunk", "time_per_output_chunk", "cost"):
        (point,) = seen.points(f"gen_ai.client.operation.{name}")
        assert (dict(point.attributes), point.count) == (known, 1), name
    assert seen.points("gen_ai.client.operation.cost")[0].sum == pytest.approx((30 * 1 + 40 * 2) / 1e6)
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in seen.points("gen_ai.client.token.usage")}
    assert tokens == {"input": 30, "output": 40}


async def test_a_duration_leads_to_the_span_that_took_it(enabled: Enable) -> None:
    seen, m = enabled(), mellea.start_session(ScriptedBackend("a", usage=Usage(30, 40)))
    await m.ainstruct("x")
    (span,) = seen.spans
    (point,) = seen.points("gen_ai.client.operation.duration")
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (span.context.trace_id, span.context.span_id)


async def test_what_nobody_told_isnt_recorded(enabled: Enable) -> None:
    seen, m = enabled(), mellea.start_session(ScriptedBackend(OverloadedError("busy")))
    with pytest.raises(OverloadedError):
        await m.ainstruct("x")
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "OverloadedError" and "gen_ai.response.model" not in point.attributes
    assert not seen.points("gen_ai.client.token.usage") and not seen.points("gen_ai.client.operation.cost")
    assert not seen.points("gen_ai.client.operation.time_to_first_chunk")


async def test_tools_and_workflows_have_durations_of_their_own(enabled: Enable) -> None:
    def look() -> str:
        """Look."""
        return "a cat"

    seen = enabled()
    m = mellea.start_session(ScriptedBackend([ToolEnd(ToolCall("1", "look", {}))], "A cat."))
    await m.ainstruct("x", name="a name of the user's", tools=[look], tool_calls="run")
    (tool,) = seen.points("gen_ai.execute_tool.duration")
    assert dict(tool.attributes) == {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look"}
    (workflow,) = seen.points("gen_ai.invoke_workflow.duration")
    assert workflow.count == 1 and "a name of the user's" not in seen.reader.get_metrics_data().to_json()  # type: ignore[union-attr]


def test_buckets_are_those_of_the_conventions() -> None:
    assert semconv.METRICS["duration"].buckets == (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    )
    assert semconv.METRICS["tokens"].buckets[-1] == 67_108_864 and semconv.METRICS["agent"].buckets[-1] == 409.6


async def test_metrics_alone_need_no_spans() -> None:
    seen = Seen()
    mellea.telemetry.enable(meter_provider=seen.meters)
    try:
        await mellea.start_session(ScriptedBackend("x")).ainstruct("x")
    finally:
        mellea.telemetry.disable()
    assert len(seen.points("gen_ai.client.operation.duration")) == 1 and not seen.spans


def test_the_names_in_the_table_are_the_conventions() -> None:
    tables: list[Any] = [semconv.ATTRIBUTES, semconv.JSON_ATTRIBUTES, semconv.OPTIONS]
    names = [name for table in tables for name in table.values()] + [metric.name for metric in semconv.METRICS.values()]
    # The conventions have no name for seconds of video.
    others = {"error.type", "server.address", "server.port", "session.id", "mellea.usage.video_seconds"}
    assert [name for name in names if not name.startswith("gen_ai.") and name not in others] == []
    assert len(set(names)) == len(names)


async def test_what_has_ended_is_recorded_when_metrics_are_collected_or_switched_off(enabled: Enable) -> None:
    seen = enabled()
    m = mellea.start_session(ScriptedBackend("x"))
    for _ in range(70):
        await m.ainstruct("x")
    assert seen.points("gen_ai.client.operation.duration")[0].count == 70
    await m.ainstruct("x")
    mellea.telemetry.disable()
    assert seen.points("gen_ai.client.operation.duration")[0].count == 71
    mellea.telemetry.enable(meter_provider=seen.meters)
    await m.ainstruct("x")
    assert seen.points("gen_ai.client.operation.duration")[0].count == 72
    data = seen.reader.get_metrics_data()
    assert data is None or "mellea.waiting" not in data.to_json()
