"""Equal requests at the same time: one is sent, and nobody waits for one that won't end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

import mellea
from mellea.core import Usage
from mellea.errors import RateLimitError
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import until, until_here

pytestmark = pytest.mark.anyio


async def test_equal_requests_at_the_same_time_are_sent_once(tmp_path: Path) -> None:
    gate = Gate()
    backend = ScriptedBackend(["Hello, ", gate, "you"], usage=Usage(3, 4))
    answers: list[tuple[str, str]] = []

    async def ask() -> None:
        thunk = await mellea.start_session(backend, cache=tmp_path / "runs.db").ainstruct("Greet me.")
        assert thunk.request is not None
        answers.append((str(thunk), thunk.request.backend))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
            await until(lambda: backend.requests)
            await anyio.sleep(0.05)
            gate.open()
    assert sorted(answers) == [("Hello, you", "cache")] * 19 + [("Hello, you", "scripted")]
    assert len(backend.requests) == 1


async def test_another_request_does_not_wait(tmp_path: Path) -> None:
    gate = Gate()
    backend = ScriptedBackend(lambda request: ["a", gate] if request.messages[-1].text == "slow" else "b")
    session = mellea.start_session(backend, cache=tmp_path / "runs.db")
    async with anyio.create_task_group() as group:
        group.start_soon(session.ainstruct, "slow")
        await until(lambda: backend.requests)
        with anyio.fail_after(30):
            assert str(await session.ainstruct("quick")) == "b"
        gate.open()


async def test_the_others_ask_themselves_where_the_first_fails(tmp_path: Path) -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, RateLimitError("no")], "yes")
    results: list[str] = []

    async def ask() -> None:
        session = mellea.start_session(backend, cache=tmp_path / "runs.db")
        try:
            results.append(str(await session.ainstruct("x")))
        except RateLimitError:
            results.append("failed")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await until(lambda: backend.requests)
            await anyio.sleep(0.05)
            gate.open()
    assert sorted(results) == ["failed", "yes", "yes"]


async def test_another_asks_where_the_first_is_cancelled(tmp_path: Path) -> None:
    backend = ScriptedBackend(["a", Pause(float("inf"))], "whole")
    first = mellea.start_session(backend, cache=tmp_path / "runs.db")
    results: list[str] = []

    async def ask() -> None:
        results.append(str(await mellea.start_session(backend, cache=tmp_path / "runs.db").ainstruct("x")))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, first.astream("x") as stream:
            assert await anext(aiter(stream)) == "a"
            for _ in range(3):
                group.start_soon(ask)
            await anyio.sleep(0.05)
            assert len(backend.requests) == 1
    assert results == ["whole"] * 3
    assert len(backend.requests) == 2


async def test_one_who_waits_can_be_cancelled_and_the_first_goes_on(tmp_path: Path) -> None:
    gate = Gate()
    backend = ScriptedBackend(["a", gate, "b"])
    session = mellea.start_session(backend, cache=tmp_path / "runs.db")
    results: list[str] = []

    async def ask() -> None:
        results.append(str(await session.ainstruct("x")))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(lambda: backend.requests)
            with anyio.move_on_after(0.05):
                await ask()
            gate.open()
    assert results == ["ab"]
    assert str(await session.ainstruct("x")) == "ab"
    assert len(backend.requests) == 1


def test_threads_with_loops_of_their_own_share_one_request(tmp_path: Path) -> None:
    gate = Gate()
    backend = ScriptedBackend(["a", gate, "b"])
    results: list[str] = []

    def ask(number: int) -> None:
        async def main() -> None:
            results.append(str(await mellea.start_session(backend, cache=tmp_path / "runs.db").ainstruct("x")))

        if number % 2:
            anyio.run(main, backend="trio" if number % 4 == 1 else "asyncio")
        else:
            results.append(str(mellea.start_session(backend, cache=tmp_path / "runs.db").instruct("x")))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    until_here(lambda: backend.requests)
    threading.Event().wait(0.1)
    gate.open()
    for thread in threads:
        thread.join(30)
    assert results == ["ab"] * 8
    assert len(backend.requests) == 1


def test_a_loop_that_ends_without_a_word_leaves_its_request(tmp_path: Path) -> None:
    backend = ScriptedBackend(["a", Pause(float("inf"))], "whole")
    loop = asyncio.new_event_loop()
    stream = None

    async def begin() -> None:
        nonlocal stream
        stream = mellea.start_session(backend, cache=tmp_path / "runs.db").astream("x")
        assert await anext(aiter(stream)) == "a"

    loop.run_until_complete(begin())
    loop.close()
    assert str(mellea.start_session(backend, cache=tmp_path / "runs.db").instruct("x")) == "whole"
    del stream


async def test_equal_requests_of_one_call_do_not_wait_for_each_other(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda request: f"{len(backend.requests)}")
    session = mellea.start_session(backend, cache=tmp_path / "runs.db")

    async def look() -> str:
        """Look."""
        return str(await session.ainstruct("inner"))

    with anyio.fail_after(30):
        results = [str(await session.ainstruct("x")), await look(), str(await session.ainstruct("x"))]
    assert results == ["1", "2", "1"]


_FORK = """
import os, sys, time
import mellea
from mellea.testing import Pause, ScriptedBackend

path = sys.argv[1]
backend = ScriptedBackend(["parent", Pause(60)], "child")
thunk = mellea.start_session(backend, cache=path).stream("Greet me.")
next(iter(thunk))
child = os.fork()
if child == 0:
    print(mellea.start_session(ScriptedBackend("child"), cache=path).instruct("Greet me."), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thunk.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_waits_for_no_request_of_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", _FORK, str(tmp_path / "runs.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.stdout.split() == ["child", "0"], done.stderr
