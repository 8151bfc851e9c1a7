"""Waits for work of another task, loop or thread, with deadlines.

Rules:

- A reader that has seen everything registers a waiter under the lock, then checks again. The producer makes its
  change first and looks for waiters afterwards, so that one of the two always sees the other.
- Only waiters whose `is_ready()` is true are woken.
- A waiter that isn't registered any more was woken because its condition is met; it isn't checked again.
- A reader on another loop or thread checks now and then whether the producing loop still exists.
- A run's clock has its deadlines: silence, which counts from the last sign of life, and the total. Its loop checks
  the clock when the nearest one would pass, so that readers and events cost nothing. A passed deadline is checked
  twice: if the loop was blocked, what has arrived meanwhile is read first.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

from mellea.core.options import Deadlines
from mellea.core.runtime.deadlock import Waitable, check_blocking_wait, holds, runs_around, waiting_for
from mellea.core.runtime.loop import Loop, ThreadWaiter, create_waiter

__all__ = ["Clock", "Waits"]

_AT_THE_TOP = nullcontext()
"""For a wait that isn't part of another run, and so can't close a cycle."""

_LOOK_SECONDS = 1.0
"""How often a reader elsewhere checks whether the producing loop still exists."""

_RECHECK_SECONDS = 0.05
"""How long reading what has arrived meanwhile may take, before a deadline counts as passed."""

_QUICK_SECONDS = 0.01
"""The same on a loop that wasn't blocked, where next to nothing is left to read."""

_NEVER = float("inf")


class _Wakeable(Protocol):
    def wake(self) -> None: ...


class Waits(ABC):
    """Something to wait for, and its waiters.

    Args:
        dependencies: what has to end before it can start.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_end_waiters",
        "_lock",
        "_loop",
        "_waiters",
        "awaited",
        "dependencies",
        "limit",
    )

    def __init__(self, dependencies: Iterable[Waitable] = ()) -> None:
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._closed = False
        self._waiters: dict[_Wakeable, Callable[[], bool]] = {}  # and the condition of each
        self._end_waiters: dict[_Wakeable, Callable[[], bool]] = {}  # those that only the end can wake
        self.dependencies: tuple[Waitable, ...] = tuple(dependencies)
        self.awaited: list[Waitable] = []
        self.limit: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended, in any way."""
        return self.limit is not None

    def has_ended(self) -> bool:
        """`is_final` as a function, to wait for."""
        return self.limit is not None

    def on_any(self, loops: Iterable[Loop]) -> bool:
        """Whether the run works on one of the loops."""
        # Compare native loops: two of our `Loop`s may represent the same one.
        return self._loop is not None and any(self._loop.native is loop.native for loop in loops)

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended and its backend has released its resources."""
        return self._closed

    async def wait_until_final(self) -> None:
        """Wait until it has ended."""
        if self.limit is None:
            await self.until(self.has_ended, self._end_waiters)

    async def until(
        self, is_ready: Callable[[], bool], waiters: dict[_Wakeable, Callable[[], bool]] | None = None
    ) -> None:
        """Wait until `is_ready()`; it may become true with an event, at the end, and when the run is closed.

        Args:
            is_ready: returns whether the condition is met.
            waiters: the list of waiters, by default those that an event may wake.

        Raises:
            StreamingError: the run can't end before the code that waits does.
        """
        if waiters is None:
            waiters = self._waiters
        # Most waits are in code that isn't part of a run, and shouldn't pay for the search for a cycle.
        with waiting_for(self) if runs_around.get() or holds.get() else _AT_THE_TOP:
            while True:
                own = self._loop.make_waiter() if self._loop is not None else None
                waiter = own or create_waiter()
                # Registered before the second check; in the other order an event in between would wake nothing.
                with self._lock:
                    waiters[waiter] = is_ready
                try:
                    if is_ready():
                        return
                    # On the run's own loop a wake can't get lost with the loop, so there it needs no check.
                    await waiter.wait(None if own is not None else _LOOK_SECONDS)
                finally:
                    # Checked without the lock first: nearly always the producer has removed it, and there is nothing
                    # to do.
                    if is_left := waiter in waiters:  # waking it removes it
                        with self._lock:
                            waiters.pop(waiter, None)
                if not is_left or is_ready() or (own is None and self._is_lost()):
                    return

    async def wait_until_closed(self) -> None:
        """Wait until the run has ended and its backend has closed its connection.

        Code that is part of the run, such as a tool, doesn't wait: the run can't close before that code ends.
        """
        # Tasks and threads inherit the context, so this also works deep inside a tool.
        if not self._closed and not any(known() is self for known in runs_around.get()):
            await self.until(lambda: self._closed)

    def wait_until_blocking(self, is_ready: Callable[[], bool]) -> None:
        """Wait in a plain thread until `is_ready()`.

        Raises:
            StreamingError: the calling thread is the one that does the work, or the run can't end before the
                code that waits does.
        """
        if is_ready():
            return
        check_blocking_wait(self)
        with waiting_for(self):
            while not is_ready():
                waiter = ThreadWaiter()
                with self._lock:
                    self._waiters[waiter] = is_ready
                try:
                    if is_ready():
                        return
                    waiter.wait(_LOOK_SECONDS)
                finally:
                    with self._lock:
                        self._waiters.pop(waiter, None)
                if self._is_lost() and not is_ready():
                    return

    def _is_lost(self) -> bool:
        """Whether the producing loop has gone; then the run has ended, and nothing will close it."""
        how = self._loop.explain_loss() if self._loop is not None else None
        if how is None:
            return False
        self._end_if_lost(how)
        return True

    @abstractmethod
    def _end_if_lost(self, how: str) -> None:
        """End the run, whose loop has gone; `how` is, for example, "has been closed"."""

    def _wake(self) -> None:
        """Wake those whose condition is met; a waiter that registers now checks again afterwards."""
        if self._waiters:
            self._wake_ready(self._waiters)

    def _wake_all(self) -> None:
        """Also wake those that wait for the end."""
        if self._waiters:
            self._wake_ready(self._waiters)
        if self._end_waiters:
            self._wake_ready(self._end_waiters)

    def _wake_ready(self, waiters: dict[_Wakeable, Callable[[], bool]]) -> None:
        # `is_ready` is called under the lock, so it has to be quick and must not take this lock.
        with self._lock:
            ready = []
            for waiter, is_ready in waiters.items():
                if is_ready():
                    ready.append(waiter)
            # Removed here, so that none is woken twice, and the waiter needn't take the lock again.
            for waiter in ready:
                del waiters[waiter]
        for waiter in ready:
            waiter.wake()


# -- deadlines -----------------------------------------------------------------------------------------------


class Clock:
    """Measures when a run has taken too long, from its creation until it is stopped.

    Args:
        deadlines: how long to wait.
        loop: the running one.
        expire: called with what was late, such as `"was silent for"`, and the seconds.
        only_total: whether only the total deadline applies.

    Attributes:
        opened: when the work started, in `time.monotonic()` seconds.
        last_sign: when the last sign of life arrived.
        due: when the loop checks it.
    """

    __slots__ = ("_begun", "_deadlines", "_expire", "_is_late", "_loop", "due", "last_sign", "opened")

    def __init__(
        self, deadlines: Deadlines, loop: Loop, expire: Callable[[str, float], Any], *, only_total: bool
    ) -> None:
        self.opened = self._begun = self.last_sign = now = time.monotonic()
        self._deadlines = deadlines
        self._loop = loop
        self._expire = expire
        self._is_late = False  # a deadline has passed, and is checked once more
        silences = () if only_total else (deadlines.first_byte, deadlines.between_bytes)
        if only_total:
            self.ignore_silence()
        # The first byte may arrive at any time and start a shorter deadline.
        self.due = now + min(filter(None, (*silences, deadlines.total)), default=_NEVER)
        if self.due < _NEVER:
            loop.watch(self)

    def ignore_silence(self) -> None:
        """Apply only the total deadline from now on."""
        self.last_sign = _NEVER

    def restart(self) -> None:
        """Restart the deadline for the first byte: the request is sent again."""
        self._begun = self.last_sign

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no silence in a `with` block, where the program's own code is at work; the total counts on.

        After that it waits for the first byte again.
        """
        self.ignore_silence()
        try:
            yield
        finally:
            now = self._begun = self.last_sign = time.monotonic()
            self.due = min(self.due, now + (self._deadlines.first_byte or _NEVER))
            if self.due < _NEVER and self._expire is not _ignore:  # it may have been stopped meanwhile
                self._loop.watch(self)

    def stop(self) -> None:
        """Stop the clock."""
        self._loop.forget(self)
        self._expire = _ignore  # it refers to the run, and the cycle would be left to the garbage collector

    def look(self, now: float) -> None:
        """Check whether a deadline has passed, and set when to check again."""
        if self._is_late and now < self.due:
            return
        deadlines = self._deadlines
        between = deadlines.between_bytes or _NEVER
        silence = between if self.last_sign > self._begun else deadlines.first_byte or _NEVER
        total = deadlines.total or _NEVER
        quiet_until, all_until = self.last_sign + silence, self.opened + total
        when = min(quiet_until, all_until)
        if when > now:
            self._is_late, self.due = False, min(when, now + between)
        elif self._is_late:
            self._expire(
                *(("was silent for", silence) if quiet_until <= all_until else ("did not finish within", total))
            )
            self._is_late, self.due = False, _NEVER
        else:  # how late this check is shows for how long the loop was blocked
            self._is_late, self.due = True, now + min(_QUICK_SECONDS + 2 * (now - when), _RECHECK_SECONDS)


def _ignore(late: str, seconds: float) -> None:
    """Ignore a deadline of a run that has ended."""
