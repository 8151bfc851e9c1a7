"""When a request is tried again: before its first byte only, after a pause that the provider may choose."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime

from mellea.core.options import Deadlines
from mellea.errors import BackendError, DeadlineError

__all__ = ["LONGEST_PAUSE", "Attempts", "nap_of", "parse_retry_after"]

LONGEST_PAUSE = 60.0
"""Seconds; a provider that asks for more gets no further attempt, and its error is raised at once."""

_FIRST_PAUSE = 0.5
_LONGEST_OWN_PAUSE = 8.0
_SHORTEST_NAP = 0.01


class Attempts:
    """Counts the attempts of one request.

    Args:
        retries: how many may follow the first one.
    """

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._failed = 0

    def pause(self, error: BackendError, asked: float | None = None) -> float | None:
        """Return how many seconds to wait before the next attempt, `None` if there is none.

        Args:
            error: how the last one failed.
            asked: the pause that the provider asks for.
        """
        is_over = isinstance(error, DeadlineError) or not error.is_retryable
        if is_over or self._left <= 0 or (asked or 0.0) > LONGEST_PAUSE:
            return None
        own = min(_FIRST_PAUSE * 2.0**self._failed, _LONGEST_OWN_PAUSE)
        self._left -= 1
        self._failed += 1
        # Jitter keeps many clients from coming back at once; never earlier than the provider asks for.
        return own * random.uniform(0.5, 1.0) if asked is None else asked + own * random.uniform(0.0, 0.2)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a provider asks to wait, `None` if it says nothing that can be read.

    RFC 9110, section 10.2.3: `Retry-After` holds seconds or a date. OpenAI and Azure send milliseconds too.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    from email.utils import parsedate_to_datetime  # lazy: costs 30 ms, and dates are rare

    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000": it is UTC all the same
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def nap_of(deadlines: Deadlines) -> float:
    """Return how long a pause may last before a run wants a sign of life: well before it gives up."""
    return float("inf") if deadlines.first_byte is None else max(deadlines.first_byte / 2, _SHORTEST_NAP)
