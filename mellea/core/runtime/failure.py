"""The errors that readers get for failures of a generation."""

from __future__ import annotations

import copy

from mellea.core.masking import list_known_secrets, scrub_text
from mellea.errors import (
    BackendError,
    DeadlineError,
    InterruptedStreamError,
    MelleaError,
    OutputError,
    StreamingError,
)

__all__ = [
    "Exit",
    "as_mellea_error",
    "copy_for_reader",
    "describe_error",
    "make_interrupted_error",
    "make_left_behind_error",
    "make_lost_error",
    "make_overdue_error",
]


class Exit(MelleaError):
    """Stores, for the readers of a run, exceptions that end more than a call, such as `SystemExit` and
    `KeyboardInterrupt`.

    Readers raise the exit itself. It can't leave the run's own task, since that would end the loop and everything
    else that runs there.

    Attributes:
        cause: what the user's code raised.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(describe_error(cause))
        self.cause = cause


def copy_for_reader(error: MelleaError) -> BaseException:
    """Return a copy of a run's error for another reader to raise, or the stored exit."""
    if not isinstance(error, Exit):
        return error.clone()
    try:
        return copy.copy(error.cause)
    except Exception:  # noqa: BLE001 - a class of the user's that can't be copied
        return error.cause


def as_mellea_error(error: BaseException, *, backend: str | None, model: str | None, is_work: bool) -> MelleaError:
    """Convert an exception to the mellea error that readers get.

    Args:
        error: what was raised while a run was produced.
        backend: name of the backend.
        model: id of the model.
        is_work: whether code that combines several requests raised it. A backend's error comes from the run of a
            request and is already a mellea error, so anything else is the program's own.
    """
    # A task group wraps what fails in it, at every level; the first error is the one that ended the others.
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MelleaError):
        return error
    # Only from the program's own code: a backend that exits is faulty, and shouldn't end the program.
    if is_work and not isinstance(error, Exception):
        exit = Exit(error)
        exit.__traceback__ = error.__traceback__
        return exit
    if is_work:
        wrapped: MelleaError = OutputError(f"code of your own failed inside the call: {describe_error(error)}")
    else:
        wrapped = BackendError(f"the backend {backend!r} failed: {describe_error(error)}", backend=backend, model=model)
    # As the cause, so that the traceback still shows where it came from.
    wrapped.__cause__ = error
    return wrapped


def describe_error(error: BaseException) -> str:
    """Return an error's type, text and notes in one line, without keys: other libraries put them into addresses."""
    try:
        said = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
        return scrub_text(said, list_known_secrets())
    except Exception:  # noqa: BLE001 - an error of the user's that can't be turned into text
        return type(error).__name__


def make_lost_error(how: str) -> StreamingError:
    """Create the error for readers of a run whose loop has gone; `how` is, for example, "has been closed"."""
    return StreamingError(
        f"the event loop that ran this generation {how}, so the rest of it never arrived; "
        "keep that loop running until the thunk has been awaited"
    )


def make_left_behind_error() -> StreamingError:
    """Create the error for readers in a forked child of a run of the parent."""
    return StreamingError("this generation belongs to the parent process; start a new one after the fork")


def make_interrupted_error(backend: str | None, model: str | None) -> InterruptedStreamError:
    """Make the error for a backend that stopped without a `StreamEnd`."""
    return InterruptedStreamError(
        f"the stream from backend {backend!r} stopped before its end; what had arrived is in .partial",
        backend=backend,
        model=model,
        is_retryable=True,
    )


def make_overdue_error(what: str, seconds: float, backend: str | None, model: str | None) -> DeadlineError:
    """Make the error for a deadline that has passed; `what` says what, such as "the model … was silent for"."""
    return DeadlineError(
        f"{what} {seconds:g} s; for more time: model_options={{'timeout': seconds in total, or Deadlines(…)}}",
        backend=backend,
        model=model,
        is_retryable=True,
    )
