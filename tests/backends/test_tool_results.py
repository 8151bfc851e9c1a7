"""Results of tools that hold images or other blocks, on every wire: shown as such, never as base64 in a text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.anthropic.encode import encode as anthropic
from mellea.backends.gemini.encode import encode as gemini
from mellea.backends.http.fields import encode_json
from mellea.backends.ollama.encode import encode as ollama
from mellea.backends.openai.chat.encode import encode as chat
from mellea.backends.openai.responses.encode import encode as responses
from mellea.core.backend import Request
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, user_message
from mellea.errors import UnsupportedError, UsageError
from mellea.stdlib.tools import serialise_result

PNG = ImageBlock(data=b"png-bytes-here")
DATA = PNG.base64()

WIRES: dict[str, Any] = {
    "anthropic": lambda request: anthropic(request, "claude-sonnet-4-5"),
    "gemini": lambda request: gemini(request, "gemini-3-flash-preview"),
    "ollama": lambda request: ollama(request, "qwen3-vl"),
    "chat": lambda request: chat(request, "gpt-4o"),
    "responses": lambda request: responses(request, "gpt-4o"),
}


def sent(wire: str, *results: Any) -> Any:
    calls = [ToolCall(f"c{number}", "look", {}, "{}") for number in range(len(results))]
    outputs = [Message("tool", ToolOutput(f"c{number}", "look", result)) for number, result in enumerate(results)]
    return WIRES[wire](Request((user_message("Hi"), Message("assistant", calls), *outputs)))


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_of(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "result", [PNG, [PNG], [CBlock("a cat"), PNG], ["a cat", PNG], ("a cat", PNG, {"legs": 4}), [PNG, 3]], ids=repr
)
def test_an_image_in_a_result_is_an_image(wire: str, result: Any) -> None:
    texts = texts_of(sent(wire, serialise_result(result)))
    holding = [text for text in texts if DATA in text]
    assert holding in ([DATA], [f"data:image/png;base64,{DATA}"])
    if "a cat" in str(result):
        assert any("a cat" in text for text in texts)
    if "legs" in str(result):
        assert any('"legs": 4' in text for text in texts)


def nest(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "result",
    ["a\ud83d", {"a\ud83d": ["\udcff"]}, ["a\ud83d", PNG], nest(200), -(2**63), 10**40],
    ids=lambda value: repr(value)[:20],
)
def test_what_a_tool_returns_can_be_sent(wire: str, result: Any) -> None:
    """A file's name may have half of a character, for example, and a request has levels of its own."""
    assert encode_json(sent(wire, serialise_result(result)))


@pytest.mark.parametrize(
    "result", [nest(201), nest(5000), 10**5000, {"n": 10**5000}], ids=lambda value: type(value).__name__
)
def test_what_cant_be_sent_is_the_tools_failure(result: Any) -> None:
    with pytest.raises(UsageError, match="has no JSON form"):
        serialise_result(result)


@pytest.mark.parametrize("wire", ["gemini", "ollama"])
def test_arguments_that_are_nested_too_deeply_are_refused(wire: str) -> None:
    """Another provider's model may have written them, as text."""
    call = ToolCall("c", "look", {"a": nest(1000)}, "{}")
    with pytest.raises(UsageError, match="can't be written as JSON"):
        encode_json(WIRES[wire](Request((user_message("Hi"), Message("assistant", call)))))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("result", [CBlock("well"), [CBlock("well")]], ids=repr)
def test_a_block_of_text_is_its_text(wire: str, result: Any) -> None:
    assert "well" in texts_of(sent(wire, result))


def test_results_stand_together_and_files_behind_them() -> None:
    """Chat completions take text alone as a result, and wants the results of calls made together in a row."""
    messages = sent("chat", ["see", PNG], "two")["messages"][2:]
    assert [message["role"] for message in messages] == ["tool", "tool", "user"]
    assert messages[0]["content"] == "see"
    assert messages[2]["content"][1]["image_url"]["url"].endswith(DATA)


def test_older_gemini_models_see_files_beside_the_results() -> None:
    calls = [ToolCall(f"c{number}", "look", {}, "{}") for number in (1, 2)]
    outputs = [
        Message("tool", ToolOutput("c1", "look", ["see", PNG])),
        Message("tool", ToolOutput("c2", "look", "two")),
    ]
    turns = gemini(Request((user_message("Hi"), Message("assistant", calls), *outputs)), "gemini-2.5-flash")["contents"]
    assert [next(iter(part)) for part in turns[-1]["parts"]] == ["functionResponse", "functionResponse", "inlineData"]
    assert "parts" not in turns[-1]["parts"][0]["functionResponse"]


def test_what_ollama_cant_show_is_refused() -> None:
    for file in (FileBlock("application/pdf", data=b"%PDF"), ImageBlock(url="https://a.example/a.png")):
        with pytest.raises(UnsupportedError):
            sent("ollama", file)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("written", ["image/jpg", "IMAGE/JPEG", "image/jpeg; charset=utf-8", "image/pjpeg"])
@pytest.mark.parametrize("kind", [ImageBlock, FileBlock])
def test_media_types_are_said_as_providers_know_them(wire: str, written: str, kind: Any) -> None:
    said = json.dumps(WIRES[wire](Request((user_message(kind(written, data=b"jpeg")),))))
    assert written not in said
    assert "image/jpeg" in said or wire == "ollama"
