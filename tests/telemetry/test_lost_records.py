"""What becomes of a record whose file is deleted, replaced or locked: no call notices, and it is told once."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.core.sqlite import UnusableFileError
from mellea.errors import StateError
from mellea.telemetry import recorder as recorder_module
from mellea.telemetry.run_file import RunFile
from mellea.testing import ScriptedBackend
from mellea.traces import read_run, read_runs, record
from tests.waiting import until_here


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def session(*replies: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*(replies or ("a",) * 100)))


def names(file: Path) -> list[str]:
    return [run["name"] for run in reversed(read_runs(file))]


def remove(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


@contextmanager
def locked(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@pytest.mark.parametrize("how", ["deleted", "with its log", "renamed", "replaced"])
def test_a_record_that_is_deleted_goes_on_in_a_new_file_and_that_is_told_once(
    file: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    m, other = session(), file.with_name("other.db")
    with record(other):
        m.instruct("x", name="other")
    with record(file, content=True) as recording:
        for number in range(5):
            m.instruct("x", name=f"before {number}")
        recording.flush()
        if how == "deleted":
            file.unlink()
        elif how == "renamed":
            file.rename(file.with_name("moved.db"))
        else:
            remove(file)
        if how == "replaced":
            shutil.copy(other, file)
        for number in range(3):
            m.instruct("x", name=f"after {number}")
            recording.flush()
    after = ["after 0", "after 1", "after 2"]
    assert names(file) == (["other", *after] if how == "replaced" else after)
    assert [log.message.count("was deleted or replaced") for log in caplog.records] == [1]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_runs_while_its_record_is_deleted_stands_whole_in_the_new_file(file: Path) -> None:
    m = session("a", "b", "c", "d")
    with record(file) as recording:
        m.instruct("x", name="gone")
        with mellea.traces.start("block"), mellea.traces.start("inner"):
            m.instruct("x", name="gone too")
            recording.flush()
            remove(file)
            m.instruct("x", name="after")
            recording.flush()
    runs = {run["name"]: read_run(file, run["id"]) for run in read_runs(file)}
    found = {span["name"]: span["status"] for spans in runs.values() for span in spans}
    assert found == {"after": "ok", "inner": "ok", "block": "ok"}


def test_a_directory_that_is_deleted_is_told_once_and_breaks_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    m = session()
    with record(place / "runs.db") as recording:
        m.instruct("x")
        recording.flush()
        shutil.rmtree(place)
        for _ in range(5):
            assert m.instruct("x").value == "a"
            recording.flush()
    assert [log.message.count("not all calls are recorded in") for log in caplog.records] == [1]


def test_a_record_that_nothing_is_written_to_any_more_may_be_deleted_without_a_word(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with record(file) as recording:
        session().instruct("x")
        recording.flush()
        remove(file)
    assert not caplog.records and not file.exists()


def test_what_happens_while_somebody_locks_the_record_is_written_later(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_LOCK_SECONDS", 0.01)
    m = session()
    with record(file) as recording:
        with locked(file):
            for number in range(20):
                m.instruct("x", name=f"call {number}")
                recording.flush()
            time.sleep(0.3)
        until_here(lambda: len(names(file)) == 20)  # by itself
    assert names(file) == [f"call {number}" for number in range(20)] and not caplog.records


def test_a_record_that_stays_locked_is_told_and_holds_up_neither_the_calls_nor_the_end(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_LOCK_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "_END_SECONDS", 0.2)
    monkeypatch.setattr(recorder_module, "_PATIENCE_SECONDS", 0.1)
    m = session()
    recording = record(file)
    with locked(file):
        for _ in range(20):
            m.instruct("x")
        until_here(lambda: caplog.records)
        began = time.monotonic()
        recording.close()
        assert time.monotonic() - began < 30
    (told,) = [log for log in caplog.records if log.levelno >= logging.WARNING]
    assert "not all calls are recorded in" in told.message and "locked" in told.message
    assert names(file) == []


def test_more_than_may_wait_is_lost_and_told(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_LOCK_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "_MOST_WAITING", 10)
    m = session()
    with record(file) as recording:
        with locked(file):
            for number in range(30):
                assert m.instruct("x", name=f"call {number}").value == "a"
        recording.flush()
        m.instruct("x", name="afterwards")
    # At most ten that wait, ten that the writer has taken before that and can't write, and the one afterwards.
    assert 0 < len(names(file)) <= 21 and names(file)[-1] == "afterwards"
    assert [log.message.count("not all calls are recorded in") for log in caplog.records] == [1]


def test_two_recordings_in_one_file_both_find_the_new_one(file: Path) -> None:
    """The other one is of another process, which this program can't tell from a file of its own."""
    program = """
import sys, mellea
from mellea.testing import ScriptedBackend
m = mellea.start_session(ScriptedBackend(*"a" * 10))
with mellea.traces.record(sys.argv[1]) as recording:
    for line in sys.stdin:
        m.instruct("x", name=line.strip())
        recording.flush()
        print("done", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None

        def say(name: str) -> None:
            assert other.stdin is not None and other.stdout is not None
            other.stdin.write(f"{name}\n")
            other.stdin.flush()
            assert other.stdout.readline() == "done\n"

        m = session()
        with record(file) as recording:
            say("theirs, before")
            m.instruct("x", name="ours, before")
            recording.flush()
            remove(file)
            for number in range(3):
                m.instruct("x", name=f"ours {number}")
                recording.flush()
                say(f"theirs {number}")
        other.stdin.close()
        assert other.wait(60) == 0
    assert names(file) == [f"{whose} {number}" for number in range(3) for whose in ("ours", "theirs")]


def test_what_a_full_disk_refuses_is_written_when_there_is_room_again(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, is_full = RunFile.write, True

    def refuse(self: RunFile, entries: Any = ()) -> None:
        if is_full:
            raise UnusableFileError("the disk is full")
        write(self, entries)

    m = session()
    with record(file) as recording:
        monkeypatch.setattr(RunFile, "write", refuse)
        for number in range(10):
            m.instruct("x", name=f"call {number}")
            recording.flush()
        assert names(file) == []
        is_full = False
        until_here(lambda: len(names(file)) == 10)  # by itself
    assert names(file) == [f"call {number}" for number in range(10)]
    assert [log.message.count("the disk is full") for log in caplog.records] == [1]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that another user gets to; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        place = Path(outer) / "place"
        place.mkdir()
        yield place
        if place.is_dir():
            place.chmod(0o755)


_WORSE = """
import os, resource, shutil, signal, sys, time
import mellea
from mellea.testing import ScriptedBackend
from mellea.traces import read_runs, record
how, place = sys.argv[1:]
m = mellea.start_session(ScriptedBackend(*["an answer " * 50] * 400))
with record(os.path.join(place, "warm up.db"), content=True) as recording:
    m.instruct("x")
read_runs(recording.path)
recording = record(os.path.join(place, "runs.db"), content=True)
for number in range(20):
    m.instruct("x", name=f"before {number}")
recording.flush()
if how == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
elif how == "deleted":
    shutil.rmtree(place)
elif how == "a file":
    shutil.rmtree(place)
    open(place, "w").close()
elif how == "read-only":
    os.chmod(recording.path, 0o444)
    os.chmod(place, 0o555)
    if not os.getuid():  # root may write anything
        os.setresuid(65534, 65534, 65534)
for number in range(200):
    assert m.instruct("x", name=f"after {number}").value.startswith("an answer")
began = time.monotonic()
recording.flush()
print("flushed", time.monotonic() - began < 2)
began = time.monotonic()
recording.close()
print("closed", time.monotonic() - began < 2)
if how == "full":
    print(sorted(run["name"] for run in read_runs(recording.path))[-1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits and rights of Unix")
@pytest.mark.parametrize("how", ["full", "deleted", "a file", "read-only"])
def test_a_disk_that_fills_up_or_a_folder_that_goes_is_told_once_with_what_to_do(open_place: Path, how: str) -> None:
    place = open_place
    done = subprocess.run(
        [sys.executable, "-c", _WORSE, how, str(place)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "flushed True" in done.stdout and "closed True" in done.stdout, done.stdout
    if how == "read-only":  # the file was open, so it goes on
        assert done.stderr == ""
        assert len(names(place / "runs.db")) == 220
        return
    (told,) = done.stderr.splitlines()
    assert told.startswith("not all calls are recorded in") and "but they go on: " in told
    assert ("make room on the disk" if how == "full" else "folder writable") in told and "waits to be written" in told
    if how == "full":
        assert "before 9" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs rights of Unix")
@pytest.mark.parametrize("is_log_left", [False, True])
def test_a_record_that_may_not_be_written_can_be_read(open_place: Path, *, is_log_left: bool) -> None:
    file = open_place / "runs.db"
    program = """
import os, sys, mellea
from mellea.testing import ScriptedBackend
from mellea.traces import read_runs, record
recording = record(sys.argv[1])
mellea.start_session(ScriptedBackend("a")).instruct("x", name="kept")
recording.flush()
read_runs(sys.argv[1])
if sys.argv[2] == "False":
    recording.close()
for each in os.listdir(os.path.dirname(sys.argv[1])):
    os.chmod(os.path.join(os.path.dirname(sys.argv[1]), each), 0o444)
os.chmod(os.path.dirname(sys.argv[1]), 0o555)
if not os.getuid():
    os.setresuid(65534, 65534, 65534)
print([run["name"] for run in read_runs(sys.argv[1])])
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(file), str(is_log_left)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "['kept']\n", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be replaced there")
def test_a_record_that_takes_the_place_of_the_open_one_keeps_its_runs(file: Path) -> None:
    m, other = session(), file.with_name("other.db")
    with record(other):
        m.instruct("x", name="other")
    with record(file, content=True) as recording:
        m.instruct("x", name="before")  # in the log beside the file
        recording.flush()
        other.replace(file)
        m.instruct("x", name="after")
    assert names(file) == ["other", "after"]


@pytest.mark.parametrize(
    "damage",
    [
        "SET data = '{broken'",
        "SET data = '[1]'",
        "SET links = 'x'",
        "SET prompt = 99",
        "SET status = 'odd'",
        "SET started = 'now'",
        "SET name = x'ff'",
    ],
)
def test_a_row_that_somebody_has_changed_is_an_error_that_says_so(file: Path, damage: str) -> None:
    with record(file, content=True), mellea.traces.start("t"):
        session().instruct("x")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"UPDATE spans {damage}")
        connection.commit()
    with pytest.raises(StateError, match=r"runs\.db' is damaged, or another program has changed it"):
        read_runs(file)
        read_run(file, 1)


def test_looking_at_an_empty_file_writes_nothing_into_it(file: Path) -> None:
    file.touch()
    assert read_runs(file) == []
    assert file.read_bytes() == b"" and list(file.parent.iterdir()) == [file]
    with record(file):
        session().instruct("x", name="first")
    assert names(file) == ["first"]
