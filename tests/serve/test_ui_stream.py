"""UI message streams: of every kind of event and every ending, in three versions, read as their clients read them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import mellea
from mellea import serve
from mellea.errors import UsageError
from mellea.serve.ai_sdk.approvals import is_signed, sign_approval, write_canonical
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Pause
from tests.serve import ui_protocol
from tests.serve.asgi import ask
from tests.serve.ui_streams import CASES, SECRET, Case, Recipe, describe

pytestmark = pytest.mark.anyio

every_version = pytest.mark.parametrize("version", [5, 6, 7])


def matches(got: list[str], expected: list[str]) -> bool:
    """Whether descriptions are right; one that ends with `…` stands for any that begins so."""
    return len(got) == len(expected) and all(
        one.startswith(right[:-1]) if right.endswith("…") else one == right
        for one, right in zip(got, expected, strict=True)
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@every_version
async def test_a_stream_is_one_that_its_clients_read(case: Case, version: int) -> None:
    with anyio.fail_after(30):
        answer = await ask(case.answer(version))
    message = ui_protocol.read(answer.body, version)
    assert matches(describe(message.parts), case.expect(version)), describe(message.parts)
    assert message.ending == case.ending and answer.is_complete and answer.status == 200
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ("error_text" in case.arguments) or b"secret" not in answer.body


async def test_attempts_are_shown_live_to_version_7_alone() -> None:
    answer = {version: await ask(CASES["rejected, then accepted"].answer(version)) for version in (5, 6, 7)}
    for version in (5, 6):
        assert b"bad" not in answer[version].body.replace(b"be good", b"")
    kinds = [part["type"] for part in answer[7].data[:-1]]
    assert kinds.index("reset-step") > kinds.index("text-delta") and b'"delta":"bad' in answer[7].body
    (told,) = ui_protocol.read(answer[6].body, 6).transient
    assert told["data"] == {"state": "rejected", "number": 1, "requirement": "be good"}


async def test_of_attempts_that_are_not_told_of_nothing_is_known() -> None:
    answer = await ask(CASES["none is accepted"].answer(6))
    assert b"be good" not in answer.body and b"second" not in answer.body


async def test_text_that_is_released_is_sent_before_the_attempt_is_accepted() -> None:
    for version in (5, 6):
        deltas = [
            part["delta"]
            for part in (await ask(CASES["released text stays"].answer(version))).data[:-1]
            if "delta" in part
        ]
        assert deltas[0].startswith("One is fine.") and "bad" not in "".join(deltas)


async def test_the_end_of_a_message_tells_model_and_usage() -> None:
    message = ui_protocol.read((await ask(CASES["usage"].answer(6))).body, 6)
    assert message.metadata == {"model": "script", "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4}}
    message = ui_protocol.read((await ask(CASES["metadata"].answer(6))).body, 6)
    assert message.id == "m1" and message.metadata == {"by": "us", "model": "script"}


async def test_silence_is_filled_with_comments() -> None:
    assert b": keep-alive\n\n" in (await ask(CASES["silence"].answer(6))).body


async def test_a_tool_reports_in_preliminary_outputs() -> None:
    parts = (await ask(CASES["tool with progress"].answer(6))).data[:-1]
    outputs = [(part["output"], part.get("preliminary")) for part in parts if part["type"] == "tool-output-available"]
    assert outputs == [(1, True), (2, True), (3, True), ("3 counted", None)]


async def test_the_events_of_a_sub_agent_are_transient() -> None:
    message = ui_protocol.read((await ask(CASES["sub-agent"].answer(6))).body, 6)
    said = [part["data"]["event"].get("chunk") for part in message.transient if part["type"] == "data-nested"]
    assert "".join(filter(None, said)) == "found it"
    assert {part["data"]["toolCallId"] for part in message.transient} == {"c1"}


async def test_partial_objects_grow_in_one_part() -> None:
    chunks = [['{"title":"So'], ['up","steps":["cut"'], [',"cook"]}']]
    script = [step for chunk in chunks for step in (*chunk, Pause(0.15))]
    m = mellea.start_session(ScriptedBackend(script))
    parts = (await ask(serve.ui(m.astream("Write", format=Recipe), data="recipe"))).data[:-1]
    sent = [part["data"] for part in parts if part["type"] == "data-recipe"]
    assert len(sent) > 1 and sent[-1] == {"title": "Soup", "steps": ["cut", "cook"]}
    assert all("Soup".startswith(each.get("title", "")) for each in sent) and sent[0].get("title") != "Soup"
    assert {part["id"] for part in parts if part["type"] == "data-recipe"} == {"recipe"}


async def test_a_question_is_signed_as_version_7_signs_it() -> None:
    answer = await ask(CASES["approval"].answer(7))
    (part,) = [part for part in answer.data[:-1] if part["type"] == "tool-approval-request"]
    asked = ("c1", "delete", {"path": "x"})
    assert is_signed(SECRET, part["signature"], part["approvalId"], *asked)
    assert not is_signed(SECRET, part["signature"], part["approvalId"], "c1", "delete", {"path": "y"})
    assert not is_signed(SECRET, part["signature"], part["approvalId"] + "x", *asked)
    assert not is_signed(b"other", part["signature"], part["approvalId"], *asked)
    for wrong in (None, "", 3, "é", "\ud800"):
        assert not is_signed(SECRET, wrong, part["approvalId"], *asked)
    assert "'delete'" in part["reason"]


def test_signatures_are_those_of_the_sdk() -> None:
    # Made with `signToolApproval` of ai 7.0.173.
    tool_input = {"b": [1, 2.5, None, True], "a": {"ü": 'é\n"', "10": 1e21, "9": 1e-7}, "n": -0.000001}
    assert (
        write_canonical(tool_input) == '{"a":{"10":1e+21,"9":1e-7,"ü":"é\\n\\""},"b":[1,2.5,null,true],"n":-0.000001}'
    )
    assert sign_approval(b"s3cret", "ap1", "call1", "delete", tool_input) == SIGNED


SIGNED = "qg93i1EpN_E3I1LgL2zpVO4dW2bSTYlTg_GB8Tln-5Y"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-5, "0.00001"),
        (-1.5e-6, "-0.0000015"),
        (1.5e-7, "1.5e-7"),
        (123456789012345680000.0, "123456789012345680000"),
        (12345678901234567890, "12345678901234567000"),
        (1e21, "1e+21"),
        (1.25e25, "1.25e+25"),
        (5e-324, "5e-324"),
        (10**400, "null"),
    ],
)
def test_numbers_are_written_as_javascript_does(number: float, text: str) -> None:
    assert write_canonical(number) == text


@pytest.mark.parametrize("version", [4, 8, "6", None])
def test_an_unknown_version_is_refused(version: Any) -> None:
    with pytest.raises(UsageError, match="version takes 5, 6 or 7"):
        serve.ui(iter(["x"]), version=version)


@pytest.mark.parametrize("data", ["", "a b", "-x", "x" * 70, 3])
def test_a_wrong_name_of_data_is_refused(data: Any) -> None:
    with pytest.raises(UsageError, match="data takes a name"):
        serve.ui(iter(["x"]), data=data)
