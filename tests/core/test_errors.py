"""Errors copy, pickle and stand in one tree."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from mellea import errors
from mellea.errors import BackendError, MelleaError

ALL: list[type[MelleaError]] = [getattr(errors, name) for name in errors.__all__]

FIELDS = {"backend": "b", "model": "m", "status": 500, "request_id": "r-1", "is_retryable": True, "partial": "so far"}


def make(kind: type[MelleaError]) -> MelleaError:
    if kind is errors.RateLimitError:
        return errors.RateLimitError("what happened", retry_after=2.5, **FIELDS)
    if issubclass(kind, BackendError):
        return kind("what happened", **FIELDS)  # type: ignore[arg-type]
    if kind is errors.RequirementError:
        return errors.RequirementError("what happened", results=[["bad"]], partial="so far")
    if kind is errors.BudgetExceededError:
        return errors.BudgetExceededError("what happened", spent={"tokens": 3}, done=2)
    return kind("what happened", partial="so far")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_is_rebuilt_with_all_it_says(kind: type[MelleaError], remake) -> None:
    error = make(kind)
    twin = remake(error)
    assert twin is not error
    assert type(twin) is kind
    assert str(twin) == "what happened"
    assert vars(twin) == vars(error)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_can_be_made_of_a_message_alone(kind: type[MelleaError]) -> None:
    assert kind("x").partial == ""
    assert kind().args == ("",)


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (errors.UsageError, [RuntimeError]),
        (errors.StreamingError, [errors.UsageError, RuntimeError]),
        (errors.MissingExtraError, [errors.ConfigurationError, ImportError]),
        (errors.DeadlineError, [BackendError, TimeoutError]),
        (errors.AuthError, [errors.StatusError]),
        (errors.RateLimitError, [errors.StatusError]),
        (errors.OverloadedError, [errors.StatusError]),
        (errors.BadRequestError, [errors.StatusError]),
        (errors.NotFoundError, [errors.StatusError]),
        (errors.StatusError, [BackendError]),
        (errors.ConnectError, [BackendError]),
        (errors.WireError, [BackendError]),
        (errors.InterruptedStreamError, [BackendError]),
        (errors.UnsupportedError, [BackendError, errors.ConfigurationError]),
        (errors.ParseError, [errors.OutputError]),
        (errors.RequirementError, [errors.OutputError]),
        (errors.ToolLoopLimitError, [errors.ToolError]),
        (errors.GenerationCancelledError, [MelleaError]),
    ],
)
def test_the_tree_is_the_one_drawn_on_top_of_the_file(kind: type[MelleaError], parents: list[type]) -> None:
    assert all(issubclass(kind, parent) for parent in [*parents, MelleaError])
    drawn = [line.split()[0] for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    assert set(errors.__all__) >= set(drawn) and kind.__name__ in (errors.__doc__ or "")


def test_another_reader_gets_a_copy_with_the_same_cause_and_notes_of_its_own() -> None:
    error = make(errors.RateLimitError)
    error.__cause__ = OSError("the root")
    error.add_note("first")
    twin = error.clone()
    assert twin is not error and twin.__cause__ is error.__cause__
    twin.add_note("second")
    assert (error.__notes__, twin.__notes__) == (["first"], ["first", "second"])
    del twin.__notes__, error.__notes__
    assert (str(twin), vars(twin)) == (str(error), vars(error))


def test_tracebacks_of_many_readers_dont_pile_up() -> None:
    error = make(errors.WireError)
    depths = []
    for _ in range(20):
        try:
            raise error.clone()
        except errors.WireError as raised:
            depths.append(len(traceback.extract_tb(raised.__traceback__)))
    assert depths == [1] * 20
    assert error.__traceback__ is None


def test_a_users_own_kind_of_error_copies_whatever_its_constructor_takes() -> None:
    class PolicyError(errors.BackendError):
        def __init__(self, rule: str, *, severity: int) -> None:
            super().__init__(f"rule {rule!r} was broken", backend="mine")
            self.severity = severity

    error = PolicyError("no rhymes", severity=3)
    for twin in (copy.copy(error), error.clone()):
        assert (str(twin), twin.severity, twin.backend) == ("rule 'no rhymes' was broken", 3, "mine")
