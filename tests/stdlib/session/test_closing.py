"""A session knows every generation it launched: closing, resetting and leaving it cancels them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import mellea
from mellea import ChatContext, MelleaSession
from mellea.core.blocks import ToolCall
from mellea.core.events import ToolEnd
from mellea.testing import Pause, ScriptedBackend

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


async def _instruct(m: MelleaSession) -> Any:
    return await m.ainstruct("x", await_result=False)


async def _messages(m: MelleaSession) -> Any:
    return await m.achat([mellea.user_message("x")], await_result=False)


async def _stream(m: MelleaSession) -> Any:
    stream = m.astream([mellea.user_message("x")])  # which waits for no turn before it
    await anext(aiter(stream))
    assert stream._thunk is not None
    return stream._thunk


async def _leave(m: MelleaSession) -> None:
    async with m:
        pass


async def _reset(m: MelleaSession) -> None:
    m.reset()


@pytest.mark.parametrize("end", [_leave, MelleaSession.aclose, _reset])
@pytest.mark.parametrize("context", [None, ChatContext])
@pytest.mark.parametrize("begin", [_instruct, _messages, _stream])
async def test_every_generation_is_cancelled(
    begin: Callable[[MelleaSession], Awaitable[Any]], context: Any, end: Callable[[MelleaSession], Awaitable[None]]
) -> None:
    m = mellea.start_session(ScriptedBackend(["a", FOREVER]), ctx=context and context())
    other = m.clone()
    kept = await _messages(other)
    thunks = [await begin(m) for _ in range(3)]
    with anyio.fail_after(30):
        await end(m)
    assert all(thunk.has_failed() for thunk in thunks)
    assert not kept.has_failed()  # it belongs to the clone
    await kept.cancel()


async def test_the_work_before_a_function_asks_is_cancelled_too() -> None:
    begun = anyio.Event()

    async def slow(_: Any) -> bool:
        begun.set()
        await anyio.sleep_forever()
        return True

    @mellea.generative(preconditions=[mellea.core.Requirement("slow", slow)])
    async def guess(x: int) -> str:
        """Guess."""

    m = mellea.start_session(ScriptedBackend("a"))
    stream = guess.astream(m, 1)
    ended = anyio.Event()

    async def read() -> None:
        with pytest.raises(mellea.MelleaError, match="cancelled"):
            [chunk async for chunk in stream]
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        with anyio.fail_after(30):
            await begun.wait()
            await m.aclose()
            await ended.wait()


async def test_a_compactor_of_the_users_never_runs_on_the_loop() -> None:
    where: list[bool] = []

    def compactor(turns: Any) -> Any:
        from mellea.core.runtime.loop import is_loop_running

        where.append(is_loop_running())
        return list(turns)

    class Thing:
        """A thing."""

        def double(self) -> int:
            """Double it."""
            return 2

    backend = ScriptedBackend("hi", [ToolEnd(ToolCall("1", "double", {}, "{}"))])
    m = mellea.start_session(backend, ctx=ChatContext(compactor=compactor))
    await m.ainstruct("hello")
    assert await m.atransform(Thing(), "double it") == 2
    assert where and not any(where)
