"""Rate limits from response headers, parsed on demand."""

from __future__ import annotations

from collections.abc import Mapping

from mellea.core.results import RateLimitState
from mellea.core.values import quick_value

__all__ = ["LimitHeaders", "LimitNotes"]

_TOO_MANY = frozenset({429, 503, 529})


@quick_value
class LimitHeaders:
    """The names of a provider's headers; of several for one number the first that is present is used.

    The defaults are OpenAI's, which most services with its format send as well
    (https://platform.openai.com/docs/guides/rate-limits, 2026-11).
    """

    requests: tuple[str, ...] = ("x-ratelimit-limit-requests",)
    tokens: tuple[str, ...] = ("x-ratelimit-limit-tokens",)
    remaining_requests: tuple[str, ...] = ("x-ratelimit-remaining-requests",)
    remaining_tokens: tuple[str, ...] = ("x-ratelimit-remaining-tokens",)


class LimitNotes:
    """The headers of a backend's last response, and the number of rejected requests.

    Attributes:
        headers: of the last response; set by each one.
    """

    __slots__ = ("_names", "_refusals", "_retry_after", "_seen", "_state", "headers")

    def __init__(self, names: LimitHeaders) -> None:
        self._names = names
        self.headers: Mapping[str, str] | None = None
        self._seen: Mapping[str, str] | None = None  # the headers that the state was read from
        self._refusals = 0
        self._retry_after: float | None = None
        self._state: RateLimitState | None = None

    def note_refusal(self, status: int, retry_after: float | None) -> None:
        """Count a response that rejected the request because there were too many."""
        # A rejection for another reason (a wrong key) is no reason to slow down.
        if status in _TOO_MANY:
            self._refusals += 1
            self._retry_after, self._state = retry_after, None

    def read(self) -> RateLimitState | None:
        """Return the last response's limits; the same object until there is another response."""
        names, headers = self._names, self.headers
        if headers is None:
            return None
        # Parsed on demand: most programs never ask, and each response would pay.
        if self._state is None or self._seen is not headers:
            self._seen = headers
            self._state = RateLimitState(
                _read_number(headers, names.requests),
                _read_number(headers, names.tokens),
                _read_number(headers, names.remaining_requests),
                _read_number(headers, names.remaining_tokens),
                self._retry_after,
                self._refusals,
            )
        return self._state


def _read_number(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    for name in names:
        try:
            # Headers are untrusted; `float` also accepts `inf` and `nan`.
            number = float(headers.get(name) or "")
        except ValueError:
            continue
        if 0 <= number < float("inf"):
            return number
    return None
