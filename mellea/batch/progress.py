"""The progress of a map: rows, rate, time left, cost and tokens, as a line in a terminal or an output of a notebook."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from mellea.batch.budget import Budget, Purse
from mellea.batch.row import Row
from mellea.core.displayed import Displayed
from mellea.core.progress import Drawer, find_place, format_time

if TYPE_CHECKING:
    from contextvars import Token

    from mellea.core.card import Card

__all__ = ["MapProgress", "MapState"]


@dataclass(frozen=True, slots=True)
class MapState(Displayed):
    """How far a map is.

    Attributes:
        name: the name of the function.
        state: `"not begun"`, `"running"`, or how it ended.
        total: how many rows there are, if known.
        done: how many rows are done, those from the journal included.
        cached: how many of them come from the journal.
        failed: how many of them failed.
        seconds: for how long it has been running.
        tokens: input and output tokens so far.
        cost: US dollars so far; `None` if a part is unknown.
        budget: what it may use.
    """

    name: str
    state: str = "not begun"
    total: int | None = None
    done: int = 0
    cached: int = 0
    failed: int = 0
    seconds: float = 0.0
    tokens: int = 0
    cost: float | None = 0.0
    budget: Budget | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state == "running"

    def __str__(self) -> str:
        return " · ".join(self._list_facts())

    def _card_(self) -> Card:
        from mellea.core.card import Bar, Card, Part, Prose  # lazy: only a frontend needs it

        parts: list[Part] = []
        if self.state == "not begun":
            parts.append(Prose("Its rows are requested as they are read: for row in …; async for row in … of an amap."))
        elif self.total:
            parts.append(Bar(min(self.done / self.total, 1.0)))
        return Card(self.name, self.state, self._list_facts(), parts)

    def _list_facts(self) -> list[str]:
        # A terminal cuts what doesn't fit into its line, so what matters most comes first.
        return [*self._list_rows(), *self._list_times(), *self._list_spendings()]

    def _list_rows(self) -> list[str]:
        facts = [f"{self.done:,}" + (f" of {self.total:,} rows" if self.total is not None else " rows")]
        facts += [f"{self.cached:,} from the journal"] if self.cached else []
        return facts + ([f"{self.failed:,} failed"] if self.failed else [])

    def _list_times(self) -> list[str]:
        if self.state == "not begun":
            return []
        # Rows from the journal arrive at once, and would make the estimate of the remaining time far too short.
        asked = self.done - self.cached
        rate = asked / self.seconds if self.seconds > 0 else 0.0
        facts = [f"{rate:,.1f} rows/s"] if asked else []
        if self.is_running and self.total is not None and rate > 0:
            facts.append(f"{format_time((self.total - self.done) / rate)} left")
        most = None if self.budget is None else self.budget.seconds
        if most is not None or not self.is_running or not asked:
            facts.append(format_time(self.seconds) + ("" if most is None else f" of {format_time(most)}"))
        return facts

    def _list_spendings(self) -> list[str]:
        budget = self.budget or Budget()
        facts = []
        if self.cost or (budget.cost is not None and self.cost is not None):
            facts.append(f"${self.cost:,.4f}" + ("" if budget.cost is None else f" of ${budget.cost:,g}"))
        if self.tokens or budget.tokens is not None:
            facts.append(f"{self.tokens:,}" + ("" if budget.tokens is None else f" of {budget.tokens:,}") + " tokens")
        return facts


class MapProgress:
    """Counts the rows of a map, and shows its progress.

    Attributes:
        purse: what the map spends; its runner sets it.
        done: see `MapState`.
        failed: see `MapState`.
        cached: see `MapState`.

    Args:
        name: the name of the function.
        total: how many rows there are, if known.
        is_shown: whether it is shown; by default on a terminal, on stderr, and in a notebook.
        stream: a terminal to use in place of stderr and of a notebook.
    """

    def __init__(
        self, name: str, total: int | None = None, is_shown: bool | None = None, stream: TextIO | None = None
    ) -> None:
        self._state = MapState(name, total=total)
        self.purse = Purse(None)
        self._is_shown, self._stream = is_shown, stream
        self._began = self._ended = 0.0
        self._drawer: Drawer | None = None
        self.done = self.failed = self.cached = 0

    def begin(self) -> Token[bool] | None:
        """Begin to show it, in the current cell; `leave` takes what is returned."""
        self._began = time.monotonic()
        self._state = replace(self._state, state="running")
        # Looked for here and not before: a map is often made in one cell and read in another.
        place = find_place(self._stream, is_wanted=self._is_shown)
        self._drawer = Drawer(place, self.look, is_kept=True)
        return self._drawer.start()

    @staticmethod
    def leave(token: Token[bool] | None) -> None:
        """Undo what `begin` has done to the current context, once everything has been started in it."""
        Drawer.leave(token)

    def note(self, rows: Sequence[Row[Any]]) -> None:
        """Count rows that are done."""
        self.done += len(rows)
        self.failed += sum(row.error is not None for row in rows)
        self.cached += sum(row.cached for row in rows)

    def look(self) -> MapState:
        """Return how far it is."""
        purse, now = self.purse, self._ended or time.monotonic()
        return replace(
            self._state,
            done=self.done,
            cached=self.cached,
            failed=self.failed,
            seconds=now - self._began if self._began else 0.0,
            tokens=purse.tokens,
            cost=purse.cost,
            budget=purse.budget,
        )

    def end(self, state: str) -> None:
        """Show how it has ended, and continue below it; a second call does nothing.

        Args:
            state: how.
        """
        if self._state.is_running:
            self._ended = time.monotonic()
            self._state = replace(self._state, state=state)
            if self._drawer is not None:
                self._drawer.stop()

    def drop(self) -> None:
        """Let it end by itself, since nobody reads the map any more; takes no lock, as a finaliser may call it."""
        if self._state.is_running:
            self._ended = time.monotonic()
            self._state = replace(self._state, state="stopped")
            if self._drawer is not None:
                self._drawer.stop_soon()
