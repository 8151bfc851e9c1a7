"""The journal: an SQLite file with the answers that are paid for, so that none is paid for twice.

Rules:

- An answer is found by its *key*: 16 bytes of a digest of everything that decides it (who was asked, for which row,
  with what). What is stored under another key is another answer.
- Answers are appended, and there is no index of their keys: inserting random keys into one costs several times what the
  answer itself does. Who looks answers up reads the keys of a job once, into a sorted array of 16 bytes a row.
- All answers of one call of `commit` are one transaction, and one statement for up to 64 of them: SQLite gives up
  Python's lock at each statement, and getting it back from a busy event loop takes milliseconds.
- A commit survives a killed process. A failure of power may lose the last moments, and damages nothing.

`docs/scale.md` has the schema. Version 2 added the digests of the rows, and who makes a batch; version 3 the time of a
pace.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from mellea.core.journal_compaction import ANSWERED, compact
from mellea.core.sqlite import Database
from mellea.errors import StateError, UsageError

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
    (
        "ALTER TABLE answers ADD COLUMN row_digest BLOB",
        "ALTER TABLE failures ADD COLUMN row_digest BLOB",
        "ALTER TABLE batches ADD COLUMN maker TEXT",
    ),
    ("ALTER TABLE paces ADD COLUMN at REAL",),
)

_MOST = 64
"""How many rows one statement writes or reads."""

_INSERT = "INSERT INTO answers (job, id, key, value, usage, cost, at, row_digest) VALUES "
_PLACES = "(?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_FAILURE = (
    "INSERT INTO failures (job, id, key, row, error, message, attempts, cost, at, row_digest)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT_BATCHES = "SELECT intent, provider, model, provider_id, rows, at, batch, state, maker FROM batches"


class Answer(NamedTuple):
    """One answer to write.

    Its job, row's id, key, value as JSON, usage as JSON, cost in US dollars, time, and a digest of the row alone.
    """

    job: int
    id: str
    key: bytes
    value: str
    usage: str | None
    cost: float | None
    at: float
    row_digest: bytes | None = None


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
    row_digest: bytes | None = None


class NotedBatch(NamedTuple):
    """A batch: its intent, provider and model, the provider's id if known, its rows' keys, its time.

    Then its number in the journal, its state, and the process that is creating it at this moment, if one is.
    """

    intent: str
    provider: str
    model: str
    provider_id: str | None
    rows: dict[str, str]
    at: float
    number: int = 0
    state: str = "intended"
    maker: str | None = None


class KeyIndex:
    """Where the answers of a job stand, by their keys: two arrays, 16 bytes for each answer.

    Args:
        heads: the first 8 bytes of each key as a number, ascending.
        answers: where the answer with each of these keys stands.

    Attributes:
        last: where the latest of all stands, 0 if there is none.
    """

    __slots__ = ("_answers", "_heads", "last")

    def __init__(self, heads: array[int], answers: array[int]) -> None:
        self._heads = heads
        self._answers = answers
        self.last = max(answers, default=0)

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, key: bytes) -> int | None:
        """Return where the latest answer whose key begins so stands; its whole key has to be compared with this one."""
        head = int.from_bytes(key[:8], "big")
        place = bisect_left(self._heads, head)
        # Equal heads are in the order of their answers, so the last match is the latest.
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
        self._restoring = threading.Lock()

    @property
    def path(self) -> str:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()

    def restore(self) -> int | None:
        """If the file was deleted or replaced, write its answers into the new one, and return how many; else `None`."""
        with self._restoring:
            if not self._database.has_moved():
                return None
            jobs, add = self.list_jobs(), "INSERT OR IGNORE INTO jobs (job, name) VALUES (?, ?)"
            with self._database.replace() as copy:
                with self.write() as connection:
                    connection.executemany(add, jobs)
                # Their numbers are known to those who go on.
                if not set(jobs) <= set(self.list_jobs()):
                    raise StateError(
                        f"the journal {self.path!r} was replaced by another one while it was in use; start again to go "
                        "on with what is in that one"
                    )
                return self.merge(copy, only_new=True)

    # -- answers ----------------------------------------------------------------------------------------

    def job(self, name: str) -> int:
        """Return the number of a job, which is all that is asked of one function, made if it isn't there."""
        found = self._jobs.get(name)
        if found is None:
            with self._database.write() as connection:
                # Another process may create the same job at this moment; `IGNORE` with a query afterwards works for
                # both.
                connection.execute("INSERT OR IGNORE INTO jobs (name) VALUES (?)", (name,))
                (found,) = connection.execute("SELECT job FROM jobs WHERE name = ?", (name,)).fetchone()
            self._jobs[name] = found
        return int(found)

    def commit(self, answers: Sequence[Answer], failures: Sequence[Failure] = ()) -> None:
        """Write answers and failures in one transaction; when this returns they survive the process."""
        try:
            self._commit(answers, failures)
        except UnicodeEncodeError:
            # A row, a value or a message contains a lone surrogate. The texts are only searched in this case, which is
            # very rare.
            self._commit(_escape_halves(answers), _escape_halves(failures))

    def _commit(self, answers: Sequence[Sequence[Any]], failures: Sequence[Sequence[Any]]) -> None:
        with self._database.write() as connection:
            for few in _in_powers(answers):
                values = [value for answer in few for value in answer]
                connection.execute(_INSERT + ", ".join([_PLACES] * len(few)), values)
            if failures:
                # One by one, since failures are rare and their values vary.
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

    def list_newer(self, job: int, after: int) -> list[tuple[int, bytes]]:
        """Return where the answers of a job behind a place stand, and their keys."""
        select = "SELECT answer, key FROM answers WHERE answer > ? AND job = ? ORDER BY answer"
        with self._database.read() as connection:
            return connection.execute(select, (after, job)).fetchall()

    def fetch(self, answers: Sequence[int]) -> dict[int, FoundAnswer]:
        """Return the answers that stand at some places, as far as they are still there."""
        found: dict[int, FoundAnswer] = {}
        with self._database.read() as connection:
            for few in _in_powers(answers):
                marks = ", ".join("?" * len(few))
                # As a single row, so that Python's lock is released only once.
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
            f"{ANSWERED} SELECT jobs.name, id, row, error, message, attempts, cost, at, failure"
            " FROM failures JOIN jobs USING (job) JOIN last USING (failure)"
            " WHERE (answered_at IS NULL OR answered_at < at)",
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
        """Add the answers and failures of other journals, and return how many answers were added.

        Args:
            others: the journals, or their files.
            only_new: whether to leave out what is here already, under the same key.

        Raises:
            UsageError: one of them doesn't exist, or is this one.
        """
        sources = [other if isinstance(other, Journal) else Journal(other) for other in others]
        # All are checked before the first is merged, so a wrong name changes nothing.
        for source in sources:
            if not os.path.isfile(source.path):
                raise UsageError(f"there is no journal {source.path!r}")
            if os.path.exists(self.path) and os.path.samefile(self.path, source.path):
                raise UsageError(f"the journal {source.path!r} can't be merged into itself")
        taken = 0
        seen = _Seen(self) if only_new else None
        for source in sources:
            # Each file numbers jobs on its own.
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
        for rows in self._read_raw("answer", "id, key, value, usage, cost, at, row_digest", "answers"):
            yield [Answer(jobs[row[1]], *row[2:]) for row in rows]

    def _read_failures(self, jobs: Mapping[int, int]) -> Iterator[list[Failure]]:
        columns = "id, key, row, error, message, attempts, cost, at, row_digest"
        for rows in self._read_raw("failure", columns, "failures"):
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

        Only the latest answer for each row of a job is kept, and no failure of a row that was answered later.
        Different rows that have the same id keep their answers. Maps that use the journal aren't held up by it.
        """
        # With its own connection: threads that share one take turns, and this one reads for seconds.
        with self._database.open_twin() as twin:
            return compact(twin)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for one transaction, for the other tables of the file."""
        with self._database.write() as connection:
            yield connection

    # -- batches: what was given to a provider for later ------------------------------------------------

    def note_intent(
        self,
        job: int,
        intent: str,
        provider: str,
        model: str,
        rows: Mapping[str, str],
        *,
        after: int | None = None,
        maker: str | None = None,
    ) -> tuple[int, list[NotedBatch]]:
        """Note that a batch is about to be made, before it is, and claim its rows for it.

        Rows that somebody has claimed meanwhile, for a batch of the same job, aren't noted. If none is left nothing is.

        Args:
            job: the number of the map's job.
            intent: a name for the batch that no other has.
            provider: who is to make it.
            model: the model that is to answer.
            rows: the rows' keys, by the names that they have in the batch.
            after: the number of the last batch that the caller has seen; `None` claims the rows whoever has them.
            maker: the process that makes it.

        Returns:
            The number of the last batch, and the batches of others that have some of the rows.
        """
        # Written before the batch exists, so that the next run knows what to look for if this process is killed in
        # between. Written in the same transaction that checks for claims, so that each row is claimed by only one of
        # two processes.
        with self._database.write() as connection:
            others = [] if after is None else self._find_claims(connection, job, (provider, model), rows, after)
            taken = {key for other in others for key in other.rows.values()}
            left = {name: key for name, key in rows.items() if key not in taken}
            if left:
                connection.execute(
                    "INSERT INTO batches (job, intent, provider, model, state, rows, at, maker)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (job, intent, provider, model, "intended", json.dumps(left), time.time(), maker),
                )
            return _find_last_batch(connection), others

    def _find_claims(
        self, connection: sqlite3.Connection, job: int, model: tuple[str, str], rows: Mapping[str, str], after: int
    ) -> list[NotedBatch]:
        """Return the batches behind one that have some of the rows; also such as are done."""
        found = connection.execute(
            f"{_SELECT_BATCHES} WHERE job = ? AND provider = ? AND model = ? AND batch > ? AND state <> 'lost'"
            " ORDER BY batch",
            (job, *model, after),
        )
        keys = set(rows.values())
        return [batch for each in found if (batch := _read_batch(each)) and not keys.isdisjoint(batch.rows.values())]

    def note_batch(self, intent: str, state: str, provider_id: str | None = None) -> None:
        """Note the state of a batch, and that nobody makes it any more.

        Args:
            intent: its name.
            state: `"intended"`, `"made"`, `"lost"` or `"done"`.
            provider_id: the provider's id, once it is known.
        """
        with self._database.write() as connection:
            connection.execute(
                "UPDATE batches SET state = ?, provider_id = coalesce(?, provider_id), maker = NULL WHERE intent = ?",
                (state, provider_id, intent),
            )

    def leave_batch(self, intent: str) -> None:
        """Note that the process that was making a batch has stopped doing so."""
        with self._database.write() as connection:
            connection.execute("UPDATE batches SET maker = NULL WHERE intent = ?", (intent,))

    def lose_batch(self, intent: str) -> bool:
        """Note that a batch was never made; false if somebody else has noted something of it meanwhile."""
        with self._database.write() as connection:
            changed = connection.execute(
                "UPDATE batches SET state = 'lost', maker = NULL"
                " WHERE intent = ? AND state = 'intended' AND provider_id IS NULL",
                (intent,),
            )
            return changed.rowcount > 0

    def open_batches(self, job: int | None = None) -> list[NotedBatch]:
        """Return the batches of a job, or of all, whose results weren't all committed yet, as far as is known."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"{_SELECT_BATCHES} WHERE job = coalesce(?, job) AND state IN ('intended', 'made') ORDER BY batch",
                (job,),
            ).fetchall()
        return [_read_batch(row) for row in rows]

    def find_batch(self, intent: str) -> NotedBatch | None:
        """Return the batch with this intent."""
        with self._database.read() as connection:
            row = connection.execute(f"{_SELECT_BATCHES} WHERE intent = ?", (intent,)).fetchone()
        return None if row is None else _read_batch(row)

    def find_last_batch(self) -> int:
        """Return the number of the last batch of all jobs, 0 if there is none."""
        with self._database.read() as connection:
            return _find_last_batch(connection)

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


def _find_last_batch(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT coalesce(max(batch), 0) FROM batches").fetchone()
    return int(last)


def _read_batch(row: Sequence[Any]) -> NotedBatch:
    intent, provider, model, provider_id, rows, *rest = row
    return NotedBatch(intent, provider, model, provider_id, json.loads(rows), *rest)


def _read_json(name: str, value: Any) -> Any:
    return json.loads(value) if name in ("value", "usage", "row") and value is not None else value
