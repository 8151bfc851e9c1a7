"""The SQLite file that the workers of a server share: chats with their answers, suspended runs, and responses.

One file has all of it, so that a program names one `store`; `ai_sdk/store.py` and `openai/response_store.py` read and
write their own tables.
"""

from __future__ import annotations

import os
import sqlite3

from mellea.core.sqlite import Database

__all__ = ["drop_oldest", "open_server_file"]

_SCHEMA = (
    (
        "CREATE TABLE answers (chat TEXT PRIMARY KEY, answer TEXT NOT NULL, alive REAL NOT NULL, read REAL NOT NULL,"
        " is_stopped INTEGER NOT NULL, has_ended INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE pieces (answer TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,"
        " PRIMARY KEY (answer, number)) WITHOUT ROWID",
        "CREATE TABLE waiting (chat TEXT PRIMARY KEY, state TEXT NOT NULL, calls TEXT NOT NULL, until REAL NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT NOT NULL, response TEXT NOT NULL,"
        " messages TEXT NOT NULL, kept REAL NOT NULL) WITHOUT ROWID",
        "CREATE INDEX responses_kept ON responses (kept)",
    ),
    (
        "ALTER TABLE responses ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        "UPDATE responses SET size = length(response) + length(messages)",
        "CREATE INDEX responses_size ON responses (kept, size)",
        "DROP INDEX responses_kept",
        "ALTER TABLE waiting ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        "UPDATE waiting SET size = length(state) + length(calls)",
        "CREATE INDEX waiting_size ON waiting (until, size)",
    ),
)


def drop_oldest(connection: sqlite3.Connection, table: str, when: str, most: int, largest: int) -> None:
    """Delete the oldest rows of a table that has too many rows, or too large ones.

    Args:
        connection: in a transaction that writes.
        table: has a column `size`, and an index over `when` and it.
        when: the column by which rows are old.
        most: how many rows stay.
        largest: the largest sum of their sizes.
    """
    count, size = connection.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM {table}").fetchone()
    if count <= most and size <= largest:
        return
    newest = f"SELECT {when} AS made, row_number() OVER newer AS number, sum(size) OVER newer AS total FROM {table}"
    query = f"{newest} WINDOW newer AS (ORDER BY {when} DESC ROWS UNBOUNDED PRECEDING)"
    connection.execute(
        f"DELETE FROM {table} WHERE {when} <= (SELECT max(made) FROM ({query}) WHERE number > ? OR total > ?)",
        (most, largest),
    )


def open_server_file(path: str | os.PathLike[str]) -> Database:
    """Return the file, opened at its first use; `":memory:"` for none.

    A killed process loses nothing that it has written; a power failure may lose the last moment.
    """
    return Database(path, kind="mellea server", schema=_SCHEMA, is_durable=False)
