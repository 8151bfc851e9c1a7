"""A JSON value as a complete response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mellea.core.surrogates import replace_surrogates
from mellea.serve.response import FixedResponse

__all__ = ["respond_json"]


def respond_json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> FixedResponse:
    """Return a response with a JSON value.

    Args:
        value: the value.
        status: the HTTP status.
        headers: additional headers.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = replace_surrogates(text).encode()
    return FixedResponse(status, body, headers={"x-content-type-options": "nosniff", **(headers or {})})
