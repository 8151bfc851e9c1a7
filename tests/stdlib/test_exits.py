"""`SystemExit`, `KeyboardInterrupt` and their like, raised in the user's functions, reach the caller as they are."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import pytest

import mellea
from mellea.core import Context, Requirement
from mellea.core.events import ToolCall, ToolEnd
from mellea.core.observer import Observer, observe
from mellea.errors import OutputError
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.tools import tool
from mellea.testing import ScriptedBackend


class Stop(BaseException):
    """What a test runner ends a test with, for instance."""


EXITS: list[Callable[[], object]] = [lambda: sys.exit(3), lambda: _raise(KeyboardInterrupt()), lambda: _raise(Stop())]
KINDS = [SystemExit, KeyboardInterrupt, Stop]
PAIRS = list(zip(EXITS, KINDS, strict=True))


def _raise(error: BaseException) -> None:
    raise error


def make_session(*replies: Any) -> mellea.MelleaSession:
    return mellea.MelleaSession(ScriptedBackend(*(replies or ("a",))))


def validate_by(leave: Callable[[], object]) -> dict[str, Any]:
    return {"requirements": [req("short", validation_fn=simple_validate(lambda text: leave()))]}


def call_tool_by(leave: Callable[[], object]) -> dict[str, Any]:
    @tool
    def look() -> str:
        """Look."""
        leave()
        return "seen"

    return {"tools": [look], "tool_calls": "run"}


TOOL_CALL = [ToolEnd(ToolCall("1", "look", {}))]
WAYS = [(validate_by, ("a",)), (call_tool_by, (TOOL_CALL, "b"))]


@pytest.mark.parametrize(("leave", "kind"), PAIRS)
@pytest.mark.parametrize(("way", "replies"), WAYS)
def test_an_exit_in_a_users_function_leaves_a_sync_verb_and_the_session_goes_on(leave, kind, way, replies) -> None:
    session = make_session(*replies)
    with pytest.raises(kind) as caught:
        session.instruct("x", **way(leave))
    if kind is SystemExit:
        assert caught.value.code == 3
    assert session.instruct("next").value == replies[-1]


@pytest.mark.parametrize(("leave", "kind"), PAIRS)
@pytest.mark.parametrize(("way", "replies"), WAYS)
def test_an_exit_in_a_users_function_leaves_a_sync_stream(leave, kind, way, replies) -> None:
    session = make_session(*replies)
    with pytest.raises(kind):
        "".join(session.stream("x", **way(leave)))
    assert session.instruct("next").value == replies[-1]


@pytest.mark.anyio
@pytest.mark.parametrize(("leave", "kind"), [(EXITS[0], SystemExit), (EXITS[2], Stop)])
@pytest.mark.parametrize(("way", "replies"), WAYS)
async def test_an_exit_in_a_users_function_leaves_an_async_verb_and_stream(leave, kind, way, replies) -> None:
    with pytest.raises(kind):
        await make_session(*replies).ainstruct("x", **way(leave))
    with pytest.raises(kind):
        "".join([text async for text in make_session(*replies).astream("x", **way(leave))])


@pytest.mark.anyio
async def test_an_exit_of_a_gathered_call_is_raised_by_the_gather() -> None:
    def check(context: Context) -> bool:
        if str(context) == "leave":
            sys.exit(3)
        return True

    session = make_session(lambda request: request.messages[-1].content.splitlines()[0])
    checks = [Requirement("x", validation_fn=check, check_only=True)]
    with pytest.raises(SystemExit):
        await mellea.gather(*[session.ainstruct(text, requirements=checks) for text in ("leave", "stay")])


@pytest.mark.parametrize("leave", EXITS[:2])
@pytest.mark.parametrize("method", ["begin", "event", "end", "enter", "before_request"])
def test_an_exit_in_an_observer_or_a_hook_leaves_the_verb_and_the_thread_of_sync_verbs_lives_on(leave, method) -> None:
    watcher = type("Watcher", (Observer,), {method: lambda self, *args: leave(), "wants_events": True})
    session = make_session()
    session.instruct("first")
    threads = {thread.ident for thread in threading.enumerate() if thread.name == "mellea-portal"}
    with observe(watcher()), pytest.raises((SystemExit, KeyboardInterrupt)):
        session.instruct("x")
    assert session.instruct("next").value == "a"
    assert threads == {thread.ident for thread in threading.enumerate() if thread.name == "mellea-portal"}


def test_a_hook_that_raises_a_generators_exit_fails_the_call_with_it() -> None:
    class Hook(Observer):
        def before_request(self, request: Any) -> None:
            raise GeneratorExit

    with observe(Hook()), pytest.raises(OutputError, match="GeneratorExit"):
        make_session().instruct("x")


@pytest.mark.parametrize(("leave", "kind"), PAIRS)
def test_an_exit_in_a_mapped_function_ends_the_map(leave, kind) -> None:
    for _ in range(2):
        with pytest.raises(kind):
            list(mellea.map(lambda row: leave(), [1, 2]))


@pytest.mark.anyio
async def test_an_exit_reaches_a_sync_verb_inside_a_thread_of_a_program() -> None:
    session = make_session()
    with pytest.raises(SystemExit):
        await anyio.to_thread.run_sync(lambda: session.instruct("x", **validate_by(EXITS[0])))
