"""How much the tests try: a part of it where a person waits, all of it in CI, many times more under `scripts/soak`.

`MELLEA_SOAK` is a number: how many times as much is tried as in CI. Without it, it is a fifth, and of tests that take
seconds of a processor only a part is run:

- `@pytest.mark.sample(n)`: of the cases of a test (its parameters, the event loops among them) a quick run tries n,
  spread over all of them. For tests whose cases are about one promise.
- `@pytest.mark.one_loop`: a quick run tries each case on one event loop, some on asyncio and some on trio.
- `@pytest.mark.thorough`: CI alone runs it; a quick run has a smaller test of the same promise.

A test that is named on the command line is run as in CI.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

__all__ = ["choose_loops", "examples", "factor", "is_thorough", "spread"]

T = TypeVar("T")

QUICK = 0.2
FEWEST = 10


def factor() -> float:
    """Return how many times as much is tried as in CI: the number in `MELLEA_SOAK`."""
    return float(os.environ.get("MELLEA_SOAK", QUICK))


def is_thorough() -> bool:
    """Whether all is tried that CI tries."""
    return factor() >= 1


def examples(usual: int, *, fewest: int = FEWEST) -> int:
    """Return how many examples to try where so many are usual in CI, ten at least."""
    return max(round(usual * factor()), min(usual, fewest))


def choose_loops(quick: str) -> tuple[str, ...]:
    """Return the event loops to run a contract on that takes seconds: both in CI, else the one that is named."""
    return ("asyncio", "trio") if is_thorough() else (quick,)


def spread(cases: Sequence[T], count: int, name: str) -> list[T]:
    """Return so many of the cases at equal distances, from another one on for each name, and always the same ones."""
    if count >= len(cases):
        return list(cases)
    first = crc32(name.encode())
    return [cases[(first + number * len(cases) // count) % len(cases)] for number in range(count)]
