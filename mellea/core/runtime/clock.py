"""The deadlines of one run: silence, which counts from the last sign of life, and the total.

Its loop looks at it when the nearest one would pass, so a reader or an event costs nothing. A deadline that has
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
    """Tells when a run has taken too long; it counts from when it is made until it is stopped.

    Args:
        deadlines: how long to wait.
        loop: the running one.
        expire: is told what was late, `"silent"` or `"not done"`, and for how many seconds.
        only_total: whether silence doesn't matter.

    Attributes:
        opened: when the work began, as `time.monotonic()` tells.
        last_sign: when the last sign of life came.
        due: when the loop looks at it.
    """

    __slots__ = ("_begun", "_deadlines", "_expire", "_is_late", "_loop", "due", "last_sign", "opened")

    def __init__(
        self, deadlines: Deadlines, loop: Loop, expire: Callable[[str, float], Any], *, only_total: bool
    ) -> None:
        self.opened = self._begun = self.last_sign = now = time.monotonic()
        self._deadlines = deadlines
        self._loop = loop
        self._expire = expire
        self._is_late = False  # a deadline has passed, and is looked at once more
        silences = () if only_total else (deadlines.first_byte, deadlines.between_bytes)
        if only_total:
            self.ignore_silence()
        # The first byte may come at any time and have a shorter deadline begin.
        self.due = now + min(filter(None, (*silences, deadlines.total)), default=_NEVER)
        if self.due < _NEVER:
            loop.watch(self)

    def ignore_silence(self) -> None:
        """From now on only the total counts."""
        self.last_sign = _NEVER

    def begin_anew(self) -> None:
        """Let the deadline for the first byte begin now: the request is sent again."""
        self._begun = self.last_sign

    def stop(self) -> None:
        """Count no more."""
        self._loop.forget(self)
        self._expire = _ignore  # it refers to the run, which would be left to the garbage collector

    def look(self, now: float) -> None:
        """See whether a deadline has passed, and set when to look again."""
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
            self._expire(*(("silent", silence) if quiet_until <= all_until else ("not done", total)))
            self._is_late, self.due = False, _NEVER
        else:  # how late it is seen tells for how long the loop was held up
            self._is_late, self.due = True, now + min(_QUICK_SECONDS + 2 * (now - when), _RECHECK_SECONDS)


def _ignore(late: str, seconds: float) -> None:
    """Do nothing about a deadline of a run that has ended."""
