"""Rows whose fields aren't what the function takes: told by their names, and soon the end of the map."""

from __future__ import annotations

import functools
from typing import Any, Literal

import pytest

import mellea
from mellea.batch import map as map_rows
from mellea.errors import UsageError
from mellea.testing import ScriptedBackend

backend = ScriptedBackend(lambda request: '"good"')


@mellea.generative(session=mellea.MelleaSession(backend))
def mood(review: str) -> Literal["good", "bad"]:
    """Say whether a review is good."""


def count(review: str) -> int:
    """Count the letters of a review."""
    return len(review)


def list_outcomes(function: Any, rows: Any, **arguments: Any) -> tuple[list[Any], str]:
    """Return the errors of the rows that came, and that of the map."""
    errors: list[Any] = []
    try:
        errors.extend(row.error for row in map_rows(function, rows, **arguments))
    except UsageError as error:
        return errors, str(error)
    return errors, ""


SESSION = mellea.MelleaSession(backend)
AGENT = mellea.Agent(SESSION, [])
NEEDS = {
    "prompt function": (mood, "review"),
    "plain function": (count, "review"),
    "partial": (functools.partial(count), "review"),
    "verb": (SESSION.instruct, "description"),
    "partial of a verb": (functools.partial(SESSION.instruct, strict=True), "description"),
    "agent": (AGENT, "prompt"),
}


@pytest.mark.parametrize("kind", NEEDS)
def test_a_column_of_another_name_ends_the_map_after_three_rows_and_names_both(kind: str) -> None:
    function, needed = NEEDS[kind]
    backend.requests.clear()
    errors, said = list_outcomes(function, ({"text": str(number)} for number in range(1_000)))
    assert len(errors) == 2
    assert f"missing a required argument: {needed!r}" in said
    assert f"the row has 'text'; rename 'text' to {needed!r}" in said
    assert str(errors[0]) == said
    assert backend.requests == []


@pytest.mark.parametrize("kind", NEEDS)
def test_a_column_that_identifies_the_row_is_left_out_and_the_error_without_id_says_how(kind: str) -> None:
    function, needed = NEEDS[kind]
    rows = [{needed: "fine", "nr": number} for number in range(5)]
    errors, said = list_outcomes(function, rows)
    assert len(errors) == 2
    assert "leave out 'nr', or pass id='nr' (on the command line --id nr) if that identifies the row" in said
    assert list_outcomes(function, rows, id="nr") == ([None] * 5, "")


def test_a_few_odd_rows_fail_alone() -> None:
    rows = [{"review": "a"}, *[{"text": "b"}] * 5, {"review": "c"}]
    errors, said = list_outcomes(count, rows, concurrency=1)
    assert said == ""
    assert [error is None for error in errors] == [True, *[False] * 5, True]
    # Rows that differ among themselves say nothing about all.
    errors, said = list_outcomes(count, [{"a": "x"}, {"b": "x"}, {"c": "x"}, {"review": "x"}], concurrency=1)
    assert (said, [error is None for error in errors]) == ("", [False, False, False, True])


def test_a_function_of_any_fields_takes_any_fields() -> None:
    assert list_outcomes(lambda **fields: len(fields), [{"a": 1}, {"b": 2, "c": 3}]) == ([None, None], "")
    assert list_outcomes(lambda a, b=1: a, [{"a": 1}, {"a": 1, "b": 2}]) == ([None, None], "")


def test_a_wrong_name_of_an_argument_isnt_taken_for_the_prompt() -> None:
    with pytest.raises(UsageError, match="the prompt is made from the function's own docstring and parameters"):
        mood(text="fine")  # type: ignore[call-arg]
