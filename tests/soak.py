"""How many examples a property test tries: some in every run, many more where `MELLEA_SOAK` says so."""

from __future__ import annotations

import os

__all__ = ["examples", "factor"]


def factor() -> int:
    """Return how many times more is tried than usual: the number in `MELLEA_SOAK`, 1 without it."""
    return max(1, int(os.environ.get("MELLEA_SOAK", "1")))


def examples(usual: int) -> int:
    """Return how many examples to try where so many are usual."""
    return usual * factor()
