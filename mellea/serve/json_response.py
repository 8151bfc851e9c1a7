"""A whole answer: a JSON value, a text or a page, with its headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mellea.core.surrogates import replace_surrogates
from mellea.serve.response import Receive, Scope, Send

__all__ = ["JsonResponse", "WholeResponse"]


class WholeResponse:
    """An ASGI application that answers with bytes.

    Args:
        body: the bytes.
        media_type: their content type.
        status: the HTTP status.
        headers: more headers.
    """

    def __init__(
        self, body: bytes, media_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.body = body
        self._headers = {
            "content-type": media_type,
            "content-length": str(len(body)),
            "x-content-type-options": "nosniff",
            **(headers or {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        body = b"" if scope.get("method") == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body, "more_body": False})


class JsonResponse(WholeResponse):
    """An ASGI application that answers with a JSON value.

    Args:
        value: the value.
        status: the HTTP status.
        headers: more headers.
    """

    def __init__(self, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = replace_surrogates(text).encode()
        super().__init__(body, "application/json", status=status, headers=headers)
