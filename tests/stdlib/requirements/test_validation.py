"""Validation: all requirements at the same time, results in order, errors plain; and models that judge."""

import json
import threading
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import CBlock, Message, Requirement, ValidationResult
from mellea.core.chunkers import Chunk
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import BackendError, UnsupportedError, UsageError
from mellea.stdlib.components import Instruction
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import Judge, check, length, req, simple_validate, validate_all
from mellea.stdlib.sampling import RepairTemplateStrategy
from mellea.testing import Gate, Pause, ScriptedBackend

pytestmark = pytest.mark.anyio

CONTEXT = ChatContext().add(CBlock("Write a mail.")).add(ComputedModelOutputThunk("Dear Ann"))


def says(verdict: str, reason: str = "Because.") -> str:
    return json.dumps({"reason": reason, "verdict": verdict})


# -- at the same time, in order ---------------------------------------------------------------------------------


async def test_part_4_number_18_an_async_validator_is_awaited() -> None:
    async def never(context: Any) -> tuple[bool, str]:
        await anyio.sleep(0)
        return False, "never"

    results = await validate_all(
        [Requirement("a", never), req("b", validation_fn=never)], CONTEXT, ScriptedBackend("x")
    )
    assert [(bool(result), result.reason) for _, result in results] == [(False, "never")] * 2


async def test_validators_and_judges_run_at_the_same_time_and_results_keep_their_order() -> None:
    gate = Gate()
    entered: list[str] = []
    barrier = threading.Barrier(2)

    def in_a_thread(context: Any) -> bool:
        entered.append("thread")
        barrier.wait(30)
        return True

    async def on_the_loop(context: Any) -> ValidationResult:
        entered.append("loop")
        await gate.wait()
        return ValidationResult(False, "loop")

    backend = ScriptedBackend([Pause(0.02), says("yes", "judged")])
    requirements = [
        req("a", validation_fn=on_the_loop),
        req("b", validation_fn=in_a_thread),
        req("c"),
        req("d", validation_fn=in_a_thread),
        check("e"),
        req("f", validation_fn=lambda context: (False, "f")),
    ]

    async def open_when_all_are_there() -> None:
        while len(entered) < 3 or len(backend.requests) < 2:
            await anyio.sleep(0.001)
        gate.open()

    results: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(open_when_all_are_there)
            results = list(await validate_all(requirements, CONTEXT, backend))
    assert [requirement.description for requirement, _ in results] == list("abcdef")
    assert [result.reason for _, result in results] == ["loop", None, "judged", None, "judged", "f"]


async def test_the_first_error_comes_out_plain_and_ends_the_rest() -> None:
    ended: list[str] = []

    async def fails(context: Any) -> bool:
        await anyio.sleep(0.01)
        raise KeyError("mine")

    async def waits(context: Any) -> bool:
        try:
            await anyio.sleep(60)
        finally:
            ended.append("waits")
        return True

    backend = ScriptedBackend([Pause(60)])
    requirements = [req("a", validation_fn=waits), req("b", validation_fn=fails), req("c")]
    with anyio.fail_after(30), pytest.raises(KeyError, match="mine"):
        await validate_all(requirements, CONTEXT, backend)
    assert ended == ["waits"]
    with anyio.fail_after(30):
        while not all(backend.closed):
            await anyio.sleep(0.01)


async def test_an_exit_asked_for_in_a_validator_comes_out_plain() -> None:
    async def leaves(context: Any) -> bool:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await validate_all(
            [req("a", validation_fn=leaves), req("b", validation_fn=leaves)], CONTEXT, ScriptedBackend("x")
        )


async def test_a_cancelled_validation_ends() -> None:
    backend = ScriptedBackend([Pause(60)])
    with anyio.move_on_after(0.05) as scope:
        await validate_all([req("a"), req("b")], CONTEXT, backend)
    assert scope.cancelled_caught
    with anyio.fail_after(30):
        while not all(backend.closed):
            await anyio.sleep(0.01)


async def test_no_requirement_is_no_result() -> None:
    assert await validate_all([], CONTEXT, ScriptedBackend("x")) == ()


@pytest.mark.parametrize("is_met", [True, False])
async def test_the_reason_of_a_pair_says_why_not(is_met: bool) -> None:
    """Beside a tick, "too long" would say the contrary; a reason that holds either way is a ValidationResult's."""
    functions = [simple_validate(lambda text: (is_met, "too long")), lambda context: (is_met, "too long")]
    both = simple_validate(lambda text: ValidationResult(is_met, "8 letters"))
    results = [await req("r", validation_fn=function).validate(CONTEXT) for function in (*functions, both)]
    why_not = None if is_met else "too long"
    assert [result.reason for result in results] == [why_not, why_not, "8 letters"]
    watching = Requirement("r", stream_validation_fn=lambda chunk: (is_met, "too long"))
    assert await watching.stream_validate(Chunk("Dear")) == ValidationResult(is_met, why_not)


async def test_simple_validate_takes_every_kind_of_outcome() -> None:
    def raises(text: str) -> bool:
        raise ValueError("too polite")

    async def later(text: str) -> tuple[bool, str]:
        return False, text

    functions: list[Any] = [
        lambda text: text == "Dear Ann",
        lambda text: (False, "why"),
        lambda text: ValidationResult(False, "because", 0.25),
        raises,
        later,
        lambda text: later(text),
    ]
    requirements = [req("r", validation_fn=simple_validate(function)) for function in functions]
    results = [result for _, result in await validate_all(requirements, CONTEXT, ScriptedBackend("x"))]
    assert [result.reason for result in results] == [None, "why", "because", "too polite", "Dear Ann", "Dear Ann"]
    assert (results[0].result, results[2].score) == (True, 0.25)
    no = simple_validate(lambda text: False, reason="given")
    assert (await req("r", validation_fn=no).validate(CONTEXT)).reason == "given"


async def test_part_4_number_20_requirements_keep_their_order_and_nothing_that_was_passed_is_changed() -> None:
    backend = ScriptedBackend("short", says("yes"))
    given: list[str | Requirement] = ["polite", length(max=5), req("kind"), check("hidden"), "last"]
    before = list(given)
    options, variables, grounding = {"seed": 1}, {"who": ["Ann"]}, {"notes": {"a": [1]}}
    ctx = ChatContext()
    thunk = await mellea.start_session(backend, ctx=ctx).ainstruct(
        "Write to {{who}}.",
        requirements=given,
        model_options=options,
        user_variables=variables,
        grounding_context=grounding,
    )
    lines = [line for line in backend.prompts[0].splitlines() if line.startswith("- ")]
    assert lines == ["- polite", "- Write at most 5 words.", "- kind", "- last"]
    asked = [requirement.description for requirement, _ in thunk.sampling.attempts[0].validations]
    assert asked == ["polite", "Write at most 5 words.", "kind", "hidden", "last"]
    assert given == before
    assert (options, variables, grounding) == ({"seed": 1}, {"who": ["Ann"]}, {"notes": {"a": [1]}})
    assert ctx.turns() == []


# -- judges --------------------------------------------------------------------------------------------------------


async def judged(reply: Any, requirement: Requirement | None = None) -> ValidationResult:
    backend = ScriptedBackend(reply)
    ((_, result),) = await validate_all([requirement or req("Be polite.")], CONTEXT, backend)
    return result


async def test_a_judge_is_shown_task_text_and_requirement_and_gives_its_reason() -> None:
    backend = ScriptedBackend(says("no", " It has\nno greeting. "))
    task = Instruction("Write a mail.", requirements=("polite", "short"), user_variables={})
    context = ChatContext().add(task).add(ComputedModelOutputThunk("Ann! {{x}}"))
    ((_, result),) = await validate_all([req("polite")], context, backend)
    assert (result.result, result.reason, result.score) == (False, "It has no greeting.", None)
    assert backend.prompts[0] == (
        "Does the text meet the requirement?\n\n"
        "It was written for this task:\n<task>\nWrite a mail.\n</task>\n\n"
        "<text>\nAnn! {{x}}\n</text>\n\n"
        "<requirement>\npolite\n</requirement>\n\n"
        'Say in one short sentence why or why not, then give the verdict: "yes" or "no".'
    )
    schema = backend.requests[0].output_schema
    assert schema is not None
    assert list(schema.schema["properties"]) == ["reason", "verdict"], "the reason is thought of first"


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is not yes",
        "yes and no",
        'The answer is not "yes"',
        says("no", "The answer is not yes"),
        says("yes, perhaps"),
        '{"reason": "fine", "verdict": "ye',
        "",
        "No.",
        '"no"',
    ],
)
async def test_part_4_number_18_whatever_isnt_a_yes_is_a_no(reply: str) -> None:
    result = await judged(reply)
    assert not result
    assert result.reason


@pytest.mark.parametrize("reply", [says("yes"), '"yes"', "Yes.", f"```json\n{says('yes')}\n```"])
async def test_a_yes_is_a_yes(reply: str) -> None:
    assert await judged(reply)


async def test_a_message_is_a_task_too() -> None:
    backend = ScriptedBackend(says("yes"))
    context = ChatContext().add(Message("user", "Hello!")).add(ComputedModelOutputThunk("Hi"))
    await validate_all([req("polite")], context, backend)
    assert "<task>\nHello!\n</task>" in backend.prompts[0]


@pytest.mark.parametrize(("score", "met"), [(10, True), (7, True), (6, False), (0, False)])
async def test_a_threshold_makes_the_judge_give_a_score(score: int, met: bool) -> None:
    reply = json.dumps({"reason": "So so.", "score": score})
    result = await judged(reply, req("polite", judge=Judge(threshold=0.7)))
    assert (result.result, result.reason, result.score) == (met, "So so.", score / 10)


@pytest.mark.parametrize("reply", ["yes", '{"reason": "x", "score": 11}', "9"])
async def test_a_score_that_is_none_is_a_no(reply: str) -> None:
    result = await judged(reply, req("polite", judge=Judge(threshold=0)))
    assert (result.result, result.score) == (False, None)


async def test_another_backend_or_session_can_judge() -> None:
    for judge_of in (
        lambda backend: backend,
        lambda backend: mellea.start_session(backend, model_options={"temperature": 0.5, "seed": 1}),
        lambda backend: Judge(backend, model_options={"seed": 2}),
    ):
        writer, other = ScriptedBackend("Hello."), ScriptedBackend(says("yes"))
        thunk = await mellea.start_session(writer).ainstruct(
            "Greet me.", requirements=[req("kind", judge=judge_of(other))]
        )
        assert thunk.success
        assert (len(writer.requests), len(other.requests)) == (1, 1)
    session = mellea.start_session(other, model_options={"temperature": 0.5, "seed": 1})
    await validate_all([check("kind", judge=Judge(session, model_options={"seed": 2}))], CONTEXT, writer)
    assert other.requests[-1].options == {"temperature": 0.5, "seed": 2}


async def test_a_judge_that_fails_is_an_error_and_no_verdict() -> None:
    with pytest.raises(BackendError, match="boom"):
        await judged([ValueError("boom")])
    backend = ScriptedBackend("x", capabilities=mellea.core.Capabilities())
    with pytest.raises(UnsupportedError, match="structured output"):
        await validate_all([req("a")], CONTEXT, backend)


async def test_a_judges_reason_goes_into_the_repair() -> None:
    backend = ScriptedBackend("Ann!", says("no", "No greeting."), "Dear Ann", says("yes"))
    thunk = await mellea.start_session(backend).ainstruct(
        "Write.", requirements=["polite"], strategy=RepairTemplateStrategy(loop_budget=2)
    )
    assert thunk.value == "Dear Ann"
    assert "- polite (No greeting.)" in backend.prompts[2]
    assert "<task>\nWrite.\n</task>" in backend.prompts[3], "the judge knows nothing of the answer before"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: req("a", validation_fn=print, judge=ScriptedBackend("x")), "a validation_fn or a judge, not both"),
        (lambda: req("a", judge="gpt"), "takes a backend or a session, not 'gpt'"),
        (lambda: Judge(threshold=2), "threshold takes a number from 0 up to 1"),
        (lambda: Judge(model_options={"temperatur": 0}), "did you mean 'temperature'"),
    ],
)
async def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
