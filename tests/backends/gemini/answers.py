"""Answers in Gemini's format, made up after its documentation."""

from __future__ import annotations

import json
from typing import Any

USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 8,
    "toolUsePromptTokenCount": 5,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 11,
    "totalTokenCount": 43,
}


def part_of(**part: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}


def text(value: str, **more: Any) -> dict[str, Any]:
    return part_of(text=value, **more)


def call(name: str | None = None, **call: Any) -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    return part_of(functionCall=named | call)


def end(reason: str = "STOP", **candidate: Any) -> dict[str, Any]:
    last = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": reason, "index": 0}
    return {"candidates": [last | candidate], "usageMetadata": USAGE}


def stream(*chunks: dict[str, Any], line: bytes = b"\r\n") -> bytes:
    """Frame chunks as Google does: each one names the response and the model."""
    named = [{**chunk, "responseId": "r-1", "modelVersion": "gemini-test-001"} for chunk in chunks]
    return b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + line * 2 for chunk in named)


def partial(path: str, value: str, *, more: bool = False) -> dict[str, Any]:
    continues = {"willContinue": True} if more else {}
    return call(partialArgs=[{"jsonPath": path, "stringValue": value, **continues}], willContinue=True)


HELLO = stream(text("Hé"), text("llo 🌍."), end())

THINKING = stream(
    text("First, ", thought=True),
    text("a plan.", thought=True, thoughtSignature="c2lnMQ=="),
    text("Here ", thoughtSignature="c2lnMg=="),
    text("it is."),
    text("", thoughtSignature="c2lnMw=="),
    end(),
)

CALLS = stream(
    call("look", args={"city": "Zürich", "days": 2}, id="a1"),
    part_of(functionCall={"name": "now"}, thoughtSignature="c2lnNA=="),
    call("note", args={}),
    end(),
)

STREAMED_CALL = stream(
    part_of(functionCall={"name": "cook", "willContinue": True}, thoughtSignature="c2lnNQ=="),
    partial("$.recipe.steps[0]", 'Boil "wa', more=True),
    partial("$.recipe.steps[0]", "ter\n"),
    partial("$.recipe.steps[1]", "Stir", more=True),
    partial("$.recipe.steps[1]", ""),
    call(partialArgs=[{"jsonPath": "$.recipe.serves", "numberValue": 4}], willContinue=True),
    call(partialArgs=[{"jsonPath": "$['is vegan']", "boolValue": False}], willContinue=True),
    call(partialArgs=[{"jsonPath": "$.note", "nullValue": "NULL_VALUE"}], willContinue=True),
    call(),
    call("serve", partialArgs=[{"jsonPath": "$.at", "stringValue": "noon"}]),
    end(),
)

SEARCH = stream(
    text("Sunny."),
    end(
        groundingMetadata={
            "webSearchQueries": ["weather"],
            "groundingChunks": [
                {"web": {"uri": "https://a.example", "title": "A"}},
                {"retrievedContext": {"text": "It shines.", "title": "notes"}},
                {"web": {"uri": "https://a.example", "title": "A"}},
            ],
        },
        citationMetadata={"citationSources": [{"startIndex": 0, "endIndex": 5, "uri": "https://b.example"}]},
    ),
)

SERVER_TOOLS = stream(
    part_of(executableCode={"language": "PYTHON", "code": "print(1)"}, thoughtSignature="c2lnNg=="),
    part_of(codeExecutionResult={"outcome": "OUTCOME_OK", "output": "1\n"}),
    part_of(toolCall={"id": "t1", "toolType": "URL_CONTEXT", "args": {"urls": ["https://c.example"]}}),
    part_of(toolResponse={"id": "t1", "toolType": "URL_CONTEXT", "response": {"pages": 1}}),
    text("Done."),
    end(),
)

PICTURE = stream(
    part_of(inlineData={"mimeType": "image/png", "data": "ZHJhZnQ="}, thought=True),
    part_of(inlineData={"mimeType": "image/png", "data": "cG5n"}, thoughtSignature="c2lnNw=="),
    part_of(fileData={"mimeType": "video/mp4", "fileUri": "https://d.example/v"}),
    end(),
)

ALL = {
    "hello": HELLO,
    "hello-lf": stream(text("Hé"), text("llo 🌍."), end(), line=b"\n"),
    "thinking": THINKING,
    "calls": CALLS,
    "streamed-call": STREAMED_CALL,
    "search": SEARCH,
    "server-tools": SERVER_TOOLS,
    "picture": PICTURE,
    "length": stream(text("One, two"), end("MAX_TOKENS")),
    "blocked-answer": stream(text("Well"), end("SAFETY")),
}
