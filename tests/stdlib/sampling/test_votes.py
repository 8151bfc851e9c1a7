"""What counts as the same vote: values, not texts."""

from __future__ import annotations

from typing import Any, Literal

import pytest

import mellea
from mellea.stdlib.sampling import MajorityVotingStrategy
from mellea.testing import ScriptedBackend


@pytest.mark.parametrize(
    ("format", "texts", "elected"),
    [
        (int | None, ["5", "5", "null", "None", "```\nnull\n```"], None),
        (bool | int, ["1", "true", "true"], True),
        (list[bool | int], ["[1]", "[true]", "[true]"], [True]),
        (dict[str, bool | int], ['{"a": 0}', '{"a": false}', '{"a": false}'], {"a": False}),
        (int | float, ["2", "1", "1.0"], 1),
        ({"type": ["null", "integer"]}, ["5", "null", " null\n"], None),
        (Literal["a", "b"], ["b", "A", "a"], "a"),
        (None, ["No.", "yes ", "Yes"], "yes "),
    ],
)
def test_votes_are_counted_by_value(format: Any, texts: list[str], elected: Any) -> None:
    m = mellea.start_session(ScriptedBackend(*texts))
    strategy = MajorityVotingStrategy(len(texts), concurrency_budget=1)
    result = m.instruct("x", format=format, strategy=strategy)
    parsed = result.value if format is None else result.parsed
    assert parsed == elected
    assert str(parsed) == str(elected)  # True isn't 1
