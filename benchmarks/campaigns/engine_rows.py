"""What the workers of an engine map in `engine_kills.py`: they import it by name, and note that they are there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import mellea
from mellea.backends.openai import OpenAIBackend

__all__ = ["measure"]


@dataclass
class Found:
    """What the model says of a row."""

    word: str
    length: int


_backend = OpenAIBackend(
    "m", base_url=f"{os.environ.get('CAMPAIGN_ADDRESS', 'http://127.0.0.1:9')}/v1", api_key="-", retries=0
)


@mellea.generative(session=mellea.MelleaSession(_backend))
def measure(text: str) -> Found:
    """Say how long the word is."""


if folder := os.environ.get("CAMPAIGN_WORKERS"):
    Path(folder, str(os.getpid())).touch()
