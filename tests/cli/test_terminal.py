"""The command in a terminal, as a person uses it: typed, looked at, interrupted. The model is behind a wire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.openai_server import Model, serving_model
from tests.cli.tmux import Terminal, has_tmux, open_terminal
from tests.waiting import until_here

pytestmark = pytest.mark.skipif(not has_tmux(), reason="tmux isn't installed: nothing was typed into a terminal")


@pytest.fixture
def model() -> Iterator[Model]:
    with serving_model() as made:
        yield made


@pytest.fixture
def terminal(model: Model, tmp_path: Path) -> Iterator[Terminal]:
    with open_terminal(tmp_path, MELLEA_CACHE=str(tmp_path / "cache"), **model.environment) as opened:
        yield opened


def test_asking_pipes_and_a_conversation_that_goes_on(terminal: Terminal, model: Model) -> None:
    assert terminal.run("mellea ask hello") == ("You said 'hello', the 1. message.", 0)
    assert terminal.run("mellea ask again --continue | tr a-z A-Z") == ("YOU SAID 'AGAIN', THE 3. MESSAGE.", 0)
    assert terminal.run("echo three | mellea ask 'Say lines of' | grep 2") == ("line 2", 0)
    assert model.requests[-1] == ["Say lines of\n\nthree"] and model.left == 0


def test_a_reader_that_has_enough_ends_the_models_work_quietly(terminal: Terminal, model: Model) -> None:
    ask = """mellea ask numbers --schema '{"type": "integer"}' --items"""
    assert terminal.run(f"{ask} | head -2") == ("1\n2", 0)
    until_here(lambda: model.left == 1)


def test_ctrl_c_ends_an_answer_quietly_with_130_and_the_models_work_too(terminal: Terminal, model: Model) -> None:
    terminal.start("mellea ask count")
    terminal.expect("1 2 3 4")
    terminal.press("C-c")
    shown, code = terminal.end()
    assert shown.startswith("1 2 3 4") and shown.endswith("^C") and "\n" not in shown and code == 130
    until_here(lambda: model.left == 1)


def test_a_chat_is_interrupted_and_goes_on(terminal: Terminal, model: Model) -> None:
    terminal.start("mellea chat")
    terminal.expect("mellea: openai/echo; /help lists the commands\n>")
    terminal.type("hello")
    terminal.expect("'hello', the 1. message.\n>")
    terminal.type("count")
    terminal.expect("1 2 3 4")
    terminal.press("C-c")
    terminal.expect("(stopped)\n>")
    until_here(lambda: model.left == 1)
    terminal.press("Up", "Up")  # back in the history, to the first line
    terminal.expect("(stopped)\n> hello")
    terminal.press("Enter")
    terminal.expect("the 3. message.\n>")
    # What was stopped isn't remembered, neither the question nor the beginning of the answer.
    assert model.requests[-1] == ["hello", "You said 'hello', the 1. message.", "hello"]
    terminal.type("/model openai/other")
    terminal.expect("mellea: openai/other;")
    terminal.type("/nonsense")
    terminal.expect("there is no command '/nonsense'; /help lists them\n>")
    terminal.type("/help")
    terminal.expect("/clear           forget the conversation\n")
    terminal.type("/clear")
    terminal.type("afresh")
    terminal.expect("'afresh', the 1. message.\n>")  # with its question: the screen still has another first message
    terminal.press("C-c")  # it clears the line
    terminal.expect("'afresh', the 1. message.\n>\n>")  # what is typed before the new prompt is there is lost
    terminal.press("C-d")
    assert terminal.end()[1] == 0


@pytest.mark.parametrize("columns", [34, 160])
def test_tables_and_messages_fit_a_terminal_of_any_width(model: Model, tmp_path: Path, columns: int) -> None:
    with open_terminal(
        tmp_path, columns=columns, MELLEA_CACHE=str(tmp_path / "cache"), **model.environment
    ) as terminal:
        shown, code = terminal.run("mellea models")
        assert code == 0 and max(map(len, shown.splitlines())) <= columns
        lines = shown.splitlines()
        assert lines[0] == "provider   state  models  why not" and lines[2] == "openai     ready       2"
        assert " ".join(lines[3:]).endswith("more are not set up; --all shows them")
        assert (len(lines) == 4) == (columns == 160)
        assert "\x1b[32mready" in terminal.screen(colours=True)


def test_colours_are_for_terminals_alone(terminal: Terminal) -> None:
    terminal.run("NO_COLOR=1 mellea models; mellea models | cat; mellea ask x -m opnai/y 2>&1 | cat")
    shown = terminal.screen(colours=True)
    assert "openai     ready" in shown and '"provider": "openai"' in shown and "did you mean 'openai/y'?" in shown
    assert not re.search(r"\x1b\[[39][0-7]", shown)
