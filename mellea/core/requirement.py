"""Requirements: conditions for an output, and how they are checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mellea._lazy_exports import lazily
from mellea.core.chunkers import Chunk, Scope, check_scope
from mellea.core.context import Context, SimpleContext
from mellea.core.entrance import entrance
from mellea.core.runtime.tasks import find_outcome
from mellea.core.thunk import ModelOutputThunk
from mellea.core.tracebacks import add_note
from mellea.errors import UsageError

__all__ = [
    "Requirement",
    "ValidationResult",
    "as_result",
    "ask_function",
    "check_function",
    "run_stream_validation",
    "run_validation",
]

if not TYPE_CHECKING:  # type checkers see only our names
    __getattr__ = lazily(__name__, {})  # for names of Mellea 0.8

ValidationFunction = Callable[[Context], Any]
StreamValidationFunction = Callable[[Chunk], Any]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Whether an output meets a requirement.

    Args:
        result: whether it is met.
        reason: why or why not, for people and for the next attempt's prompt.
        score: how well it is met, from 0 to 1, if known.
        thunk: the answer of the judging model, if any.
    """

    result: bool
    reason: str | None = None
    score: float | None = None
    thunk: ModelOutputThunk[Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.result, bool):
            raise UsageError(f"a ValidationResult's result is True or False, not {self.result!r}")
        if self.score is not None and not _is_finite(self.score):
            raise UsageError(f"a ValidationResult's score is a finite number, or None, not {self.score!r}")

    def __bool__(self) -> bool:
        return self.result

    def as_bool(self) -> bool:
        """Return whether it is met; Mellea 0.8's name for `result`."""
        return self.result

    @property
    def context(self) -> Context | None:
        """The context that ends with `thunk`, `None` without one; Mellea 0.8's way to the judge's answer."""
        return None if self.thunk is None else SimpleContext().add(self.thunk)


def _is_finite(score: float) -> bool:
    try:
        return math.isfinite(score)
    except (TypeError, ValueError, OverflowError):
        return False


# No slots: in a frozen class with slots, a subclass couldn't set its own attributes.
@entrance("Requirement", release="scope=… is the unit of the chunks that it checks")
@dataclass(frozen=True)
class Requirement:
    """A condition that an output has to meet.

    Args:
        description: the requirement in words; it goes into the prompt unless `check_only`.
        validation_fn: takes the context: `str(context)` is the text of the output, `context.last_output()` its
            thunk. Returns a bool, `(bool, reason)`, whose reason says why not and is dropped if the output passes, or a
            `ValidationResult`, whose reason stays; a `ValueError` or an `AssertionError` means no, with its message as
            the reason; any other exception ends the call. Sync (then it runs in a thread) or async. `simple_validate`
            makes one from a function of the text. Without one, a model judges.
        check_only: keep the description out of the prompt.
        stream_validation_fn: takes a `Chunk` while the output is being written, and returns yes, no, or `None` if it
            can't decide yet; otherwise like `validation_fn`. The first no stops the generation. Without a
            `validation_fn`, an output whose chunks were all accepted meets the requirement. No chunk is blank, and
            joined they are the text; trailing white space belongs to the last chunk if it arrives at once.
        scope: the unit of a chunk: `"word"`, `"sentence"`, `"paragraph"`, `"line"` or `"item"`. An item is an element
            of the list that `format=` asks for: `chunk.parsed` is its value, and the function is called once for each.

    A subclass may define `validate` and `stream_validate` as methods instead of passing functions.
    """

    description: str | None = None
    validation_fn: ValidationFunction | None = None
    check_only: bool = False
    stream_validation_fn: StreamValidationFunction | None = None
    scope: Scope | None = None

    def __post_init__(self) -> None:
        if self.description is not None and not isinstance(self.description, str):
            hint = "; validation_fn=… takes the function that checks" if callable(self.description) else ""
            raise UsageError(f"a Requirement's description is a string, not {self.description!r}{hint}")
        if self.description is None and not self.has_function and not self.is_streaming:
            raise UsageError("a Requirement takes a description, a validation_fn, or both")
        if not isinstance(self.check_only, bool):
            raise UsageError(f"a Requirement's check_only is True or False, not {self.check_only!r}")
        for name, argument in (("validation_fn", "the context"), ("stream_validation_fn", "a chunk")):
            if getattr(self, name) is not None:
                check_function(f"a Requirement's {name}", getattr(self, name), argument)
        if self.scope is not None:
            check_scope("a Requirement's scope", self.scope)
        if self.is_streaming and self.scope is None:
            # The unit in which most checks of prose make sense.
            object.__setattr__(self, "scope", "sentence")

    @property
    def has_function(self) -> bool:
        """Whether a function checks complete outputs; otherwise a model judges them, or only chunks are checked."""
        return self.validation_fn is not None or type(self).validate is not Requirement.validate

    @property
    def is_streaming(self) -> bool:
        """Whether chunks of an output are checked while it is being written."""
        return self.stream_validation_fn is not None or type(self).stream_validate is not Requirement.stream_validate

    def __str__(self) -> str:
        if self.description is not None:
            return self.description
        return getattr(self.validation_fn or self.stream_validation_fn, "__name__", type(self).__name__)

    async def validate(self, context: Context) -> ValidationResult:
        """Run the validation function on the context's last output.

        Raises:
            UsageError: there is no function, or it returned a value of a wrong type.
            Exception: what the function raised, unless it was a `ValueError` or an `AssertionError`.
        """
        function = self.validation_fn
        if function is None:
            raise UsageError(f"the requirement {str(self)!r} has no validation_fn; a model has to judge it")
        return as_result(await ask_function(function, context, self), self)

    async def stream_validate(self, chunk: Chunk) -> ValidationResult | None:
        """Run the stream's validation function on a chunk; `None` if it can't decide yet.

        Raises:
            UsageError: there is no function, or it returned a value of a wrong type.
            Exception: what the function raised, unless it was a `ValueError` or an `AssertionError`.
        """
        function = self.stream_validation_fn
        if function is None:
            raise UsageError(f"the requirement {str(self)!r} has no stream_validation_fn")
        outcome = await ask_function(function, chunk, self)
        return None if outcome is None else as_result(outcome, self)


async def run_validation(requirement: Requirement, context: Context) -> ValidationResult:
    """Check a context's last output; a subclass may override `validate` with a sync or an async method."""
    return as_result(await ask_function(requirement.validate, context, requirement), requirement)


async def run_stream_validation(requirement: Requirement, chunk: Chunk) -> ValidationResult | None:
    """Check a chunk; a subclass may override `stream_validate` with a sync or an async method."""
    outcome = await ask_function(requirement.stream_validate, chunk, requirement)
    return None if outcome is None else as_result(outcome, requirement)


async def ask_function(function: Callable[..., Any], about: object, requirement: Requirement) -> Any:
    """Call a validation function and return its outcome.

    A `ValueError` or an `AssertionError` means no. Any other exception is a mistake in the function and is raised, with
    a note that names the requirement.
    """
    try:
        return await find_outcome(function, about)
    except (ValueError, AssertionError) as error:
        return False, str(error) or type(error).__name__
    except Exception as error:
        # Raised unchanged: a bug in a check isn't a reason to ask the model again.
        for note in (f"raised while the requirement {str(requirement)!r} was checked", _advise(error, about)):
            if note and note not in getattr(error, "__notes__", ()):  # the error may pass here twice
                add_note(error, note)
        raise


_TEXT_WANTED = (
    "a validation_fn is given the context: str(context) is the text of the output, and simple_validate(function) makes "
    "a validation_fn out of a function of the text"
)


def _advise(error: Exception, about: object) -> str:
    """Return advice about a function that expects a text but gets a context, or vice versa."""
    if not isinstance(error, (AttributeError, TypeError)):
        return ""
    if isinstance(about, Context) and type(about).__name__ in str(error):
        return _TEXT_WANTED
    if isinstance(error, AttributeError) and isinstance(error.obj, str) and hasattr(Context, error.name or ""):
        if isinstance(about, Chunk):
            return "a stream_validation_fn is given a chunk of the output, which is a string"
        return "simple_validate gives a function the text of the output; a validation_fn without it gets the context"
    return ""


def check_function(what: str, function: Any, argument: str) -> None:
    """Check that a function can be called with one argument.

    Args:
        what: the parameter that takes the function, for the error message.
        function: the function.
        argument: what the function will be called with.

    Raises:
        UsageError: it is not a function, or takes other arguments.
    """
    if not callable(function):
        raise UsageError(f"{what} takes a function of {argument}, not {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # many builtins have none
        return
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        raise UsageError(f"{what} takes a function of one argument, {argument}, not {name}{signature}") from None


def as_result(outcome: Any, requirement: Requirement) -> ValidationResult:
    """Convert the return value of a validation function.

    Raises:
        UsageError: the value has a wrong type.
    """
    match outcome:
        case ValidationResult():
            return outcome
        case bool():
            return ValidationResult(outcome)
        case (bool() as result, (str() | None) as reason):
            # Most such functions give one reason in either case, and "too long" beside a tick would say the contrary.
            return ValidationResult(result, None if result else reason)
        case _:
            advice = _TEXT_WANTED if isinstance(outcome, Context) else "bool(…) converts a value that is true or false"
            raise UsageError(
                f"the validation of {str(requirement)!r} returns a ValidationResult, a bool or (bool, reason), "
                f"not {outcome!r}; {advice}"
            )
