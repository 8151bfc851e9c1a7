"""Finds batches whose id was never recorded because the process that created them was killed.

If a provider stores a name or metadata for a batch, our intent is there. For other providers, such as Anthropic, a
batch is identified by the names of its requests, which can only be read from its results. Until it has ended there are
only candidates: batches with the same number of requests, created at that time, and not recorded by any map.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any, TypeVar

from mellea.backends.http import HttpBackend
from mellea.backends.http.batches import BatchCodec, BatchStatus, Calls
from mellea.errors import NotFoundError

__all__ = ["Unnoted", "drive"]

T = TypeVar("T")

_EARLIER_SECONDS = 300.0
"""By how much a batch's creation time on the provider's clock may precede the time in the journal."""


@dataclass(frozen=True, slots=True)
class Unnoted:
    """A batch that the provider may have.

    Args:
        backend: the provider.
        codec: its batches.
        intent: the name of the batch, with which the names of its requests begin.
        total: how many requests it has.
        since: when its intent was recorded, in seconds since 1970.
    """

    backend: HttpBackend
    codec: BatchCodec
    intent: str
    total: int
    since: float

    async def find(self, known: Set[str]) -> tuple[BatchStatus | None, list[BatchStatus]]:
        """Return the batch if it can be identified, otherwise `None` and the batches that it may be.

        Args:
            known: the provider's ids of batches that are known to be others.
        """
        # The provider's clock isn't ours.
        earliest = self.since - _EARLIER_SECONDS
        recent: list[BatchStatus] = await drive(self.backend, self.codec.list_recent(earliest))
        like: list[BatchStatus] = []
        for status in recent:
            if status.intent is not None:
                if status.intent == self.intent:
                    return status, []
            elif status.id not in known and status.total == self.total and (status.made or self.since) >= earliest:
                like.append(status)
        return await self.find_among(like)

    async def find_among(self, like: list[BatchStatus]) -> tuple[BatchStatus | None, list[BatchStatus]]:
        """Return the batch if it is one of these, otherwise `None` and those that haven't ended, which it may be."""
        for status in like:
            name = await self._ask(self.codec.fetch_name(status)) if status.is_over else None
            if name is not None and name.startswith(f"{self.intent}-"):
                return status, []
        return None, [status for status in like if not status.is_over]

    async def look(self, like: list[BatchStatus]) -> list[BatchStatus]:
        """Fetch the batches again; those that no longer exist are left out."""
        looks = [await self._ask(self.codec.look(status.id)) for status in like]
        return [status for status in looks if status is not None]

    async def _ask(self, calls: Calls[T]) -> T | None:
        """Fetch a batch that may be another program's, which may have deleted it in the meantime."""
        try:
            found: T = await drive(self.backend, calls)
            return found
        except NotFoundError:
            return None


async def drive(backend: HttpBackend, calls: Calls[Any], *, retries: int | None = None) -> Any:
    """Make the calls of an exchange, and return its result."""
    try:
        call = next(calls)
        while True:
            call = calls.send(await backend.make_call(call, retries=retries))
    except StopIteration as end:
        return end.value
