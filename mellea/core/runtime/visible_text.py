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

__all__ = ["Pieces", "TextFilter", "join_text", "piece_filter", "text_filter"]

TextFilter = Callable[[list[Event]], str]
"""Takes the events that came since the last call, and returns the text that they let out."""


def text_filter(run: Record, *, live: bool = False) -> TextFilter:
    """Return a new reader's filter; with `live` it lets out all text, also what will be taken back."""
    return _Lasting(live).feed if run.is_composite else join_text


class Pieces(str):
    """Text of a run that may have steps: with the pieces that it is made of.

    Attributes:
        parts: the pieces; `None` stands where a step ends and another one begins.
    """

    __slots__ = ("parts",)

    parts: list[str | None]

    def __new__(cls, parts: list[str | None]) -> Pieces:
        """Make the text of its pieces."""
        pieces = super().__new__(cls, _joined(parts))
        pieces.parts = parts
        return pieces


def piece_filter(run: Record) -> TextFilter:
    """Return a new reader's filter that tells where steps end: of a run with steps it makes `Pieces`."""
    if not run.is_composite:
        return join_text
    lasting = _Lasting(False)
    return lambda events: Pieces(lasting.pieces(events))


def join_text(events: Sequence[Event]) -> str:
    """Join the text deltas among the events."""
    if len(events) == 1:
        event = events[0]
        return event.chunk if type(event) is TextDelta else ""
    return "".join([event.chunk for event in events if type(event) is TextDelta])


class _Lasting:
    """The filter for a run that is made of other runs."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._attempts: dict[int, list[str | None]] = {}  # and the pieces of each; `None` stands between two steps
        self._held: list[str | None] | None = None  # that of the attempt which is being written, if there is one
        self._let_out = 0  # characters of the attempts' texts, which all begin with them
        self._has_text = self._is_new_step = False

    def feed(self, events: list[Event]) -> str:
        return _joined(self.pieces(events))

    def pieces(self, events: list[Event]) -> list[str | None]:
        """Return the pieces of text that the events let out; `None` stands where another step begins."""
        out: list[str | None] = []
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
                parts = self._attempts.get(event.number, [])
                out += [_joined(parts)[self._let_out :]] if self._let_out else parts
                self._attempts.clear()
            elif kind is StepStart:
                self._is_new_step = self._has_text
        return out

    def _write(self, chunk: str, out: list[str | None]) -> None:
        if not chunk:
            return
        to = out if self._held is None else self._held
        if self._is_new_step:
            to.append(None)
            self._is_new_step = False
        self._has_text = True
        to.append(chunk)


def _joined(parts: Sequence[str | None]) -> str:
    return "".join([STEP_BREAK if part is None else part for part in parts])
