"""The benchmarks run and print their table; how fast anything is, isn't looked at here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks.pairs import Samples
from tests.house.tree import ROOT


def _benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--pairs", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_the_command_prints_a_table() -> None:
    done = _benchmarks("--only", "W1,W1-sync,W4,W5,S20,growth,import")
    assert done.returncode == 0, done.stderr
    heading, *lines = done.stdout.split("\n\n")[0].splitlines()
    assert heading.split()[:3] == ["figure", "what", "unit"]
    assert [line.split()[0] for line in lines] == ["W1", "W1-sync", "W4", "W5", "S20", "growth", "import"]


def test_an_unknown_figure_is_named() -> None:
    done = _benchmarks("--only", "nonsense")
    assert done.returncode != 0
    assert "no figure is called 'nonsense'" in done.stderr


@pytest.mark.parametrize(("ratio", "code"), [(1.34, 0), (1.36, 1)])
def test_a_missed_gate_is_named(
    ratio: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_measure", lambda *_: Samples([1.0], [ratio]))
    assert command.main(["--check", "--only", "W1,W4"]) == code
    assert ("missed: W1" in capsys.readouterr().out) == bool(code)
