"""Records resumed states in an SQLite file, so that no state is resumed twice.

Rules for a state that is resumed, and its successor, the first state that is saved afterwards:

- The state is claimed, the successor is saved, the claim is used, and only then work starts. A state whose claim
  was used can't be resumed again.
- A process that is killed before it uses its claim has done nothing. The next process either resumes the same state,
  which supersedes the claim, so that the successor can't be resumed any more; or it resumes the successor, which uses
  the claim.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mellea.core.sqlite import Database
from mellea.errors import UsageError

__all__ = ["ResumeStore"]

_SCHEMA: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE claims (state TEXT NOT NULL, successor TEXT NOT NULL, run TEXT NOT NULL,"
        " status TEXT NOT NULL CHECK (status IN ('claimed', 'superseded', 'used')), at REAL NOT NULL,"
        " PRIMARY KEY (state, successor)) WITHOUT ROWID",
        "CREATE INDEX successors ON claims (successor)",
    ),
)


class ResumeStore:
    """Records which states were resumed; several processes may share the file.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = Database(path, kind="mellea resumes", schema=_SCHEMA)

    def claim(self, state: str, successor: str, run: str) -> None:
        """Claim a state.

        Args:
            state: its id.
            successor: the id of the state that is saved next.
            run: the id of their run.

        Raises:
            UsageError: it was already resumed, or was saved by a resume that did nothing and was repeated.
        """
        with self._write() as connection:
            # A superseded successor comes from a resume that was repeated: continuing it would do everything twice.
            is_gone = "(state = ? AND status = 'used') OR (successor = ? AND status = 'superseded')"
            if connection.execute(f"SELECT 1 FROM claims WHERE {is_gone}", (state, state)).fetchone():
                raise _make_resumed_error(state)
            # Resuming a successor proves that its predecessor's run continued, even if it was killed before it
            # recorded that.
            connection.execute("UPDATE claims SET status = 'used' WHERE successor = ?", (state,))
            # An unused claim belongs to a process that hasn't done anything yet, so this one may take over.
            connection.execute("UPDATE claims SET status = 'superseded' WHERE state = ?", (state,))
            row = (state, successor, run, time.time())
            connection.execute("INSERT INTO claims VALUES (?, ?, ?, 'claimed', ?)", row)

    def use(self, state: str, successor: str) -> None:
        """Use a claim.

        Raises:
            UsageError: another process has resumed the state meanwhile.
        """
        with self._write() as connection:
            use = "UPDATE claims SET status = 'used' WHERE state = ? AND successor = ? AND status = 'claimed'"
            # `rowcount` checks within the same transaction; a separate check would leave a gap before the update.
            if connection.execute(use, (state, successor)).rowcount != 1:
                raise _make_resumed_error(state)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.write() as connection:
                yield connection
        finally:
            self._database.close()  # a run needs it once


def _make_resumed_error(state: str) -> UsageError:
    return UsageError(
        f"the state {state!r} has already been resumed, and the store allows this only once per state; continue from "
        f"its "
        "successor: the new run.pending, or its checkpoint"
    )
