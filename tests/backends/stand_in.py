"""A provider's server for tests: real HTTP on loopback, with answers that a function makes up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import until_here


@dataclass
class Answer:
    """What the server sends: pieces of a body, a short pause behind each."""

    pieces: Iterable[bytes]
    content_type: str = "application/json"
    status: int = 200
    pause: float = 0.0


@dataclass
class Asked:
    """What the server was sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Reply = Callable[[Asked], Answer]


@dataclass
class StandIn:
    """A running server.

    Attributes:
        url: its address.
        asked: the requests, oldest first.
        active: answers that are being sent.
    """

    url: str
    asked: list[Asked] = field(default_factory=list)
    active: int = 0

    def assert_idle(self) -> None:
        # Its own thread may still be writing the end of an answer that has been read.
        until_here(lambda: self.active == 0)


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer([json.dumps(value).encode()], status=status)


@contextmanager
def stand_in(reply: Reply) -> Iterator[StandIn]:
    """Serve the answers of `reply` for the length of a `with` block."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, json.loads(body) if body else None)
            with lock:
                running.asked.append(asked)
                running.active += 1
            try:
                self._send(reply(asked))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with lock:
                    running.active -= 1

        do_GET = do_POST = _serve

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in answer.pieces:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                time.sleep(answer.pause)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = StandIn(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
