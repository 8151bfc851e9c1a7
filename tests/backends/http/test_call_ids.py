"""Ids of calls: one for each call of an answer and of a conversation, in the shape that the next provider takes."""

from __future__ import annotations

import re

from mellea.backends.http.call_ids import CallIds, IdShape, fit_ids
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.messages import Message, user_message

NINE = IdShape(re.compile("[a-zA-Z0-9]{9}"), 9, "abc123")


def call(call_id: str) -> ToolCall:
    return ToolCall(call_id, "f", {}, "{}")


def result(call_id: str, said: str = "") -> Message:
    return Message("tool", ToolOutput(call_id, "f", said))


def ids_of(messages: object) -> list[str]:
    return [block.tool_call_id for message in messages for block in message.blocks if hasattr(block, "tool_call_id")]  # type: ignore[attr-defined]


def test_an_answers_ids_are_unique_and_the_same_each_time() -> None:
    def ids() -> list[str]:
        made = CallIds()
        return [
            made.make_id("a"),
            made.make_id("a"),
            made.make_id("", None, {"frame": 1}),
            made.make_id("", "r 1"),
            made.make_id("a"),
        ]

    assert ids() == ids() and len(set(ids())) == 5
    assert CallIds().make_id("", {"name": "f"}) != CallIds().make_id("", {"name": "g"})


def test_ids_that_fit_are_left_alone() -> None:
    messages = (user_message("a"), Message("assistant", [call("abcABC123")]), result("abcABC123"))
    assert fit_ids(messages, NINE) is messages


def test_a_call_and_its_result_keep_to_each_other() -> None:
    turn = [Message("assistant", [call("functions.f:0"), call("x" * 80)]), result("x" * 80), result("functions.f:0")]
    one, two, of_two, of_one = ids_of(fit_ids(turn, NINE))
    assert (one, two) == (of_one, of_two) and one != two and NINE.fits(one) and NINE.fits(two)


def test_an_id_that_comes_again_in_a_later_turn_is_another() -> None:
    turn = [Message("assistant", [call("call_0")]), result("call_0")]
    one, of_one, two, of_two = ids_of(fit_ids([*turn, *turn]))
    assert one == of_one == "call_0" and two == of_two != one
    left_open = [Message("assistant", [call("call_0")]), *turn]
    one, two, of_two = ids_of(fit_ids(left_open))
    assert two == of_two != one


def test_two_calls_under_one_id_take_their_results_in_order() -> None:
    one, two, of_one, of_two = ids_of(fit_ids([Message("assistant", [call("a"), call("a")]), result("a"), result("a")]))
    assert (one, two) == (of_one, of_two) and one != two


def test_a_conversation_that_grows_keeps_its_beginning() -> None:
    turn = [Message("assistant", [call("call 0")]), result("call 0")]
    assert ids_of(fit_ids([*turn, *turn, *turn], NINE))[:4] == ids_of(fit_ids([*turn, *turn], NINE))
