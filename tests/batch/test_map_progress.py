"""The progress of a map: what it says, and where it is shown; in a notebook's kernel: tests/docs/test_notebooks.py."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest

import mellea
from mellea.batch.budget import Budget
from mellea.batch.progress import MapState
from mellea.core import progress as module
from mellea.core.card import Card, draw_html, draw_text
from mellea.core.screens import Screen
from mellea.errors import AuthError, BudgetExceededError
from mellea.events import Usage
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.core.test_progress import Terminal
from tests.waiting import until, until_here

RUNNING = MapState(
    "rate", "running", total=5000, done=1200, cached=200, failed=3, seconds=100, tokens=120_000, cost=0.42,
    budget=Budget(cost=5, tokens=500_000, seconds=600),
)  # fmt: skip


class Output(Screen):
    """What would be an output of a notebook's cell."""

    stays = True

    def __init__(self, outputs: list[Output]) -> None:
        outputs.append(self)
        self.drawn: list[str] = []

    def draw(self, card: Card, *, is_final: bool) -> None:
        self.drawn.append(draw_text(card))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUICK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_REDRAW_SECONDS", 0.01)


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[Output]:
    """The outputs of a notebook, one for each progress that is shown."""
    outputs: list[Output] = []
    monkeypatch.setattr(module, "find_place", lambda *_, **__: module.CellOutput(Output(outputs)))
    monkeypatch.setattr("mellea.batch.progress.find_place", module.find_place)
    return outputs


def make_session(*answers: Any) -> mellea.MelleaSession:
    return mellea.MelleaSession(ScriptedBackend(*answers, usage=Usage(input_tokens=60, output_tokens=40)))


def test_a_line_says_what_matters_most_first() -> None:
    assert str(RUNNING) == (
        "1,200 of 5,000 rows · 200 from the journal · 3 failed · 10.0 rows/s · 6:20 left · 1:40 of 10:00 · "
        "$0.4200 of $5 · 120,000 of 500,000 tokens"
    )
    assert draw_text(RUNNING._card_()).split("\n") == [
        f"rate · running · {RUNNING}",
        "[#####...................]  24%",
    ]
    assert "width:24.0%" in draw_html(RUNNING._card_())


def test_what_is_not_known_is_left_out() -> None:
    state = MapState("rate", "running", done=7, seconds=2, cost=None)
    assert draw_text(state._card_()) == "rate · running · 7 rows · 3.5 rows/s"
    assert str(MapState("rate", "running", total=0)) == "0 of 0 rows · 0:00"
    assert draw_text(MapState("rate", total=3)._card_()).split("\n") == [
        "rate · not begun · 0 of 3 rows",
        "Its rows are requested as they are read: for row in …; async for row in … of an amap.",
    ]
    # Without a rate, the time says that something is going on.
    assert str(MapState("rate", "running", total=3, seconds=7)) == "0 of 3 rows · 0:07"


def test_a_notebook_shows_one_output_that_is_replaced(outputs: list[Output]) -> None:
    gate = Gate()
    m = make_session("a", ["b", gate], "c")
    rows = mellea.map(m.instruct, ["1", "2", "3"], concurrency=1)
    assert next(rows).value.value == "a"
    [output] = outputs
    until_here(lambda: any("running · 1 of 3 rows" in text for text in output.drawn))
    gate.open()
    assert len(list(rows)) == 2
    assert output.drawn[-1].startswith("mellea.instruct · done · 3 of 3 rows · ")
    assert "300 tokens" in output.drawn[-1]
    assert len(outputs) == 1


@pytest.mark.anyio
async def test_an_async_map_shows_the_same(outputs: list[Output]) -> None:
    gate = Gate()
    async with mellea.amap(make_session("a", ["b", gate]).instruct, ["1", "2"], concurrency=1) as rows:
        assert (await anext(rows)).value.value == "a"
        await until(lambda: any("running · 1 of 2 rows" in text for text in outputs[0].drawn))
        gate.open()
        assert [row.value.value async for row in rows] == ["b"]
    assert outputs[0].drawn[-1].startswith("mellea.instruct · done · 2 of 2 rows · ")


def test_a_budget_that_is_used_up_is_told(outputs: list[Output]) -> None:
    m = make_session(lambda request: [Pause(0.05), "Fine."])
    with pytest.raises(BudgetExceededError):
        list(mellea.map(m.instruct, ["1", "2", "3"], budget=Budget(tokens=200), concurrency=1))
    assert outputs[0].drawn[-1].startswith("mellea.instruct · budget used up · 2 of 3 rows")
    assert "200 of 200 tokens" in outputs[0].drawn[-1]


def test_failed_rows_are_counted(outputs: list[Output]) -> None:
    async def read(text: str) -> int:
        await anyio.sleep(0.05)
        return int(text)

    list(mellea.map(read, ["1", "x", "y"], version="1"))
    assert "done · 3 of 3 rows · 2 failed" in outputs[0].drawn[-1]


def test_a_map_that_fails_says_so(outputs: list[Output]) -> None:
    m = make_session([Pause(0.05), "a"], AuthError("the key is rejected"))
    with pytest.raises(AuthError):
        list(mellea.map(m.instruct, ["1", "2", "3"], concurrency=1))
    assert outputs[0].drawn[-1].startswith("mellea.instruct · failed · 1 of 3 rows")


@pytest.mark.parametrize("how", ["left", "broken", "dropped"])
def test_a_map_that_is_left_says_so(outputs: list[Output], how: str) -> None:
    rows = mellea.map(make_session("a", ["b", Pause(3600)]).instruct, ["1", "2"], concurrency=1)
    if how == "left":
        with rows:
            next(rows)
            until_here(lambda: bool(outputs[0].drawn))
    elif how == "broken":
        with pytest.raises(ZeroDivisionError), rows:
            next(rows)
            until_here(lambda: bool(outputs[0].drawn))
            raise ZeroDivisionError
    else:
        next(rows)
        until_here(lambda: bool(outputs[0].drawn))
        del rows
        gc.collect()
    until_here(lambda: "stopped · 1 of 2 rows" in outputs[0].drawn[-1])


def test_work_inside_a_map_is_silent_and_work_after_it_is_not(outputs: list[Output]) -> None:
    async def count(text: str) -> str:
        async def wait() -> str:
            return text

        return (await mellea.gather(wait(), progress=True))[0]

    assert [row.value for row in mellea.map(count, ["a", "b"], version="1")] == ["a", "b"]
    assert len([output for output in outputs if output.drawn]) <= 1
    with module.Reporter("work", True):
        until_here(lambda: bool(outputs[-1].drawn))


def test_a_terminal_keeps_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, gate = Terminal(), Gate()
    monkeypatch.setattr("sys.stderr", terminal)
    rows = mellea.map(make_session("a", ["b", gate]).instruct, ["1", "2"], concurrency=1)
    next(rows)
    until_here(lambda: terminal.screen.startswith("1 of 2 rows · "))
    gate.open()
    list(rows)
    assert terminal.getvalue().endswith("\n")
    assert terminal.getvalue().rstrip().rpartition("\r")[2].startswith("2 of 2 rows · ")


def test_nothing_is_shown_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    list(mellea.map(make_session([Pause(0.1), "a"]).instruct, ["1"]))
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    list(mellea.map(make_session([Pause(0.1), "a"]).instruct, ["1"], progress=False))
    assert terminal.getvalue() == ""
