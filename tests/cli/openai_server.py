"""A model behind a wire, for commands in processes of their own: it echoes, counts for ever, and notes who leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

__all__ = ["Model", "serving_model"]


@dataclass
class Model:
    """What was asked, and how many answers nobody wanted to hear to their end."""

    environment: dict[str, str] = field(default_factory=dict)
    requests: list[list[str]] = field(default_factory=list)
    left: int = 0


def _write_answer(said: list[str]) -> Iterator[str]:
    last = said[-1]
    if "count" in last:
        for number in count(1):
            yield f"{number} "
    elif "numbers" in last:
        yield "["
        for number in count(1):
            yield f"{number}, "
    elif "lines" in last:
        yield from (f"line {number}\n" for number in range(1, 4))
    else:
        yield f"You said {last!r}, "
        yield f"the {len(said)}. message."


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        if self.path != "/v1/chat/completions":
            self._refuse()
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = [_text(message["content"]) for message in body["messages"]]
        model = self.server.model
        model.requests.append(said)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for piece in _write_answer(said):
                self._send({"delta": {"content": piece}})
                # Not as fast as the socket takes it, or the terminal would scroll by whole pages.
                self.server.pause.wait(0.02)
            self._send({"delta": {}, "finish_reason": "stop"})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            model.left += 1

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self._refuse()
            return
        body = json.dumps({"object": "list", "data": [{"id": "echo"}, {"id": "other"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, choice: dict[str, Any]) -> None:
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "echo"}
        data = json.dumps({**event, "choices": [{"index": 0, **choice}]})
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        pass


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.pause = threading.Event()


@contextmanager
def serving_model() -> Iterator[Model]:
    """Give a model, and the environment in which `openai/echo` is it."""
    model = Model()
    server = _Server(model)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    model.environment |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "a-key", "MELLEA_MODEL": "openai/echo"}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield model
    finally:
        server.pause.set()
        server.shutdown()
        thread.join()
        server.server_close()
