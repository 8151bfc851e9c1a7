"""The figures of tracing: what a call costs more while it is traced, besides the SDK's own work.

`telemetry-call`: the floor is a call with telemetry off and a span written by hand around it, with the same attributes
and the same metrics; ours is a call with telemetry on. `telemetry-spans` is the same without metrics. `telemetry-more`
tells what a call costs more than with telemetry off, in microseconds: the floor by hand, which is the SDK's own work,
ours with telemetry on. Our metrics wait for the thread that collects them;
`telemetry-more-collected` has its part, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time
from typing import Any

import mellea
from benchmarks.pairs import Samples, Setting, Skipped, interleave, on_loop
from benchmarks.wire import PROMPT
from mellea.core import Usage
from mellea.testing import ScriptedBackend

ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "scripted",
    "gen_ai.request.model": "script",
    "session.id": "0123456789abcdef",
}
OUTCOME = {
    "gen_ai.output.type": "text",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.response.id": "script-1",
    "gen_ai.response.model": "script",
    "gen_ai.response.time_to_first_chunk": 0.001,
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 20,
}
METRIC = {name: value for name, value in {**ATTRIBUTES, **OUTCOME}.items() if name.endswith(("name", "model"))}

Ask = Callable[[mellea.MelleaSession], Awaitable[Any]]


def _providers() -> tuple[Any, Any, Any]:
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    except ImportError:
        raise Skipped("the extra telemetry isn't installed") from None

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    tracers = TracerProvider()
    # Room for all calls of a round: a full queue logs each span that it drops, which costs more than the span.
    tracers.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=16_384))
    reader = InMemoryMetricReader()
    return tracers, MeterProvider([reader]), reader


def _by_hand(tracers: Any, meters: Any) -> Ask:
    from opentelemetry.trace import SpanKind

    tracer = tracers.get_tracer("hand")
    names = () if meters is None else ("duration", "first", "tokens")
    instruments = [meters.get_meter("hand").create_histogram(name) for name in names]

    async def ask(session: mellea.MelleaSession) -> None:
        began = perf_counter()
        span = tracer.start_span("chat script", None, SpanKind.CLIENT, ATTRIBUTES)
        await session.ainstruct(PROMPT)
        span.set_attributes(OUTCOME)
        span.end()
        if not instruments:
            return
        duration, first, tokens = instruments
        duration.record(perf_counter() - began, METRIC)
        first.record(0.001, METRIC)
        tokens.record(10, {**METRIC, "gen_ai.token.type": "input"})
        tokens.record(20, {**METRIC, "gen_ai.token.type": "output"})

    return ask


async def _plain(session: mellea.MelleaSession) -> None:
    await session.ainstruct(PROMPT)


def per_call(*, is_floor_by_hand: bool, answer: int = 1, has_metrics: bool = True) -> Callable[[Setting], Samples]:
    """Microseconds of CPU for each call.

    Args:
        is_floor_by_hand: whether the floor has a span written by hand; if not, it has none.
        answer: how many deltas the answer has.
        has_metrics: whether metrics are recorded, besides spans.
    """

    def measure(setting: Setting) -> Samples:
        with _Calls(setting, answer=answer, has_metrics=has_metrics) as calls:
            return calls.compare(calls.by_hand if is_floor_by_hand else calls.off, calls.traced, setting.pairs)

    return measure


def more(*, has_metrics: bool, is_collected: bool = False) -> Callable[[Setting], Samples]:
    """Microseconds that a call costs more than with telemetry off: with a span by hand, and with telemetry on.

    Args:
        has_metrics: whether metrics are recorded, besides spans.
        is_collected: whether the metrics are collected as well, once after the calls, and that counts.
    """

    def measure(setting: Setting) -> Samples:
        with _Calls(setting, answer=1, has_metrics=has_metrics, is_collected=is_collected) as calls:

            async def by_hand() -> float:
                return await calls.by_hand() - await calls.off()

            async def traced() -> float:
                return await calls.traced() - await calls.off()

            return calls.compare(by_hand, traced, setting.pairs)

    return measure


class _Calls:
    """Calls on the scripted backend, and what one of them costs: seconds of CPU for each delta of its answer."""

    def __init__(self, setting: Setting, *, answer: int, has_metrics: bool, is_collected: bool = False) -> None:
        self._tracers, self._meters, reader = _providers()
        self._reader = reader if is_collected else None
        if not has_metrics:
            self._meters = None
        self._answer = answer
        self._calls = setting.size(max(2, 400 // answer), 2)
        self._session = mellea.MelleaSession(ScriptedBackend(["x"] * answer, usage=Usage(10, 20)))
        self._ask_by_hand = _by_hand(self._tracers, self._meters)

    def __enter__(self) -> _Calls:
        return self

    def __exit__(self, *error: object) -> None:
        self._tracers.shutdown()

    def compare(
        self, floor: Callable[[], Awaitable[float]], ours: Callable[[], Awaitable[float]], pairs: int
    ) -> Samples:
        """Measure two ways in turns, in microseconds."""
        with asyncio.Runner() as runner:
            return interleave(on_loop(runner, floor), on_loop(runner, ours), pairs).times(1e6)

    async def _measure(self, ask: Ask) -> float:
        self._tracers.force_flush()
        before = process_time()
        for _ in range(self._calls):
            await ask(self._session)
        if self._reader is not None:
            self._reader.get_metrics_data()
        seconds = process_time() - before
        backend: Any = self._session.backend
        backend.requests.clear()
        backend.closed.clear()
        return seconds / self._calls / self._answer

    async def off(self) -> float:
        """A call with telemetry off."""
        return await self._measure(_plain)

    async def by_hand(self) -> float:
        """The same inside a span written by hand."""
        return await self._measure(self._ask_by_hand)

    async def traced(self) -> float:
        """A call with telemetry on."""
        mellea.telemetry.enable(tracer_provider=self._tracers, meter_provider=self._meters)
        try:
            return await self._measure(_plain)
        finally:
            mellea.telemetry.disable()
