"""Which attempts of a run were rejected, and why: read off its events, while it runs and afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mellea.core.events import (
    AttemptAccepted,
    AttemptRejected,
    AttemptStart,
    ChunkValidated,
    Event,
    StepStart,
    TextDelta,
)

__all__ = ["AttemptLog", "Rejection"]


@dataclass(slots=True)
class Rejection:
    """A rejected attempt.

    Attributes:
        number: the attempt's number.
        why: the first requirement that it doesn't meet, with the reason.
        text: what was written of it and not released.
    """

    number: int
    why: str
    text: str


@dataclass(slots=True)
class AttemptLog:
    """The attempts of one run; `feed` takes its events in their order, in any pieces.

    Attributes:
        rejections: the rejected attempts, in order.
        number: the number of the latest attempt; 0 before the first one, and in a run without attempts.
        kept: the released text, which stays whatever follows.
        chosen: the number of the attempt that is the result, once one is.
        has_steps: whether an answer consists of several, between which tools ran.
    """

    rejections: list[Rejection] = field(default_factory=list)
    number: int = 0
    kept: str = ""
    chosen: int | None = None
    has_steps: bool = False
    _written: list[str] = field(default_factory=list)
    _released: int = 0  # how many characters of the latest attempt stay

    @property
    def is_between(self) -> bool:
        """Whether the latest attempt was rejected and nothing has been chosen: its text is no answer any more."""
        is_rejected = bool(self.rejections) and self.rejections[-1].number == self.number
        return is_rejected and self.chosen is None

    def feed(self, events: Iterable[Event]) -> None:
        """Take more events."""
        for event in events:
            # Nearly every event is one, so it is recognised first.
            if type(event) is TextDelta:
                self._written.append(event.chunk)
            elif type(event) is AttemptStart:
                self.number, self.kept, self._written, self._released = event.number, event.text, [], 0
            elif type(event) is ChunkValidated and event.is_committed:
                self.kept += event.chunk
                self._released += len(event.chunk)
            elif type(event) is AttemptRejected:
                why = f"{event.requirement} ({event.reason})" if event.reason else event.requirement
                self.rejections.append(Rejection(event.number, why, "".join(self._written)[self._released :]))
            elif type(event) is AttemptAccepted:
                self.chosen = event.number
            elif type(event) is StepStart:
                self.has_steps = True
