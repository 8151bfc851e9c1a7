"""The model of the kills: a loopback server in the form of chat completions that follows a script, and counts.

`POST /<seed>/<run>/v1/chat/completions` is answered with the step of the script that comes next in the conversation:
that of the run, or that of the sub-agent whose task is the id of the call. A conversation whose calls haven't one
result each, in order, is refused. `GET /count/<run>` tells how often a run has asked, its sub-agents included: it is
answered once the connections of processes that were killed have been read to their ends.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

ANSWER = "All of it is done."

Call = tuple[str, str, int]
"""Id of a call, name of its tool, and how many milliseconds it takes."""


TASK = "Do it all."
"""What the run is asked; a sub-agent is asked the id of the call."""


def script(seed: int, task: str = TASK) -> list[list[Call]]:
    """Return the calls of each step; the answer after the last one has none."""
    is_whole = task == TASK
    chance = random.Random(seed if is_whole else f"{seed} {task}")
    kinds = ["work", "work", "work", "buy", "fetch", *(["team", "team"] if is_whole else [])]
    steps = []
    for step in range(1, chance.randint(2, 4) + 1 if is_whole else chance.randint(1, 2) + 1):
        tools = [chance.choice(kinds) for _ in range(chance.randint(1, 3 if is_whole else 2))]
        prefix = "" if is_whole else f"{task}."
        steps.append([(f"{prefix}s{step}c{n}", tool, chance.choice([0, 3, 10, 25])) for n, tool in enumerate(tools)])
    return steps


def count_requests(seed: int) -> int:
    """Return how often the model is asked in a run without kills, by its sub-agents, too."""
    steps = script(seed)
    teams = [key for calls in steps for key, name, _ in calls if name == "team"]
    return len(steps) + 1 + sum(len(script(seed, key)) + 1 for key in teams)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.server.wait_for_others()  # type: ignore[attr-defined]
        self._send(200, "application/json", json.dumps(self.asked[self.path.split("/")[2]]).encode())

    def do_POST(self) -> None:
        _, seed, run, *_ = self.path.split("/")
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked[run] += 1
        steps = script(int(seed), body["messages"][0]["content"])
        number, fault = _place(body["messages"], steps)
        if fault:
            return self._send(400, "application/json", json.dumps({"error": {"message": fault}}).encode())
        time.sleep(0.002 * (int(seed) % 4))
        calls = steps[number] if number < len(steps) else []
        return self._send(200, "text/event-stream", b"".join(_events(calls, number)))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _place(messages: list[dict[str, Any]], steps: list[list[Call]]) -> tuple[int, str | None]:
    """Return the number of answers in a conversation, and what is wrong with it."""
    said = [message for message in messages if message["role"] in ("assistant", "tool")]
    wanted: list[str] = []
    number = 0
    for message in said:
        if message["role"] == "tool":
            if not wanted or message["tool_call_id"] != wanted.pop(0):
                return number, f"the result {message['tool_call_id']!r} stands where it doesn't belong"
            continue
        if wanted:
            return number, f"the call {wanted[0]!r} has no result"
        if number >= len(steps):
            return number, "there is an answer too many"
        wanted = [call["id"] for call in message["tool_calls"]]
        if wanted != [call[0] for call in steps[number]]:
            return number, f"step {number + 1} has other calls: {wanted}"
        number += 1
    return number, f"the call {wanted[0]!r} has no result" if wanted else None


def _events(calls: list[Call], number: int) -> Iterator[bytes]:
    head = {"id": f"a{number}", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    text = f"Step {number + 1}." if calls else ANSWER
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": text}]
    for index, (key, name, milliseconds) in enumerate(calls):
        arguments = {"task": key} if name == "team" else {"key": key, "milliseconds": milliseconds}
        function = {"name": name, "arguments": json.dumps(arguments)}
        deltas.append({"tool_calls": [{"index": index, "id": key, "type": "function", "function": function}]})
    for delta in deltas:
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    reason = "tool_calls" if calls else "stop"
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    yield b"data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open = 0
        self._changed = threading.Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection, in the order in which they come, and have it served by a thread."""
        with self._changed:
            self._open += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def wait_for_others(self) -> None:
        """Wait until the connection that asks is the only one."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._open <= 1, timeout=30), "a connection stays open"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serve() -> Iterator[str]:
    """Run the server in a process of its own, and give its address."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main() -> None:
    server = _Server(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
