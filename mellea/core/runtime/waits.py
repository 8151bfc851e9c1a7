"""Waiting for something that another task, loop or thread does.

Rules:

- A reader that has seen everything registers a waiter under the lock, then looks again. The producer makes its change
  first and looks for waiters afterwards, so that one of the two always sees the other.
- What is waited for decides who is woken: only those whose `is_ready()` holds.
- A waiter that isn't registered any more was woken since what it waits for is there; nobody looks again.
- A reader on another loop or thread looks now and then whether the producing loop is still there.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Protocol

from mellea.core.runtime.deadlock import Waitable, check_blocking_wait, holds, runs_around, waiting_for
from mellea.core.runtime.loop import Loop, ThreadWaiter, new_waiter

__all__ = ["Waits"]

_AT_THE_TOP = nullcontext()
"""Nothing to note of a wait that isn't part of another run: it can't close a circle."""

_LOOK_SECONDS = 1.0
"""How often a reader elsewhere looks whether the producing loop is still there."""


class _Wakeable(Protocol):
    def wake(self) -> None: ...


class Waits(ABC):
    """What is waited for, and who waits for it.

    Args:
        dependencies: what has to end before it can begin.
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
        self._waiters: dict[_Wakeable, Callable[[], bool]] = {}  # and what each one waits for
        self._end_waiters: dict[_Wakeable, Callable[[], bool]] = {}  # those that nothing but the end can wake
        self.dependencies: tuple[Waitable, ...] = tuple(dependencies)
        self.awaited: list[Waitable] = []
        self.limit: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.limit is not None

    def has_ended(self) -> bool:
        """Whether `is_final` holds, to be waited for."""
        return self.limit is not None

    def on_any(self, loops: Iterable[Loop]) -> bool:
        """Whether one of the loops is the one that this run works on."""
        # By the native loop: two of our `Loop`s may stand for the same one.
        return self._loop is not None and any(self._loop.native is loop.native for loop in loops)

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended and its backend has given back what it held."""
        return self._closed

    async def until_final(self) -> None:
        """Wait until it has ended."""
        if self.limit is None:
            await self.until(self.has_ended, self._end_waiters)

    async def until(
        self, is_ready: Callable[[], bool], waiters: dict[_Wakeable, Callable[[], bool]] | None = None
    ) -> None:
        """Wait until `is_ready()`; it may turn true with an event, at the end, and when the run is closed.

        Args:
            is_ready: says whether what is waited for is there.
            waiters: where to wait, by default with those whom an event may wake.

        Raises:
            StreamingError: the run can't end before the code that waits does.
        """
        if waiters is None:
            waiters = self._waiters
        # Most waits are in code that is part of no run, and shouldn't pay for the search for a circle.
        with waiting_for(self) if runs_around.get() or holds.get() else _AT_THE_TOP:
            while True:
                own = self._loop.make_waiter() if self._loop is not None else None
                waiter = own or new_waiter()
                # Registered before the second look; in the other order an event in between would wake nobody.
                with self._lock:
                    waiters[waiter] = is_ready
                try:
                    if is_ready():
                        return
                    # On the run's own loop a wake can't get lost with the loop, so there it needs no look.
                    await waiter.wait(None if own is not None else _LOOK_SECONDS)
                finally:
                    # Looked at without the lock first: nearly always the producer has taken it out, and then there is
                    # nothing to do.
                    if is_left := waiter in waiters:  # whoever wakes it takes it out
                        with self._lock:
                            waiters.pop(waiter, None)
                if not is_left or is_ready() or (own is None and self._is_lost()):
                    return

    async def until_closed(self) -> None:
        """Wait until the run has ended and its backend has closed its connection.

        Code that is part of the run, such as a tool of it, doesn't wait: the run can't close before that code ends.
        """
        # The context is inherited by tasks and threads, so this also holds deep inside a tool.
        if not self._closed and not any(known() is self for known in runs_around.get()):
            await self.until(lambda: self._closed)

    def until_blocking(self, is_ready: Callable[[], bool]) -> None:
        """Wait in a plain thread until `is_ready()`.

        Raises:
            StreamingError: the calling thread is the one that has to do the work, or the run can't end before the
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
        how = self._loop.obituary() if self._loop is not None else None
        if how is None:
            return False
        self._end_if_lost(how)
        return True

    @abstractmethod
    def _end_if_lost(self, how: str) -> None:
        """End the run, whose loop has gone; `how` says how, such as "has been closed"."""

    def _wake(self) -> None:
        """Wake those that wait for what has come; whoever registers now looks again afterwards."""
        if self._waiters:
            self._wake_ready(self._waiters)

    def _wake_all(self) -> None:
        """Wake also those that wait for the end."""
        if self._waiters:
            self._wake_ready(self._waiters)
        if self._end_waiters:
            self._wake_ready(self._end_waiters)

    def _wake_ready(self, waiters: dict[_Wakeable, Callable[[], bool]]) -> None:
        # `is_ready` is called under the lock, so it has to be quick and must not take this lock itself.
        with self._lock:
            ready = []
            for waiter, is_ready in waiters.items():
                if is_ready():
                    ready.append(waiter)
            # Taken out here, so that nobody is woken twice, and the waiter needn't take the lock again.
            for waiter in ready:
                del waiters[waiter]
        for waiter in ready:
            waiter.wake()
