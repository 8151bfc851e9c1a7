"""Names of the chat completions format, as OpenAI documents it, and of services that extend it."""

from __future__ import annotations

from typing import Any

from mellea.core.events import FinishReason

__all__ = ["FINISH_REASONS", "NO_REASONS", "REASONING_FIELDS", "Json", "JsonObject"]

Json = Any
JsonObject = dict[str, Any]

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    # Other services' names for the same.
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",  # Mistral: the context window is full
    "sensitive": "content_filter",  # Z.ai
    "error": "error",
    "network_error": "error",  # Z.ai
    "insufficient_system_resource": "error",  # DeepSeek
}

NO_REASONS = frozenset({"", "null", "none", "None"})
"""Values that some services send before there is a finish reason."""

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""Fields that may hold a delta's reasoning; the first one that isn't empty counts.

DeepSeek, Qwen, Moonshot, Z.ai, xAI and most local servers say the first; Groq, OpenRouter, Together, Cerebras and newer
vLLM the second; GitHub's Copilot the third; some proxies of Claude and Ollama the last.
"""
