"""What goes to the provider for a request."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from mellea.backends.anthropic import tools
from mellea.backends.anthropic.decode import Decoder
from mellea.backends.anthropic.encode import answer_tool, encode, ends_in_space, find_betas
from mellea.backends.anthropic.wire import FILES_URL
from mellea.core.accumulator import Accumulator
from mellea.core.backend import BuiltinTool, OutputSchema, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, assistant_message, system_message, user_message
from mellea.errors import UnsupportedError, UsageError
from tests.backends.anthropic import answers

OLD, MIDDLE, NEW = "claude-sonnet-4-20250514", "claude-sonnet-4-6", "claude-opus-4-8"

TOWN = OutputSchema("town", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
WEATHER = ToolSpec("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})

MARK = {"cache_control": {"type": "ephemeral"}}


def sent(*messages: Message, model: str = OLD, **more: Any) -> dict[str, Any]:
    request = {name: more.pop(name) for name in ("tools", "output_schema") if name in more}
    return encode(Request(messages or (user_message("Hi"),), options=more, **request), model)


def turns(*messages: Message, model: str = OLD) -> list[Any]:
    return sent(*messages, model=model)["messages"]


def said(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


# -- messages --------------------------------------------------------------------------------------------


def test_the_least_that_is_said() -> None:
    assert sent() == {"model": OLD, "max_tokens": 64_000, "stream": True, "messages": [said("user", "Hi")]}


def test_the_system_prompt_stands_apart() -> None:
    payload = sent(system_message("Be brief."), user_message("Hi"), system_message("Be kind."))
    assert payload["system"] == "Be brief.\n\nBe kind."
    assert payload["messages"] == [said("user", "Hi")]


def test_neighbours_of_one_role_are_one_turn() -> None:
    said_before = (user_message("a"), user_message("b"), assistant_message("c"), assistant_message("d"))
    assert turns(*said_before, user_message("e", "f")) == [
        said("user", "a", "b"),
        said("assistant", "c", "d"),
        said("user", "ef"),
    ]


def test_empty_texts_are_left_out() -> None:
    assert (
        turns(user_message("Hi", ImageBlock(data=b"x"), " "), assistant_message(""))[0]["content"][-1]["type"]
        == "image"
    )


def test_a_mark_ends_a_block_and_covers_what_stands_before() -> None:
    payload = sent(
        system_message(CBlock("Rules.", cache=True)),
        user_message("a", CBlock("b", cache=True), "c"),
    )
    assert payload["system"] == [{"type": "text", "text": "Rules.", **MARK}]
    assert payload["messages"][0]["content"] == [
        {"type": "text", "text": "ab", **MARK},
        {"type": "text", "text": "c"},
    ]


def test_there_are_at_most_four_marks_and_the_last_ones_count() -> None:
    payload = sent(system_message(CBlock("0", cache=True)), user_message(*(CBlock(f"{n}", True) for n in range(1, 6))))
    marked = [block["text"] for block in payload["messages"][0]["content"] if "cache_control" in block]
    assert (payload["system"], marked) == ("0", ["2", "3", "4", "5"])


def test_images_and_files() -> None:
    data = base64.b64encode(b"x").decode()
    blocks = (
        ImageBlock(data=b"x"),
        ImageBlock(url="https://a.example/b.png"),
        FileBlock("application/pdf", b"x", filename="a.pdf"),
        FileBlock("text/markdown", "# Zoë".encode()),
        FileBlock("application/pdf", url="https://a.example/b.pdf"),
        FileBlock("application/octet-stream", url=f"{FILES_URL}/file_1/content"),
    )
    assert turns(user_message(*blocks))[0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": data},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# Zoë"}},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    ]


@pytest.mark.parametrize(
    "message",
    [
        user_message(FileBlock("audio/wav", b"x")),
        user_message(ImageBlock("image/tiff", b"x")),
        assistant_message(ImageBlock(data=b"x")),
    ],
)
def test_files_that_cant_be_sent(message: Message) -> None:
    with pytest.raises(UnsupportedError):
        sent(message)


def test_results_of_tools_come_first_in_the_users_turn() -> None:
    calls = [ToolCall("toolu_1", "weather", {"city": "A"}), ToolCall("toolu_2", "now", {})]
    results = [
        Message("tool", ToolOutput("toolu_1", "weather", {"sky": "grau", "née": 1})),
        Message("tool", ToolOutput("toolu_2", "now", "no clock", is_error=True)),
        user_message("Go on."),
        Message("tool", ToolOutput("toolu_3", "draw", [CBlock("Here:"), ImageBlock(url="https://a.example")])),
    ]
    asked, answered = turns(user_message("Hi"), assistant_message("Well.", *calls), *results)[1:]
    assert asked["content"] == [
        {"type": "text", "text": "Well."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "A"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"sky": "grau", "née": 1}'},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no clock", "is_error": True},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_3",
            "content": [
                {"type": "text", "text": "Here:"},
                {"type": "image", "source": {"type": "url", "url": "https://a.example"}},
            ],
        },
        {"type": "text", "text": "Go on."},
    ]


def test_an_answer_goes_back_as_it_came() -> None:
    accumulator = Accumulator()
    accumulator.feed(Decoder("m").feed(answers.EVERYTHING))
    again = turns(user_message("Hi"), accumulator.generation().message, user_message("Go on."))[1]
    assert again["content"] == [
        {"type": "thinking", "thinking": "Let me look.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
        {"type": "text", "text": "I look it up. "},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": answers.FOUND},
        {"type": "text", "text": "It is sunny."},
        {"type": "compaction", "content": "shorter"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]


def test_what_only_other_providers_understand_is_left_out() -> None:
    foreign = assistant_message(
        ThinkingBlock("Hm.", "openai:xyz"),
        ThinkingBlock("Hm."),
        ToolCall("ws_1", "web_search", {}, is_builtin=True),
        ToolOutput("ws_1", "web_search", "found", is_builtin=True),
        ToolCall("call_1", "weather", {}, signature="gemini:abc"),
        "Hello",
    )
    assert turns(user_message("Hi"), foreign, user_message("?"))[1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}},
        {"type": "text", "text": "Hello"},
    ]


def test_calls_of_mcp_and_of_code_keep_what_belongs_to_them() -> None:
    caller = '{"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}'
    message = assistant_message(
        ToolCall("mcptoolu_1", "echo", {}, "", True, True, 'anthropic:{"server_name": "s", "type": "mcp_tool_use"}'),
        ToolOutput("mcptoolu_1", "echo", [], is_error=True, is_builtin=True),
        ToolCall("srvtoolu_2", "web_search", {}, "", True, True, f'anthropic:{{"caller": {caller}}}'),
        ToolOutput("srvtoolu_2", "web_search", [], is_builtin=True),
        ToolCall("srvtoolu_3", "tool_search_tool_bm25", {}, is_builtin=True),
        ToolOutput("srvtoolu_3", "tool_search_tool_bm25", {}, is_builtin=True),
        ToolCall("toolu_1", "roll", {}, signature=f'anthropic:{{"caller": {caller}, "container": "container_1"}}'),
    )
    payload = sent(user_message("Hi"), message, Message("tool", ToolOutput("toolu_1", "roll", "6")))
    called = {"caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}}
    assert payload["container"] == "container_1"
    assert payload["messages"][1]["content"] == [
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "input": {}, "server_name": "s"},
        {"type": "mcp_tool_result", "is_error": True, "tool_use_id": "mcptoolu_1", "content": []},
        {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_search", "input": {}, **called},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_2", "content": [], **called},
        {"type": "server_tool_use", "id": "srvtoolu_3", "name": "tool_search_tool_bm25", "input": {}},
        {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_3", "content": {}},
        {"type": "tool_use", "id": "toolu_1", "name": "roll", "input": {}, **called},
    ]


def test_nothing_that_was_passed_is_changed() -> None:
    schema = {"type": "object", "properties": {}}
    tool = tools.mcp("s", "https://a.example", authorization_token="token-1234")
    message = user_message(CBlock("a", cache=True))
    for _ in range(2):
        payload = sent(message, tools=(ToolSpec("t", "", schema), tool))
        assert payload["mcp_servers"][0]["name"] == "s"
        payload["messages"][0]["content"].clear()
        payload["tools"][0]["input_schema"]["more"] = 1
    assert schema == {"type": "object", "properties": {}} and message.content == "a"


# -- a prefix ----------------------------------------------------------------------------------------------


def test_a_prefix_is_continued_without_its_last_space() -> None:
    messages = (user_message("Hi"), assistant_message("Once upon "))
    assert turns(*messages)[-1] == said("assistant", "Once upon")
    assert ends_in_space(messages) and not ends_in_space(messages[:1])


def test_newer_models_dont_continue_a_prefix() -> None:
    with pytest.raises(UnsupportedError, match="continue"):
        sent(user_message("Hi"), assistant_message("Once"), model=MIDDLE)


def test_a_paused_turn_goes_on() -> None:
    paused = assistant_message("I search.", ToolCall("srvtoolu_1", "web_search", {}, is_builtin=True))
    assert turns(user_message("Hi"), paused, model=NEW)[-1]["role"] == "assistant"


def test_no_schema_behind_a_prefix() -> None:
    with pytest.raises(UnsupportedError, match="schema"):
        sent(user_message("Hi"), assistant_message("Once"), output_schema=TOWN)


# -- options -----------------------------------------------------------------------------------------------


def test_options_reach_the_model() -> None:
    payload = sent(temperature=0, top_p=0.5, top_k=3, max_tokens=5, stop="x", stream=False)
    assert payload | {"temperature": 0, "top_p": 0.5, "top_k": 3, "max_tokens": 5, "stop_sequences": ["x"]} == payload
    assert payload["stream"] is False
    assert sent(stop=("a", "b"))["stop_sequences"] == ["a", "b"]


def test_without_a_stream_less_is_asked_for() -> None:
    assert sent(stream=False)["max_tokens"] == 16_000


@pytest.mark.parametrize(
    ("model", "thinking", "said"),
    [
        (OLD, False, {}),
        (OLD, True, {"thinking": {"type": "enabled", "budget_tokens": 8192}}),
        (OLD, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (OLD, 5000, {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
        (OLD, 10, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (MIDDLE, False, {"thinking": {"type": "disabled"}}),
        (MIDDLE, True, {"thinking": {"type": "adaptive"}}),
        (MIDDLE, 5000, {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
        (NEW, "none", {"thinking": {"type": "disabled"}}),
        (NEW, True, {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (
            NEW,
            "high",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        ("claude-sonnet-5-5", False, {"thinking": {"type": "between_tools"}}),
    ],
)
def test_thinking(model: str, thinking: Any, said: dict[str, Any]) -> None:
    payload = sent(model=model, thinking=thinking)
    assert {name: payload[name] for name in ("thinking", "output_config") if name in payload} == said


def test_a_budget_stays_below_the_limit() -> None:
    assert sent(thinking=5000, max_tokens=3000)["thinking"]["budget_tokens"] == 2999
    payload = sent(thinking=2000, max_tokens=100)
    assert (payload["max_tokens"], payload["thinking"]["budget_tokens"]) == (2100, 2000)


@pytest.mark.parametrize(("model", "thinking"), [(NEW, 5000), ("claude-fable-5-1", False), ("claude-opus-5-5", False)])
def test_thinking_that_the_model_cant(model: str, thinking: Any) -> None:
    with pytest.raises(UnsupportedError, match=model):
        sent(model=model, thinking=thinking)


def test_an_unknown_effort() -> None:
    with pytest.raises(UsageError, match="xhigh"):
        sent(thinking="gigantic")


# -- tools -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_their_choice(choice: str, said: dict[str, Any]) -> None:
    payload = sent(tools=(WEATHER,), tool_choice=choice)
    assert payload["tools"] == [{"name": "weather", "description": "The weather.", "input_schema": WEATHER.parameters}]
    assert payload["tool_choice"] == said
    assert "tool_choice" not in sent(tool_choice=choice)


def test_a_history_with_calls_defines_its_tools_where_none_is_offered() -> None:
    """The API refuses it otherwise: requests which include tool_use or tool_result blocks must define tools."""
    history = (
        user_message("Hi"),
        Message("assistant", [ToolCall("a", "look", {}), ToolCall("b", "look", {}), ToolCall("c", "now", {})]),
        Message("tool", ToolOutput("a", "look", "1")),
        Message("tool", ToolOutput("b", "look", "2")),
        Message("tool", ToolOutput("c", "now", "3")),
    )
    payload = encode(Request(history), "claude-sonnet-4-5")
    nothing = {"description": "", "input_schema": {"type": "object"}}
    assert payload["tools"] == [{"name": "look", **nothing}, {"name": "now", **nothing}]
    assert payload["tool_choice"] == {"type": "none"}
    offered = encode(Request(history, tools=(WEATHER,)), "claude-sonnet-4-5")
    assert [tool["name"] for tool in offered["tools"]] == ["weather"] and "tool_choice" not in offered


def test_the_providers_own_tools() -> None:
    own = (tools.web_search(max_uses=3), tools.web_fetch(citations=True), tools.code_execution(), WEATHER)
    assert [tool["type"] for tool in sent(tools=own)["tools"][:3]] == [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
    ]
    assert find_betas(Request((), tools=own)) == []


def test_a_tool_in_beta_brings_its_header() -> None:
    servers = tools.mcp("docs", "https://a.example/mcp", authorization_token="token-1234")
    payload = sent(tools=(servers,))
    assert payload["mcp_servers"] == [
        {"type": "url", "name": "docs", "url": "https://a.example/mcp", "authorization_token": "token-1234"}
    ]
    assert payload["tools"] == [{"type": "mcp_toolset", "mcp_server_name": "docs"}]
    advisor = BuiltinTool("anthropic", "advisor", {"type": "advisor_20260301", "name": "advisor"})
    file = user_message(FileBlock("x", url=f"{FILES_URL}/file_1/content"))
    found = find_betas(Request((file,), tools=(servers, advisor)))
    assert found == ["advisor-tool-2026-03-01", "files-api-2025-04-14", "mcp-client-2025-11-20"]
    assert find_betas(Request((assistant_message(ToolCall("mcptoolu_1", "x", {}, is_builtin=True)),)))


# -- a schema ------------------------------------------------------------------------------------------------


def test_newer_models_hold_a_schema_themselves() -> None:
    payload = sent(model=NEW, output_schema=TOWN, thinking="low")
    assert payload["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {**TOWN.schema, "additionalProperties": False}},
    }
    assert answer_tool(Request((), output_schema=TOWN), NEW) is None


def test_older_models_give_the_answer_by_a_call() -> None:
    payload = sent(output_schema=TOWN)
    assert payload["tools"] == [{"name": "town", "description": "Gives the answer.", "input_schema": TOWN.schema}]
    assert payload["tool_choice"] == {"type": "tool", "name": "town"}
    assert "output_config" not in payload


def test_beside_other_tools_a_call_of_any_kind_has_to_come() -> None:
    request = Request((user_message("Hi"),), tools=(WEATHER,), output_schema=OutputSchema("weather", TOWN.schema))
    payload = encode(request, OLD)
    assert [tool["name"] for tool in payload["tools"]] == ["weather", "weather_"]
    assert payload["tool_choice"] == {"type": "any"}
    assert answer_tool(request, OLD) == "weather_"


def test_a_forced_call_leaves_no_thoughts() -> None:
    with pytest.raises(UnsupportedError, match="thinking"):
        sent(output_schema=TOWN, thinking=True)


def test_ids_of_other_providers_become_ids_that_this_one_takes() -> None:
    """It refuses anything but letters, digits, _ and -; what a call becomes, its result becomes too."""
    odd = ["functions.weather:0", "", "x" * 80, "ä", "call_0", "call_0"]
    calls = assistant_message(*[ToolCall(call_id, "weather", {}, "{}") for call_id in odd])
    results = [Message("tool", ToolOutput(call_id, "weather", str(n))) for n, call_id in enumerate(odd)]
    _, asked, answered = turns(user_message("Hi"), calls, *results)
    ids = [each["id"] for each in asked["content"]]
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", call_id) for call_id in ids) and len(set(ids)) == len(ids)
    assert [(each["tool_use_id"], each["content"]) for each in answered["content"]] == [
        (call_id, str(n)) for n, call_id in enumerate(ids)
    ]


def test_a_compaction_goes_back_as_it_came() -> None:
    begun = {"type": "compaction", "content": None, "encrypted_content": None}
    more = {"type": "compaction_delta", "content": "Earlier.", "encrypted_content": "Epw"}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": more},
        {"type": "content_block_stop", "index": 0},
    ]
    accumulator = Accumulator()
    accumulator.feed(
        Decoder("m").feed(answers.framed(answers.start(), *events, *answers.text(1, "Hi"), *answers.end()))
    )
    again = turns(user_message("Hi"), accumulator.generation().message, user_message("Go on."))[1]
    assert again["content"][0] == {"type": "compaction", "content": "Earlier.", "encrypted_content": "Epw"}
