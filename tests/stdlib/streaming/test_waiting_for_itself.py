"""Code inside a call (a requirement, a tool, a parser) that calls the same session: it works, or says why it can't."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mellea
from mellea.core import Requirement
from mellea.core.blocks import ToolCall
from mellea.core.events import ToolEnd
from mellea.errors import StreamingError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import simple_validate
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


def conversation(*replies: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies), ctx=ChatContext())


async def run_in_thread(function: Any) -> Any:
    with anyio.fail_after(30):
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


@pytest.mark.parametrize("is_chunk", [False, True])
async def test_a_requirement_that_would_wait_for_the_turn_that_it_checks(is_chunk: bool) -> None:
    m = conversation("It is. ", "inner")

    def plain(_: Any) -> bool:
        return bool(m.chat("Is it good?").value)

    async def native(_: Any) -> bool:
        return bool((await m.achat("Is it good?")).value)

    for function in (plain, native):
        requirement = Requirement("r", stream_validation_fn=function) if is_chunk else Requirement("r", function)
        with (
            anyio.fail_after(30),
            pytest.raises(StreamingError, match=r"is itself waiting for the call, .* start_session"),
        ):
            await m.ainstruct("q", requirements=[requirement])
        with pytest.raises(StreamingError, match="is itself waiting for the call"):
            await run_in_thread(partial(m.instruct, "q", requirements=[requirement]))
        with pytest.raises(StreamingError, match="is itself waiting for the call"):
            await run_in_thread(lambda requirement=requirement: list(m.stream("q", requirements=[requirement])))


async def test_a_call_that_cant_be_right_isnt_a_no() -> None:
    m = conversation("It is. ")

    async def native(text: str) -> bool:
        return bool((await m.achat("Is it good?")).value)

    def later(text: str) -> Any:
        return native(text)

    for function in (lambda text: bool(m.chat("Is it good?").value), native, later):
        with anyio.fail_after(30), pytest.raises(StreamingError, match="is itself waiting for the call"):
            await m.ainstruct("q", requirements=[Requirement("r", simple_validate(function))])


async def test_a_requirement_may_ask_a_session_of_its_own() -> None:
    m = conversation("answer", "inner")

    def ask(_: Any) -> bool:
        return mellea.start_session(m.backend).chat("Is it good?").value == "inner"

    assert (await m.ainstruct("q", requirements=[Requirement("r", ask)])).success


async def test_a_tool_that_would_wait_for_the_answer_it_is_called_for_is_told_so() -> None:
    m = conversation([ToolEnd(ToolCall("1", "ask", {}))], "done")

    def ask() -> str:
        """Ask."""
        return str(m.chat("inner").value)

    thunk = await run_in_thread(partial(m.chat, "q", tools=[ask], tool_calls="run"))
    assert thunk.value == "done"
    told = m.backend.requests[-1].messages[-1].blocks[0]  # type: ignore[attr-defined]
    assert told.is_error and "is itself waiting for the call" in str(told)


async def test_a_wait_through_another_turn_is_found_too() -> None:
    gate = Gate()
    m = conversation("answer", [gate, "second"], "third")
    found: list[BaseException] = []

    async def later(_: Any) -> bool:
        try:
            await m.achat("third")
        except StreamingError as error:
            found.append(error)
        return True

    async def second() -> None:
        await m.achat("second")

    async with anyio.create_task_group() as group:
        with anyio.fail_after(30):
            group.start_soon(partial(m.ainstruct, "q", requirements=[Requirement("r", later)]))
            group.start_soon(second)
            gate.open()
    assert len(found) == 1


async def test_a_task_that_outlives_the_call_isnt_part_of_it() -> None:
    m = conversation("answer", "inner")
    gate, answers = Gate(), []

    async def after() -> None:
        await gate.wait()
        answers.append((await m.achat("later")).value)

    async with anyio.create_task_group() as group:

        async def begins_a_task(_: Any) -> bool:
            group.start_soon(after)
            return True

        await m.ainstruct("q", requirements=[Requirement("r", begins_a_task)])
        gate.open()
    assert answers == ["inner"]
