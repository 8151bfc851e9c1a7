"""Tools that run at the provider: a web search by Anthropic, and one by Vercel's AI Gateway, for whatever model.

Run it: uv run docs/examples/provider_tools.py

With ANTHROPIC_API_KEY or AI_GATEWAY_API_KEY in the environment the provider answers. Without a key, a server on this
computer sends what the provider would: streams in its format, event for event.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mellea
from mellea import events, system_message, user_message
from mellea.backends.ai_gateway.tools import perplexity_search
from mellea.backends.anthropic.tools import web_search

MESSAGES = [system_message("Be concise."), user_message("When is high tide in Bergen today?")]
FOUND = {"type": "web_search_result", "title": "Tide tables", "url": "https://tides.example/bergen", "page_age": None}
USAGE = {"input_tokens": 40, "output_tokens": 12}

ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4", "content": [], "usage": USAGE}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"query": "tide Bergen"}'},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [FOUND]},
    },
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "At 11:42 "}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "and at 23:58."}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    {"type": "message_stop"},
]

GATEWAY: list[dict[str, Any]] = [
    {"id": "gen_1", "model": "openai/gpt-5", "choices": [{"index": 0, "delta": {"content": "At 11:42 "}}]},
    {"id": "gen_1", "model": "openai/gpt-5", "choices": [{"index": 0, "delta": {"content": "and at 23:58."}}]},
    {
        "id": "gen_1",
        "model": "openai/gpt-5",
        "choices": [
            {
                "index": 0,
                "delta": {"provider_metadata": {"gateway": {"gatewayToolCalls": {"perplexity_search": 1}}}},
                "finish_reason": "stop",
            }
        ],
    },
]


class Recorded(BaseHTTPRequestHandler):
    """Answers each request with a stream in the provider's format."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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


def search(m: mellea.MelleaSession, tool: Any) -> None:
    with m.stream(MESSAGES, tools=[tool]) as stream:
        for event in stream.events():
            if isinstance(event, events.BuiltinToolEnd):
                print("the provider ran", event.tool_call.tool_name, dict(event.tool_call.tool_args))
            elif isinstance(event, events.BuiltinToolResult):
                print("and found", [page["title"] for page in event.result.result])
            elif isinstance(event, events.TextDelta):
                print(repr(event.chunk))


if __name__ == "__main__":
    with recorded("ANTHROPIC_API_KEY") as address:
        search(mellea.start_session("anthropic/claude-sonnet-4", **address), web_search(max_uses=3))
    # The gateway tells the model alone what was found.
    with recorded("AI_GATEWAY_API_KEY", "/v1") as address:
        search(mellea.start_session("ai_gateway/openai/gpt-5", **address), perplexity_search(max_results=5))
