"""`mellea run`: a function of a program, called from the command line."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.cli import run as command
from mellea.testing import Pause, ScriptedBackend
from tests.cli.conftest import Run

PROGRAM = '''
from dataclasses import dataclass
from mellea import Agent, generative
from mellea.testing import ScriptedBackend

@dataclass
class Town:
    name: str

@generative
def describe(place: str, words: int) -> str:
    """Describe the place."""
    ...

@generative
def towns(country: str) -> list[Town]:
    """List towns."""
    ...

@generative
def count(text: str) -> int:
    """Count the words."""
    ...

@generative
async def later(text: str) -> int:
    """Count the words."""
    ...

def plain(a: int, b: str = "1"):
    return {"a": a, "b": b}

def each():
    yield 1
    yield "two"

async def each_later():
    yield 3

def nothing():
    pass

def wrong():
    raise KeyError("a bug")

helper = Agent(ScriptedBackend(["An ", "answer."]))
number = 7
'''


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedBackend]:
    (tmp_path / "prog.py").write_text(PROGRAM)

    def script(*replies: Any) -> ScriptedBackend:
        backend = ScriptedBackend(*replies)
        monkeypatch.setattr(command, "start_session", lambda model: mellea.start_session(backend))
        return backend

    script("unused")
    return script


def test_text_is_printed_as_it_is_and_anything_else_as_json(run: Run, program: Callable[..., ScriptedBackend]) -> None:
    backend = program(["A big ", "town."], '[{"name": "Bern"}, {"name": "Basel"}]', "4", "5")
    assert run("run", "prog.py:describe", "place=1984", "words=3").stdout == "A big town.\n"
    assert "1984" in backend.prompts[0] and '"1984"' not in backend.prompts[0].replace('place: "1984"', "")
    assert run("run", "prog.py:towns", "country=Switzerland").stdout == '{"name": "Bern"}\n{"name": "Basel"}\n'
    assert run("run", "prog.py:count", "text=a b c d").stdout == "4\n"
    assert run("run", "prog.py:later", "text=a b c d e").stdout == "5\n"


def test_a_value_of_a_slow_model_is_waited_for(run: Run, program: Callable[..., ScriptedBackend]) -> None:
    program([Pause(0.05), "1", Pause(0.05), "2"])
    assert run("run", "prog.py:count", "text=a b").stdout == "12\n"


def test_any_function_can_be_called(run: Run, program: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("run", "prog.py:plain", "a=2", "b=2").stdout == '{"a": 2, "b": "2"}\n'
    assert run("run", "prog.py:each").stdout == "1\ntwo\n"
    assert run("run", "prog.py:each_later").stdout == "3\n"
    assert run("run", "prog.py:nothing").stdout == ""
    monkeypatch.setattr("sys.stdin", io.StringIO("piped in"))
    assert run("run", "prog.py:plain", "a=-").stdout == '{"a": "piped in", "b": "1"}\n'


def test_an_agent_takes_a_prompt(run: Run, program: object) -> None:
    assert run("run", "prog.py:helper", "What", "is it?").stdout == "An answer.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prog.py:missing"], "'prog.py' doesn't define 'missing'"),
        (["prog.py:number"], "is 7, not a function or an agent"),
        (["prog.py:plain"], "missing a required argument: 'a'"),
        (["prog.py:plain", "a=1", "c=2"], "unexpected keyword argument 'c'"),
        (["prog.py:plain", "7"], "run takes NAME=VALUE, not '7'"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(run: Run, program: object, arguments: list[str], said: str) -> None:
    done = run("run", *arguments)
    assert done.code == 2 and said in done.stderr and done.stdout == ""


def test_a_bug_in_the_program_shows_its_traceback_and_no_frames_of_the_command(run: Run, program: object) -> None:
    with pytest.raises(KeyError, match="a bug") as caught:
        run("run", "prog.py:wrong")
    frames = [Path(frame.filename) for frame in traceback.extract_tb(caught.tb)]
    assert [path.name for path in frames].count("prog.py") == 1
    assert not [path for path in frames if "typer" in path.parts]
