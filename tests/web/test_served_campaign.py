"""A small run of the campaign `served`: all answers are whole, those who leave stop the model, nothing stays behind."""

from __future__ import annotations

import anyio
import pytest

from benchmarks.campaigns.served import run_campaign
from tests.soak import examples


def test_a_crowd_gets_whole_answers_and_leaves_nothing_behind() -> None:
    pytest.importorskip("uvicorn", reason="the group web isn't installed")
    figures = anyio.run(run_campaign, examples(2000), 16, examples(200), 1)
    assert len(figures.leave) == 16
    before, after = figures.memory
    assert after - before < 20, "the server's memory grows with the requests"
