"""Runs of agents that are killed and resumed: a tenth of the campaign in `benchmarks/campaigns/kills.py`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.house.tree import ROOT
from tests.soak import examples


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks its processes")
def test_killed_runs_go_on_and_do_nothing_twice_that_was_finished() -> None:
    kills = examples(20, fewest=4)
    command = [sys.executable, "-m", "benchmarks.campaigns.kills", str(kills), "--seed", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    seen = {what: int(count) for count, what in (line.split(maxsplit=1) for line in done.stdout.splitlines())}
    assert seen["kills"] + seen["runs that had ended before the kill"] == kills
    assert seen["requests whose answer a kill lost"] <= seen["agents at work at a kill"]
    assert seen["runs with sub-agents"]
