"""Judges: models that decide whether an output meets a requirement, and say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal

from mellea.core.accumulator import Generation
from mellea.core.backend import Backend
from mellea.core.component import TemplateRepresentation
from mellea.core.context import Context
from mellea.core.entrance import entrance
from mellea.core.numbers import check_number
from mellea.core.options import check_options, merge_options, strip_shape
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import ParseError, UsageError
from mellea.stdlib.call import Call, finish
from mellea.stdlib.components import Correction, Instruction, Repair
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.verb import CallArguments
from mellea.templates import to_text

__all__ = ["Judge", "JudgedRequirement", "as_judge"]

_LONGEST_REASON = 300
"""Characters; a small model might not stop otherwise."""

_TOP_SCORE = 10


@entrance("Judge")
@dataclass(frozen=True, slots=True)
class Judge:
    """A model that judges outputs.

    It gets the task, the output's text and the requirement, and answers with a reason and a verdict in a fixed schema.
    An answer that doesn't match the schema counts as a no.

    Args:
        model: a backend, or a session, whose backend and model options are used; by default the backend that wrote
            the output. Options of the session that shape an answer (length, stop sequences, seed, tools, system prompt)
            are left out, because they could cut a verdict short.
        threshold: from 0 to 1. The model gives a score, and the requirement is met from the threshold on. Without a
            threshold it answers yes or no, and there is no score.
        model_options: options of the judging calls, such as `{"temperature": 0}`.

    Raises:
        UsageError: an argument is of a wrong type, or an option is unknown.
    """

    model: Any = None
    threshold: float | None = None
    model_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(getattr(self.model, "backend", self.model), Backend):
            raise UsageError(f"a Judge's model takes a backend or a session, not {self.model!r}")
        check_number("a Judge's threshold", self.threshold, least=0, most=1, or_none=True)
        check_options(self.model_options)

    async def judge(self, requirement: Requirement, context: Context, backend: Backend) -> ValidationResult:
        """Ask the model whether the context's last output meets the requirement.

        Args:
            requirement: the requirement; its description is judged.
            context: the context whose last output is judged.
            backend: the backend to use if the judge has no model of its own.

        Raises:
            MelleaError: the model failed, or can't write structured output.
        """
        is_rated = self.threshold is not None
        question = _make_question(requirement, context, is_rated=is_rated)
        # A small model without a grammar often says just "yes"; anything else that isn't a verdict is a no, never a
        # pass.
        try:
            return self._make_result(await self.ask(question, _make_form(is_rated), backend))
        except ParseError as error:
            return self._read_unclear(error.partial)

    async def ask(self, question: Any, form: Any, backend: Backend) -> ModelOutputThunk[Any]:
        """Ask the model another question, and return its answer, whose `parsed` has the given type.

        Args:
            question: a component.
            form: the type of the answer.
            backend: the backend to use if the judge has no model of its own.

        Raises:
            ParseError: the answer isn't of the type.
            MelleaError: the model failed, or can't write structured output.
        """
        options = check_options(self.model_options)
        if self.model is not None:
            backend = getattr(self.model, "backend", self.model)
            # Options that shape the user's answers must not shape verdicts: a `max_tokens` of 5 would truncate them.
            options = merge_options(strip_shape(getattr(self.model, "model_options", {})), options)
        # No tools, explicitly: the session's own would be offered to the judge, too.
        arguments: CallArguments = {"model_options": options, "tools": ()}
        call = Call.make(question, backend, arguments, format=form, is_own=True)
        # In a context of its own, so that a verdict never becomes a turn of the conversation.
        verdict, _ = call.launch(SimpleContext())
        await finish(verdict)
        return verdict

    def _make_result(self, verdict: ModelOutputThunk[Any]) -> ValidationResult:
        said: Any = verdict.parsed
        reason = " ".join(said.reason.split()) or None
        if self.threshold is None:
            return ValidationResult(said.verdict == "yes", reason, thunk=verdict)
        # A whole number in the schema, which any model can write; from 0 to 1 in results, like all scores.
        score = said.score / _TOP_SCORE
        return ValidationResult(score >= self.threshold, reason, score, verdict)

    def _read_unclear(self, text: str) -> ValidationResult:
        """Interpret an answer that doesn't match the schema: a single yes or no is a verdict, anything else a no."""
        word = text.strip().strip("\"'.!*").lower()
        if self.threshold is None and word in ("yes", "no"):
            return ValidationResult(word == "yes", None if word == "yes" else "a model judged that it isn't met")
        return ValidationResult(False, f"the judge gave no verdict, but said {text[:100]!r}")


@dataclass(frozen=True, slots=True)
class JudgedRequirement(Requirement):
    """A requirement with a judge of its own; `req` and `check` make it from `judge=`."""

    judge: Judge = Judge()


def as_judge(judge: Any) -> Judge:
    """Make a judge from a backend or a session; a judge is returned as it is.

    Raises:
        UsageError: it is none of them.
    """
    return judge if isinstance(judge, Judge) else Judge(judge)


@dataclass(frozen=True, slots=True)
class _Question:
    """The prompt for a judge."""

    task: str
    text: str
    requirement: str
    is_rated: bool
    name = "judge"  # in traces

    def parts(self) -> Sequence[Any]:
        return ()

    def format_for_llm(self) -> TemplateRepresentation:
        return TemplateRepresentation(
            "Judge",
            {"task": self.task, "text": self.text, "requirement": self.requirement, "is_rated": self.is_rated},
        )

    def parse(self, generation: Generation) -> str:
        return generation.text


def _make_question(requirement: Requirement, context: Context, *, is_rated: bool) -> _Question:
    output = context.last_output()
    turn = context.last_turn()
    task = turn.input if turn is not None else None
    while isinstance(task, (Correction, Repair)):  # these are about the mistakes of an earlier answer
        task = task.task
    if isinstance(task, Instruction):
        task = replace(task, requirements=())  # otherwise the judge would judge all of them
    said = "" if task is None else to_text(task).strip()
    return _Question(said, str(output) if output is not None else "", str(requirement), is_rated)


@lru_cache(maxsize=2)
def _make_form(is_rated: bool) -> Any:
    from pydantic import Field  # lazy: only judges need it

    # The reason comes first in the schema, so that the model weighs before it decides, and doesn't justify afterwards.
    reason = Annotated[str, Field(max_length=_LONGEST_REASON)]
    if is_rated:
        return make_dataclass("Rating", [("reason", reason), ("score", Annotated[int, Field(ge=0, le=_TOP_SCORE)])])
    return make_dataclass("Verdict", [("reason", reason), ("verdict", Literal["yes", "no"])])
