"""The answers that a journal has for a map's rows: keys are read at the start, each answer when its row comes up."""

from __future__ import annotations

import anyio

from mellea.batch.journal_thread import JournalThread
from mellea.core.journal import FoundAnswer, KeyIndex

__all__ = ["Answered", "read_answered"]


class Answered:
    """The answers of a job that were there when a map began.

    Args:
        thread: reads the journal.
        job: the number of the job.
        index: their positions in the journal.
    """

    def __init__(self, thread: JournalThread, job: int, index: KeyIndex) -> None:
        self._thread, self._job, self._index = thread, job, index
        self._turn = anyio.Lock()

    def __len__(self) -> int:
        return len(self._index)

    def knows(self, key: bytes) -> bool:
        """Whether there is an answer with this key."""
        return self._index.find(key) is not None

    async def find(self, key: bytes) -> FoundAnswer | None:
        """Return the latest answer with this key, `None` if there is none."""
        while (place := (index := self._index).find(key)) is not None:
            found = await self._thread.fetch(place)
            if found is not None:
                # Only the first bytes of each key are in memory, so the whole key is compared here.
                return found if found.key == key else None
            # Another process has answered the row again, and a compaction has dropped the older answer. Whoever notices
            # it first reads the keys again.
            async with self._turn:
                if self._index is index:
                    self._index = await _read_index(self._thread, self._job)
        return None


async def read_answered(thread: JournalThread, job: int) -> Answered:
    """Read the positions of a job's answers."""
    return Answered(thread, job, await _read_index(thread, job))


async def _read_index(thread: JournalThread, job: int) -> KeyIndex:
    index: KeyIndex = await thread.call(lambda journal: journal.index(job))
    return index
