"""How many rows are in flight at once: as many as the provider can take, determined while they run.

Rules:

- It begins with a few places, and doubles them as long as that yields more answers per second; then it increases them
  in small steps. If a number is given, it is both the initial number and the maximum.
- If answers take a third longer than at best and there aren't more of them per second than before, the provider's queue
  has grown, and the number of places is reduced.
- A refusal for too many requests (429) or for overload (503, 529) halves the places, at most once in the time that an
  answer takes, because concurrent requests are refused together.
"""

from __future__ import annotations

import time

__all__ = ["Places"]

_FIRST = 8
_MOST = 256
_SHORTEST_LOOK = 0.05
_FORGETS = 0.999


class Places:
    """The number of places.

    Args:
        most: the maximum, which is also the initial number; with `None` it is determined automatically, up to 256.

    Attributes:
        limit: how many there are now.
        most: how many there may be.
    """

    def __init__(self, most: int | None) -> None:
        self.most = _MOST if most is None else most
        self.limit = min(_FIRST, self.most) if most is None else most
        self._is_free = most is None
        self._is_steep = most is None  # still doubling
        self._looked = self._halved = time.monotonic()
        self._answers = 0
        self._seconds = 0.0  # of all answers since the last look
        self._rate = 0.0  # the most answers a second so far
        self._latency = 0.0  # the least seconds of an answer so far, the mean of a look

    def note_answer(self, seconds: float) -> None:
        """Record that an answer arrived after so many seconds."""
        self._answers += 1
        self._seconds += seconds
        if self._answers >= self.limit:
            self._look(time.monotonic())

    def note_refusal(self) -> None:
        """Record that the provider refused a request because there were too many."""
        now = time.monotonic()
        if now - self._halved < max(self._latency, 0.5):
            return
        self.limit = max(1, self.limit // 2)
        self._is_steep = False
        self._halved = now
        self._begin_look(now)

    def _look(self, now: float) -> None:
        passed = now - self._looked
        if passed < _SHORTEST_LOOK:
            return
        rate, latency = self._answers / passed, self._seconds / self._answers
        is_better = rate > 1.05 * self._rate
        is_slower = latency > 1.33 * self._latency > 0
        if is_slower and not is_better:
            self._is_steep = False
            if self._is_free:
                self.limit = max(1, self.limit - max(1, self.limit // 8))
        elif self.limit < self.most:
            self._is_steep = self._is_steep and is_better
            step = self.limit if self._is_steep else max(1, self.limit // 16)
            self.limit = min(self.limit + step, self.most)
        # The best rate is forgotten slowly, since conditions at the provider change.
        self._rate = max(rate, _FORGETS * self._rate)
        self._latency = min(latency, self._latency / _FORGETS) if self._latency else latency
        self._begin_look(now)

    def _begin_look(self, now: float) -> None:
        self._looked, self._answers, self._seconds = now, 0, 0.0
