"""Token counts of the chat completions format."""

from __future__ import annotations

from mellea.backends._transport.fields import known_int, known_mapping
from mellea.backends.openai.chat.wire import JsonObject
from mellea.core.events import Usage

__all__ = ["usage_of"]


def usage_of(usage: JsonObject) -> Usage:
    """Return the counts, the same ones whoever counted; one of an unknown shape is passed over."""
    prompt, written = known_mapping(usage, "prompt_tokens_details"), known_mapping(usage, "completion_tokens_details")
    given, output = known_int(usage, "prompt_tokens"), known_int(usage, "completion_tokens")
    total, reasoning = known_int(usage, "total_tokens"), known_int(written, "reasoning_tokens")
    if output is not None and given is not None and total is not None and total > given + output:
        # xAI counts the answer without its reasoning, but the total with it; so does Gemini under OpenAI's format,
        # which doesn't name the reasoning at all.
        output = total - given
    cached = known_int(prompt, "cached_tokens")
    if cached is None:
        cached = known_int(usage, "prompt_cache_hit_tokens")  # DeepSeek
    if cached is None:
        cached = known_int(usage, "cached_tokens")  # Moonshot
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=known_int(prompt, "cache_write_tokens"),
        reasoning_tokens=reasoning,
    )
