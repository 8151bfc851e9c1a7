"""The example of durable steps: killed in the middle and gone on with, its text live out of the step that runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "durable_steps.py"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dbos") is None or not EXAMPLE.exists(),
    reason="DBOS, or the example, isn't here; the group durable has DBOS",
)


def test_a_killed_job_repeats_the_step_that_was_cut_off_and_no_other_and_its_text_is_live() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=280, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("killed\n")
    asked = [line.partition(": ")[2].rstrip("]") for line in first.splitlines() if "is asked" in line]
    assert asked == [
        "Plan a report on animals: name its chapters.",
        "Write the chapter Owls.",
        "Write the chapter Bats.",
    ]
    asked = [line.partition(": ")[2].rstrip("]") for line in second.splitlines() if "is asked" in line]
    assert asked == ["Write the chapter Bats.", "Sum up the report:"]
    lines = first.splitlines()
    # The first chapter is read before the second one is asked for, so it didn't wait for the end of the workflow.
    assert lines.index("  live: Owls 0: 'Owls '") < lines.index("  [the model is asked: Write the chapter Bats.]")
    assert second.count("live: Bats 0:") == 2, "once as it was cut off, once when it was written again"
    assert "the report: Owls fly at night. Bats fly at night." in second
    assert second.endswith("done\n")
