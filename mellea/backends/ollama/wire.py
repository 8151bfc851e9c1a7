"""Names of Ollama's `/api/chat` (as documented in 2026-11, server 0.40)."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from mellea.core.events import FinishReason

__all__ = [
    "DEFAULT_PORT",
    "FINISH_REASONS",
    "HOST_VARIABLE",
    "OPTIONS",
    "PROVIDER",
    "Json",
    "JsonObject",
]

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

PROVIDER: Final = "ollama"
HOST_VARIABLE: Final = "OLLAMA_HOST"
DEFAULT_PORT: Final = 11434

OPTIONS: Final = {
    "temperature": "temperature",
    "max_tokens": "num_predict",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repeat_penalty": "repeat_penalty",
    "context_window": "num_ctx",
}
"""The options that reach the model as they are, and what Ollama's `options` call them."""

FINISH_REASONS: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}
"""Everything else is `"other"`, such as a model that was only loaded."""
