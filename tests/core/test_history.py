"""Faults of a history are found, named and mended, and a sound history is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.core.blocks import CBlock, ToolCall, ToolOutput
from mellea.core.history import NO_RESULT, HistoryFault, find_faults, repair_history
from mellea.core.messages import Message, assistant_message, user_message
from mellea.errors import UsageError


def call(call_id: str, *, is_builtin: bool = False) -> ToolCall:
    return ToolCall(call_id, "look", {}, is_builtin=is_builtin)


def output(call_id: str, result: Any = "seen") -> ToolOutput:
    return ToolOutput(call_id, "look", result)


def tool(call_id: str, result: Any = "seen") -> Message:
    return Message("tool", output(call_id, result))


def missing(call_id: str) -> Message:
    return Message("tool", ToolOutput(call_id, "look", NO_RESULT, is_error=True))


ASK, DONE = user_message("Look."), assistant_message("A cat.")
SOUND = [ASK, assistant_message("Yes.", call("a"), call("b")), tool("b"), tool("a"), DONE, ASK, DONE]


@pytest.mark.parametrize(
    "history",
    [
        [],
        SOUND,
        [ASK, assistant_message(call("a"), call("b")), Message("tool", [output("a"), output("b")]), DONE],
        [ASK, assistant_message(call("0")), tool("0"), DONE, ASK, assistant_message(call("0")), tool("0"), DONE],
        [ASK, assistant_message(call("0"), call("0")), tool("0"), tool("0"), DONE],
        [ASK, assistant_message(call("s", is_builtin=True), "A cat."), ASK],
    ],
)
def test_a_sound_history_is_left_as_it_is(history: list[Message]) -> None:
    assert find_faults(history) == ()
    assert repair_history(history) == tuple(history)


@pytest.mark.parametrize(
    ("history", "faults", "repaired"),
    [
        (
            [ASK, assistant_message(call("a"), call("b")), tool("b"), ASK],
            [("unanswered", 1, "a")],
            [ASK, assistant_message(call("a"), call("b")), missing("a"), tool("b"), ASK],
        ),
        ([ASK, tool("z"), DONE], [("orphan", 1, "z")], [ASK, DONE]),
        (
            [ASK, assistant_message(call("a")), tool("a", 1), tool("a", 2), DONE],
            [("duplicate", 3, "a")],
            [ASK, assistant_message(call("a")), tool("a", 1), DONE],
        ),
        (
            [ASK, assistant_message(call("a")), ASK, tool("a"), DONE],
            [("misplaced", 3, "a")],
            [ASK, assistant_message(call("a")), tool("a"), ASK, DONE],
        ),
        (
            [ASK, assistant_message(call("0")), ASK, assistant_message(call("0")), tool("0"), DONE],
            [("unanswered", 1, "0")],
            [ASK, assistant_message(call("0")), missing("0"), ASK, assistant_message(call("0")), tool("0"), DONE],
        ),
        (
            [ASK, assistant_message("x", call("a"), output("a"), "y")],
            [("misplaced", 1, "a")],
            [ASK, assistant_message("x", call("a"), "y"), tool("a")],
        ),
        ([Message("user", ["x", output("z")])], [("orphan", 0, "z")], [user_message("x")]),
    ],
)
def test_faults_are_found_and_mended(history: Any, faults: Any, repaired: Any) -> None:
    assert find_faults(history) == tuple(HistoryFault(kind, at, name, "look") for kind, at, name in faults)
    assert repair_history(history) == tuple(repaired)


def test_a_fault_says_what_it_is() -> None:
    (fault,) = find_faults([ASK, tool("z")])
    assert str(fault) == "the result 'z' of the tool 'look' in message 1 has no call before it"


def test_histories_in_the_form_of_openais_chat_are_taken_too() -> None:
    history = [{"role": "user", "content": "Look."}, {"role": "tool", "tool_call_id": "z", "content": "seen"}]
    assert [fault.kind for fault in find_faults(history)] == ["orphan"]
    assert repair_history(history) == (ASK,)
    with pytest.raises(UsageError):
        repair_history(["x"])


_ids = st.sampled_from(["a", "b"])
_blocks = st.builds(CBlock, st.just("text")) | st.builds(call, _ids) | st.builds(output, _ids, st.integers(0, 9))
_histories = st.lists(
    st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), st.lists(_blocks, max_size=3)), max_size=8
)


@given(_histories)
def test_what_was_repaired_is_sound_and_nothing_but_results_was_touched(history: list[Message]) -> None:
    repaired = repair_history(history)
    assert find_faults(repaired) == ()
    assert repair_history(repaired) == repaired
    assert _others(repaired) == _others(history)
    if not find_faults(history):
        assert repaired == tuple(history)
    given = [block for message in history for block in message.blocks if isinstance(block, ToolOutput)]
    kept = [block for message in repaired for block in message.blocks if isinstance(block, ToolOutput)]
    assert all(block in given for block in kept if block.result != NO_RESULT)


def _others(messages: Any) -> list[Any]:
    return [block for message in messages for block in message.blocks if not isinstance(block, ToolOutput)]
