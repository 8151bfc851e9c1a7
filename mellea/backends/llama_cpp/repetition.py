"""Detects text that goes round in circles, as small models write when they don't stop."""

from __future__ import annotations

from collections import deque

__all__ = ["Repetition"]

_RUN = 5
"""Pieces in a row that count as seen before if they were in this order."""

_WINDOW = 64
"""The last pieces that are looked at; about 45 words, more than most refrains have."""

_SEEN = 0.8
"""The part of them that has to be nothing new. Small models vary what they repeat by a word here and there."""


class Repetition:
    """Fed piece by piece, a piece being about a token; each costs the same, however long the text is."""

    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=_RUN)
        self._known: set[tuple[str, ...]] = set()
        self._window: deque[bool] = deque(maxlen=_WINDOW)
        self._seen = 0

    def feed(self, piece: str) -> bool:
        """Add the next piece, and return whether the recent text only repeats what came before."""
        self._last.append(piece)
        if len(self._last) < _RUN:
            return False
        run = tuple(self._last)
        is_seen = run in self._known
        self._known.add(run)
        if len(self._window) == _WINDOW:
            self._seen -= self._window[0]
        self._window.append(is_seen)
        self._seen += is_seen
        return self._seen >= _SEEN * _WINDOW
