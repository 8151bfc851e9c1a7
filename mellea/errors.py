"""Every error that mellea raises.

    MelleaError
      UsageError (RuntimeError)             the call is wrong, whatever the model does
        StreamingError                      streaming was requested where it can't work, or its loop is gone
        StateError                          saved state can't be read back: unknown, changed or damaged
        UsageTypeError (TypeError)          arguments that don't fit, or an object used as something that it isn't
        UsageAttributeError (AttributeError)   an attribute that has another name here
      ConfigurationError                    something has to be installed, set or chosen first
        MissingExtraError (ImportError)     an optional dependency isn't installed
      BackendError                          the model's side failed
        ConnectError                        no connection to the provider
        DeadlineError (TimeoutError)        the provider was silent for too long
        StatusError                         the provider answered with an error status
          AuthError  RateLimitError  OverloadedError  BadRequestError  NotFoundError
        WireError                           the provider's bytes aren't valid
        InterruptedStreamError              the stream stopped before the provider's own end mark
        UnsupportedError (ConfigurationError)   this backend can't do what was asked
      OutputError                           the model answered, but not what was requested
        ParseError                          the text is not a value of the requested type
        RequirementError                    no attempt passed the requirements
      ToolError                             a tool failed
        ToolLoopLimitError                  the model kept calling tools
      GenerationCancelledError              the generation was cancelled
      BudgetExceededError                   the budget of a map is used up

Errors can be copied and pickled: each one is rebuilt from its message and its attributes. A message never contains an
API key.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AuthError",
    "BackendError",
    "BadRequestError",
    "BudgetExceededError",
    "ConfigurationError",
    "ConnectError",
    "DeadlineError",
    "GenerationCancelledError",
    "InterruptedStreamError",
    "MelleaError",
    "MissingExtraError",
    "NotFoundError",
    "OutputError",
    "OverloadedError",
    "ParseError",
    "RateLimitError",
    "RequirementError",
    "StateError",
    "StatusError",
    "StreamingError",
    "ToolError",
    "ToolLoopLimitError",
    "UnsupportedError",
    "UsageAttributeError",
    "UsageError",
    "UsageTypeError",
    "WireError",
]


class MelleaError(Exception):
    """Base of every error that mellea raises on purpose.

    Attributes:
        partial: the text that arrived before the error, `""` if there was none.
    """

    partial: str

    def __init__(self, message: str = "", *, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial

    def clone(self) -> Self:
        """Return a copy with the same cause, for one more reader to raise and to add notes to."""
        # Not `type(self)(…)`: subclasses take other arguments.
        twin = copy.copy(self)
        if notes := getattr(self, "__notes__", None):
            # A separate list, or one reader's notes would show up in the errors of all the others.
            twin.__notes__ = list(notes)
        twin.__cause__ = self.__cause__
        return twin

    def __reduce__(self) -> Any:
        return _remake, (type(self), self.args), self.__dict__


def _remake(kind: type[MelleaError], args: tuple[Any, ...]) -> MelleaError:
    """Make an error without attributes, bypassing `kind.__init__`, since a subclass may take other arguments."""
    error = kind.__new__(kind, *args)
    super(MelleaError, error).__init__(*args)
    return error


class UsageError(MelleaError, RuntimeError):
    """A call, or one of its arguments, is wrong."""


class StreamingError(UsageError):
    """Streaming was requested where it can't work, or the loop that ran a stream is gone."""


class StateError(UsageError):
    """Saved state can't be read back (an unknown version or kind, changed or damaged), or it can't be written."""


class UsageTypeError(UsageError, TypeError):
    """The arguments don't fit, or an object was used as something that it isn't, such as a stream that was awaited."""


class UsageAttributeError(UsageError, AttributeError):
    """There is no such attribute; the message says what it is called here."""


class ConfigurationError(MelleaError):
    """Something has to be installed, set or chosen before this can work."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency isn't installed; the message names the command that installs it."""


class ErrorFields(TypedDict, total=False):
    """The attributes of a `BackendError`, for functions that hand them on to it."""

    backend: str | None
    model: str | None
    request_id: str | None
    is_retryable: bool
    partial: str


class BackendError(MelleaError):
    """The provider or the model failed.

    Attributes:
        backend: name of the backend, such as `"openai"`.
        model: id of the requested model.
        status: HTTP status, where there was one.
        request_id: the provider's id of the request, for its support.
        is_retryable: whether the same request may succeed later.
    """

    def __init__(
        self,
        message: str = "",
        *,
        backend: str | None = None,
        model: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        is_retryable: bool = False,
        partial: str = "",
    ) -> None:
        super().__init__(message, partial=partial)
        self.backend = backend
        self.model = model
        self.status = status
        self.request_id = request_id
        self.is_retryable = is_retryable


class ConnectError(BackendError):
    """No connection to the provider could be made."""


class DeadlineError(BackendError, TimeoutError):
    """A deadline passed: connect, first byte, between bytes, or total."""


class StatusError(BackendError):
    """The provider answered with an error status."""


class AuthError(StatusError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class RateLimitError(StatusError):
    """Too many requests (429).

    Attributes:
        retry_after: seconds the provider asks to wait, where it said so.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        **fields: Unpack[ErrorFields],
    ) -> None:
        super().__init__(message, status=status, **fields)
        self.retry_after = retry_after


class OverloadedError(StatusError):
    """The provider is overloaded (503, 529)."""


class BadRequestError(StatusError):
    """The provider rejects the request (400, 413, 422)."""


class NotFoundError(StatusError):
    """The model or the address doesn't exist (404)."""


class WireError(BackendError):
    """The provider sent bytes that its own protocol doesn't allow."""


class InterruptedStreamError(BackendError):
    """The stream stopped before the provider's own end mark; `partial` holds the text so far."""


class UnsupportedError(BackendError, ConfigurationError):
    """This backend can't do what was asked; nothing was sent."""


class OutputError(MelleaError):
    """The model answered, but not what was requested."""


class ParseError(OutputError):
    """The model's text is not a value of the requested type; `partial` holds the text.

    Attributes:
        index: index of the invalid item in a sequence, from 0; `None` if the error isn't about one item.
        raw: that item's text.
        items: the valid items before it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        index: int | None = None,
        raw: str = "",
        items: Sequence[Any] = (),
        partial: str = "",
    ) -> None:
        super().__init__(message, partial=partial)
        self.index = index
        self.raw = raw
        self.items = tuple(items)


class RequirementError(OutputError):
    """No attempt passed the requirements.

    Attributes:
        results: one list of validation results for each attempt; for one that was stopped while it was written, or
            isn't a value of the requested type, it has the result that says so alone.
    """

    def __init__(self, message: str = "", *, results: Sequence[Any] = (), partial: str = "") -> None:
        super().__init__(message, partial=partial)
        self.results = tuple(results)

    @property
    def validation(self) -> list[Any]:
        """The results of the last attempt; Mellea 0.8's name for them."""
        return list(self.results[-1]) if self.results else []


class ToolError(MelleaError):
    """A tool failed, or can't be called."""


class ToolLoopLimitError(ToolError):
    """The model kept calling tools up to the limit; `partial` holds the text so far."""


class GenerationCancelledError(MelleaError):
    """The generation was cancelled; `partial` holds the text that had arrived."""


class BudgetExceededError(MelleaError):
    """The budget of a map is used up; all rows that were started have been yielded.

    Attributes:
        spent: what it took, by the names of the budget: `cost` in US dollars (`None` if unknown), `tokens`, `seconds`.
        done: how many rows were handed out.
    """

    def __init__(self, message: str = "", *, spent: Mapping[str, Any] | None = None, done: int = 0) -> None:
        super().__init__(message)
        self.spent = dict(spent or {})
        self.done = done
