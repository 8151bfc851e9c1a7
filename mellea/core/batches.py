"""Events that came together, and are handed over together to whoever asks for it.

A generator costs its reader a step for each event, and a read of a fast network may hold fifty of them. So a
backend may yield lists, and return `Batches(…)` of them: a run takes the lists, everybody else one event at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from mellea.core.events import Event

__all__ = ["Batches"]


class Batches(AsyncIterator[Event]):
    """Reads events one by one out of a generator of lists.

    Args:
        batches: the lists; a reader may take them in place of the events, but not in turns with them.
    """

    __slots__ = ("_rest", "batches")

    def __init__(self, batches: AsyncGenerator[list[Event], None]) -> None:
        self.batches = batches
        self._rest: list[Event] = []  # taken and not yet given, the next one last

    async def __anext__(self) -> Event:
        while not self._rest:
            self._rest = (await anext(self.batches))[::-1]
        return self._rest.pop()

    async def aclose(self) -> None:
        """Close the generator, and give nothing more."""
        self._rest = []
        await self.batches.aclose()
