"""The file of a record: spans in SQLite, grouped into runs. Start here to learn what is in it.

Rules:

- A run is a span without a parent and everything below it. The run's id is the id of that span.
- Ids are numbers assigned by the file in the order in which spans were written; none is used twice.
- A running span is in the file as well, and is written again when it has ended.
- A process that writes is a row in `writers`. A span that is still marked as running after its writer has ended, or was
  killed, is `"lost"`: nobody can say how it ended.
- If the file is larger than allowed, the oldest runs are deleted, each as a whole. The newest run and running ones are
  kept: while these alone are too large, only the first spans of further runs are written (`is_full`).
- Prompts are stored separately, each message once (`prompts.py`), so the calls of a conversation share earlier
  messages.

The schema is version 3 (`PRAGMA user_version`). It may be read by any program that knows SQLite:

    spans     id, run, parent, writer   numbers; `parent` is NULL for the span that the run is named after
              kind, name, status        texts; see `mellea.traces.Span`. A status is running, ok, error or cancelled
              started, seconds          seconds since the epoch; seconds it took, NULL while it runs
              session, error_type       texts, or NULL
              is_request                1 for a request to a model, which alone has tokens and a cost
              model, input_tokens, output_tokens, cost          NULL if unknown; cost in US dollars
              links                     JSON list of ids: the spans of the thunks that a call is made of
              data                      JSON object: everything else, by the names of `core/span_data.py`
              prompt                    id in `prompts`: the messages that were sent, where content is recorded, or NULL
    prompts   id, hash, before, message   the prompt without its last message (NULL if that is the only one), and that
    messages  id, hash, data              JSON object: a message
    writers   id, host, pid, version, content, started, ended   one for each process and recording
    runs      a view: a row for each run, with its sums over the spans; `models` is a JSON list of texts
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mellea._version import __version__
from mellea.core.numbers import check_whole
from mellea.core.processes import has_ended
from mellea.core.sqlite import Database, UnusableFileError
from mellea.errors import ConfigurationError, StateError, UsageError
from mellea.telemetry.prompts import PROMPT_TABLES, delete_unused_prompts, read_prompts, write_prompt

__all__ = ["COLUMNS", "Entry", "RunFile", "StoredAt", "read_changes", "read_run", "read_runs", "reading"]

COLUMNS = (
    "kind",
    "name",
    "status",
    "started",
    "seconds",
    "session",
    "error_type",
    "is_request",
    "model",
    "input_tokens",
    "output_tokens",
    "cost",
)
"""The parts of a span's data that have their own column, for queries; the rest is JSON in the column `data`."""


def _make_view(models: str) -> str:
    """Return the statement that makes the view `runs`; its column `models` is an aggregate over requests."""
    return f"""
    CREATE VIEW runs AS SELECT root.id, root.name, root.kind,
    CASE WHEN root.status = 'running' AND writers.ended IS NOT NULL THEN 'lost' ELSE root.status END AS status,
    root.started, root.seconds, root.session, root.error_type, writers.content, root.writer,
    (SELECT count(*) FROM spans WHERE run = root.id) AS spans,
    (SELECT count(*) FROM spans WHERE run = root.id AND is_request) AS requests,
    (SELECT {models} FROM spans WHERE run = root.id AND is_request) AS models,
    (SELECT sum(input_tokens) FROM spans WHERE run = root.id) AS input_tokens,
    (SELECT sum(output_tokens) FROM spans WHERE run = root.id) AS output_tokens,
    (SELECT CASE WHEN count(*) = count(cost) THEN total(cost) END FROM spans WHERE run = root.id AND is_request) AS cost
    FROM spans AS root JOIN writers ON writers.id = root.writer WHERE root.parent IS NULL
    """


_SCHEMA: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE writers (id INTEGER PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, version TEXT NOT NULL,"
        " content INTEGER NOT NULL, started REAL NOT NULL, ended REAL)",
        "CREATE TABLE spans (id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, parent INTEGER,"
        " writer INTEGER NOT NULL REFERENCES writers (id), kind TEXT NOT NULL, name TEXT NOT NULL,"
        " status TEXT NOT NULL, started REAL NOT NULL, seconds REAL, session TEXT, error_type TEXT,"
        " is_request INTEGER NOT NULL, model TEXT, input_tokens INTEGER, output_tokens INTEGER, cost REAL,"
        " links TEXT, data TEXT NOT NULL)",
        "CREATE INDEX spans_of_runs ON spans (run)",
        "CREATE INDEX runs_by_time ON spans (started) WHERE parent IS NULL",
        _make_view("group_concat(DISTINCT model)"),
    ),
    PROMPT_TABLES,
    # As JSON, since a model's name may contain commas.
    ("DROP VIEW runs", _make_view("json_group_array(DISTINCT model) FILTER (WHERE model NOTNULL)")),
)

_ROWS = 50
"""Rows per statement: each one waits for the interpreter's lock, and SQLite once allowed only 999 parameters."""

_KEPT = 0.9
"""The share of the allowed size that is left after deleting old runs, so that this isn't done at each write."""

_SLACK = 1.02
"""How much larger than allowed the file may be before free pages are released: usually they are used again."""

_AGE_SECONDS = 60.0
"""How often to look for runs that are too old, in seconds."""


class StoredAt:
    """A span's position in the file: 0 and 0 until it has been written.

    Attributes:
        id: its id.
        run: the id of its run.
        file: identifies the file, in case it is replaced by another.
    """

    __slots__ = ("file", "id", "run")

    def __init__(self) -> None:
        self.id = self.run = self.file = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A span to be written.

    Attributes:
        place: its position; filled in when it has been written.
        parent: its parent's position, `None` without one in this record.
        links: the positions of the spans that it is linked to.
        columns: the values of `COLUMNS`.
        data: everything else, as JSON.
        messages: the messages that were sent, each as JSON.
    """

    place: StoredAt
    parent: StoredAt | None
    links: tuple[StoredAt, ...]
    columns: tuple[Any, ...]
    data: str
    messages: tuple[str, ...] = ()


class RunFile:
    """A file with the spans of runs, which several processes may write at once.

    Args:
        path: the file, created if it doesn't exist.
        content: whether this process writes content.
        max_bytes: how large it may become.
        max_age: how old a run may become, in seconds; `None` for any age.
        wait: seconds to wait for another program's lock.

    Attributes:
        is_full: whether running spans alone fill the allowed size.
        times_lost: how often the file was deleted or replaced by another one while it was written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        content: bool = False,
        max_bytes: int | None = None,
        max_age: float | None = None,
        wait: float = 30.0,
    ) -> None:
        self.database = Database(path, kind="mellea runs", schema=_SCHEMA, is_durable=False, wait=wait)
        self._content = content
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._looked = float("-inf")
        self._writer = self._process = 0
        self.is_full = False
        self.times_lost = 0

    def write(self, entries: Sequence[Entry] = ()) -> None:
        """Write spans, parents before their children, in one transaction; delete runs beyond the limits.

        A span whose run has been deleted is left out, or, if it is a new one, becomes a run of its own. While the file
        `is_full`, new spans are left out, except for the first of a run. If the file itself was deleted or replaced,
        the spans go into a new file, or into the replacement.

        Raises:
            StateError: the file isn't such a file, or is damaged.
            UnusableFileError: it can't be opened or written.
        """
        process = os.getpid()
        if self.database.has_moved():
            self.database.leave_moved()
            self._process = 0
            self.times_lost += 1
        placed = _Places(self.times_lost)
        with self.database.write() as connection:
            # A forked child inherits the object, but is a writer of its own.
            writer = self._writer if self._process == process else self._begin_writer(connection)
            rows = list(_rows(connection, entries, writer, placed, is_full=self.is_full))
            for first in range(0, len(rows), _ROWS):
                part = rows[first : first + _ROWS]
                places = ", ".join([_PLACES] * len(part))
                # REPLACE, because a span that was written while it ran is written again at its end.
                connection.execute(f"REPLACE INTO spans VALUES {places}", [value for row in part for value in row])
            self.is_full = not self._prune(connection)
            # Measured inside the transaction but released after it, because `executescript` would end the transaction.
            is_too_large = self._max_bytes is not None and _bytes(connection) > self._max_bytes * _SLACK
        if is_too_large:
            self.database.shrink()
        self._writer, self._process = writer, process  # now that it is committed
        # Only now: a failed transaction leaves the fields empty, so that the same entries can be written again.
        placed.keep()

    def close(self) -> None:
        """Record that this process has stopped writing, and close the file."""
        # A forked child must not end its parent's recording, and nobody reads the end time in a deleted file.
        if self._process == os.getpid() and not self.database.has_moved():
            with self.database.write() as connection:
                connection.execute("UPDATE writers SET ended = ? WHERE id = ?", (time.time(), self._writer))
        self._process = 0
        self.database.close()

    def _begin_writer(self, connection: sqlite3.Connection) -> int:
        here, now = (socket.gethostname(), os.getpid()), time.time()
        # A writer with this process's number belongs to an earlier process.
        connection.execute("UPDATE writers SET ended = ? WHERE ended IS NULL AND host = ? AND pid = ?", (now, *here))
        _end_gone_writers(connection)
        insert = "INSERT INTO writers (host, pid, version, content, started) VALUES (?, ?, ?, ?, ?)"
        return connection.execute(insert, (*here, __version__, self._content, now)).lastrowid or 0

    def _prune(self, connection: sqlite3.Connection) -> bool:
        """Delete runs beyond the limits; returns whether that was enough."""
        now = time.monotonic()
        if self._max_age is not None and now > self._looked + _AGE_SECONDS:
            self._looked = now
            # Running ones stay: they are long, not old.
            _delete_runs(connection, "started < ? AND status <> 'running'", (time.time() - self._max_age,))
        if self._max_bytes is None or _bytes(connection, is_free=False) <= self._max_bytes:
            return True
        _end_gone_writers(connection)
        while _bytes(connection, is_free=False) > self._max_bytes * _KEPT:
            (runs,) = connection.execute(f"SELECT count(*) FROM spans WHERE {_DELETABLE}").fetchone()
            if not runs:
                break
            # A tenth at a time: deleting one by one would measure the file after each.
            oldest = f"id IN (SELECT id FROM spans WHERE {_DELETABLE} ORDER BY id LIMIT ?)"
            _delete_runs(connection, oldest, (runs // 10 + 1,))
        return _bytes(connection, is_free=False) <= self._max_bytes


_DELETABLE = (
    "parent IS NULL AND id <> (SELECT max(id) FROM spans WHERE parent IS NULL)"
    " AND (status <> 'running' OR writer IN (SELECT id FROM writers WHERE ended NOTNULL))"
)
"""The first spans of runs that may be deleted. The newest run stays: otherwise a large one would vanish as it ends."""


def _end_gone_writers(connection: sqlite3.Connection) -> None:
    found = connection.execute("SELECT id, host, pid FROM writers WHERE ended IS NULL").fetchall()
    gone = [(time.time(), id) for id, host, pid in found if has_ended(host, pid)]
    connection.executemany("UPDATE writers SET ended = ? WHERE id = ?", gone)


_PLACES = f"({', '.join('?' * (len(COLUMNS) + 7))})"


def _rows(
    connection: sqlite3.Connection,
    entries: Sequence[Entry],
    writer: int,
    placed: _Places,
    *,
    is_full: bool,
) -> Iterator[tuple[Any, ...]]:
    kept = _existing_runs(connection, entries, placed)
    # From SQLite's own table: the highest id in `spans` may have been deleted, and ids are never given out twice.
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'spans'").fetchone()
    for entry in entries:
        parent = placed.find(entry.parent)
        if parent is not None and parent[1] not in kept:
            # Its run was deleted, so the span starts a run of its own.
            parent = None
        if (known := placed.find(entry.place)) is not None:
            if known[1] not in kept:
                # The rest of a deleted run isn't restored piece by piece.
                continue
            found = known
        elif is_full and entry.parent is not None:
            continue
        else:
            last += 1
            found = last, last if parent is None else parent[1]
            kept.add(found[1])
        placed.note(entry.place, found)
        linked = [link[0] for each in entry.links if (link := placed.find(each)) is not None]
        links = json.dumps(linked) if linked else None
        above = None if parent is None else parent[0]
        prompt = write_prompt(connection, entry.messages)
        yield found[0], found[1], above, writer, *entry.columns, links, entry.data, prompt


class _Places:
    """The positions of spans in a file: known ones, and those added by a transaction.

    Args:
        file: identifies the file.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._new: dict[StoredAt, tuple[int, int]] = {}

    def note(self, place: StoredAt, found: tuple[int, int]) -> None:
        """Remember the ids of a span and of its run, until the transaction is committed."""
        self._new[place] = found

    def find(self, place: StoredAt | None) -> tuple[int, int] | None:
        """Return the ids of a span and of its run, `None` if it isn't in this file."""
        if place is None:
            return None
        return self._new.get(place) or ((place.id, place.run) if place.id and place.file == self._file else None)

    def keep(self) -> None:
        """Keep the remembered ids, after the commit."""
        for place, (id, run) in self._new.items():
            place.id, place.run, place.file = id, run, self._file


def _existing_runs(connection: sqlite3.Connection, entries: Sequence[Entry], placed: _Places) -> set[int]:
    """Return the runs of entries that haven't been deleted in the meantime."""
    places = [placed.find(place) for entry in entries for place in (entry.place, entry.parent)]
    asked = list({place[1] for place in places if place is not None})
    found: set[int] = set()
    for first in range(0, len(asked), _ROWS):
        part = asked[first : first + _ROWS]
        rows = connection.execute(f"SELECT id FROM spans WHERE id IN ({', '.join('?' * len(part))})", part)
        found.update(id for (id,) in rows)
    return found


def _delete_runs(connection: sqlite3.Connection, which: str, arguments: Sequence[Any]) -> None:
    connection.execute(
        f"DELETE FROM spans WHERE run IN (SELECT id FROM spans WHERE parent IS NULL AND {which})", arguments
    )
    delete_unused_prompts(connection)


def _bytes(connection: sqlite3.Connection, *, is_free: bool = True) -> int:
    """Return the size of the file, with or without its free pages."""
    size, pages, free = [
        # SQLite keeps page counts in its header, so reading them is cheap enough for every write.
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    ]
    return size * (pages if is_free else pages - free)


def read_runs(path: str | os.PathLike[str], *, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the runs in a record, each as a dict of JSON values, the newest first.

    Each has `id`, `name`, `kind`, `status`, `started` (seconds since the epoch), `spans` and `requests` (how many),
    `content` (whether content was recorded), and, if known, `seconds`, `session`, `error_type`, `models`,
    `input_tokens`, `output_tokens` and `cost` (in US dollars).

    Args:
        path: the file.
        limit: the maximum number, `None` for all.

    Raises:
        UsageError: there is no such file, or the limit isn't a number.
        StateError: it isn't a record, or damaged.
    """
    check_whole("limit", limit, 0, or_none=True)
    query = "SELECT * FROM runs ORDER BY id DESC LIMIT ?"
    with reading(path) as connection:
        rows = _dicts(connection.execute(query, (-1 if limit is None else _fit(limit),)))
        lost = _lost_writers(connection)
    with _explaining(path):
        return [_read_row(row, lost) for row in rows]


def _read_row(row: dict[str, Any], lost: set[int]) -> dict[str, Any]:
    row["content"] = bool(row["content"])
    row["models"] = json.loads(row["models"])
    if row["status"] == "running" and row["writer"] in lost:
        row["status"] = "lost"
    del row["writer"]
    return _check(_known(row))


_STATUSES = ("running", "ok", "error", "cancelled", "lost")


def _check(data: dict[str, Any]) -> dict[str, Any]:
    """Return data of a run or a span, if the fields that all of them have are what they should be."""
    if data["status"] not in _STATUSES or not isinstance(data["started"], (int, float)):
        raise ValueError(f"{data['id']!r} has the status {data['status']!r} and began at {data['started']!r}")
    if not isinstance(data["name"], str) or not isinstance(data["kind"], str):
        raise ValueError(f"{data['id']!r} has the name {data['name']!r} and the kind {data['kind']!r}")
    return data


@contextmanager
def _explaining(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise StateError(
            f"the record {os.fspath(path)!r} is damaged, or another program has changed it: {type(error).__name__}: "
            f"{error}; move it away, and a new one is made"
        ) from error


def read_run(path: str | os.PathLike[str], id: int) -> list[dict[str, Any]]:
    """Return the spans of a run, a dict of JSON values for each, in the order in which they began.

    Each is the result of `describe_span` in `core/span_data.py`, with these additions:

    - `id`, `parent` and `links` are the ids of spans in this file, `run` is that of the first span
    - `status` may be `"lost"`: it was running when its process was killed or the record was closed
    - `seconds` is missing while it runs, or if it is lost
    - `retries`: how often the request was sent again
    - `chunks`, if content was recorded: when the text of the answer arrived (so far, while it runs), as a list of
      `[milliseconds, length]`: milliseconds since the span's beginning, and how many characters arrived then

    Args:
        path: the file.
        id: the id of the run, as in `read_runs`.

    Raises:
        UsageError: there is no such file, or no such run in it.
        StateError: it isn't a record.
    """
    if type(id) is not int:
        raise UsageError(f"the id of a run is a number, not {id!r}")
    with reading(path) as connection:
        rows = _dicts(connection.execute("SELECT * FROM spans WHERE run = ? ORDER BY id", (_fit(id),)))
        lost = _lost_writers(connection, is_ended_too=True)
        if not rows:
            raise UsageError(f"there is no run {id!r} in {os.fspath(path)!r}; {_nearest(connection, id)}")
        with _explaining(path):
            return _read_spans(connection, rows, lost)


def _fit(number: int) -> int:
    """Return the number, or the nearest one that SQLite takes."""
    return max(-(2**63), min(number, 2**63 - 1))


def _nearest(connection: sqlite3.Connection, id: int) -> str:
    """Name the runs with ids close to this one."""
    id = _fit(id)
    inside = connection.execute("SELECT run FROM spans WHERE id = ?", (id,)).fetchone()
    if inside is not None:
        return f"that is a span of run {inside[0]}"
    near = "SELECT id FROM spans WHERE parent IS NULL ORDER BY abs(id - ?) LIMIT 3"
    found = sorted(each for (each,) in connection.execute(near, (id,)))
    if not found:
        return "it is empty"
    return f"the nearest are {', '.join(map(str, found))}; `mellea traces list` shows more"


def read_changes(
    path: str | os.PathLike[str], id: int, *, after: int, running: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Return the spans of a run that have begun, grown or ended since it was last read; see `read_run`.

    Args:
        path: the file.
        id: which run.
        after: the highest known span id.
        running: the ids of spans that were running when they were read, and how many characters had arrived by then.

    Raises:
        UsageError: there is no such file.
        StateError: it isn't a record.
    """
    asked = list(running)
    with reading(path) as connection:
        rows = _dicts(connection.execute("SELECT * FROM spans WHERE run = ? AND id > ? ORDER BY id", (id, after)))
        for first in range(0, len(asked), _ROWS):
            part = asked[first : first + _ROWS]
            # Only spans that were running are read again, since nothing else in a written span can change.
            wanted = f"SELECT * FROM spans WHERE run = ? AND id IN ({', '.join('?' * len(part))})"
            rows += _dicts(connection.execute(wanted, (id, *part)))
        lost = _lost_writers(connection, is_ended_too=True)
        with _explaining(path):
            spans = _read_spans(connection, rows, lost)
    return [span for span in spans if span["status"] != "running" or _length(span) > running.get(span["id"], -1)]


def _length(span: Mapping[str, Any]) -> int:
    """Return how many characters of an answer have arrived."""
    return sum([length for _, length in span.get("chunks", ())])


def _read_spans(connection: sqlite3.Connection, rows: list[dict[str, Any]], lost: set[int]) -> list[dict[str, Any]]:
    prompts = read_prompts(connection, [row["prompt"] for row in rows if row["prompt"] is not None])
    return [_read_span(row, lost, prompts) for row in rows]


def _read_span(row: dict[str, Any], lost: set[int], prompts: Mapping[int, list[Any]]) -> dict[str, Any]:
    data = json.loads(row.pop("data"))
    if (prompt := row.pop("prompt")) is not None:
        data["messages"] = prompts[prompt]
    row["links"] = None if row["links"] is None else json.loads(row["links"])
    row["is_request"] = bool(row["is_request"])
    if row.pop("writer") in lost and row["status"] == "running":
        row["status"] = "lost"
    return _check({**_known(row), **data})


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """Open a connection for reading a record.

    Raises:
        UsageError: there is no such file.
        StateError: it isn't a record.
        ConfigurationError: it can't be read.
    """
    try:
        is_there = Path(path).is_file()
        is_empty = is_there and not Path(path).stat().st_size and not Path(f"{os.fspath(path)}-wal").exists()
    except OSError as error:
        raise ConfigurationError(f"the record {os.fspath(path)!r} can't be read: {error.strerror}") from error
    if not is_there:
        raise UsageError(
            f"there is no record {os.fspath(path)!r}; mellea.traces.record(…) or MELLEA_TRACES=… makes one"
        )
    # An empty file is a record without runs, and looking at it writes nothing into it.
    database = RunFile(":memory:" if is_empty else path).database
    try:
        with database.read() as connection:
            yield connection
    except UnusableFileError as error:
        raise ConfigurationError(f"the record {os.fspath(path)!r} can't be read: {error.__cause__ or error}") from error
    finally:
        database.close()


def _lost_writers(connection: sqlite3.Connection, *, is_ended_too: bool = False) -> set[int]:
    rows = connection.execute("SELECT id, host, pid, ended FROM writers").fetchall()
    return {id for id, host, pid, ended in rows if (is_ended_too if ended is not None else has_ended(host, pid))}


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
