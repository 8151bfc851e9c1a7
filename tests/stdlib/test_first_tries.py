"""What a newcomer tries first, where it is something else here: each error says what to write."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.batch import amap
from mellea.batch import map as map_rows
from mellea.core import ToolCall
from mellea.core.events import ToolEnd
from mellea.errors import ConfigurationError, UsageError
from mellea.stdlib.tools import tool
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

MODULES: Any = importlib.import_module("mellea")  # as a checker doesn't see it


@tool(requires_approval=True)
def buy(what: str) -> str:
    """Buy something."""
    return what


def make_session() -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend("x"))


def make_agent() -> Any:
    return mellea.Agent(ScriptedBackend([ToolEnd(ToolCall("c1", "buy", {"what": "tea"}))], "Done."), [buy])


def find_row() -> Any:
    return next(iter(map_rows(make_session().instruct, ["a"])))


def make_backend(*replies: Any, **arguments: Any) -> Any:
    return ScriptedBackend(*replies, **arguments)


def map_with(**arguments: Any) -> Any:
    return map_rows(make_session().instruct, [], **arguments)


TRIES: dict[str, tuple[Callable[[], Any], str]] = {
    "map(cache=)": (lambda: map_with(cache="x"), r"journal='run\.db'"),
    "map(checkpoint=)": (lambda: map_with(checkpoint="x"), r"journal='run\.db'"),
    "map(resume=)": (lambda: map_with(resume=True), r"journal='run\.db'"),
    "map(key=)": (lambda: map_with(key="x"), r"id=… names the field"),
    "map(on_error=)": (lambda: map_with(on_error="skip"), r"row\.error says why"),
    "map(max_cost=)": (lambda: map_with(max_cost=1), r"budget=Budget\(cost=…"),
    "row.result": (lambda: find_row().result, r"\.value is what the function returned"),
    "row.exception": (lambda: find_row().exception, r"\.error says why it failed"),
    "pending.approve": (lambda: make_agent().run("x").pending.approve, r"agent\.resume\(pending, \{question\.id: True"),
    "run(max_turns=)": (lambda: make_agent().run("x", max_turns=3), r"Agent\(…, limits=Limits\(steps=…\)\)"),
    "run(tools=)": (lambda: make_agent().run("x", tools=[]), r"Agent\(…, tools\)"),
    "run(output_type=)": (lambda: make_agent().run("x", output_type=int), r"Agent\(…, output=…\)"),
    "ScriptedBackend(responses=)": (lambda: make_backend(responses=["x"]), r"ScriptedBackend\('first', 'second'\)"),
    "ScriptedBackend(lambda: …)": (lambda: make_backend(lambda: "x"), r"takes a function of one argument, the request"),
    "backend.calls": (lambda: make_backend("x").calls, r"\.requests are all requests"),
    "testing.MockBackend": (lambda: MODULES.testing.MockBackend, r"ScriptedBackend\('an answer'\) plays answers"),
    "traces.span": (lambda: MODULES.traces.span, r"with mellea\.traces\.start\('name'\)"),
    "traces.record(contents=)": (lambda: MODULES.traces.record("r.db", contents=True), r"did you mean 'content'"),
    "traces.record()": (lambda: MODULES.traces.record(), r"'path' is missing"),
    "traces.start()": (lambda: MODULES.traces.start(), r"'name' is missing"),
    "mellea.Journal": (lambda: MODULES.Journal, r"from mellea\.batch import Journal"),
    "scripted/x": (lambda: mellea.start_session("scripted/x"), r"start_session\(ScriptedBackend\('an answer'\)\)"),
    "mock=": (lambda: mellea.start_session(mock=True), r"start_session\(ScriptedBackend\('an answer'\)\)"),
    "embedded": (lambda: mellea.start_session("embedded"), r"did you mean 'llama_cpp'\?"),
    "model_id=": (lambda: mellea.start_session(model_id="gpt-4o"), r"'provider/model'"),
}


@pytest.mark.parametrize("name", TRIES)
def test_an_error_says_what_to_write(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MELLEA_MODEL", raising=False)
    attempt, said = TRIES[name]
    with pytest.raises((AttributeError, ConfigurationError, UsageError), match=said):
        attempt()


async def test_what_async_code_reads_says_so_in_a_plain_loop() -> None:
    agent: Any = make_agent()
    with pytest.raises(TypeError, match="these events are read by async for"):
        for _ in agent.astream("x").events():
            pass
    rows: Any = amap(make_session().instruct, ["x"])
    with pytest.raises(TypeError, match="read by async for"):
        for _ in rows:
            pass
    with pytest.raises(TypeError, match="aren't awaited: async for row in"):
        await rows


async def test_a_finished_run_may_be_awaited_as_a_finished_thunk_may() -> None:
    run = await make_agent().arun("x")
    assert await run is run


def test_a_trace_that_was_never_entered_has_no_tree() -> None:
    trace = mellea.traces.start("x")
    with pytest.raises(UsageError, match=r"never entered: with mellea\.traces\.start\('x'\) as t: …"):
        trace.tree()
    with trace:
        assert str(trace.tree()).startswith("x (trace")
    assert trace.tree()


def test_a_forgotten_variable_is_warned_of_once_and_sent_as_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("mellea.templates.render"), "_warned", set())
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    with caplog.at_level(logging.WARNING, "mellea"):
        for text in ("Hello {{name}}", "Bye {{ name }}", "{{ }} {name} {{a.b}}", "x" * 10):
            m.instruct(text)
        m.instruct("Hello {{name}}", user_variables={"name": "Ann"})
        m.chat("What does {{other}} mean?")  # people write what they like
    assert [record.getMessage() for record in caplog.records] == [
        "the text has {{name}}, which is sent as it is, since no user_variables={'name': …} were given"
    ]
    assert backend.prompts[0] == "Hello {{name}}"
