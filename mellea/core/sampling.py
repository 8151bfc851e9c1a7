"""Sampling strategies and their results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.displayed import Displayed
from mellea.core.events import Usage
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import ParseError

if TYPE_CHECKING:
    from mellea.core.card import Card

__all__ = ["Attempt", "Compose", "Generate", "Sampler", "SamplingResult", "SamplingStrategy"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: the output, its context, and the result of each requirement, in order.

    A pickled attempt has no context, and its requirements have no functions.

    Attributes:
        number: its number, the first one is 1.
        output: the model's answer, as far as it was written if a requirement stopped it.
        context: the context after it.
        validations: the result of each requirement; for an attempt that was stopped while it was written, or isn't a
            value of the requested type, only the result that says so: the others would judge half a text.
        component: the input to the model.
        error: why the answer isn't a value of the requested type, or why there is none.
        is_complete: whether the model finished, rather than being stopped by a requirement.
    """

    number: int
    output: ComputedModelOutputThunk[Any]
    context: Context | None = field(repr=False)
    validations: tuple[tuple[Requirement, ValidationResult], ...] = field(repr=False)
    component: Any = field(default=None, repr=False)
    error: ParseError | None = None
    is_complete: bool = True

    @property
    def success(self) -> bool:
        """Whether it is complete, a value of the requested type, and meets every requirement."""
        return self.is_complete and self.error is None and all(result for _, result in self.validations)

    @property
    def has_answer(self) -> bool:
        """Whether there is at least a part of an answer; not if the model broke the tool protocol."""
        return self.error is None or self.output.finish_reason is not None

    @property
    def failures(self) -> tuple[tuple[Requirement, ValidationResult], ...]:
        """The requirements that it doesn't meet, and why."""
        return tuple((requirement, result) for requirement, result in self.validations if not result)

    def explain(self) -> str:
        """Return why it isn't accepted, a line for each reason; `""` if it is."""
        said = [f"{failed} ({result.reason})" if result.reason else str(failed) for failed, result in self.failures]
        if self.error is not None:
            said.append(str(self.error))
        if not self.is_complete and not said:
            said.append("it was stopped before its end")
        return "\n".join(said)


@dataclass(frozen=True, slots=True)
class SamplingResult(Displayed):
    """The result of a strategy.

    Attributes:
        success: whether an attempt met every requirement.
        attempts: every attempt, in order.
        chosen: index of the attempt that is the result, among the attempts.
    """

    success: bool
    attempts: tuple[Attempt, ...] = field(repr=False)
    chosen: int

    @property
    def result(self) -> ComputedModelOutputThunk[Any]:
        """The chosen output: one that met the requirements, or else the best one by the strategy's rule."""
        return self.attempts[self.chosen].output

    @property
    def sample_generations(self) -> list[ComputedModelOutputThunk[Any]]:
        """The output of each attempt; this and the next three are Mellea 0.8's names for fields of `attempts`."""
        return [attempt.output for attempt in self.attempts]

    @property
    def sample_validations(self) -> list[list[tuple[Requirement, ValidationResult]]]:
        """The result of each requirement for each attempt."""
        return [list(attempt.validations) for attempt in self.attempts]

    @property
    def sample_actions(self) -> list[Any]:
        """The input to the model at each attempt."""
        return [attempt.component for attempt in self.attempts]

    @property
    def sample_contexts(self) -> list[Context | None]:
        """The context after each attempt."""
        return [attempt.context for attempt in self.attempts]

    def __reduce__(self) -> Any:
        return SamplingResult, (self.success, make_portable(self).attempts, self.chosen)

    @property
    def value(self) -> str | None:
        """The text of the result."""
        return self.result.value

    @property
    def usage(self) -> Usage | None:
        """The tokens of all attempts together, `None` if the provider didn't report them."""
        known = [attempt.output.usage for attempt in self.attempts if attempt.output.usage is not None]
        return sum(known[1:], start=known[0]) if known else None

    def _card_(self) -> Card:
        from mellea.core.card import Card, Grid  # lazy: only a frontend needs it
        from mellea.core.run_card import say_tokens  # lazy as well

        rows = [
            (str(attempt.number), "yes" if attempt.success else "no", attempt.output.value, attempt.explain())
            for attempt in self.attempts
        ]
        table = Grid(("attempt", "accepted", "output", "why not"), rows)
        state = "requirements met" if self.success else "requirements not met"
        facts = [f"attempt {self.attempts[self.chosen].number} chosen", say_tokens(self.usage)]
        return Card("SamplingResult", state, facts, [table])


def make_portable(result: SamplingResult) -> SamplingResult:
    """Return the result without what can't be pickled: the functions of requirements, and contexts."""
    return replace(result, attempts=tuple(_make_attempt_portable(attempt) for attempt in result.attempts))


def _make_attempt_portable(attempt: Attempt) -> Attempt:
    validations = tuple(
        (Requirement(str(requirement), check_only=requirement.check_only), outcome)
        for requirement, outcome in attempt.validations
    )
    output = attempt.output.without_sampling()
    return replace(attempt, output=output, context=None, validations=validations, component=None)


class Sampler(Protocol):
    """A strategy's view of the call: it can make attempts at it.

    Attributes:
        component: the input of the call.
        context: the context of the call.
        backend: the backend of the call.
        requirements: the requirements for the output.
    """

    component: Any
    context: Context
    backend: Backend
    requirements: Sequence[Requirement]

    async def draw(
        self,
        component: Any = None,
        *,
        context: Context | None = None,
        backend: Backend | None = None,
        model_options: Mapping[str, Any] | None = None,
        compose: Compose | None = None,
    ) -> Attempt:
        """Make an attempt and check it; arguments replace parts of the call.

        The call's seed is incremented for each attempt. An attempt ends as soon as a requirement rejects a chunk.
        Cancelling the wait cancels the request.

        Args:
            component: the input for the model; an `Instruction` brings its own requirements and `output_prefix`.
            context: the context.
            backend: the backend.
            model_options: options that override those of the call.
            compose: makes the attempt's output from several requests; takes a function that makes one request.

        Raises:
            MelleaError: the generation failed, or the backend doesn't support the request.
        """


class Generate(Protocol):
    """Makes one request of a composed attempt."""

    async def __call__(
        self, prefix: str, model_options: Mapping[str, Any], *, is_answer: bool = True
    ) -> ComputedModelOutputThunk[Any]:
        """Request an answer that begins with `prefix`, which is included in its text, with options of its own.

        Unless `is_answer`, the request has no format and no tools.
        """


Compose = Callable[[Generate], Awaitable[ComputedModelOutputThunk[Any]]]


class SamplingStrategy(Protocol):
    """Decides how attempts are made until an output meets the requirements."""

    @property
    def requirements(self) -> Sequence[Requirement]:
        """Requirements that the strategy adds to those of the call."""

    # A strategy may have `is_sequential`, true if it makes one attempt after the other, which `release=` requires;
    # `backends`, others than the call's that it may use, which are checked before anything is sent; and
    # `begins_plainly`, true if its first attempt is the unchanged call, and is the result if it has the requested type
    # and there are no requirements: `sample` is only called if it hasn't, and draws that attempt first.

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make attempts until one is good enough or the budget is used up."""
