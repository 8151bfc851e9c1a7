"""How much a map may spend, and how much it has spent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields

from mellea.core import prices
from mellea.core.backend import Backend
from mellea.core.entrance import entrance
from mellea.core.events import Usage
from mellea.core.numbers import check_number
from mellea.core.runtime.loop import Waiter, create_waiter
from mellea.errors import BudgetExceededError, ConfigurationError

__all__ = ["Budget", "Purse"]

_SAMPLE = 200
"""The number of recent rows whose mean is the expected cost of a row in flight."""


@entrance(
    "Budget",
    dollars="cost=… is in US dollars",
    usd="cost=… is in US dollars",
    max_cost="cost=… is in US dollars",
    max_tokens="tokens=… limits input and output tokens together",
    timeout="seconds=… limits the time",
)
@dataclass(frozen=True, slots=True)
class Budget:
    """How much one call of `map` may spend; there is no limit on anything that isn't given.

    No further row is started once the amount spent plus the expected cost of the rows in flight (the mean of the last
    rows) reaches the limit. The first row runs alone, since nothing is known before it. Rows that come from a journal
    cost nothing.

    Args:
        cost: US dollars, by the prices of `mellea.prices`.
        tokens: input and output tokens together.
        seconds: for how long rows are started.

    Raises:
        UsageError: a limit is not a number above 0.
    """

    cost: float | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            # A loop rather than one check per field, so that a field added later is checked automatically.
            check_number(f"{field.name}= of a Budget", getattr(self, field.name), above=0, or_none=True)

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in given.items() if value is not None)})"

    def check_prices(self, backends: Iterable[Backend]) -> None:
        """Reject a cost limit for a model without a price.

        Raises:
            ConfigurationError: names the model.
        """
        if self.cost is None:
            return
        for backend in backends:
            model = prices.write_model(backend.name, backend.model_id)
            if prices.find_price(backend.name, backend.model_id) is None:
                raise ConfigurationError(
                    f"Budget(cost={self.cost!r}) can't be enforced, since the price of {model!r} is unknown; set it "
                    f"with mellea.prices.set_prices({{{model!r}: mellea.prices.Price(input=…, output=…)}}), or limit "
                    "tokens="
                )


class Purse:
    """What a map has spent of its budget.

    Attributes:
        budget: how much it may spend.
        cost: US dollars so far, `None` if a part is unknown.
        tokens: input and output tokens so far.
        is_empty: whether a row has been refused.
    """

    def __init__(self, budget: Budget | None) -> None:
        self.budget = budget
        self.cost: float | None = 0.0
        self.tokens = 0
        self.is_empty = False
        self._began = time.monotonic()
        self._in_flight = 0
        self._last: deque[tuple[float, int]] = deque(maxlen=_SAMPLE)
        self._waiters: list[Waiter] = []
        self._backends: set[int] = set()

    @property
    def knows_nothing(self) -> bool:
        """Whether there is a budget but no row has shown yet what a row costs."""
        return self.budget is not None and not self._last

    @property
    def is_closed(self) -> bool:
        """Whether no row begins any more, as one was refused or the time is up."""
        seconds = None if self.budget is None else self.budget.seconds
        return self.is_empty or (seconds is not None and time.monotonic() - self._began >= seconds)

    async def enter(self, backend: Backend | None) -> bool:
        """Wait until it is clear whether one more row may start, and return the answer.

        Raises:
            ConfigurationError: there is a limit on the cost, and the model has no known price.
        """
        if self.budget is None:
            return True
        # Rows may use different models, so a price is looked up once, when a backend is first seen.
        if backend is not None and id(backend) not in self._backends:
            self.budget.check_prices([backend])
            self._backends.add(id(backend))
        while True:
            if (may := self._may_enter()) is not None:
                self._in_flight += may
                self.is_empty = self.is_empty or not may
                return may
            waiter = create_waiter()
            self._waiters.append(waiter)
            # A row that ends wakes this at once. The one-second wait is for `seconds`, which can run out while no row
            # ends.
            await waiter.wait(1.0)

    def _may_enter(self) -> bool | None:
        """Return whether one more row may start; `None` if that depends on the rows in flight."""
        budget = self.budget
        if budget is None:
            return True
        # Sticky: once a row has been refused, no more rows are started even if the mean falls again, so that the rows
        # that get done are the first ones.
        if self.is_closed:
            return False
        if budget.cost is None and budget.tokens is None:
            return True
        # Nothing is known about a row's cost yet, so the first row runs alone; otherwise many rows together could
        # exceed the limit.
        if not self._last and self._in_flight:
            return None
        count = max(len(self._last), 1)
        for limit, spent, place in ((budget.cost, self.cost, 0), (budget.tokens, self.tokens, 1)):
            if limit is None or spent is None:
                continue
            if spent >= limit:
                return False
            # The rows in flight could use up the rest. They may also take less, so this isn't a refusal: check again
            # when one has ended.
            if spent + self._in_flight * sum(each[place] for each in self._last) / count >= limit:
                return None
        return True

    def leave(self, usage: Usage | None, cost: float | None, *, has_asked: bool) -> None:
        """Add what a row cost.

        Args:
            usage: its tokens.
            cost: its US dollars.
            has_asked: whether it made a request at all.

        Raises:
            ConfigurationError: there is a limit on a value that isn't known.
        """
        tokens = None if usage is None else usage.total_tokens
        self.tokens += tokens or 0
        # If one part is unknown, so is the sum; counting it as 0 would let a map spend more than it was allowed.
        self.cost = None if self.cost is None or cost is None else self.cost + cost
        budget = self.budget
        if budget is None:
            return
        self._in_flight -= 1
        self._last.append((cost or 0.0, tokens or 0))
        # All are woken, since a cheap row can make room for several. Those that still don't fit wait again.
        for waiter in self._waiters:
            waiter.wake()
        self._waiters = []
        for name, limit, taken in (("cost", budget.cost, cost), ("tokens", budget.tokens, tokens)):
            # A row that made no request (its prompt failed) has no tokens, which says nothing about the provider.
            if limit is not None and taken is None and has_asked:
                raise ConfigurationError(
                    f"Budget({name}={limit!r}) can't be enforced: an answer's tokens, or their price, are unknown; "
                    "limit seconds= instead, or set the price with mellea.prices.set_prices(…)"
                )

    def make_exceeded_error(self, done: int, journal: str | None) -> BudgetExceededError:
        """Make the error that ends a map whose budget is used up."""
        spent = self._describe()
        way = f"; run it again with the same journal {journal!r} to continue" if journal is not None else ""
        return BudgetExceededError(
            f"the budget {self.budget!r} is used up: {spent} for {done:,} rows{way}",
            spent={"cost": self.cost, "tokens": self.tokens, "seconds": time.monotonic() - self._began},
            done=done,
        )

    def _describe(self) -> str:
        cost = "" if self.cost is None else f"${self.cost:.4f}, "
        return f"{cost}{self.tokens:,} tokens and {time.monotonic() - self._began:.0f} s"
