"""Errors in OpenAI's format: a status, and an object with a message, a type, a parameter and a code.

Source: the errors that the package `openai` 3.57 makes of responses (2026-11).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mellea.errors import (
    BackendError,
    ConfigurationError,
    DeadlineError,
    MelleaError,
    OutputError,
    OverloadedError,
    RateLimitError,
    ToolLoopLimitError,
    UnsupportedError,
    UsageError,
)
from mellea.serve.response import Refusal

__all__ = ["ApiError", "refuse", "to_api_error"]


@dataclass
class ApiError(Exception):
    """The response to a failed request.

    Args:
        status: the HTTP status.
        message: what is wrong and what to do.
        type: OpenAI's type of error.
        param: the field of the request that is wrong.
        code: a machine-readable code.
        headers: additional headers of the response.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> dict[str, Any]:
        """The object that is sent."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


_ELSEWHERE = "see the server's log for the error"


def to_api_error(error: BaseException) -> ApiError:
    """Convert an error for a client: what is wrong with its request, but no details of anything else."""
    match error:
        case ApiError():
            return error
        # These errors of ours are about the client's own data, so it may see them.
        case UnsupportedError():
            return ApiError(400, str(error), code="unsupported")
        case UsageError():
            return ApiError(400, str(error))
        # The provider's message isn't passed on: it may name the account, or the model behind a program.
        case RateLimitError():
            return _retry_later(429, "the model's provider limits the rate of requests", "rate_limit_error", error)
        case OverloadedError():
            return _retry_later(503, "the model's provider is overloaded", "server_error", error)
        case DeadlineError():
            return ApiError(504, f"the model's provider took too long to answer; {_ELSEWHERE}", "server_error")
        case OutputError() | ToolLoopLimitError():
            said = f"the model's answer is not valid ({type(error).__name__}); {_ELSEWHERE}"
            # The official clients would retry such a request twice.
            return ApiError(500, said, "server_error", code="invalid_output", headers={"x-should-retry": "false"})
        case ConfigurationError():
            return ApiError(500, f"the server isn't configured for this; {_ELSEWHERE}", "server_error")
        case BackendError():
            return ApiError(502, f"the model's provider failed; {_ELSEWHERE}", "server_error")
        case _:
            kind = type(error).__name__ if isinstance(error, MelleaError) else "an error"
            return ApiError(500, f"the program failed with {kind}; {_ELSEWHERE}", "server_error")


def _retry_later(status: int, said: str, kind: str, error: BaseException) -> ApiError:
    seconds: float | None = getattr(error, "retry_after", None)
    # In milliseconds: OpenAI's clients prefer this header, and `retry-after` has no fractions.
    headers = {} if seconds is None else {"retry-after-ms": str(round(seconds * 1000))}
    return ApiError(status, f"{said}; try again later", kind, headers=headers)


def refuse(error: BaseException) -> Refusal:
    """Return the response to a request that failed before anything was written."""
    failure = to_api_error(error)
    return Refusal(failure.status, json.dumps(failure.body).encode(), headers=failure.headers)
