"""The functions that make requirements: each is an entrance, whose errors show the program's lines alone."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from mellea.errors import UsageError
from mellea.stdlib import requirements

MAKERS = {
    name: function
    for name in requirements.__all__
    if inspect.isfunction(function := getattr(requirements, name)) and name not in ("get_output_text", "validate_all")
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_a_wrong_argument_is_told_without_the_librarys_lines(make: Callable[..., Any]) -> None:
    with pytest.raises(UsageError) as caught:
        make(3) if make is requirements.simple_validate else make("x", nonsense=1)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.filename for frame in frames] == [__file__]


def test_a_wrong_value_is_told_in_the_same_way() -> None:
    with pytest.raises(UsageError, match="length takes one of 'words'") as caught:
        requirements.length(15)  # type: ignore[arg-type]
    assert [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)] == [__file__]
