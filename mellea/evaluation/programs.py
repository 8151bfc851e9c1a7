"""The programs that an evaluation maps: variants over cases, and checks over their results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mellea.batch.identity import find_form, make_digest
from mellea.batch.program import Asked, Program, Work
from mellea.batch.row import make_arguments
from mellea.core.accumulator import Generation
from mellea.core.backend import Backend
from mellea.core.events import Event
from mellea.core.requirement import ValidationResult
from mellea.core.runtime.ledger import Meter, current_ledger
from mellea.evaluation.checks import NamedCheck, Output, get_text
from mellea.stdlib.requirements.validation import validate_all
from mellea.stdlib.session import current_session

__all__ = ["AnswerProgram", "AnswerRow", "CheckProgram", "CheckRow", "TimedValue"]


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One sample: a variant on a case.

    Attributes:
        variant: its name.
        case: the id of the case.
        number: of the sample, from 1.
        inputs: the variant's inputs.
    """

    variant: str
    case: str
    number: int
    inputs: Any

    @property
    def id(self) -> str:
        """Identifies the sample, also in the journal."""
        return f"{self.case} {self.variant} {self.number}"


@dataclass(frozen=True, slots=True)
class TimedValue:
    """A variant's result, and the seconds that it took; `None` if it was requested in a batch."""

    value: Any
    seconds: float | None


class AnswerProgram(Program):
    """Variants over cases: each row says which variant it is for.

    Args:
        variants: what to evaluate, by name.
    """

    # Changing a prompt and evaluating again is the usual workflow.
    warns_of_change = False

    def __init__(self, variants: Mapping[str, Program]) -> None:
        super().__init__(None, None, "mellea.evaluate")
        self._variants = variants

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        """Return the work of a row."""
        row: AnswerRow = args[0]
        program = self._variants[row.variant]
        program.is_keyed = self.is_keyed
        given, named = make_arguments(row.inputs, None, program.parameters)
        if named:
            program.check_fields(named)
        return _TimedWork(await program.prepare(given, named))

    def backends(self) -> list[Backend]:
        """Return the backends that the variants are known to use."""
        return [backend for program in self._variants.values() for backend in program.backends()]

    def check(self) -> None:
        """Reject a variant whose answers can't be stored."""
        for program in self._variants.values():
            program.check()


class _TimedWork(Work):
    """The work of a variant, with the time that it took."""

    __slots__ = ("_work",)

    def __init__(self, work: Work) -> None:
        self._work = work
        self.digest, self.backend = work.digest, work.backend

    async def ask(self, meter: Meter) -> TimedValue:
        began = time.perf_counter()
        value = await self._work.ask(meter)
        return TimedValue(value, time.perf_counter() - began)

    @property
    def asked(self) -> Asked | None:
        """Its only model call, if it is just one; in a batch its time means nothing."""
        asked = self._work.asked
        if asked is None:
            return None
        finish = asked.finish

        async def finish_answer(events: list[Event]) -> tuple[TimedValue, Generation]:
            value, generation = await finish(events)
            return TimedValue(value, None), generation

        return replace(asked, finish=finish_answer)

    def dump(self, value: TimedValue) -> str | None:
        text = self._work.dump(value.value)
        # The value's own JSON isn't parsed here, only put into the object.
        return None if text is None else f'{{"seconds": {json.dumps(value.seconds)}{_AND_VALUE}{text}}}'

    async def load(self, text: str) -> TimedValue:
        seconds, _, value = text.removeprefix('{"seconds": ').removesuffix("}").partition(_AND_VALUE)
        return TimedValue(await self._work.load(value), json.loads(seconds))


_AND_VALUE = ', "value": '


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check of one sample.

    Attributes:
        sample: the number of the sample.
        check: the check.
        output: the output to check.
        backend: the model for judges without their own; `None` for the current session's.
        id: identifies the check, also in the journal.
    """

    sample: int
    check: NamedCheck
    output: Output
    backend: Backend | None
    id: str


class CheckProgram(Program):
    """Checks over samples: functions, or models that judge."""

    warns_of_change = False

    def __init__(self) -> None:
        super().__init__(None, None, "mellea.evaluate.checks")

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        """Return the work of a row."""
        return _CheckWork(args[0], is_keyed=self.is_keyed)


class _CheckWork(Work):
    __slots__ = ("_row",)

    def __init__(self, row: CheckRow, *, is_keyed: bool) -> None:
        self._row = row
        self.digest = b""
        self.backend = self._find_backend()
        if is_keyed and self.backend is not None:
            turn = row.output.context.last_turn()
            asked = "" if turn is None else str(turn.input)
            who = [self.backend.name, self.backend.model_id]
            self.digest = make_digest(
                "check", find_form(row.check.requirement), asked, get_text(row.output.thunk), who
            )  # fmt: skip

    def _find_backend(self) -> Backend | None:
        # A function needs no backend, and there may be no session at all.
        if not self._row.check.is_judged:
            return None
        judge = getattr(self._row.check.requirement, "judge", None)
        own = getattr(judge, "model", None)
        found = getattr(own, "backend", own) or self._row.backend
        return found if isinstance(found, Backend) else current_session().backend

    async def ask(self, meter: Meter) -> ValidationResult:
        row = self._row
        token = current_ledger.set(meter)
        try:
            # A function is never asked for its backend, so none has to be made for it.
            [(_, result)] = await validate_all(
                [row.check.requirement], row.output.context, self.backend or row.backend  # type: ignore[arg-type]
            )  # fmt: skip
            return result
        finally:
            current_ledger.reset(token)

    def dump(self, value: ValidationResult) -> str:
        return json.dumps([value.result, value.reason, value.score], ensure_ascii=False)

    async def load(self, text: str) -> ValidationResult:
        return ValidationResult(*json.loads(text))
