"""The size of a turn, and its texts, are those of what was sent and received."""

import gc
from typing import Any

import pytest

import mellea
from mellea.core import CBlock, ImageBlock, Message, ToolCall, ToolOutput
from mellea.core.events import ToolEnd
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.stdlib.context import Turn, get_turn_texts
from mellea.stdlib.context.tokens import FILE_TOKENS, TokenCounter
from mellea.testing import ScriptedBackend


def test_an_output_with_another_input_is_another_turn() -> None:
    counter, output = TokenCounter(), ComputedModelOutputThunk("ok")
    long, short = Turn(Message("user", "x" * 800), output), Turn(Message("user", "x"), output)
    assert [counter.count_turn(turn) for turn in (long, short, long)] == [201, 2, 201]


def test_a_complete_turn_is_counted_once_and_forgotten_with_its_output() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 1

    counter = TokenCounter(count)
    turn = Turn(Message("user", "question"), ComputedModelOutputThunk("answer"))
    assert [counter.count_turn(turn) for _ in range(3)] == [2, 2, 2]
    assert counted == ["question", "answer"]
    del turn
    gc.collect()
    assert not counter._known


def test_a_budget_sees_what_a_compactor_shortened() -> None:
    def shorten(turns: Any) -> Any:
        return [Turn(Message("user", "(short)"), turn.output) for turn in turns[:-1]] + list(turns[-1:])

    backend = ScriptedBackend("Fine.")
    m = mellea.start_session(backend, ctx=mellea.ChatContext(compactor=shorten, token_budget=300))
    for number in range(4):
        m.chat(f"{number}" + "x" * 800)  # 200 tokens
    sent = [message.content[:7] for message in backend.requests[-1].messages if message.role == "user"]
    assert sent == ["(short)", "(short)", "2xxxxxx", "3xxxxxx"]


@pytest.mark.parametrize(
    ("result", "texts", "files"),
    [
        ("blue", ["blue"], 0),
        ({"sky": "blue", "wind": None}, ['{"sky": "blue", "wind": null}'], 0),
        (["a blue sky", ImageBlock(data=b"png")], ["a blue sky"], 1),
        ([CBlock("sky"), {"wind": True}], ["sky", '{"wind": true}'], 0),
    ],
    ids=repr,
)
def test_the_texts_of_a_tool_result_are_those_that_the_model_reads(result: Any, texts: list[str], files: int) -> None:
    turn = Turn(Message("tool", [ToolOutput("1", "look", result)]))
    assert get_turn_texts(turn) == (texts, [])
    assert TokenCounter(len).count_turn(turn) == sum(map(len, texts)) + files * FILE_TOKENS


def test_the_result_of_a_tool_that_ran_is_among_the_texts_as_it_was_sent() -> None:
    def look() -> dict[str, Any]:
        """Look."""
        return {"sky": "blue", "wind": None}

    backend = ScriptedBackend([ToolEnd(ToolCall("1", "look", {}))], "Blue.")
    m = mellea.start_session(backend, ctx=mellea.ChatContext())
    m.instruct("How is the sky?", tools=[look], tool_calls="run")
    assert get_turn_texts(m.ctx.turns()[-1])[1] == ["look {}", '{"sky": "blue", "wind": null}', "Blue."]
