"""From the error objects of OpenAI's formats, and of their many relatives, to typed errors.

Seen in the wild: `{"error": {"message", "type", "code", "param"}}` (OpenAI), with a `status_code` and what the
model had written (Groq), with an HTTP status as `code` (OpenRouter, llama.cpp), `{"error": "text"}`, and
`{"object": "error", "message", "code"}` (vLLM).
"""

from __future__ import annotations

from typing import Any

from mellea.backends._transport.status import error_for_status
from mellea.errors import BackendError

__all__ = ["error_of", "is_hopeless"]

_STATUS = {
    "authentication_error": 401,
    "bad_request": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "engine_overloaded": 503,
    "image_content_policy_violation": 400,
    "insufficient_quota": 429,
    "internal_error": 500,
    "internal_server_error": 500,
    "invalid_api_key": 401,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded": 503,
    "overloaded_error": 503,
    "permission_denied": 403,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "server_error": 500,
    "service_unavailable": 503,
    "slow_down": 503,
    "timeout": 408,
    "tokens": 429,
    "tool_use_failed": 400,
    "api_error": 500,
}
"""The HTTP status that an error's code or type stands for."""

_HOPELESS = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes with a status that says "try again", where trying again doesn't help."""

_BY_CHANCE = frozenset({"tool_use_failed"})
"""The model wrote what its provider refuses; it may do better the next time."""


def error_of(error: Any, **fields: Any) -> BackendError:
    """Make the typed error of an error object that came in a stream or in a body.

    Args:
        error: the object, or a text.
        fields: of the error, such as `backend` and `partial`.
    """
    said = error if isinstance(error, dict) else {"message": str(error)}
    code = said.get("code") or said.get("type")
    message = said.get("message") or said.get("detail") or code or "an error without a message"
    text = f"the provider reports an error in its answer: {message}"
    if isinstance(code, str) and code not in str(message):
        text = f"{text} ({code})"
    if written := said.get("failed_generation"):
        text = f"{text}; the model wrote {str(written)[:200]!r}"
    status = _status(said)
    if status is None:
        return BackendError(text, is_retryable=code in _BY_CHANCE, **fields)
    if code in _BY_CHANCE or is_hopeless(said):
        fields["is_retryable"] = code in _BY_CHANCE
    return error_for_status(status, text, **fields)


def is_hopeless(error: Any) -> bool:
    """Tell whether an error won't go away by trying again, whatever its status says."""
    return isinstance(error, dict) and any(error.get(name) in _HOPELESS for name in ("code", "type"))


def _status(error: dict[str, Any]) -> int | None:
    for name in ("status_code", "http_status", "status", "code"):
        value = error.get(name)
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    names = (error.get("code"), error.get("type"))
    return next((_STATUS[name] for name in names if isinstance(name, str) and name in _STATUS), None)
