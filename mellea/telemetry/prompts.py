"""Prompts in the file of a record: each message is stored once, however many calls it was sent with.

Rules:

- A prompt is its last message and the prompt before that, so the calls of a conversation share all but the new
  messages, and storage grows linearly with a conversation's length, not with its square.
- A prompt is found by the hash of all its messages, a message by its own hash.
- Prompts that no span refers to are deleted with the runs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["PROMPT_TABLES", "delete_unused_prompts", "read_prompts", "write_prompt"]

PROMPT_TABLES = (
    "CREATE TABLE messages (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, data TEXT NOT NULL)",
    "CREATE TABLE prompts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, before INTEGER,"
    " message INTEGER NOT NULL)",
    "ALTER TABLE spans ADD COLUMN prompt INTEGER",
    "CREATE INDEX spans_by_prompt ON spans (prompt) WHERE prompt IS NOT NULL",
)
"""The statements that make the tables."""

_SIZE = 16
"""The length of a hash in bytes; a collision is practically impossible."""

_MOST_IDS = 500

_ALL_BEFORE = (
    "WITH RECURSIVE used (id) AS ({first} UNION SELECT before FROM prompts JOIN used USING (id) WHERE before NOTNULL)"
)


def write_prompt(connection: sqlite3.Connection, messages: Sequence[str]) -> int | None:
    """Store a prompt, unless it is already there, and return its id; `None` for one without messages.

    Args:
        connection: in a transaction.
        messages: each as JSON, the oldest first.
    """
    hashes: list[bytes] = []
    for message in messages:
        before = hashes[-1] if hashes else b""
        hashes.append(hashlib.blake2b(before + message.encode(), digest_size=_SIZE).digest())
    found, known = None, len(messages)
    # From the end, because most of a conversation is already stored.
    while known:
        row = connection.execute("SELECT id FROM prompts WHERE hash = ?", (hashes[known - 1],)).fetchone()
        if row is not None:
            (found,) = row
            break
        known -= 1
    for message, hash in zip(messages[known:], hashes[known:], strict=True):
        row = (hash, found, _write_message(connection, message))
        found = connection.execute("INSERT INTO prompts (hash, before, message) VALUES (?, ?, ?)", row).lastrowid
    return found


def _write_message(connection: sqlite3.Connection, message: str) -> int | None:
    hash = hashlib.blake2b(message.encode(), digest_size=_SIZE).digest()
    row = connection.execute("SELECT id FROM messages WHERE hash = ?", (hash,)).fetchone()
    if row is not None:
        return int(row[0])
    return connection.execute("INSERT INTO messages (hash, data) VALUES (?, ?)", (hash, message)).lastrowid


def read_prompts(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, list[Any]]:
    """Return the messages of prompts, the oldest first, by the prompts' ids."""
    wanted = sorted(set(ids))
    parts: dict[int, tuple[int | None, Any]] = {}
    for first in range(0, len(wanted), _MOST_IDS):
        # Passed as one value: a list of values would become a compound of as many terms, and SQLite allows 500.
        some = json.dumps(wanted[first : first + _MOST_IDS])
        used = _ALL_BEFORE.format(first="SELECT value FROM json_each(?)")
        rows = connection.execute(
            f"{used} SELECT prompts.id, before, data FROM used JOIN prompts USING (id)"
            " JOIN messages ON messages.id = message",
            (some,),
        )
        parts.update({id: (before, json.loads(data)) for id, before, data in rows if id not in parts})
    return {id: _join(parts, id) for id in wanted if id in parts}


def _join(parts: dict[int, tuple[int | None, Any]], id: int | None) -> list[Any]:
    found = []
    while id is not None:
        id, message = parts[id]
        found.append(message)
    return found[::-1]


def delete_unused_prompts(connection: sqlite3.Connection) -> None:
    """Delete the prompts and messages that no span refers to any more."""
    used = _ALL_BEFORE.format(first="SELECT prompt FROM spans WHERE prompt NOTNULL")
    connection.execute(f"{used} DELETE FROM prompts WHERE id NOT IN (SELECT id FROM used)")
    connection.execute("DELETE FROM messages WHERE id NOT IN (SELECT message FROM prompts)")
