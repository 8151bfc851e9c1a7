"""A model that writes for ever over HTTP, and notes when each of its connections was closed by the other side."""

from __future__ import annotations

import json
import socket
import threading
import time

__all__ = ["ModelServer"]


class ModelServer:
    """Speaks just enough of the chat completions API."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.begun = 0
        self.closed_at: list[float] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                try:
                    piece = connection.recv(65536)
                except OSError:
                    return
                if not piece:
                    return
                data += piece
            self.begun += 1
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                for number in range(6000):
                    delta = {"choices": [{"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}]}
                    connection.sendall(f"data: {json.dumps(delta)}\n\n".encode())
                    time.sleep(0.02)
            except OSError:
                self.closed_at.append(time.monotonic())

    def wait_closed(self, seconds: float) -> bool:
        """Wait until a connection was closed; says whether it was in time."""
        end = time.monotonic() + seconds
        while not self.closed_at and time.monotonic() < end:
            time.sleep(0.01)
        return bool(self.closed_at)

    def close(self) -> None:
        self._listener.close()
