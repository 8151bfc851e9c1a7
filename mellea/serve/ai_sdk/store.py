"""Shares chats between the workers of a server, in an SQLite file.

Rules:

- The worker that writes an answer copies its growing log into the file, marks itself as alive, and checks whether the
  answer should be stopped and has readers.
- A worker whose process has died sends no more signs of life: its answers count as interrupted.
- A state that waits for approvals is taken once, by the first request.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

from mellea.serve.server_file import drop_oldest, open_server_file

__all__ = ["ChatStore", "LogPage", "Waiting"]

DEAD_SECONDS = 10.0
"""How long after its worker's last sign of life an answer counts as interrupted."""

_READ_SECONDS = 3.0
"""How long a read in another process counts."""

_WAIT_SECONDS = 24 * 3600.0
"""How long a run waits for approvals."""

_MOST_WAITING = 100_000
_LARGEST_WAITING = 2**30
"""How many runs may wait for approvals, and how many characters their states may have together."""

_LARGEST_PAGE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """A suspended run: its state as JSON, and the clients' ids of its calls."""

    state: str
    calls: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of an answer's log.

    Attributes:
        answer: the answer's id.
        data: the next data.
        number: the next position.
        has_ended: whether nothing comes after it.
        is_broken: whether its worker has died.
    """

    answer: str
    data: bytes
    number: int
    has_ended: bool
    is_broken: bool


class ChatStore:
    """The file; its methods block.

    Args:
        path: the file, which several processes may share.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = open_server_file(path)

    def begin(self, chat: str, answer: str) -> None:
        """Record the start of an answer, replacing the chat's last one."""
        with self._database.write() as connection:
            # A chat has one answer. The previous one's writer notices at its next write, and stops.
            self._forget(connection, chat)
            connection.execute("INSERT INTO answers VALUES (?, ?, ?, 0, 0, 0)", (chat, answer, time.time()))

    def write(self, chat: str, answer: str, number: int, data: bytes, has_ended: bool) -> tuple[bool, bool]:
        """Append to an answer's log, and mark its worker as alive.

        Returns:
            Whether to stop it, and whether it has readers in other processes.
        """
        now = time.time()
        with self._database.write() as connection:
            # One statement for the sign of life and the query, since this happens every 50 ms for each answer.
            found = connection.execute(
                "UPDATE answers SET alive = ?, has_ended = ? WHERE chat = ? AND answer = ? RETURNING is_stopped, read",
                (now, has_ended, chat, answer),
            ).fetchone()
            if found is None:  # another answer has taken its place
                return True, False
            if data:
                connection.execute("INSERT INTO pieces VALUES (?, ?, ?)", (answer, number, data))
            return bool(found[0]), now - found[1] < _READ_SECONDS

    def stop(self, chat: str) -> bool:
        """Request that an answer be stopped; returns whether there is one."""
        with self._database.write() as connection:
            # An answer of a dead worker can't be stopped, so there is nothing to wait for.
            stop = "UPDATE answers SET is_stopped = 1 WHERE chat = ? AND NOT has_ended AND alive > ?"
            return connection.execute(stop, (chat, time.time() - DEAD_SECONDS)).rowcount > 0

    def read(self, chat: str, answer: str | None = None, number: int = 0) -> LogPage | None:
        """Return the next part of the log of a chat's answer.

        Args:
            chat: the chat.
            answer: the answer that is read; by default the chat's last one.
            number: the next position.

        Returns:
            `None` if there is no such answer.
        """
        # A write, since the reader records that it reads, for which the writer keeps the answer running.
        with self._database.write() as connection:
            now = time.time()
            found = connection.execute(
                "UPDATE answers SET read = ? WHERE chat = ? AND answer = coalesce(?, answer)"
                " RETURNING answer, alive, has_ended",
                (now, chat, answer),
            ).fetchone()
            if found is None:
                return None
            name, alive, has_ended = found
            rows = connection.execute(
                "SELECT number, data FROM pieces WHERE answer = ? AND number >= ? ORDER BY number", (name, number)
            )
            taken: list[bytes] = []
            size, is_whole = 0, True
            for place, data in rows:
                # A late reader of a long answer gets it in several pages, so that no worker holds all of it.
                if size > _LARGEST_PAGE:
                    is_whole = False
                    break
                taken.append(data)
                size, number = size + len(data), place + 1
            is_broken = not has_ended and now - alive > DEAD_SECONDS
            # The end counts only once the reader has all pieces.
            return LogPage(name, b"".join(taken), number, bool(has_ended) and is_whole, is_broken)

    def forget(self, chat: str, answer: str) -> None:
        """Remove an answer, if it is still the chat's last one."""
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM answers WHERE chat = ? AND answer = ?", (chat, answer)).fetchone():
                self._forget(connection, chat)
            connection.execute("DELETE FROM waiting WHERE until < ?", (time.time(),))

    def keep(self, chat: str, waiting: Waiting) -> None:
        """Store the state of a suspended run, replacing the chat's last one."""
        with self._database.write() as connection:
            calls = json.dumps(dict(waiting.calls))
            size = len(waiting.state) + len(calls)
            row = (chat, waiting.state, calls, time.time() + _WAIT_SECONDS, size)
            connection.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)", row)
            drop_oldest(connection, "waiting", "until", _MOST_WAITING, _LARGEST_WAITING)

    def take(self, chat: str) -> Waiting | None:
        """Take the state of a chat's suspended run, exclusively."""
        with self._database.write() as connection:
            # Deleted and returned in one statement, so two workers never continue the same run.
            found = connection.execute(
                "DELETE FROM waiting WHERE chat = ? RETURNING state, calls, until", (chat,)
            ).fetchone()
        return None if found is None or found[2] < time.time() else Waiting(found[0], json.loads(found[1]))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @staticmethod
    def _forget(connection: sqlite3.Connection, chat: str) -> None:
        pieces = "DELETE FROM pieces WHERE answer IN (SELECT answer FROM answers WHERE chat = ?)"
        connection.execute(pieces, (chat,))
        connection.execute("DELETE FROM answers WHERE chat = ?", (chat,))
