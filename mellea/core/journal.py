"""The journal: an SQLite file with the answers that are paid for, so that none is paid for twice.

Rules:

- An answer is found by its *key*: 16 bytes of a digest of everything that decides it (who was asked, for which row,
  with what). What is stored under another key is another answer.
- Answers are appended, and there is no index of their keys: inserting random keys into one costs several times what the
  answer itself does. Who looks answers up reads the keys of a job once, into a sorted array of 16 bytes a row.
- All answers of one call of `commit` are one transaction, and one statement for up to 64 of them: SQLite gives up
  Python's lock at each statement, and getting it back from a busy event loop takes milliseconds.
- A commit survives a killed process. A failure of power may lose the last moments, and damages nothing.

`docs/scale.md` has the schema. Version 1 is the first.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from mellea.core.sqlite import Database

__all__ = ["KEY_BYTES", "Answer", "Failure", "FoundAnswer", "Journal", "KeyIndex", "NotedBatch"]

KEY_BYTES = 16
"""How many bytes of a digest a key has: enough that two different answers never share one."""

_SCHEMA: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE jobs (job INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE answers (answer INTEGER PRIMARY KEY, job INTEGER NOT NULL, id TEXT NOT NULL, key BLOB NOT NULL,"
        " value TEXT NOT NULL, usage TEXT, cost REAL, at REAL NOT NULL)",
        "CREATE TABLE failures (failure INTEGER PRIMARY KEY, job INTEGER NOT NULL, id TEXT NOT NULL, key BLOB,"
        " row TEXT, error TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL, cost REAL,"
        " at REAL NOT NULL)",
        "CREATE TABLE paces (name TEXT PRIMARY KEY, requests_due REAL NOT NULL, tokens_due REAL NOT NULL,"
        " requests REAL, tokens REAL, held_until REAL NOT NULL)",
        "CREATE TABLE replies (reply INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, events TEXT NOT NULL,"
        " at REAL NOT NULL)",
        "CREATE TABLE batches (batch INTEGER PRIMARY KEY, job INTEGER NOT NULL, intent TEXT NOT NULL UNIQUE,"
        " provider TEXT NOT NULL, model TEXT NOT NULL, provider_id TEXT, state TEXT NOT NULL, rows TEXT NOT NULL,"
        " at REAL NOT NULL)",
    ),
)

_MOST = 64
"""How many rows one statement writes or reads."""

_COLUMNS = 7
_INSERT = "INSERT INTO answers (job, id, key, value, usage, cost, at) VALUES "
_PLACES = "(?, ?, ?, ?, ?, ?, ?)"
_INSERT_FAILURE = (
    "INSERT INTO failures (job, id, key, row, error, message, attempts, cost, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_ANSWERED = (
    "WITH answered AS (SELECT job, id, max(at) AS at FROM answers"
    " WHERE (job, id) IN (SELECT job, id FROM failures) GROUP BY job, id)"
)
"""When the rows that ever failed were last answered; one pass over the answers."""


class Answer(NamedTuple):
    """One answer, as it is written: its job, row's id, key, value as JSON, usage as JSON, cost in US dollars, time."""

    job: int
    id: str
    key: bytes
    value: str
    usage: str | None
    cost: float | None
    at: float


class FoundAnswer(NamedTuple):
    """One answer, as it is read back."""

    key: bytes
    value: str
    usage: str | None
    cost: float | None


class Failure(NamedTuple):
    """A row that failed for good: what it was, why, after how many attempts, and what that cost."""

    job: int
    id: str
    key: bytes | None
    row: str | None
    error: str
    message: str
    attempts: int
    cost: float | None
    at: float


class NotedBatch(NamedTuple):
    """A batch: its intent, whom it was given to, the provider's id if it is known, its rows' keys, when."""

    intent: str
    provider: str
    model: str
    provider_id: str | None
    rows: dict[str, str]
    at: float


class KeyIndex:
    """Where the answers of a job stand, by their keys: two arrays, 16 bytes for each answer.

    Args:
        heads: the first 8 bytes of each key as a number, ascending.
        answers: where the answer with each of these keys stands.
    """

    __slots__ = ("_answers", "_heads")

    def __init__(self, heads: array[int], answers: array[int]) -> None:
        self._heads = heads
        self._answers = answers

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, key: bytes) -> int | None:
        """Return where the latest answer whose key begins so stands; its whole key has to be compared with this one."""
        head = int.from_bytes(key[:8], "big")
        place = bisect_left(self._heads, head)
        # Equal heads stand in the order of the answers, so the last one that is found is the latest.
        found = None
        while place < len(self._heads) and self._heads[place] == head:
            found = self._answers[place]
            place += 1
        return found


class Journal:
    """A journal, opened at its first use; any number of threads and processes may use it at once.

    All its methods block.

    Args:
        path: the file, made if it isn't there, readable for this user alone.
        wait: seconds to wait for another process that writes.
        is_fixed: whether it is only read, and nobody writes it meanwhile.

    Raises:
        UsageError: the path is none. Every method raises a `StateError` if the file isn't a journal, is damaged, or
            can't be opened or written; the last is an `sqlite3.OperationalError`, too.
    """

    def __init__(self, path: str | os.PathLike[str], *, wait: float = 30.0, is_fixed: bool = False) -> None:
        self._database = Database(
            path, kind="mellea journal", schema=_SCHEMA, is_durable=False, wait=wait, is_fixed=is_fixed
        )
        self._jobs: dict[str, int] = {}

    @property
    def path(self) -> str:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()

    # -- answers ----------------------------------------------------------------------------------------

    def job(self, name: str) -> int:
        """Return the number of a job, which is all that is asked of one function, made if it isn't there."""
        found = self._jobs.get(name)
        if found is None:
            with self._database.write() as connection:
                # Another process may make the same job at this moment; `IGNORE` and a look afterwards serve both.
                connection.execute("INSERT OR IGNORE INTO jobs (name) VALUES (?)", (name,))
                (found,) = connection.execute("SELECT job FROM jobs WHERE name = ?", (name,)).fetchone()
            self._jobs[name] = found
        return int(found)

    def commit(self, answers: Sequence[Answer], failures: Sequence[Failure] = ()) -> None:
        """Write answers and failures in one transaction; when this returns they survive the process."""
        try:
            self._commit(answers, failures)
        except UnicodeEncodeError:
            # A row, a value or a message holds half of a character. Only then are the texts looked through, since
            # nearly none does.
            self._commit(_escape_halves(answers), _escape_halves(failures))

    def _commit(self, answers: Sequence[Sequence[Any]], failures: Sequence[Sequence[Any]]) -> None:
        with self._database.write() as connection:
            for few in _in_powers(answers):
                values = [value for answer in few for value in answer]
                connection.execute(_INSERT + ", ".join([_PLACES] * len(few)), values)
            if failures:
                # One by one, as failures are rare, and their statement can have any values.
                connection.executemany(_INSERT_FAILURE, failures)

    def index(self, job: int) -> KeyIndex:
        """Read the keys of all answers of a job."""
        heads, answers = array("Q"), array("q")
        with self._database.read() as connection:
            # Sorted by SQLite, in C: sorting a million keys in Python would take seconds.
            rows = connection.execute("SELECT key, answer FROM answers WHERE job = ? ORDER BY key, answer", (job,))
            for key, answer in rows:
                heads.append(int.from_bytes(key[:8], "big"))
                answers.append(answer)
        return KeyIndex(heads, answers)

    def fetch(self, answers: Sequence[int]) -> dict[int, FoundAnswer]:
        """Return the answers that stand at some places, as far as they are still there."""
        found: dict[int, FoundAnswer] = {}
        with self._database.read() as connection:
            for few in _in_powers(answers):
                marks = ", ".join("?" * len(few))
                # One row, so that Python's lock is given up once.
                (text,) = connection.execute(
                    "SELECT json_group_array(json_array(answer, hex(key), value, usage, cost)) FROM answers"
                    f" WHERE answer IN ({marks})",
                    few,
                ).fetchone()
                for answer, key, value, usage, cost in json.loads(text):
                    found[answer] = FoundAnswer(bytes.fromhex(key), value, usage, cost)
        return found

    def answers(self, job: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield all answers, or those of one job, oldest first, as dicts of `job, id, value, usage, cost, at`."""
        yield from self._list(
            "SELECT jobs.name, id, value, usage, cost, at, answer FROM answers JOIN jobs USING (job)", "answer", job
        )

    def failures(self, job: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows that failed for good and weren't answered later, as dicts: the dead letters."""
        yield from self._list(
            f"{_ANSWERED} SELECT jobs.name, f.id AS id, row, error, message, attempts, cost, f.at AS at, failure"
            " FROM failures AS f JOIN jobs USING (job)"
            " LEFT JOIN answered ON answered.job = f.job AND answered.id = f.id"
            " WHERE failure IN (SELECT max(failure) FROM failures GROUP BY job, id)"
            " AND (answered.at IS NULL OR answered.at < f.at)",
            "failure",
            job,
        )

    def _list(self, select: str, place: str, job: str | None) -> Iterator[dict[str, Any]]:
        """Read in pieces, so that no transaction stays open while the caller does something else."""
        word = "AND" if "WHERE" in select else "WHERE"
        after = 0
        while True:
            with self._database.read() as connection:
                cursor = connection.execute(
                    f"{select} {word} {place} > ? AND (? IS NULL OR jobs.name = ?) ORDER BY {place} LIMIT 1000",
                    (after, job, job),
                )
                names = [column[0] for column in cursor.description]
                rows = cursor.fetchall()
            for row in rows:
                after = row[-1]
                pairs = list(zip(names, row, strict=True))[1:-1]
                yield {"job": row[0], **{name: _read_json(name, value) for name, value in pairs}}
            # An empty page ends it, not a short one: rows may be added while this is read.
            if not rows:
                return

    def count_rows_if_answered(self, job: int, id: str) -> int:
        """Return how many rows of a job have answers, if this one has, under whatever key; else 0."""
        with self._database.read() as connection:
            known = "SELECT 1 FROM answers WHERE job = ? AND id = ? LIMIT 1"
            if connection.execute(known, (job, _escape_half(id))).fetchone() is None:
                return 0
            (count,) = connection.execute("SELECT count(DISTINCT id) FROM answers WHERE job = ?", (job,)).fetchone()
        return int(count)

    def count(self) -> dict[str, tuple[int, int]]:
        """Return how many answers and failures there are of each job, by its name."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name, (SELECT count(*) FROM answers WHERE answers.job = jobs.job),"
                " (SELECT count(*) FROM failures WHERE failures.job = jobs.job) FROM jobs ORDER BY name"
            ).fetchall()
        return {name: (answers, failures) for name, answers, failures in rows}

    def merge(self, *others: str | os.PathLike[str] | Journal, only_new: bool = False) -> int:
        """Take in the answers and failures of other journals, and return how many answers that were.

        Args:
            others: the journals, or their files.
            only_new: whether to leave out what is here already, under the same key.
        """
        taken = 0
        seen = _Seen(self) if only_new else None
        for other in others:
            source = other if isinstance(other, Journal) else Journal(other)
            # Numbers of jobs are each file's own.
            jobs = {number: self.job(name) for number, name in source.list_jobs()}
            for answers in source._read_answers(jobs):
                new = answers if seen is None else seen.drop_answers(answers)
                self.commit(new)
                taken += len(new)
            for failures in source._read_failures(jobs):
                self.commit((), failures if seen is None else seen.drop_failures(failures))
            source.close()
        return taken

    def _read_answers(self, jobs: Mapping[int, int]) -> Iterator[list[Answer]]:
        """Yield all answers, with other numbers for their jobs."""
        for rows in self._read_raw("answer", "id, key, value, usage, cost, at", "answers"):
            yield [Answer(jobs[row[1]], *row[2:]) for row in rows]

    def _read_failures(self, jobs: Mapping[int, int]) -> Iterator[list[Failure]]:
        for rows in self._read_raw("failure", "id, key, row, error, message, attempts, cost, at", "failures"):
            yield [Failure(jobs[row[1]], *row[2:]) for row in rows]

    def list_jobs(self) -> list[tuple[int, str]]:
        """Return the numbers and names of all jobs."""
        with self._database.read() as connection:
            return connection.execute("SELECT job, name FROM jobs").fetchall()

    def _read_raw(self, place: str, columns: str, table: str) -> Iterator[list[Any]]:
        after = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    f"SELECT {place}, job, {columns} FROM {table} WHERE {place} > ? ORDER BY {place} LIMIT 1000",
                    (after,),
                ).fetchall()
            if not rows:
                return
            yield rows
            after = rows[-1][0]

    def compact(self) -> int:
        """Drop what is of no use any more, give the space back, and return how many entries were dropped.

        Of the answers for one row of a job only the latest is kept, and no failure of a row that was answered later.
        """
        with self._database.write() as connection:
            # Counted before and after: `changes()` would only know the last statement.
            before = _count(connection)
            connection.execute(
                "DELETE FROM answers WHERE answer NOT IN (SELECT max(answer) FROM answers GROUP BY job, id)"
            )
            connection.execute(
                "DELETE FROM failures WHERE failure NOT IN (SELECT max(failure) FROM failures GROUP BY job, id)"
            )
            connection.execute(
                f"{_ANSWERED} DELETE FROM failures WHERE failure IN (SELECT failure FROM failures AS f"
                " JOIN answered ON answered.job = f.job AND answered.id = f.id AND answered.at >= f.at)"
            )
            dropped = before - _count(connection)
        # After the transaction, as it ends one.
        self._database.shrink()
        return dropped

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for one transaction, for the other tables of the file."""
        with self._database.write() as connection:
            yield connection

    # -- batches: what was given to a provider for later ------------------------------------------------

    def note_intent(self, job: int, intent: str, provider: str, model: str, rows: Mapping[str, str]) -> None:
        """Note that a batch is about to be made, before it is: of which rows' keys, by the names they have in it."""
        # Before the batch exists: a process that is killed in between then knows what to look for.
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO batches (job, intent, provider, model, state, rows, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (job, intent, provider, model, "intended", json.dumps(rows), time.time()),
            )

    def note_batch(self, intent: str, state: str, provider_id: str | None = None) -> None:
        """Note the state of a batch: `"made"`, `"lost"` or `"done"`; and the provider's id, once it is known."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE batches SET state = ?, provider_id = coalesce(?, provider_id) WHERE intent = ?",
                (state, provider_id, intent),
            )

    def open_batches(self, job: int | None = None) -> list[NotedBatch]:
        """Return the batches of a job, or of all, whose results weren't all committed yet, as far as is known."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT intent, provider, model, provider_id, rows, at FROM batches"
                " WHERE job = coalesce(?, job) AND state IN ('intended', 'made') ORDER BY batch",
                (job,),
            ).fetchall()
        return [NotedBatch(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5]) for row in rows]

    def known_batches(self) -> set[str]:
        """Return the provider's ids of all batches."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT provider_id FROM batches WHERE provider_id IS NOT NULL").fetchall()
        return {row[0] for row in rows}

    # -- replies: what the answer cache keeps -----------------------------------------------------------

    def find_reply(self, key: str) -> str | None:
        """Return the events that are kept for a request, as JSON, or `None`."""
        with self._database.read() as connection:
            row = connection.execute("SELECT events FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keep_reply(self, key: str, events: str) -> None:
        """Keep the events of an answer, in place of those that there are."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO replies (key, events, at) VALUES (?, ?, ?)",
                (key, _escape_half(events), time.time()),
            )

    def __repr__(self) -> str:
        return f"Journal({self.path!r})"


class _Seen:
    """What a journal has while others are merged into it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: dict[int, KeyIndex] = {}
        self._keys: set[bytes] = set()
        jobs = {number: number for number, _ in journal.list_jobs()}
        self._failed = {_name_failure(each) for failures in journal._read_failures(jobs) for each in failures}

    def drop_answers(self, answers: list[Answer]) -> list[Answer]:
        """Return those that the journal hasn't, and count them as seen."""
        new = [each for each in answers if each.key not in self._keys and not self._has(each)]
        self._keys.update(each.key for each in new)
        return new

    def _has(self, answer: Answer) -> bool:
        if answer.job not in self._known:
            self._known[answer.job] = self._journal.index(answer.job)
        return self._known[answer.job].find(answer.key) is not None

    def drop_failures(self, failures: list[Failure]) -> list[Failure]:
        """Return those that the journal hasn't, and count them as seen."""
        new = [each for each in failures if _name_failure(each) not in self._failed]
        self._failed.update(map(_name_failure, new))
        return new


def _name_failure(failure: Failure) -> tuple[int, str, float]:
    return failure.job, failure.id, failure.at


def _in_powers(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield pieces whose lengths are powers of two, so that there are few different statements to prepare."""
    begin, left = 0, len(values)
    while left:
        size = min(_MOST, 1 << (left.bit_length() - 1))
        yield values[begin : begin + size]
        begin += size
        left -= size


def _escape_halves(entries: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[_escape_half(value) for value in entry] for entry in entries]


def _escape_half(value: Any) -> Any:
    """Write halves of characters (lone surrogates), which UTF-8 can't encode, as JSON's escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT (SELECT count(*) FROM answers) + (SELECT count(*) FROM failures)").fetchone()
    return int(count)


def _read_json(name: str, value: Any) -> Any:
    return json.loads(value) if name in ("value", "usage", "row") and value is not None else value
