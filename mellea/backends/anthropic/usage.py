"""The tokens that a message takes: counts come at its start, and again at its end as totals."""

from __future__ import annotations

from mellea.backends._transport.fields import known_int, known_mapping
from mellea.backends.anthropic.wire import JsonObject
from mellea.core.events import Usage

__all__ = ["TokenCounts"]

_NAMES = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "thinking_tokens",
)


class TokenCounts:
    """What is known so far; later counts take the place of earlier ones, and `null` says nothing."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def take(self, usage: JsonObject) -> Usage:
        """Take the provider's counts and return all that is known.

        The provider counts what came out of the cache, and what went into it, apart from the input.
        """
        counts = {**usage, **known_mapping(usage, "output_tokens_details")}
        self._counts |= {name: count for name in _NAMES if (count := known_int(counts, name)) is not None}
        known = self._counts.get
        cached, written = known("cache_read_input_tokens"), known("cache_creation_input_tokens")
        fresh = known("input_tokens")
        total = None if fresh is None else fresh + (cached or 0) + (written or 0)
        return Usage(total, known("output_tokens"), cached, written, known("thinking_tokens"))
