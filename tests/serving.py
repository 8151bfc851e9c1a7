"""Applications under uvicorn, on a loopback port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.waiting import until_here

__all__ = ["read_and_leave", "served"]


@contextlib.contextmanager
def served(app: Any, **settings: Any) -> Iterator[int]:
    """Serve an application in a thread, and give its port."""
    uvicorn = pytest.importorskip("uvicorn", reason="the group web isn't installed")
    listener = socket.create_server(("127.0.0.1", 0))
    settings = {"log_level": "error", "lifespan": "off", "timeout_graceful_shutdown": 5, **settings}
    config = uvicorn.Config(app, **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        until_here(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def read_and_leave(port: int, path: str, mark: bytes) -> None:
    """Ask for a path, read up to a mark in the answer, and close the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while mark not in got:
            piece = client.recv(4096)
            assert piece, f"the answer ended: {got!r}"
            got += piece
