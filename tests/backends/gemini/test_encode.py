"""What a request looks like in Gemini's format, and what goes back to it in the next turn."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mellea.backends.gemini import tools
from mellea.backends.gemini.decode import Decoder
from mellea.backends.gemini.encode import encode
from mellea.core.backend import OutputSchema, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, assistant_message, system_message, user_message
from mellea.errors import UnsupportedError, UsageError
from tests.backends.gemini import answers
from tests.backends.recorded import outcome

LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {}})
TOWN = OutputSchema("town", {"type": "object", "properties": {"name": {"type": "string"}}})


def payload(
    *messages: Message, model: str = "gemini-3-pro", tools: Any = (), schema: Any = None, **options: Any
) -> Any:
    return encode(Request(messages or (user_message("Hi"),), tools, schema, options), model)


def parts_back(body: bytes, model: str = "gemini-3-pro") -> Any:
    """The parts of an answer, decoded and sent back."""
    message = outcome(Decoder(model), body).generation.message
    return payload(user_message("Hi"), message, model=model)["contents"][1]["parts"]


def test_a_conversation() -> None:
    said = payload(
        system_message("Be brief."),
        user_message("What is this?", ImageBlock(data=b"png"), FileBlock("application/pdf", url="https://a.example/f")),
        assistant_message("A cat."),
        user_message("Sure?"),
    )
    assert said == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "What is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": "cG5n"}},
                    {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.example/f"}},
                ],
            },
            {"role": "model", "parts": [{"text": "A cat."}]},
            {"role": "user", "parts": [{"text": "Sure?"}]},
        ],
    }


def test_options() -> None:
    said = payload(
        temperature=0,
        max_tokens=5,
        top_p=0.5,
        top_k=3,
        seed=2**31 + 7,
        stop="END",
        frequency_penalty=1,
        presence_penalty=-1,
    )
    assert said["generationConfig"] == {
        "temperature": 0,
        "maxOutputTokens": 5,
        "topP": 0.5,
        "topK": 3,
        "seed": 7,
        "stopSequences": ["END"],
        "frequencyPenalty": 1,
        "presencePenalty": -1,
    }
    assert "generationConfig" not in payload()


@pytest.mark.parametrize(
    ("model", "thinking", "config"),
    [
        ("gemini-3-pro", True, {"includeThoughts": True}),
        ("gemini-3-pro", "high", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3-pro", False, {"thinkingLevel": "low"}),
        ("gemini-3-flash", False, {"thinkingLevel": "minimal"}),
        ("gemini-2.5-flash", False, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", 300, {"thinkingBudget": 300, "includeThoughts": True}),
        ("gemini-2.5-flash", 0, {"thinkingBudget": 0, "includeThoughts": False}),
    ],
)
def test_thinking(model: str, thinking: Any, config: Any) -> None:
    assert payload(model=model, thinking=thinking)["generationConfig"]["thinkingConfig"] == config


def test_an_unknown_effort_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"'enormous'.*minimal, low"):
        payload(thinking="enormous")


def test_a_schema_goes_as_it_is() -> None:
    config = payload(schema=TOWN)["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": TOWN.schema}


def test_tools_and_the_choice_among_them() -> None:
    said = payload(tools=(LOOK,), tool_choice="look")
    declared = {"name": "look", "description": "Look.", "parametersJsonSchema": LOOK.parameters}
    assert said["tools"] == [{"functionDeclarations": [declared]}]
    assert said["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}}
    for choice, mode in (("auto", "AUTO"), ("required", "ANY"), ("none", "NONE")):
        config = payload(tools=(LOOK,), tool_choice=choice)["toolConfig"]
        assert config == {"functionCallingConfig": {"mode": mode}}


def test_the_providers_own_tools() -> None:
    search, stores = tools.google_search(), tools.file_search("fileSearchStores/a", top_k=2)
    said = payload(tools=(search, tools.code_execution(), tools.url_context(), tools.google_maps(), stores))
    assert said["tools"] == [
        {"googleSearch": {}},
        {"codeExecution": {}},
        {"urlContext": {}},
        {"googleMaps": {}},
        {"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/a"], "topK": 2}},
    ]
    assert "toolConfig" not in said
    assert payload(tools=(LOOK, search))["toolConfig"] == {"includeServerSideToolInvocations": True}
    with pytest.raises(UsageError, match="start_time and end_time"):
        tools.google_search(start_time="2026-01-01T00:00:00Z")
    with pytest.raises(UsageError, match="at least one"):
        tools.file_search()


def test_what_models_before_generation_3_cant_do_is_refused() -> None:
    for model in ("gemini-2.5-pro", "gemini-1.5-flash"):
        with pytest.raises(UnsupportedError, match="follow a schema while it has tools"):
            payload(model=model, tools=(LOOK,), schema=TOWN)
        with pytest.raises(UnsupportedError, match="at the same time"):
            payload(model=model, tools=(LOOK, tools.google_search()))
        assert payload(model=model, tools=(LOOK,)) and payload(model=model, schema=TOWN)
    assert payload(model="gemini-flash-latest", tools=(LOOK,), schema=TOWN)


def test_results_of_calls_made_together_go_back_together() -> None:
    calls = assistant_message(ToolCall("1", "look", {"a": 1}, signature="gemini:c2ln"), ToolCall("2", "note", {}))
    results = [
        Message("tool", ToolOutput("1", "look", {"on": date(2026, 1, 2)})),
        Message("tool", ToolOutput("2", "", "no", is_error=True)),
    ]
    _, model, user = payload(user_message("Hi"), calls, *results)["contents"]
    assert model["parts"] == [
        {"functionCall": {"name": "look", "args": {"a": 1}, "id": "1"}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "note", "args": {}, "id": "2"}},
    ]
    assert user == {
        "role": "user",
        "parts": [
            {"functionResponse": {"name": "look", "response": {"output": {"on": "2026-01-02"}}, "id": "1"}},
            {"functionResponse": {"name": "note", "response": {"error": "no"}, "id": "2"}},
        ],
    }


def test_a_result_with_a_picture() -> None:
    output = ToolOutput("1", "draw", ["done", ImageBlock(data=b"png")])
    (turn,) = payload(Message("tool", output))["contents"]
    assert turn["parts"][0]["functionResponse"] == {
        "name": "draw",
        "response": {"output": "done"},
        "id": "1",
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "cG5n"}}],
    }


def test_signatures_go_back_where_they_belong() -> None:
    assert parts_back(answers.THINKING) == [
        {"text": "First, a plan.", "thought": True, "thoughtSignature": "c2lnMQ=="},
        {"text": "Here ", "thoughtSignature": "c2lnMg=="},
        {"text": "it is."},
        {"text": "", "thoughtSignature": "c2lnMw=="},
    ]
    calls = parts_back(answers.CALLS)
    assert [part.get("thoughtSignature") for part in calls] == ["skip_thought_signature_validator", "c2lnNA==", None]
    assert parts_back(answers.PICTURE)[0] == {
        "inlineData": {"mimeType": "image/png", "data": "cG5n"},
        "thoughtSignature": "c2lnNw==",
    }


def test_calls_of_its_own_tools_go_back_and_a_search_doesnt() -> None:
    assert parts_back(answers.SERVER_TOOLS) == [
        {
            "executableCode": {"id": "call_r-1_0", "language": "PYTHON", "code": "print(1)"},
            "thoughtSignature": "c2lnNg==",
        },
        {"codeExecutionResult": {"id": "call_r-1_0", "outcome": "OUTCOME_OK", "output": "1\n"}},
        {"toolCall": {"id": "t1", "toolType": "URL_CONTEXT", "args": {"urls": ["https://c.example"]}}},
        {"toolResponse": {"id": "t1", "toolType": "URL_CONTEXT", "response": {"pages": 1}}},
        {"text": "Done."},
    ]
    assert parts_back(answers.SEARCH) == [{"text": "Sunny."}]


def test_what_others_made_doesnt_go_to_gemini() -> None:
    message = assistant_message(
        ThinkingBlock("Hm.", "anthropic:abc"),
        ThinkingBlock("Hm."),
        ToolCall("s1", "code_execution", {"code": "1"}, is_builtin=True),
        ToolOutput("s1", "code_execution", "1", is_builtin=True),
        CBlock("Ah."),
        ToolCall("1", "look", {}, signature="openai:abc"),
    )
    _, turn = payload(user_message("Hi"), message)["contents"]
    unsigned = {"functionCall": {"name": "look", "args": {}, "id": "1"}}
    assert turn["parts"] == [{"text": "Ah."}, {**unsigned, "thoughtSignature": "skip_thought_signature_validator"}]
    _, older = payload(user_message("Hi"), message, model="gemini-2.5-pro")["contents"]
    assert older["parts"] == [{"text": "Ah."}, unsigned]
