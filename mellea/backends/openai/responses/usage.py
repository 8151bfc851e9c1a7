"""Token counts of the Responses format."""

from __future__ import annotations

from mellea.backends._transport.fields import int_of, mapping_of
from mellea.backends.openai.responses.wire import JsonObject
from mellea.core.events import Usage

__all__ = ["usage_of"]


def usage_of(usage: JsonObject) -> Usage:
    """Return the counts."""
    given, written = mapping_of(usage, "input_tokens_details"), mapping_of(usage, "output_tokens_details")
    return Usage(
        input_tokens=int_of(usage, "input_tokens"),
        output_tokens=int_of(usage, "output_tokens"),
        cached_tokens=int_of(given, "cached_tokens"),
        cache_write_tokens=int_of(given, "cache_write_tokens"),
        reasoning_tokens=int_of(written, "reasoning_tokens"),
    )
