"""Running the calls of a model: in order, at the same time, and never with a crash."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from mellea.core.blocks import ToolOutput
from mellea.core.messages import parse_tool_call
from mellea.errors import UsageError
from mellea.stdlib.tools import as_tool, run_call, run_calls
from tests.waiting import until

pytestmark = pytest.mark.anyio


def add(a: int, b: int = 1) -> int:
    if a < 0:
        raise ValueError("too small")
    return a + b


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def unsayable() -> None:
    raise UnsayableError


ran: list[str] = []


def nothing() -> str:
    ran.append("nothing")
    return "done"


TOOLS = {tool.name: tool for tool in map(as_tool, (add, nothing, unsayable))}


async def ask(name: str, raw: str) -> ToolOutput:
    return await run_call(parse_tool_call("id", name, raw), TOOLS)


async def test_a_call_gives_the_result() -> None:
    assert await ask("add", '{"a": 1}') == ToolOutput("id", "add", 2)


@pytest.mark.parametrize("raw", ["", "{}", " "])
async def test_part_4_number_3_empty_arguments_for_a_tool_without_parameters_run_once(raw: str) -> None:
    ran.clear()
    assert await ask("nothing", raw) == ToolOutput("id", "nothing", "done")
    assert ran == ["nothing"]


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("add", '{"a": "x"}', "the argument 'a' is not valid: Input should be a valid integer"),
        ("add", '{"a": -1}', "ValueError: too small"),
        ("add", '{"a": 1', "the arguments of 'add' are not a JSON object: '{\"a\": 1'"),
        ("add", "[1]", "the arguments of 'add' are not a JSON object"),
        ("sub", "{}", "there is no tool 'sub'; the tools are 'add', 'nothing', 'unsayable'"),
        ("unsayable", "", "UnsayableError"),
    ],
)
async def test_whatever_goes_wrong_is_told_to_the_model(name: str, raw: str, said: str) -> None:
    output = await ask(name, raw)
    assert output.is_error
    assert str(output.result).startswith(said)


async def test_calls_run_at_the_same_time_and_their_outputs_are_in_order() -> None:
    running, most = 0, 0
    told: list[Any] = []

    async def wait(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await (until(lambda: told) if n == 0 else anyio.sleep(0))
        running -= 1
        return n

    tools = {"wait": as_tool(wait)}
    calls = [parse_tool_call(str(n), "wait", f'{{"n": {n}}}') for n in range(6)]
    outputs = await run_calls(calls, tools, limit=3, on_result=lambda output: told.append(output.result))
    assert [output.result for output in outputs] == list(range(6))
    assert most == 3
    assert told != sorted(told), "each is told as soon as it is there"
    assert sorted(told) == list(range(6))


async def test_a_limit_of_one_runs_them_one_after_the_other() -> None:
    order: list[str] = []

    async def step(n: int) -> None:
        order.append(f"begin {n}")
        await anyio.sleep(0)
        order.append(f"end {n}")

    calls = [parse_tool_call(str(n), "step", f'{{"n": {n}}}') for n in range(3)]
    await run_calls(calls, {"step": as_tool(step)}, limit=1)
    assert order == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]


async def test_no_calls_are_no_outputs_and_a_bad_limit_is_refused() -> None:
    assert await run_calls([], TOOLS) == []
    with pytest.raises(UsageError, match="limit takes a whole number from 1, not 0"):
        await run_calls([], TOOLS, limit=0)
