"""Reads the response to a call about a job: its JSON value, its bytes, or its headers, but never part of them."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from mellea.backends.http.exchange import Response
from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.words import shorten_page
from mellea.errors import InterruptedStreamError, WireError

__all__ = ["read_answer"]


async def read_answer(response: Response, call: JobCall, origin: str) -> Any:
    """Read a response, and return what the call requests.

    Args:
        response: closed by this.
        call: the call.
        origin: the server, as errors show it.

    Raises:
        InterruptedStreamError: the connection broke before the answer was complete.
        WireError: it is too large, or isn't JSON.
    """
    try:
        body, is_whole = await response.read(call.most_bytes)
    finally:
        await response.aclose()
    if call.wants == "headers":
        return response.headers
    if not is_whole and call.wants != "start":
        # At the limit we cut it, and would cut it again.
        if len(body) >= call.most_bytes:
            raise WireError(f"{origin} answered with more than {call.most_bytes:,} bytes")
        raise InterruptedStreamError(
            f"the connection to {origin} broke before the answer was complete", is_retryable=True
        )
    return body if call.wants != "json" else _parse(body, origin)


def _parse(body: bytes, origin: str) -> Any:
    try:
        return from_json(body)
    except ValueError:
        pass
    raise WireError(f"{origin} answered with something that is not JSON: {shorten_page(body)!r}")
