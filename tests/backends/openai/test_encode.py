"""Requests in OpenAI's words."""

from __future__ import annotations

from typing import Any

import pytest

from mellea.backends.ai_gateway import tools as gateway_tools
from mellea.backends.openai import SERVICES, chat, responses, tools
from mellea.core.backend import OutputSchema, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, assistant_message, system_message, user_message
from mellea.errors import UnsupportedError

PDF = FileBlock("application/pdf", data=b"%PDF")
PNG = ImageBlock(data=b"png")
NUMBER = OutputSchema("a number!", {"type": "integer"})
TOWN = OutputSchema("Town", {"type": "object", "properties": {"name": {"type": "string"}}})
WEATHER = ToolSpec("weather", "The weather.", {"type": "object", "properties": {}})
HISTORY = (
    user_message("Weather?"),
    assistant_message(ThinkingBlock("Hm"), ToolCall("c1", "weather", {"city": "Rome"}, '{"city":"Rome"}')),
    Message("tool", [ToolOutput("c1", "weather", {"sun": True}), ToolOutput("c2", "weather", "gone", is_error=True)]),
)


def chat_of(*messages: Message, service: str = "openai", model: str = "gpt-4o", **request: Any) -> dict[str, Any]:
    options = request.pop("options", {})
    return chat.encode(Request(messages, options=options, **request), model, SERVICES[service])


def response_of(*messages: Message, service: str = "openai", model: str = "gpt-4o", **request: Any) -> dict[str, Any]:
    options = request.pop("options", {})
    return responses.encode(Request(messages, options=options, **request), model, SERVICES[service])


def test_a_chat_completion() -> None:
    assert chat_of(system_message("Be kind."), user_message("Hi"), options={"temperature": 0, "max_tokens": 5}) == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_completion_tokens": 5,
    }


def test_the_dialects_of_services() -> None:
    options = {"seed": 1, "max_tokens": 5}
    mistral = chat_of(user_message("Hi"), service="mistral", options=options)
    assert (mistral["random_seed"], mistral["max_tokens"], "stream_options" in mistral) == (1, 5, False)
    plain = chat_of(user_message("Hi"), options={"stream": False, "stop": ("a", "b")})
    assert plain["stop"] == ["a", "b"] and plain["stream"] is False and "stream_options" not in plain
    local = chat_of(user_message("Hi"), service="vllm", options={"top_k": 3, "repeat_penalty": 1.1})
    assert (local["top_k"], local["repetition_penalty"]) == (3, 1.1)


@pytest.mark.parametrize(
    ("service", "thinking", "field", "value"),
    [
        ("openai", True, "reasoning_effort", "medium"),
        ("openai", "high", "reasoning_effort", "high"),
        ("openai", 500, "reasoning_effort", "low"),
        ("openrouter", 500, "reasoning", {"max_tokens": 500}),
        ("openrouter", "low", "reasoning", {"effort": "low"}),
        ("ai_gateway", False, "reasoning", {"enabled": False}),
        ("deepseek", True, "thinking", {"type": "enabled"}),
        ("deepseek", "high", "reasoning_effort", "high"),
        ("moonshot", False, "thinking", {"type": "disabled"}),
        ("alibaba", False, "enable_thinking", False),
        ("vllm", True, "chat_template_kwargs", {"enable_thinking": True}),
    ],
)
def test_thinking(service: str, thinking: Any, field: str, value: Any) -> None:
    assert chat_of(user_message("Hi"), service=service, options={"thinking": thinking})[field] == value


def test_thinking_can_be_switched_off_or_not() -> None:
    for model, effort in (("gpt-5", "minimal"), ("gpt-5-mini", "minimal"), ("gpt-5.2", "none")):
        assert chat_of(user_message("Hi"), model=model, options={"thinking": False})["reasoning_effort"] == effort
    with pytest.raises(UnsupportedError, match="o3"):
        chat_of(user_message("Hi"), model="o3", options={"thinking": False})


def test_images_and_files() -> None:
    (message,) = chat_of(user_message("See", PNG, ImageBlock(url="https://a.example/b.png"), PDF))["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "image_url", "file"]
    assert message["content"][1]["image_url"]["url"] == "data:image/png;base64,cG5n"
    assert message["content"][3]["file"]["file_data"].startswith("data:application/pdf;base64,")
    sound = chat_of(user_message(FileBlock("audio/wav", data=b"x")))["messages"][0]["content"][0]
    assert sound["input_audio"] == {"data": "eA==", "format": "wav"}

    (item,) = response_of(user_message("See", PNG, PDF, FileBlock("application/pdf", url="https://a.example/a.pdf")))[
        "input"
    ]
    assert [part["type"] for part in item["content"]] == ["input_text", "input_image", "input_file", "input_file"]
    assert item["content"][3] == {"type": "input_file", "file_url": "https://a.example/a.pdf"}


@pytest.mark.parametrize(
    "message",
    [
        user_message(FileBlock("application/pdf", url="https://a.example/a.pdf")),
        assistant_message("Look", PNG),
    ],
)
def test_what_chat_completions_cant_say(message: Message) -> None:
    with pytest.raises(UnsupportedError):
        chat_of(message)


def test_a_history_with_calls() -> None:
    _, called, *outputs = chat_of(*HISTORY)["messages"]
    function = {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert called["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert outputs == [
        {"role": "tool", "tool_call_id": "c1", "content": '{"sun": true}'},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: gone"},
    ]
    assert "reasoning_content" not in called
    assert chat_of(*HISTORY, service="deepseek")["messages"][1]["reasoning_content"] == "Hm"

    _, call, *results = response_of(*HISTORY)["input"]
    assert call == {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Rome"}'}
    assert [result["output"] for result in results] == ['{"sun": true}', "Error: gone"]


def test_arguments_that_are_no_json_dont_go_back() -> None:
    call = ToolCall("c1", "f", {}, '{"x', is_valid=False)
    assert chat_of(assistant_message(call))["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_file_as_a_tools_result() -> None:
    (item,) = response_of(Message("tool", ToolOutput("c", "draw", ["Here:", PNG])))["input"]
    assert [part["type"] for part in item["output"]] == ["input_text", "input_image"]


def test_signed_reasoning_goes_back_to_its_own_service_only() -> None:
    chat_block = ThinkingBlock("Hm", 'openrouter:[{"type": "reasoning.text", "text": "Hm"}]')
    message = assistant_message(chat_block, "4")
    assert chat_of(message, service="openrouter")["messages"][0]["reasoning_details"][0]["text"] == "Hm"
    assert "reasoning_details" not in chat_of(message)["messages"][0]

    message = assistant_message(ThinkingBlock("Hm", 'openai:{"id": "rs", "encrypted_content": "s"}'), "4")
    reasoning, answer = response_of(message)["input"]
    summary = [{"type": "summary_text", "text": "Hm"}]
    assert reasoning == {"type": "reasoning", "summary": summary, "id": "rs", "encrypted_content": "s"}
    assert answer["content"] == [{"type": "output_text", "text": "4", "annotations": []}]
    assert len(response_of(message, service="openrouter")["input"]) == 1


def test_the_providers_own_tools_go_back_as_they_came() -> None:
    item = {"id": "ws", "type": "web_search_call", "status": "completed", "action": {"type": "search"}}
    search = ToolCall("ws", "web_search", {}, "{}", is_builtin=True, signature=f"openai:{_json(item)}")
    draw = ToolCall(
        "ig", "image_generation", {}, is_builtin=True, signature='openai:{"id":"ig","type":"image_generation_call"}'
    )
    message = assistant_message(search, ToolOutput("ws", "web_search", [], is_builtin=True), draw, PNG, "Done")
    sent = response_of(message)["input"]
    assert sent[0] == item
    assert sent[1] == {"id": "ig", "type": "image_generation_call", "result": "cG5n"}
    assert [each["type"] for each in sent] == ["web_search_call", "image_generation_call", "message"]


def test_a_custom_call_goes_back() -> None:
    call = ToolCall("c", "sql", {"input": "SELECT 1"}, "SELECT 1", signature='openai:{"type":"custom_tool_call"}')
    sent = response_of(assistant_message(call), Message("tool", ToolOutput("c", "sql", "1")))["input"]
    assert [each["type"] for each in sent] == ["custom_tool_call", "custom_tool_call_output"]
    assert sent[0]["input"] == "SELECT 1"


def test_a_response() -> None:
    options = {"temperature": 0, "max_tokens": 5, "thinking": "low"}
    assert response_of(user_message("Hi"), model="gpt-5", options=options) == {
        "model": "gpt-5",
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "store": False,
        "stream": True,
        "temperature": 0,
        "max_output_tokens": 5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    assert "include" not in response_of(user_message("Hi"), service="llama_server", model="gpt-oss-20b")


def test_tools() -> None:
    sent = chat_of(user_message("Hi"), tools=(WEATHER,), options={"tool_choice": "weather"})
    assert sent["tools"][0]["function"]["name"] == "weather"
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    own = (WEATHER, tools.web_search(search_context_size="low"), tools.code_interpreter(), tools.file_search(["vs"]))
    sent = response_of(user_message("Hi"), tools=own, options={"tool_choice": "web_search"})
    assert sent["tools"][0]["strict"] is False
    assert sent["tools"][1] == {"type": "web_search", "search_context_size": "low"}
    assert sent["tool_choice"] == {"type": "web_search"}
    assert len(sent["include"]) == 3
    assert tools.mcp("m", "https://m.example").config["require_approval"] == "never"
    assert tools.image_generation(size="1024x1024").config == {"type": "image_generation", "size": "1024x1024"}


def test_the_gateways_tools() -> None:
    tool = gateway_tools.perplexity_search(max_results=5)
    assert tool.provider == "ai_gateway" and tool.name == "perplexity_search"
    sent = chat_of(user_message("Hi"), service="ai_gateway", tools=(tool,))
    assert sent["tools"] == [{"type": "vercel:perplexity_search", "config": {"max_results": 5}}]


def test_a_schema() -> None:
    sent = chat_of(user_message("Hi"), output_schema=TOWN)["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"], sent["schema"]["required"]) == ("Town", True, ["name"])
    sent = response_of(user_message("Hi"), output_schema=NUMBER)["text"]["format"]
    assert (sent["type"], sent["name"], sent["strict"]) == ("json_schema", "a_number_", True)
    assert sent["schema"]["properties"]["value"] == {"type": "integer"}


def test_a_schema_where_only_json_is_promised() -> None:
    sent = chat_of(system_message("Be kind."), user_message("Hi"), service="deepseek", output_schema=TOWN)
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["messages"][0]["content"].startswith("Be kind.\n\nAnswer with JSON only")
    sent = chat_of(user_message("Hi"), service="deepseek", output_schema=TOWN)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]


def test_cache_marks() -> None:
    message = user_message(CBlock("Long", cache=True), "Hi")
    (part, _) = chat_of(message, service="openrouter")["messages"][0]["content"]
    assert part["cache_control"] == {"type": "ephemeral"}
    assert chat_of(message)["messages"][0]["content"] == "LongHi"


def _json(value: Any) -> str:
    import json

    return json.dumps(value)
