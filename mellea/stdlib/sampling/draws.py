"""Make attempts, several at the same time, and rank them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from mellea.core.runtime.tasks import run_together
from mellea.core.sampling import Attempt

__all__ = ["draw_together", "rank_attempt"]

IsEnough = Callable[[list[Attempt]], bool]


def rank_attempt(attempt: Attempt) -> tuple[bool, bool, int]:
    """Return a key to compare attempts by: passed, valid, and how many requirements are met."""
    has_value = attempt.is_complete and attempt.error is None
    return attempt.success, has_value, sum(bool(result) for _, result in attempt.validations) if has_value else 0


async def draw_together(
    draw: Callable[[], Awaitable[Attempt]], budget: int, at_once: int, is_enough: IsEnough
) -> list[Attempt]:
    """Make attempts until there are enough, and return those that ended, ordered by number.

    Args:
        draw: makes one attempt.
        budget: the most attempts.
        at_once: how many attempts run at the same time.
        is_enough: takes the attempts in the order in which they ended; if it returns true, the running ones are
            cancelled.

    Raises:
        MelleaError: the first error of an attempt; the other attempts are cancelled.
    """
    ended: list[Attempt] = []
    left = budget

    async def work() -> None:
        nonlocal left
        while left > 0:
            # Decremented before the await: the workers share the budget, and another may draw while this one waits.
            left -= 1
            ended.append(await draw())
            # Checked by the worker that has finished, so no attempt is launched after the one that was sufficient.
            if is_enough(ended):
                scope.cancel()
                return

    with anyio.CancelScope() as scope:
        await run_together([work] * min(at_once, budget))
    # Callers choose by position, which must not depend on which attempt happened to be quicker.
    return sorted(ended, key=lambda attempt: attempt.number)
