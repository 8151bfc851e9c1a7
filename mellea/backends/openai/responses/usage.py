"""Token counts of the Responses format."""

from __future__ import annotations

from mellea.backends._transport.fields import known_int, known_mapping
from mellea.backends.openai.responses.wire import JsonObject
from mellea.core.events import Usage

__all__ = ["usage_of"]


def usage_of(usage: JsonObject) -> Usage:
    """Return the counts; one of an unknown shape is passed over."""
    given, written = known_mapping(usage, "input_tokens_details"), known_mapping(usage, "output_tokens_details")
    return Usage(
        input_tokens=known_int(usage, "input_tokens"),
        output_tokens=known_int(usage, "output_tokens"),
        cached_tokens=known_int(given, "cached_tokens"),
        cache_write_tokens=known_int(given, "cache_write_tokens"),
        reasoning_tokens=known_int(written, "reasoning_tokens"),
    )
