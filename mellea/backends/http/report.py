"""Converts failures that a server reports inside a response, under status 200 or in mid-stream, to typed errors.

The error's kind follows from the status that the report names or implies. Without one it is unknown whether the
same request may succeed later, so it isn't retried.
"""

from __future__ import annotations

import json
from typing import Any, Unpack

from mellea.backends.http.halves import parse_odd
from mellea.backends.http.status import is_retryable_status, make_status_error
from mellea.backends.http.words import WORDS, find_words, read_words
from mellea.errors import BackendError, ErrorFields

__all__ = ["find_status", "is_error_report", "is_hopeless", "is_used_up", "make_reported_error"]

_STATUS = {
    "api_error": 500,
    "authentication_error": 401,
    "bad_request": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "deadline_exceeded": 504,
    "engine_overloaded": 503,
    "failed_precondition": 400,
    "image_content_policy_violation": 400,
    "insufficient_quota": 429,
    "internal": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "invalid_api_key": 401,
    "invalid_argument": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found": 404,
    "not_found_error": 404,
    "overloaded": 503,
    "overloaded_error": 503,
    "permission_denied": 403,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "requests": 429,
    "resource_exhausted": 429,
    "server_error": 500,
    "service_unavailable": 503,
    "slow_down": 503,
    "timeout": 408,
    "timeout_error": 408,
    "tokens": 429,
    "tool_use_failed": 400,
    "unauthenticated": 401,
    "unavailable": 503,
}
"""The HTTP status that an error's code, type or status stands for."""

_HOPELESS = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes with a status that says "try again", where trying again doesn't help."""

_USED_UP = (
    "insufficient quota", "insufficient_quota", "insufficient balance", "insufficient credit", "insufficient funds",
    "credit balance is too low", "out of credit", "no credits", "no quota left", "exceeded your current quota",
    "quota is used up", "quota used up", "quota exhausted", "quota is exhausted", "quota has been exhausted",
    "exceeded your monthly", "check your plan and billing",
)  # fmt: skip

_BY_CHANCE = frozenset({"tool_use_failed"})
"""The model wrote what its provider refuses (Groq); it may do better the next time."""

_NO_ENDPOINT = "unexpected endpoint"
"""LM Studio answers with status 200 where its API isn't: "Unexpected endpoint or method. (POST /chat/completions)"."""

_FINE = frozenset({"", "0", "ok", "success", "succeeded", "200"})

_TELLING = frozenset(WORDS) - {"description", "details", "reason", "title"}
"""Fields that only occur in reports of failures; the others may be metadata of an answer."""

_NAMES = ("code", "type", "status", "error_code")


def make_reported_error(report: Any, **fields: Unpack[ErrorFields]) -> BackendError:
    """Create the typed error for a server's report: its message, its code, and whether to retry.

    Args:
        report: the object that the server sent, with or without an `error` around it, or a text.
        fields: of the error, such as `backend` and `partial`.
    """
    said = _find_inner(report)
    code = next((said[name] for name in ("code", "type", "error_code") if _is_word(said.get(name))), None)
    words = find_words(report) or _write_json(report)
    text = f"the provider reports an error in its answer: {words}"
    if code is not None and str(code) not in text:
        text = f"{text} ({find_words(str(code))})"
    if written := said.get("failed_generation"):
        text = f"{text}; the model wrote {str(written)[:200]!r}"
    status = find_status(report)
    if words.lower().startswith(_NO_ENDPOINT):
        status, text = 404, f"{text.rstrip('.')}; does base_url end with '/v1'?"
    # The code takes precedence over the status here: a used-up quota comes with 429, which says "try again".
    is_by_chance = any(said.get(name) in _BY_CHANCE for name in _NAMES if isinstance(said.get(name), str))
    if is_by_chance or is_hopeless(said):
        fields["is_retryable"] = is_by_chance
    elif status is None or not is_retryable_status(status):
        # Under status 200 there is no reason to retry, unless the report says so.
        fields.setdefault("is_retryable", said.get("retryable") is True or said.get("is_retryable") is True)
    return BackendError(text, **fields) if status is None else make_status_error(status, text, **fields)


def is_error_report(value: Any) -> bool:
    """Return whether an object that isn't part of an answer reports a failure."""
    if not isinstance(value, dict):
        return False
    if value.get("object") == "error" or value.get("type") == "error":
        return True
    # By identity: a number or a text under these names is metadata.
    if value.get("success") is False or value.get("ok") is False:
        return True
    base = value.get("base_resp")
    if isinstance(base, dict):
        # MiniMax and others: every response has the object, and 0 is success.
        return base.get("status_code") not in (None, 0)
    return any(_says(value[name]) for name in value if isinstance(name, str) and name.lower() in _TELLING)


def is_hopeless(error: Any) -> bool:
    """Return whether retrying can't help, whatever the status says."""
    return isinstance(error, dict) and any(
        isinstance(error.get(name), str) and error[name] in _HOPELESS for name in _NAMES
    )


def is_used_up(status: int, body: bytes) -> bool:
    """Return whether a rejection means that the paid quota is used up, which doesn't pass like a rate limit.

    Args:
        status: the HTTP status.
        body: the server's body. One with a retry delay means a rate limit, whatever its message.
    """
    if status not in (400, 402, 403, 429):
        return False
    try:
        said = _find_inner(parse_odd(body))
    except ValueError:
        said = {}
    if status == 402 or is_hopeless(said):
        return True
    # Google also says "quota exceeded" for a limit per minute, but then names the seconds to wait.
    return b"RetryInfo" not in body and any(words in read_words(body).lower() for words in _USED_UP)


def find_status(report: Any) -> int | None:
    """Return the HTTP status that a report names or implies, or `None`."""
    for said in (_find_inner(report), report):
        if not isinstance(said, dict):
            continue
        for name in ("status_code", "http_status", "status", "code", "http_code"):
            value = said.get(name)
            # Three digits: a longer number is the provider's own code.
            number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) == 3 else value
            if isinstance(number, int) and 400 <= number <= 599:
                return number
        names = (said.get(name) for name in _NAMES)
        known = (_STATUS.get(name.lower()) for name in names if isinstance(name, str))
        if (status := next((each for each in known if each is not None), None)) is not None:
            return status
    return None


def _find_inner(report: Any) -> dict[str, Any]:
    """Return the object that holds the code, which is usually in `error`."""
    # Google wraps the error of a stream in a list.
    while isinstance(report, list) and report:
        report = report[0]
    if not isinstance(report, dict):
        return {}
    inner = report.get("error") or report.get("base_resp")
    return inner if isinstance(inner, dict) else report


def _is_word(code: Any) -> bool:
    if isinstance(code, bool) or not isinstance(code, (int, str)):
        return False
    return str(code).lower() not in _FINE and code != "error"


def _says(value: Any) -> bool:
    return value is True or bool(find_words(value))


def _write_json(report: Any) -> str:
    try:
        return find_words(json.dumps(report, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return "an error without a message"
