"""A compactor can shorten the results of tools, wherever they are in a turn, and nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

import mellea
from mellea.core import CBlock, ImageBlock, Message, ToolCall, ToolOutput
from mellea.core.events import ToolEnd
from mellea.core.history import find_faults
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import BackendError, UsageError
from mellea.stdlib.context import Turn, get_turn_texts, replace_tool_results
from mellea.testing import ScriptedBackend


def read_log() -> str:
    """Read the log."""
    return "a line of the log\n" * 100


def shorten(output: ToolOutput) -> ToolOutput:
    return replace(output, result="(left out)")


CALL = [ToolEnd(ToolCall("1", "read_log", {}))]


def test_a_compactor_shortens_the_results_of_calls_that_were_run_for_an_answer() -> None:
    backend = ScriptedBackend(CALL, "Nothing special.", "Fine.", "Bye.")
    context = mellea.ChatContext(compactor=lambda turns: [replace_tool_results(turn, shorten) for turn in turns])
    m = mellea.start_session(backend, ctx=context)
    first = m.instruct("What does the log say?", tools=[read_log], tool_calls="run")
    m.chat("Thank you.")
    m.chat("Bye.")
    for request in backend.requests[2:]:
        roles = [message.role for message in request.messages[:4]]
        assert roles == ["user", "assistant", "tool", "assistant"]
        assert request.messages[1].tool_calls[0].tool_name == "read_log"
        assert [block.result for block in request.messages[2].blocks if isinstance(block, ToolOutput)] == ["(left out)"]
        assert request.messages[3].text == "Nothing special."
        assert not find_faults(request.messages)
    assert read_log() in get_turn_texts(Turn(None, first))[1]  # the user's own thunk is unchanged


def test_results_in_an_input_are_replaced_beside_everything_else() -> None:
    image = ImageBlock(data=b"png")
    said = Message("tool", [ToolOutput("1", "look", "x" * 900), CBlock("text"), image])
    answer = ComputedModelOutputThunk("ok")
    turn = replace_tool_results(Turn(said, answer), shorten)
    assert turn.output is answer
    assert turn.input.blocks[1:] == said.blocks[1:]
    assert get_turn_texts(turn) == (["(left out)", "text"], ["ok"])


def test_a_typed_answer_stays_typed_and_a_turn_stays_of_its_class() -> None:
    @dataclass(frozen=True, slots=True)
    class CountedTurn(Turn):
        count: int = 0

    m = mellea.start_session(ScriptedBackend(CALL, "42"), ctx=mellea.ChatContext())
    m.instruct("How many?", format=int, tools=[read_log], tool_calls="run")
    (turn,) = m.ctx.turns()
    changed = replace_tool_results(CountedTurn(turn.input, turn.output, 3), shorten)
    assert isinstance(changed, CountedTurn) and changed.count == 3
    assert changed.output is not None and changed.output.parsed == 42
    assert "(left out)" in get_turn_texts(changed)[1]


@pytest.mark.parametrize(
    "turn",
    [
        Turn("a text", ComputedModelOutputThunk("ok")),
        Turn(Message("user", "hi")),
        Turn(None, ComputedModelOutputThunk("ok")),
        Turn(Message("tool", ToolOutput("1", "search", "found", is_builtin=True))),
    ],
    ids=["text", "unanswered", "no input", "a provider's own tool"],
)
def test_a_turn_without_such_results_is_returned_itself(turn: Turn) -> None:
    assert replace_tool_results(turn, shorten) is turn


def test_a_function_that_changes_nothing_leaves_the_turn() -> None:
    turn = Turn(Message("tool", ToolOutput("1", "look", "blue")))
    assert replace_tool_results(turn, lambda output: output) is turn


@pytest.mark.parametrize("wrong", [None, "short", ToolOutput("2", "look", "x")], ids=repr)
def test_what_is_no_result_of_the_same_call_is_rejected(wrong: Any) -> None:
    with pytest.raises(UsageError, match="call '1'"):
        replace_tool_results(Turn(Message("tool", ToolOutput("1", "look", "blue"))), lambda output: wrong)


@pytest.mark.anyio
async def test_a_failed_turn_is_rejected() -> None:
    m = mellea.start_session(ScriptedBackend(BackendError("no")), ctx=mellea.ChatContext())
    thunk = await m.ainstruct("x", await_result=False)
    with pytest.raises(BackendError, match="no"):
        await thunk.avalue()
    with pytest.raises(UsageError, match="failed"):
        replace_tool_results(Turn("x", thunk), shorten)
