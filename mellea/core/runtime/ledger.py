"""Ledgers: the total cost of a session's requests, from verbs, attempts, judges and tools."""

from __future__ import annotations

import logging
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mellea.core.masking import labels
from mellea.errors import ConfigurationError, ConnectError, StatusError, StreamingError, UsageError

if TYPE_CHECKING:
    from mellea.core.accumulator import Generation
    from mellea.core.events import Usage
    from mellea.core.runtime.record import Record

__all__ = ["Ledger", "Meter", "current_ledger", "enter_request", "log_end", "was_refused"]

_log = logging.getLogger("mellea")

_MOST = 1000
"""How many requests may be waiting to be priced."""


_Entry = tuple[str, str, "Usage | None", bool, "str | None"]
"""Provider, model and usage of a request, and whether it was sent in a batch."""


class Ledger:
    """Adds up the cost of requests; safe from any thread. Prices are looked up on demand, or now and then."""

    __slots__ = ("_lock", "_total", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._total: float | None = 0.0

    def add(
        self, provider: str, model: str, usage: Usage | None, *, batch: bool = False, asked: str | None = None
    ) -> None:
        """Enter a request that was answered, at least in part.

        Args:
            provider: the provider that answered.
            model: the model that answered.
            usage: the tokens, `None` if the provider didn't report them.
            batch: whether it was sent in a batch.
            asked: the model that was asked for, if another one answered.
        """
        # Without the lock: it is atomic, and the price table isn't loaded while a request is being answered.
        self._waiting.append((provider, model, usage, batch, asked))
        if len(self._waiting) > _MOST:
            self.cost()

    def cost(self) -> float | None:
        """Return the cost of the requests so far in US dollars, `None` if that of any is unknown."""
        from mellea.core.prices import compute_cost  # lazy: most programs never need it

        with self._lock:
            while self._waiting:
                # One by one, so that entries added meanwhile are counted, and none twice.
                provider, model, usage, batch, asked = self._waiting.pop()
                dollars = compute_cost(usage, provider, model, batch=batch, asked=asked)
                self._total = None if dollars is None or self._total is None else self._total + dollars
            return self._total

    def around(self, inner: Ledger) -> Ledger:
        """Return the ledger for a session that works inside this ledger's work: its own, so nothing counts twice."""
        return inner


class Meter(Ledger):
    """Records the requests of one piece of work, here and in the ledger of the session that it uses.

    Args:
        session: the ledger of that session, if any.
        entries: the recorded requests.
    """

    __slots__ = ("_session", "entries")

    def __init__(self, session: Ledger | None = None, entries: list[_Entry] | None = None) -> None:
        super().__init__()
        self._session = session
        self.entries: list[_Entry] = [] if entries is None else entries

    def add(
        self, provider: str, model: str, usage: Usage | None, *, batch: bool = False, asked: str | None = None
    ) -> None:
        """Enter a request that was answered, at least in part."""
        self.entries.append((provider, model, usage, batch, asked))
        if self._session is not None:
            self._session.add(provider, model, usage, batch=batch, asked=asked)

    def around(self, inner: Ledger) -> Ledger:
        """Return a meter with the same entries for another session."""
        return Meter(inner, self.entries)

    def cost(self) -> float | None:
        """Return the cost of the requests so far in US dollars, `None` if that of any is unknown."""
        from mellea.core.prices import compute_cost  # lazy: most programs never need it

        total = 0.0
        for provider, model, usage, batch, asked in self.entries:
            dollars = compute_cost(usage, provider, model, batch=batch, asked=asked)
            if dollars is None:
                return None
            total += dollars
        return total

    def usage(self) -> Usage | None:
        """Return the tokens of all requests together, `None` if no provider reported any."""
        total = None
        for _, _, usage, *_ in self.entries:
            if usage is not None:
                total = usage if total is None else total + usage
        return total


def was_refused(error: BaseException | None) -> bool:
    """Whether a request failed without being billed: it was rejected, or never sent."""
    return isinstance(error, (ConfigurationError, ConnectError, StatusError, UsageError)) and not isinstance(
        error,
        StreamingError,  # its loop was lost: the model may have answered
    )


current_ledger: ContextVar[Ledger | None] = ContextVar("mellea_ledger", default=None)
"""The ledger for the current code's requests: that of its session."""


def enter_request(ledger: Ledger, run: Record, said: Generation) -> None:
    """Enter a request that has ended, unless it was rejected or never sent.

    Args:
        ledger: that of the session.
        run: the run of the request.
        said: its outcome.
    """
    if said.usage is None and was_refused(run.error):
        return
    sent = run.sent
    provider, model = (run.backend, run.model) if sent is None else (sent.backend, sent.model)
    ledger.add(provider or "", said.model or model or "", said.usage, asked=model)


def log_end(run: Record, said: Generation, opened: float, ledger: Ledger | None) -> None:
    """Log how a request ended: the model, seconds, tokens, why it stopped or failed; and enter its cost.

    Args:
        run: has ended, or continues with another request.
        said: the outcome of the request.
        opened: when its request was sent, as `time.monotonic()` tells.
        ledger: that of the session.
    """
    # Counted before logging: the cost has to be right even if nothing is logged.
    if ledger is not None:
        enter_request(ledger, run, said)
    if not opened or not _log.isEnabledFor(logging.INFO):
        return
    seconds = time.monotonic() - opened
    usage = said.usage
    tokens = "? + ? tokens" if usage is None else f"{usage.input_tokens} + {usage.output_tokens} tokens"
    end = said.finish_reason if run.error is None else type(run.error).__name__
    known = labels.refresh()
    model = known.scrub(str(said.model or run.model))  # a server may name its model as it likes
    _log.info("%s/%s: %.2f s, %s, %s", run.backend, model, seconds, tokens, end)
    if run.time_to_first_token is not None:
        name = known.scrub_id(said.response_id or model)
        _log.debug("%s: first token after %.3f s, %d events", name, run.time_to_first_token, len(run.events))
