"""The chat example: through a pipe, at a terminal, and with a script in the model's place."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

import mellea
from mellea.errors import ConnectError
from mellea.testing import ScriptedBackend
from tests.docs.programs import PYTHON, STREAMING, Terminal, watch

PROGRAM = STREAMING / "interactive_chat.py"

at_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")


# -- through a pipe -------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_pipe_gets_the_answers_and_nothing_else() -> None:
    done = watch([*PYTHON, PROGRAM], said="Hello!\n\n/reset\nTell me about owls.")
    assert (done.returncode, done.err) == (0, "")
    assert done.out.strip()
    assert "> " not in done.out and "/quit" not in done.out
    assert len(done.arrivals) >= 10, "the answers came at once"


@pytest.mark.parametrize("said", ["", "\n\n", "/quit\nHello!\n", "/reset\n"])
@pytest.mark.sample(1)
def test_a_pipe_without_a_message_gets_nothing(said: str) -> None:
    done = watch([*PYTHON, PROGRAM], said=said)
    assert (done.returncode, done.out, done.err) == (0, "", "")


# -- at a terminal --------------------------------------------------------------------------------------


@at_a_terminal
def test_ctrl_c_stops_the_answer_and_keeps_the_chat() -> None:
    with Terminal.running(PROGRAM) as terminal:
        terminal.expect(r"/quit.*\n> ")
        terminal.type("Tell me a long story about the sea.\n")
        terminal.expect(r"sea\.\n.*?\w+\W+\w+")  # what was typed, then the beginning of the answer
        terminal.type("\x03")
        terminal.expect(r" \[stopped\]\n> ")
        terminal.type("Say hello.\n")
        terminal.expect(r"hello\.\n.*?\w.*?\n> $")
        terminal.type("/reset\n")
        terminal.expect(r"/reset\n> ")
        terminal.type("/quit\n")
        assert terminal.leave() == 0
        assert "Traceback" not in terminal.screen


@at_a_terminal
@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.sample(1)
def test_a_key_at_the_prompt_leaves(key: str) -> None:
    with Terminal.running(PROGRAM) as terminal:
        terminal.expect(r"\n> ")
        terminal.type(key)
        assert terminal.leave() == 0
        assert "Traceback" not in terminal.screen
        assert terminal.screen.endswith("\n"), "the shell's prompt begins on a line of its own"


# -- with a script in the model's place -----------------------------------------------------------------


@pytest.fixture
def program() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("interactive_chat", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


def _chat(program: ModuleType, backend: ScriptedBackend, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(lines)

    def read(prompt: str) -> str:
        assert prompt == ""
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", read)
    session = mellea.start_session(backend, ctx=mellea.ChatContext())
    with pytest.raises(EOFError):
        program.chat(session, is_person=False)


def _histories(backend: ScriptedBackend) -> list[list[str]]:
    return [[message.content for message in request.messages] for request in backend.requests]


def test_reset_forgets(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend("1", "2", "3")
    _chat(program, backend, ["a", "b", "/reset", "c"], monkeypatch)
    assert _histories(backend) == [["a"], ["a", "1", "b"], ["c"]]


def test_a_failed_answer_is_told_and_left_out(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = ScriptedBackend(["1", ConnectError("the line is dead")], "2")
    _chat(program, backend, ["a", "b"], monkeypatch)
    assert _histories(backend) == [["a"], ["b"]]
    printed = capsys.readouterr()
    assert printed.out == "12\n"
    assert "the line is dead" in printed.err
