"""The tokens that an answer takes."""

from __future__ import annotations

from mellea.backends.gemini.wire import JsonObject
from mellea.backends.http.fields import known_int
from mellea.core.events import Usage

__all__ = ["read_usage"]


def read_usage(usage: JsonObject) -> Usage:
    """Return the counts of tokens; what a tool of the provider's found is part of the prompt."""

    def total(*names: str) -> int | None:
        counts = [count for name in names if (count := known_int(usage, name)) is not None]
        return sum(counts) if counts else None

    return Usage(
        input_tokens=total("promptTokenCount", "toolUsePromptTokenCount"),
        output_tokens=total("candidatesTokenCount", "thoughtsTokenCount"),
        cached_tokens=total("cachedContentTokenCount"),
        reasoning_tokens=total("thoughtsTokenCount"),
    )
