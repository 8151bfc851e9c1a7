"""Batches that are no longer needed: cancelled at the provider, so that unanswered requests cost nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass

import anyio
import anyio.to_thread

from mellea.backends.http import HttpBackend
from mellea.backends.http.batches import BatchCodec, BatchStatus
from mellea.backends.registry import get_backend
from mellea.batch.desk import EARLIER_SECONDS, drive
from mellea.core.backend import Backend
from mellea.core.journal import Journal, NotedBatch
from mellea.core.runtime.portal import blocking
from mellea.errors import NotFoundError, UnsupportedError, UsageError

__all__ = ["CancelledBatch", "acancel_batches", "cancel_batches"]


@dataclass(frozen=True, slots=True)
class CancelledBatch:
    """A batch that a journal had noted, and what became of it.

    Attributes:
        id: the provider's name of it; `None` if it was never made, or was made at the moment of a crash by a provider
            that keeps no name of ours, such as Anthropic.
        provider: who has it.
        model: which model was to answer.
        rows: how many requests it has.
        state: the provider's word for it now; `"unknown"` if the provider doesn't know it.
    """

    id: str | None
    provider: str
    model: str
    rows: int
    state: str


async def acancel_batches(
    journal: Journal | str | os.PathLike[str], *, backend: Backend | None = None
) -> list[CancelledBatch]:
    """Cancel the batches of a journal whose answers aren't all there, at their providers.

    End the map first: one that still waits would put the rows into a new batch. What was answered before is paid for
    and isn't lost: the next map with the journal fetches it, and asks for the rest.

    Args:
        journal: that of the map, or its file.
        backend: whose key and address are used, for the batches of its provider; by default the provider's own, with
            the key of the environment.

    Raises:
        UsageError: there is no such journal.
        UnsupportedError: the backend has no batches.
        BackendError: a provider can't be reached, or refuses.
    """
    kept = journal if isinstance(journal, Journal) else _open(journal)
    noted = await anyio.to_thread.run_sync(kept.open_batches)
    if backend is not None:
        _find_codec(backend)
        noted = [batch for batch in noted if batch.provider == backend.name]
    return [await _cancel(batch, backend) for batch in noted]


cancel_batches = blocking(acancel_batches)


def _open(path: str | os.PathLike[str]) -> Journal:
    # A journal is made where there is none, and a typing error shouldn't leave an empty file behind.
    if not os.path.isfile(path):
        raise UsageError(f"there is no journal {os.fspath(path)!r}")
    return Journal(path)


async def _cancel(batch: NotedBatch, backend: Backend | None) -> CancelledBatch:
    asked, codec = _find_codec(backend or get_backend(batch.provider, batch.model))
    id, state = batch.provider_id, "unknown"
    try:
        id = id or await _find(batch, asked, codec)
        if id is not None:
            state = (await drive(asked, codec.cancel(id))).state
    except NotFoundError:
        pass  # it was over long ago, and the provider has forgotten it
    finally:
        if backend is None:
            await asked.aclose()
    return CancelledBatch(id, batch.provider, batch.model, len(batch.rows), state)


async def _find(batch: NotedBatch, backend: HttpBackend, codec: BatchCodec) -> str | None:
    """Find a batch whose id wasn't noted, since the process was killed while it was made."""
    recent: list[BatchStatus] = await drive(backend, codec.list_recent(batch.at - EARLIER_SECONDS))
    return next((status.id for status in recent if status.intent == batch.intent), None)


def _find_codec(backend: Backend) -> tuple[HttpBackend, BatchCodec]:
    if not isinstance(backend, HttpBackend) or (codec := backend.batches) is None:
        raise UnsupportedError(f"{backend.name!r} has no batches that could be cancelled")
    return backend, codec
