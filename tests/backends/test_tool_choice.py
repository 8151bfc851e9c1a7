"""The choice of a tool (any, none, one, one of several) on every wire, as it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mellea
from mellea.backends.anthropic.encode import encode as anthropic
from mellea.backends.gemini.encode import encode as gemini
from mellea.backends.ollama.encode import encode as ollama
from mellea.backends.openai.chat.encode import encode as chat
from mellea.backends.openai.responses.encode import encode as responses
from mellea.core import Message, Request, ToolCall, ToolSpec
from mellea.core.backend import narrow_tools
from mellea.core.events import ToolEnd
from mellea.errors import UnsupportedError, UsageError
from mellea.testing import ScriptedBackend

TOOLS = tuple(ToolSpec(name, "", {"type": "object", "properties": {}}) for name in ("look", "write", "delete"))


def _gemini(mode: str, *names: str) -> Any:
    config = {"mode": mode, "allowedFunctionNames": list(names)} if names else {"mode": mode}
    return {"functionCallingConfig": config}


def _gemini_names(payload: Any) -> list[str]:
    return [each["name"] for tool in payload["tools"] for each in tool["functionDeclarations"]]


def _chat_names(payload: Any) -> list[str]:
    return [tool["function"]["name"] for tool in payload["tools"]]


def _flat_names(payload: Any) -> list[str]:
    return [tool["name"] for tool in payload["tools"]]


Names = Callable[[Any], list[str]]
WIRES: dict[str, tuple[Callable[[Request], Any], str, Names, dict[str, Any]]] = {
    "chat completions": (
        lambda request: chat(request, "gpt-4o"),
        "tool_choice",
        _chat_names,
        {
            "auto": "auto",
            "none": "none",
            "required": "required",
            "one": {"type": "function", "function": {"name": "write"}},
        },
    ),
    "responses": (
        lambda request: responses(request, "gpt-4o"),
        "tool_choice",
        _flat_names,
        {"auto": "auto", "none": "none", "required": "required", "one": {"type": "function", "name": "write"}},
    ),
    "anthropic": (
        lambda request: anthropic(request, "claude-sonnet-4-5"),
        "tool_choice",
        _flat_names,
        {
            "auto": {"type": "auto"},
            "none": {"type": "none"},
            "required": {"type": "any"},
            "one": {"type": "tool", "name": "write"},
        },
    ),
    "gemini": (
        lambda request: gemini(request, "gemini-2.5-flash"),
        "toolConfig",
        _gemini_names,
        {"auto": _gemini("AUTO"), "none": _gemini("NONE"), "required": _gemini("ANY"), "one": _gemini("ANY", "write")},
    ),
}


def _payload(encode: Callable[[Request], Any], choice: Any) -> Any:
    request = Request((Message("user", "Hi"),), TOOLS, options={"tool_choice": choice})
    return encode(narrow_tools(request))


@pytest.mark.parametrize("kind", ["auto", "none", "required", "one"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_choice_is_sent_in_the_wires_own_words(wire: str, kind: str) -> None:
    encode, field, names, said = WIRES[wire]
    payload = _payload(encode, "write" if kind == "one" else kind)
    assert payload[field] == said[kind]
    assert names(payload) == ["look", "write", "delete"]


@pytest.mark.parametrize("wire", WIRES)
def test_of_several_tools_one_has_to_be_called_and_the_others_arent_offered(wire: str) -> None:
    encode, field, names, said = WIRES[wire]
    payload = _payload(encode, ["delete", "look"])
    assert payload[field] == said["required"]
    assert names(payload) == ["look", "delete"]


def test_ollama_offers_tools_or_not_and_refuses_to_force_one() -> None:
    def encode(request: Request) -> Any:
        return ollama(request, "qwen3")

    assert _chat_names(_payload(encode, "auto")) == ["look", "write", "delete"]
    assert "tools" not in _payload(encode, "none")
    for choice in ("required", "write", ["write", "look"]):
        with pytest.raises(UnsupportedError, match="tool choice"):
            _payload(encode, choice)


def look() -> str:
    return "a cat"


def write() -> str:
    return "done"


def delete() -> str:
    return "gone"


@pytest.mark.anyio
async def test_a_call_offers_the_chosen_tools_and_its_loop_offers_all_again() -> None:
    backend = ScriptedBackend([ToolEnd(ToolCall("c1", "look", {}))], "A cat.")
    m = mellea.start_session(backend)
    thunk = await m.ainstruct(
        "x", tools=[look, write, delete], tool_calls="run", model_options={"tool_choice": ["look", "write"]}
    )
    assert thunk.value == "A cat."
    first, second = backend.requests
    assert [tool.name for tool in first.tools] == ["look", "write"]
    assert first.options["tool_choice"] == "required"
    assert [tool.name for tool in second.tools] == ["look", "write", "delete"]
    assert "tool_choice" not in second.options


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (["look", "wirte"], r"tool_choice=\['look', 'wirte'\] has 'wirte', which is not one of.*did you mean 'write'"),
        (["auto"], "has 'auto', which is not one of the call's tools"),
        ([], "a list of names"),
        ([3], "a list of names"),
    ],
)
async def test_a_choice_of_tools_that_arent_there_is_refused_before_anything_is_sent(choice: Any, said: str) -> None:
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    with pytest.raises(UsageError, match=said):
        await m.ainstruct("x", tools=[look, write], model_options={"tool_choice": choice})
    assert not backend.requests
