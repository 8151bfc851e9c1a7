"""SQLite files: written by threads, processes and forks at once, whole after a kill, of one kind and version."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mellea.core.sqlite import Database
from mellea.errors import StateError, UsageError

FIRST = ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",)
SECOND = ("ALTER TABLE notes ADD COLUMN mood TEXT", "CREATE INDEX moods ON notes (mood)")

WRITER = """
import sys
from mellea.core.sqlite import Database
database = Database(
    sys.argv[1], kind="notes", schema=[["CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"]]
)
for number in range(int(sys.argv[2])):
    with database.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES ('first half')")
        connection.execute("INSERT INTO notes (text) VALUES ('second half')")
    print(number, flush=True)
"""


def notes(path: Path, versions: int = 1) -> Database:
    return Database(path, kind="notes", schema=[FIRST, SECOND][:versions])


def count(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])


def add(database: Database, text: str = "x") -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))


def writer(path: Path, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(times)], stdout=subprocess.PIPE, text=True)


def test_what_was_committed_is_there_for_everybody(tmp_path: Path) -> None:
    one, other = notes(tmp_path / "notes.db"), notes(tmp_path / "notes.db")
    add(one)
    add(other)
    assert count(one) == count(other) == 2
    one.close()
    assert count(one) == 2, "it is opened again"
    one.close()
    other.close()


def test_an_exception_takes_the_whole_transaction_back(tmp_path: Path) -> None:
    database = notes(tmp_path / "notes.db")
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES ('x')")
        _ = 1 / 0
    assert count(database) == 0
    add(database)
    assert count(database) == 1
    database.close()


def test_a_reader_sees_one_moment_and_holds_up_no_writer(tmp_path: Path) -> None:
    reader, other = notes(tmp_path / "notes.db"), notes(tmp_path / "notes.db")
    add(other)
    with reader.read() as connection:
        before = connection.execute("SELECT count(*) FROM notes").fetchone()
        add(other)
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == before
    assert count(reader) == 2
    reader.close()
    other.close()


def test_threads_take_turns(tmp_path: Path) -> None:
    database = notes(tmp_path / "notes.db")
    threads = [threading.Thread(target=lambda: [add(database) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 20
    database.close()


def test_processes_that_open_and_write_a_new_file_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    writers = [writer(path, 5) for _ in range(3)]
    assert [process.communicate(timeout=60)[0].count("\n") for process in writers] == [5, 5, 5]
    database = notes(path)
    assert count(database) == 30
    database.close()


def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with writer(path, 100_000) as process:
        assert process.stdout is not None
        for _ in range(5):
            said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    database = notes(path)
    assert count(database) >= 2 * (int(said) + 1)
    assert count(database) % 2 == 0
    add(database)
    database.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_opens_the_file_for_itself(tmp_path: Path) -> None:
    database = notes(tmp_path / "notes.db")
    add(database)
    process = os.fork()
    if process == 0:
        status = 1
        try:
            add(database)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    add(database)
    assert count(database) == 3
    database.close()


def test_opening_a_file_twice_in_a_process_leaves_the_log_that_is_in_use(tmp_path: Path) -> None:
    """Otherwise another process takes itself for the last one, deletes the log, and what is written there is lost."""
    path = tmp_path / "notes.db"
    one, other = notes(path), notes(path)
    add(one)
    assert count(other) == 1
    with writer(path, 1) as process:
        assert process.wait() == 0
    assert path.with_name("notes.db-wal").exists(), "it was deleted, although two connections have it open"
    add(one)
    other.close()
    command = [sys.executable, "-c", "import sys, sqlite3; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"]
    done = subprocess.run([*command, path, "SELECT count(*) FROM notes"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4,)"


def test_a_file_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    old = notes(tmp_path / "notes.db")
    add(old, "kept")
    old.close()
    new = notes(tmp_path / "notes.db", versions=2)
    with new.read() as connection:
        assert connection.execute("SELECT text, mood FROM notes").fetchall() == [("kept", None)]
    new.close()
    with pytest.raises(StateError, match="has version 2, and this version of mellea knows 'notes' up to 1"):
        count(notes(tmp_path / "notes.db"))


def test_a_change_of_version_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    old = notes(path)
    add(old)
    old.close()
    broken = Database(path, kind="notes", schema=[FIRST, ("CREATE TABLE more (id INTEGER)", "CREATE NONSENSE")])
    with pytest.raises(sqlite3.OperationalError, match="syntax error") as caught:
        count(broken)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, StateError)
    again = notes(path)
    assert count(again) == 1
    again.close()


def test_a_file_of_another_kind_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    with sqlite3.connect(theirs) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    before = theirs.read_bytes()
    with pytest.raises(StateError, match="wasn't made for 'notes'; use another file"):
        count(notes(theirs))
    assert theirs.read_bytes() == before
    text = tmp_path / "notes.txt"
    text.write_text("Dear diary, " * 100)
    with pytest.raises(StateError, match="is not a valid SQLite database"):
        count(notes(text))
    assert text.read_text().startswith("Dear diary")


def test_a_lock_that_isnt_given_back_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    holder = notes(path)
    add(holder)
    other = Database(path, kind="notes", schema=[FIRST], wait=0.05)
    with holder.write():
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            add(other)
        assert time.monotonic() - began < 20
    add(other)
    holder.close()
    other.close()


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    database = notes(tmp_path / "notes.db")
    add(database)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    database.close()


def test_a_path_is_needed() -> None:
    for path in ("", 3, None):
        with pytest.raises(UsageError, match="takes the path of a file"):
            Database(path, kind="notes", schema=[FIRST])  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="an open file can't be replaced there")
def test_a_file_that_takes_the_place_of_an_open_one_keeps_what_is_in_it(tmp_path: Path) -> None:
    other, database = notes(tmp_path / "other.db"), notes(tmp_path / "notes.db")
    with other.write() as connection:
        connection.executemany("INSERT INTO notes (text) VALUES (?)", [("of the other",)] * 20)
    other.close()
    with database.write() as connection:  # in its log
        connection.execute("INSERT INTO notes (text) VALUES ('of the first')")
    os.replace(tmp_path / "other.db", tmp_path / "notes.db")
    assert database.has_moved()
    database.leave_moved()
    with database.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES ('new')")
    database.close()
    with notes(tmp_path / "notes.db").read() as connection:
        found = [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]
        (state,) = connection.execute("PRAGMA integrity_check").fetchone()
    assert (found, state) == (["of the other"] * 20 + ["new"], "ok")


@pytest.mark.skipif(os.name != "posix", reason="an open file can't be replaced there")
def test_the_log_of_somebody_who_already_writes_the_new_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    database, somebody = notes(path), notes(path)
    for each in (database, somebody):
        with each.write() as connection:
            connection.execute("INSERT INTO notes (text) VALUES ('old')")
    path.unlink()
    somebody.leave_moved()
    with somebody.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES ('new')")
    database.leave_moved()
    with database.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES ('newer')")
    with somebody.read() as connection:
        assert [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")] == ["new", "newer"]
    database.close()
    somebody.close()
