"""Ledgers: what the requests of a session cost together, whoever made them for it: verbs, attempts, judges, tools."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mellea.errors import ConfigurationError, ConnectError, StatusError, StreamingError, UsageError

if TYPE_CHECKING:
    from mellea.core.accumulator import Generation
    from mellea.core.events import Usage
    from mellea.core.runtime.record import Record

__all__ = ["Ledger", "current_ledger", "enter_request", "was_refused"]

_MOST = 1000
"""How many requests may wait for being priced."""


class Ledger:
    """Adds up what requests cost; safe from any thread. Prices are looked up when somebody asks, or every so often."""

    __slots__ = ("_lock", "_total", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str, Usage | None]] = []
        self._total: float | None = 0.0

    def add(self, provider: str, model: str, usage: Usage | None) -> None:
        """Enter a request that was answered, at least in part.

        Args:
            provider: who answered.
            model: the model that answered.
            usage: the tokens, `None` if the provider didn't report them.
        """
        self._waiting.append((provider, model, usage))
        if len(self._waiting) > _MOST:
            self.cost()

    def cost(self) -> float | None:
        """Return what the requests so far cost in US dollars, `None` if that of any is unknown."""
        from mellea.core.prices import cost  # lazy: most programs never ask

        with self._lock:
            while self._waiting:
                provider, model, usage = self._waiting.pop()
                dollars = cost(usage, provider, model)
                self._total = None if dollars is None or self._total is None else self._total + dollars
            return self._total


def was_refused(error: BaseException | None) -> bool:
    """Whether a request failed in a way that nobody bills: it was refused, or never sent."""
    return isinstance(error, (ConfigurationError, ConnectError, StatusError, UsageError)) and not isinstance(
        error,
        StreamingError,  # its loop was lost: the model may have answered
    )


current_ledger: ContextVar[Ledger | None] = ContextVar("mellea_ledger", default=None)
"""Where the requests of the current code are entered: that of the session that it works for."""


def enter_request(ledger: Ledger, run: Record, said: Generation) -> None:
    """Enter a request that has ended, unless it was refused or never sent.

    Args:
        ledger: that of the session.
        run: made the request.
        said: what it came to.
    """
    if said.usage is None and was_refused(run.error):
        return
    sent = run.sent
    provider, model = (run.backend, run.model) if sent is None else (sent.backend, sent.model)
    ledger.add(provider or "", said.model or model or "", said.usage)
