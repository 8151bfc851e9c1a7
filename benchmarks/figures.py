"""The figures: what each is called, how it is measured, and what it may come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks import (
    agents,
    call,
    engine,
    history,
    many,
    peers,
    record,
    scripted,
    startup,
    structured,
    telemetry,
    way,
    wire,
)
from benchmarks.pairs import Samples, Setting

__all__ = ["FIGURES", "Figure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        what: what is measured, in a few words.
        unit: of floor and ours.
        measure: measures it, in a process of its own.
        target: what the median ratio may be at most; `None` where the figure only informs.
        gate: the same for CI, where the machine is busy.
        is_rate: more is better, so that target and gate are the least it may be.
    """

    what: str
    unit: str
    measure: Callable[[Setting], Samples]
    target: float | None = None
    gate: float | None = None
    is_rate: bool = False

    def holds(self, ratio: float, limit: float | None) -> bool:
        if limit is None:
            return True
        return ratio >= limit if self.is_rate else ratio <= limit


# With the extra `fast` ours has another transport than the floor.
_ONE_STREAM = (0.35, 0.5) if find_spec("httpx_aiohttp") else (1.10, 1.35)

FIGURES: dict[str, Figure] = {
    "W1": Figure("1 stream of 2,000: async for", "µs/chunk", wire.one_stream(wire.by_text), *_ONE_STREAM),
    "W1-events": Figure("… thunk.events()", "µs/chunk", wire.one_stream(wire.by_events), 1.10, 1.35),
    "W1-polling": Figure("… thunk.astream()", "µs/chunk", wire.one_stream(wire.by_polling), 1.10, 1.35),
    "W1-sync": Figure("… for chunk in m.stream()", "µs/chunk", wire.one_sync_stream, 1.5, 1.85),
    "W2/W1": Figure("20,000 chunks : 2,000", "µs/chunk", wire.growth, 1.1, 1.25),
    "W3": Figure("200 streams of 200 at once", "µs/chunk", wire.many_streams, 1.10, 1.35),
    "W4": Figure("first text, warm client", "ms", wire.first_text, 1.15, 1.6),
    "W5": Figure("plain request", "ms", wire.plain_request, 1.15, 1.6),
    "W8": Figure("32 streams, 2 ms between", "µs/chunk", wire.spaced_streams, 1.0, 1.35),
    "many-500": Figure("500 streams, 200 ms between", "s", many.streams(500)),
    "many-2000": Figure("2,000 streams, 200 ms between", "s", many.streams(2000)),
    "many-2000-first": Figure("… the last one's first text", "s", many.streams(2000, is_first=True)),
    "many-4000": Figure("4,000 streams, 200 ms between", "s", many.streams(4000)),
    **{
        f"{name}-{peer}": Figure(f"… by the client {peer}", unit, measure(peer))
        for peer in peers.PEERS
        for name, unit, measure in (
            ("W1", "µs/chunk", peers.one_stream),
            ("W3", "µs/chunk", peers.many_streams),
            ("W4", "ms", peers.first_text),
            ("W5", "ms", peers.plain_request),
        )
    },
    "call": Figure("scripted call: instruct", "µs/call", call.per_call(call.plain)),
    "call-template": Figure("… with a variable", "µs/call", call.per_call(call.template)),
    "call-sections": Figure("… with examples and context", "µs/call", call.per_call(call.sections)),
    "call-chat": Figure("… chat, second turn of two", "µs/call", call.per_call(call.chat, calls=2)),
    "call-typed": Figure("… format=Person", "µs/call", call.per_call(call.typed)),
    "call-100": Figure("… 100 at once", "µs/call", call.per_call(call.plain, 100)),
    "call-typed-100": Figure("… format=Person, 100 at once", "µs/call", call.per_call(call.typed, 100)),
    "telemetry-call": Figure(
        "traced call : a span by hand", "µs/call", telemetry.per_call(is_floor_by_hand=True), 1.4, 1.7
    ),
    "telemetry-spans": Figure(
        "… spans alone", "µs/call", telemetry.per_call(is_floor_by_hand=True, has_metrics=False), 1.35, 1.7
    ),
    "telemetry-more": Figure("more than off : by hand, spans alone", "µs/call", telemetry.more(has_metrics=False)),
    "telemetry-more-metrics": Figure("… with metrics", "µs/call", telemetry.more(has_metrics=True)),
    "telemetry-more-collected": Figure(
        "… and their collection", "µs/call", telemetry.more(has_metrics=True, is_collected=True)
    ),
    "telemetry-delta": Figure(
        "traced : off, 20,000 deltas", "µs/delta", telemetry.per_call(is_floor_by_hand=False, answer=20_000), 1.1, 1.25
    ),
    "record-more": Figure(
        "recorded: more for the caller", "µs/call", record.more(content=False, is_of_caller=True), 40
    ),
    "record-more-content": Figure("… with content", "µs/call", record.more(content=True, is_of_caller=True), 40),
    "record-all": Figure("… and for the writer", "µs/call", record.more(content=False, is_of_caller=False)),
    "record-all-content": Figure("… with content", "µs/call", record.more(content=True, is_of_caller=False)),
    "record-delta": Figure("recorded with content : off", "µs/delta", record.per_delta),
    "record-size": Figure("file after 10,000 calls", "MB", record.size(content=False)),
    "record-size-content": Figure("… with content", "MB", record.size(content=True)),
    **{
        f"way-{what}": Figure(f"{what} to the first chunk", what, way.count(what), most)
        for what, most in (("calls", 240), ("functions", 138), ("files", 29))
    },
    **{
        f"delta-{what}": Figure(f"{what} for each chunk", what, way.count(what, per_chunk=True), most)
        for what, most in (("calls", 28), ("functions", 21), ("files", 9))
    },
    "S1": Figure("scripted, 1 delta at a time", "µs/delta", scripted.per_delta(wire.by_text, 1)),
    "S1-events": Figure("… thunk.events()", "µs/delta", scripted.per_delta(wire.by_events, 1)),
    "S1-polling": Figure("… thunk.astream()", "µs/delta", scripted.per_delta(wire.by_polling, 1)),
    "S20": Figure("scripted, 20 deltas at a time", "µs/delta", scripted.per_delta(wire.by_text, 20)),
    "S20-events": Figure("… thunk.events()", "µs/delta", scripted.per_delta(wire.by_events, 20)),
    "S200": Figure("scripted, 200 streams of 200", "µs/delta", scripted.per_delta(wire.by_text, 1, 200)),
    "growth": Figure("200,000 deltas : 1,000", "µs/delta", scripted.growth(wire.by_text), 1.1, 1.25),
    "growth-events": Figure("… thunk.events()", "µs/delta", scripted.growth(wire.by_events), 1.1, 1.25),
    "growth-polling": Figure("… astream(), 2,000 : 500", "µs/delta", scripted.polling_growth),
    "items-1k": Figure(
        "items of 1 kB : one final parse",
        "ms",
        structured.items_of(1_000),
    ),
    "items-10k": Figure(
        "items of 10 kB : one final parse",
        "ms",
        structured.items_of(10_000),
    ),
    "items-100k": Figure(
        "items of 100 kB : one final parse",
        "ms",
        structured.items_of(100_000),
    ),
    "items-1M": Figure(
        "items of 1 MB : one final parse",
        "ms",
        structured.items_of(1_000_000),
    ),
    "items-10M": Figure(
        "items of 10 MB : one final parse",
        "ms",
        structured.items_of(10_000_000),
    ),
    "partials-1k": Figure(
        "partials of 1 kB : one final parse",
        "ms",
        structured.partials_of(1_000),
    ),
    "partials-10k": Figure(
        "partials of 10 kB : one final parse",
        "ms",
        structured.partials_of(10_000),
    ),
    "partials-100k": Figure(
        "partials of 100 kB : one final parse",
        "ms",
        structured.partials_of(100_000),
    ),
    "partials-1M": Figure(
        "partials of 1 MB : one final parse",
        "ms",
        structured.partials_of(1_000_000),
    ),
    "partials-10M": Figure(
        "partials of 10 MB : one final parse",
        "ms",
        structured.partials_of(10_000_000),
    ),
    "reparse-1k": Figure(
        "partials of 1 kB : a parse at each delta",
        "ms",
        structured.instead_of_parsing(1_000),
    ),
    "reparse-10k": Figure(
        "partials of 10 kB : a parse at each delta",
        "ms",
        structured.instead_of_parsing(10_000),
        1.0,
        1.25,
    ),
    "reparse-100k": Figure(
        "partials of 100 kB : a parse at each delta",
        "ms",
        structured.instead_of_parsing(100_000),
        0.1,
        0.15,
    ),
    "growth-items": Figure(
        "thunk.items(), 200,000 : 1,000", "µs/delta", structured.growth(structured.by_items), 1.1, 1.25
    ),
    "growth-partials": Figure("… thunk.partials()", "µs/delta", structured.growth(structured.by_partials), 1.1, 1.25),
    "memory": Figure("1,000 thunks of 2,500 characters", "kB", scripted.memory(500), 3.0, 3.0),
    "memory-short": Figure("… of 500 characters", "kB", scripted.memory(100)),
    "turn": Figure("one more turn after 4,000", "ms", history.one_more_turn, 25, 50),
    "agent-step": Figure("a step of an agent with 20 tools", "µs/step", agents.step, 1000),
    **{
        f"agent-step-{peer}": Figure(f"… of {peer} : of ours", "µs/step", agents.step_of_peer(peer))
        for peer in agents.PEERS
    },
    "agent-growth": Figure("an agent's steps, 500 : 50", "µs/step", agents.growth, 1.2, 1.5),
    "turn-growth": Figure("4,000 turns : 400", "µs/turn", history.growth, 1.5, 2.0),
    "import": Figure("import mellea", "s", startup.import_time, 0.1, 0.2),
    "first-text": Figure("first text, fresh process", "s", startup.first_text, 1.15, 1.5),
    "engine-1": Figure("embedded model, 1 stream", "tokens/s", engine.speed(1), 0.95, 0.8, is_rate=True),
    "engine-4": Figure("embedded model, 4 streams", "tokens/s", engine.speed(4), 0.95, 0.8, is_rate=True),
}
