"""A sync iterator is advanced by one thread at a time; a second one gets an error, and the first one loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mellea
from mellea import Agent, MelleaSession
from mellea.core.events import TextDelta
from mellea.errors import UsageError
from mellea.stdlib.streaming import StreamChunk, merge
from mellea.testing import Gate, ScriptedBackend

TEXT = '[{"a": 1}, {"a": 2}]'


def read_items(backend: ScriptedBackend) -> Iterator[Any]:
    return MelleaSession(backend).stream("x", format=list[dict[str, int]]).items()


def map_rows(backend: ScriptedBackend) -> Iterator[Any]:
    return mellea.map(MelleaSession(backend).instruct, ["a", "b"], concurrency=1)


READERS: dict[str, Callable[[ScriptedBackend], Iterator[Any]]] = {
    "text": lambda backend: iter(MelleaSession(backend).stream("x")),
    "events": lambda backend: MelleaSession(backend).stream("x").events(),
    "items": read_items,
    "chunks": lambda backend: iter(Agent(backend).stream("x", live=True)),
    "merged": lambda backend: iter(merge({"a": MelleaSession(backend).stream("x")})),
    "rows": map_rows,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_second_thread_gets_an_error_and_the_first_one_everything(kind: str) -> None:
    def script(gate: Gate) -> Any:
        return lambda request: [TEXT[:10], gate, TEXT[10:]]

    whole = READERS[kind](ScriptedBackend(script(Gate(is_open=True))))
    expected = sorted(piece for value in whole for piece in cut(value))
    gate, got = Gate(), list[str]()
    backend = ScriptedBackend(script(gate))
    reader = READERS[kind](backend)

    def read_all() -> None:
        for value in reader:
            got.extend(cut(value))

    thread = threading.Thread(target=read_all)
    thread.start()
    try:
        give_up = time.monotonic() + 20
        with pytest.raises(UsageError, match="in another thread"):
            while time.monotonic() < give_up:  # what has arrived may be read between two steps of the thread
                got.extend(cut(next(reader)) if backend.requests else time.sleep(0.001) or ())
    finally:
        gate.open()
        thread.join()
    assert sorted(got) == expected


def cut(value: Any) -> Iterator[str]:
    """Cut text into characters, since deltas may be joined or not; leave the rest whole."""
    match value:
        case str(text) | TextDelta(text) | StreamChunk(text=text) | (str(), str(text)):
            yield from text
        case _:
            yield repr(value)


def test_rows_that_depend_on_the_rows_before_them_are_an_error() -> None:
    def list_rows() -> Iterator[str]:
        yield "a"
        yield f"after {next(rows).value}"

    rows = mellea.map(MelleaSession(ScriptedBackend("x")).instruct, list_rows(), concurrency=1)
    with pytest.raises(UsageError, match="further up in this one"):
        list(rows)
