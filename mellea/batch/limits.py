"""Requests and tokens per minute: as many as the provider allows, and no more, across all processes.

Rules:

- Requests are evenly spaced, with at most half a second's worth of them at once. So they respect a provider's limit
  whether it refills steadily, counts the past minute or starts a new count each minute.
- Each request takes the next free slot, which follows the previous one at the interval that the limit allows (the
  generic cell rate algorithm, ATM Forum TM 4.0, 1996). Tokens have their own slots; if an answer took more or fewer
  tokens than expected, the next slot moves.
- With a journal, the slots are stored there, so that all processes that use it share them, and know the limits that the
  provider has reported to any of them. If there are many slots, several are taken at a time.
- A process waits by its monotonic clock. In the journal the times are the wall clock's, which processes share; if that
  was set back since the last entry, all times there move with it.
- If no limits are given, those from the provider's headers apply (`Backend.rate_limits`); without either, there are
  none.
- A refusal (429) pauses every process for as long as the provider asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Any

import anyio

from mellea.core.backend import Backend
from mellea.core.entrance import entrance
from mellea.core.journal import Journal
from mellea.core.numbers import check_number
from mellea.core.results import RateLimitState

__all__ = ["LONGEST_HOLD", "CallJournal", "Pace", "RateLimits"]

_BURST_SECONDS = 0.5
"""How many seconds' worth of requests may be sent at once."""

_SHARE = 0.99
"""The share of the limit that is used, so that delays by clocks and networks don't cause a refusal."""

_SLICE_SECONDS = 0.1
"""How many seconds' worth of slots are taken from the journal at once."""

_MOST_SLOTS = 1000
"""How many slots are taken at once: some servers report a limit of billions where they have none."""

_STALE_SECONDS = 5.0
"""Slots older than this are dropped: they weren't used in time, and others may have been given the same ones."""

LONGEST_HOLD = 120.0
"""The maximum number of seconds for which one refusal holds requests back."""

CallJournal = Callable[[Callable[[Journal], Any]], Awaitable[Any]]


@entrance(
    "RateLimits",
    **dict.fromkeys(
        ("rpm", "requests_per_minute", "max_requests", "max_rpm"), "requests=… is the number of requests a minute"
    ),
    **dict.fromkeys(("tpm", "tokens_per_minute", "max_tokens", "max_tpm"), "tokens=… is the number of tokens a minute"),
    **dict.fromkeys(("rps", "requests_per_second"), "requests=… is the number of requests a minute, 60 times as many"),
    concurrency="map takes it: mellea.map(…, concurrency=…)",
)
@dataclass(frozen=True, slots=True)
class RateLimits:
    """The requests and tokens that a model may be sent per minute, by all processes that share a journal.

    Args:
        requests: requests per minute; by default, as in the provider's headers.
        tokens: input and output tokens per minute; by default, as in the provider's headers.

    Raises:
        UsageError: a limit is not a number above 0.
    """

    requests: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(f"{field.name}= of RateLimits", getattr(self, field.name), above=0, or_none=True)


@dataclass(slots=True)
class _Moments:
    """When the next request may start, in seconds of the monotonic clock."""

    requests_due: float = 0.0
    tokens_due: float = 0.0
    requests: float | None = None
    tokens: float | None = None
    held_until: float = 0.0

    def shift(self, seconds: float) -> None:
        """Move all times by so many seconds, to those of another clock."""
        self.requests_due += seconds
        self.tokens_due += seconds
        self.held_until += seconds

    def take(self, count: int, tokens: float, settled: float, now: float) -> list[float]:
        """Take slots, and return their times.

        Args:
            count: how many.
            tokens: how many tokens each of the requests is expected to take.
            settled: how many more tokens, or fewer, the previous requests took than expected.
            now: the time.
        """
        earliest = now - _BURST_SECONDS
        # If the last answers took more or less than expected, the next slot moves for every process, not only for this
        # one.
        if self.tokens is not None and settled:
            self.tokens_due += settled * 60.0 / (self.tokens * _SHARE)
        # A slot far in the past would allow a burst of everything unused since then, so at most half a second's worth
        # is allowed.
        self.requests_due, self.tokens_due = max(self.requests_due, earliest), max(self.tokens_due, earliest)
        found = []
        for _ in range(count):
            at = max(now, self.held_until)
            if self.requests is not None:
                at = max(at, self.requests_due)
                self.requests_due += 60.0 / (self.requests * _SHARE)
            if self.tokens is not None:
                at = max(at, self.tokens_due)
                self.tokens_due += tokens * 60.0 / (self.tokens * _SHARE)
            found.append(at)
        return found


class Pace:
    """The pace of requests to one model.

    Args:
        backend: the backend that they go to.
        limits: the limits that were given.
        call_journal: calls a function with the journal; `None` if there is none.
    """

    def __init__(self, backend: Backend, limits: RateLimits, call_journal: CallJournal | None) -> None:
        server = backend.server
        # Limits belong to a server: the same model name at two addresses has two separate limits.
        place = "" if server is None else f"{server[0]}:{server[1]}"
        self._name = f"{backend.name}/{backend.model_id}@{place}"
        self._backend = backend
        self._given = limits
        self._call_journal = call_journal
        self._moments = _Moments(requests=limits.requests, tokens=limits.tokens)
        self._taken: deque[float] = deque()
        self._turn = anyio.Lock()
        self._tokens = 0.0  # per request, averaged over the last ones
        self._answers = 0
        self._settled = 0.0
        self._seen: RateLimitState | None = None
        self._throttled = 0
        self._held = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether a limit is known."""
        return self._moments.requests is not None or self._moments.tokens is not None or self._held > time.monotonic()

    async def enter(self) -> float:
        """Wait until one more request may start; returns the tokens that it is expected to take."""
        # No lock and no journal on this path: most maps have no limit, and each row would pay for it.
        if not self.is_limited:
            return self._tokens
        async with self._turn:  # in the order of the rows
            expected = self._tokens
            at = await self._find_next_moment()
            # In short sleeps: a refusal that arrives in the meantime extends the pause.
            while (wait := max(at, self._held) - time.monotonic()) > 0:
                await anyio.sleep(min(wait, 1.0))
        return expected

    async def _find_next_moment(self) -> float:
        now = time.monotonic()
        while self._taken and now - self._taken[0] > _STALE_SECONDS:
            self._taken.popleft()
        if not self._taken:
            # Without a request limit, 600 a minute are assumed, which reserves one slot at a time; a token limit may
            # lower that.
            rate = (self._moments.requests or 600.0) / 60.0
            if self._moments.tokens is not None and self._tokens:
                rate = min(rate, self._moments.tokens / 60.0 / self._tokens)
            count = max(1, int(min(rate * _SLICE_SECONDS, _MOST_SLOTS)))
            settled, self._settled = self._settled, 0.0
            if self._call_journal is None:
                self._taken.extend(self._moments.take(count, self._tokens, settled, now))
            else:
                self._taken.extend(await self._call_journal(lambda journal: self._take_shared(journal, count, settled)))
        return self._taken.popleft()

    def _take_shared(self, journal: Journal, count: int, settled: float) -> list[float]:
        with journal.write() as connection:
            row = connection.execute(
                "SELECT requests_due, tokens_due, requests, tokens, held_until, at FROM paces WHERE name = ?",
                (self._name,),
            ).fetchone()
            # Processes have different monotonic clocks, so they share times of the wall clock.
            wall, now = time.time(), time.monotonic()
            shared = _Moments() if row is None else _Moments(*row[:5])
            written = wall if row is None else row[5] or 0.0
            shared.shift(now - max(wall, written))
            own = self._moments
            # Limits given here take precedence, then those that the provider has already reported to another process.
            shared.requests, shared.tokens = own.requests or shared.requests, own.tokens or shared.tokens
            shared.held_until = max(shared.held_until, self._held)
            found = shared.take(count, self._tokens, settled, now)
            self._held = max(self._held, shared.held_until)
            shared.shift(wall - now)
            connection.execute(
                "INSERT OR REPLACE INTO paces VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._name,
                    shared.requests_due,
                    shared.tokens_due,
                    shared.requests,
                    shared.tokens,
                    shared.held_until,
                    wall,
                ),
            )
        return found

    def settle(self, expected: float, tokens: int | None) -> None:
        """Correct the expectation by what a request actually took."""
        if tokens is None:
            return
        self._answers += 1
        # The mean of about the last 50 answers: it follows a map whose rows get longer, and a single row hardly changes
        # it.
        self._tokens += (tokens - self._tokens) / min(self._answers, 50)
        self._settled += tokens - expected

    def hold(self, seconds: float) -> None:
        """Hold all requests back for so many seconds."""
        self._held = max(self._held, time.monotonic() + min(seconds, LONGEST_HOLD))

    def look(self) -> int:
        """Read the limits in the last headers; returns how many requests have been refused since the last time."""
        state = self._backend.rate_limits
        # The same object as last time: no headers have arrived since.
        if state is None or state is self._seen:
            return 0
        self._seen = state
        moments, given = self._moments, self._given
        moments.requests = given.requests or state.requests or moments.requests
        moments.tokens = given.tokens or state.tokens or moments.tokens
        # The provider refills at its own rate; waiting for one request's worth is the least that can help.
        if state.remaining_requests == 0 and moments.requests:
            self.hold(60.0 / moments.requests)
        # `refusals` is a running count of the backend, which other maps may share.
        refused, self._throttled = state.refusals - self._throttled, state.refusals
        if refused > 0 and state.retry_after is not None:
            self.hold(state.retry_after)
        return max(refused, 0)
