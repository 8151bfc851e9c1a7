"""Interleaved pairs: the floor and ours measured in turns, so that both meet the same noise."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Setting:
    """How a figure is to be measured.

    Args:
        pairs: how many pairs.
        is_quick: with sizes that tell whether it works, not how fast it is.
        url: where the loopback server is.
    """

    pairs: int
    is_quick: bool
    url: str

    def size(self, full: int, quick: int) -> int:
        return quick if self.is_quick else full


@dataclass(frozen=True, slots=True)
class Samples:
    """What the pairs came to, in the figure's unit. A figure without a floor has none."""

    floor: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over the floor, pair by pair; ours itself where there is no floor."""
        if not self.floor:
            return self.ours
        return [ours / floor for floor, ours in zip(self.floor, self.ours, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    def times(self, factor: float) -> Samples:
        """Return the samples in another unit."""
        return Samples([value * factor for value in self.floor], [value * factor for value in self.ours])


class Skipped(Exception):
    """A figure that can't be measured here; the text says what is missing."""


Measure = Callable[[], float]


def interleave(floor: Measure, ours: Measure, pairs: int) -> Samples:
    """Measure in turns; a first pair only warms up, and every other pair begins with ours."""
    samples = Samples([], [])
    for number in range(pairs + 1):
        turns = [(floor, samples.floor), (ours, samples.ours)]
        for measure, into in turns[:: -1 if number % 2 else 1]:
            gc.collect()
            value = measure()
            if number:
                into.append(value)
    return samples


def on_loop(runner: asyncio.Runner, measure: Callable[[], object]) -> Measure:
    """Make a plain measurement of one that is a coroutine function."""
    return lambda: runner.run(measure())  # type: ignore[arg-type]
