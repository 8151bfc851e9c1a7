"""Names of Google's generateContent format, `v1beta` (as documented in 2026-11)."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from mellea.core.events import FinishReason

__all__ = [
    "BASE_URL",
    "CODE_EXECUTION",
    "EFFORTS",
    "FINISH_REASONS",
    "GOOGLE_SEARCH",
    "NO_SIGNATURE",
    "OPTIONS",
    "PROVIDER",
    "SIGNATURE",
    "SIGNATURE_OF_LAST",
    "Json",
    "JsonObject",
    "find_generation",
    "name_resource",
]

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

PROVIDER: Final = "gemini"
BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"

SIGNATURE: Final = f"{PROVIDER}:"
"""Prefix of signatures that go back to this provider only."""

SIGNATURE_OF_LAST: Final = f"{SIGNATURE}last:"
"""The same for the signature of a part that has no field for one in a message, such as a text or an image. It is kept
in an empty thinking block after that part. The signature itself is base64, which has no colon."""

NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""Signature of calls that Gemini didn't make: from generation 3 on it refuses unsigned calls, except for this word
("Thought signatures", FAQ)."""

CODE_EXECUTION: Final = "code_execution"
GOOGLE_SEARCH: Final = "google_search"

OPTIONS: Final = {
    "temperature": "temperature",
    "max_tokens": "maxOutputTokens",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "stop": "stopSequences",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
"""The options that reach the model as they are, and what `generationConfig` calls them."""

EFFORTS: Final = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
"""The levels of thinking, and tokens for the models that take a budget instead (before generation 3)."""

FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
}
"""Everything else is `"other"`."""

_GENERATION = re.compile(r"gemini-(\d+)")


def find_generation(model: str) -> int | None:
    """Return the generation in a model's name, such as 3 for `gemini-3-flash`; `None` if there is none."""
    found = _GENERATION.search(model)
    return int(found[1]) if found else None


def name_resource(model: str) -> str:
    """Return the name of a model in paths: `models/…`, unless it says `tunedModels/…` or similar itself."""
    return model if "/" in model else f"models/{model}"
