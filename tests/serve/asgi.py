"""A client of ASGI applications, in this process: it reads what is sent, may leave, and may be slow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

__all__ = ["Answer", "ask"]


@dataclass
class Answer:
    """What an application has sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    is_complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def data(self) -> list[Any]:
        """The JSON of each server-sent event; the end mark is a text."""
        frames = [frame for frame in self.body.decode().split("\n\n") if frame.startswith("data: ")]
        texts = [frame.removeprefix("data: ") for frame in frames]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


async def ask(
    app: Any,
    *,
    leave_after: int | None = None,
    leave: anyio.Event | None = None,
    on_piece: Callable[[bytes], Any] | None = None,
    method: str = "GET",
    path: str = "/",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    query: str = "",
    fail_at: int | None = None,
) -> Answer:
    """Make one request, and return the answer.

    Args:
        app: the application.
        leave_after: how many pieces of the body to read before leaving.
        leave: when to leave.
        on_piece: called, and awaited, with each piece.
        fail_at: the number of the piece that can't be sent, as where a server raises an error for a client that left.
    """
    answer, left, requested = Answer(), leave or anyio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal requested
        if not requested:
            requested = True
            return {"type": "http.request", "body": body, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert not answer.status, "two answers"
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert answer.status and not answer.is_complete
        if fail_at is not None and len(answer.pieces) >= fail_at:
            raise OSError("gone")
        answer.pieces.append(message.get("body", b""))
        answer.is_complete = not message.get("more_body", False)
        if on_piece is not None and (waits := on_piece(answer.pieces[-1])) is not None:
            await waits
        if leave_after is not None and len(answer.pieces) >= leave_after:
            left.set()

    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return answer
