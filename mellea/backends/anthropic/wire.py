"""Types and names of Anthropic's Messages format, version 2023-06-01 (as documented in 2026-11).

Version 2026-10-21 is the same without `temperature`, `top_p` and `top_k`; older models still take them, so
the older version is asked for.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from mellea.backends.http.rate_limits import LimitHeaders
from mellea.core.events import FinishReason

__all__ = [
    "API_VERSION",
    "BASE_URL",
    "BETAS",
    "CALLS",
    "CUT_OFF",
    "DOCUMENT_TYPES",
    "ERROR_STATUS",
    "FILES_URL",
    "FINISH_REASONS",
    "IMAGE_TYPES",
    "LIMIT_HEADERS",
    "MAX_CACHE_MARKS",
    "MCP_PREFIX",
    "PROVIDER",
    "SERVER_PREFIX",
    "SIGNATURE",
    "Json",
    "JsonObject",
    "as_text",
]

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

PROVIDER: Final = "anthropic"
API_VERSION: Final = "2023-06-01"
BASE_URL: Final = "https://api.anthropic.com"
FILES_URL: Final = f"{BASE_URL}/v1/files"

SIGNATURE: Final = f"{PROVIDER}:"
"""Prefix of signatures that go back to this provider only."""

SERVER_PREFIX: Final = "srvtoolu_"
MCP_PREFIX: Final = "mcptoolu_"
"""Prefix of the ids of calls that the provider runs itself."""

MAX_CACHE_MARKS: Final = 4

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
DOCUMENT_TYPES: Final = frozenset({"application/pdf"})

FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "refusal": "content_filter",
}
"""Everything else is `"other"`: a paused turn, for instance, which is continued by sending it back."""

CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""The kinds of blocks that call a tool; `tool_use` is for the user's tools, all others the provider runs."""

CUT_OFF: Final = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})
"""Stop reasons that may cut off a tool call."""

ERROR_STATUS: Final[dict[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status of each error type; in mid-stream there is only the type."""

BETAS: Final[dict[str, str]] = {
    "mcp_toolset": "mcp-client-2025-11-20",
    "advisor_20260301": "advisor-tool-2026-03-01",
    "computer_20250124": "computer-use-2025-01-24",
    "computer_20251124": "computer-use-2025-11-24",
}
"""The beta features that a tool's type needs. Search, fetch, code execution and tool search need none any more."""


def as_text(value: Json) -> str | None:
    """Return the value if it is a string."""
    return value if isinstance(value, str) else None


LIMIT_HEADERS: Final = LimitHeaders(
    requests=("anthropic-ratelimit-requests-limit",),
    tokens=("anthropic-ratelimit-tokens-limit",),
    remaining_requests=("anthropic-ratelimit-requests-remaining",),
    remaining_tokens=("anthropic-ratelimit-tokens-remaining",),
)
"""https://platform.claude.com/docs/en/api/rate-limits, 2026-11; tokens are those of the tightest limit."""
