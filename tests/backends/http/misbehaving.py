"""A server that misbehaves on purpose, and counts what is open: one thread, loopback, raw sockets."""

from __future__ import annotations

import atexit
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.ports import Port

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def text(piece: str) -> bytes:
    """One event of a tiny protocol: JSON with a text."""
    return b"data: " + json.dumps({"text": piece}, ensure_ascii=False).encode() + b"\n\n"


END = b'data: {"end": "stop"}\n\n'


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body


@dataclass
class Connection:
    """One connection at the server's side."""

    socket: socket.socket
    server: MisbehavingServer

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def reset(self) -> None:
        """Close the hard way: the client sees a reset."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def wait_for_close(self, seconds: float = 5.0) -> None:
        """Wait until the client has gone."""
        self.socket.settimeout(seconds)
        with suppress(OSError):
            while self.socket.recv(65536):
                pass


@dataclass
class MisbehavingServer:
    """Answers each request by the next of its behaviours; the last one goes on for ever."""

    behaviours: list[Callable[[Connection], None]]
    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    opened: int = 0
    is_open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def wait_until_idle(self, seconds: float = 30.0) -> int:
        """Return how many connections are left open by clients, at the latest after some seconds."""
        end = time.monotonic() + seconds
        while self.is_open and time.monotonic() < end:
            time.sleep(0.01)
        return self.is_open

    def handle(self, client: socket.socket) -> None:
        with self._lock:
            self.opened += 1
            self.is_open += 1
        try:
            client.settimeout(60)
            connection = Connection(client, self)
            while self._one(connection):
                pass
        except OSError:
            pass
        finally:
            client.close()
            with self._lock:
                self.is_open -= 1

    def _one(self, connection: Connection) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.socket.recv(65536)
            if not data or data[0] == 0x16:  # nothing more, or the greeting of TLS
                return False
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.socket.recv(65536)
        with self._lock:
            self.requests.append((first, headers, body))
            self.times.append(time.monotonic())
            behave = self.behaviours[min(len(self.requests), len(self.behaviours)) - 1]
        behave(connection)
        return True


@contextmanager
def misbehaving(*behaviours: Callable[[Connection], Any]) -> Iterator[MisbehavingServer]:
    server = MisbehavingServer(list(behaviours))
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]
    threads: list[threading.Thread] = []
    clients: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            clients.append(client)
            thread = threading.Thread(target=server.handle, args=(client,), daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(30)
        for client in clients:
            with suppress(OSError):  # it is closed already
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(30)


def unused_port() -> int:
    """Return a port that refuses connections until the tests end."""
    port = Port()
    atexit.register(port.release)
    return port.number
