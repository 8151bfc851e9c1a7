"""The page of the providers says what the backends say of themselves."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/providers", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
