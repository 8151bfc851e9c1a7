"""Code that is part of an answer and would wait for it gets an error that says so, however it waits."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Annotated, Any

import anyio
import anyio.to_thread
import pytest
from pydantic import AfterValidator

import mellea
from mellea.core import Requirement
from mellea.core.blocks import ToolCall
from mellea.core.events import ToolEnd, ToolStart
from mellea.core.runtime.deadlock import check_wait, runs_around, waiting_for
from mellea.errors import MelleaError, StreamingError
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio

CALL = [ToolStart("1", "look"), ToolEnd(ToolCall("1", "look", {}))]
CIRCLE = "is itself waiting for the call"


async def _text(thunk: Any) -> None:
    [chunk async for chunk in thunk]


async def _events(thunk: Any) -> None:
    [event async for event in thunk.events()]


async def _polled(thunk: Any) -> None:
    while not thunk.is_computed():
        await thunk.astream()


async def _awaited(thunk: Any) -> None:
    await thunk


async def _in_a_task(thunk: Any) -> None:
    failed: list[BaseException] = []

    async def read() -> None:
        try:
            await thunk
        except StreamingError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
    raise failed[0]


async def _in_a_thread(thunk: Any) -> None:
    await anyio.to_thread.run_sync(thunk._compute_blocking)


async def _in_a_thread_with_a_loop(thunk: Any) -> None:
    await anyio.to_thread.run_sync(lambda: asyncio.run(thunk.avalue()))


async def _by_a_call(thunk: Any) -> None:
    await mellea.start_session(ScriptedBackend("x")).ainstruct("{{x}}", user_variables={"x": thunk})


WAYS: list[Callable[[Any], Any]] = [
    _text,
    _events,
    _polled,
    _awaited,
    _in_a_task,
    _in_a_thread,
    _in_a_thread_with_a_loop,
    _by_a_call,
]


@pytest.mark.parametrize("wait", WAYS)
async def test_a_tool_that_waits_for_the_answer_it_is_part_of(wait: Callable[[Any], Any]) -> None:
    box: dict[str, Any] = {}
    gate = Gate()
    raised: list[BaseException] = []

    async def look() -> str:
        """Look."""
        try:
            await wait(box["answer"])
        except MelleaError as error:
            raised.append(error)
            raise
        return "never"

    m = mellea.start_session(ScriptedBackend([gate, *CALL], "done"))
    box["answer"] = await m.ainstruct("q", tools=[look], tool_calls="run", await_result=False)
    gate.open()
    with anyio.fail_after(30):
        assert await box["answer"].avalue() == "done"
    assert isinstance(raised[0], StreamingError) and CIRCLE in str(raised[0])


async def test_a_requirement_that_reads_its_own_stream() -> None:
    box: dict[str, Any] = {}

    async def own(context: Any) -> bool:
        return bool([chunk async for chunk in box["stream"]])

    box["stream"] = mellea.start_session(ScriptedBackend("a")).astream("q", requirements=[Requirement("r", own)])
    with anyio.fail_after(30), pytest.raises(MelleaError, match=CIRCLE):
        [chunk async for chunk in box["stream"]]


async def test_a_validator_of_the_format_that_waits_in_its_thread() -> None:
    box: dict[str, Any] = {}
    raised: list[BaseException] = []

    def slow(value: int) -> int:
        try:
            box["answer"]._compute_blocking()
        except StreamingError as error:
            raised.append(error)
        return value

    gate = Gate()
    m = mellea.start_session(ScriptedBackend([gate, "1"]))
    box["answer"] = await m.ainstruct("q", format=Annotated[int, AfterValidator(slow)], await_result=False)
    gate.open()
    with anyio.fail_after(30):
        await box["answer"]
    assert CIRCLE in str(raised[0])


async def test_two_answers_whose_tools_wait_for_each_other() -> None:
    box: dict[str, Any] = {}
    gate, both = Gate(), anyio.Event()
    raised: list[str] = []

    def tool(other: str) -> Any:
        async def look() -> str:
            """Look."""
            if not both.is_set():
                both.set()
            try:
                return str(await box[other].avalue())
            except StreamingError as error:
                raised.append(str(error))
                return "circle"

        return look

    for name, other in (("a", "b"), ("b", "a")):
        m = mellea.start_session(ScriptedBackend([gate, *CALL], f"done {name}"))
        box[name] = await m.ainstruct("q", tools=[tool(other)], tool_calls="run", await_result=False)
    gate.open()
    with anyio.fail_after(30):
        assert {await box["a"].avalue(), await box["b"].avalue()} == {"done a", "done b"}
    assert len(raised) == 1 and CIRCLE in raised[0]


async def test_a_tool_may_wait_for_another_answer() -> None:
    other = await mellea.start_session(ScriptedBackend(["o", Gate()])).ainstruct("o", await_result=False)
    box: dict[str, Any] = {}

    async def look() -> str:
        """Look."""
        box["thread"] = threading.current_thread()
        first = await other.astream()
        await other.cancel()
        return first

    m = mellea.start_session(ScriptedBackend(CALL, "done"))
    with anyio.fail_after(30):
        thunk = await m.ainstruct("q", tools=[look], tool_calls="run")
    assert thunk.value == "done" and box["thread"] is threading.current_thread()


async def test_a_tool_may_cancel_the_answer_it_is_part_of_and_doesnt_wait_for_the_close(monkeypatch) -> None:
    monkeypatch.setattr("mellea.core.runtime.record.CLOSE_SECONDS", 60.0)
    box: dict[str, Any] = {}
    gate = Gate()

    async def look() -> str:
        """Look."""
        with anyio.fail_after(15, shield=True):
            await box["answer"].cancel()
        await anyio.sleep_forever()
        return ""

    m = mellea.start_session(ScriptedBackend([gate, *CALL], "done"))
    box["answer"] = await m.ainstruct("q", tools=[look], tool_calls="run", await_result=False)
    gate.open()
    with anyio.fail_after(30), pytest.raises(mellea.MelleaError, match="cancelled"):
        await box["answer"]


class _Looked:
    """A run that counts how often somebody looks whether it has ended."""

    looks = 0

    def __init__(self, dependencies: list[Any]) -> None:
        self.dependencies = dependencies
        self.awaited: list[Any] = []

    @property
    def is_final(self) -> bool:
        _Looked.looks += 1
        return False

    def on_any(self, loops: Any) -> bool:
        return False


def test_turns_that_wait_for_all_before_them_look_a_fixed_number_of_times_at_each() -> None:
    _Looked.looks = 0
    turns: list[Any] = []
    for _ in range(60):
        turns.append(_Looked(turns[:]))
    for turn in turns:
        token = runs_around.set((weakref.ref(turn),))
        waits = [waiting_for(other) for other in turn.dependencies]
        for wait in waits:
            wait.__enter__()
        for wait in waits:
            wait.__exit__(None, None, None)
        runs_around.reset(token)
    assert _Looked.looks <= 2 * 60 * 60


def test_a_launch_that_waits_for_many_looks_at_each_once() -> None:
    turns: list[Any] = []
    for _ in range(60):
        turns.append(_Looked(turns[:]))
    token = runs_around.set((weakref.ref(around := _Looked([])),))
    try:
        _Looked.looks = 0
        check_wait(turns)
        # Along each of the 1,770 edges once, and from each turn.
        assert _Looked.looks <= 2 * 1770
        turns[0].awaited.append(around)
        with pytest.raises(StreamingError, match=CIRCLE):
            check_wait(turns[-1:])
    finally:
        runs_around.reset(token)
