"""What a request looks like in Ollama's format."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mellea.backends.ollama.encode import encode
from mellea.core.backend import BuiltinTool, OutputSchema, Request, ToolSpec
from mellea.core.blocks import ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, assistant_message, system_message, user_message
from mellea.errors import UnsupportedError

LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {}})
TOWN = OutputSchema("town", {"type": "object", "properties": {"name": {"type": "string"}}})


def payload(*said: Message, tools: Any = (), schema: Any = None, **options: Any) -> Any:
    return encode(Request(said or (user_message("Hi"),), tools, schema, options), "qwen3:8b")


def test_a_conversation() -> None:
    said = payload(
        system_message("Be brief."),
        user_message("What is this?", ImageBlock(data=b"png")),
        assistant_message(ThinkingBlock("Fur."), ThinkingBlock("Theirs.", "anthropic:x"), "A cat."),
    )
    assert said == {
        "model": "qwen3:8b",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is this?", "images": ["cG5n"]},
            {"role": "assistant", "content": "A cat.", "thinking": "Fur."},
        ],
    }


def test_options() -> None:
    said = payload(
        temperature=0,
        max_tokens=5,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        seed=2**31 + 7,
        stop="END",
        frequency_penalty=1,
        presence_penalty=-1,
        repeat_penalty=1.1,
        context_window=8192,
        stream=False,
    )
    assert said["stream"] is False
    assert said["options"] == {
        "temperature": 0,
        "num_predict": 5,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 7,
        "stop": ["END"],
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "repeat_penalty": 1.1,
        "num_ctx": 8192,
    }
    assert "options" not in payload()


@pytest.mark.parametrize(("thinking", "think"), [(True, True), (False, False), ("none", False), ("low", "low")])
def test_thinking(thinking: Any, think: Any) -> None:
    assert payload(thinking=thinking)["think"] == think
    with pytest.raises(UnsupportedError, match="a number of tokens"):
        payload(thinking=300)


def test_a_schema_goes_as_it_is() -> None:
    assert payload(schema=TOWN)["format"] == TOWN.schema


def test_tools_and_the_choice_among_them() -> None:
    declared = {"name": "look", "description": "Look.", "parameters": LOOK.parameters}
    assert payload(tools=(LOOK,), tool_choice="auto")["tools"] == [{"type": "function", "function": declared}]
    assert "tools" not in payload(tools=(LOOK,), tool_choice="none")
    for choice in ("required", "look"):
        with pytest.raises(UnsupportedError, match=f"the tool choice '{choice}'"):
            payload(tools=(LOOK,), tool_choice=choice)
    with pytest.raises(UnsupportedError, match="'web_search' of the provider 'anthropic'"):
        payload(tools=(BuiltinTool("anthropic", "web_search", {}),))


def test_calls_and_their_results() -> None:
    said = payload(
        user_message("Hi"),
        assistant_message(ToolCall("1", "look", {"a": 1}), ToolCall("2", "note", {})),
        Message("tool", ToolOutput("1", "look", {"on": date(2026, 1, 2)})),
        Message("tool", [ToolOutput("2", "", "no", is_error=True)]),
    )
    _, asked, first, second = said["messages"]
    assert asked["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"index": 0, "name": "look", "arguments": {"a": 1}}},
        {"id": "2", "type": "function", "function": {"index": 1, "name": "note", "arguments": {}}},
    ]
    assert first == {"role": "tool", "tool_name": "look", "tool_call_id": "1", "content": '{"on": "2026-01-02"}'}
    assert second == {"role": "tool", "tool_name": "note", "tool_call_id": "2", "content": "Error: no"}


def test_the_address_of_an_image_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="give its bytes"):
        payload(user_message(ImageBlock(url="https://a.example/i.png")))
