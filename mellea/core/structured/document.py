"""The JSON document in a text that is being written, with whatever stands around it."""

from __future__ import annotations

from mellea.core.structured.scanner import Event, Kind, ScanError, Scanner

__all__ = ["Document"]

_RESTARTS = 16
"""How often a document may begin anew, before that is nonsense."""


class Document:
    """Finds where the document begins, and scans it to its end; what comes before and after is passed over.

    With `may_restart`, and where there is prose before it, a document that doesn't go on is left, and the next one
    takes its place, with the event `RESTART`: a model that called tools in between may write its answer from the
    start, and prose may have brackets of its own.

    Args:
        openings: the brackets that it may begin with; `""` where it may be a single value, which nothing
            can stand before.
        whole_at: see `Scanner`.
        refused: see `Scanner`.
        may_restart: whether the document may begin anew.
    """

    __slots__ = ("_begun", "_may_restart", "_openings", "_refused", "_restarts", "_scanner", "_taken", "_whole_at")

    def __init__(
        self, openings: str, whole_at: int | None = None, refused: str = "", *, may_restart: bool = False
    ) -> None:
        self._openings = openings
        self._whole_at = whole_at
        self._refused = refused
        self._may_restart = may_restart
        self._restarts = 0
        self._taken = 0  # characters before the text that is being scanned
        self._begun = -1 if openings else 0  # characters before the document
        self._scanner: Scanner | None = None if openings else Scanner(whole_at, refused)

    @property
    def is_complete(self) -> bool:
        """Whether the document has ended."""
        return self._scanner is not None and self._scanner.is_complete

    @property
    def error(self) -> ScanError | None:
        """What is wrong with the document, if anything is."""
        scanner = self._scanner
        return None if scanner is None or scanner.is_complete else scanner.error

    def feed(self, text: str) -> list[Event]:
        """Take more text and return the events of the document."""
        events: list[Event] = []
        place = 0
        while place >= 0 and not self._is_through:
            scanner = self._scanner
            if scanner is None:
                place = self._find(text, place)
                if place < 0:
                    break
                scanner = self._begin(place, events)
            events += scanner.feed(text[place:] if place else text)
            place = -1 if scanner.error is None else self._give_up(scanner)
        self._taken += len(text)
        return events

    def close(self) -> list[Event]:
        """Say that there is no more text; a number may end with it."""
        return [] if self._scanner is None else self._scanner.close()

    @property
    def _is_through(self) -> bool:
        scanner = self._scanner
        return scanner is not None and (scanner.is_complete or scanner.error is not None)

    def _find(self, text: str, place: int) -> int:
        found = min([at for opening in self._openings if (at := text.find(opening, place)) >= 0], default=-1)
        before = text[place:found] if found >= 0 else text[place:]
        self._may_restart = self._may_restart or bool(before.strip())
        return found

    def _begin(self, place: int, events: list[Event]) -> Scanner:
        if self._begun >= 0:
            events.append((Kind.RESTART, None))
        self._begun = self._taken + place
        self._scanner = scanner = Scanner(self._whole_at, self._refused)
        return scanner

    def _give_up(self, scanner: Scanner) -> int:
        """Leave a document that makes no sense, if another one may begin; returns where to look for it."""
        is_last = self._restarts == _RESTARTS or not self._may_restart or not self._openings
        if scanner.error is None or scanner.is_complete or is_last:
            return -1
        self._restarts += 1
        self._scanner = None
        return max(0, self._begun + scanner.error.place - self._taken)
