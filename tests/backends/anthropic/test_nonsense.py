"""Every value of an answer put wrong, one after the other: an error of mellea's, or events that make sense."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mellea.backends.anthropic.decode import Decoder
from mellea.backends.anthropic.encode import encode
from mellea.core.backend import Request
from mellea.core.events import ReasoningDelta, TextDelta, ToolDelta
from mellea.core.messages import user_message
from mellea.errors import BackendError
from tests.backends.anthropic.answers import EVERYTHING
from tests.backends.recorded import outcome

NONSENSE: list[Any] = [None, 5, "x", [], {}, [1], {"type": 5}]


def _events() -> list[Any]:
    return [json.loads(line[6:]) for line in EVERYTHING.decode().splitlines() if line.startswith("data: ")]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from _places(each, (*path, key))


def _with(events: list[Any], path: tuple[Any, ...], value: Any) -> bytes:
    changed = holder = copy.deepcopy(events)
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return "".join(f"data: {json.dumps(event)}\n\n" for event in changed).encode()


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_nothing_else_is_raised(nonsense: Any) -> None:
    events = _events()
    for path in _places(events):
        told = outcome(Decoder("m"), _with(events, path, nonsense))
        for event in told.events:
            if isinstance(event, (TextDelta, ReasoningDelta, ToolDelta)):
                assert isinstance(event.chunk, str), path
        message = told.generation.message
        try:
            json.dumps(encode(Request((user_message("Hi"), message, user_message("Go on."))), "m"))
        except BackendError as error:
            assert str(error)
