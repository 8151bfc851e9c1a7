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
    assert run("run", "prog.py:plain", "a=1", "b=-").stdout == '{"a": 1, "b": "piped in"}\n'


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


TYPED = """
from __future__ import annotations
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nowhere import Unknown

@dataclass
class Town:
    name: str
    people: int = 0

class Size(Enum):
    SMALL = "small"

class Own:
    pass

def show(
    number: int = 0, flag: bool = False, when: date | None = None, town: Town | None = None, names: list[str] = [],
    size: Size = Size.SMALL, kind: Literal["a", "b"] = "a", text: str | None = None, any=None, own: Own | None = None,
    **rest: float,
):
    return repr([number, flag, when, town, names, size, kind, text, any, own, rest])

def vague(x: Unknown):
    return repr(x)
"""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("number=12", "[12, "),
        ("flag=yes", "[0, True, "),
        ("when=2026-11-27", "datetime.date(2026, 11, 27)"),
        ('town={"name": "Oslo"}', "Town(name='Oslo', people=0)"),
        ('names=["a"]', "['a']"),
        ("size=small", "<Size.SMALL: 'small'>"),
        ("kind=b", "'b'"),
        ("text=12", "'12'"),
        ("text=null", "None, None, None, {}]"),
        ("any=[1]", "[1]"),
        ("own=x", "'x'"),
        ("more=1", "{'more': 1.0}"),
    ],
)
def test_arguments_are_what_the_annotations_say(
    run: Run, program: object, tmp_path: Path, given: str, shown: str
) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    done = run("run", "typed.py:show", given)
    assert done.code == 0 and shown in done.stdout, done


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("number=a", "number is not a valid 'int': Input should be a valid integer, unable to parse"),
        ("flag=perhaps", "flag is not a valid 'bool': "),
        ('town={"name": "Oslo", "people": "many"}', "people: Input should be a valid integer"),
        ("names=[1]", "names is not a valid 'list[str]': 0: Input should be a valid string; got '[1]'"),
        ("kind=c", "kind is not a valid"),
        ("more=many", "more is not a valid 'float'"),
    ],
)
def test_an_argument_of_another_type_is_a_mistake_that_names_the_parameter(
    run: Run, program: object, tmp_path: Path, given: str, said: str
) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    done = run("run", "typed.py:show", given)
    assert done.code == 2 and said in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert run("run", "typed.py:vague", "x=1").stdout == "1\n"


def test_an_argument_of_a_prompt_function_is_checked_before_a_model_is_asked(
    run: Run, program: Callable[..., ScriptedBackend]
) -> None:
    backend = program("never")
    done = run("run", "prog.py:describe", "place=Oslo", "words=few")
    assert done.code == 2 and "words is not a valid 'int'" in done.stderr and backend.requests == []
