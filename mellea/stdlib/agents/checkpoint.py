"""Where the states of a run are kept while it works: a file that is always whole, and a list of what was resumed."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mellea.core.sqlite import Database
from mellea.errors import UsageError

__all__ = ["ResumeStore", "replace_file"]

_SCHEMA: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE resumes (state TEXT PRIMARY KEY, run TEXT NOT NULL, claimant TEXT NOT NULL,"
        " has_begun INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    ),
)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that after a crash at any moment it is either the old one or the new one, whole.

    Raises:
        OSError: it can't be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(file, "w", encoding="utf-8", newline="") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # where a folder can be synced: without that, a failure of power could bring the old name back
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class ResumeStore:
    """The states that were resumed, in an SQLite file that several processes share.

    A state is claimed, then its successor is saved, then the claim is used: from then on it can't be resumed again. If
    a process is killed in between, nothing has been done yet, and the next one takes the claim over.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = Database(path, kind="mellea resumes", schema=_SCHEMA)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.write() as connection:
                yield connection
        finally:
            self._database.close()  # a run needs it once

    def claim(self, state: str, run: str, claimant: str) -> None:
        """Claim a state.

        Args:
            state: its id.
            run: the id of its run.
            claimant: who claims it: an id that nobody else has.

        Raises:
            UsageError: it was resumed already.
        """
        with self._write() as connection:
            row = connection.execute("SELECT has_begun FROM resumes WHERE state = ?", (state,)).fetchone()
            if row is not None and row[0]:
                raise _resumed(state)
            connection.execute(
                "INSERT OR REPLACE INTO resumes VALUES (?, ?, ?, 0, ?)", (state, run, claimant, time.time())
            )

    def begin(self, state: str, claimant: str) -> None:
        """Use a claim.

        Raises:
            UsageError: somebody else has taken it over.
        """
        with self._write() as connection:
            changed = connection.execute(
                "UPDATE resumes SET has_begun = 1 WHERE state = ? AND claimant = ? AND has_begun = 0", (state, claimant)
            )
            if changed.rowcount != 1:
                raise _resumed(state)


def _resumed(state: str) -> UsageError:
    return UsageError(
        f"the state {state!r} was resumed already, and the store lets each state be resumed once; go on from the state "
        "that came of it: the new run.pending, or its checkpoint"
    )
