"""Streams for the clients of the AI SDK, and what the message that they build has to hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import BaseModel

import mellea
from mellea.core.blocks import CBlock, ImageBlock, Source, ToolOutput
from mellea.core.messages import parse_tool_call
from mellea.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    Event,
    FileEvent,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
)
from mellea.serve.ai_sdk.ui_stream import ui
from mellea.serve.response import StreamResponse
from mellea.stdlib.requirements import Requirement, req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.stdlib.tools import ToolLoop, ToolReturn
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Gate, Pause

__all__ = ["CASES", "SECRET", "Case", "describe"]

SECRET = b"a secret of the tests"


@dataclass(frozen=True)
class Case:
    """A stream, and what comes of it.

    Args:
        make: makes the stream.
        message: the parts of the message, described; those of version 5 if they differ, and of version 7.
        ending: `finish` with a reason, `error` or `abort`.
        arguments: of `ui`.
    """

    make: Callable[[], Any]
    message: list[str]
    ending: str = "finish stop"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    in_version_5: list[str] | None = None
    in_version_7: list[str] | None = None

    def expect(self, version: int) -> list[str]:
        special = {5: self.in_version_5, 7: self.in_version_7}.get(version)
        return self.message if special is None else special

    def answer(self, version: Any) -> StreamResponse:
        return ui(self.make(), version=version, **{"keep_alive": 60.0, **self.arguments})


def describe(parts: list[dict[str, Any]]) -> list[str]:
    """Describe the parts of a message in a line each."""
    return [_describe(part) for part in parts]


def _describe(part: Mapping[str, Any]) -> str:
    kind = part["type"]
    if kind == "step-start":
        return "step"
    if kind in ("text", "reasoning"):
        signature = (part.get("providerMetadata") or {}).get("mellea", {}).get("signature")
        return f"{kind}: {part['text']}{f' [{signature}]' if signature else ''}"
    if kind.startswith("tool-"):
        shown = next((part[name] for name in ("output", "errorText") if part.get(name) is not None), None)
        said = "" if shown is None else f" {json.dumps(shown)}"
        by = " by the provider" if part.get("providerExecuted") else ""
        return f"{kind} {part['toolCallId']} {part['state']}{by}{said}"
    if kind == "file":
        return f"file {part['mediaType']} {part['url'][:40]}"
    if kind.startswith("source-"):
        return f"{kind} {part.get('url') or part.get('title')}"
    assert kind.startswith("data-"), kind
    return f"{kind} {json.dumps(part['data'])}"


def session(*replies: Any, **arguments: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **arguments))


def write(*script: Any, **arguments: Any) -> Callable[[], Any]:
    return lambda: session([*script], **arguments).astream("Write")


def call(number: int, name: str, args: str, *, is_streamed: bool = True) -> list[Event]:
    """The events of one call of a tool."""
    end = ToolEnd(parse_tool_call(f"c{number}", name, args))
    if not is_streamed:
        return [end]
    half = len(args) // 2
    deltas = [ToolDelta(f"c{number}", args[:half]), ToolDelta(f"c{number}", args[half:])]
    return [ToolStart(f"c{number}", name), *deltas, end]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail(what: str) -> str:
    """Fail."""
    raise ValueError(f"no {what} today")


async def count(to: int) -> AsyncIterator[Any]:
    """Count, and say so."""
    for number in range(1, to + 1):
        yield number
    yield ToolReturn(to, f"{to} counted")


def draw() -> list[Any]:
    """Draw a picture."""
    return [CBlock("here it is"), ImageBlock(data=b"png")]


@mellea.tool(requires_approval=True)
def delete(path: str) -> str:
    """Delete a file."""
    return f"{path} is gone"


@mellea.tool(runs="outside")
def locate() -> str:
    """Find out where the user is."""
    raise AssertionError("it runs outside")


def agent(*replies: Any, tools: list[Any], prompt: str = "Go", **arguments: Any) -> Callable[[], Any]:
    return lambda: mellea.Agent(session(*replies), tools, **arguments).astream(prompt)


def nested() -> Any:
    inner = mellea.Agent(session(["found ", "it"]), name="researcher")
    return mellea.Agent(session(call(1, "researcher", '{"task":"look"}'), ["Found."]), [inner]).astream("Go")


def nested_approval() -> Any:
    inner = mellea.Agent(session(call(7, "delete", '{"path":"x"}')), [delete], name="cleaner")
    return mellea.Agent(session(call(1, "cleaner", '{"task":"clean"}'), ["Done."]), [inner]).astream("Go")


GOOD = req("be good", validation_fn=simple_validate(lambda text: text.startswith("good")))
NOT_BAD = Requirement("not bad", stream_validation_fn=lambda chunk: "bad" not in chunk, scope="sentence")
TWICE = RejectionSamplingStrategy(loop_budget=2)


def attempts(*replies: Any, **arguments: Any) -> Callable[[], Any]:
    return lambda: session(*replies).astream("Write", requirements=[GOOD], strategy=TWICE, **arguments)


def released() -> Any:
    m = session(["One is fine. ", "Two is bad. ", "Three."], [" Two is fine."])
    return m.astream("Write", requirements=[NOT_BAD], strategy=TWICE, release="sentence")


def stopped() -> Any:
    gate = Gate()
    m = session(["Once ", gate, Pause(float("inf"))])

    async def stop_soon() -> AsyncIterator[Any]:
        stream = m.astream("Write")
        async for event in stream.events():
            yield event
            await stream.aclose()

    return stop_soon()


class Recipe(BaseModel):
    title: str
    steps: list[str]


RECIPE = '{"title":"Soup","steps":["cut","cook"]}'


def typed(*script: Any, format: Any = Recipe) -> Callable[[], Any]:
    return lambda: session([*script]).astream("Write", format=format)


async def own_pieces() -> AsyncIterator[Any]:
    yield "from "
    await anyio.sleep(0)
    yield TextDelta("an iterator")
    yield StreamEnd("stop")


TWO_CALLS = [*call(1, "add", '{"a":1,"b":2}'), *call(2, "add", '{"a":3,"b":4}')]
ADDED = "tool-add c1 output-available 3"

CASES: dict[str, Case] = {
    "text": Case(write("Once ", "upon ", "a time"), ["step", "text: Once upon a time"]),
    "nothing": Case(write(), []),
    "unicode": Case(write("🐟 ", "é \u2028 ", "\ud83d", "\udc1f"), ["step", "text: 🐟 é \u2028 \ufffd\ufffd"]),
    "one piece of 200,000": Case(write("x" * 200_000), ["step", "text: " + "x" * 200_000]),
    "length": Case(write("Once", StreamEnd("length")), ["step", "text: Once"], "finish length"),
    "content filter": Case(write("Once", StreamEnd("content_filter")), ["step", "text: Once"], "finish content-filter"),
    "other": Case(write("Once", StreamEnd("other")), ["step", "text: Once"], "finish other"),
    "usage": Case(write("x", usage=Usage(3, 1)), ["step", "text: x"]),
    "metadata": Case(write("x"), ["step", "text: x"], arguments={"message_id": "m1", "metadata": {"by": "us"}}),
    "plain stream": Case(lambda: session(["a", "b"]).stream("Write"), ["step", "text: ab"]),
    "own pieces": Case(own_pieces, ["step", "text: from an iterator"]),
    "silence": Case(write("a", Pause(0.1), "b"), ["step", "text: ab"], arguments={"keep_alive": 0.02}),
    "reasoning": Case(
        write(ReasoningDelta("let "), ReasoningDelta("me see"), "Yes"), ["step", "reasoning: let me see", "text: Yes"]
    ),
    "signed reasoning": Case(
        write(ReasoningDelta("hm"), ReasoningDelta("", "anthropic:sig"), ReasoningDelta("and"), "Yes"),
        ["step", "reasoning: hm [anthropic:sig]", "reasoning: and", "text: Yes"],
    ),
    "hidden reasoning": Case(
        write(ReasoningDelta("", "anthropic:hidden"), "Yes"), ["step", "reasoning:  [anthropic:hidden]", "text: Yes"]
    ),
    "file": Case(
        write(FileEvent("image/png", b"png", filename="a.png"), FileEvent("image/png", url="https://x.test/b.png")),
        ["step", "file image/png data:image/png;base64,cG5n", "file image/png https://x.test/b.png"],
    ),
    "sources": Case(
        write("It is. ", SourceEvent(Source("https://x.test", "X")), SourceEvent(Source(None, "A book"))),
        ["step", "text: It is. ", "source-url https://x.test", "source-document A book"],
    ),
    "provider's tool": Case(
        write(
            BuiltinToolStart("b1", "web_search"),
            ToolDelta("b1", '{"q":"x"}'),
            BuiltinToolEnd(parse_tool_call("b1", "web_search", '{"q":"x"}', is_builtin=True)),
            BuiltinToolResult(ToolOutput("b1", "web_search", ["found"], is_builtin=True)),
            "It is.",
        ),
        ["step", 'tool-web_search b1 output-available by the provider ["found"]', "text: It is."],
    ),
    "tool": Case(
        agent(["Let me see. ", *call(1, "add", '{"a":1,"b":2}')], ["It is 3."], tools=[add]),
        ["step", "text: Let me see. ", ADDED, "step", "text: It is 3."],
    ),
    "tool in one piece": Case(
        agent(call(1, "add", '{"a":1,"b":2}', is_streamed=False), ["3"], tools=[add]),
        ["step", ADDED, "step", "text: 3"],
    ),
    "two tools": Case(
        agent(TWO_CALLS, ["3, 7"], tools=[add], loop=ToolLoop(concurrency=1)),
        ["step", ADDED, "tool-add c2 output-available 7", "step", "text: 3, 7"],
    ),
    "the same id in two steps": Case(
        agent(call(1, "add", '{"a":1,"b":2}'), call(1, "add", '{"a":3,"b":4}'), ["7"], tools=[add]),
        ["step", ADDED, "step", "tool-add c1#2 output-available 7", "step", "text: 7"],
    ),
    "tool that fails": Case(
        agent(call(1, "fail", '{"what":"luck"}'), ["Sorry."], tools=[fail]),
        ["step", 'tool-fail c1 output-error "ValueError: no luck today"', "step", "text: Sorry."],
    ),
    "arguments that are no object": Case(
        agent(call(1, "add", '{"a":'), ["Sorry."], tools=[add]),
        ["step", "tool-add c1 output-error …", "step", "text: Sorry."],
    ),
    "tool with progress": Case(
        agent(call(1, "count", '{"to":3}'), ["Done."], tools=[count]),
        ["step", 'tool-count c1 output-available "3 counted"', "step", "text: Done."],
    ),
    "tool that draws": Case(
        agent(call(1, "draw", "{}"), ["Done."], tools=[draw]),
        [
            "step",
            'tool-draw c1 output-available {"type": "content", "value": [{"type": "text", "text": "here it is"}, '
            '{"type": "file-data", "data": "cG5n", "mediaType": "image/png"}]}',
            "step",
            "text: Done.",
        ],
    ),
    "sub-agent": Case(nested, ["step", 'tool-researcher c1 output-available "found it"', "step", "text: Found."]),
    "approval": Case(
        agent(["Careful. ", *call(1, "delete", '{"path":"x"}')], tools=[delete]),
        ["step", "text: Careful. ", "tool-delete c1 approval-requested"],
        "finish tool-calls",
        {"secret": SECRET},
        in_version_5=["step", "text: Careful. ", "tool-delete c1 input-available", "data-approval …"],
    ),
    "approval among other tools": Case(
        agent([*call(1, "add", '{"a":1,"b":2}'), *call(2, "delete", '{"path":"x"}')], tools=[add, delete]),
        ["step", ADDED, "tool-delete c2 approval-requested"],
        "finish tool-calls",
        in_version_5=["step", ADDED, "tool-delete c2 input-available", "data-approval …"],
    ),
    "approval in a sub-agent": Case(
        nested_approval,
        ["step", "tool-cleaner c1 approval-requested"],
        "finish tool-calls",
        in_version_5=["step", "tool-cleaner c1 input-available", "data-approval …"],
    ),
    "tool that runs outside": Case(
        agent(call(1, "locate", "{}"), tools=[locate]),
        ["step", "tool-locate c1 input-available"],
        "finish tool-calls",
    ),
    "limit": Case(
        agent(call(1, "add", '{"a":1,"b":2}'), tools=[add], loop=ToolLoop(1, on_limit="return")),
        ["step", "tool-add c1 input-available"],
        "finish tool-calls",
    ),
    "accepted at once": Case(attempts(["good ", "one"]), ["step", "text: good one"]),
    "rejected, then accepted": Case(
        attempts(["bad ", "one"], ["good ", "one"]), ["step", "text: good one"], arguments={"shows_attempts": True}
    ),
    "none is accepted": Case(attempts(["first"], ["second"]), ["step", "text: first"]),
    "attempts with tools": Case(
        attempts(
            call(1, "add", '{"a":1,"b":2}'),
            ["bad"],
            call(1, "add", '{"a":1,"b":2}'),
            ["good"],
            tools=[add],
            tool_calls="run",
        ),
        ["step", ADDED, "step", "text: good"],
        in_version_7=["step", "step", ADDED, "step", "text: good"],
    ),
    "released text stays": Case(released, ["step", "text: One is fine. Two is fine."]),
    "attempt that fails": Case(
        attempts(["bad"], ["go", ValueError("x")]), [], "error", in_version_7=["step", "text: go"]
    ),
    "typed": Case(typed(*RECIPE), ["data-recipe " + json.dumps(json.loads(RECIPE))], arguments={"data": "recipe"}),
    "typed items": Case(typed("[1, 2", ", 3]", format=list[int]), ["data-n [1, 2, 3]"], arguments={"data": "n"}),
    "typed as text": Case(typed(RECIPE), ["step", f"text: {RECIPE}"]),
    "typed, and wrong": Case(typed("no recipe"), ["step", "text: no recipe"], "error"),
    "error at once": Case(write(ValueError("secret")), [], "error"),
    "error in mid-stream": Case(write("Once ", ValueError("secret")), ["step", "text: Once "], "error"),
    "error in a call": Case(
        write(ToolStart("c1", "add"), ToolDelta("c1", '{"a"'), ValueError("secret")),
        ["step", "tool-add c1 input-streaming"],
        "error",
    ),
    "error that is told": Case(
        write("Once ", ValueError("the reason")), ["step", "text: Once "], "error", {"error_text": str}
    ),
    "cut": Case(write("Once ", is_cut=True), ["step", "text: Once "], "error"),
    "stopped": Case(stopped, ["step", "text: Once "], "abort"),
}
