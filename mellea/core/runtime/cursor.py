"""A reader's place in a run's events, and the reader that hands them on to another run."""

from __future__ import annotations

from mellea.core.events import Event, StreamEnd
from mellea.core.runtime import Record, Run

__all__ = ["Cursor", "relay"]


class Cursor:
    """One reader's place in a run's events. Reading never removes anything."""

    __slots__ = ("_events", "_index", "run")

    def __init__(self, run: Record) -> None:
        self.run = run
        self._events = run.events
        self._index = 0

    def take(self) -> list[Event] | None:
        """Return the events that came since the last call: none yet is `[]`, the end of all is `None`."""
        run, events, index = self.run, self._events, self._index
        limit = run.limit  # read before the length: a run that has ended gets no more events
        stop = len(events) if limit is None else min(limit, len(events))
        if index < stop:
            self._index = stop
            return events[index:stop]
        if limit is not None:
            self._events = []
            self._index = 0
            return None
        return []

    async def more(self) -> list[Event] | None:
        """Wait for events that haven't been taken yet and return them; `None` is the end of all."""
        while (new := self.take()) == []:
            await self.run.until(self.is_ready)
        return new

    def is_ready(self) -> bool:
        """Whether `take` has something to say."""
        return self._index < len(self._events) or self.run.is_final


async def relay(inner: Record, outer: Run) -> StreamEnd | None:
    """Hand the events of a run on to the run that it is part of, as they come; its end is returned instead.

    Raises:
        MelleaError: what the inner run failed with.
    """
    end: StreamEnd | None = None
    cursor = Cursor(inner)
    while (new := await cursor.more()) is not None:
        end = next((event for event in new if isinstance(event, StreamEnd)), end)
        outer.emit([event for event in new if event is not end])
    inner.raise_error()
    return end
