"""The server of the page: who gets it, and what is new for those who have it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import mellea
from mellea.backends.openai import OpenAIBackend
from mellea.core.observer import begin_span
from mellea.errors import ConnectError, UsageError
from mellea.telemetry.page import PageServer, serve_page
from mellea.testing import Gate, Pause, ScriptedBackend
from mellea.traces import read_run, read_runs
from tests.waiting import until_here


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "runs.db"
    with mellea.traces.record(path, content=True):
        mellea.start_session(ScriptedBackend("Blue.")).instruct("What colour is the sea?", name="colour")
    return path


@pytest.fixture(scope="module")
def server(database: Path) -> Iterator[PageServer]:
    with serve_page(database) as served:
        yield served


def _ask(server: PageServer, path: str = "", *, body: Any = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    try:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", address.path + path, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_it_gives_the_page_of_the_newest_run(server: PageServer) -> None:
    status, page, headers = _ask(server)
    assert status == 200 and "What colour is the sea?" in page and "Blue." in page
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"


def test_it_listens_on_this_machine_alone(server: PageServer) -> None:
    assert urlsplit(server.url).hostname == "127.0.0.1"
    assert server._server.server_address[0] == "127.0.0.1"


def test_without_the_token_it_gives_nothing(server: PageServer) -> None:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    for path in ("/", "/wrong/", "/%C3%A9/", f"{address.path[:-2]}/", "//", "/..", "/*"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404 and b"colour" not in answer.read()
    connection.close()
    assert address.path.strip("/") not in repr(server)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:1", "localhost", ""])
def test_another_host_is_refused(server: PageServer, host: str) -> None:
    status, page, _ = _ask(server, Host=host)
    assert status == 403 and "colour" not in page


def test_localhost_is_a_name_of_it(server: PageServer) -> None:
    assert _ask(server, Host=f"localhost:{urlsplit(server.url).port}")[0] == 200


def test_a_page_of_another_site_is_refused(server: PageServer) -> None:
    assert _ask(server, "changes?run=1", body={}, Origin="https://evil.example")[0] == 403
    assert _ask(server, "changes?run=1", body={}, Origin=server.url.partition("/?")[0])[0] == 200


@pytest.mark.parametrize("path", ["x", "changes", "../", "?run=x", "?run=99", "?run=1&run=2", "?run=" + "9" * 40])
def test_anything_else_is_refused_in_words(server: PageServer, path: str) -> None:
    status, text, _ = _ask(server, path)
    assert status in (400, 404) and text.endswith("\n") and "Traceback" not in text


@pytest.mark.parametrize(
    "body",
    [
        [],
        1,
        {"running": {"x": 0}},
        {"last": None},
        {"running": 3},
        {"running": []},
        {"running": {"1": None}},
        {"running": {"1": -1}},
        {"last": 2**64},
        {"last": -1},
    ],
)
def test_what_a_page_may_not_say_is_refused(server: PageServer, body: Any) -> None:
    assert _ask(server, "changes?run=1", body=body)[0] in (400, 404)


def test_a_body_that_is_too_large_is_not_read(server: PageServer) -> None:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.putrequest("POST", address.path + "changes")
    connection.putheader("Content-Length", "100000000000")
    connection.endheaders()
    assert connection.getresponse().status == 404
    connection.close()


def test_a_record_or_run_that_is_not_there_is_an_error_at_once(tmp_path: Path, database: Path) -> None:
    with pytest.raises(UsageError, match="no record"):
        serve_page(tmp_path / "none.db")
    with pytest.raises(UsageError, match="no run 99"):
        serve_page(database, run=99)


@pytest.mark.parametrize("port", [-1, 65_536, "80", True, 1.5])
def test_what_is_no_port_is_refused(database: Path, port: Any) -> None:
    with pytest.raises(UsageError, match="port takes a number from 0"):
        serve_page(database, port=port)


def test_only_what_has_changed_comes(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    with mellea.traces.record(path) as recording:
        outer = begin_span("trace", "outer")
        assert outer is not None
        inner = begin_span("tool", "inner", parent=outer)
        assert inner is not None
        recording.flush()
        with serve_page(path) as server:
            ids = {span["name"]: span["id"] for span in _changes(server, 0, [])}
            last = max(ids.values())
            assert _changes(server, last, list(ids.values())) == []
            inner.end()
            late = begin_span("tool", "late", parent=outer)
            assert late is not None
            recording.flush()
            changes = _changes(server, last, list(ids.values()))
            assert [(span["name"], span["status"]) for span in changes] == [("late", "running"), ("inner", "ok")]
            late.end(), outer.end()  # type: ignore[func-returns-value]
            recording.flush()
            last = max(span["id"] for span in changes)
            assert {span["name"] for span in _changes(server, last, [ids["outer"], last])} == {"outer", "late"}


def test_a_text_that_grows_comes_when_there_is_more_of_it(tmp_path: Path) -> None:
    path, gates = tmp_path / "live.db", [Gate() for _ in range(2)]
    m = mellea.start_session(
        ScriptedBackend(["one ", "two ", Pause(0.4), "three ", gates[0], "four ", gates[1], "five"])
    )
    with mellea.traces.record(path, content=True), ThreadPoolExecutor(1) as threads:
        done = threads.submit(m.instruct, "count")
        try:
            until_here(lambda: path.exists() and bool(read_runs(path)))
            with serve_page(path) as server:
                until_here(lambda: _answers(_changes(server, 0, [])) == ["one two three "])
                assert _changes(server, 1, [1], came=len("one two three ")) == []
                (span,) = _changes(server, 1, [1], came=len("one two "))
                assert span["status"] == "running" and sum(length for _, length in span["chunks"]) == 14
                assert span["messages"][-1]["parts"][0]["content"] == "count"
                gates[0].open()
                until_here(lambda: _answers(_changes(server, 1, [1], came=14)) == ["one two three four "])
        finally:
            for gate in gates:
                gate.open()
        assert str(done.result(10)) == "one two three four five"
    (span,) = read_run(path, 1)
    assert _answers([span]) == ["one two three four five"] and span["status"] == "ok"


def _answers(spans: list[dict[str, Any]]) -> list[str]:
    return ["".join(part["content"] for part in span["answer"]["parts"]) for span in spans if "answer" in span]


def _changes(server: PageServer, last: int, running: list[int], *, came: int = 0) -> list[dict[str, Any]]:
    status, text, _ = _ask(server, "changes?run=1", body={"last": last, "running": dict.fromkeys(running, came)})
    assert status == 200
    found = json.loads(text)["spans"]
    assert isinstance(found, list)
    return found


def test_a_closed_server_is_gone(database: Path) -> None:
    with serve_page(database) as server:
        assert _ask(server)[0] == 200
    with pytest.raises(OSError):
        _ask(server)
    server.close()


def test_a_connection_that_was_open_gets_nothing_from_a_closed_server(database: Path) -> None:
    with serve_page(database) as server:
        address = urlsplit(server.url)
        idle = http.client.HTTPConnection(address.netloc, timeout=10)
        idle.connect()
        assert _ask(server)[0] == 200
    idle.request("GET", address.path)
    try:
        answer = idle.getresponse()
        assert answer.status == 403 and b"colour" not in answer.read()
    except OSError:
        pass  # it was never accepted
    finally:
        idle.close()


def test_planted_secrets_are_not_on_the_page_of_a_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, password = "sk-planted-key-1234567890", "hunter2-planted-password"
    path = tmp_path / "runs.db"
    backend = OpenAIBackend("m", base_url="http://127.0.0.1:9/v1", api_key=key, retries=0)
    with mellea.traces.record(path), mellea.traces.start("planted"):
        mellea.start_session(ScriptedBackend(f"It is {password}.")).instruct(f"My password is {password}.")
        with pytest.raises(ConnectError):
            mellea.start_session(backend).instruct(f"{password} {key}")
    with serve_page(path) as server:
        shown = _ask(server)[1] + json.dumps(_changes(server, 0, []))
    assert '"planted"' in shown and "ConnectError" in shown
    assert key not in shown and password not in shown
    assert key not in caplog.text and password not in caplog.text
