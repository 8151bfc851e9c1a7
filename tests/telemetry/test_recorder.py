"""The record: what a program did, in an SQLite file, whatever happens to the program."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
from mellea.backends.openai import OpenAIBackend
from mellea.core import ToolCall, Usage
from mellea.core.events import KeepAlive, ToolEnd
from mellea.core.masking import list_known_secrets
from mellea.core.observer import add_observer, remove_observer
from mellea.core.sqlite import Database
from mellea.errors import ConfigurationError, ConnectError, OverloadedError, StateError, UsageError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import check, simple_validate
from mellea.telemetry import run_file
from mellea.telemetry.page import render_page
from mellea.testing import Pause, ScriptedBackend
from mellea.traces import Recording, read_run, read_runs, record
from tests.telemetry.conftest import Seen

PASSWORD = "correct horse"
KEY = "planted-key-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def session(*replies: Any, **options: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **options))


def spans_of(file: Path, run: int = -1) -> list[dict[str, Any]]:
    return read_run(file, sorted(each["id"] for each in read_runs(file))[run])


def everything(file: Path) -> bytes:
    """All bytes of a record, its log and its index included."""
    return b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))


def run_program(program: str, file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_a_run_is_what_hangs_together_and_is_read_back_as_it_was_seen(file: Path) -> None:
    m = session("no", "yes", "alone", usage=Usage(3, 4))
    fine = check("is yes", validation_fn=simple_validate(lambda text: (text == "yes", "it is no")))
    with record(file):
        with mellea.traces.start("program") as t:
            m.instruct("x", name="pick", requirements=[fine])
        m.instruct("y", name="alone")
    alone, program = read_runs(file)
    assert (alone["name"], alone["spans"], alone["requests"], alone["input_tokens"]) == ("alone", 1, 1, 3)
    assert (program["name"], program["spans"], program["requests"]) == ("program", 8, 2)
    assert (program["input_tokens"], program["output_tokens"], program["models"]) == (6, 8, ["script"])
    assert program["status"] == "ok" and program["content"] is False and "cost" not in program
    spans = read_run(file, program["id"])
    assert [span["kind"] for span in spans] == [span.kind for span in t.spans]
    known = {span.id: number for number, span in enumerate(t.spans)}
    ids = {span["id"]: number for number, span in enumerate(spans)}
    parents = [known.get(span.parent.id if span.parent else -1) for span in t.spans]
    assert [ids.get(span.get("parent", -1)) for span in spans] == parents
    assert [span["seconds"] for span in spans] == [span.seconds for span in t.spans]
    assert {span["run"] for span in spans} == {program["id"]}
    assert [span["is_met"] for span in spans if span["kind"] == "check"] == [False, True]
    assert json.loads(json.dumps(spans)) == spans


def test_what_runs_still_can_be_seen_and_is_written_again_at_its_end(file: Path) -> None:
    with record(file) as recording:
        with mellea.traces.start("program"):
            recording.flush()
            (run,) = read_runs(file)
            assert run["status"] == "running" and "seconds" not in run
        recording.flush()
        (run,) = read_runs(file)
        assert run["status"] == "ok" and run["seconds"] > 0


def test_it_is_written_a_moment_later_by_itself(file: Path) -> None:
    with record(file):
        for expected in (1, 2):
            session("a").instruct("x")
            until = time.monotonic() + 30
            while len(read_runs(file)) < expected and time.monotonic() < until:
                time.sleep(0.01)
            assert len(read_runs(file)) == expected


def test_links_to_ingredients_are_ids_of_the_file(file: Path) -> None:
    m = session("Rome", "It is in Italy.")
    with record(file):
        city = m.instruct("Name a city.")
        m.instruct("Where is {{city}}?", user_variables={"city": city})
    assert [span.get("links") for span in (spans_of(file, 0)[0], spans_of(file, 1)[0])] in ([None, None], [None, [1]])


def test_with_content_it_is_told_when_text_came(file: Path) -> None:
    replies = ["Good ", "mor", Pause(0.05), "ning."]
    with record(file, content=True):
        session(replies).instruct("x")
    (span,) = spans_of(file)
    assert sum(length for _, length in span["chunks"]) == len("Good morning.")
    first, last = span["chunks"][0], span["chunks"][-1]
    assert last[0] - first[0] >= 45 and last[1] == 5
    assert span["answer"]["parts"][0]["content"] == "Good morning."


def test_a_request_that_is_sent_again_says_how_often(file: Path) -> None:
    with record(file):
        session([KeepAlive(is_restart=True), "a"]).instruct("x")
    assert spans_of(file)[0]["retries"] == 1


def ask_about_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", KEY)

    def log_in(password: str) -> str:
        """Log in."""
        raise ValueError(f"{password} and {KEY} are wrong")

    call = ToolEnd(ToolCall("1", "log_in", {"password": PASSWORD, "note": f"{PASSWORD}\n{KEY}"}))
    right = check(f"is {PASSWORD}", validation_fn=simple_validate(lambda text: (False, f"{text} is wrong")))
    m = session([call], f"it is {PASSWORD}", *[f"{PASSWORD} {KEY}"] * 2, OverloadedError(f"{PASSWORD} {KEY}"))
    with mellea.traces.start("login"):
        m.instruct(f"The key is {KEY},\nthe password {PASSWORD}.", tools=[log_in], tool_calls="run")
        m.instruct(f"sk-{'a' * 30}\nsk-{'b' * 30}", requirements=[right])
        with pytest.raises(OverloadedError):
            m.instruct("x")


def test_what_is_written_twice_after_its_end_says_the_same(file: Path) -> None:
    recordings: list[Recording] = []

    class Early(mellea.Observer):
        """Has the begin of a span written when it has ended already, as a thread that is late does."""

        def end(self, span: Any) -> None:
            recordings[0].flush()

    early = Early()
    add_observer(early)  # before the recorder, so that it is told before it
    try:
        with record(file, content=True) as recording:
            recordings.append(recording)
            mellea.start_session(ScriptedBackend([KeepAlive(is_restart=True), "Once", " upon"])).instruct("x")
    finally:
        remove_observer(early)
    [span] = [each for each in spans_of(file) if each["is_request"]]
    assert span["retries"] == 1
    assert sum(length for _, length in span["chunks"]) == len("Once upon")
    assert span["answer"]["parts"] == [{"type": "text", "content": "Once upon"}]


def test_without_content_nothing_of_what_was_said_is_anywhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with record(file) as recording:
        ask_about_secrets(monkeypatch)
        recording.flush()
        assert Path(f"{file}-wal").stat().st_size, "the log is looked at, too"
        for secret in (KEY, PASSWORD, "a" * 30, "is wrong"):
            assert secret.encode() not in everything(file), secret
    assert PASSWORD.encode() not in everything(file)


def test_with_content_known_keys_and_what_looks_like_one_are_hidden(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with record(file, content=True) as recording:
        ask_about_secrets(monkeypatch)
        recording.flush()
        found = everything(file)
        assert PASSWORD.encode() in found and b"***" in found
        for secret in (KEY, "a" * 30, "b" * 30):
            assert secret.encode() not in found, secret


def test_the_key_of_a_backend_is_hidden_wherever_it_is_said(file: Path) -> None:
    key = "opaque-0123456789"
    backend = OpenAIBackend("m", base_url="http://127.0.0.1:9", api_key=key)
    short = OpenAIBackend("m", base_url="http://127.0.0.1:9", api_key="sesame")
    with record(file, content=True):
        session(f"your key is {key}").instruct(f"my key is {key}, the word sesame")
    assert key.encode() not in everything(file) and b"sesame" in everything(file)
    assert backend.api_key == key and short.api_key == "sesame"
    del backend, short
    gc.collect()
    assert key not in list_known_secrets(), "a key is forgotten with its backend"


def test_the_standard_switch_decides_about_content(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    with record(file):
        session("a").instruct(PASSWORD)
    assert spans_of(file)[0]["messages"] and read_runs(file)[0]["content"] is True
    with record(file, content=False):
        session("a").instruct(PASSWORD)
    assert "messages" not in spans_of(file)[0]


def test_a_file_is_shared_until_the_last_one_closes_it(file: Path, tmp_path: Path) -> None:
    one, two, other = record(file), record(str(file)), record(tmp_path / "other.db")
    session("a").instruct("x", name="first")
    one.close()
    one.close()
    session("a").instruct("x", name="second")
    two.close()
    session("a").instruct("x", name="third")
    other.close()
    assert [run["name"] for run in read_runs(file)] == ["second", "first"]
    assert [run["name"] for run in read_runs(other.path)] == ["third", "second", "first"]
    assert "closed" in repr(one)
    with record(file):
        session("a").instruct("x", name="fourth")
    assert read_runs(file)[0]["name"] == "fourth"


def test_what_runs_when_it_is_closed_is_recorded_to_its_end(file: Path) -> None:
    m = session("a", "b", "c")
    with record(file):
        program = mellea.traces.start("program").__enter__()
        m.instruct("x", name="inside")
    m.instruct("y", name="later")
    assert [(run["name"], run["status"]) for run in read_runs(file)] == [("program", "running")]
    with record(file):  # the same record goes on
        m.instruct("z", name="again")
    program.__exit__(None, None, None)
    until = time.monotonic() + 30
    while read_runs(file)[-1]["status"] == "running" and time.monotonic() < until:
        time.sleep(0.01)
    assert {run["name"]: run["status"] for run in read_runs(file)} == {"program": "ok"}
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*), count(ended) FROM writers").fetchall() == [(1, 1)]
    connection.close()


def test_what_is_wrong_is_said_at_once(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes the path of a file, not 'a.x00b'"):
        record("a\0b")
    with pytest.raises(UsageError, match="takes the path of a file, not 7"):
        record(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes True, False or None for content, not 'yes'"):
        record(file, content="yes")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="max_bytes of at least 100000, or None for no limit, not 10"):
        record(file, max_bytes=10)
    with pytest.raises(ConfigurationError, match="can't be written"):
        record(tmp_path / "missing" / "runs.db")
    Database(tmp_path / "journal.db", kind="journal", schema=[["CREATE TABLE t (x)"]]).read().__enter__()
    with pytest.raises(StateError, match="wasn't made for 'mellea runs'"):
        record(tmp_path / "journal.db")
    with record(file, content=True), pytest.raises(UsageError, match="being recorded with content=True"):
        record(file, content=False)
    with pytest.raises(UsageError, match="there is no record"):
        read_runs(tmp_path / "nothing.db")
    for limit in ("1", -1, True, 0.5):
        with pytest.raises(UsageError, match="limit takes a whole number"):
            read_runs(file, limit=limit)  # type: ignore[arg-type]
    assert read_runs(file, limit=2**70) == []
    with pytest.raises(UsageError, match=f"no run {2**70} in"):
        read_run(file, 2**70)
    with pytest.raises(UsageError, match="the id of a run is a number, not '1'"):
        read_run(file, "1")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no run 99 in .* it is empty"):
        read_run(file, 99)


def test_the_environment_records_without_a_line_of_code(file: Path) -> None:
    program = """
        import sys
        import mellea
        from mellea.testing import ScriptedBackend
        mellea.start_session(ScriptedBackend("a")).instruct("x", name="outside")
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
    """
    done = run_program(program, file, MELLEA_TRACES=str(file))
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert [run["name"] for run in read_runs(file)] == ["outside"]


@pytest.mark.parametrize("value", ["", "off", "0"])
def test_switched_off_nothing_is_imported(file: Path, value: str) -> None:
    program = """
        import sys
        import mellea
        from mellea.core.observer import listening
        assert "sqlite3" not in sys.modules and not listening.count
        mellea.traces.start
        assert "sqlite3" not in sys.modules
    """
    done = run_program(program, file, MELLEA_TRACES=value)
    assert done.returncode == 0, done.stderr


def test_an_environment_that_cant_be_followed_is_a_warning(file: Path) -> None:
    program = """
        import mellea
        from mellea.testing import ScriptedBackend
        print(mellea.start_session(ScriptedBackend("a")).instruct("x"))
    """
    done = run_program(program, file, MELLEA_TRACES=str(file.parent / "missing" / "runs.db"))
    assert done.returncode == 0 and done.stdout == "a\n"
    assert "not all calls are recorded in" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_program_that_calls_nothing_leaves_no_file(file: Path) -> None:
    assert run_program("import mellea", file, MELLEA_TRACES=str(file)).returncode == 0
    assert not file.exists()


MANY_CALLS = """
    import sys
    import mellea
    from mellea.testing import ScriptedBackend
    m = mellea.start_session(ScriptedBackend(*["a"] * 100_000))
    recording = mellea.traces.record(sys.argv[1])
    print("open", flush=True)
    for number in range(int(sys.argv[2])):
        with mellea.traces.start(f"run {number}"):
            m.instruct("x")
        if number % 20 == 19:
            recording.flush()
            print(number, flush=True)
    recording.close()
"""


def start_calls(file: Path, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(MANY_CALLS), str(file), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_several_processes_write_one_file(file: Path) -> None:
    processes = [start_calls(file, 60) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 4
    runs = read_runs(file)
    assert len(runs) == 240 and {run["spans"] for run in runs} == {2} and {run["status"] for run in runs} == {"ok"}
    assert len({run["id"] for run in runs}) == 240
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM writers WHERE ended IS NULL").fetchall() == [(0,)]
    connection.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
def test_a_killed_process_leaves_what_it_had_flushed_and_what_ran_is_lost(file: Path) -> None:
    program = """
        import os, signal, sys
        import mellea
        from mellea.testing import Pause, ScriptedBackend
        recording = mellea.traces.record(sys.argv[1])
        with mellea.traces.start("program"):
            m = mellea.start_session(ScriptedBackend("a", [Pause(float("inf"))]))
            m.instruct("x")
            with m.stream("y"):
                recording.flush()
                os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_program(program, file).returncode == -signal.SIGKILL
    (run,) = read_runs(file)
    assert run["status"] == "lost" and "seconds" not in run
    assert [span["status"] for span in read_run(file, run["id"])] == ["lost", "ok", "lost"]
    with record(file):  # and whoever opens it next may go on
        session("a").instruct("x", name="later")
    assert [run["status"] for run in read_runs(file)] == ["ok", "lost"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(file: Path) -> None:
    for _ in range(3):
        process = start_calls(file, 100_000)
        assert process.stdout is not None
        told = -1
        for line in process.stdout:
            told = told if line == "open\n" else int(line)
            if told >= 39:
                break
        process.kill()
        process.communicate(timeout=60)
    runs = read_runs(file)
    assert len(runs) >= 3 * 40 and {run["status"] for run in runs} <= {"ok", "lost"}
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_goes_on_with_the_run_and_writes_nothing_twice(file: Path) -> None:
    program = """
        import os, sys
        import mellea
        from mellea.testing import ScriptedBackend
        recording = mellea.traces.record(sys.argv[1])
        with mellea.traces.start("program"):
            recording.flush()
            with mellea.traces.start("waiting"):
                pass
            if (child := os.fork()) == 0:
                mellea.start_session(ScriptedBackend("a")).instruct("x", name="child")
                recording.flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            mellea.start_session(ScriptedBackend("a")).instruct("x", name="parent")
    """
    done = run_program(program, file)
    assert done.returncode == 0, done.stderr
    (run,) = read_runs(file)
    spans = read_run(file, run["id"])
    assert sorted(span["name"] for span in spans) == ["child", "parent", "program", "waiting"]
    assert {span["status"] for span in spans} == {"ok"}
    assert {span.get("parent") for span in spans} == {None, run["id"]}


def test_a_process_of_multiprocessing_writes_what_it_did_before_it_ends(file: Path) -> None:
    program = """
        import multiprocessing, sys
        import mellea
        from mellea.testing import ScriptedBackend

        def work():
            mellea.start_session(ScriptedBackend("a")).instruct("x", name="worker")

        if __name__ == "__main__":
            recording = mellea.traces.record(sys.argv[1])
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join()
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("there is no fork")
    done = run_program(program, file)
    assert done.returncode == 0, done.stderr
    assert [run["name"] for run in read_runs(file)] == ["worker"]


def test_a_full_disk_is_told_once_and_breaks_no_call(file: Path) -> None:
    pytest.importorskip("resource", reason="files can't be limited here")
    program = """
        import resource, signal, sys
        import mellea
        from mellea.testing import ScriptedBackend
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        recording = mellea.traces.record(sys.argv[1], content=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        m = mellea.start_session(ScriptedBackend(*["a" * 10_000] * 50))
        for number in range(50):
            assert len(str(m.instruct("x", name=f"call {number}"))) == 10_000
            recording.flush()
    """
    done = run_program(program, file)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("not all calls are recorded in") == 1 and len(done.stderr.splitlines()) == 1
    names = [run["name"] for run in read_runs(file)]
    assert names and "call 0" in names and "call 49" not in names


def test_a_large_file_loses_its_oldest_runs_as_wholes(file: Path) -> None:
    limit = 400_000
    m = session(*["a" * 5_000] * 300)
    with record(file, content=True, max_bytes=limit) as recording:
        for number in range(150):
            with mellea.traces.start(f"run {number}"):
                m.instruct("x")
                m.instruct("y")
            recording.flush()
            assert file.stat().st_size <= limit * 1.1
    runs = read_runs(file)
    numbers = [int(run["name"].removeprefix("run ")) for run in runs]
    assert numbers == list(range(149, numbers[-1] - 1, -1)) and 5 < len(numbers) < 100
    assert {run["spans"] for run in runs} == {3}
    with record(file, max_bytes=100_000):
        pass
    assert file.stat().st_size <= 110_000 and read_runs(file)[0]["name"] == "run 149"


def test_a_run_that_goes_on_is_never_deleted_and_the_file_stays_bounded_and_says_so(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    m = session(*["a" * 5_000] * 100)
    with record(file, content=True, max_bytes=100_000) as recording:
        with mellea.traces.start("all"):
            for number in range(60):
                m.instruct("x", name=f"call {number}")
                recording.flush()
                assert file.stat().st_size <= 120_000
            (run,) = read_runs(file)
            assert run["name"] == "all" and run["status"] == "running" and 5 < run["spans"] < 60
            assert [span["name"] for span in read_run(file, run["id"])][:3] == ["all", "call 0", "call 1"]
        (message,) = [each.getMessage() for each in caplog.records]
        assert "fill max_bytes" in message
        recording.flush()
        assert read_runs(file)[0]["status"] == "ok"  # the newest one is kept, at its end, too
        m.instruct("x", name="next")
        m.instruct("x", name="last")
        recording.flush()
    assert [run["name"] for run in read_runs(file)] == ["last", "next"]


def test_what_a_killed_process_left_running_may_be_deleted(file: Path) -> None:
    program = """
        import os, sys, mellea
        from mellea.testing import ScriptedBackend
        m = mellea.start_session(ScriptedBackend(*["a" * 5_000] * 30))
        with mellea.traces.record(sys.argv[1], content=True) as recording, mellea.traces.start("killed"):
            for _ in range(30):
                m.instruct("x")
            recording.flush()
            os._exit(0)
    """
    assert run_program(program, file).returncode == 0
    with record(file, content=True, max_bytes=100_000):
        session("b").instruct("x", name="new")
    assert [run["name"] for run in read_runs(file)] == ["new"]


def file_of_a_chat(file: Path, turns: int) -> int:
    m = mellea.MelleaSession(ScriptedBackend(*[f"answer {turn} " + "a" * 300 for turn in range(turns)]), ChatContext())
    with record(file, content=True):
        for turn in range(turns):  # each is a run of its own
            m.chat(f"question {turn} " + "q" * 300)
    return file.stat().st_size


def test_a_conversation_grows_by_what_is_said_and_not_by_all_that_was_said_before(file: Path, tmp_path: Path) -> None:
    short, long = file_of_a_chat(tmp_path / "short.db", 40), file_of_a_chat(file, 160)
    assert long < 4.5 * short
    assert everything(file).count(b"question 7 ") < 4  # in a page and in what is left of another
    messages = read_run(file, max(run["id"] for run in read_runs(file)))[0]["messages"]
    texts = [message["parts"][0]["content"].split("  ")[0] for message in messages]
    assert len(texts) == 2 * 159 + 1 and texts[0].startswith("question 0 ") and texts[-1].startswith("question 159 ")
    assert texts[1].startswith("answer 0 ") and [message["role"] for message in messages[:2]] == ["user", "assistant"]


def test_prompts_go_with_the_last_run_that_has_them(file: Path) -> None:
    m = session(*["a"] * 100)
    with record(file, content=True, max_bytes=100_000):
        for number in range(60):
            m.instruct(f"question {number} " + "q" * 3_000)
    with sqlite3.connect(file) as connection:
        (prompts,) = connection.execute("SELECT count(*) FROM prompts").fetchone()
        (messages,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    connection.close()
    runs = read_runs(file)
    assert prompts == messages == len(runs) < 40
    for run in runs:
        assert read_run(file, run["id"])[0]["messages"][0]["parts"][0]["content"].startswith("question ")


def test_a_record_of_version_1_is_read_and_written_on(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        for statement in run_file._SCHEMA[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO writers VALUES (1, 'somewhere', 1, '0.9.0', 1, 1.0, 2.0)")
        messages = [{"role": "user", "parts": [{"type": "text", "content": "old"}]}]
        connection.execute(
            "INSERT INTO spans VALUES (1, 1, NULL, 1, 'call', 'old', 'ok', 1e9, 1.0, NULL, NULL, 1, 'm', 1, 1, NULL,"
            " NULL, ?)",
            (json.dumps({"messages": messages}),),
        )
        connection.execute(f"PRAGMA application_id={Database(file, kind='mellea runs', schema=())._application_id}")
        connection.execute("PRAGMA user_version=1")
    connection.close()
    with record(file, content=True, max_age=None):
        session("b").instruct("x", name="new")
    assert [run["name"] for run in read_runs(file)] == ["new", "old"]
    assert read_run(file, 1)[0]["messages"] == messages


def test_a_text_that_grows_is_written_now_and_then_and_not_for_each_piece(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = run_file.RunFile.write

    def count(self: Any, entries: Any = ()) -> None:
        written.append(len(entries))
        write(self, entries)

    monkeypatch.setattr(run_file.RunFile, "write", count)
    pieces = [piece for number in range(100) for piece in (f"{number} ", Pause(0.01))]
    began = time.monotonic()
    with record(file, content=True):
        session(pieces).instruct("x")
    seconds = time.monotonic() - began
    assert 2 <= sum(written) <= 3 + seconds / 0.3


def test_without_content_nothing_of_a_text_that_grows_is_written(file: Path) -> None:
    m = session(["planted-", Pause(0.5), "text ", Pause(0.5), "and ", Pause(0.5), "more"])
    with record(file, content=False) as recording, anyio.from_thread.start_blocking_portal() as portal:
        done = portal.start_task_soon(m.ainstruct, "x")
        while not done.done():
            recording.flush()
            assert b"planted" not in everything(file)
            time.sleep(0.05)
    (span,) = spans_of(file)
    assert span["status"] == "ok" and "chunks" not in span and b"planted" not in everything(file)


def test_what_was_planted_is_found_nowhere_without_content(
    file: Path, enabled: Callable[..., Seen], caplog: pytest.LogCaptureFixture
) -> None:
    seen, secrets = enabled(), ("hunter2-planted", "sk-planted-0123456789abcdef")
    caplog.set_level(logging.DEBUG, "mellea")
    m, said = session([" ".join(secrets)] * 3), " and ".join(secrets)
    lost = OpenAIBackend("m", base_url="http://127.0.0.1:9/v1", api_key=secrets[1], retries=0)
    with record(file) as recording, mellea.traces.start("planted"):
        m.instruct(said, requirements=[check(said, validation_fn=simple_validate(lambda text: (True, text)))])
        with pytest.raises(ConnectError):
            mellea.start_session(lost).instruct(said)
        recording.flush()
        assert file.with_name("runs.db-wal").stat().st_size
        places = [everything(file).decode("latin-1")]
    spans = spans_of(file)
    places += [everything(file).decode("latin-1"), json.dumps(spans), render_page(spans), seen.text(), caplog.text]
    assert len(spans) > 4 and all(places)
    assert not [(secret, place) for secret in secrets for place in places if secret in place]


def test_no_part_of_a_secret_is_written_while_a_text_grows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", f"{PASSWORD} battery")
    m = session(["Say ", f"{PASSWORD} ", Pause(0.7), "battery ", "sk-0123456789", Pause(0.7), "abcdefghij ", "end"])
    with record(file, content=True):
        m.instruct("x")
        found = everything(file)
    assert b"Say " in found and b"correct" not in found and b"sk-0123" not in found
    assert spans_of(file)[0]["answer"]["parts"][0]["content"] == "Say *** *** end"


def test_old_runs_go(file: Path) -> None:
    with record(file):
        session("a").instruct("x", name="old")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE spans SET started = started - 100")
    connection.close()
    with record(file, max_age=50):
        session("a").instruct("x", name="new")
    assert [run["name"] for run in read_runs(file)] == ["new"]


def test_a_span_may_end_in_a_finaliser_that_runs_while_the_record_is_written(file: Path) -> None:
    @mellea.trace(name="dropped")
    def numbers() -> Any:
        yield 1
        yield 2

    open_ones: list[Any] = []

    class Dropping:
        def __str__(self) -> str:
            open_ones.clear()  # the generators are dropped on the thread that writes
            return "said"

    with record(file, content=True) as recording:
        for _ in range(5):
            open_ones.append(numbers())
            next(open_ones[-1])
        with mellea.core.observer.span_around("check", "c", requirement=Dropping()):
            pass
        done = threading.Thread(target=recording.flush, daemon=True)
        done.start()
        done.join(30)
        assert not done.is_alive(), "a finaliser waits for a lock that its own thread holds"
        assert not open_ones
        gc.collect()
    assert [run["status"] for run in read_runs(file) if run["name"] == "dropped"] == ["cancelled"] * 5


def test_what_cant_be_described_is_recorded_without_content(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        tool_call_id = "1"

        @property
        def tool_args(self) -> None:
            raise RuntimeError("no words")

    with caplog.at_level(logging.WARNING, logger="mellea"), record(file, content=True):
        span = mellea.core.observer.begin_span("check", "c", tool_call=Broken())  # type: ignore[arg-type]
        assert span is not None
        span.end()
        session("a").instruct("x", name="after")
    assert [run["name"] for run in read_runs(file)] == ["after", "check"]
    assert [each for each in caplog.messages if "no words" in each]


def test_of_what_has_no_text_everything_else_is_recorded(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail(password: str) -> None:
        """Fail."""
        raise SilentError

    deep: Any = {}
    for _ in range(5000):
        deep = {"x": deep}
    m = session(
        [ToolEnd(ToolCall("1", "fail", {"password": "p"})), ToolEnd(ToolCall("2", "fail", {"x": deep}))], "done"
    )
    with caplog.at_level(logging.WARNING, logger="mellea"), record(file, content=True):
        m.instruct("x", tools=[fail], tool_calls="run")
    silent, nested = (span for span in spans_of(file) if span["kind"] == "tool")
    assert "__str__ failed" in silent["error"] and silent["error_type"] == "SilentError"
    assert silent["arguments"] == {"password": "***"} and "too deep" in json.dumps(nested["arguments"])
    assert not caplog.messages


def test_texts_that_no_file_could_hold_are_written_all_the_same(file: Path) -> None:
    m = session([ToolEnd(ToolCall("1", "f", {"x": float("nan"), "y": [float("inf")]}))], "b")
    with record(file, content=True):
        m.instruct("x\ud83d", name="n\ud800", tools=[_f], tool_calls="run")
    spans = spans_of(file)
    assert json.loads(json.dumps(spans, allow_nan=False)) == spans and len(spans) >= 3


def _f(x: float, y: list[float]) -> str:
    """Do nothing."""
    return "\udc00"


@pytest.mark.anyio
async def test_async_calls_and_tasks_are_one_run(file: Path) -> None:
    m = session(*"abc")
    with record(file) as recording:
        async with mellea.traces.start("tasks"), anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(lambda number=number: m.ainstruct("x", name=f"task {number}"))
        await anyio.to_thread.run_sync(recording.flush)
    (run,) = read_runs(file)
    assert run["spans"] == 4 and isinstance(recording, Recording)


def test_a_models_name_may_have_commas(file: Path) -> None:
    m = session("a", "b")
    with record(file), mellea.traces.start("both"):
        for name in ("one, the first", 'two "quoted"', "one, the first"):
            m.backend.model_id = name
            m.instruct("x")
    (run,) = read_runs(file)
    assert sorted(run["models"]) == ["one, the first", 'two "quoted"']


def test_a_run_of_very_many_different_prompts_can_be_read(file: Path) -> None:
    m = session(*["a"] * 1200)
    with record(file, content=True), mellea.traces.start("many"):
        for number in range(1200):
            m.instruct(f"row {number}")
    (run,) = read_runs(file)
    asked = [span["messages"][-1]["parts"][0]["content"] for span in read_run(file, run["id"]) if span["is_request"]]
    assert asked == [f"row {number}" for number in range(1200)]
