"""Batches that are no longer needed: cancelled at the provider, so that unanswered requests cost nothing."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

import anyio
import anyio.to_thread

from mellea.backends.http import HttpBackend
from mellea.backends.http.batches import BatchCodec
from mellea.backends.registry import get_backend
from mellea.batch.unnoted import Unnoted, drive
from mellea.core.backend import Backend
from mellea.core.journal import Journal, NotedBatch
from mellea.core.runtime.portal import blocking
from mellea.errors import NotFoundError, UnsupportedError, UsageError

__all__ = ["CancelledBatch", "acancel_batches", "cancel_batches"]


@dataclass(frozen=True, slots=True)
class CancelledBatch:
    """A batch that was recorded in a journal, and its state now.

    Attributes:
        id: the provider's id; `None` if it was never created, or isn't known.
        provider: the provider that has it.
        model: the model that it was for.
        rows: how many requests it has.
        state: its current state in the provider's words; `"unknown"` if the provider doesn't know it, or its id isn't
            known.
        candidates: if the id isn't known, the batches at the provider that it may be. This happens if a process was
            killed while it created the batch: a provider that stores no name of ours, such as Anthropic, shows only at
            the end whose batch it is.
    """

    id: str | None
    provider: str
    model: str
    rows: int
    state: str
    candidates: tuple[str, ...] = ()


async def acancel_batches(
    journal: Journal | str | os.PathLike[str], *, backend: Backend | None = None, ids: Collection[str] = ()
) -> list[CancelledBatch]:
    """Cancel a journal's unfinished batches at their providers.

    Stop the map first, because a map that still waits would put the rows into a new batch. Answers from before the
    cancellation are paid for and aren't lost: the next map with the journal fetches them and requests the rest.

    Args:
        journal: the map's journal, or its file.
        backend: supplies the key and address for its provider's batches; by default the provider's own address, with
            the key from the environment.
        ids: the candidates from an earlier call that are batches of this journal.

    Raises:
        UsageError: there is no such journal, or an id isn't that of a candidate.
        UnsupportedError: the backend has no batches.
        BackendError: a provider can't be reached, or rejects the request.
    """
    if isinstance(ids, str):
        raise UsageError(f"ids= takes a list of ids, not {ids!r}")
    kept = journal if isinstance(journal, Journal) else _open(journal)
    noted = await anyio.to_thread.run_sync(kept.open_batches)
    if backend is not None:
        _find_codec(backend)
        noted = [batch for batch in noted if batch.provider == backend.name]
    found = [await _cancel(batch, kept, backend, ids) for batch in noted]
    if strange := set(ids).difference(batch.id or "" for batch in found):
        candidates = sorted({id for batch in found for id in batch.candidates})
        raise UsageError(
            f"{min(strange)!r} can't be a batch of the journal {kept.path!r}; candidates are: "
            f"{', '.join(map(repr, candidates)) or 'none'}"
        )
    return found


cancel_batches = blocking(acancel_batches)


def _open(path: str | os.PathLike[str]) -> Journal:
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"journal takes the path of a journal, or a Journal, not {path!r}")
    # Opening a journal creates it, and a typo shouldn't leave an empty file behind.
    if not os.path.isfile(path):
        raise UsageError(f"there is no journal {os.fspath(path)!r}")
    return Journal(path)


async def _cancel(batch: NotedBatch, journal: Journal, backend: Backend | None, ids: Collection[str]) -> CancelledBatch:
    asked, codec = _find_codec(backend or get_backend(batch.provider, batch.model))
    id, state = batch.provider_id, "unknown"
    candidates: tuple[str, ...] = ()
    try:
        if id is None:
            unnoted = Unnoted(asked, codec, batch.intent, len(batch.rows), batch.at)
            id, candidates = await _find(batch, journal, unnoted, ids)
        if id is not None:
            state = (await drive(asked, codec.cancel(id))).state
    except NotFoundError:
        pass  # it ended long ago, and the provider has forgotten it
    finally:
        if backend is None:
            await asked.aclose()
    return CancelledBatch(id, batch.provider, batch.model, len(batch.rows), state, candidates)


async def _find(
    batch: NotedBatch, journal: Journal, unnoted: Unnoted, ids: Collection[str]
) -> tuple[str | None, tuple[str, ...]]:
    """Find a batch whose id wasn't recorded; returns it, or else the batches that it may be."""
    status, like = await unnoted.find(await anyio.to_thread.run_sync(journal.known_batches))
    status = status or next((each for each in like if each.id in ids), None)
    if status is None:
        return None, tuple(each.id for each in like)
    # The next map fetches the answers that it has.
    await anyio.to_thread.run_sync(journal.note_batch, batch.intent, "made", status.id)
    return status.id, ()


def _find_codec(backend: Backend) -> tuple[HttpBackend, BatchCodec]:
    if not isinstance(backend, HttpBackend) or (codec := backend.batches) is None:
        raise UnsupportedError(f"{backend.name!r} has no batches that could be cancelled")
    return backend, codec
