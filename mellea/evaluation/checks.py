"""Checks of a function's result: requirements, and functions of the value.

Rules:

- A check is a `Requirement`, a string (which a model judges), or a function of the value, or of the value and the case.
- A requirement gets a context whose last output is the value, and whose last input is the case: a `CaseInput`.
- Without checks, the function's result has to equal the case's expected value.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.context import Context, Turn
from mellea.core.events import StreamEnd, TextDelta
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.serialise import json_value
from mellea.core.thunk import ModelOutputThunk, make_computed
from mellea.errors import UsageError
from mellea.evaluation.cases import Case, describe_inputs
from mellea.stdlib.agents import AgentRun
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.requirements.validation import as_requirements
from mellea.templates import to_text

__all__ = ["CaseInput", "NamedCheck", "as_checks", "equals_expected", "get_value", "includes_expected", "make_context"]

_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class CaseInput:
    """A function's input as requirements see it: `context.last_turn().input`.

    Args:
        case: the case.
        expected: its expected value, converted to the function's return type.
    """

    case: Case
    expected: Any
    name = "case"  # in traces

    def parts(self) -> Sequence[Any]:
        """Return nothing: it contains only text."""
        return ()

    def format_for_llm(self) -> str:
        """Return the inputs as text, for a judge."""
        return str(self)

    def parse(self, generation: Generation) -> str:
        """Return the text of an answer to it."""
        return generation.text

    def __str__(self) -> str:
        said = describe_inputs(self.case)
        return said if isinstance(said, str) else to_text(said)


@dataclass(frozen=True, slots=True)
class NamedCheck:
    """A requirement with its own name.

    Attributes:
        name: its name in reports.
        requirement: the requirement.
    """

    name: str
    requirement: Requirement

    @property
    def is_judged(self) -> bool:
        """Whether a model decides it."""
        return not (self.requirement.has_function or self.requirement.is_streaming)


def as_checks(checks: Any, cases: Sequence[Case]) -> tuple[NamedCheck, ...]:
    """Return checks with names; without any, a check of the expected value, if the cases have one.

    Raises:
        UsageError: one of them isn't a check, or can't be made for these cases.
    """
    if checks is None:
        checks = _default_checks(cases)
    if isinstance(checks, Iterable) and not isinstance(checks, str):
        checks = [_as_requirement(check) if _is_function(check) else check for check in checks]
    found: dict[str, NamedCheck] = {}
    for requirement in as_requirements(checks, "checks"):
        name = shorten(str(requirement))
        times = 1
        while name in found:
            times += 1
            name = f"{shorten(str(requirement))} ({times})"
        found[name] = NamedCheck(name, requirement)
    return tuple(found.values())


def _default_checks(cases: Sequence[Case]) -> list[Requirement]:
    missing = sum(not case.has_expected for case in cases)
    if missing == len(cases):
        return []
    if missing:
        raise UsageError(
            f"{missing} of {len(cases)} cases have no expected value; give it, or checks= that need none"
        )  # fmt: skip
    return [equals_expected()]


def shorten(text: str, most: int = _LONGEST_NAME) -> str:
    """Return a text on one line, truncated if it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _is_function(check: Any) -> bool:
    return callable(check) and not isinstance(check, (Requirement, type))


def _as_requirement(function: Callable[..., Any]) -> Requirement:
    """Make a requirement from a function of the value, or of the value and the case."""
    name = str(getattr(function, "__name__", type(function).__name__))
    try:
        parameters = inspect.signature(function).parameters.values()
        wanted = sum(each.default is each.empty and each.kind in _POSITIONAL for each in parameters)
    except (TypeError, ValueError):  # many of Python's own functions have no signature
        wanted = 1
    if wanted not in (1, 2):
        raise UsageError(f"a check is a function of the value, or of the value and the case; {name}() takes {wanted}")

    def validate(context: Context) -> Any:
        value, turn = get_value(context), context.last_turn()
        case = turn.input.case if turn is not None and isinstance(turn.input, CaseInput) else None
        return function(value) if wanted == 1 else function(value, case)

    return Requirement(name, validate, check_only=True)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# -- what is expected -----------------------------------------------------------------------------------------


def equals_expected(*, name: str = "equals the expected value") -> Requirement:
    """Make a check that the value equals the case's expected value; for text, surrounding white space is ignored."""

    def validate(context: Context) -> ValidationResult:
        expected, value = _find_expected(context), get_value(context)
        if isinstance(expected, str) and isinstance(value, str):
            is_same = expected.strip() == value.strip()
        else:
            is_same = bool(expected == value)
        return ValidationResult(is_same, None if is_same else f"expected {_show(expected)}, not {_show(value)}")

    return Requirement(name, validate, check_only=True)


def includes_expected(*, case_sensitive: bool = False, name: str = "includes the expected text") -> Requirement:
    """Make a check that the text of the value includes the case's expected text, or each of a list of them.

    Args:
        case_sensitive: distinguish upper and lower case.
        name: its name in reports.
    """

    def validate(context: Context) -> ValidationResult:
        expected, text = _find_expected(context), str(context)
        wanted = [str(each) for each in expected] if isinstance(expected, (list, tuple, set)) else [str(expected)]
        fold = str if case_sensitive else str.casefold
        missing = [each for each in wanted if fold(each) not in fold(text)]
        return ValidationResult(not missing, f"it lacks {', '.join(map(repr, missing))}" if missing else None)

    return Requirement(name, validate, check_only=True)


def _find_expected(context: Context) -> Any:
    turn = context.last_turn()
    said = None if turn is None else turn.input
    if not isinstance(said, CaseInput) or not said.case.has_expected:
        which = f" {said.case.id!r}" if isinstance(said, CaseInput) else ""
        raise UsageError(f"the case{which} has no expected value to compare with; give it expected=")
    return said.expected


def _show(value: Any) -> str:
    return shorten(repr(value))


# -- values as outputs ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Output:
    """A function's result, as an output that requirements can check.

    Attributes:
        thunk: the output.
        context: the context whose last output it is.
        keep: nothing else holds the thunk, and a `SimpleContext` holds it weakly.
    """

    context: Context
    thunk: ModelOutputThunk[Any] = field(repr=False)


def make_context(case: Case, expected: Any, value: Any) -> Output:
    """Return a context whose last input is the case, and whose last output is the value."""
    thunk = value if isinstance(value, ModelOutputThunk) else _make_thunk(value)
    return Output(SimpleContext().add_turn(Turn(CaseInput(case, expected)), thunk), thunk)


def _make_thunk(value: Any) -> ModelOutputThunk[Any]:
    parsed = value.output if isinstance(value, AgentRun) else value
    return make_computed([TextDelta(get_text(value)), StreamEnd("stop")], parsed=parsed)


def get_text(value: Any) -> str:
    """Return a value as text: the text of a thunk or a run, the JSON of a typed value."""
    if isinstance(value, (ModelOutputThunk, AgentRun)):
        return value.value or ""
    if isinstance(value, str):
        return value
    return json.dumps(json_value(value, serialize_unknown=True), ensure_ascii=False)


def get_value(context: Context) -> Any:
    """Return the typed value of a context's last output."""
    output = context.last_output()
    return None if output is None else output.parsed


def plain_value(value: Any) -> Any:
    """Return a function's result unwrapped: the typed result of a thunk or of a run."""
    if isinstance(value, ModelOutputThunk):
        return value.parsed
    return value.output if isinstance(value, AgentRun) else value
