"""What the workers of engines map: they import it by name."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mellea
from mellea.core.backend import Request
from mellea.events import Usage
from mellea.testing import Pause, ScriptedBackend


@dataclass
class Mail:
    kind: str
    urgency: int


def _answer(request: Request) -> list[object] | str:
    word = request.messages[-1].text.split()[-1]
    note_call(word)
    if word == "k40":
        _kill_if_armed()
    return "no JSON" if word == "wrong" else [Pause(0.01), json.dumps({"kind": word, "urgency": 3})]


def note_call(word: str) -> None:
    if log := os.environ.get("MELLEA_TEST_CALLS"):
        with Path(log).open("a") as file:
            file.write(f"{word}\n")


def _kill_if_armed() -> None:
    """Kill the worker, once after each making of the file."""
    armed = os.environ.get("MELLEA_TEST_KILL")
    if armed:
        with suppress(FileNotFoundError):
            os.rename(armed, f"{armed}-done")
            os.kill(os.getpid(), signal.SIGKILL)


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(_answer)), strategy=None)
def classify(text: str) -> Mail:
    """Classify a mail."""


CLASSIFY = f"{__name__}:classify"


def _hesitate(request: Request) -> list[object]:
    note_call(request.messages[-1].text.split()[-1])
    return [Pause(3600), "never"]


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(_hesitate)), strategy=None)
def linger(text: str) -> str:
    """Say something, in an hour."""


LINGER = f"{__name__}:linger"

_PRICEY = mellea.MelleaSession(ScriptedBackend(lambda request: "Fine.", usage=Usage(input_tokens=60, output_tokens=40)))


@mellea.generative(session=_PRICEY, strategy=None)
def spend(text: str) -> str:
    """Use a hundred tokens."""


SPEND = f"{__name__}:spend"


def shout(word: str, times: int) -> str:
    note_call(word)
    return word.upper() * times


def make_tuples() -> Iterator[tuple[str, int]]:
    yield from [("a", 1), ("b", 2), ("c", 3)]
