"""What a reader of a run's text gets to see: the text that stays.

Of a plain generation that is every text delta. Under a strategy it is the text of the accepted attempt, once it
is accepted, and before that only what was committed; of a tool loop it is the text of all steps. So what came
out is always the beginning of the final text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mellea.core.accumulator import STEP_BREAK
from mellea.core.events import AttemptAccepted, AttemptStart, ChunkValidated, Event, StepStart, TextDelta
from mellea.core.runtime import Record

__all__ = ["TextFilter", "text_filter", "text_of"]

TextFilter = Callable[[list[Event]], str]
"""Takes the events that came since the last call, and returns the text that they let out."""


def text_filter(run: Record, *, live: bool = False) -> TextFilter:
    """Return a new reader's filter; with `live` it lets out all text, also what will be taken back."""
    return _Lasting(live).feed if run.is_composite else text_of


def text_of(events: Sequence[Event]) -> str:
    """Join the text deltas among the events."""
    if len(events) == 1:
        event = events[0]
        return event.chunk if type(event) is TextDelta else ""
    return "".join([event.chunk for event in events if type(event) is TextDelta])


class _Lasting:
    """The filter for a run that is made of other runs."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._attempts: dict[int, list[str]] = {}  # and the text of each
        self._held: list[str] | None = None  # that of the attempt which is being written, if there is one
        self._let_out = 0  # characters of the attempts' texts, which all begin with them
        self._has_text = self._is_new_step = False

    def feed(self, events: list[Event]) -> str:
        out: list[str] = []
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                self._write(event.chunk, out)  # type: ignore[attr-defined]
            elif isinstance(event, AttemptStart) and not self._live:
                self._held = self._attempts.setdefault(event.number, [event.text])
                self._has_text = self._is_new_step = False
            elif isinstance(event, ChunkValidated) and event.is_committed and not self._live:
                self._let_out += len(event.chunk)
                out.append(event.chunk)
            elif isinstance(event, AttemptAccepted) and not self._live:
                out.append("".join(self._attempts.get(event.number, ()))[self._let_out :])
                self._attempts.clear()
            elif kind is StepStart:
                self._is_new_step = self._has_text
        return "".join(out)

    def _write(self, chunk: str, out: list[str]) -> None:
        if not chunk:
            return
        to = out if self._held is None else self._held
        if self._is_new_step:
            to.append(STEP_BREAK)
            self._is_new_step = False
        self._has_text = True
        to.append(chunk)
