"""The SQLite file that the workers of a server share: chats with their answers, runs that wait, and responses.

One file has all of it, so that a program names one `store`; `ai_sdk/store.py` and `openai/response_store.py` read and
write their own tables.
"""

from __future__ import annotations

import os

from mellea.core.sqlite import Database

__all__ = ["open_server_file"]

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
)


def open_server_file(path: str | os.PathLike[str]) -> Database:
    """Return the file, opened at its first use; `":memory:"` for none.

    What a killed process has written is there; the last moment before a failure of power may not be.
    """
    return Database(path, kind="mellea server", schema=_SCHEMA, is_durable=False)
