"""`show` and `ashow` without a notebook: at a terminal, in a pipe. In a kernel: tests/docs/test_notebooks.py."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mellea
from mellea.core.card import Card, draw_text
from mellea.core.screens import Screen
from mellea.errors import ConnectError, UsageError
from mellea.notebook import ashow, show
from mellea.stdlib.requirements import length
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import Gate, Pause, ScriptedBackend


class Terminal(io.StringIO):
    """What would be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_the_end_of_a_stream_once(capsys: pytest.CaptureFixture[str]) -> None:
    stream = mellea.start_session(ScriptedBackend(["Once", Pause(0.15), " upon"])).stream("Go.")
    show(stream)
    assert stream.result.value == "Once upon"
    assert capsys.readouterr().out == "Text · done · script\nOnce upon\n"


def test_a_terminal_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 5)))
    text = "one two three four five six seven eight nine ten eleven"
    show(mellea.start_session(ScriptedBackend([text, Pause(0.3), "\x1b[2J."])).stream("Go."))
    drawn, last = terminal.getvalue().rsplit("\x1b[J", 1)
    assert len(drawn.split("\x1b[J")[-1].split("\n")) <= 5, "more lines than the terminal has can't be drawn over"
    assert last.replace("\n", "").endswith(text + ".")
    assert "\x1b" not in last


def test_a_plain_value_is_shown_as_a_form(capsys: pytest.CaptureFixture[str]) -> None:
    show({"name": "Ann", "age": 31})
    assert capsys.readouterr().out == "dict\nfield  value\nname   Ann\nage    31\n"


def test_a_stream_that_fails_shows_how_far_it_came_and_raises(capsys: pytest.CaptureFixture[str]) -> None:
    stream = mellea.start_session(ScriptedBackend(["Once", ConnectError("the line is dead")])).stream("Go.")
    with pytest.raises(ConnectError):
        show(stream)
    assert "Once\nConnectError: the line is dead\n" in capsys.readouterr().out


def test_an_async_stream_names_the_way() -> None:
    with pytest.raises(UsageError, match=r"await mellea\.notebook\.ashow"):
        show(mellea.start_session(ScriptedBackend("Once")).astream("Go."))


async def test_async_streams_are_read_to_their_end(anyio_backend: object, capsys: pytest.CaptureFixture[str]) -> None:
    stream = mellea.start_session(ScriptedBackend(["Once", " upon"])).astream("Go.")
    await ashow(stream)
    assert stream.result.value == "Once upon"
    assert capsys.readouterr().out == "Text · done · script\nOnce upon\n"


async def test_an_agent_shows_its_steps(anyio_backend: object, capsys: pytest.CaptureFixture[str]) -> None:
    agent = mellea.Agent(ScriptedBackend("Fine."), [])
    await ashow(agent.stream("How are you?"))
    assert capsys.readouterr().out.split("\n")[1:3] == ["step  text   calls  results", "1     Fine."]


async def test_a_thunk_at_a_terminal_is_shown_as_it_is(
    anyio_backend: object, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(["Once", gate]))
    thunk = await m.ainstruct("Go.", await_result=False)
    show(thunk)
    assert not thunk.is_computed()
    assert capsys.readouterr().out.startswith("Text · ")
    gate.open()
    await thunk


class Marimo:
    """As far as it can be told without marimo, whose names these are in version 0.25."""

    class Html:
        def __init__(self, text: str) -> None:
            self.text_at_first = text

    class Thread(threading.Thread):
        should_exit = False

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.seen: list[list[str]] = []
        self.output = types.SimpleNamespace(append=self.append)

    def running_in_notebook(self) -> bool:
        return True

    def append(self, part: Any) -> None:
        self.parts.append(part)
        self.flush()

    def flush(self) -> None:
        self.seen.append([getattr(part, "text", part) for part in self.parts])


@pytest.fixture
def marimo(monkeypatch: pytest.MonkeyPatch) -> Marimo:
    marimo = Marimo()
    monkeypatch.setitem(sys.modules, "marimo", marimo)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "marimo._runtime.output._output", marimo)  # type: ignore[arg-type]
    return marimo


def test_marimo_gets_escaped_html(marimo: Marimo) -> None:
    show(mellea.start_session(ScriptedBackend(["<b>Once</b>", Pause(0.15), " upon"])).stream("Go."))
    assert "&lt;b&gt;Once&lt;/b&gt; upon" in marimo.seen[-1][0]
    assert len(marimo.seen) >= 2
    assert len(marimo.parts) == 1


async def test_in_marimo_each_value_has_a_part_of_the_output(anyio_backend: object, marimo: Marimo) -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(lambda request: [request.messages[-1].text, gate]))
    first, second = [await m.ainstruct(text, await_result=False) for text in ("Once", "Twice")]
    show(first)
    show({"name": "Ann"})
    show(second)
    gate.open()
    await mellea.gather(first, second)
    await anyio.to_thread.run_sync(
        wait_until, lambda: "done" in str(marimo.parts[0].text) and "done" in str(marimo.parts[2].text)
    )
    assert "Once" in marimo.parts[0].text and "Twice" in marimo.parts[2].text
    assert marimo.parts[1] == {"name": "Ann"}


async def test_a_cell_of_marimo_that_was_run_again_is_left_alone(anyio_backend: object, marimo: Marimo) -> None:
    gate = Gate()
    thunk = await mellea.start_session(ScriptedBackend(["Once", gate])).ainstruct("Go.", await_result=False)
    show(thunk)
    Marimo.Thread.should_exit = True
    try:
        count = len(marimo.seen)
        gate.open()
        await thunk
        await anyio.sleep(0.3)
        assert len(marimo.seen) == count
    finally:
        Marimo.Thread.should_exit = False


class Page(Screen):
    """What would be an output that can be replaced whenever its value changes."""

    stays = True

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.is_final = threading.Event()

    def draw(self, card: Card, *, is_final: bool) -> None:
        self.drawn.append(draw_text(card))
        if is_final:
            self.is_final.set()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr("mellea.notebook.live.find_screen", lambda: page)
    return page


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_open_trace_is_followed_until_it_ends(page: Page) -> None:
    m = mellea.start_session(ScriptedBackend("Once", "Twice"))
    with mellea.traces.start("story") as t:
        show(t)
        assert page.drawn == ["Trace story · running · 1 span\nstory (trace, running)"]
        m.instruct("Go.")
        wait_until(lambda: "2 spans" in page.drawn[-1] and "(call, 0." in page.drawn[-1])
        assert not page.is_final.is_set()
    assert page.is_final.wait(30)
    assert page.drawn[-1].startswith("Trace story · 2 spans\nstory (trace, 0.")


async def test_a_trace_is_followed_until_what_began_in_it_has_ended(anyio_backend: object, page: Page) -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(["Once", gate]))
    async with mellea.traces.start("story") as t:
        show(t)
        thunk = await m.ainstruct("Go.", await_result=False)
    await anyio.sleep(0.3)
    assert not page.is_final.is_set()
    gate.open()
    await thunk
    assert await anyio.to_thread.run_sync(page.is_final.wait, 30)
    assert "running" not in page.drawn[-1]


def test_a_trace_whose_block_fails_is_shown_as_it_ended(page: Page) -> None:
    with pytest.raises(ConnectError), mellea.traces.start("story") as t:
        show(t)
        mellea.start_session(ScriptedBackend(ConnectError("the line is dead"))).instruct("Go.")
    assert page.is_final.wait(30)
    assert "error" in page.drawn[-1]


def test_a_trace_that_has_ended_or_not_started_is_shown_once(page: Page) -> None:
    with mellea.traces.start("story") as t:
        pass
    show(t)
    show(mellea.traces.start("other"))
    assert page.drawn[0].startswith("Trace story · 1 span\n")
    assert page.drawn[1:] == ["Trace other · not started"]


def test_a_trace_at_a_terminal_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with mellea.traces.start("story") as t:
        show(t)
    assert capsys.readouterr().out == "Trace story · running · 1 span\nstory (trace, running)\n"


def test_a_rejected_attempt_stays_while_the_next_one_is_written(page: Page) -> None:
    m = mellea.start_session(ScriptedBackend("far too long", ["fi", Pause(0.5), "ne"]))
    show(m.stream("Go.", requirements=[length(max=2)], strategy=RejectionSamplingStrategy()))
    line = "attempt 1 rejected: Write at most 2 words. (it already has 3 words): far too long"
    assert any(text.endswith(f"attempt 2\n{line}\nfi") for text in page.drawn), page.drawn
    assert page.drawn[-1].endswith(f"attempt 2 of 2, requirements met\n{line}\nfine")


@pytest.mark.parametrize("reader", ["partials", "items", "events"])
def test_a_reader_names_the_stream_to_show(reader: str) -> None:
    stream = mellea.start_session(ScriptedBackend("[1, 2]")).stream("Go.", format=list[int])
    with pytest.raises(UsageError, match="show the stream it reads"):
        show(getattr(stream, reader)())


def test_a_function_is_to_be_called_first() -> None:
    with pytest.raises(UsageError, match=r"show takes what it returns: show\(stream\(…\)\)"):
        show(mellea.start_session(ScriptedBackend("Once")).stream)


def test_a_coroutine_is_to_be_awaited_first() -> None:
    with pytest.raises(UsageError, match=r"show\(await"):
        show(mellea.start_session(ScriptedBackend("Once")).ainstruct("Go."))
