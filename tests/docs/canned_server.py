"""A server on loopback with OpenAI's chat completions and Responses, whose answers are canned.

A request with a schema gets the smallest value of it, one with tools and no result of one yet a call of the first, any
other one a sentence.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SENTENCE = "The sea is blue."


class CannedServer:
    """The server; `environment` leads official clients to it."""

    def __init__(self, port: int) -> None:
        self.environment = {"OPENAI_API_KEY": "a-key", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield cls(server.server_port)
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = _respond if self.path.endswith("/responses") else _complete
        if self.path.endswith("/embeddings"):
            answer = _embed
        events = answer(asked)
        is_stream = bool(asked.get("stream"))
        body = _as_stream(events, is_done=answer is _complete) if is_stream else json.dumps(events[-1])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _as_stream(events: list[dict[str, Any]], *, is_done: bool) -> str:
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" if "type" in event else
             f"data: {json.dumps(event)}\n\n" for event in (events[:-1] if is_done else events)]  # fmt: skip
    return "".join(lines) + ("data: [DONE]\n\n" if is_done else "")


def _complete(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks of a chat completion, and the whole of it last."""
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    tools = [tool["function"] for tool in asked.get("tools") or ()]
    text, call = _decide(schema, tools, is_answered=asked["messages"][-1]["role"] == "tool")
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if call is not None:
        function = {"name": call["name"], "arguments": json.dumps(make_value(call["parameters"]))}
        message = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    reason = "stop" if call is None else "tool_calls"
    rest = {"id": "x", "created": 1, "model": asked["model"]}
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    delta = {**message, "tool_calls": [{**each, "index": 0} for each in message.get("tool_calls", ())]}
    pieces = [
        {**rest, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": each}]} for each in (delta, {})
    ]
    pieces[-1]["choices"][0]["finish_reason"] = reason
    whole = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    return [*pieces, {**pieces[0], "choices": [], "usage": usage}, {**rest, **whole, "usage": usage}]


def _respond(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a response; without streaming, the response itself last."""
    schema = ((asked.get("text") or {}).get("format") or {}).get("schema")
    items = asked["input"] if isinstance(asked["input"], list) else []
    text, call = _decide(schema, asked.get("tools") or [], is_answered=bool(items) and "output" in items[-1])
    if call is None:
        part = {"type": "output_text", "text": text, "annotations": []}
        item: dict[str, Any] = {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    else:
        given = json.dumps(make_value(call["parameters"]))
        item = {"type": "function_call", "id": "f", "call_id": "c", "name": call["name"], "arguments": given}
        item["status"] = "completed"
    usage = {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    whole = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "model": asked["model"]}
    whole |= {"output": [item], "usage": usage, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    if not asked.get("stream"):
        return [whole]
    place = {"output_index": 0, "item_id": "m"}
    started = {**item, "content": []} if call is None else item
    events = [{"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}}]
    events.append({"type": "response.output_item.added", **place, "item": started})
    if call is None:
        where = {**place, "content_index": 0}
        events.append({"type": "response.content_part.added", **where, "part": {**item["content"][0], "text": ""}})
        events.append({"type": "response.output_text.delta", **where, "delta": text})
        events.append({"type": "response.output_text.done", **where, "text": text})
        events.append({"type": "response.content_part.done", **where, "part": item["content"][0]})
    events.append({"type": "response.output_item.done", **place, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _embed(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    data = [{"object": "embedding", "index": number, "embedding": [0.5, 0.5]} for number in range(len(texts))]
    return [{"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}]


def _decide(
    schema: Mapping[str, Any] | None, tools: list[Any], *, is_answered: bool
) -> tuple[str, Mapping[str, Any] | None]:
    """Return the text of the answer, or the tool that it calls."""
    if tools and not is_answered:
        return "", tools[0]
    return SENTENCE if schema is None else json.dumps(make_value(schema)), None


def make_value(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> Any:
    """Return a small value that a JSON Schema allows."""
    known = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return make_value(known[schema["$ref"].rpartition("/")[2]], known)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return make_value(schema[key][0], known)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "array":
        return [make_value(schema.get("items", {"type": "string"}), known) for _ in range(2)]
    if "properties" in schema:
        return {name: make_value(each, known) for name, each in schema["properties"].items()}
    return {"integer": 7, "number": 0.5, "boolean": True, "null": None, "object": {}}.get(schema.get("type", ""), "Ann")
