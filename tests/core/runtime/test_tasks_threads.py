"""Threads for the user's functions: few of them, shared by the process, and none of the functions waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import anyio
import pytest
import trio
from pydantic import AfterValidator, BaseModel

import mellea
from mellea.core.runtime import tasks as worker
from mellea.core.runtime.tasks import ThreadWork, run_in_thread, run_together
from mellea.stdlib.requirements import check, simple_validate
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


class Person(BaseModel):
    name: str
    tags: list[str]


class _Peak:
    """The most functions that were at work at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds
        self.now = self.most = 0

    def __call__(self, value: Any = None) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self._seconds)
        with self._lock:
            self.now -= 1
        return value


def _limit_threads(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    start = threading.Thread.start
    begun: set[threading.Thread] = set()

    def limited(self: threading.Thread) -> None:
        # The test's own trio loop waits for its events in a thread, which it starts between two ticks.
        if self.name.startswith("Trio thread") and not trio.lowlevel.in_trio_task():
            return start(self)
        if sum(thread.is_alive() for thread in begun) >= most:
            raise RuntimeError("can't start new thread")
        begun.add(self)
        return start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)


async def test_typed_answers_without_code_of_the_users_take_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    _limit_threads(monkeypatch, 0)
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(['{"name": "x", "tags": ["a"]}', gate]))
    calls = [partial(m.ainstruct, "x", format=Person, strategy=None) for _ in range(200)]
    async with anyio.create_task_group() as group:
        group.start_soon(_open_later, gate)
        assert len(await run_together(calls)) == 200


async def _open_later(gate: Gate) -> None:
    await anyio.sleep(0.05)
    gate.open()


async def test_functions_of_the_users_share_a_few_threads() -> None:
    peak = _Peak(0.01)
    await run_together([partial(run_in_thread, peak, n) for n in range(300)])
    assert 1 < peak.most <= 40


async def test_no_answer_is_lost_where_the_system_starts_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = _Peak(0.002)
    m = mellea.start_session(ScriptedBackend("1"))
    _limit_threads(monkeypatch, 5)
    kind = Annotated[int, AfterValidator(peak)]
    done = await run_together([partial(m.ainstruct, "x", format=kind, strategy=None) for _ in range(150)])
    assert [thunk.parsed for thunk in done] == [1] * 150


async def test_functions_that_ask_a_model_dont_take_the_threads_of_those_inside() -> None:
    inner = mellea.start_session(ScriptedBackend("inner"))

    def asks(text: str) -> bool:
        return inner.instruct("x", requirements=[check("i", validation_fn=simple_validate(bool))]).value == "inner"

    m = mellea.start_session(ScriptedBackend("outer"))
    outer = check("o", validation_fn=simple_validate(asks))
    with anyio.fail_after(30):
        done = await run_together([partial(m.ainstruct, "x", requirements=[outer]) for _ in range(100)])
    assert all(thunk.success for thunk in done)


async def test_functions_that_wait_for_each_other_all_come_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_STALL_SECONDS", 0.005)
    barrier = threading.Barrier(50)
    with anyio.fail_after(30):
        await run_together([partial(run_in_thread, barrier.wait) for _ in range(50)])


async def test_a_cancelled_wait_gives_its_place_back_when_the_function_ends() -> None:
    stop = threading.Event()
    with anyio.move_on_after(0.1):
        await run_together([partial(run_in_thread, stop.wait) for _ in range(100)])
    stop.set()
    with anyio.fail_after(30):
        await run_together([partial(run_in_thread, _Peak()) for _ in range(100)])
    for places in worker._depths.values():
        for _ in range(200):
            if not places._held:
                break
            await anyio.sleep(0.01)
        assert not places._held and not places._queue


@pytest.mark.parametrize("is_begun", [True, False])
async def test_work_whose_wait_was_given_up_is_done_once_and_can_be_waited_for_again(is_begun: bool) -> None:
    stop, calls = threading.Event(), list[int]()

    def slow() -> None:
        calls.append(1)
        stop.wait()

    work = ThreadWork(slow)
    for _ in range(3):
        with anyio.move_on_after(0.05 if is_begun else 0):
            await work.wait()
    stop.set()
    await work.wait()
    assert calls == [1]


def _slow(value: int) -> int:
    time.sleep(0.05)
    return value


async def test_a_cancelled_wait_loses_no_item() -> None:
    m = mellea.start_session(ScriptedBackend("[1, 2, 3]"))
    thunk = await m.ainstruct("x", format=list[Annotated[int, AfterValidator(_slow)]], await_result=False)
    items, got = thunk.items(), list[int]()
    with anyio.fail_after(20):
        while True:
            try:
                with anyio.move_on_after(0.02):
                    got.append(await anext(items))
            except StopAsyncIteration:
                break
    assert got == [1, 2, 3]


@pytest.mark.parametrize("make", [lambda function: function, lambda function: partial(function)])
async def test_an_error_of_the_function_comes_out_as_it_is(make: Callable[[Any], Any]) -> None:
    def fails() -> None:
        raise RuntimeError("can't start new thread")  # of the user's own

    with pytest.raises(RuntimeError, match="new thread"):
        await run_in_thread(make(fails))
