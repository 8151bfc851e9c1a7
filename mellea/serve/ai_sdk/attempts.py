"""Attempts of a strategy in a UI message stream: shown live where they can be taken back, held back where they can't.

Version 7 has `reset-step`, which removes what came since the last `start-step`. So an attempt is written into one step,
as it comes. If it is rejected, the step is reset. If the accepted one isn't what is shown, or has steps of its own, the
step is reset once more, and the attempt written as it is. Versions 5 and 6 only get final text: text that was
committed, and the accepted attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mellea.core.events import (
    AttemptAccepted,
    AttemptRejected,
    AttemptStart,
    ChunkValidated,
    Event,
    StepEnd,
    StepStart,
    TextDelta,
)
from mellea.serve.ai_sdk.parts import Part, PartWriter, Version

__all__ = ["AttemptWriter"]


@dataclass(slots=True)
class _Attempt:
    events: list[Event] = field(default_factory=list)
    steps: int = 0


class AttemptWriter:
    """Turns events into parts, those of attempts as its version can take them.

    Args:
        version: of the clients.
        writer: writes the parts.
        shows_attempts: whether clients are notified of rejected attempts, in transient parts `data-attempt`.
    """

    def __init__(self, version: Version, writer: PartWriter, *, shows_attempts: bool = False) -> None:
        self._is_live = version >= 7
        self._writer = writer
        self._shows_attempts = shows_attempts
        self._attempts: dict[int, _Attempt] = {}
        self._current: _Attempt | None = None
        self._shown: _Attempt | None = None  # the one that is shown, if it is live
        self._let_out = 0  # characters that were committed, with which the text of each attempt begins

    def feed(self, event: Event) -> list[Part]:
        """Return the parts of an event."""
        match event:
            case AttemptStart():
                return self._start(event)
            case AttemptRejected():
                return self._reject(event)
            case AttemptAccepted():
                return self._accept(event)
            # Versions 5 and 6 can't take text back, so they get only what has passed its checks.
            case ChunkValidated(_, chunk, True) if not self._is_live:
                self._let_out += len(chunk)
                return self._writer.feed(TextDelta(chunk))
        attempt = self._current
        if attempt is None:
            return self._writer.feed(event)
        # Kept even while it is shown: another attempt may replace it on the screen, and this one may still be accepted.
        attempt.events.append(event)
        if isinstance(event, StepStart):
            attempt.steps += 1
        is_shown = self._is_live and not isinstance(event, (StepStart, StepEnd))
        return self._writer.feed(event) if is_shown else []

    def _start(self, event: AttemptStart) -> list[Part]:
        is_new = event.number not in self._attempts
        attempt = self._current = self._attempts.setdefault(event.number, _Attempt())
        if is_new and event.text:
            attempt.events.append(TextDelta(event.text))
        if not self._is_live or attempt is self._shown:
            return []
        # The new attempt replaces the one that is shown, whose events are kept.
        parts = self._writer.begin_attempt() if self._shown is None else self._writer.reset()
        self._shown = attempt
        return [*parts, *self._replay(attempt, with_steps=False)]

    def _reject(self, event: AttemptRejected) -> list[Part]:
        attempt = self._attempts.get(event.number)
        self._current = None
        parts: list[Part] = []
        if self._shown is not None and attempt is self._shown:
            self._shown = None
            parts += self._writer.reset()
        if self._shows_attempts:
            data = {"number": event.number, "requirement": event.requirement, "reason": event.reason}
            known = {name: value for name, value in data.items() if value is not None}
            parts.append({"type": "data-attempt", "data": {"state": "rejected", **known}, "transient": True})
        return parts

    def _accept(self, event: AttemptAccepted) -> list[Part]:
        attempt = self._attempts.get(event.number, _Attempt())
        # Steps inside an attempt were left out while it was live; with more than one, the message has to be written
        # again.
        is_right = attempt is self._shown and attempt.steps <= 1
        parts = self._writer.reset() if self._shown is not None and not is_right else []
        self._attempts.clear()
        self._current = self._shown = None
        return parts if is_right else [*parts, *self._replay(attempt, with_steps=True)]

    def _replay(self, attempt: _Attempt, *, with_steps: bool) -> list[Part]:
        """Write an attempt's events so far, without the text that was already released."""
        parts: list[Part] = []
        left = self._let_out
        for event in attempt.events:
            # The committed text has already been released, and must not be written twice.
            if isinstance(event, TextDelta) and left:
                chunk, left = event.chunk[left:], max(0, left - len(event.chunk))
                event = TextDelta(chunk)
            if with_steps or not isinstance(event, (StepStart, StepEnd)):
                parts += self._writer.feed(event)
        return parts
