"""The notes of a memory, in an SQLite file that several processes may share.

Rules:

- A note belongs to one user, and no call reads or changes another user's. Ids are never reused.
- A user has each text once, whatever its case. Storing it again makes it the newest.
- If a user has too many notes, the least recently written or recalled ones are deleted.
- Vectors of notes are a cache: each is of one embedding model and of the note's present text.
- What is deleted is overwritten in the file.
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mellea.core.sqlite import Database
from mellea.stdlib.agents.memory.note import Note

__all__ = ["NoteStore"]

_SCHEMA: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, text TEXT NOT NULL,"
        " folded TEXT NOT NULL, at REAL NOT NULL, used REAL NOT NULL, UNIQUE (user, folded))",
        "CREATE TABLE vectors (note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE, model TEXT NOT NULL,"
        " vector BLOB NOT NULL, PRIMARY KEY (note, model)) WITHOUT ROWID",
    ),
)


class NoteStore:
    """Reads and writes the notes of all users of one file; the calls block, and any thread may make them.

    Args:
        path: the file; `":memory:"` for notes that end with the process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = Database(path, kind="mellea memory", schema=_SCHEMA)
        self.path = self._database.path
        weakref.finalize(self, self._database.close)

    def put(self, user: str, text: str, replaces: int | None, most: int) -> Note | None:
        """Add or change a note, and delete the surplus.

        Args:
            user: whose note it is.
            text: the text of the note.
            replaces: the id of the note to replace.
            most: how many notes the user may have.

        Returns:
            The note; `None` if there is none to replace.
        """
        with self._write() as connection:
            now = _later(connection, user)
            if replaces is not None:
                found = "SELECT id FROM notes WHERE id = ? AND user = ?"
                if connection.execute(found, (replaces, user)).fetchone() is None:
                    return None
            folded = text.casefold()
            same = "SELECT id FROM notes WHERE user = ? AND folded = ?"
            found_id = connection.execute(same, (user, folded)).fetchone()
            if found_id is not None and replaces not in (None, found_id[0]):
                connection.execute("DELETE FROM notes WHERE id = ?", (replaces,))
            number: Any = replaces if found_id is None else found_id[0]
            if number is None:
                row = (user, text, folded, now, now)
                add = "INSERT INTO notes (user, text, folded, at, used) VALUES (?, ?, ?, ?, ?)"
                number = connection.execute(add, row).lastrowid
            else:
                change = "UPDATE notes SET text = ?, folded = ?, at = ?, used = ? WHERE id = ?"
                connection.execute(change, (text, folded, now, now, number))
                connection.execute("DELETE FROM vectors WHERE note = ?", (number,))
            drop = "SELECT id FROM notes WHERE user = ? AND id != ? ORDER BY used DESC, id DESC LIMIT -1 OFFSET ?"
            connection.execute(f"DELETE FROM notes WHERE id IN ({drop})", (user, number, most - 1))
            return Note(number, text, now)

    def read(self, user: str) -> list[Note]:
        """Return a user's notes, the newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, text, at FROM notes WHERE user = ? ORDER BY at DESC, id DESC", (user,)
            )
            return [Note(*row) for row in rows]

    def touch(self, user: str, notes: Iterable[Note]) -> None:
        """Mark these notes as recalled."""
        ids = [note.id for note in notes]
        if ids:
            with self._database.write() as connection:
                now = _later(connection, user)
                rows = [(now, number, user) for number in ids]
                connection.executemany("UPDATE notes SET used = ? WHERE id = ? AND user = ?", rows)

    def delete(self, user: str, number: int) -> bool:
        """Delete a note, and return whether there was one."""
        with self._write() as connection:
            return connection.execute("DELETE FROM notes WHERE id = ? AND user = ?", (number, user)).rowcount > 0

    def clear(self, user: str) -> int:
        """Delete all notes of a user, and return how many there were."""
        with self._write() as connection:
            return connection.execute("DELETE FROM notes WHERE user = ?", (user,)).rowcount

    def list_vectors(self, user: str, model: str) -> dict[int, bytes]:
        """Return the vectors that one embedding model has made of a user's notes, by the ids of the notes."""
        with self._database.read() as connection:
            find = "SELECT note, vector FROM vectors JOIN notes ON notes.id = note WHERE user = ? AND model = ?"
            return dict(connection.execute(find, (user, model)).fetchall())

    def keep_vectors(self, model: str, vectors: Mapping[Note, bytes]) -> None:
        """Store the vectors of notes whose text hasn't changed meanwhile."""
        rows = [(model, vector, note.id, note.text) for note, vector in vectors.items()]
        with self._database.write() as connection:
            keep = "INSERT OR REPLACE INTO vectors SELECT id, ?, ? FROM notes WHERE id = ? AND text = ?"
            connection.executemany(keep, rows)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for one transaction, which overwrites what it deletes."""
        with self._database.write() as connection:
            connection.execute("PRAGMA secure_delete=ON")
            yield connection


def _later(connection: sqlite3.Connection, user: str) -> float:
    """Return a time later than that of any of the user's notes, even if the clock is coarse or was set back."""
    (last,) = connection.execute("SELECT max(used) FROM notes WHERE user = ?", (user,)).fetchone()
    return max(time.time(), (last or 0.0) + 1e-6)
