"""What counts as a number, wherever one is taken as a limit."""

from __future__ import annotations

from typing import Any

import pytest

from mellea.batch import Budget, RateLimits
from mellea.core.numbers import is_number
from mellea.core.options import Deadlines
from mellea.errors import UsageError
from mellea.prices import Price
from mellea.tools import Limits, tool

LIMITS: list[Any] = [
    lambda value: Budget(cost=value),
    lambda value: RateLimits(requests=value),
    lambda value: Limits(seconds=value),
    lambda value: Price(input=value, output=1),
    lambda value: Deadlines(total=value),
    lambda value: tool(timeout=value)(lambda: None),
]


@pytest.mark.parametrize("make", LIMITS)
@pytest.mark.parametrize("value", [True, "1", float("inf"), float("nan"), -1, 10**400, 1j], ids=lambda v: f"{v!r:.9}")
def test_what_is_no_number_is_no_limit(make: Any, value: Any) -> None:
    with pytest.raises(UsageError):
        make(value)


def test_the_limits_are_part_of_the_range() -> None:
    assert is_number(0, 0) and is_number(2, 0, 2) and not is_number(3, 0, 2) and not is_number(-1e-9, 0)
