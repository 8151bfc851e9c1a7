"""States of runs as JSON: they come back as they were, and what was changed, cut or made up is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.core import ImageBlock, Message, ToolCall, ToolOutput
from mellea.core.events import ToolEnd
from mellea.errors import StateError, UsageError
from mellea.stdlib.agents import Agent, Pending
from mellea.stdlib.agents.signing import Signer, check_signature, find_secret
from mellea.stdlib.tools import Deny, Edited, LoopState, Question, give_answers, tool
from mellea.testing import ScriptedBackend

SECRET = b"secret"

INNER = LoopState(
    (Message("user", "Find it."), Message("assistant", [ToolCall("x", "buy", {"what": "tea"})])),
    (1, 1),
    asked=(Question("x", "approval", ToolCall("x", "buy", {"what": "tea"}), "May it?"),),
)
CALLS = [
    ToolCall("a", "look", {"place": "Rome"}),
    ToolCall("b", "pay", {"amount": 2.0}),
    ToolCall("c", "measure", {}),
    ToolCall("d", "research", {"task": "tea"}),
]
STATE = LoopState(
    (Message("user", ["Do it.", ImageBlock(data=b"\x89PNG")]), Message("assistant", ["Well.", *CALLS])),
    (1, 1, 1),
    outputs={"a": ToolOutput("a", "look", [1, "two"])},
    asked=(Question("b", "approval", CALLS[1], "Pay 2?"), Question("c", "outside", CALLS[2], "Measure.")),
    nested={"d": INNER},
    added=(Message("user", "Hurry."),),
    spent={"cost": 0.25, "tool_calls": 3},
)


def pending(state: LoopState = STATE) -> Pending:
    return Pending("run-1", state, id="state-1", agent="buyer")


def signed(state: LoopState = STATE) -> Pending:
    return Signer(SECRET).sign(pending(state))


def edited(text: str, change: Any) -> str:
    """Return a document with something changed in its value."""
    document = json.loads(text)
    change(document["value"])
    return json.dumps(document)


def test_a_state_comes_back_as_it_was() -> None:
    assert Pending.from_json(pending().to_json()) == pending()
    assert Pending.from_json(pending().to_json().encode()) == pending()
    assert Pending.from_json(signed().to_json()) == signed()


def test_questions_are_the_same_after_a_round_trip_with_those_of_sub_agents() -> None:
    back = Pending.from_json(pending().to_json())
    assert [(each.id, each.kind, each.path, each.text) for each in back.questions] == [
        ("b", "approval", "", "Pay 2?"),
        ("c", "outside", "", "Measure."),
        ("d/x", "approval", "research/2", "May it?"),
    ]
    assert back.questions[2].call == ToolCall("x", "buy", {"what": "tea"})


def test_answers_come_back_too() -> None:
    answered = give_answers(STATE, {"b": Edited({"amount": 1}), "c": {"degrees": 21}, "d/x": Deny("no")})
    assert Pending.from_json(pending(answered).to_json()).state == answered
    for yes in (True, False):
        answered = give_answers(STATE, {"b": yes})
        assert Pending.from_json(pending(answered).to_json()).state == answered


def test_the_document_names_its_format_and_version() -> None:
    document = json.loads(pending().to_json())
    assert (document["format"], document["version"]) == ("mellea.pending", 1)
    assert document["value"]["state"]["messages"][0]["type"] == "message"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "isn't JSON"),
        ("[]", "isn't a document that mellea saved"),
        ('{"format": "mellea", "version": 1, "value": {}}', "isn't a document that mellea saved"),
        ('{"format": "mellea.pending", "version": 2, "value": {}}', "has version 2"),
        ('{"format": "mellea.pending", "version": 1, "value": {}}', "lacks the field 'run'"),
        ('{"format": "mellea.pending", "version": 1, "value": ' + "[" * 100_000, "nested too deeply|isn't JSON"),
    ],
)
def test_what_isnt_a_state_is_refused(text: str, said: str) -> None:
    with pytest.raises(StateError, match=said):
        Pending.from_json(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.update(run=1), "value.run is not a value of the type str"),
        (lambda value: value.update(more=1), "value has the unknown field 'more'"),
        (lambda value: value["state"].update(starts="3"), "value.state.starts is not a value of the type list"),
        (
            lambda value: value["state"].update(starts=[True]),
            "value.state.starts should be ascending positions in its 2 messages",
        ),
        (
            lambda value: value["state"].update(starts=[1, 0]),
            "value.state.starts should be ascending positions in its 2 messages",
        ),
        (
            lambda value: value["state"].update(starts=[3]),
            "value.state.starts should be ascending positions in its 2 messages",
        ),
        (lambda value: value["state"].update(messages=[{"type": "text", "value": "x"}]), "is not a Message"),
        (lambda value: value["state"].update(messages=[{"type": "os.system"}]), "of the unknown kind 'os.system'"),
        (
            lambda value: value["state"]["asked"][0].update(id="z"),
            "asks about the call 'z', which the state doesn't have",
        ),
        (
            lambda value: value["state"]["asked"][0].update(kind="root"),
            "should be one of 'approval', 'outside', not 'root'",
        ),
        (lambda value: value["state"].update(answers={"b": {}}), "is not an answer"),
        (lambda value: value["state"].update(answers={"b": {"approved": True, "denied": "x"}}), "is not an answer"),
        (lambda value: value["state"].update(nested={"d": 3}), r"value.state.nested\['d'\] is not an object"),
    ],
)
def test_a_damaged_state_is_refused_with_the_place(change: Any, said: str) -> None:
    with pytest.raises(StateError, match=said):
        Pending.from_json(edited(pending().to_json(), change))


def test_sub_agents_can_be_nested_only_so_deep() -> None:
    state = INNER
    for _ in range(60):
        state = LoopState(STATE.messages, (1,), nested={"d": state})
    with pytest.raises(StateError, match="nested too deeply"):
        Pending.from_json(pending(state).to_json())


# -- signatures --------------------------------------------------------------------------------------------


def test_a_signed_state_holds_through_a_round_trip_and_a_rewrite_by_javascript() -> None:
    text = signed().to_json()
    check_signature(Pending.from_json(text), SECRET)
    rewritten = json.dumps(json.loads(text), indent=2, sort_keys=True).replace("2.0", "2")
    check_signature(Pending.from_json(rewritten), SECRET)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(run="run-2"),
        lambda value: value.update(id="state-2"),
        lambda value: value.update(agent="seller"),
        lambda value: value["state"].update(starts=[1, 1, 1, 1]),
        lambda value: value["state"]["messages"][1]["blocks"][2]["tool_args"].update(amount=200),
        lambda value: value["state"]["messages"][1]["blocks"][2].update(tool_name="look"),
        lambda value: value["state"]["messages"][0]["blocks"][0].update(value="Do more."),
        lambda value: value["state"]["asked"][0].update(text="Pay 1?"),
        lambda value: value["state"]["asked"].pop(),
        lambda value: value["state"]["outputs"].clear(),
        lambda value: value["state"].update(answers={"b": {"approved": True}}),
        lambda value: value["state"]["nested"]["d"]["messages"][1]["blocks"][0].update(tool_call_id="x", signature="s"),
        lambda value: value["state"]["spent"].update(cost=0),
        lambda value: value["state"].update(is_done=True),
    ],
)
def test_a_changed_state_is_refused(change: Any) -> None:
    text = signed().to_json()
    with pytest.raises(StateError, match="the state was changed after it was signed"):
        check_signature(Pending.from_json(edited(text, change)), SECRET)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=127))
def test_no_changed_byte_goes_through(place: int, byte: int) -> None:
    text = signed().to_json().encode()
    place %= len(text)
    changed = text[:place] + bytes([byte]) + text[place + 1 :]
    try:
        state = Pending.from_json(changed)
        check_signature(state, SECRET)
    except StateError:
        return
    assert state == Pending.from_json(text)


def test_without_the_secret_or_the_signature_nothing_is_resumed() -> None:
    whole = signed()
    with pytest.raises(StateError, match="signed with another secret"):
        check_signature(whole, b"another")
    with pytest.raises(StateError, match="there is no secret to verify it with"):
        check_signature(whole, None)
    with pytest.raises(StateError, match="isn't signed"):
        check_signature(pending(), SECRET)
    check_signature(pending(), None)


def test_the_secret_is_in_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELLEA_SECRET", raising=False)
    assert find_secret(None) is None
    monkeypatch.setenv("MELLEA_SECRET", "Öl")
    assert find_secret(None) == "Öl".encode()
    assert find_secret("x") == b"x" == find_secret(b"x")
    for wrong in ("", b"", 3):
        with pytest.raises(UsageError, match="secret takes a non-empty string or bytes"):
            find_secret(wrong)  # type: ignore[arg-type]


def test_nothing_shows_the_conversation_or_the_signature() -> None:
    shown = repr(signed())
    assert "Do it." not in shown and "hmac" not in shown


@pytest.mark.anyio
async def test_what_is_asked_is_shown_without_its_arguments() -> None:
    @tool(requires_approval=True)
    def buy(what: str) -> str:
        """Buy something."""
        return f"bought {what}"

    backend = ScriptedBackend([ToolEnd(ToolCall("c1", "buy", {"what": "milk"}))])
    run = await Agent(backend, [buy], name="shopper").arun("Buy milk.")
    assert run.pending is not None
    shown = repr(run.pending)
    assert "agent='shopper', questions={'c1': approval of 'buy'}" in shown and "milk" not in shown
