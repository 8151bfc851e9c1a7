"""Recorded answers: models' answers from an earlier test run, returned again for the same requests."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from mellea.backends.cached import CachedBackend
from mellea.backends.flights import Flight
from mellea.core.backend import Backend, Request
from mellea.core.events import Event
from mellea.core.journal import Journal
from mellea.core.observer import Observer, Span, add_observer, current_span, remove_observer
from mellea.errors import ConfigurationError, UsageError

__all__ = ["Answers"]

_LONGEST_PROMPT = 200


class Answers(Observer):
    """Answers every request in this process from a journal, inside its `with` block.

    Args:
        journal: the SQLite file.
        is_live: request everything from models, and look nothing up.
        is_recording: store models' answers; without `is_live`, only missing answers are requested.

    Attributes:
        given: how many answers came from the journal.
        asked: how many came from models.
    """

    def __init__(self, journal: Journal, *, is_live: bool = False, is_recording: bool = False) -> None:
        self.journal = journal
        self.is_live, self.is_recording = is_live, is_recording
        self.given = self.asked = 0
        self._lock = threading.Lock()
        self._sample = 0
        self._times: Counter[str] = Counter()

    def begin_sample(self, number: int) -> None:
        """Begin a sample, which has its own answers: it never gets another sample's for the same request."""
        with self._lock:
            self._sample = number
            self._times.clear()

    def __enter__(self) -> Answers:
        add_observer(self)
        return self

    def __exit__(self, *error: object) -> None:
        remove_observer(self)

    async def before_request(self, request: Request) -> None:
        """Reject requests that can't be recorded."""
        span = current_span.get()
        if not self.is_live and span is not None and span.kind in ("image", "embedding"):
            raise ConfigurationError(
                f"a generative test asks for an {span.kind}, which isn't recorded; run pytest --mellea-live"
            )

    async def choose_backend(self, backend: Backend, request: Request) -> Backend | None:
        """Return a backend that returns the recorded answer."""
        if self.is_live and not self.is_recording:
            with self._lock:
                self.asked += 1
            return None
        return _RecordedBackend(backend, self)

    def make_key(self, fingerprint: str) -> str:
        """Return the key of a request, which counts how often the same request has been made."""
        with self._lock:
            self._times[fingerprint] += 1
            return f"test:{fingerprint}:{self._sample}:{self._times[fingerprint]}"

    def count(self, *, is_asked: bool) -> None:
        """Count an answer."""
        with self._lock:
            self.asked += is_asked
            self.given += not is_asked

    def begin(self, span: Span) -> None:
        """Do nothing."""

    def event(self, span: Span, events: Sequence[Event]) -> None:
        """Do nothing."""

    def end(self, span: Span) -> None:
        """Do nothing."""


class _RecordedBackend(CachedBackend):
    """A backend whose answers are recorded."""

    def __init__(self, backend: Backend, answers: Answers) -> None:
        super().__init__(backend, answers.journal)
        self._answers = answers

    def _key(self, request: Request) -> str:
        try:
            return self._answers.make_key(request.fingerprint(self.name, self.model_id))
        except UsageError as error:
            raise ConfigurationError(f"the answer to this request can't be recorded: {error}") from None

    async def _find(self, key: str) -> str | None:
        # A missing file isn't created just to find nothing in it.
        if self._answers.is_live or not os.path.exists(self.journal.path):
            return None
        return await super()._find(key)

    async def _ask(self, request: Request, key: str, flight: Flight) -> AsyncGenerator[Event, None]:
        if not self._answers.is_recording:
            raise ConfigurationError(
                f"there is no recorded answer of {self.name}/{self.model_id} in {self.journal.path!r} for the request "
                f"that ends with {_end_of(request)!r}; run pytest --mellea-record to record what is missing"
            )
        self._answers.count(is_asked=True)
        async for event in super()._ask(request, key, flight):
            yield event

    async def _replay(self, request: Request, kept: list[tuple[float, Event]]) -> AsyncGenerator[Event, None]:
        self._answers.count(is_asked=False)
        async for event in super()._replay(request, kept):
            yield event


def _end_of(request: Request) -> Any:
    text = request.messages[-1].text if request.messages else ""
    return text if len(text) <= _LONGEST_PROMPT else f"…{text[-_LONGEST_PROMPT:]}"
