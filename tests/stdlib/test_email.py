"""Instruct, validate, repair: an e-mail whose requirements are checked by Python and by a judge, prompt by prompt."""

from __future__ import annotations

from typing import Any

import pytest

import mellea
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, find_weights
from mellea.core import Requirement
from mellea.errors import ConfigurationError, RequirementError
from mellea.stdlib.requirements import Judge, check, contains, req, simple_validate
from mellea.stdlib.sampling import MultiTurnStrategy, RejectionSamplingStrategy, RepairTemplateStrategy
from mellea.testing import ScriptedBackend

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]

TASK = "Write an e-mail that invites {{name}} to the meeting. Use these notes: {{notes}}"
VARIABLES = {"name": "Olivia", "notes": "Tuesday at 10, room 4."}

PLACEHOLDER = "Hello [name], come at 10."
RUDE = "Olivia, be there on Tuesday at 10."
GOOD = "Dear Olivia, please come on Tuesday at 10, to room 4."
YES = '{"reason": "It asks kindly.", "verdict": "yes"}'
NO = '{"reason": "It gives an order.", "verdict": "no"}'

FIRST = """\
Write an e-mail that invites Olivia to the meeting. Use these notes: Tuesday at 10, room 4.

Requirements:
- Say that it is on Tuesday.
- Say when.
- It is polite."""

JUDGED = """\
Does the text meet the requirement?

It was written for this task:
<task>
Write an e-mail that invites Olivia to the meeting. Use these notes: Tuesday at 10, room 4.
</task>

<text>
{text}
</text>

<requirement>
It is polite.
</requirement>

Say in one short sentence why or why not, then give the verdict: "yes" or "no"."""

REPAIR = (
    FIRST
    + """

An earlier answer was:
{text}

It was rejected, because it doesn't meet:
{failures}

Answer again, so that everything is met."""
)

CORRECTION = """\
Your answer doesn't meet:
{failures}

Answer again, so that everything is met."""


def _requirements(judge: Any = None) -> list[Requirement]:
    return [
        contains("Tuesday", description="Say that it is on Tuesday."),
        req("Say when.", validation_fn=simple_validate(lambda text: "10" in text, reason="no time is given")),
        check("no placeholders", validation_fn=simple_validate(lambda text: "[" not in text)),
        req("It is polite.", judge=judge),
    ]


async def _write(m: mellea.MelleaSession, strategy: Any, judge: Any = None, **more: Any) -> Any:
    return await m.ainstruct(
        TASK, user_variables=VARIABLES, requirements=_requirements(judge), strategy=strategy, **more
    )


def _verdicts(mail: Any) -> list[list[bool]]:
    return [[bool(result) for _, result in attempt.validations] for attempt in mail.sampling.attempts]


async def test_every_prompt_of_a_repair() -> None:
    """The writer is told what failed and why; the judge is shown the task, and never what was wrong before."""
    writer, judge = ScriptedBackend(PLACEHOLDER, RUDE, GOOD), ScriptedBackend(YES, NO, YES)
    mail = await _write(mellea.start_session(writer), RepairTemplateStrategy(loop_budget=3), Judge(judge))

    assert (mail.value, mail.success) == (GOOD, True)
    assert _verdicts(mail) == [[False, True, False, True], [True, True, True, False], [True] * 4]
    assert writer.prompts == [
        FIRST,
        REPAIR.format(
            text=PLACEHOLDER, failures="- Say that it is on Tuesday. (it has no 'Tuesday')\n- no placeholders"
        ),
        REPAIR.format(text=RUDE, failures="- It is polite. (It gives an order.)"),
    ]
    assert judge.prompts == [JUDGED.format(text=text) for text in (PLACEHOLDER, RUDE, GOOD)]
    assert all(len(request.messages) == 1 for request in writer.requests + judge.requests)


async def test_the_writer_judges_if_nobody_else_is_named() -> None:
    backend = ScriptedBackend(RUDE, NO, GOOD, YES)
    mail = await _write(mellea.start_session(backend), RepairTemplateStrategy(loop_budget=2))

    assert mail.success
    assert backend.prompts == [
        FIRST,
        JUDGED.format(text=RUDE),
        REPAIR.format(text=RUDE, failures="- It is polite. (It gives an order.)"),
        JUDGED.format(text=GOOD),
    ]
    assert [request.output_schema is not None for request in backend.requests] == [False, True, False, True]


async def test_every_prompt_of_a_rejection() -> None:
    writer, judge = ScriptedBackend(RUDE, GOOD), ScriptedBackend(NO, YES)
    mail = await _write(mellea.start_session(writer), RejectionSamplingStrategy(loop_budget=3), Judge(judge))

    assert mail.value == GOOD
    assert writer.prompts == [FIRST, FIRST]
    assert judge.prompts == [JUDGED.format(text=RUDE), JUDGED.format(text=GOOD)]


async def test_every_prompt_of_a_conversation() -> None:
    writer, judge = ScriptedBackend(RUDE, GOOD), ScriptedBackend(NO, YES)
    mail = await _write(mellea.start_session(writer), MultiTurnStrategy(loop_budget=3), Judge(judge))

    assert mail.value == GOOD
    assert [[message.content for message in request.messages] for request in writer.requests] == [
        [FIRST],
        [FIRST, RUDE, CORRECTION.format(failures="- It is polite. (It gives an order.)")],
    ]
    assert judge.prompts == [JUDGED.format(text=RUDE), JUDGED.format(text=GOOD)]


async def test_if_nothing_passes_the_best_is_returned_and_says_so() -> None:
    writer, judge = ScriptedBackend(PLACEHOLDER, RUDE), ScriptedBackend(NO)
    mail = await _write(mellea.start_session(writer), RepairTemplateStrategy(loop_budget=2), Judge(judge))
    assert (mail.value, mail.success) == (RUDE, False)

    with pytest.raises(
        RequirementError, match=r"no attempt out of 2 .* It is polite\. \(It gives an order\.\)"
    ) as caught:
        await _write(mellea.start_session(writer), RepairTemplateStrategy(loop_budget=2), Judge(judge), strict=True)
    assert [len(results) for results in caught.value.results] == [4, 4]


@pytest.mark.thorough
async def test_on_the_embedded_model_it_ends_and_every_requirement_has_its_say() -> None:
    """Structure and termination alone: what so small a model writes, and thinks of it, is anybody's guess."""
    pytest.importorskip("xllamacpp")
    try:
        find_weights(DEFAULT_MODEL)
    except ConfigurationError as error:
        pytest.skip(str(error))
    async with mellea.start_session(model_options={"seed": 1, "temperature": 0.7, "max_tokens": 50}) as m:
        mail = await _write(m, RepairTemplateStrategy(loop_budget=2))

    attempts = mail.sampling.attempts
    assert 1 <= len(attempts) <= 2
    assert mail.value and mail.success == attempts[mail.sampling.chosen].success
    for attempt in attempts:
        assert [str(requirement) for requirement, _ in attempt.validations] == list(map(str, _requirements()))
        assert attempt.output.usage.output_tokens <= 50
    assert all(not attempt.success for attempt in attempts[:-1])
