"""Detects text that only repeats itself, as small models write when they don't stop.

Useful text repeats itself, too: a refrain, the items of a list, the rows of a table, the functions of a program. So a
piece of text only counts if it occurs again and again, each time soon after the last.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Repetition"]

_RUN = 5
"""How many consecutive pieces form a phrase."""

_TIMES = 3
"""How often a phrase has to have occurred before: a refrain may occur three times."""

_SOON = 128
"""Within how many pieces it has to recur, about 90 words; a later recurrence doesn't count."""

_WINDOW = 72
"""The last pieces that are examined; about 50 words."""

_SEEN = 0.9
"""The share of them that has to be repeated. Small models vary repeated text by a word here and there; an item of a
list has its own number or name."""


class Repetition:
    """Fed piece by piece, a piece being about a token; each costs the same, however long the text is."""

    def __init__(self) -> None:
        self._count = 0
        self._last: deque[str] = deque(maxlen=_RUN)
        self._known: dict[tuple[str, ...], tuple[int, int]] = {}  # how often in close succession, and the last position
        self._window: deque[bool] = deque(maxlen=_WINDOW)
        self._seen = 0

    def feed(self, piece: str) -> bool:
        """Add the next piece, and return whether the recent text only repeats earlier text."""
        self._count += 1
        self._last.append(piece)
        if len(self._last) < _RUN:
            return False
        is_seen = self._note(tuple(self._last)) >= _TIMES
        if len(self._window) == _WINDOW:
            self._seen -= self._window[0]
        self._window.append(is_seen)
        self._seen += is_seen
        return self._seen >= _SEEN * _WINDOW

    def _note(self, run: tuple[str, ...]) -> int:
        """Record a phrase, and return how often it occurred before in close succession."""
        times, place = self._known.get(run, (0, 0))
        if self._count - place > _SOON:
            times = 0
        self._known[run] = times + 1, self._count
        return times
