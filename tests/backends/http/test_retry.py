"""Which failures are tried again, how often, and after which pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mellea.backends.http.exchange import LONGEST_PAUSE, Attempts, find_nap, parse_retry_after
from mellea.core.options import Deadlines
from mellea.errors import BackendError, BadRequestError, ConnectError, DeadlineError, OverloadedError

BUSY = OverloadedError("busy", is_retryable=True)


def test_pauses_grow_and_end() -> None:
    attempts = Attempts(3)
    pauses = [attempts.pause(BUSY) or 0.0 for _ in range(3)]
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0 <= pauses[2] <= 2.0
    assert attempts.pause(BUSY) is None


def test_pauses_are_bounded() -> None:
    attempts = Attempts(50)
    assert max(attempts.pause(BUSY) or 9.0 for _ in range(50)) <= 8.0


def test_pauses_differ() -> None:
    assert len({Attempts(1).pause(BUSY) for _ in range(20)}) > 1


@pytest.mark.parametrize("asked", [0.0, 2.0, LONGEST_PAUSE])
def test_a_provider_chooses_the_pause(asked: float) -> None:
    pause = Attempts(1).pause(BUSY, asked)
    assert pause is not None
    assert asked <= pause <= asked + 0.1


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (BUSY, LONGEST_PAUSE + 1),
        (BadRequestError("no"), None),
        (DeadlineError("slow", is_retryable=True), None),
    ],
)
def test_some_are_not_tried_again(error: BackendError, asked: float | None) -> None:
    assert Attempts(5).pause(error, asked) is None


def test_no_retries() -> None:
    assert Attempts(0).pause(ConnectError("no", is_retryable=True)) is None


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after": " 1.5 "}, 1.5, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25, 0.25),
    ],
)
def test_what_a_provider_asks_for(headers: dict[str, str], low: float, high: float) -> None:
    asked = parse_retry_after(headers)
    assert asked is not None
    assert low <= asked <= high


@pytest.mark.parametrize(("seconds", "low", "high"), [(100, 90, 101), (-100, 0, 0)])
def test_a_provider_names_a_date(seconds: float, low: float, high: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    asked = parse_retry_after({"retry-after": date})
    assert asked is not None
    assert low <= asked <= high


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "Fri, 99 Foo 2026 00:00:00 GMT"])
def test_what_makes_no_sense_is_left_out(value: str) -> None:
    assert parse_retry_after({"retry-after": value}) is None


def test_naps_end_before_the_run_gives_up() -> None:
    assert find_nap(Deadlines(first_byte=10)) == 5
    assert find_nap(Deadlines(first_byte=None)) == float("inf")
    assert find_nap(Deadlines(first_byte=0.001)) > 0
