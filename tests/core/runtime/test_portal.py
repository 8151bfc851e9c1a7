"""Synchronous verbs: one portal thread, usable from plain functions, threads and running loops."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import sys
import threading
import time
import weakref
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mellea.core.runtime import find_held_up_loops
from mellea.core.runtime import portal as portals
from mellea.core.runtime.portal import blocking
from mellea.errors import ConnectError, StreamingError

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


class Verbs:
    async def aecho(self, value: Any, *, await_result: bool = True) -> tuple[Any, str, str]:
        """Return the value, and where it was said."""
        await anyio.sleep(0)
        return value, threading.current_thread().name, where.get()

    async def araise(self, error: BaseException) -> None:
        await anyio.sleep(0)
        raise error

    async def aloops(self) -> list[Any]:
        return [loop.native for loop in find_held_up_loops()]

    async def anested(self, verb: Any) -> Any:
        return await anyio.to_thread.run_sync(verb)

    echo = blocking(aecho)
    fail = blocking(araise)
    loops = blocking(aloops)
    nested = blocking(anested)


verbs = Verbs()


def test_a_verb_returns_what_its_async_twin_returns_from_the_portals_thread() -> None:
    assert verbs.echo(5) == (5, "mellea-portal", "nowhere")
    assert len([thread for thread in threading.enumerate() if thread.name == "mellea-portal"]) == 1


def test_a_verb_carries_the_callers_context_variables() -> None:
    token = where.set("here")
    try:
        assert verbs.echo(1)[2] == "here"
    finally:
        where.reset(token)
    assert verbs.echo(1)[2] == "nowhere"


def test_a_verb_has_the_name_and_a_docstring_of_its_own() -> None:
    assert (Verbs.echo.__name__, Verbs.echo.__qualname__) == ("echo", "Verbs.echo")
    note = "This waits until it is done; `aecho` does the same in async code."
    assert Verbs.echo.__doc__ == f"Return the value, and where it was said.\n\n{note}"
    assert Verbs.aecho.__doc__ == "Return the value, and where it was said."


def test_await_result_may_only_be_true() -> None:
    assert verbs.echo(1, await_result=True)[0] == 1
    for value in (False, None, 0):
        with pytest.raises(StreamingError, match=r"await_result=.*m\.stream.*'aecho'"):
            verbs.echo(1, await_result=value)


def test_an_error_comes_out_as_it_is_and_the_same_each_time() -> None:
    for _ in range(3):
        with pytest.raises(ConnectError, match="no route"):
            verbs.fail(ConnectError("no route"))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_inside_a_verb_reaches_the_caller_and_the_portal_survives(kind: type[BaseException]) -> None:
    thread = next(thread for thread in threading.enumerate() if thread.name == "mellea-portal")
    with pytest.raises(kind):
        verbs.fail(kind(3))
    assert verbs.echo(1)[0] == 1
    assert thread.is_alive()


def test_an_error_that_was_handled_is_gone_with_all_that_its_traceback_holds() -> None:
    class Thing:
        pass

    async def afail() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        raise ConnectError("no route")

    things: list[weakref.ref[Thing]] = []
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ConnectError):
            blocking(afail)()
        end = time.monotonic() + 10
        while things[0]() is not None and time.monotonic() < end:
            time.sleep(0.01)  # the portal's thread has it for a moment
        assert things[0]() is None
    finally:
        gc.enable()


def test_verbs_run_at_the_same_time_from_many_threads() -> None:
    inside: list[int] = []
    met: list[int] = []

    async def ameet(number: int) -> None:
        inside.append(number)
        with anyio.fail_after(30):
            while len(inside) < 10:
                await anyio.sleep(0.001)
        met.append(number)

    threads = [threading.Thread(target=blocking(ameet), args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(met) == list(range(10))


@pytest.mark.anyio
async def test_a_verb_works_inside_a_running_loop_and_names_the_loop_it_holds_up() -> None:
    from mellea.core.runtime.loop import get_current_loop

    assert verbs.echo(1)[0] == 1
    assert verbs.loops() == [get_current_loop().native]
    assert find_held_up_loops() == ()
    assert await anyio.to_thread.run_sync(verbs.loops) == []


def test_a_verb_works_inside_a_worker_thread_of_another_verb() -> None:
    def validator() -> Any:
        return verbs.nested(lambda: verbs.echo("deep"))

    assert verbs.nested(validator)[0] == "deep"


def test_a_verb_on_the_portals_own_thread_is_refused_instead_of_hung() -> None:
    async def aask() -> Any:
        return verbs.echo(1)

    with pytest.raises(StreamingError, match=r"wait for itself.*a… verb"):
        blocking(aask)()
    assert verbs.echo(1)[0] == 1


def test_the_portal_starts_again_after_it_was_stopped() -> None:
    fresh = portals._Portal()
    try:
        first = fresh.start()
        assert fresh.start() is first
        thread = fresh._thread
        fresh.stop()
        assert thread is not None and not thread.is_alive()
        fresh.stop()
        assert fresh.start() is not first
        assert fresh.start().explain_loss() is None and first.explain_loss() == "has been closed"
    finally:
        fresh.stop()


def test_stopping_the_portal_cancels_what_runs_on_it_and_ends_the_callers_wait(monkeypatch) -> None:
    fresh = portals._Portal()
    monkeypatch.setattr(portals, "_portal", fresh)
    began, outcome = threading.Event(), []

    async def ahang() -> None:
        began.set()
        await anyio.sleep_forever()

    def call() -> None:
        try:
            blocking(ahang)()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert began.wait(30)
    fresh.stop()
    thread.join(30)
    assert not thread.is_alive() and isinstance(outcome[0], StreamingError)


def test_a_portal_that_something_blocks_for_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mellea.core.runtime.loop.GRACE", 0.1)
    monkeypatch.setattr("mellea.core.runtime.portal._LOOK_SECONDS", 0.02)

    async def ablocks() -> str:
        time.sleep(0.5)  # a mistake, but not the end of the program
        return "late"

    assert blocking(ablocks)() == "late"


def test_a_verb_near_the_recursion_limit_ends() -> None:
    """Python's error is one of the errors that a closed loop raises, and was taken for that."""

    def descend(levels: int) -> Any:
        return descend(levels - 1) if levels else Verbs().echo(1)

    def run() -> None:
        for levels in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
            with contextlib.suppress(RecursionError):
                ended.append(descend(levels)[0])
        ended.append("all")

    ended: list[Any] = []
    Verbs().echo(0)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert ended[-1] == "all"
    assert Verbs().echo(2)[0] == 2
