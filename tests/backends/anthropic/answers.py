"""Small answers in Anthropic's format, made by hand, for a checkout without the recordings."""

from __future__ import annotations

import json
from typing import Any

Event = dict[str, Any]

TOOL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND = [{"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "xyz"}]


def start(**message: Any) -> Event:
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": []}
    return {"type": "message_start", "message": {**whole, "usage": {"input_tokens": 7, "output_tokens": 1}, **message}}


def block(index: int, content: Event, *deltas: Event) -> list[Event]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *chunks: str) -> list[Event]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": chunk} for chunk in chunks))


def thinking(index: int, thought: str, signature: str) -> list[Event]:
    return block(
        index,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": thought},
        {"type": "signature_delta", "signature": signature},
    )


def call(index: int, content: Event, *chunks: str) -> list[Event]:
    return block(index, content, *({"type": "input_json_delta", "partial_json": chunk} for chunk in chunks))


def end(stop_reason: str = "end_turn", **usage: Any) -> list[Event]:
    return [
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": 9, **usage},
        },
        {"type": "message_stop"},
    ]


def framed(*events: Event, line_end: str = "\n") -> bytes:
    lines = [line for event in events for line in (f"event: {event['type']}", f"data: {json.dumps(event)}", "")]
    return (line_end.join(lines) + line_end).encode()


HELLO = framed(start(), *text(0, "Hel", "lo ", "wörld"), *end())

EVERYTHING = framed(
    start(usage={"input_tokens": 7, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3}),
    {"type": "ping"},
    *thinking(0, "Let me look.", "c2ln"),
    *block(1, {"type": "redacted_thinking", "data": "aGlkZGVu"}),
    *text(2, "I look it up. "),
    *call(3, SEARCH, '{"query": ', '"weather"}'),
    *block(4, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": FOUND}),
    *block(
        5,
        {"type": "text", "text": "", "citations": []},
        {
            "type": "citations_delta",
            "citation": {
                "type": "web_search_result_location",
                "url": "https://a.example",
                "title": "A",
                "cited_text": "sunny",
                "encrypted_index": "i",
            },
        },
        {"type": "text_delta", "text": "It is sunny."},
    ),
    *block(6, {"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "shorter"}),
    *block(7, {"type": "a_block_of_tomorrow"}),
    {"type": "an_event_of_tomorrow"},
    *call(8, TOOL, "", '{"city": ', '"Paris"}'),
    *call(9, {**TOOL, "id": "toolu_2", "name": "now"}, ""),
    *end("tool_use", input_tokens=9, output_tokens_details={"thinking_tokens": 4}),
)

INTERLEAVED = framed(
    start(),
    {"type": "content_block_start", "index": 0, "content_block": TOOL},
    {"type": "content_block_start", "index": 1, "content_block": {**TOOL, "id": "toolu_2"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"city": "A'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '"B"}'}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '"}'}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_stop", "index": 0},
    *end("tool_use"),
)
