"""Converts an error status to a typed error with the provider's message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Unpack
from urllib.parse import urlsplit

from mellea.backends.http.words import read_words
from mellea.errors import (
    AuthError,
    BadRequestError,
    ErrorFields,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    StatusError,
)

__all__ = ["is_retryable_status", "make_message", "make_redirect_message", "make_status_error", "request_id"]

_KINDS: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    413: BadRequestError,
    422: BadRequestError,
    429: RateLimitError,
    # Anthropic's own status for an overload is 529; proxies answer 503.
    503: OverloadedError,
    529: OverloadedError,
}

_ADVICE = {
    403: "the key isn't allowed to do this",
    429: "slow down, or raise retries=",
}

_VERSION = re.compile(r"/v\d")

_USED_UP_ADVICE = "the quota is used up, so trying again won't help: check the plan and the billing of the account"

_REQUEST_ID = ("x-request-id", "request-id", "x-goog-request-id", "apim-request-id", "x-amzn-requestid", "cf-ray")


def is_retryable_status(status: int) -> bool:
    """Return whether the same request may succeed later."""
    # 408 and 409: the server timed out, or a lock was held; the request itself is valid.
    return status in (408, 409, 429) or status >= 500


def make_status_error(
    status: int, message: str, *, retry_after: float | None = None, **fields: Unpack[ErrorFields]
) -> StatusError:
    """Create the error for a status, or for a provider's error event in mid-stream that names or implies one.

    Args:
        status: the HTTP status, or the one that the provider's error type implies.
        message: the text to show.
        retry_after: seconds that the provider asks to wait; only a `RateLimitError` has it.
        fields: of the error, such as `request_id`.
    """
    kind = _KINDS.get(status, StatusError)
    fields.setdefault("is_retryable", is_retryable_status(status))
    if kind is RateLimitError:
        return RateLimitError(message, status=status, retry_after=retry_after, **fields)
    return kind(message, status=status, **fields)


def make_message(
    status: int,
    body: bytes,
    origin: str,
    *,
    endpoint: str = "",
    path: str = "",
    is_used_up: bool = False,
    key_advice: str = "check the key",
    long_pause: float | None = None,
) -> str:
    """Return the message for this status and body, in one line.

    Args:
        status: the HTTP status.
        body: the server's body.
        origin: the server.
        endpoint: the requested path, after the base URL.
        path: the whole path at that server.
        is_used_up: whether the paid quota is used up.
        key_advice: what to do if the key was rejected, or is missing.
        long_pause: seconds that it asks to wait, if that is too long to wait automatically.
    """
    # Only the body's message; a page of HTML would fill the terminal.
    said = read_words(body) or "it gives no reason"
    advice = _ADVICE.get(status, "")
    if is_used_up:
        advice = _USED_UP_ADVICE
    elif status == 401:
        advice = key_advice
    elif status in (404, 405):
        advice = _advise_on_address(said, origin, endpoint, path)
    elif status == 429 and long_pause is not None:
        advice = f"it asks to wait {long_pause:.0f} s, so the request wasn't retried"
    end = f"; {advice}" if advice else ""
    return f"{origin} answered with status {status}: {said.rstrip('.') if advice else said}{end}"


def _advise_on_address(said: str, origin: str, endpoint: str, path: str) -> str:
    # A server that speaks only a part of an API answers the same as one that lacks the model, in fewer words.
    if not endpoint or "model" in said.lower():
        return "check the model's name and base_url"
    base = path.removesuffix(endpoint).rstrip("/")
    # Of all that is wrong with an address this is the most frequent. Ollama's own API has no version.
    if path and not _VERSION.search(path) and not endpoint.startswith("api/"):
        return f"{path!r} has no version in it, and most servers have one: try base_url={f'{origin}{base}/v1'!r}"
    return f"check the model's name and base_url, and whether the server has {endpoint!r}"


def make_redirect_message(origin: str, location: str) -> str:
    """Return the message for a redirect that isn't followed."""
    try:
        parts = urlsplit(location)
        # User, password and query of the new URL may be secrets, too.
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
    except ValueError:
        place = location.partition("?")[0].rpartition("@")[2]
    return f"{origin} redirects to {place!r}; the key and the request aren't sent there unasked; check base_url"


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of a request."""
    # Cloudflare's comes last: it is a proxy of many providers, to whom its id means nothing.
    return next((value for name in _REQUEST_ID if (value := headers.get(name))), None)
