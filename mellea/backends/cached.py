"""A backend that stores answers in a journal and replays them when the same request comes again."""

from __future__ import annotations

import json
import os
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio

from mellea.backends.flights import Flight, join_flight
from mellea.backends.wrapped import WrappedBackend, open_stream
from mellea.core.backend import Backend, Request, SentRequest
from mellea.core.events import Event, KeepAlive, StreamEnd
from mellea.core.journal import Journal
from mellea.core.runtime import runs_around
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.serialise import from_jsonable, to_jsonable
from mellea.errors import StateError, UsageError

__all__ = ["CachedBackend"]


class CachedBackend(WrappedBackend):
    """Replays the stored answer to a repeated request, event for event, at no cost.

    Requests are the same if their `Request.fingerprint` is. If one call sends the same request several times, as a
    strategy does, each has its own answer. If several calls of this process send the same request at the same time, the
    first one is sent, and the others wait for its whole answer; they send their own if it fails or is cancelled. Failed
    and truncated answers aren't stored, nor are images and embeddings.

    Args:
        backend: answers requests that aren't stored.
        journal: the SQLite file, or a journal; any number of processes may share it.
        is_timed: replay an answer at its original pace, rather than at once.

    Raises:
        UsageError: the journal is not a path.
    """

    def __init__(self, backend: Backend, journal: str | os.PathLike[str] | Journal, *, is_timed: bool = False) -> None:
        super().__init__(backend)
        self.journal = journal if isinstance(journal, Journal) else Journal(journal)
        self.is_timed = is_timed
        self._kept = WrappedBackend(backend)
        self._kept.name = "cache"  # whose answers cost nothing
        self._asked: weakref.WeakKeyDictionary[Any, Counter[str]] = weakref.WeakKeyDictionary()

    async def run(self, request: Request) -> AsyncIterator[Event]:
        """Yield the stored answer, or send the request to the backend and store its answer.

        Raises:
            StateError: the journal can't be read.
            MelleaError: the backend failed.
        """
        try:
            key = self._key(request)
        except UsageError:  # it contains values that can't be distinguished from others
            async with open_stream(self.backend, request) as source:
                async for event in source:
                    yield event
            return
        async with aclosing(self._run_keyed(request, key)) as events:
            async for event in events:
                yield event

    async def _run_keyed(self, request: Request, key: str) -> AsyncGenerator[Event, None]:
        """Replay the stored answer, or that of an equal request that is on its way, or ask."""
        around = runs_around.get()
        name, outer = (os.path.realpath(self.journal.path), key), around[0]() if around else None
        flight, is_first = join_flight(name, outer)
        while not is_first:
            async with aclosing(flight.follow()) as signs:
                async for _ in signs:
                    yield KeepAlive()
            if flight.events is not None:
                break
            # If it was left, one of those who waited is the first now; if it failed, each asks for itself.
            flight, is_first = (Flight(name, None), True) if flight.has_failed else join_flight(name, outer)
        source = self._run_first(request, key, flight) if is_first else self._replay(request, flight.events or [])
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def _run_first(self, request: Request, key: str, flight: Flight) -> AsyncGenerator[Event, None]:
        """Replay the stored answer, or ask; those who wait for the flight learn what it came to."""
        try:
            kept = await self._find(key)
            if kept is not None:
                flight.events = self._load(kept)
                flight.end()  # before it is replayed with its timing
            source = self._replay(request, flight.events) if flight.events else self._ask(request, key, flight)
            async with aclosing(source) as events:
                async for event in events:
                    yield event
        except Exception:
            flight.has_failed = True
            raise
        finally:
            flight.end()

    async def _find(self, key: str) -> str | None:
        return await run_in_thread(self.journal.find_reply, key)

    def _key(self, request: Request) -> str:
        fingerprint = request.fingerprint(self.name, self.model_id)
        around = runs_around.get()
        outer = around[0]() if around else None
        if outer is None:
            return fingerprint
        counter = self._asked.setdefault(outer, Counter())
        counter[fingerprint] += 1
        return fingerprint if counter[fingerprint] == 1 else f"{fingerprint}:{counter[fingerprint]}"

    async def _ask(self, request: Request, key: str, flight: Flight) -> AsyncGenerator[Event, None]:
        began = time.monotonic()
        events: list[tuple[float, Event]] = []
        async with open_stream(self.backend, request) as source:
            async for event in source:
                if not isinstance(event, KeepAlive):
                    events.append((time.monotonic() - began, event))
                if isinstance(event, StreamEnd):  # stored before a reader sees that it is complete
                    await run_in_thread(self.journal.keep_reply, key, _dump(events))
                    flight.events = events
                    flight.end()
                flight.note()
                yield event

    async def _replay(self, request: Request, kept: list[tuple[float, Event]]) -> AsyncGenerator[Event, None]:
        yield KeepAlive(sent=SentRequest(self._kept, request))
        began = time.monotonic()
        for at, event in kept:
            if self.is_timed and (wait := began + at - time.monotonic()) > 0:
                await anyio.sleep(wait)
            yield event

    def _load(self, text: str) -> list[tuple[float, Event]]:
        try:
            events = [(float(at), from_jsonable(event)) for at, event in json.loads(text)]
            if not events or not isinstance(events[-1][1], StreamEnd):
                raise ValueError("it has no end")
        except (StateError, TypeError, ValueError) as error:
            raise StateError(
                f"the cache {self.journal.path!r} holds an answer that can't be read: {error}; use another file"
            ) from None
        return events


def _dump(events: list[tuple[float, Event]]) -> str:
    return json.dumps([[round(at, 4), to_jsonable(event)] for at, event in events], ensure_ascii=False)
