"""Whatever stands in a name, an id or a count: no key leaves the program, and nothing else is lost because of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

import mellea
from mellea.core import Usage
from mellea.core.events import StreamEnd
from mellea.errors import BackendError, MelleaError
from mellea.telemetry import recorder
from mellea.telemetry.page import render_trace
from mellea.testing import ScriptedBackend
from mellea.traces import read_run, read_runs, record
from tests.telemetry.conftest import Seen

KEY = "sk-planted-0123456789abcdef"
TOKEN = "a token of no known shape 12"

Enable = Callable[..., Seen]


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PLANTED_TOKEN", TOKEN)
    yield


def ask_with_keys_everywhere() -> None:
    """Put a key wherever a text that isn't content comes from: the program, its options, and the server."""
    answer = ["a", StreamEnd("stop", model=f"model {KEY}", response_id=f"id {TOKEN}")]
    m = mellea.start_session(ScriptedBackend(answer))
    m.id = f"session {KEY}"
    m.instruct("x", name=f"call {TOKEN} {KEY}", model_options={"stop": [KEY, TOKEN]})

    @mellea.trace(name=f"function {KEY}")
    def work() -> None: ...

    work()


def test_no_span_and_no_metric_has_a_key_in_any_field_without_content(enabled: Enable) -> None:
    seen = enabled()
    with mellea.traces.start(f"trace {KEY}"):
        ask_with_keys_everywhere()
    found = seen.text()
    assert "call ***" in found and "model ***" in found
    assert KEY not in found and TOKEN not in found


@pytest.mark.parametrize("content", [False, True])
def test_no_record_has_a_key_in_any_field(tmp_path: Path, content: bool) -> None:
    file = tmp_path / "runs.db"
    with record(file, content=content) as recording, mellea.traces.start(f"trace {KEY}"):
        ask_with_keys_everywhere()
        recording.flush()
        whole = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    whole += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"call ***" in whole
    assert KEY.encode() not in whole and TOKEN.encode() not in whole


def test_no_page_and_no_repr_of_a_trace_has_a_key() -> None:
    with mellea.traces.start(f"trace {KEY}") as t:
        ask_with_keys_everywhere()
    shown = render_trace(t) + repr(t) + repr(t.spans) + str(t.tree())
    assert "call ***" in shown
    assert KEY not in shown and TOKEN not in shown


def test_no_log_has_a_key_that_a_server_names_its_model_or_its_answer_by(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mellea")
    ask_with_keys_everywhere()
    assert "model ***" in caplog.text
    assert KEY not in caplog.text and TOKEN not in caplog.text


def test_no_error_quotes_a_key_from_another_library(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BackendError, match=r"RuntimeError: cannot reach \*\*\*"):
        mellea.start_session(ScriptedBackend([RuntimeError(f"cannot reach {KEY}")])).instruct("x")

    class Hook(mellea.Observer):
        def before_request(self, request: Any) -> None:
            raise ValueError(f"no {KEY}")

    with mellea.observe(Hook()), pytest.raises(MelleaError) as caught:
        mellea.start_session(ScriptedBackend("a")).instruct("x")
    assert "ValueError: no ***" in str(caught.value) and KEY not in str(caught.value)


ODD: list[dict[str, Any]] = [
    {"usage": Usage(10**30, 5)},
    {"model_options": {"seed": 2**70}},
    {"model_options": {"max_tokens": 2**70}},
    {"model_options": {"stop": ["\ud800"]}},
    {"reply": ["a", StreamEnd("stop", model="m\ud800", response_id="\udfff")]},
    {"reply": ["a", StreamEnd("odd\ud800")]},  # type: ignore[arg-type]
    {"name": "half \ud800"},
]


def ask_oddly(reply: Any = "a", usage: Usage | None = None, name: str = "odd", **options: Any) -> None:
    m = mellea.start_session(ScriptedBackend(reply, usage=usage))
    assert str(m.instruct("x", name=name, **options)) == "a"


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_value_that_no_exporter_takes_is_changed_so_that_it_can_be_sent(
    enabled: Enable, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen = enabled()
    ask_oddly(**odd)
    (span,) = seen.spans
    (sent,) = encode_spans([span]).resource_spans[0].scope_spans[0].spans
    assert {each.key for each in sent.attributes} == set(span.attributes or {})
    assert not caplog.records


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_value_that_no_file_takes_costs_neither_its_span_nor_others(
    tmp_path: Path, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with record(tmp_path / "runs.db"):
        mellea.start_session(ScriptedBackend("a")).instruct("x", name="before")
        ask_oddly(**odd)
        mellea.start_session(ScriptedBackend("a")).instruct("x", name="after")
    runs = read_runs(tmp_path / "runs.db")
    assert [run["name"] for run in runs] == ["after", odd.get("name", "odd").replace("\ud800", "�"), "before"]
    assert all(read_run(tmp_path / "runs.db", run["id"])[0]["status"] == "ok" for run in runs)
    assert not caplog.records


def test_what_can_not_be_written_for_any_reason_is_logged_and_the_next_calls_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any, **named: Any) -> Any:
        raise ZeroDivisionError(f"nobody expected {KEY}")

    m = mellea.start_session(ScriptedBackend("a"))
    with record(tmp_path / "runs.db") as recording:
        with monkeypatch.context() as patched:
            patched.setattr(recorder, "describe_span", fail)
            m.instruct("x", name="lost")
            recording.flush()
        m.instruct("x", name="kept")
    assert [run["name"] for run in read_runs(tmp_path / "runs.db")] == ["kept"]
    (logged,) = caplog.records
    assert "nobody expected ***" in logged.getMessage()
