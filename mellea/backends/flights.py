"""Equal requests at the same time: the first is sent, and the others wait for its answer.

Rules:

- A flight ends in one of three ways: with all events of the answer, which the others replay; failed, and each of the
  others sends its own request, as each might fail for another reason or not at all; or left, such as by a
  cancellation, and one of the others takes its place.
- Who waits is woken at each event of the first, and shows that it is alive, so no time-out for silence is due. If the
  loop of the first has ended or is blocked, those who wait notice.
- A request never waits for one of the same call, which may be waiting for it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import Any

from mellea.core.events import Event
from mellea.core.runtime.loop import Waiter, create_waiter, get_current_loop

__all__ = ["Flight", "join_flight"]

_LOOK_SECONDS = 1.0

_turn = threading.RLock()
_flights: dict[tuple[str, str], Flight] = {}


class Flight:
    """One request on its way; made on the loop that sends it.

    Args:
        name: where the answer will be kept, and its key there.
        run: the outermost run that it is part of, or `None`.

    Attributes:
        events: the answer, each event with its time in seconds, once it is complete.
        has_failed: whether the request failed.
    """

    def __init__(self, name: tuple[str, str], run: Any) -> None:
        self._name = name
        self._run = None if run is None else weakref.ref(run)
        self._loop = get_current_loop()
        self._waiters: set[Waiter] = set()
        self._has_ended = False
        self.events: list[tuple[float, Event]] | None = None
        self.has_failed = False

    def is_part_of(self, run: Any) -> bool:
        """Whether it is part of a run."""
        return self._run is not None and self._run() is run

    def note(self) -> None:
        """Show those who wait that it goes on."""
        if not self._waiters:
            return
        with _turn:
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.wake()

    def end(self) -> None:
        """Let those who wait go on; a second time has no effect."""
        with _turn:
            self._has_ended = True
            if _flights.get(self._name) is self:
                del _flights[self._name]
        self.note()

    async def follow(self) -> AsyncGenerator[None, None]:
        """Wait until it has ended; yields whenever it has gone on."""
        while True:
            waiter = create_waiter()
            with _turn:
                if self._has_ended:
                    return
                self._waiters.add(waiter)
            try:
                await waiter.wait(_LOOK_SECONDS)
            finally:
                with _turn:
                    is_woken = waiter not in self._waiters
                    self._waiters.discard(waiter)
            if is_woken:
                yield
            elif self._loop.explain_loss() is not None:
                self.end()


def join_flight(name: tuple[str, str], run: Any) -> tuple[Flight, bool]:
    """Return the flight with a name, and whether the caller is to send its request.

    Args:
        name: where the answer will be kept, and its key there.
        run: the outermost run that the request is part of, `None` if there is none; then nobody waits for it. A
            request that is part of the same run as the flight doesn't wait for it either.
    """
    with _turn:
        flight = _flights.get(name)
        if flight is not None and run is not None and not flight.is_part_of(run):
            return flight, False
        new = Flight(name, run)
        if flight is None and run is not None:
            _flights[name] = new
        return new, True


def _forget() -> None:
    """In a forked child, where nothing sends the parent's requests, and its lock may be held for good."""
    global _turn
    _turn = threading.RLock()
    _flights.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
