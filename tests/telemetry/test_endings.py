"""Ten ways to end a stream: each ends its spans once, marked as what it was, without a usage that nobody told.

So they are seen by the SDK's exporter in memory, by an OTLP receiver on loopback, and in the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode

import mellea
from mellea.core import Usage
from mellea.core.events import UsageEvent
from mellea.errors import DeadlineError, OverloadedError
from mellea.testing import Pause, ScriptedBackend
from mellea.traces import Recording, read_run, read_runs, record
from tests.telemetry.conftest import Seen
from tests.telemetry.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]

Enable = Callable[[], "Witnesses"]


@dataclass
class Witnesses:
    """Who sees the spans: the SDK's exporter in memory, an OTLP receiver, and a record."""

    seen: Seen
    receiver: Receiver
    recording: Recording

    @property
    def spans(self) -> list[ReadableSpan]:
        return self.seen.spans

    def received(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and attributes of the spans that the receiver got; an error is an attribute, too."""
        self.seen.tracers.force_flush()
        return [
            (span.name, {each.key: each.value.string_value for each in span.attributes} | {"code": span.status.code})
            for span in self.receiver.spans
        ]

    def recorded(self) -> list[dict[str, Any]]:
        self.recording.flush()
        (run,) = read_runs(self.recording.path)
        return read_run(self.recording.path, run["id"])


@pytest.fixture
def enabled(enabled: Callable[[], Seen], receiver: Receiver, tmp_path: Path) -> Iterator[Enable]:
    ends: list[Callable[[], None]] = []
    with record(tmp_path / "runs.db", content=True) as recording:

        def enable() -> Witnesses:
            seen = enabled()
            exporter = OTLPSpanExporter(f"http://127.0.0.1:{receiver.server_port}/v1/traces")
            seen.tracers.add_span_processor(BatchSpanProcessor(exporter))
            ends.append(seen.tracers.shutdown)
            return Witnesses(seen, receiver, recording)

        yield enable
    for end in ends:
        end()


FOREVER = Pause(float("inf"))


def endless() -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(["a", "b", FOREVER], usage=Usage(1, 1)))


@mellea.trace
def stream(m: mellea.MelleaSession) -> Iterator[str]:
    yield from m.stream("x")


@mellea.trace(name="stream")
async def astream(m: mellea.MelleaSession) -> AsyncIterator[str]:
    async for chunk in m.astream("x"):
        yield chunk


def assert_ended(seen: Witnesses, kind: str = "cancelled", *, spans: int = 2) -> None:
    """Both spans come, once, as what they were."""
    until = time.monotonic() + 30
    while len(seen.spans) < spans and time.monotonic() < until:
        gc.collect()
        time.sleep(0.005)
    _assert_spans(seen, kind, spans)


async def assert_ended_async(seen: Witnesses, kind: str = "cancelled", *, spans: int = 2) -> None:
    with anyio.move_on_after(30):
        while len(seen.spans) < spans:
            gc.collect()
            await anyio.sleep(0.005)
    _assert_spans(seen, kind, spans)


def _assert_spans(seen: Witnesses, kind: str, spans: int) -> None:
    assert sorted(span.name for span in seen.spans) == ["chat script", "stream"][:spans]
    for span in seen.spans:
        found = dict(span.attributes or {})
        assert found.get("error.type") == kind, (span.name, found)
        assert span.status.status_code is StatusCode.ERROR
        assert "gen_ai.usage.input_tokens" not in found and "gen_ai.usage.output_tokens" not in found
    assert len({span.context.trace_id for span in seen.spans if span.context}) == 1
    _assert_others(seen, kind, spans)


def _assert_others(seen: Witnesses, kind: str, spans: int) -> None:
    received, recorded = seen.received(), seen.recorded()
    assert sorted(name for name, _ in received) == ["chat script", "stream"][:spans]
    assert all(found["error.type"] == kind and found["code"] == 2 for _, found in received)
    assert not [name for _, found in received for name in found if "usage" in name]
    assert len(recorded) == spans
    for span in recorded:
        assert span["status"] == ("cancelled" if kind == "cancelled" else "error") and span["error_type"] == kind
        assert "seconds" in span and not {"input_tokens", "output_tokens"} & span.keys()
        assert span.get("cost") == (0 if kind == "OverloadedError" and span["is_request"] else None)  # it was refused


def test_1_break(enabled: Enable) -> None:
    seen = enabled()
    for _ in stream(endless()):
        break
    assert_ended(seen)


async def test_2_cancel(enabled: Enable) -> None:
    seen, m = enabled(), endless()
    async with anyio.create_task_group() as group:

        async def read() -> None:
            async for _ in astream(m):
                started.set()

        started = anyio.Event()
        group.start_soon(read)
        await started.wait()
        group.cancel_scope.cancel()
    await assert_ended_async(seen)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # trio says so of every one that is dropped
async def test_3_drop(enabled: Enable) -> None:
    seen, m = enabled(), endless()
    parts = astream(m)
    await anext(parts)
    del parts
    await assert_ended_async(seen)


async def test_4_time_out(enabled: Enable) -> None:
    """The reader's own time-out."""
    seen, m = enabled(), endless()
    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        async for _ in astream(m):
            pass
    await assert_ended_async(seen)


async def test_4_deadline(enabled: Enable) -> None:
    """The request's deadline is a failure."""
    seen, m = enabled(), endless()
    m.model_options = {"timeout": mellea.Deadlines(total=0.05)}
    with pytest.raises(DeadlineError):
        async for _ in astream(m):
            pass
    await assert_ended_async(seen, "DeadlineError")


async def test_5_failure(enabled: Enable) -> None:
    seen, m = enabled(), mellea.start_session(ScriptedBackend(["a", OverloadedError("busy")]))
    with pytest.raises(OverloadedError):
        async for _ in astream(m):
            pass
    await assert_ended_async(seen, "OverloadedError")


def test_6_loop_closed(enabled: Enable) -> None:
    seen, m = enabled(), endless()
    loop = asyncio.new_event_loop()
    parts = astream(m)
    loop.run_until_complete(anext(parts))
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.close()
    del parts
    gc.collect()
    until = time.monotonic() + 30
    while len(seen.spans) < 2 and time.monotonic() < until:
        time.sleep(0.005)
    kinds = {span.name: dict(span.attributes or {}).get("error.type") for span in seen.spans}
    assert kinds == {"chat script": "StreamingError", "stream": "cancelled"}  # the loop was lost, the reader left
    assert {name: found["error.type"] for name, found in seen.received()} == kinds
    assert [span["error_type"] for span in seen.recorded()] == ["cancelled", "StreamingError"]


PROGRAM = """
    import mellea
    from mellea.testing import Pause, ScriptedBackend

    m = mellea.start_session(ScriptedBackend(["a", Pause(float("inf"))]))

    @mellea.trace
    def stream():
        yield from m.stream("x")

    parts = stream()
    print(next(parts))
    # The program ends while the stream is open.
"""


def test_7_process_ended(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "MELLEA_TELEMETRY": "console", "MELLEA_TRACES": str(file)},
    )
    assert done.returncode == 0 and done.stdout == "a\n", done.stderr
    lines = [line for line in done.stderr.splitlines() if "error.type='cancelled'" in line]
    assert sorted(line.split("  ")[0] for line in lines) == ["chat script", "stream"], done.stderr
    assert "usage" not in done.stderr
    (run,) = read_runs(file)
    spans = read_run(file, run["id"])
    assert [(span["kind"], span["status"]) for span in spans] == [("function", "cancelled"), ("call", "cancelled")]
    assert "input_tokens" not in run and "cost" not in run


async def test_8_client_gone(enabled: Enable) -> None:
    """As a web server does it: the response's iterator is closed by the server when the client has left."""
    seen, m = enabled(), endless()

    async def response(send: Any) -> None:
        async with contextlib.aclosing(astream(m)) as parts:
            async for part in parts:
                await send(part)

    async def send(part: str) -> None:
        raise ConnectionResetError("the client has left")

    with pytest.raises(ConnectionResetError):
        await response(send)
    await assert_ended_async(seen)


async def test_9_close(enabled: Enable) -> None:
    seen, m = enabled(), endless()
    parts = astream(m)
    await anext(parts)
    await parts.aclose()  # type: ignore[attr-defined]
    await assert_ended_async(seen)


def test_9_close_of_a_plain_stream(enabled: Enable) -> None:
    seen = enabled()
    parts = stream(endless())
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert_ended(seen)


def test_10_generator_exit(enabled: Enable) -> None:
    seen = enabled()
    parts = stream(endless())
    next(parts)
    with pytest.raises(GeneratorExit):
        parts.throw(GeneratorExit())  # type: ignore[attr-defined]
    assert_ended(seen)


async def test_the_usage_that_a_provider_told_before_the_end_is_kept(enabled: Enable) -> None:
    seen = enabled()
    m = mellea.start_session(ScriptedBackend([UsageEvent(Usage(7)), "a", FOREVER]))
    async with m.astream("x") as parts:
        async for _ in parts:
            break
    with anyio.move_on_after(30):
        while not seen.spans:
            await anyio.sleep(0.005)
    (span,) = seen.spans
    found = dict(span.attributes or {})
    assert found["gen_ai.usage.input_tokens"] == 7 and "gen_ai.usage.output_tokens" not in found
    assert found["error.type"] == "cancelled"


async def test_a_stream_that_is_read_to_its_end_has_no_mark(enabled: Enable) -> None:
    seen = enabled()
    m = mellea.start_session(ScriptedBackend(["a", "b"], usage=Usage(1, 2)))
    assert [part async for part in astream(m)] and len(seen.spans) == 2
    assert all(span.status.status_code is StatusCode.UNSET for span in seen.spans)
    assert all("error.type" not in (span.attributes or {}) for span in seen.spans)
