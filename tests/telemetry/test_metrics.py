"""Metrics of requests, tools and workflows: once each, in the conventions' names and units, and nothing unknown."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

import mellea
from mellea.core import ToolCall, Usage
from mellea.core.events import ToolEnd
from mellea.errors import OverloadedError
from mellea.telemetry import metrics, semconv
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
    # The conventions have no names for seconds of video, for attempts, and for checks of a growing text.
    others = {"error.type", "server.address", "server.port", "session.id"}
    others |= {"mellea.attempt.accepted", "mellea.check.streaming", "mellea.usage.video_seconds"}
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


async def test_a_session_that_asks_often_is_counted_whole_while_nobody_collects(
    enabled: Enable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MOST", 8)
    seen, m = enabled(), mellea.start_session(ScriptedBackend("x", usage=Usage(3, 4)))
    for _ in range(100):
        await m.ainstruct("x")
    assert seen.points("gen_ai.client.operation.duration")[0].count == 100
    assert sorted(point.sum for point in seen.points("gen_ai.client.token.usage")) == [300, 400]


async def test_what_waits_to_be_recorded_holds_no_prompts(enabled: Enable) -> None:
    enabled(content=True)
    m = mellea.start_session(ScriptedBackend("an answer that is long"))
    await m.ainstruct("a prompt that is long")
    (held,) = [each for each in gc.get_objects() if isinstance(each, metrics.Histograms) and each._waiting]
    assert "long" not in repr(held._waiting)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_doesnt_record_its_parents_calls_again(enabled: Enable) -> None:
    seen = enabled()
    mellea.start_session(ScriptedBackend("x")).instruct("x")
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        found = seen.points("gen_ai.client.operation.duration")
        os.write(writes, str(sum(point.count for point in found)).encode() or b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 10) == b"0"
    assert seen.points("gen_ai.client.operation.duration")[0].count == 1
