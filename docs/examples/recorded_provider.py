"""A server on this computer that answers as Anthropic and Vercel's AI Gateway do, for `provider_tools.py`."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FOUND = {"type": "web_search_result", "title": "Tide tables", "url": "https://tides.example/bergen", "page_age": None}
USAGE = {"input_tokens": 40, "output_tokens": 12}


def block(index: int, kind: str, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **content}}


def delta(index: int, kind: str, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **content}}


ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4", "content": [], "usage": USAGE}},
    block(0, "server_tool_use", id="srv_1", name="web_search", input={}),
    delta(0, "input_json_delta", partial_json='{"query": "tide Bergen"}'),
    {"type": "content_block_stop", "index": 0},
    block(1, "web_search_tool_result", tool_use_id="srv_1", content=[FOUND]),
    {"type": "content_block_stop", "index": 1},
    block(2, "text", text=""),
    delta(2, "text_delta", text="At 11:42 "),
    delta(2, "text_delta", text="and at 23:58."),
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    {"type": "message_stop"},
]
CALLS = {"provider_metadata": {"gateway": {"gatewayToolCalls": {"perplexity_search": 1}}}}
GATEWAY: list[dict[str, Any]] = [
    {"id": "gen_1", "model": "openai/gpt-5", "choices": [{"index": 0, "delta": {"content": "At 11:42 "}}]},
    {"id": "gen_1", "model": "openai/gpt-5", "choices": [{"index": 0, "delta": {"content": "and at 23:58."}}]},
    {"id": "gen_1", "model": "openai/gpt-5", "choices": [{"index": 0, "delta": CALLS, "finish_reason": "stop"}]},
]


class Recorded(BaseHTTPRequestHandler):
    """Answers each request with a stream in the provider's format."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with suppress(ConnectionError):  # the program, or the reader of what it prints, has left
            print(f"(sent: {asked['tools'][0]})")
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in ANTHROPIC if self.path.endswith("/messages") else GATEWAY:
                kind = f"event: {event['type']}\n" if "type" in event else ""
                self.wfile.write(f"{kind}data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def recorded(variable: str, path: str = "") -> Iterator[dict[str, str]]:
    """Give the arguments of a session with the provider, or with a server that takes its place."""
    if os.environ.get(variable):
        yield {}
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"base_url": f"http://127.0.0.1:{server.server_port}{path}", "api_key": "none"}
        server.shutdown()
