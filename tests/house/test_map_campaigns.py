"""The campaigns of `map` and of evaluations: a tenth or less of what `benchmarks/campaigns/` tries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.tree import ROOT
from tests.soak import examples


@pytest.mark.parametrize(
    "campaign",
    [
        ("map_kills", str(examples(1000)), "--kills", str(examples(3, fewest=1))),
        ("map_million", str(examples(3000))),
        ("evaluation_kills", str(examples(60)), "--kills", str(examples(2, fewest=1))),
        ("evaluation_rates", "100"),
    ],
    ids=lambda campaign: campaign[0],
)
@pytest.mark.sample(1)
def test_a_part_of_the_campaign_holds(campaign: tuple[str, ...]) -> None:
    name, *arguments = campaign
    command = [sys.executable, "-m", f"benchmarks.campaigns.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
