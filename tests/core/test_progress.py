"""Progress: a value for a function, or one line of a terminal that goes away at the end."""

from __future__ import annotations

import io
import sys
import threading
import types
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import progress as module
from mellea.core.card import Card, draw_text
from mellea.core.progress import Progress, Reporter, TerminalLine, format_time
from mellea.core.screens import Screen
from mellea.errors import UsageError
from mellea.testing import ScriptedBackend
from tests.waiting import until, until_here


class Terminal(io.StringIO):
    """Keeps what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> str:
        """What stands on the line that was written last."""
        line: list[str] = []
        place = 0
        for letter in self.getvalue().rpartition("\n")[2]:
            if letter == "\r":
                place = 0
                continue
            line[place : place + 1] = letter
            place += 1
        return "".join(line).rstrip()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUICK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_REDRAW_SECONDS", 0.01)


def test_a_line_says_how_much_is_done() -> None:
    assert str(Progress("video", 33, 100, 65.2, "in_progress")) == (
        "video  [#######.................]  33%  in_progress  1:05"
    )
    assert str(Progress("loading", seconds=3)) == "loading  0:03"
    assert (Progress("x", 3, 2).fraction, Progress("x", 1).fraction, Progress("x", 0, 0).fraction) == (1.0, None, None)
    assert [format_time(seconds) for seconds in (0, 61, 3661, -1)] == ["0:00", "1:01", "1:01:01", "0:00"]


@pytest.mark.usefixtures("at_once")
def test_a_terminal_shows_one_line_and_loses_it_at_the_end() -> None:
    terminal = Terminal()
    with Reporter("work", True, total=4, stream=terminal) as reporter:
        reporter.report(1, state="a long word for it")
        until_here(lambda: "25%" in terminal.screen and "a long word for it" in terminal.screen)
        reporter.report(4)
        until_here(lambda: "100%" in terminal.screen and "word" not in terminal.screen)
    assert terminal.screen == "" and terminal.getvalue().endswith("\r") and "\n" not in terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_one_piece_of_work_is_shown_at_a_time() -> None:
    terminal = Terminal()
    with Reporter("outer", True, stream=terminal):
        with Reporter("inner", True, stream=terminal) as inner:
            inner.report()
            until_here(lambda: terminal.screen.startswith("outer"))
        until_here(lambda: terminal.screen.startswith("outer"))
    assert "inner" not in terminal.getvalue()
    with Reporter("next", True, stream=terminal):
        until_here(lambda: terminal.screen.startswith("next"))


def test_quick_work_shows_nothing() -> None:
    terminal = Terminal()
    with Reporter("work", True, stream=terminal) as reporter:
        reporter.report(1)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("at_once")
def test_nothing_is_shown_where_nobody_looks() -> None:
    for progress, stream in ((True, io.StringIO()), (False, Terminal())):
        with Reporter("work", progress, stream=stream) as reporter:
            reporter.report(1)
            assert not reporter.is_heard
        assert stream.getvalue() == ""


@pytest.mark.usefixtures("at_once")
def test_a_providers_words_cant_command_the_terminal() -> None:
    terminal = Terminal()
    with Reporter("work", True, stream=terminal) as reporter:
        reporter.report(state="\x1b[2Jgone\x07\r\n")
        until_here(lambda: terminal.screen.startswith("work  gone  "))
    assert "\x1b" not in terminal.getvalue() and "\x07" not in terminal.getvalue()


def test_a_line_goes_on_below_itself() -> None:
    terminal = Terminal()
    line = TerminalLine(terminal)
    line.leave()
    line.draw("first")
    line.draw("2nd")
    assert line.is_shown and terminal.screen == "2nd"
    line.leave()
    assert terminal.getvalue().endswith("2nd  \n") and not line.is_shown


def test_a_function_that_fails_is_named() -> None:
    def fail(progress: Progress) -> None:
        raise ZeroDivisionError("mine")

    with (
        Reporter("work", fail) as reporter,
        pytest.raises(UsageError, match="given as progress= failed: ZeroDivisionError: mine") as caught,
    ):
        reporter.report(1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    wrong: Any = 1
    with pytest.raises(UsageError, match="progress takes True, False or a function of a Progress, not 1"):
        Reporter("work", wrong)


# -- gather ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_gather_tells_how_many_are_done() -> None:
    m = mellea.start_session(ScriptedBackend(["a", "b", "c"]))
    seen: list[Progress] = []
    found = await mellea.gather(*[m.ainstruct(letter) for letter in "abc"], progress=seen.append)
    assert len(found) == 3
    assert [(each.done, each.total) for each in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert all(each.what == "3 results" for each in seen)


@pytest.mark.anyio
@pytest.mark.usefixtures("at_once")
async def test_gather_shows_a_line_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()

    async def wait() -> int:
        return 1

    async def wait_for_the_line() -> int:
        await until(lambda: "2 results  [############............]  50%  0:00" in terminal.getvalue())
        return 1

    assert await mellea.gather(wait(), wait(), progress=True) == [1, 1]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr", terminal)
    assert await mellea.gather(wait(), wait_for_the_line(), progress=True) == [1, 1]
    assert terminal.screen == ""
    terminal.truncate(0)
    assert await mellea.gather(wait(), wait()) == [1, 1]
    assert not terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_the_seconds_pass_while_there_is_no_news() -> None:
    terminal = Terminal()
    with Reporter("work", True, stream=terminal) as reporter:
        reporter._began -= 100
        until_here(lambda: terminal.screen.startswith("work  1:4"))


@pytest.mark.anyio
async def test_gather_fails_with_a_function_that_fails() -> None:
    def fail(progress: Progress) -> None:
        if progress.done:
            raise ZeroDivisionError("mine")

    async def wait(seconds: float) -> None:
        await anyio.sleep(seconds)

    with anyio.fail_after(30), pytest.raises(UsageError, match="ZeroDivisionError: mine"):
        await mellea.gather(wait(0), wait(3600), progress=fail)
    wrong: Any = "yes"
    with pytest.raises(UsageError, match="not 'yes'"):
        await mellea.gather(wait(0), progress=wrong)


# -- in a notebook --------------------------------------------------------------------------------------


class Output(Screen):
    """What would be an output of a notebook's cell."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def draw(self, card: Card, *, is_final: bool) -> None:
        self.drawn.append(draw_text(card))


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    output = Output()
    monkeypatch.setattr("mellea.core.screens.find_notebook", lambda: output)
    monkeypatch.setitem(sys.modules, "marimo", types.ModuleType("marimo"))
    return output


@pytest.mark.usefixtures("at_once")
def test_a_notebooks_output_stays_and_says_how_the_work_has_ended(output: Output) -> None:
    with Reporter("work", True, total=4) as reporter:
        reporter.report(1, state="queued")
        until_here(lambda: "work · queued · 0:00\n[######..................]  25%" in output.drawn)
    assert output.drawn[-1] == "work · done · 0:00\n[######..................]  25%"
    with pytest.raises(ZeroDivisionError), Reporter("work", True):
        until_here(lambda: output.drawn[-1] == "work · 0:00")
        raise ZeroDivisionError
    assert output.drawn[-1] == "work · failed · 0:00"


def test_quick_work_shows_nothing_in_a_notebook(output: Output) -> None:
    with Reporter("work", True) as reporter:
        reporter.report(1)
    assert output.drawn == []


class Gone(Terminal):
    """A terminal whose window was closed after the program had begun."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def make_closed() -> Terminal:
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [Gone, make_closed, lambda: None], ids=["gone", "closed", "none"])
def test_a_map_goes_on_without_a_terminal_to_show_its_progress(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REDRAW_SECONDS", 0.0)
    monkeypatch.setattr("sys.stderr", Terminal())
    rows = mellea.map(mellea.MelleaSession(ScriptedBackend("x")).instruct, ["a", "b"], progress=True)
    rows._runner.progress._line = TerminalLine(make())
    monkeypatch.setattr("sys.stderr", None)
    assert [row.error for row in rows] == [None, None]


@pytest.mark.parametrize("make", [Gone, make_closed])
def test_a_line_ends_with_its_terminal(make: Any) -> None:
    line = TerminalLine(make())
    line.draw("half")
    line.draw("all")
    line.erase()
    line.leave()


def test_work_is_done_though_no_thread_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with Reporter("work", True, stream=Terminal()) as reporter:
            reporter.report(1)
    terminal = Terminal()
    monkeypatch.setattr(module, "_QUICK_SECONDS", 0.0)
    with Reporter("work", True, stream=terminal):  # the line is free for the next one
        until_here(lambda: "work" in terminal.getvalue())
