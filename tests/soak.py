"""How much the tests try: a part of it where a person waits, all of it in CI, many times more under `scripts/soak`.

`MELLEA_SOAK` is a number: how many times as much is tried as in CI. Without it, it is a quarter.
"""

from __future__ import annotations

import os

__all__ = ["examples", "factor", "is_thorough"]

QUICK = 0.25
FEWEST = 10


def factor() -> float:
    """Return how many times as much is tried as in CI: the number in `MELLEA_SOAK`."""
    return float(os.environ.get("MELLEA_SOAK", QUICK))


def is_thorough() -> bool:
    """Whether all is tried that CI tries."""
    return factor() >= 1


def examples(usual: int) -> int:
    """Return how many examples to try where so many are usual in CI, ten at least."""
    return max(round(usual * factor()), min(usual, FEWEST))
