"""Recorded runs, sent to an OTLP receiver: the same names as spans that are sent as they happen."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import mellea
from mellea.core import ToolCall, Usage
from mellea.core.events import KeepAlive, ToolEnd
from mellea.errors import BackendError, OverloadedError, UsageError
from mellea.stdlib.requirements import check, simple_validate
from mellea.telemetry import export
from mellea.telemetry.export import export_runs
from mellea.testing import ScriptedBackend
from mellea.traces import read_runs, record
from tests.telemetry.conftest import Seen
from tests.telemetry.receiver import Receiver

Plain = dict[str, Any]


def use_everything() -> None:
    def look(place: str) -> str:
        """Look."""
        return "rain"

    fine = check("is yes", validation_fn=simple_validate(lambda text: (text == "yes", "it is no")))
    call = ToolEnd(ToolCall("1", "look", {"place": "Oslo"}))
    replies = ["no", "yes", [call], [KeepAlive(is_restart=True), "wet"], OverloadedError("busy")]
    m = mellea.start_session(ScriptedBackend(*replies, usage=Usage(3, 4)))
    with mellea.traces.start("program"):
        m.instruct("x", name="pick", requirements=[fine])
        thunk = m.instruct("y", tools=[look], tool_calls="run")
        with pytest.raises(OverloadedError):
            m.instruct("{{about}}", user_variables={"about": thunk})


def plain(spans: list[Any]) -> list[Plain]:
    """What of spans is the same however they were sent: no ids and no times, but who is whose child."""
    names = {span.span_id: span.name for span in spans}
    found = [
        {
            "name": span.name,
            "parent": names.get(span.parent_span_id),
            "kind": span.kind,
            "status": (span.status.code, span.status.message),
            "attributes": sorted(str(each) for each in span.attributes if "time_to_first" not in each.key),
            "events": [(event.name, sorted(map(str, event.attributes))) for event in span.events],
            "links": [names.get(link.span_id) for link in span.links],
        }
        for span in spans
    ]
    return sorted(found, key=str)


@pytest.mark.parametrize("content", [False, True])
def test_a_receiver_sees_recorded_spans_as_those_that_are_sent_as_they_happen(
    enabled: Callable[..., Seen], receiver: Receiver, tmp_path: Path, content: bool
) -> None:
    address = f"http://127.0.0.1:{receiver.server_port}"
    seen = enabled(content=content)
    seen.tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{address}/v1/traces")))
    with record(tmp_path / "runs.db", content=content):
        use_everything()
    seen.tracers.shutdown()
    live = plain(receiver.spans)
    receiver.spans.clear()
    assert export_runs(tmp_path / "runs.db", address) == len(live) == 15
    for sent, seen_live in zip(plain(receiver.spans), live, strict=True):
        assert sent == seen_live
    first = [(span.trace_id, span.span_id) for span in receiver.spans]
    receiver.spans.clear()
    export_runs(tmp_path / "runs.db", f"{address}/v1/traces/", [read_runs(tmp_path / "runs.db")[0]["id"]])
    assert [(span.trace_id, span.span_id) for span in receiver.spans] == first, "a span has the same ids each time"
    assert len({trace for trace, _ in first}) == 1 and len(set(first)) == 15


def test_a_lost_span_is_an_error_and_one_that_runs_is_left_out(receiver: Receiver, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{receiver.server_port}"
    with record(tmp_path / "runs.db") as recording, mellea.traces.start("program"):
        mellea.start_session(ScriptedBackend("a")).instruct("x")
        recording.flush()
        assert export_runs(tmp_path / "runs.db", address) == 1
    with sqlite3.connect(tmp_path / "runs.db") as connection:  # as a killed process leaves it
        connection.execute("UPDATE spans SET status = 'running', seconds = NULL WHERE parent IS NULL")
    connection.close()
    receiver.spans.clear()
    assert export_runs(tmp_path / "runs.db", address) == 2
    (lost,) = (span for span in receiver.spans if span.name == "program")
    assert lost.status.code == 2 and lost.attributes[0].value.string_value == "lost"
    assert lost.end_time_unix_nano == lost.start_time_unix_nano


def test_a_receiver_that_isnt_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A second isn't enough: the exporter says why when it tries again, after 0.8 to 1.2 s.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    with record(tmp_path / "runs.db"):
        mellea.start_session(ScriptedBackend("a")).instruct("x")
    with pytest.raises(
        BackendError, match=r"the receiver at http://127.0.0.1:9 didn't accept run 1: Connection refused$"
    ):
        export_runs(tmp_path / "runs.db", "http://127.0.0.1:9")


def test_a_receiver_that_refuses_is_an_error_with_its_words(receiver: Receiver, tmp_path: Path) -> None:
    with record(tmp_path / "runs.db"):
        mellea.start_session(ScriptedBackend("a")).instruct("x")
    receiver.status = 401
    with pytest.raises(BackendError, match=r"didn't accept run 1: Unauthorized$"):
        export_runs(tmp_path / "runs.db", f"http://127.0.0.1:{receiver.server_port}")


@pytest.mark.parametrize(
    "wrong", ["nonsense", "localhost:4318", "http://", "http://[::1", "ftp://x", "http://x:port", "", 4318, None]
)
def test_what_is_no_address_is_refused_at_once(tmp_path: Path, wrong: Any) -> None:
    with record(tmp_path / "runs.db"):
        mellea.start_session(ScriptedBackend("a")).instruct("x")
    with pytest.raises(UsageError, match="the address of a receiver is a URL such as"):
        export_runs(tmp_path / "runs.db", wrong)
    with pytest.raises(UsageError) as caught:
        export_runs(tmp_path / "runs.db", "localhost?api_key=planted")
    assert "planted" not in str(caught.value)


def test_a_query_stays_behind_the_path(receiver: Receiver, tmp_path: Path) -> None:
    with record(tmp_path / "runs.db"):
        mellea.start_session(ScriptedBackend("a")).instruct("x")
    assert export_runs(tmp_path / "runs.db", f"http://127.0.0.1:{receiver.server_port}/otlp/?key=x") == 1
    assert receiver.paths == ["/otlp/v1/traces?key=x"]


def test_no_log_and_no_error_has_the_password_of_the_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")  # in the first second it is tried once more, which is logged
    with record(tmp_path / "runs.db"):
        mellea.start_session(ScriptedBackend("a")).instruct("x")
    with pytest.raises(BackendError) as caught:
        export_runs(tmp_path / "runs.db", "http://ada:sesame@127.0.0.1:9/?key=planted")
    assert caplog.text == "" and "/?key=***" in str(caught.value)
    for secret in ("sesame", "planted"):
        assert secret not in caplog.text and secret not in str(caught.value)


def test_without_the_extra_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    program = """
        import sys
        from importlib.abc import MetaPathFinder

        class Missing(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "opentelemetry":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Missing())
        from mellea.errors import MissingExtraError
        from mellea.telemetry.export import export_runs
        try:
            export_runs("runs.db", "http://127.0.0.1:9")
        except MissingExtraError as error:
            assert "pip install 'mellea[telemetry]'" in str(error)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_a_long_run_is_sent_in_parts(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_MOST_AT_ONCE", 4)
    m = mellea.start_session(ScriptedBackend("a"))
    with record(tmp_path / "runs.db"), mellea.traces.start("t"):
        for _ in range(9):
            m.instruct("x")
    assert export_runs(tmp_path / "runs.db", receiver.url) == 10
    assert len(receiver.spans) == 10
    assert len({span.trace_id for span in receiver.spans}) == 1
