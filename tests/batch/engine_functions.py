"""What the workers of engines map: they import it by name."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import mellea
from mellea.core.backend import Request
from mellea.testing import Pause, ScriptedBackend


@dataclass
class Mail:
    kind: str
    urgency: int


def _answer(request: Request) -> list[object]:
    word = request.messages[-1].text.split()[-1]
    if log := os.environ.get("MELLEA_TEST_CALLS"):
        with Path(log).open("a") as file:
            file.write(f"{word}\n")
    marker = os.environ.get("MELLEA_TEST_KILL")
    if marker and word == "k40" and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [Pause(0.01), json.dumps({"kind": word, "urgency": 3})]


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(_answer)))
def classify(text: str) -> Mail:
    """Classify a mail."""


CLASSIFY = f"{__name__}:classify"
