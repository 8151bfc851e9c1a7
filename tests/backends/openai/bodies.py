"""Small bodies of our own, in the shape of what services send."""

from __future__ import annotations

import json
from typing import Any


def sse(*chunks: Any, done: bool = True) -> bytes:
    """Frame JSON values, or texts as they are, as a stream."""
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if done else [])]).encode()


def chunk(finish: str | None = None, *, index: int = 0, usage: Any = None, **delta: Any) -> dict[str, Any]:
    """Make one chunk of a chat completion."""
    made = {"id": "c1", "model": "m1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}
    return made if usage is None else {**made, "usage": usage}


def call(arguments: str = "", name: str | None = None, call_id: str | None = None, index: int | None = 0) -> Any:
    """Make one entry of a delta's `tool_calls`."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    entry = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in entry.items() if value is not None}


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """Make a response as its last event has it."""
    usage = {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}
    return {"id": "r1", "model": "m1", "status": status, "output": [], "usage": usage, **fields}


def item(index: int, **fields: Any) -> list[dict[str, Any]]:
    """Make the two events of an item that comes whole."""
    begun = {key: value for key, value in fields.items() if key in ("type", "id", "call_id", "name")}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": begun},
        {"type": "response.output_item.done", "output_index": index, "item": fields},
    ]
