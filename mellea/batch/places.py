"""How many rows are in flight at once: as many as the model's side takes, found while they run.

Rules:

- It begins with a few places, and doubles them as long as that brings more answers a second; then it goes up by small
  steps. A fixed number is where it begins, and the most there are.
- Where answers take a third longer than they did at best, and there aren't more of them a second than before, the model
  side's queue has grown, and places are given back.
- A refusal for too many requests (429) or for overload (503, 529) halves the places, at most once in the time that an
  answer takes, since the requests of one moment are refused together.
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
        most: the most there may be, which is where it begins; `None` looks for itself, up to 256.

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
        """An answer came, after so many seconds."""
        self._answers += 1
        self._seconds += seconds
        if self._answers >= self.limit:
            self._look(time.monotonic())

    def note_refusal(self) -> None:
        """The model's side refused a request because there are too many."""
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
