"""A thread with a loop of its own: work from any loop, its errors and cancellation, its end."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from mellea.core.runtime.loop_thread import LoopThread
from mellea.errors import ConfigurationError, MelleaError
from tests.waiting import cancel_once

SECONDS = 60.0


class Closing:
    """What a thread closes at its end."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def closing() -> Closing:
    return Closing()


@pytest.fixture
def thread(closing: Closing) -> Iterator[LoopThread]:
    thread = LoopThread("test-loop", 5.0, closing.__call__)
    yield thread
    thread.stop()


@pytest.mark.anyio
async def test_work_runs_on_the_thread_and_its_result_comes_back(thread: LoopThread) -> None:
    async def where() -> str:
        await anyio.sleep(0)
        return threading.current_thread().name

    async def within() -> str:
        return await thread.run(where)

    assert await thread.run(where) == "test-loop"
    assert await thread.run(within) == "test-loop"


@pytest.mark.anyio
async def test_it_sees_the_caller_s_context_variables(thread: LoopThread) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    name.set("Ann")

    async def read() -> str:
        return name.get()

    assert await thread.run(read) == "Ann"


@pytest.mark.anyio
async def test_its_own_error_comes_out(thread: LoopThread) -> None:
    async def fail() -> None:
        raise LookupError("nothing")

    with pytest.raises(LookupError, match="nothing"):
        await thread.run(fail)


@pytest.mark.anyio
async def test_a_cancelled_wait_cancels_the_work(thread: LoopThread) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    await cancel_once(begun.is_set, lambda: thread.run(wait))
    assert ended.wait(SECONDS)


@pytest.mark.anyio
async def test_work_that_runs_when_the_thread_is_stopped_is_an_error(thread: LoopThread, closing: Closing) -> None:
    began = threading.Event()

    async def wait() -> None:
        began.set()
        await anyio.sleep_forever()

    async def stop() -> None:
        await anyio.to_thread.run_sync(began.wait, SECONDS)
        await anyio.to_thread.run_sync(thread.stop)

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        with anyio.fail_after(SECONDS), pytest.raises(MelleaError, match="thread 'test-loop' was stopped"):
            await thread.run(wait)
    assert closing.count == 1


@pytest.mark.anyio
async def test_it_starts_again_after_it_was_stopped(thread: LoopThread, closing: Closing) -> None:
    async def name() -> str:
        return threading.current_thread().name

    assert await thread.run(name) == "test-loop"
    await anyio.to_thread.run_sync(thread.stop)
    assert closing.count == 1
    assert await thread.run(name) == "test-loop"


def test_it_is_not_started_before_it_is_used(thread: LoopThread) -> None:
    assert "test-loop" not in [each.name for each in threading.enumerate()]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError(24, "Too many open files")])
def test_a_thread_that_cant_be_started_is_our_error_and_can_be_started_later(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = LoopThread("a-thread", 1.0)

    def fail(*args: Any) -> None:
        raise error

    if isinstance(error, OSError):
        monkeypatch.setattr("mellea.core.runtime.loop_thread.run_until_exit", fail)
    else:
        monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(ConfigurationError, match=r"'a-thread'.*can't be started: .*(new thread|open files)"):
        thread.start()
    monkeypatch.undo()
    try:
        assert not thread.start().has_ended()
    finally:
        thread.stop()
