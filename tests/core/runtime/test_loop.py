"""Loops: detached tasks, waits that any thread may end, and the news that a loop has gone."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import types
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest
import trio

from mellea.core.runtime import loop as loops
from mellea.core.runtime.loop import Loop, ThreadWaiter, create_waiter, get_current_loop, is_loop_running, launch

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def run_in_thread(function, *args) -> threading.Thread:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


@pytest.mark.anyio
async def test_a_waiter_ends_by_a_wake_from_its_own_loop() -> None:
    waiter = create_waiter()

    async def wait() -> None:
        await waiter.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.01)
        waiter.wake()
        waiter.wake()  # a second one does nothing


@pytest.mark.anyio
async def test_a_waiter_ends_by_a_wake_from_another_thread_before_or_after() -> None:
    with anyio.fail_after(30):
        for delay in (0, 0.02):
            waiter = create_waiter()
            timer = threading.Timer(delay, waiter.wake)
            timer.start()
            if delay == 0:
                timer.join()
            await waiter.wait()


@pytest.mark.anyio
async def test_a_waiter_ends_by_its_time_out() -> None:
    began = time.monotonic()
    with anyio.fail_after(30):
        await create_waiter().wait(0.05)
    assert time.monotonic() - began >= 0.045


@pytest.mark.anyio
async def test_a_cancelled_wait_may_still_be_woken() -> None:
    waiter = create_waiter()
    with anyio.move_on_after(0.01):
        await waiter.wait()
    waiter.wake()
    await anyio.sleep(0)


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"])
def test_waking_after_the_waiting_loop_has_gone_does_nothing(run) -> None:
    async def main() -> loops.Waiter:
        return create_waiter()

    waiter = run(main())
    waiter.wake()
    run_in_thread(waiter.wake).join()


def test_a_wake_reaches_a_loop_that_moved_to_another_thread() -> None:
    native = asyncio.new_event_loop()
    woken: list[float] = []

    async def make() -> loops.Waiter:
        return create_waiter()

    async def wait(waiter: loops.Waiter) -> None:
        await waiter.wait()
        woken.append(time.monotonic())

    waiter = native.run_until_complete(make())
    thread = run_in_thread(native.run_until_complete, wait(waiter))
    time.sleep(0.1)
    waiter.wake()  # from the thread that the waiter was made in, where the loop no longer runs
    thread.join(30)
    stuck = thread.is_alive()
    native.call_soon_threadsafe(lambda: None)
    thread.join(30)
    native.close()
    assert woken and not stuck


def test_a_thread_waiter_waits_and_is_woken_once_for_all() -> None:
    waiter = ThreadWaiter()
    began = time.monotonic()
    waiter.wait(0.03)
    assert time.monotonic() - began >= 0.025
    waiter = ThreadWaiter()
    threading.Timer(0.02, waiter.wake).start()
    waiter.wait(300)
    assert time.monotonic() - began < 60
    waiter.wake()
    waiter.wake()


@pytest.mark.anyio
async def test_a_detached_task_outlives_its_launcher_and_has_its_context() -> None:
    seen: list[str] = []
    done = anyio.Event()

    async def main() -> None:
        await anyio.sleep(0.01)
        seen.append(colour.get())
        done.set()

    async def launcher() -> None:
        colour.set("blue")
        launch(main, lambda: None)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(launcher)
        assert not seen
        await done.wait()
    assert seen == ["blue"]


@pytest.mark.anyio
@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_cancelled_task_tells_that_it_is_over_even_if_it_never_began(has_begun: bool) -> None:
    ended = anyio.Event()
    task = launch(anyio.sleep_forever, ended.set)
    if has_begun:
        await anyio.sleep(0.01)
    task.cancel()
    with anyio.fail_after(30):
        await ended.wait()


@pytest.mark.anyio
async def test_a_callback_is_posted_called_later_and_cancelled() -> None:
    loop, called = get_current_loop(), []
    posted, done = anyio.Event(), anyio.Event()
    thread = run_in_thread(loop.post, posted.set)
    loop.call_later(0.01, lambda: called.append("later"))
    stop = loop.call_later(0.02, lambda: called.append("never"))
    stop()
    loop.call_later(0.05, done.set)
    with anyio.fail_after(30):
        await posted.wait()
        await done.wait()
    thread.join()
    assert called == ["later"]


@pytest.mark.anyio
async def test_a_loop_knows_its_own_thread() -> None:
    loop = get_current_loop()
    assert loop.is_current() and is_loop_running()
    assert get_current_loop().native is loop.native
    assert not await anyio.to_thread.run_sync(loop.is_current)
    assert not await anyio.to_thread.run_sync(is_loop_running)
    assert loop.explain_loss() is None
    assert await anyio.to_thread.run_sync(loop.explain_loss) is None


def test_there_is_no_loop_outside_of_one() -> None:
    assert not is_loop_running()
    with pytest.raises(RuntimeError):
        get_current_loop()


async def _here() -> Loop:
    return get_current_loop()


def test_a_closed_loop_and_a_finished_run_are_lost_at_once() -> None:
    assert asyncio.run(_here()).explain_loss() == "has been closed"
    assert trio.run(_here).explain_loss() == "has been finished"
    assert not asyncio.run(_here()).post(print)
    assert not trio.run(_here).post(print)


@pytest.fixture
def standing() -> asyncio.AbstractEventLoop:
    native = asyncio.new_event_loop()
    yield native
    native.close()


def test_a_loop_that_stands_still_is_lost_after_the_grace(standing, monkeypatch) -> None:
    monkeypatch.setattr(loops, "GRACE", 0.1)
    loop = standing.run_until_complete(_here())
    assert loop.explain_loss() is None
    time.sleep(0.12)
    assert loop.explain_loss() == "has been blocked for 0.1 s"


def test_two_short_standstills_dont_add_up(standing, monkeypatch) -> None:
    monkeypatch.setattr(loops, "GRACE", 0.1)
    loop = standing.run_until_complete(_here())
    assert loop.explain_loss() is None
    time.sleep(0.12)
    standing.run_until_complete(asyncio.sleep(0.01))  # it moves, and nobody looks
    assert loop.explain_loss() is None


def test_a_trio_that_another_thread_is_just_importing_is_no_loop(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", types.ModuleType("trio"))
    assert not is_loop_running()
    assert asyncio.run(_here()).explain_loss() == "has been closed"


@pytest.mark.anyio
async def test_a_process_that_was_paused_as_a_whole_has_lost_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(loops, "time", SimpleNamespace(monotonic=lambda: now[0]))
    loop = get_current_loop()
    for _ in range(4):
        assert loop.explain_loss() is None
        now[0] += 60.0  # nobody looked meanwhile: not once a second, as those do who wait
        assert loop.explain_loss() is None
        await anyio.sleep(0.05)
    assert loop.explain_loss() is None
    for _ in range(4):
        now[0] += 1.0
        assert loop.explain_loss() is None
    now[0] += 1.0
    assert loop.explain_loss() == "has been blocked for 5 s"


class Watched:
    """Something that wants to be looked at once, some seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.due = self.began + seconds
        self.seen = anyio.Event()

    def look(self, now: float) -> None:
        if now >= self.due:
            self.due = float("inf")
            self.seen.set()


@pytest.mark.anyio
async def test_one_timer_serves_everything_that_a_loop_watches(monkeypatch) -> None:
    loop, timers = get_current_loop(), []
    real = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, call: timers.append(delay) or real(delay, call))
    late, soon = Watched(0.1), Watched(0.02)
    gone = [Watched(0.05) for _ in range(100)]
    for each in (late, soon, *gone):
        loop.watch(each)
    for each in gone:
        loop.forget(each)
    assert len(timers) == 2, "a timer is set anew for an earlier time alone"
    with anyio.fail_after(30):
        await soon.seen.wait()
        assert not late.seen.is_set() or time.monotonic() >= late.began + 0.1
        await late.seen.wait()
    assert not any(each.seen.is_set() for each in gone)
    for each in (late, soon):
        loop.forget(each)


@pytest.mark.anyio
async def test_main_that_takes_over_isnt_told_that_it_ended() -> None:
    ended: list[str] = []

    async def main() -> None:
        task.take_over()

    task = launch(main, lambda: ended.append("taken over"))
    other = launch(lambda: anyio.sleep(0), lambda: ended.append("left alone"))
    assert other is not task
    with anyio.fail_after(30):
        while not ended:
            await anyio.sleep(0.001)
        await anyio.sleep(0.005)
    assert ended == ["left alone"]
