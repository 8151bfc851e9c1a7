"""Numbers as arguments: what is valid, and what the error says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mellea.batch import Budget, RateLimits
from mellea.core.numbers import check_number, check_whole
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


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, float("nan"), 0, -1])
def test_what_is_not_a_whole_number_is_rejected_with_its_value(value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        check_whole("n", value)
    assert str(caught.value) == f"n takes a whole number from 1, not {value!r}"


def test_a_valid_whole_number_is_returned() -> None:
    assert check_whole("n", 1) == 1
    assert check_whole("n", 10**400) == 10**400
    assert check_whole("n", 0, 0) == 0
    assert check_whole("n", None, or_none=True) is None


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), -float("inf"), 10**400, 0, 1.1])
def test_what_is_not_a_finite_number_in_the_range_is_rejected_with_its_value(value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        check_number("at_least", value, above=0, most=1)
    assert str(caught.value) == f"at_least takes a number above 0 up to 1, not {value!r}"


@pytest.mark.parametrize("value", [0.5, 1, 1e-300])
def test_a_number_in_the_range_is_accepted(value: float) -> None:
    check_number("x", value, above=0, most=1)
    check_number("x", 0, least=0)
    check_number("x", None, least=0, or_none=True)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"least": 0}, "a number from 0"),
        ({"least": 0, "most": 1, "or_none": True}, "a number from 0 up to 1, or None"),
        ({"above": 0, "of": "seconds"}, "a number of seconds above 0"),
    ],
)
def test_the_error_says_which_numbers_are_valid(limits: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_number("x", "?", **limits)
    assert str(caught.value) == f"x takes {text}, not '?'"


def test_a_number_that_python_cant_write_is_rejected_like_any_other() -> None:
    huge = 10**5000
    checks: list[Callable[[], object]] = [
        lambda: check_number("x", huge),
        lambda: check_whole("x", -huge),
        lambda: Limits(steps=-huge),
        lambda: Budget(cost=huge),
    ]
    for check in checks:
        with pytest.raises(UsageError, match=r"not this int$"):
            check()
