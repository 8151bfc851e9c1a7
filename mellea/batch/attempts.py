"""The attempts at a row: it is requested, alone or in a batch, and retried if it failed for a temporary reason.

Rules:

- An attempt waits for its turn at the backend's pace. Its cost, and any limits that the response reports, are recorded
  whether or not it succeeded.
- A row is retried after a pause that doubles or that the provider specifies, at most as often as the map allows.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from typing import Any

import anyio

from mellea.batch.budget import Purse
from mellea.batch.desk import BatchDesk
from mellea.batch.limits import LONGEST_HOLD, CallJournal, Pace, RateLimits
from mellea.batch.places import Places
from mellea.batch.program import Work
from mellea.core.backend import Backend
from mellea.core.events import Usage
from mellea.core.runtime.ledger import Meter
from mellea.errors import BackendError, OverloadedError, ParseError, RateLimitError

__all__ = ["RowAttempts", "Task"]

_log = logging.getLogger("mellea")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class Task:
    """A row that is being processed."""

    index: int
    row: Any
    id: str = ""
    key: bytes = b""
    attempts: int = 0
    usage: Usage | None = None
    cost: float | None = 0.0
    misfit: frozenset[str] | None = None  # the fields of a row that doesn't fit the function
    has_entered: bool = False  # the purse
    has_asked: bool = False


class RowAttempts:
    """Requests the rows of one map.

    Args:
        places: is notified of the duration of answers, and of refusals.
        purse: tracks what rows cost.
        limits: the rate limits that the map was given.
        retries: how often a row is retried.

    Attributes:
        call_journal: runs a function on the journal's thread, if there is a journal.
        desk: takes rows for batches, if the map uses them.
    """

    def __init__(self, places: Places, purse: Purse, limits: RateLimits, retries: int) -> None:
        self._places, self._purse = places, purse
        self._limits, self._retries = limits, retries
        self._paces: dict[int, tuple[Backend, Pace]] = {}
        self.call_journal: CallJournal | None = None
        self.desk: BatchDesk | None = None

    async def ask(self, task: Task, work: Work) -> Any:
        """Request a row, and retry it if it failed for a temporary reason."""
        # Batches have their own limits, which the desk applies.
        pace = None if self.desk is not None else self._find_pace(work.backend)
        while True:
            meter = Meter()
            task.attempts += 1
            expected = await pace.enter() if pace is not None else 0.0
            began = time.monotonic()
            try:
                value = await self._ask_once(task, work, meter)
            except Exception as error:
                self._note(task, meter, pace, expected)
                pause = self._find_pause(task, error, pace)
                if pause is None:
                    raise
            else:
                self._note(task, meter, pace, expected)
                self._places.note_answer(time.monotonic() - began)
                return value
            await anyio.sleep(pause)

    async def _ask_once(self, task: Task, work: Work, meter: Meter) -> Any:
        asked = None if self.desk is None else work.asked
        if self.desk is not None:
            self.desk.warn_of_live(asked)
        # The first row runs alone and shows what a row costs; a batch of thousands would be sent before that is known.
        if self.desk is None or asked is None or self._purse.knows_nothing:
            return await work.ask(meter)
        if self.desk.can_take(asked):
            try:
                return await self.desk.ask(task.key, asked, meter)
            except (LookupError, ParseError):  # no batch accepts it, or its answer has to be corrected
                return await work.ask(meter)
        return await work.ask(meter)

    def _note(self, task: Task, meter: Meter, pace: Pace | None, expected: float) -> None:
        """Record what an attempt cost, and the limits that its response reported."""
        usage, cost = meter.usage(), meter.cost()
        task.has_asked = task.has_asked or bool(meter.entries)
        task.usage = usage if task.usage is None else task.usage if usage is None else task.usage + usage
        task.cost = None if task.cost is None or cost is None else task.cost + cost
        if pace is not None:
            pace.settle(expected, None if usage is None else usage.total_tokens)
            if pace.look():
                self._places.note_refusal()

    def _find_pause(self, task: Task, error: Exception, pace: Pace | None) -> float | None:
        """Return how long to wait before a row is retried; `None` if it isn't."""
        if isinstance(error, (RateLimitError, OverloadedError)):
            self._places.note_refusal()
        if not isinstance(error, BackendError) or not error.is_retryable or task.attempts > self._retries:
            return None
        # With jitter, so that rows that failed together aren't retried together.
        pause = min(_FIRST_PAUSE * 2.0 ** (task.attempts - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            if pace is not None:
                # All rows are held: the provider has refused the account, not this row.
                pace.hold(asked)
            # A provider may ask for a day. The row fails after its retries rather than hold up the whole map for that
            # long.
            pause += min(asked, LONGEST_HOLD)
        _log.info("row %s failed, next attempt in %.1f s: %s", task.id, pause, error)
        return pause

    def _find_pace(self, backend: Backend | None) -> Pace | None:
        if backend is None:
            return None
        known = self._paces.get(id(backend))
        if known is None:
            known = self._paces[id(backend)] = backend, Pace(backend, self._limits, self.call_journal)
        return known[1]
