"""The providers that come with mellea, as data: where each one's class is, so that it is imported when it is used.

A provider's other names, its requirements and its capabilities are declared in its class. A provider of another
package is found through that package's entry points, in the group `mellea.backends`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DEFAULT_MODEL", "FILE_SUFFIXES", "PROVIDERS", "SERVICE_HOSTS"]

PROVIDERS: Mapping[str, str] = {
    "anthropic": "mellea.backends.anthropic:AnthropicBackend",
    "gemini": "mellea.backends.gemini:GeminiBackend",
    "llama_cpp": "mellea.backends.llama_cpp:LlamaCppBackend",
    "ollama": "mellea.backends.ollama:OllamaModelBackend",
    "openai": "mellea.backends.openai:OpenAIBackend",
}
"""The provider's name, and `module:class` of its backend."""

SERVICE_HOSTS = ("openai",)
"""Providers whose classes reach other services by name, too (`Backend.services`)."""

DEFAULT_MODEL = "llama_cpp/smollm2-135m"
"""The embedded model, which needs no key, no server and no network."""

FILE_SUFFIXES: Mapping[str, str] = {".gguf": "llama_cpp"}
"""How the path of a model's file ends, and which provider opens such files."""
