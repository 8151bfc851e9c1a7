"""Chat contexts: what is remembered, what a call sees of it, and what it costs."""

import copy
import pickle
import time
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Message
from mellea.core.blocks import ImageBlock, ToolCall, ToolOutput
from mellea.core.context import Context
from mellea.core.events import ToolEnd
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import BackendError, UsageError
from mellea.stdlib.call import Call
from mellea.stdlib.context import ChatContext, SimpleContext, estimate_tokens
from mellea.testing import Gate, ScriptedBackend


def answer(text: str) -> ComputedModelOutputThunk[str]:
    return ComputedModelOutputThunk(text)


def chat(*words: str, into: ChatContext | None = None, **settings: Any) -> ChatContext:
    """Make a conversation in which each word was said and answered by its capitals."""
    context = ChatContext(**settings) if into is None else into
    for word in words:
        context = context.add(Message("user", word)).add(answer(word.upper()))
    return context


def seen(context: Context) -> str:
    return " ".join(str(turn.input) for turn in context.view_for_generation())


def tool_turns(context: ChatContext, name: str = "t") -> ChatContext:
    """Add two turns: a tool was called, and its output was answered."""
    call = ToolCall(f"id-{name}", name, {}, "{}")
    context = context.add(Message("user", f"use-{name}")).add(Message("assistant", call))
    return context.add(Message("tool", ToolOutput(f"id-{name}", name, "42"))).add(answer("It is 42."))


# -- what is remembered ---------------------------------------------------------------------------------------


def test_a_context_is_never_changed_and_shares_what_was_before() -> None:
    one = chat("a")
    left, right = chat("b", into=one), chat("c", into=one)
    assert [seen(context) for context in (one, left, right)] == ["a", "a b", "a c"]
    assert left.turns()[0] is right.turns()[0]


def test_what_was_said_and_answered_can_be_looked_up() -> None:
    context = chat("a", "b")
    assert [str(value) for value in context.as_list()] == ["a", "A", "b", "B"]
    assert [str(value) for value in context.as_list(3)] == ["A", "b", "B"]
    assert (context.as_list(0), len(context.as_list(99))) == ([], 4)
    assert str(context.last_turn().input) == "b"
    assert str(context.last_output()) == "B"
    waiting = context.add(Message("user", "c"))
    assert waiting.last_output() is None
    assert ChatContext().last_turn() is None
    assert "2 turns" in repr(context)


def test_a_conversation_pickles_and_is_its_own_copy() -> None:
    context = chat(*[f"w{number}" for number in range(3000)], window_size=2, pinned=["first"])
    again = pickle.loads(pickle.dumps(context))
    assert seen(again) == seen(context) == "first w2998 w2999"
    assert (again.window_size, len(again.turns())) == (2, 3001)
    assert copy.deepcopy(context) is context


# -- windows and budgets --------------------------------------------------------------------------------------


def test_a_window_leaves_the_last_turns() -> None:
    assert seen(chat("a", "b", "c", window_size=2)) == "b c"


def test_a_budget_leaves_as_many_of_the_last_turns_as_fit() -> None:
    # Each word and its answer are 8 letters and 8 letters: two tokens and two tokens.
    words = [f"{letter * 8}" for letter in "abc"]
    for budget, left in [(3, 0), (4, 1), (7, 1), (8, 2), (12, 3), (100, 3)]:
        assert seen(chat(*words, token_budget=budget)) == " ".join(words[len(words) - left :])


def test_a_budget_counts_answers_that_are_still_there_and_own_counts_replace_the_estimate() -> None:
    context = chat("a b", "c d e", token_budget=6, count_tokens=lambda text: len(text.split()))
    assert seen(context) == "c d e"
    assert seen(chat("a b", "c d e", token_budget=10, count_tokens=lambda text: len(text.split()))) == "a b c d e"


def test_the_estimate_goes_by_bytes() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "日本語日")] == [0, 1, 1, 2, 3]


def test_images_count_too() -> None:
    picture = Message("user", ["x", ImageBlock(data=b"x")])
    context = ChatContext(token_budget=1000).add(picture).add(answer("y"))
    assert seen(context) == ""
    assert len(ChatContext(token_budget=1002).add(picture).add(answer("y")).view_for_generation()) == 1


@pytest.mark.anyio
async def test_a_users_count_runs_in_a_thread_and_may_call_a_synchronous_verb() -> None:
    helper = mellea.start_session(ScriptedBackend("3"))

    def count(text: str) -> int:
        return int(str(helper.chat(text)))

    backend = ScriptedBackend("yes")
    m = mellea.start_session(backend, ctx=ChatContext(token_budget=6, count_tokens=count))
    for word in ("a", "b", "c"):
        await m.achat(word)
    assert [message.content for message in backend.requests[-1].messages] == ["b", "yes", "c"]


@pytest.mark.anyio
async def test_a_count_that_is_none_says_so() -> None:
    m = mellea.start_session(ScriptedBackend("x"), ctx=ChatContext(token_budget=6, count_tokens=lambda text: "many"))  # type: ignore[arg-type,return-value]
    await m.achat("a")
    with pytest.raises(UsageError, match=r"count_tokens returns a whole number.*'many'"):
        await m.achat("b")


@pytest.mark.anyio
async def test_a_budget_waits_for_the_text_that_is_still_being_written() -> None:
    gate = Gate()
    backend = ScriptedBackend(["short", gate, "long " * 20], "b")
    m = mellea.start_session(backend, ctx=ChatContext(token_budget=10))
    await m.achat("one", await_result=False)
    second = await m.achat("two", await_result=False)
    gate.open()
    await second
    assert [message.content for message in backend.requests[-1].messages] == ["two"], "the first turn is too long now"


# -- pinning --------------------------------------------------------------------------------------------------


def test_what_is_pinned_is_seen_whatever_the_window_drops() -> None:
    context = chat("a", window_size=1, pinned=[Message("system", "sys")])
    assert seen(context) == "sys a"
    context = chat("b", "c", into=context.pin())
    assert seen(context) == "sys a c"
    context = chat("e", "f", into=context.pin("d"))
    assert seen(context) == "sys a d f"
    assert [str(turn.input) for turn in context.turns()] == ["sys", "a", "b", "c", "d", "e", "f"]


def test_a_pinned_turn_is_seen_once_and_at_its_place() -> None:
    assert seen(chat("c", into=chat("a", "b").pin())) == "a b c"


def test_a_budget_includes_what_is_pinned() -> None:
    words = ["a" * 8, "b" * 8]
    assert seen(chat(*words, token_budget=10, pinned=["p" * 24])) == "p" * 24 + " " + words[1]
    assert seen(chat(*words, token_budget=5, pinned=["p" * 24])) == "p" * 24


def test_reset_keeps_what_was_pinned_when_the_context_was_made() -> None:
    context = chat("a", pinned=["sys"], window_size=3).pin().empty()
    assert (seen(context), context.window_size) == ("sys", 3)


def test_pinning_nothing_says_so() -> None:
    with pytest.raises(UsageError, match="no"):
        ChatContext().pin()


@pytest.mark.anyio
async def test_a_pinned_system_message_reaches_every_request() -> None:
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend, ctx=ChatContext(window_size=1, pinned=[Message("system", "Be brief.")]))
    for word in ("a", "b", "c"):
        await m.achat(word)
    assert [message.content for message in backend.requests[-1].messages] == ["Be brief.", "b", "x", "c"]


# -- tools ----------------------------------------------------------------------------------------------------


def test_a_tools_output_is_never_seen_without_its_call() -> None:
    context = chat("b", into=tool_turns(chat("a")))
    for size in range(1, 6):
        limited = chat("b", into=tool_turns(chat("a", window_size=size)))
        roles = [getattr(turn.input, "role", None) for turn in limited.view_for_generation()]
        assert ("tool" in roles) == ("assistant" in roles), f"a window of {size} tears them apart"
        assert len(roles) <= size
    assert len(context.view_for_generation()) == 5


def test_a_call_that_waits_for_its_output_is_seen_whatever_the_window() -> None:
    call = ToolCall("1", "t", {}, "{}")
    output = ToolOutput("1", "t", "42")
    context = ChatContext(window_size=1).add(Message("user", "go")).add(answer("a"))
    context = context.add(Message("assistant", call)).add(Message("tool", output)).add(Message("assistant", call))
    assert len(context.view_for_generation()) == 1
    small = ChatContext(token_budget=1).add(Message("user", "x" * 100)).add(Message("assistant", call))
    assert small.view_for_generation()[-1].input == Message("assistant", call)


@pytest.mark.anyio
async def test_calls_whose_answer_failed_are_left_out_once_the_conversation_goes_on() -> None:
    call = ToolCall("1", "t", {}, "{}")
    backend = ScriptedBackend([ToolEnd(call)], [ValueError("boom")], "fine", "ok")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("go")
    with pytest.raises(BackendError):
        await m.achat(Message("tool", ToolOutput("1", "t", "42")))
    await m.achat(Message("tool", ToolOutput("1", "t", "42")))
    roles = [message.role for message in backend.requests[-1].messages]
    assert roles == ["user", "assistant", "tool"], "the call is there for another try"

    backend = ScriptedBackend([ToolEnd(call)], [ValueError("boom")], "fine", "ok")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("go")
    with pytest.raises(BackendError):
        await m.achat(Message("tool", ToolOutput("1", "t", "42")))
    await m.achat("never mind")
    await m.achat("next")
    assert [message.content for message in backend.requests[-1].messages] == ["never mind", "fine", "next"]


def test_pinning_an_answer_pins_the_call() -> None:
    context = tool_turns(chat("a", window_size=1)).pin()
    context = chat("b", "c", into=context)
    roles = [turn.input.role for turn in context.view_for_generation()]
    assert roles == ["assistant", "tool", "user"]


# -- turns that are written or have failed ---------------------------------------------------------------------


@pytest.mark.anyio
async def test_part_4_number_19_a_second_turn_uses_the_full_text_of_the_first() -> None:
    gate = Gate()
    backend = ScriptedBackend(["one ", gate, "two"], "b")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("first", await_result=False)
    second = await m.achat("second", await_result=False)
    await anyio.sleep(0.01)
    gate.open()
    await second
    assert [message.content for message in backend.requests[-1].messages] == ["first", "one two", "second"]


@pytest.mark.anyio
async def test_a_failed_turn_is_left_out_with_its_message_and_takes_no_room_in_the_window() -> None:
    backend = ScriptedBackend("a", [ValueError("boom")], "c", "d")
    m = mellea.start_session(backend, ctx=ChatContext(window_size=2))
    await m.achat("one")
    with pytest.raises(BackendError):
        await m.achat("two")
    await m.achat("three")
    await m.achat("four")
    contents = [message.content for message in backend.requests[-1].messages]
    assert contents == ["one", "a", "three", "c", "four"]


@pytest.mark.anyio
async def test_concurrent_verbs_each_see_the_context_at_their_start_and_none_is_lost() -> None:
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend, ctx=ChatContext())
    for word in ("a", "b", "c"):
        await m.achat(word, await_result=False)
    await m.achat("d")
    assert [turn.input.content for turn in m.ctx.turns()] == ["a", "b", "c", "d"]


# -- cost -----------------------------------------------------------------------------------------------------


def best(times: int, work: Any) -> float:
    """Seconds of CPU, the least of several."""
    least = float("inf")
    for _ in range(times):
        before = time.process_time()
        work()
        least = min(least, time.process_time() - before)
    return least


@pytest.mark.anyio
async def test_one_more_turn_after_4000_is_quick() -> None:
    backend = ScriptedBackend("x")
    context = chat(*[f"word {number}" for number in range(4000)])
    call = Call.make(Message("user", "next"), backend)
    thunk, _ = call.launch(context)
    await thunk
    assert len(backend.requests[0].messages) == 8001
    thunks = []
    assert best(5, lambda: thunks.append(call.launch(context))) < 0.05
    for thunk, _ in thunks:
        await thunk


def test_a_window_costs_the_same_after_4000_turns() -> None:
    short, long = chat(*["x"] * 40, window_size=10), chat(*["x"] * 4000, window_size=10)
    view = best(20, lambda: [short.view_for_generation() for _ in range(100)])
    assert best(20, lambda: [long.view_for_generation() for _ in range(100)]) < 5 * view


def test_a_history_of_any_length_is_let_go_of() -> None:
    context = chat(*["x"] * 30_000)
    assert len(context.turns()) == 30_000
    del context


# -- what is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_size": 0}, "window_size takes"),
        ({"window_size": True}, "window_size takes"),
        ({"token_budget": "many"}, "token_budget takes"),
        ({"compactor": 5}, "compactor takes"),
        ({"compactor": ChatContext}, "compactor takes"),
        ({"count_tokens": 5}, "count_tokens takes"),
        ({"pinned": "x"}, "pinned takes a list"),
    ],
)
def test_a_wrong_setting_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ChatContext(**arguments)


def test_a_simple_context_sees_nothing_and_holds_weakly() -> None:
    held = answer("A")
    context = SimpleContext().add(Message("user", "a")).add(held)
    assert context.view_for_generation() == []
    assert context.last_output() is held
    assert context.as_list() == [Message("user", "a"), held]
    del held
    assert context.last_turn() is None
    assert context.turns() == []
