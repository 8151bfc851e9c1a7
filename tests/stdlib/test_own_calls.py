"""Calls that the library makes for itself take nothing that shapes the user's answer, whatever level it was set at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

import mellea
from mellea.core.events import StreamEnd, TextDelta, ToolEnd
from mellea.core.options import strip_shape
from mellea.stdlib.context import SummaryCompactor
from mellea.stdlib.requirements import Judge, req
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

LEVELS = ["call", "session", "block", "backend"]

YES = json.dumps({"reason": "It greets the reader kindly.", "verdict": "yes"})


def tool() -> str:
    """Do it."""
    return "done"


SHAPES: list[dict[str, Any]] = [
    {"max_tokens": 8},
    {"stop": ["}"]},
    {"seed": 7},
    {"tools": [tool]},
    {"tools": [tool], "tool_choice": "required"},
    {"system_prompt": "Answer as a pirate."},
    {"extra_body": {"max_completion_tokens": 8, "options": {"num_predict": 8, "top_k": 1}, "provider": "x"}},
]


def obedient(answer: str) -> Any:
    """A model that keeps to the length and stop sequences it is given, as providers do, four letters to a token."""

    def reply(request: Any) -> Any:
        text = YES if request.output_schema and "verdict" in str(request.output_schema) else answer
        cut = text[: 4 * request.options.get("max_tokens", 1000)]
        for stop in request.options.get("stop", ()):
            cut = cut.partition(stop)[0]
        return [TextDelta(cut)] if cut == text else [TextDelta(cut), StreamEnd("length")]

    return reply


def started(level: str, options: dict[str, Any], reply: Any, **more: Any) -> tuple[Any, ScriptedBackend, Any, Any]:
    backend = ScriptedBackend(reply, model_options=options if level == "backend" else None)
    m = mellea.start_session(backend, model_options=options if level == "session" else None, **more)
    return m, backend, options if level == "call" else {}, options if level == "block" else {}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("options", SHAPES, ids=lambda options: "+".join(options))
async def test_a_judge_takes_nothing_that_shapes_the_answer(level: str, options: dict[str, Any]) -> None:
    others = {"temperature": 0.5, "timeout": 9.0, "extra_headers": {"x-team": "a"}}
    for judge in (None, Judge()):
        m, backend, call, block = started(level, {**options, **others}, obedient("Hello, reader."))
        with mellea.options(block):
            thunk = await m.ainstruct("Greet.", requirements=[req("is kind", judge=judge)], model_options=call)
        assert thunk.success
        asked, judged = backend.requests
        assert asked.options != judged.options or asked.tools or "system_prompt" in options
        assert judged.tools == ()
        assert not judged.options.keys() & {"max_tokens", "stop", "seed", "tool_choice"}
        assert [message.role for message in judged.messages] == ["user"]
        body = judged.options.get("extra_body", {})
        assert body in ({}, {"options": {"top_k": 1}, "provider": "x"})
        if level in ("block", "backend"):  # what doesn't shape an answer is for all calls
            assert (judged.options["temperature"], judged.deadlines.total) == (0.5, 9.0)
            assert judged.options["extra_headers"] == {"x-team": "a"}


@pytest.mark.parametrize("level", LEVELS)
async def test_a_judge_has_options_of_its_own(level: str) -> None:
    m, backend, call, block = started(level, {"max_tokens": 8, "seed": 1}, obedient("Hello."))
    judge = Judge(m, model_options={"max_tokens": 99, "seed": 2, "system_prompt": "Be strict."})
    with mellea.options(block):
        await m.ainstruct("Greet.", requirements=[req("is kind", judge=judge)], model_options=call)
    assert backend.requests[1].options == {"max_tokens": 99, "seed": 2}
    assert backend.requests[1].messages[0].content == "Be strict."


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_shared", [True, False])
async def test_a_summary_of_the_conversation_isnt_as_short_as_the_answer(level: str, is_shared: bool) -> None:
    summary = "The user has a cat, which is grey, and a dog."
    reply = obedient(summary)
    m, backend, call, block = started(level, {"max_tokens": 2, "seed": 7}, reply)
    other = backend if is_shared else ScriptedBackend(reply, model_options={"seed": 3})
    helper = mellea.start_session(other, model_options={"temperature": 0.25})
    m.ctx = mellea.ChatContext(compactor=SummaryCompactor(helper.ainstruct, keep=1, tokens=2))
    with mellea.options(block):
        for text in ("I have a cat.", "And a dog.", "What have I?"):
            await m.achat(text, model_options=call)
    assert summary in [message.content for message in backend.requests[-1].messages]
    asked = [request for request in other.requests if request.options.get("temperature") == 0.25]
    assert asked
    assert all(request.options.get("max_tokens") is None for request in asked)
    assert [request.options.get("seed") for request in asked] == [None if is_shared else 3] * len(asked)


@dataclass
class Person:
    name: str
    home: str


PERSON = '{"name": "Ann Appleseed", "home": "Bergen, Norway"}'


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 8}, {"stop": [","]}, {"seed": 7}, {"tools": [tool], "tool_choice": "required"}],
    ids=lambda options: "+".join(options),
)
async def test_the_repair_of_a_format_isnt_cut_short_and_calls_no_tools(level: str, options: dict[str, Any]) -> None:
    def reply(request: Any) -> Any:
        return obedient("Ann lives there" if len(backend.requests) < 2 else PERSON)(request)

    m, backend, call, block = started(level, {**options, "system_prompt": "You know Ann."}, reply)
    with mellea.options(block):
        thunk = await m.ainstruct("Who is she?", format=Person, model_options=call)
    assert thunk.parsed == Person("Ann Appleseed", "Bergen, Norway")
    first, repair = backend.requests
    assert first.options.keys() & {"max_tokens", "stop", "seed", "tool_choice"}
    assert (dict(repair.options), repair.tools) == ({}, ())
    assert repair.output_schema == first.output_schema
    assert [request.messages[0].content for request in backend.requests] == ["You know Ann."] * 2


async def test_a_repair_runs_no_tool_again() -> None:
    ran: list[int] = []

    def count() -> str:
        """Count."""
        ran.append(1)
        return "one"

    call = [ToolEnd(mellea.core.ToolCall("1", "count", {}))]
    m = mellea.start_session(ScriptedBackend(call, "It is one.", "1"))
    assert (await m.ainstruct("x", format=int, tools=[count], tool_calls="run")).parsed == 1
    assert ran == [1]


async def test_a_repair_knows_what_the_tools_gave() -> None:
    call = [ToolEnd(mellea.core.ToolCall("1", "count", {}))]
    backend = ScriptedBackend(call, "It is one.", "1")

    def count() -> str:
        """Count."""
        return "one"

    thunk = await mellea.start_session(backend).ainstruct("How many?", format=int, tools=[count], tool_calls="run")
    assert thunk.parsed == 1
    shown = [(message.role, message.text) for message in backend.requests[2].messages]
    assert [role for role, _ in shown] == ["user", "assistant", "tool", "assistant", "user"]
    assert shown[3] == ("assistant", "It is one.")
    assert shown[4][1].startswith("Your answer doesn't meet:")
    assert backend.requests[2].messages[2].blocks == backend.requests[1].messages[2].blocks


async def test_attempts_of_a_strategy_are_the_users_own() -> None:
    backend = ScriptedBackend("no", "no", "no")
    no = req("r", validation_fn=lambda _: False)
    strategy = mellea.stdlib.sampling.RepairTemplateStrategy(loop_budget=3)
    options = {"max_tokens": 5, "seed": 1}
    await mellea.start_session(backend).ainstruct("x", requirements=[no], strategy=strategy, model_options=options)
    assert [dict(request.options) for request in backend.requests] == [
        {"max_tokens": 5, "seed": seed} for seed in (1, 2, 3)
    ]


def test_what_shapes_an_answer() -> None:
    options = {"temperature": 0, "max_tokens": 1, "extra_body": {"generationConfig": {"maxOutputTokens": 1, "topK": 2}}}
    assert strip_shape(options) == {"temperature": 0, "extra_body": {"generationConfig": {"topK": 2}}}
    assert options["extra_body"] == {"generationConfig": {"maxOutputTokens": 1, "topK": 2}}
