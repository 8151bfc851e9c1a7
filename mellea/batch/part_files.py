"""Journals for parts of the rows, in a folder that all machines share.

Several machines can't write one SQLite file over a network. So each part of the rows has its own file, which only the
worker of that part writes. The answers of earlier runs are in `all.db`, which is assembled when a job begins and only
read by the workers, so an engine may split the rows differently in each run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from mellea.core.journal import FoundAnswer, Journal, KeyIndex

__all__ = ["gather_parts", "open_part"]

_WHOLE = "all.db"


def gather_parts(folder: str | os.PathLike[str]) -> None:
    """Collect the answers of all parts in `all.db`, while no other job works in the folder; create the folder.

    Raises:
        StateError: a file isn't a journal.
        OSError: the folder can't be written.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    whole = place / _WHOLE
    since = whole.stat().st_mtime_ns if whole.exists() else -1
    parts = sorted(place.glob("part-*.db"))
    # A killed worker leaves its last answers in the write-ahead log beside the file.
    if not any(file.stat().st_mtime_ns >= since for file in place.glob("part-*.db*")):
        return
    # Written beside it and moved into place atomically: another process may be reading the existing file.
    fresh = place / f"all-{uuid.uuid4().hex}.new"
    fresh.touch(mode=0o600)
    began = fresh.stat().st_mtime_ns
    if whole.exists():
        shutil.copyfile(whole, fresh)
    journal = Journal(fresh)
    journal.merge(*parts, only_new=True)
    journal.close()
    # Workers whose driver was killed may keep committing for a few seconds; their later answers are picked up next
    # time.
    os.utime(fresh, ns=(began, began))
    os.replace(fresh, whole)


def open_part(folder: str | os.PathLike[str], ids: Iterable[str]) -> Journal:
    """Return the journal of the part with these rows, which also finds the answers in `all.db`."""
    # The same rows lead to the same file, so a task that is run again finds what its first run has committed.
    text = "\0".join(sorted(ids))
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    whole = Path(folder) / _WHOLE
    return _PartJournal(Path(folder) / f"part-{name}.db", Journal(whole, is_fixed=True) if whole.exists() else None)


class _PartJournal(Journal):
    """A journal that falls back on a second one; positions of answers there are negative."""

    def __init__(self, path: Path, whole: Journal | None) -> None:
        super().__init__(path)
        self._whole = whole

    def close(self) -> None:
        super().close()
        if self._whole is not None:
            self._whole.close()

    def index(self, job: int) -> KeyIndex:
        own, there = super().index(job), self._find_there(job)
        return own if self._whole is None or there is None else _TwoIndexes(own, self._whole.index(there))

    def fetch(self, answers: Sequence[int]) -> dict[int, FoundAnswer]:
        found = super().fetch([place for place in answers if place > 0])
        there = [-place for place in answers if place < 0]
        if there and self._whole is not None:
            found |= {-place: answer for place, answer in self._whole.fetch(there).items()}
        return found

    def count_rows_if_answered(self, job: int, id: str) -> int:
        own, there = super().count_rows_if_answered(job, id), self._find_there(job)
        return own if self._whole is None or there is None else own + self._whole.count_rows_if_answered(there, id)

    def _find_there(self, job: int) -> int | None:
        """Return the number of a job of this file in the other one."""
        if self._whole is None:
            return None
        name = dict(self.list_jobs())[job]
        return next((number for number, other in self._whole.list_jobs() if other == name), None)


class _TwoIndexes(KeyIndex):
    __slots__ = ("_other", "_own")

    def __init__(self, own: KeyIndex, other: KeyIndex) -> None:
        super().__init__(array("Q"), array("q"))
        self._own, self._other = own, other

    def __len__(self) -> int:
        return len(self._own) + len(self._other)

    def find(self, key: bytes) -> int | None:
        found = self._own.find(key)
        if found is not None:
            return found
        place = self._other.find(key)
        return None if place is None else -place
