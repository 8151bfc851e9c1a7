"""Answers in Ollama's format, made up after its documentation."""

from __future__ import annotations

import json
from typing import Any

MOMENT = "2025-10-26T17:15:24.097767Z"

COUNTS = {"prompt_eval_count": 26, "eval_count": 8, "total_duration": 5043500667, "eval_duration": 325953000}


def message(content: str = "", **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **more}
    return {"model": "llama3.2", "created_at": MOMENT, "message": said, "done": False}


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"name": name, "arguments": arguments}}


def end(reason: str | None = "stop", content: str = "", **more: Any) -> dict[str, Any]:
    why = {} if reason is None else {"done_reason": reason}
    return message(content) | {"done": True} | why | COUNTS | more


def lines(*chunks: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(chunk, ensure_ascii=False).encode() + b"\n" for chunk in chunks)


HELLO = lines(message("Hé"), message("llo 🌍."), end())

THINKING = lines(message("", thinking="Let me "), message("", thinking="see."), message("Four."), end())

CALLS = lines(
    message("One moment."),
    message("", tool_calls=[call("look", {"city": "Zürich", "days": 2}), call("now", {})]),
    message("", tool_calls=[call("note", {"n": 1}, id="call_abc")]),
    end(),
)

ALL = {
    "hello": HELLO,
    "thinking": THINKING,
    "calls": CALLS,
    "length": lines(message("One, two"), end("length")),
    "text-in-the-last-line": lines(message("Yes"), end(content="!")),
    "old-server": lines(message("Yes"), end(None)),
    "line-ends": HELLO.replace(b"\n", b"\r\n\r\n"),
}
