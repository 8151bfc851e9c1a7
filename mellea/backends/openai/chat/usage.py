"""Token counts of the chat completions format."""

from __future__ import annotations

from mellea.backends.openai.chat.wire import JsonObject
from mellea.backends.openai.fields import int_of, mapping_of
from mellea.core.events import Usage

__all__ = ["usage_of"]


def usage_of(usage: JsonObject) -> Usage:
    """Return the counts, the same ones whoever counted."""
    prompt, written = mapping_of(usage, "prompt_tokens_details"), mapping_of(usage, "completion_tokens_details")
    given, output = int_of(usage, "prompt_tokens"), int_of(usage, "completion_tokens")
    total, reasoning = int_of(usage, "total_tokens"), int_of(written, "reasoning_tokens")
    if output is not None and reasoning and total == (given or 0) + output + reasoning:
        output += reasoning  # xAI counts the answer without its reasoning, but the total with it
    cached = int_of(prompt, "cached_tokens")
    if cached is None:
        cached = int_of(usage, "prompt_cache_hit_tokens")  # DeepSeek
    if cached is None:
        cached = int_of(usage, "cached_tokens")  # Moonshot
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=int_of(prompt, "cache_write_tokens"),
        reasoning_tokens=reasoning,
    )
