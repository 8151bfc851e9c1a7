"""An agent with two tools on each wire: its calls, results, ids and signatures come back in the wire's own shape."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mellea.backends.anthropic.decode import Decoder as AnthropicDecoder
from mellea.backends.gemini.decode import Decoder as GeminiDecoder
from mellea.backends.http.backend import HttpBackend
from mellea.backends.http.codec import Decoder
from mellea.backends.openai import OpenAIBackend
from mellea.backends.openai.chat.decode import Decoder as ChatDecoder
from mellea.backends.openai.responses.decode import Decoder as ResponsesDecoder
from mellea.core import ToolCall
from mellea.core.events import TextDelta, ToolEnd, ToolResult
from mellea.stdlib.agents import Agent
from mellea.stdlib.tools import Tool, as_tool, tool
from mellea.testing import ScriptedBackend
from tests.backends.anthropic import answers as anthropic
from tests.backends.gemini import answers as gemini
from tests.backends.ollama import answers as ollama
from tests.backends.openai import bodies as openai
from tests.backends.recorded import Exchange, exchanges, outcome
from tests.backends.stand_in import Answer, Asked, stand_in
from tests.backends.test_every_wire import WIRES

pytestmark = pytest.mark.anyio

MAKE: dict[str, Callable[[str], HttpBackend]] = {wire.name: wire.make for wire in WIRES}
KIND = {wire.name: wire.kind.decode() for wire in WIRES}


@tool
def look_up(city: str) -> int:
    """Look up the population of a city."""
    return {"Lund": 91_940, "Turin": 846_930}[city]


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLS = [look_up, add]
QUESTION = "How many people live in Lund and Turin?"
ANSWER = "938870 people."

# -- three steps in each provider's words: two calls at once, another one with its result, the answer ----------------

CHAT = [
    openai.sse(
        openai.chunk(role="assistant", content="Let me look."),
        openai.chunk(tool_calls=[openai.call('{"city": ', "look_up", "call_a")]),
        openai.chunk(tool_calls=[openai.call('"Lund"}', None, None)]),
        openai.chunk(tool_calls=[openai.call('{"city": "Turin"}', "look_up", "call_b", 1)]),
        openai.chunk("tool_calls"),
    ),
    openai.sse(
        openai.chunk(tool_calls=[openai.call('{"a": 91940, "b": 846930}', "add", "call_c")]), openai.chunk("tool_calls")
    ),
    openai.sse(openai.chunk(content="938870 "), openai.chunk(content="people."), openai.chunk("stop")),
]


def _response(*items: list[dict[str, Any]]) -> bytes:
    events = [event for each in items for event in each]
    return openai.sse(*events, {"type": "response.completed", "response": openai.response()}, done=False)


def _reasoning(index: int, key: str, secret: str) -> list[dict[str, Any]]:
    return openai.item(index, type="reasoning", id=key, summary=[], encrypted_content=secret)


def _function(index: int, key: str, call_id: str, name: str, arguments: str) -> list[dict[str, Any]]:
    return openai.item(index, type="function_call", id=key, call_id=call_id, name=name, arguments=arguments)


RESPONSES = [
    _response(
        _reasoning(0, "rs_1", "c2VjcmV0MQ=="),
        [{"type": "response.output_text.delta", "output_index": 1, "delta": "Let me look."}],
        _function(2, "fc_1", "call_a", "look_up", '{"city": "Lund"}'),
        _function(3, "fc_2", "call_b", "look_up", '{"city": "Turin"}'),
    ),
    _response(
        _reasoning(0, "rs_2", "c2VjcmV0Mg=="),
        _function(1, "fc_3", "call_c", "add", '{"a": 91940, "b": 846930}'),
    ),
    _response(
        [
            {"type": "response.output_text.delta", "output_index": 0, "delta": "938870 "},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "people."},
        ]
    ),
]


def _use(index: int, call_id: str, name: str, *arguments: str) -> list[dict[str, Any]]:
    return anthropic.call(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, *arguments)


ANTHROPIC = [
    anthropic.framed(
        anthropic.start(),
        *anthropic.thinking(0, "Two cities.", "c2lnMQ=="),
        *anthropic.text(1, "Let me look."),
        *_use(2, "toolu_a", "look_up", '{"city": ', '"Lund"}'),
        *_use(3, "toolu_b", "look_up", '{"city": "Turin"}'),
        *anthropic.end("tool_use"),
    ),
    anthropic.framed(
        anthropic.start(),
        *anthropic.thinking(0, "Now the sum.", "c2lnMg=="),
        *_use(1, "toolu_c", "add", '{"a": 91940, "b": 846930}'),
        *anthropic.end("tool_use"),
    ),
    anthropic.framed(anthropic.start(), *anthropic.text(0, "938870 ", "people."), *anthropic.end()),
]

GEMINI = [
    gemini.stream(
        gemini.text("Two cities.", thought=True),
        gemini.text("Let me look."),
        gemini.part_of(
            functionCall={"name": "look_up", "args": {"city": "Lund"}, "id": "a"}, thoughtSignature="c2lnMQ=="
        ),
        gemini.call("look_up", args={"city": "Turin"}, id="b"),
        gemini.end(),
    ),
    gemini.stream(
        gemini.part_of(
            functionCall={"name": "add", "args": {"a": 91940, "b": 846930}, "id": "c"}, thoughtSignature="c2lnMg=="
        ),
        gemini.end(),
    ),
    gemini.stream(gemini.text("938870 "), gemini.text("people."), gemini.end()),
]

OLLAMA = [
    ollama.lines(
        ollama.message("", thinking="Two cities."),
        ollama.message("Let me look."),
        ollama.message(
            tool_calls=[ollama.call("look_up", {"city": "Lund"}, id="a"), ollama.call("look_up", {"city": "Turin"})]
        ),
        ollama.end(),
    ),
    ollama.lines(ollama.message(tool_calls=[ollama.call("add", {"a": 91940, "b": 846930})]), ollama.end()),
    ollama.lines(ollama.message("938870 "), ollama.message("people."), ollama.end()),
]

BODIES = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}
MESSAGES = {
    "chat": "messages",
    "responses": "input",
    "anthropic": "messages",
    "gemini": "contents",
    "ollama": "messages",
}


async def ask(wire: str, bodies: Sequence[bytes], tools: Sequence[Any], question: str = QUESTION) -> Any:
    """Run an agent on such a server; return its run, events, chunks, and the bodies that were sent."""

    def reply(asked: Asked) -> Answer:
        return Answer([bodies[len(server.asked) - 1]], KIND[wire])

    with stand_in(reply) as server:
        backend = MAKE[wire](server.url)
        async with Agent(backend, tools).astream(question) as stream:
            events = [event async for event in stream.events()]
            chunks = [chunk async for chunk in stream]
        await backend.aclose()
        server.assert_idle()
    return stream.result, events, chunks, [asked.body for asked in server.asked]


LUND, TURIN, SUM = {"city": "Lund"}, {"city": "Turin"}, {"a": 91940, "b": 846930}


def _chat_call(call_id: str, name: str, arguments: Any) -> Any:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def _item(call_id: str, name: str, arguments: Any) -> Any:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(arguments)}


def _output(call_id: str, output: str) -> Any:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _tool_use(call_id: str, name: str, arguments: Any) -> Any:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def _tool_result(call_id: str, content: str) -> Any:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def _part(call_id: str, name: str, args: Any, **more: Any) -> Any:
    return {"functionCall": {"name": name, "args": args, "id": call_id}, **more}


def _part_result(call_id: str, name: str, output: Any) -> Any:
    return {"functionResponse": {"name": name, "response": {"output": output}, "id": call_id}}


def _ollama_call(index: int, call_id: str, name: str, arguments: Any) -> Any:
    function = {"index": index, "name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _ollama_result(call_id: str, name: str, content: str) -> Any:
    return {"role": "tool", "tool_name": name, "tool_call_id": call_id, "content": content}


SAID: dict[str, list[list[Any]]] = {
    "chat": [
        [
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [_chat_call("call_a", "look_up", LUND), _chat_call("call_b", "look_up", TURIN)],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "91940"},
            {"role": "tool", "tool_call_id": "call_b", "content": "846930"},
        ],
        [
            {"role": "assistant", "content": "", "tool_calls": [_chat_call("call_c", "add", SUM)]},
            {"role": "tool", "tool_call_id": "call_c", "content": "938870"},
        ],
    ],
    "responses": [
        [
            {"type": "reasoning", "summary": [], "id": "rs_1", "encrypted_content": "c2VjcmV0MQ=="},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
            },
            _item("call_a", "look_up", LUND),
            _item("call_b", "look_up", TURIN),
            _output("call_a", "91940"),
            _output("call_b", "846930"),
        ],
        [
            {"type": "reasoning", "summary": [], "id": "rs_2", "encrypted_content": "c2VjcmV0Mg=="},
            _item("call_c", "add", SUM),
            _output("call_c", "938870"),
        ],
    ],
    "anthropic": [
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Two cities.", "signature": "c2lnMQ=="},
                    {"type": "text", "text": "Let me look."},
                    _tool_use("toolu_a", "look_up", LUND),
                    _tool_use("toolu_b", "look_up", TURIN),
                ],
            },
            {"role": "user", "content": [_tool_result("toolu_a", "91940"), _tool_result("toolu_b", "846930")]},
        ],
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Now the sum.", "signature": "c2lnMg=="},
                    _tool_use("toolu_c", "add", SUM),
                ],
            },
            {"role": "user", "content": [_tool_result("toolu_c", "938870")]},
        ],
    ],
    "gemini": [
        [
            {
                "role": "model",
                "parts": [
                    {"text": "Let me look."},
                    _part("a", "look_up", LUND, thoughtSignature="c2lnMQ=="),
                    _part("b", "look_up", TURIN),
                ],
            },
            {"role": "user", "parts": [_part_result("a", "look_up", 91940), _part_result("b", "look_up", 846930)]},
        ],
        [
            {"role": "model", "parts": [_part("c", "add", SUM, thoughtSignature="c2lnMg==")]},
            {"role": "user", "parts": [_part_result("c", "add", 938870)]},
        ],
    ],
    "ollama": [
        [
            {
                "role": "assistant",
                "content": "Let me look.",
                "thinking": "Two cities.",
                "tool_calls": [_ollama_call(0, "a", "look_up", LUND), _ollama_call(1, "<own>", "look_up", TURIN)],
            },
            _ollama_result("a", "look_up", "91940"),
            _ollama_result("<own>", "look_up", "846930"),
        ],
        [
            {"role": "assistant", "content": "", "tool_calls": [_ollama_call(0, "<own>", "add", SUM)]},
            _ollama_result("<own>", "add", "938870"),
        ],
    ],
}
"""What each step adds to the conversation: the answer with its calls, and their results."""


@pytest.mark.parametrize("wire", BODIES)
async def test_calls_results_ids_and_signatures_come_back_in_the_shape_of_the_wire(wire: str) -> None:
    run, _, chunks, sent = await ask(wire, BODIES[wire], TOOLS)
    assert (run.value, len(run.steps), "".join(chunk.text for chunk in chunks)) == (ANSWER, 3, ANSWER)
    first, second, third = [body[MESSAGES[wire]] for body in sent]
    assert second[: len(first)] == first and third[: len(second)] == second
    added = [second[len(first) :], third[len(second) :]]
    # Ids that the server doesn't give are our own.
    assert json.loads(re.sub(r'"call_[0-9a-f]{16}_\d+"', '"<own>"', json.dumps(added))) == SAID[wire]


def program(events: Sequence[Any]) -> list[Any]:
    """Return what the program sees, without what providers call things and how they cut texts; thoughts are theirs."""
    seen: list[Any] = []
    results: list[Any] = []
    for event in events:
        match event:
            case TextDelta(text):
                seen.append(text if not seen or not isinstance(seen[-1], str) else seen.pop() + text)
            case ToolEnd(call):
                seen.append((call.tool_name, dict(call.tool_args)))
            case ToolResult(output):
                results.append((output.tool_name, output.result, output.is_error))
    return [*seen, *sorted(results)]  # tools of one step end in any order


async def test_the_program_sees_the_same_on_every_wire_and_on_a_scripted_backend() -> None:
    scripted = ScriptedBackend(
        [
            "Let me look.",
            ToolEnd(ToolCall("a", "look_up", LUND)),
            ToolEnd(ToolCall("b", "look_up", TURIN)),
        ],
        [ToolEnd(ToolCall("c", "add", SUM))],
        ["938870 ", "people."],
    )
    async with Agent(scripted, TOOLS).astream(QUESTION) as stream:
        wanted = program([event async for event in stream.events()])
    assert len(wanted) == 8
    for wire, bodies in BODIES.items():
        _, events, _, _ = await ask(wire, bodies, TOOLS)
        assert program(events) == wanted, wire


async def test_reasoning_goes_back_beside_its_calls_where_the_service_wants_it() -> None:
    thinking = openai.sse(
        openai.chunk(role="assistant", reasoning_content="Two cities."),
        openai.chunk(tool_calls=[openai.call('{"city": "Lund"}', "look_up", "call_a")]),
        openai.chunk("tool_calls"),
    )
    bodies = [thinking, CHAT[2]]
    with stand_in(lambda asked: Answer([bodies[len(server.asked) - 1]], KIND["chat"])) as server:
        backend = OpenAIBackend("m", service="deepseek", base_url=server.url, api_key="-")
        run = await Agent(backend, TOOLS).arun(QUESTION)
        await backend.aclose()
    assert run.value == ANSWER
    assert server.asked[1].body["messages"][1]["reasoning_content"] == "Two cities."


# -- what real providers have answered: an answer that calls tools of the program, then one of our own ---------------

DECODERS: dict[str, tuple[str, Callable[[], Decoder]]] = {
    "openai_chat": ("chat", ChatDecoder),
    "openai_responses": ("responses", ResponsesDecoder),
    "anthropic": ("anthropic", AnthropicDecoder),
    "gemini": ("gemini", GeminiDecoder),
}


def calling() -> list[Any]:
    """Return the recorded answers that call tools of the program."""
    found = []
    for dialect, (_, make) in DECODERS.items():
        for each in exchanges(dialect):
            (exchange,) = each.values
            if exchange is None or outcome(make(), exchange.body).generation.tool_calls:
                found.append(each)
    return found


def make_tool(name: str, arguments: Sequence[str]) -> Tool[..., Any]:
    """Make a tool that takes such arguments, whatever they are."""

    async def call(**given: Any) -> str:
        return f"result of {name}"

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(each, keyword, default=None, annotation=Any) for each in arguments]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = dict.fromkeys(arguments, Any)
    return as_tool(call, name)


@pytest.mark.parametrize("exchange", calling())
async def test_recorded_calls_are_answered_in_the_next_request_with_their_ids_and_signatures(
    exchange: Exchange,
) -> None:
    wire, make = DECODERS[exchange.dialect]
    answer = outcome(make(), exchange.body).generation
    tools = {call.tool_name: make_tool(call.tool_name, list(call.tool_args)) for call in answer.tool_calls}
    run, _, _, sent = await ask(wire, [exchange.body, BODIES[wire][2]], list(tools.values()))
    assert (run.value, len(sent)) == (ANSWER, 2)
    told = json.dumps(sent[1], ensure_ascii=False)
    for call, output in zip(answer.tool_calls, run.steps[0].results, strict=True):
        assert told.count(json.dumps(call.tool_call_id)) >= 2 or wire == "gemini", "its id, in the call and the result"
        assert f"result of {call.tool_name}" in told or output.is_error
    signatures = [str(getattr(block, "signature", "")) for block in answer.message.blocks]
    for secret in re.findall(r"[\w+/=-]{20,}", " ".join(signatures)):
        assert secret in told, "what the provider has signed comes back"
