"""A conversation that is saved goes on as if it had never been: roles, calls, results, pins and limits come back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import mellea
from mellea import _saved_kinds
from mellea.core import ToolCall
from mellea.core.events import StreamEnd, ToolEnd, ToolStart
from mellea.core.messages import Message
from mellea.core.serialise import from_json, to_json
from mellea.errors import BackendError, StateError, UsageError
from mellea.stdlib.components import Conversation, Document
from mellea.stdlib.context import ChatContext, WindowCompactor
from mellea.testing import Pause, ScriptedBackend

_CALL = [ToolStart("1", "population"), ToolEnd(ToolCall("1", "population", {"city": "Porto"})), StreamEnd("tool_call")]


def population(city: str) -> int:
    """Look up the population of a city."""
    return 231_800


def ask_next(context: Any) -> list[Message]:
    """Return what the next call in a context is shown."""
    backend = ScriptedBackend("Yes.")
    mellea.start_session(backend, ctx=context).chat("And now?")
    return list(backend.requests[0].messages)


def make_conversation() -> mellea.MelleaSession:
    backend = ScriptedBackend("Hello, Ada.", _CALL, "There are 231,800.", "4", "Hm.")
    context = ChatContext(window_size=9, token_budget=5000, pinned=[mellea.system_message("Be brief.")])
    m = mellea.start_session(backend, ctx=context)
    m.chat("I am Ada.")
    m.ctx = m.ctx.pin()
    m.chat("How many people live in Porto?", tools=[population], tool_calls="run")
    m.instruct("Add {{a}} and {{b}}.", user_variables={"a": 2, "b": 2}, format=int)
    for _ in m.stream("Go on."):
        pass
    return m


def test_a_loaded_conversation_goes_on_as_if_it_had_never_been_saved() -> None:
    before = make_conversation().ctx
    after = from_json(to_json(before), ChatContext)
    assert ask_next(after) == ask_next(before)
    roles = [message.role for message in ask_next(after)]
    assert roles == ["system", "user", "assistant", "user", "assistant", "tool", "assistant",
                     "user", "assistant", "user", "assistant", "user"]  # fmt: skip
    assert (after.window_size, after.token_budget, str(after)) == (9, 5000, "Hm.")
    assert to_json(after) == to_json(before)
    # Pins stay when the rest has gone, and those of the constructor after a reset.
    narrow = [ask_next(context.change_settings(window_size=1)) for context in (before, after)]
    assert narrow[0] == narrow[1] and [message.content for message in narrow[1]][:2] == ["Be brief.", "I am Ada."]
    assert ask_next(after.empty()) == ask_next(before.empty())
    turn = after.turns()[1]
    assert turn.output is not None and turn.output.value == "Hello, Ada."


def test_a_turn_of_several_messages_stays_one() -> None:
    said = Conversation([mellea.user_message("a"), mellea.assistant_message("b"), mellea.user_message("c")])
    before = ChatContext().add(said).add("d")
    after = from_json(to_json(before))
    assert len(after.turns()) == 2 and ask_next(after) == ask_next(before)


def test_components_are_saved_as_the_model_is_shown_them() -> None:
    before = ChatContext(pinned=["Be kind.", Document("The sea is blue.", "A report")]).add("Hello")
    after = from_json(to_json(before))
    assert ask_next(after) == ask_next(before) and ask_next(after.empty()) == ask_next(before.empty())


def test_a_thunk_is_saved_as_the_messages_of_its_answer() -> None:
    m = make_conversation()
    answer = m.ctx.turns()[2].output
    assert [message.role for message in from_json(to_json(answer), Message)] == ["assistant", "tool", "assistant"]
    assert from_json(to_json(m.ctx.last_output())) == mellea.assistant_message("Hm.")
    turns = [value for turn in m.ctx.turns()[:2] for value in (turn.input, turn.output) if value is not None]
    saved = from_json(to_json(turns), Message)
    assert [(message.role, message.content) for message in saved] == [
        ("system", "Be brief."), ("user", "I am Ada."), ("assistant", "Hello, Ada.")
    ]  # fmt: skip
    assert [message.role for message in ask_next(ChatContext(pinned=saved))] == ["system", "user", "assistant", "user"]


def test_turns_that_failed_are_left_out() -> None:
    m = mellea.start_session(ScriptedBackend("a", BackendError("no"), "b"), ctx=ChatContext())
    m.chat("1")
    with pytest.raises(BackendError):
        m.chat("2")
    m.chat("3")
    assert len(from_json(to_json(m.ctx)).turns()) == 2 and ask_next(from_json(to_json(m.ctx))) == ask_next(m.ctx)


@pytest.mark.anyio
async def test_what_is_not_complete_is_refused() -> None:
    m = mellea.start_session(ScriptedBackend(["a", Pause(30), "b"]), ctx=ChatContext())
    thunk = await m.ainstruct("1", await_result=False)
    for value in (m.ctx, thunk, [thunk]):
        with pytest.raises(UsageError, match="await"):
            to_json(value)
    await m.aclose()


def test_functions_are_given_again() -> None:
    before = ChatContext(compactor=WindowCompactor(1), window_size=5).add("a").add("b").add("c")
    with pytest.raises(UsageError, match=r"change_settings\(compactor=None"):
        to_json(before)
    with pytest.raises(UsageError, match="change_settings"):
        to_json(ChatContext(count_tokens=len))
    after = from_json(to_json(before.change_settings(compactor=None))).change_settings(compactor=WindowCompactor(1))
    assert ask_next(after) == ask_next(before) and after.window_size == 5
    assert after.change_settings(window_size=None).window_size is None
    with pytest.raises(UsageError, match="window_size"):
        after.change_settings(window_size=0)


class Own(ChatContext):
    """A context with a state of its own."""


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (mellea.start_session(ScriptedBackend("x"), ctx=ChatContext()), r"m\.ctx"),
        (ChatContext().add("a").turns(), "save the whole context"),
        ([Document("a")], "save the whole context"),
        (mellea.SimpleContext(), "only a ChatContext"),
        (Own(), "can't be saved"),
    ],
)
def test_what_holds_a_conversation_says_what_to_save(value: Any, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        to_json(value)


def _spoil(**fields: Any) -> str:
    return json.dumps({"format": "mellea", "version": 1, "value": {"type": "chat_context", "turns": [], **fields}})


_INPUT = json.loads(to_json([mellea.user_message("a")]))["value"]


@pytest.mark.parametrize(
    "fields",
    [
        {"turns": None},
        {"turns": [3]},
        {"turns": [{}]},
        {"turns": [{"input": []}]},
        {"turns": [{"input": "a"}]},
        {"turns": [{"input": _INPUT[0]}]},
        {"turns": [{"input": [{"type": "text", "value": "a"}]}]},
        {"turns": [{"input": _INPUT, "is_pinned": 1}]},
        {"turns": [{"input": _INPUT, "more": 1}]},
        {"turns": [{"output": {"type": "generation"}}]},
        {"turns": [{"output": {"type": "generation", "messages": [3]}}]},
        {"turns": [{"output": {"type": "generation", "messages": [{"type": "text", "value": "a"}]}}]},
        {"turns": [{"output": _INPUT[0]}]},
        {"pinned": 1},
        {"pinned": -1},
        {"pinned": True},
        {"turns": [{"input": _INPUT}], "pinned": "1"},
        {"window_size": 0},
        {"window_size": "1"},
        {"token_budget": 1.5},
        {"compactor": None},
    ],
)
def test_a_damaged_one_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StateError):
        from_json(_spoil(**fields))


def test_the_kind_is_checked() -> None:
    with pytest.raises(StateError, match="'chat_context', not a 'message'"):
        from_json(to_json(ChatContext()), Message)
    with pytest.raises(StateError, match="'message', not a 'ChatContext'"):
        from_json(to_json(mellea.user_message("a")), ChatContext)


def test_a_saved_conversation_is_loaded_where_nothing_else_was_used() -> None:
    saved = to_json(ChatContext().add("Hello"))
    program = (
        "import sys; from mellea.core.serialise import from_json; print(type(from_json(sys.stdin.read())).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=saved, capture_output=True, text=True, check=True)
    assert done.stdout == "ChatContext\n"


def test_a_kind_that_nobody_registered_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = to_json(ChatContext().add("Hello"))
    monkeypatch.setattr(_saved_kinds, "_HOMES", {})
    with pytest.raises(StateError, match="of the unknown kind 'chat_context'"):
        from_json(saved)
    with pytest.raises(UsageError, match="can't be saved"):
        to_json(ChatContext())
    _saved_kinds.register_kind("chat_context", "mellea.stdlib.components.saved_context")
    assert isinstance(from_json(saved), ChatContext)
