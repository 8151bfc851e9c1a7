"""What a hook takes out of a request is in nothing that goes over the wire, whoever the provider is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import mellea
from mellea.core import CBlock, Message, Request, ThinkingBlock, ToolOutput
from mellea.core.messages import parse_tool_call
from mellea.errors import BadRequestError
from mellea.traces import Observer, observe
from tests.backends.test_every_wire import WIRES, Wire

pytestmark = pytest.mark.anyio

SECRET = "correct horse battery"


class Redact(Observer):
    def __init__(self) -> None:
        self.count = 0

    def before_request(self, request: Request) -> Request:
        self.count += 1
        said = [Message(each.role, each.text.replace(SECRET, "[redacted]")) for each in request.messages]
        return replace(request, messages=tuple(said))


class Handler(BaseHTTPRequestHandler):
    """Refuses everything, and keeps what came."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])) + self.path.encode())
        self.send_response(400)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    handler = type("Here", (Handler,), {"bodies": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler.bodies  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("wire", WIRES, ids=[wire.name for wire in WIRES])
async def test_a_redacted_word_isnt_sent(wire: Wire, server: tuple[str, list[bytes]]) -> None:
    url, bodies = server
    hook = Redact()
    m = mellea.start_session(wire.make(url), model_options={"system_prompt": f"Keep {SECRET}."})
    async with m:
        with observe(hook):
            with pytest.raises(BadRequestError):
                await m.ainstruct(f"the password is {SECRET}")
            with pytest.raises(BadRequestError):
                async for _ in m.astream([{"role": "user", "content": f"it is {SECRET}"}]):
                    pass
    assert hook.count == len(bodies) == 2
    assert not any(SECRET.encode() in body for body in bodies) and all(b"[redacted]" in body for body in bodies)


class RedactAll(Observer):
    def before_request(self, request: Request) -> Request:
        return request.change_texts(lambda text: text.replace(SECRET, "[redacted]"))


@pytest.mark.parametrize("wire", WIRES, ids=[wire.name for wire in WIRES])
async def test_a_word_in_arguments_and_results_of_tools_isnt_sent_either(
    wire: Wire, server: tuple[str, list[bytes]]
) -> None:
    url, bodies = server
    args = {"place": SECRET, "deep": [{"why": f"as {SECRET} is"}]}
    said = [
        Message("user", f"where is {SECRET}"),
        Message("assistant", [ThinkingBlock(SECRET), parse_tool_call("call-1", "look", json.dumps(args))]),
        Message("tool", ToolOutput("call-1", "look", {"found": [SECRET]})),
        Message("assistant", [CBlock("It is "), CBlock(SECRET)]),
        Message("user", ["and now? ", CBlock(f"not {SECRET}", cache=True)]),
    ]
    m = mellea.start_session(wire.make(url), model_options={"system_prompt": f"Keep {SECRET}."})
    async with m:
        with observe(RedactAll()), pytest.raises(BadRequestError):
            await m.achat(said)
    assert len(bodies) == 1 and SECRET.encode() not in bodies[0] and bodies[0].count(b"[redacted]") >= 6
