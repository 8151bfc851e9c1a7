"""The answers that a journal has for a map's rows: keys are read at the start, each answer when its row comes up.

If other maps use the journal at the same time, their new answers are read whenever a row is claimed.
"""

from __future__ import annotations

import anyio

from mellea.batch.journal_thread import JournalThread
from mellea.core.journal import FoundAnswer, KeyIndex

__all__ = ["Answered", "read_answered"]

_LEAST_NEWER = 20_000
_NEWER_SHARE = 8
"""The keys are read anew, into arrays, once as many newer ones are in memory, or one for so many in the arrays."""


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
        self._newer: dict[bytes, int] = {}
        self._last = index.last

    def __len__(self) -> int:
        return len(self._index) + len(self._newer)

    def knows(self, key: bytes) -> bool:
        """Whether there is an answer with this key."""
        return key in self._newer or self._index.find(key) is not None

    async def refresh(self) -> None:
        """Look for answers that somebody has committed since."""
        after = self._last
        for place, key in await self._thread.call(lambda journal: journal.list_newer(self._job, after)):
            self._newer[key] = place
            self._last = max(self._last, place)
        # Keys in a dict take ten times the memory of those in arrays.
        if len(self._newer) > _LEAST_NEWER + len(self._index) // _NEWER_SHARE:
            await self._read_again(self._index)

    async def find(self, key: bytes) -> FoundAnswer | None:
        """Return the latest answer with this key, `None` if there is none."""
        last: int | None = None
        while True:
            index = self._index
            place = self._newer.get(key) or index.find(key)
            # A second time at the same place it is the answer to another row whose key begins alike.
            if place is None or place == last:
                return None
            last = place
            found = await self._thread.fetch(place)
            # Only the first bytes of the keys are in memory; the whole one decides.
            if found is not None and found.key == key:
                return found
            # Somebody has answered it once more, and a compaction has dropped the older answer; or the file is a new
            # one. One of those who find that reads the keys again.
            await self._read_again(index)

    async def _read_again(self, index: KeyIndex) -> None:
        async with self._turn:
            if self._index is index:
                self._index = await _read_index(self._thread, self._job)
                self._newer = {key: place for key, place in self._newer.items() if place > self._index.last}
                self._last = max(self._last, self._index.last)


async def read_answered(thread: JournalThread, job: int) -> Answered:
    """Read the positions of a job's answers."""
    return Answered(thread, job, await _read_index(thread, job))


async def _read_index(thread: JournalThread, job: int) -> KeyIndex:
    index: KeyIndex = await thread.call(lambda journal: journal.index(job))
    return index
