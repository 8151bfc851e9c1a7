"""Compaction of a journal, beside maps that write to it.

Rules:

- What is dropped is looked for in a transaction that only reads, and dropped in short ones, with pauses between them:
  SQLite has no queue for its lock. Whoever waits for it looks again after some milliseconds, and gets it only if it is
  free at that moment. So nobody waits for a compaction, however often it is called.
- An answer is dropped if the same row of the same job, by its id and its content, was answered later: by another
  prompt, model or version, or for a second time. Rows that differ and have one id keep one answer each.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from mellea.core.sqlite import Database

__all__ = ["ANSWERED", "compact"]

_ROWS = 1000
"""How many rows one transaction drops: some milliseconds."""

_PAGES = 500
"""How many pages one transaction gives back."""

_PAUSE_SECONDS = 0.03
"""The least pause behind a transaction. Who waits looks every 1, 2, 5, 10, 15, 20 and 25 ms (SQLite's main.c)."""

_PAUSE_SHARE = 1.0
"""How many times as long as a transaction took the pause behind it is."""

ANSWERED = (
    "WITH answered AS MATERIALIZED (SELECT job, id, row_digest, max(at) AS at FROM answers"
    " WHERE (job, id) IN (SELECT job, id FROM failures) GROUP BY job, id, row_digest),"
    # The last failure of each row, and when the row was answered.
    " last AS MATERIALIZED (SELECT f.failure, max(answered.at) AS answered_at FROM failures AS f"
    " LEFT JOIN answered ON answered.job = f.job AND answered.id = f.id"
    " AND (answered.row_digest = f.row_digest OR answered.row_digest IS NULL OR f.row_digest IS NULL)"
    " WHERE f.failure IN (SELECT max(failure) FROM failures GROUP BY job, id, row_digest) GROUP BY f.failure)"
)
"""The last failure of each row, and when the row was answered last; one pass over the answers."""

_DROPPED_ANSWERS = (
    "SELECT answer, at FROM (SELECT answer, at, key, row_digest,"
    " row_number() OVER (PARTITION BY job, key ORDER BY answer DESC) AS of_key,"
    " row_number() OVER (PARTITION BY job, id, row_digest ORDER BY answer DESC) AS of_row FROM answers)"
    " WHERE of_key > 1 OR (of_row > 1 AND row_digest IS NOT NULL)"
)
_DROPPED_FAILURES = (
    f"{ANSWERED} SELECT failure, at FROM failures WHERE failure NOT IN"
    " (SELECT last.failure FROM last JOIN failures AS f USING (failure)"
    " WHERE answered_at IS NULL OR answered_at < f.at)"
)


def compact(database: Database) -> int:
    """Drop what is of no use any more, give the space back, and return how many entries were dropped."""
    with database.read() as connection:
        answers = connection.execute(_DROPPED_ANSWERS).fetchall()
        failures = connection.execute(_DROPPED_FAILURES).fetchall()
    # Identified by its time as well, because once the last failure is dropped, the next one gets its number.
    dropped = _drop(database, "DELETE FROM answers WHERE answer = ? AND at = ?", answers)
    dropped += _drop(database, "DELETE FROM failures WHERE failure = ? AND at = ?", failures)
    while database.shrink(_PAGES):
        time.sleep(_PAUSE_SECONDS)
    return dropped


def _drop(database: Database, statement: str, entries: Sequence[tuple[int, float]]) -> int:
    dropped = 0
    for begin in range(0, len(entries), _ROWS):
        began = time.monotonic()
        with database.write() as connection:
            dropped += _execute_many(connection, statement, entries[begin : begin + _ROWS])
        time.sleep(max(_PAUSE_SECONDS, _PAUSE_SHARE * (time.monotonic() - began)))
    return dropped


def _execute_many(connection: sqlite3.Connection, statement: str, entries: Sequence[tuple[int, float]]) -> int:
    # Another process may have dropped some of them in the meantime, so only those that remain are counted.
    return connection.executemany(statement, entries).rowcount
