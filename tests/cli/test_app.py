"""What holds of every command: exit codes, completion, and what isn't loaded for it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mellea.cli.app import _COMMANDS
from tests.cli.conftest import COMMAND, Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    environment = {**os.environ, "_MELLEA_COMPLETE": f"complete_{shell}"}
    asked = {
        "bash": [({"COMP_WORDS": "mellea m", "COMP_CWORD": "1"}, ["map", "mcp", "models"])],
        "zsh": [({"_TYPER_COMPLETE_ARGS": "mellea ask --max"}, ["--max-tokens"])],
        "fish": [
            ({"_TYPER_COMPLETE_ARGS": "mellea models p", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, ["pull"]),
        ],
    }
    for more, expected in asked[shell]:
        done = subprocess.run(COMMAND, env={**environment, **more}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and all(name in done.stdout for name in expected), done
        assert "doctor" not in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_shells_script_is_shown(run: Run) -> None:
    # Not installed: that writes into the files of whoever runs the tests.
    # It is for the shell that it is called from, and a background job may have none above it.
    line = f"{shlex.join(COMMAND)} --show-completion; exit $?"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "complete" in done.stdout and "mellea" in done.stdout


def test_every_command_has_help_without_a_terminal(run: Run) -> None:
    for name in _COMMANDS:
        done = run(name, "--help")
        assert done.code == 0 and done.stdout.startswith(f"Usage: mellea {name}") and done.stderr == ""
        assert "╭" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["run", "codes.py:right"], 0),
        (["ask", "x", "-m", "openai/x"], 1),
        (["run", "codes.py:right", "x=1"], 2),
        (["run", "codes.py:interrupted"], 130),
    ],
)
def test_an_exit_code_says_how_it_ended(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    (tmp_path / "codes.py").write_text(
        "def right():\n    return 1\n\ndef interrupted():\n    raise KeyboardInterrupt\n"
    )
    monkeypatch.setattr("sys.stdin", None)
    done = run(*arguments, OPENAI_API_KEY="a-key", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.code == code and "Traceback" not in done.stderr
    assert (done.stderr == "") == (code in (0, 130))


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--version"], {"rich.console", "mellea.stdlib", "mellea.backends", "prompt_toolkit", "httpx"}),
        (
            ["ask", "--help"],
            {"rich.console", "prompt_toolkit", "httpx", "mellea.serve", "mellea.batch"},
        ),
        (["ask", "x", "-m", "openai/"], {"rich.console", "prompt_toolkit", "mellea.serve", "mellea.batch"}),
    ],
)
def test_a_command_loads_what_it_needs(arguments: list[str], unwanted: set[str]) -> None:
    program = (
        "import sys; from mellea.cli import main; main(sys.argv[1:]);"
        f"print('loaded', [name for name in {sorted(unwanted)!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.stdout.endswith("loaded []\n"), done
