"""One thread that reads and writes a journal for a map, so that no loop waits for the disk or another process's lock.

Everything that arrives while it is busy becomes one transaction. The more there is to do, the less each answer costs;
if there is little, nothing waits for more.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mellea.core.journal import Answer, Failure, FoundAnswer, Journal
from mellea.core.runtime.loop import Loop, create_waiter, get_current_loop

__all__ = ["JournalThread"]

_log = logging.getLogger("mellea")

_COMPANY_SECONDS = 0.002
"""How soon after one transaction the next may begin: a single answer costs three times as much as one among others."""

_WATCH_SECONDS = 0.05

Done = Callable[[list[Any]], None]


class JournalThread:
    """A thread for one journal, started immediately.

    Args:
        journal: the journal.
        committed: called on the running loop with the tickets of answers and failures that are committed.
        failed: called there if the journal can't be written or read any more.

    Attributes:
        at_end: called on the thread at its end, when nothing is committed any more.
        watch: called on the thread again and again, at least every 50 ms, until it returns false.
    """

    def __init__(self, journal: Journal, committed: Done, failed: Callable[[BaseException], None]) -> None:
        self._journal = journal
        self._loop: Loop = get_current_loop()
        self._committed, self._failed = committed, failed
        self._queue: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        self._end = create_waiter()
        self.at_end: Callable[[], None] = _do_nothing
        self.watch: Callable[[], bool] | None = None
        # A daemon: after Ctrl-C, the program must not hang because another process holds a lock on the file.
        threading.Thread(target=self._serve, name="mellea-journal", daemon=True).start()

    def commit(self, entry: Answer | Failure, ticket: Any) -> None:
        """Queue an answer or a failure for the next transaction."""
        self._queue.put((entry, ticket))

    async def fetch(self, place: int) -> FoundAnswer | None:
        """Return the answer at a position, `None` if it is no longer there."""
        call = _Errand(place)
        self._queue.put((None, call))
        return await call.result()  # type: ignore[no-any-return]

    async def call(self, function: Callable[[Journal], Any]) -> Any:
        """Call a function with the journal on the thread, and return its result."""
        call = _Errand(function)
        self._queue.put((None, call))
        return await call.result()

    def close(self) -> None:
        """Ask the thread to end once its queue is empty; returns immediately."""
        self._queue.put(None)

    async def wait_until_closed(self) -> None:
        """Wait until the thread has ended; once."""
        await self._end.wait()

    def _serve(self) -> None:
        is_open, ended = True, 0.0
        try:
            while is_open:
                items = [self._get()]
                # Measured from the end of the last transaction, so an answer that arrives after a quiet moment is
                # committed at once.
                wait = ended + _COMPANY_SECONDS - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                while not self._queue.empty():
                    items.append(self._queue.get())
                # Entries queued before `None` are still committed; the thread only ends after this round.
                is_open = None not in items
                self._handle([item for item in items if item is not None])
                ended = time.monotonic()
        finally:
            # SQLite's connections belong to the thread that opened them, so this thread has to close it.
            self._journal.close()
            self.at_end()
            self._end.wake()

    def _get(self) -> tuple[Any, Any] | None:
        """Return the next item, and watch while waiting for it."""
        while self.watch is not None:
            if not self.watch():
                self.watch = None
                break
            with suppress(queue.Empty):
                return self._queue.get(timeout=_WATCH_SECONDS)
        return self._queue.get()

    def _handle(self, items: list[tuple[Any, Any]]) -> None:
        calls = [ticket for entry, ticket in items if entry is None]
        # Answers go first: a read in the same round then finds them.
        kept = [(entry, ticket) for entry, ticket in items if entry is not None]
        try:
            if kept:
                self._look_for_file()
                self._journal.commit(
                    [entry for entry, _ in kept if isinstance(entry, Answer)],
                    [entry for entry, _ in kept if isinstance(entry, Failure)],
                )
                tickets = [ticket for _, ticket in kept]
                # Only after the commit has returned: a row that is yielded must survive a crash right afterwards.
                self._loop.post(lambda: self._committed(tickets))
            self._answer(calls)
        except BaseException as error:  # noqa: BLE001 - it belongs to the loop
            failure = error
            for call in calls:
                # A call that failed by itself keeps its own error, which says more than the journal's.
                call.error = call.error or failure
            self._loop.post(lambda: self._failed(failure))
        # Only once value and error are set: the waiter reads them as soon as it wakes.
        if calls:
            self._loop.post(lambda: [call.waiter.wake() for call in calls])

    def _look_for_file(self) -> None:
        # Before each transaction, as nobody would find what is written into a file that was deleted.
        restored = self._journal.restore()
        if restored is not None:
            _log.warning(
                "the journal %r was deleted or replaced while it was in use; it goes on in the file that is there now, "
                "into which %s answers were written again",
                self._journal.path, f"{restored:,}",
            )  # fmt: skip

    def _answer(self, calls: list[_Errand]) -> None:
        places = [call.what for call in calls if isinstance(call.what, int)]
        # Read together: each query costs a wait for the interpreter's lock.
        found = self._journal.fetch(places) if places else {}
        for call in calls:
            if isinstance(call.what, int):
                call.value = found.get(call.what)
                continue
            try:
                call.value = call.what(self._journal)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller
                call.error = error


def _do_nothing() -> None:
    pass


class _Errand:
    """One read or call that is being waited for."""

    __slots__ = ("error", "value", "waiter", "what")

    def __init__(self, what: Any) -> None:
        self.what = what
        self.value: Any = None
        self.error: BaseException | None = None
        self.waiter = create_waiter()

    async def result(self) -> Any:
        await self.waiter.wait()
        if self.error is not None:
            raise self.error
        return self.value
