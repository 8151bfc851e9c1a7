"""`mellea chat`: turns of a conversation, commands, and Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest

import mellea
from mellea.cli import chat
from mellea.errors import OverloadedError
from mellea.testing import ScriptedBackend
from tests.cli.conftest import Run


def talk(monkeypatch: pytest.MonkeyPatch, run: Run, lines: str, *replies: Any) -> tuple[Any, ScriptedBackend]:
    backend = ScriptedBackend(*replies)
    monkeypatch.setattr(chat, "start_session", lambda model, **more: mellea.start_session(backend, **more))
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return run("chat", "--system", "Be kind."), backend


def test_each_line_of_a_pipe_is_a_turn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done, backend = talk(monkeypatch, run, "I am Ada.\n\nWho am I?\n", ["Hello ", "Ada."], "Ada.")
    assert (done.code, done.stdout, done.stderr) == (0, "Hello Ada.\nAda.\n", "")
    said = [message.content for message in backend.requests[1].messages]
    assert said == ["Be kind.", "I am Ada.", "Hello Ada.", "Who am I?"]


def test_commands_are_no_turns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "a\n/clear\nb\n/usage\n/nonsense\n/help\n/model other\nc\n/exit\nd\n"
    done, backend = talk(monkeypatch, run, lines, *"xyz")
    assert done.stdout == "x\ny\nz\n" and len(backend.requests) == 3
    assert [message.content for message in backend.requests[1].messages] == ["Be kind.", "b"]
    assert [message.content for message in backend.requests[2].messages][1:] == ["b", "y", "c"]
    done, _ = talk(monkeypatch, run, "a\n/reset\nb\n/quit\nc\n", *"xyz")  # what they are called elsewhere
    assert done.stdout == "x\ny\n"


def test_what_commands_say_goes_to_stderr(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "a\n/usage\n/nonsense\n/help\n/model other\n"
    done, _ = talk(monkeypatch, run, lines, *"xyz")
    for said in (
        "? + ? tokens, the cost is unknown",
        "no command '/nonsense'",
        "/model NAME      continue with another model\n",
        "mellea: other; /help lists",
    ):
        assert said in done.stderr


def test_a_failure_is_told_and_the_conversation_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = talk(monkeypatch, run, "a\nb\n", OverloadedError("busy"), "here")
    assert done.code == 0 and done.stdout == "here\n" and "mellea: busy" in done.stderr


TERMINAL = """
    import mellea
    from mellea.cli import chat, main
    from mellea.testing import Pause, ScriptedBackend
    backend = ScriptedBackend(["Endless", Pause(float("inf"))], "Second.")
    chat.start_session = lambda *a, **b: mellea.start_session(backend, **b)
    raise SystemExit(main(["chat"]))
"""


def test_on_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(tmp_path: Any) -> None:
    pty = pytest.importorskip("pty", reason="there are no terminals of this kind")
    ours, its = pty.openpty()
    environment = {**os.environ, "MELLEA_CACHE": str(tmp_path), "TERM": "xterm", "COLUMNS": "80"}
    reset = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", reset + textwrap.dedent(TERMINAL)]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True)
    os.close(its)
    shown = b""

    def until(expected: bytes) -> None:
        nonlocal shown
        while expected not in shown:
            part = os.read(ours, 4096)
            if b"\x1b[6n" in part:  # prompt_toolkit asks where the cursor is
                os.write(ours, b"\x1b[1;1R")
            shown += part
        shown = shown[shown.index(expected) + len(expected) :]

    until(b">")
    os.write(ours, b"first\r")
    until(b"Endless")
    process.send_signal(signal.SIGINT)
    until(b"(stopped)")
    until(b">")
    os.write(ours, b"second\r")
    until(b"Second.")
    until(b">")
    os.write(ours, b"\x04")
    assert process.wait(60) == 0
    os.close(ours)
    assert (tmp_path / "chat_history").stat().st_mode & 0o077 == 0
