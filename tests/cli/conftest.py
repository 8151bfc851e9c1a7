"""The command, in this process and on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mellea.cli import main

pytest.importorskip("typer", reason="the extra cli isn't installed")

COMMAND = [sys.executable, "-W", "error", "-m", "mellea"]


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `mellea` in an empty folder, in this process, where stdout is no terminal."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, **environment: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main([str(each) for each in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def run_on_terminal(tmp_path: Path) -> Callable[..., str]:
    """Run `mellea` on a terminal of 100 columns, and return what it shows."""
    pty = pytest.importorskip("pty", reason="there are no terminals of this kind")

    def run(*arguments: object, **environment: str) -> str:
        ours, its = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100", "TERM": "xterm", **environment},
        )
        os.close(its)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        os.close(ours)
        assert process.wait(60) == 0, shown
        return shown.decode().replace("\r\n", "\n")

    return run
