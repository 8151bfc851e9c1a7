"""The deadlines of one run: silence, which counts from the last sign of life, and the total.

One timer looks at them when the nearest one would pass, so a reader or an event costs nothing. A deadline that has
passed is looked at twice: if the loop was held up, what has come meanwhile is read first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mellea.core.options import Deadlines
from mellea.core.runtime.loop import Loop

__all__ = ["Clock"]

_RECHECK_SECONDS = 0.05
"""How long what has come meanwhile may take to be read at most, before a deadline counts as passed."""

_QUICK_SECONDS = 0.01
"""The same on a loop that wasn't held up, where next to nothing is left to be read."""

_NEVER = float("inf")


class Clock:
    """Tells when a run has taken too long.

    Args:
        deadlines: how long to wait.

    Attributes:
        opened: when the work began, as `time.monotonic()` tells; 0 before.
        last_sign: when the last sign of life came.
    """

    __slots__ = ("_begun", "_deadlines", "_expire", "_loop", "_stop_timer", "last_sign", "opened")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.opened = self.last_sign = 0.0
        self._begun = 0.0  # when the deadline for the first byte began, which a second attempt has anew
        self._stop_timer: Callable[[], Any] | None = None

    def start(self, loop: Loop, expire: Callable[[str, float], Any], *, only_total: bool) -> None:
        """Begin to count.

        Args:
            loop: the running one.
            expire: is told what was late, `"silent"` or `"not done"`, and for how many seconds.
            only_total: whether silence doesn't matter.
        """
        self.opened = self._begun = self.last_sign = time.monotonic()
        self._loop = loop
        self._expire = expire
        if only_total:
            self.ignore_silence()
        self._look()

    def ignore_silence(self) -> None:
        """From now on only the total counts."""
        self.last_sign = _NEVER

    def begin_anew(self) -> None:
        """Let the deadline for the first byte begin now: the request is sent again."""
        self._begun = self.last_sign

    def stop(self) -> None:
        """Count no more."""
        if self._stop_timer is not None:
            self._stop_timer()
        self._stop_timer = None
        self._expire = _forget  # it refers to the run, which would be left to the garbage collector

    def _look(self, *, is_sure: bool = False) -> None:
        deadlines = self._deadlines
        now = time.monotonic()
        between = _NEVER if deadlines.between_bytes is None else deadlines.between_bytes
        first = _NEVER if deadlines.first_byte is None else deadlines.first_byte
        silence = between if self.last_sign > self._begun else first
        total = _NEVER if deadlines.total is None else deadlines.total
        quiet_until, all_until = self.last_sign + silence, self.opened + total
        when = min(quiet_until, all_until)
        if when <= now and is_sure:
            self._expire(*(("silent", silence) if quiet_until <= all_until else ("not done", total)))
            return
        # The first byte may come at any time and have the shorter deadline begin.
        # How late the timer is tells for how long the loop was held up.
        recheck = min(_QUICK_SECONDS + 2 * (now - when), _RECHECK_SECONDS)
        look = recheck if when <= now else min(when - now, between)
        if look < _NEVER:
            self._stop_timer = self._loop.call_later(look, self._look_again if when <= now else self._look)

    def _look_again(self) -> None:
        self._look(is_sure=True)


def _forget(late: str, seconds: float) -> None:
    """Do nothing about a deadline of a run that has ended."""
