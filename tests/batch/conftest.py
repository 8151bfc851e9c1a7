"""The providers' batches that the tests of this room are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mellea.batch import desk
from tests.batch.batch_server import BatchServer, serve


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a person wouldn't notice."""
    monkeypatch.setattr(desk, "_FIRST_LOOK", 0.02)
    monkeypatch.setattr(desk, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(desk, "_SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("mellea.batch.attempts._FIRST_PAUSE", 0.01)


@pytest.fixture(params=["openai", "anthropic", "gemini"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(provider: str) -> Iterator[BatchServer]:
    with serve(provider, BatchServer()) as server:
        yield server
