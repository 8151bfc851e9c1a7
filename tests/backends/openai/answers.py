"""Small answers in both of OpenAI's formats, made by hand, for a checkout without the recordings."""

from __future__ import annotations

from typing import Any

from tests.backends.openai.bodies import call, chunk, response, sse

# -- chat completions -----------------------------------------------------------------------------------

COUNTS = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
USED = {"id": "c1", "model": "m1", "choices": [], "usage": COUNTS}

HELLO = sse(chunk(role="assistant", content=""), chunk(content="Hé"), chunk(content="llo 🌍."), chunk("stop"), USED)

CALLS = sse(
    chunk(role="assistant", content="One moment."),
    chunk(tool_calls=[call("", "look", "call_1", 0)]),
    chunk(tool_calls=[call('{"city": "Zü', index=0)]),
    chunk(tool_calls=[call("", "now", "call_2", 1)]),
    chunk(tool_calls=[call("{}", index=1), call('rich"}', index=0)]),
    chunk("tool_calls"),
    USED,
)

CHAT = {
    "hello": HELLO,
    "hello-crlf": HELLO.replace(b"\n", b"\r\n"),
    "comments": b": PROCESSING\n\n" + HELLO.replace(b"data: ", b": still here\n\ndata: ", 2),
    "calls": CALLS,
    "a-call-without-arguments": sse(chunk(tool_calls=[call("", "now", "call_1")]), chunk("tool_calls"), USED),
    "length": sse(chunk(content="One, two"), chunk("length"), USED),
    "refusal": sse(chunk(refusal="I can't "), chunk(refusal="do that."), chunk("stop"), USED),
    "usage-in-the-last-chunk": sse(chunk(content="Hi"), chunk("stop", usage=COUNTS), done=False),
    "error": sse(chunk(content="Hi"), {"error": {"message": "overheated", "type": "server_error"}}, done=False),
}

# -- responses ------------------------------------------------------------------------------------------

SPENT = {
    "input_tokens": 12,
    "output_tokens": 9,
    "total_tokens": 21,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 5},
}


def _part(text: str, *notes: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(notes)}


def _message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


def _delta(kind: str, delta: str, index: int, **more: Any) -> dict[str, Any]:
    named = {"type": f"response.{kind}.delta", "item_id": "i", "output_index": index, "delta": delta}
    return {"content_index": 0, **named, **more}


def _stream(*items: tuple[dict[str, Any], list[dict[str, Any]]], status: str = "completed", **fields: Any) -> bytes:
    """Frame a response of items, each with its deltas."""
    events: list[dict[str, Any]] = [{"type": "response.created", "response": response("in_progress")}]
    for index, (item, deltas) in enumerate(items):
        begun = {**item, "content": []} if item["type"] == "message" else {**item, "arguments": "", "summary": []}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        events += deltas
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    last = response(status, output=[item for item, _ in items], usage=SPENT, **fields)
    events.append({"type": f"response.{status}", "response": last})
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    named = [(event["type"], sse(event, done=False)) for event in numbered]
    return b"".join(f"event: {kind}\n".encode() + data for kind, data in named)


_NOTE = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5}
_CITED = {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": _NOTE}
_LOOK = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"city": "Zürich"}'}
_NOW = {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "now", "arguments": "{}"}
_THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Let me see."}]}
_SUMMARY = "reasoning_summary_text"

SAID = (_message(_part("Héllo 🌍.")), [_delta("output_text", "Hé", 0), _delta("output_text", "llo 🌍.", 0)])

RESPONSES = {
    "hello": _stream(SAID),
    "hello-crlf": _stream(SAID).replace(b"\n", b"\r\n"),
    "calls": _stream(
        (_LOOK, [_delta("function_call_arguments", piece, 0) for piece in ('{"city": "Zü', 'rich"}')]),
        (_NOW, [_delta("function_call_arguments", "{}", 1)]),
    ),
    "reasoning": _stream(
        (_THOUGHT, [_delta(_SUMMARY, piece, 0, summary_index=0) for piece in ("Let me ", "see.")]),
        (_message(_part("Four.")), [_delta("output_text", "Four.", 1)]),
    ),
    "citation": _stream((_message(_part("Hello", _NOTE)), [_delta("output_text", "Hello", 0), _CITED])),
    "length": _stream(
        (_message(_part("One, two")), [_delta("output_text", "One, two", 0)]),
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "error": sse(
        {"type": "response.created", "response": response("in_progress")},
        _delta("output_text", "Hi", 0),
        {"type": "error", "code": "server_error", "message": "overheated"},
        done=False,
    ),
}
