"""The benchmarks run and print their table; how fast anything is, isn't looked at here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.pairs import Samples
from tests.house.tree import ROOT
from tests.soak import is_thorough


def _benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--pairs", "1", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "MELLEA_PEERS"}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, env=environment
    )


def test_the_command_prints_a_table() -> None:
    every = ["W1", "W1-sync", "W4", "W5", "call", "way-calls", "delta-files", "S20", "growth", "import"]
    asked = every if is_thorough() else ["W1", "import"]
    done = _benchmarks("--only", ",".join(asked))
    assert done.returncode == 0, done.stderr
    heading, *lines = done.stdout.split("\n\n")[0].splitlines()
    assert heading.split()[:3] == ["figure", "what", "unit"]
    assert [line.split()[0] for line in lines] == asked


@pytest.mark.thorough
def test_another_checkout_is_measured_in_turns_with_this_one(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "mellea", other / "mellea")
    slow = other / "mellea" / "__init__.py"
    slow.write_text(slow.read_text("utf-8") + "\nsum(range(10_000_000))\n", "utf-8")
    done = _benchmarks("--only", "import", "--against", str(other))
    assert done.returncode == 0, done.stderr
    heading, line = done.stdout.splitlines()[:2]
    assert heading.split()[3:5] == ["there", "here"]
    there, here = line.split()[-5:-3]
    assert float(there) > float(here), "the slower one is the other one"


def test_a_peer_that_isnt_installed_is_skipped_and_says_so() -> None:
    done = _benchmarks("--only", "W5-mellea-0.8")
    assert done.returncode == 0, done.stderr
    assert "skipped: mellea is " in done.stdout and "MELLEA_PEERS" in done.stdout


@pytest.mark.parametrize(("peer", "module"), [("pydantic-ai", "pydantic_ai"), ("openai-agents", "agents")])
@pytest.mark.thorough
def test_another_agent_is_measured_beside_ours(peer: str, module: str) -> None:
    pytest.importorskip(module, reason=f"{peer} isn't installed")
    done = _benchmarks("--only", f"agent-step-{peer}")
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[1]
    assert line.startswith(f"agent-step-{peer} ")
    assert "skipped" not in line


@pytest.mark.thorough
def test_a_peer_is_measured_in_a_process_of_its_own() -> None:
    pytest.importorskip("openai", reason="OpenAI's client isn't installed")
    asked = ["W1-openai", "W3-openai", "W4-openai", "W5-openai"] if is_thorough() else ["W4-openai"]
    done = _benchmarks("--only", ",".join(asked))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "-openai" in line]
    assert [row[0] for row in rows] == asked


def test_an_unknown_figure_is_named() -> None:
    with pytest.raises(SystemExit, match="no figure is called 'nonsense'"):
        command.main(["--only", "nonsense"])


@pytest.mark.parametrize(("ratio", "code"), [(1.34, 0), (1.36, 1)])
def test_a_missed_gate_is_named(
    ratio: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_measure", lambda *_: Samples([1.0], [ratio]))
    assert command.main(["--check", "--only", "W1,W4"]) == code
    assert ("missed: W1" in capsys.readouterr().out) == bool(code)
