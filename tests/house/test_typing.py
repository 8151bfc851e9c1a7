"""What a type checker sees of the public surface: the files in tests/typing, checked and never run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.tree import ROOT, needs_lint_group


@pytest.mark.thorough  # and `scripts/check` has mypy look at the same files
def test_the_typing_contract_holds() -> None:
    needs_lint_group("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typing"],
        cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
