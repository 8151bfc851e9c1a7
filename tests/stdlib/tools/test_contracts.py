"""Conditions of tools: the model is told which one a call breaks, and the program's own calls are free."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from mellea.core import ToolCall, ToolOutput
from mellea.errors import UsageError
from mellea.stdlib.tools import ToolReturn, as_tool, ensure, require, run_call, tool

pytestmark = pytest.mark.anyio

paid: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    paid.clear()


@require(lambda amount: amount > 0, "amount must be positive")
@require(lambda amount, limit: amount <= limit, "amount must not exceed limit")
@ensure(lambda result, amount: result["paid"] == amount, "the bank paid something else")
def pay(amount: int, limit: int = 100) -> dict[str, Any]:
    paid.append(amount)
    return {"paid": 13 if amount == 14 else amount}


async def run(function: Any, **args: Any) -> ToolOutput:
    return await run_call(ToolCall("c1", "it", args), {"it": as_tool(function, "it")})


async def test_a_call_that_keeps_all_conditions_runs() -> None:
    assert await run(pay, amount=5) == ToolOutput("c1", "it", {"paid": 5})


@pytest.mark.parametrize(
    ("args", "said", "has_run"),
    [
        ({"amount": -1}, "'it' wasn't run: amount must be positive", False),
        ({"amount": 200}, "'it' wasn't run: amount must not exceed limit", False),
        ({"amount": 200, "limit": 300}, None, True),
        ({"amount": 14}, "the result of 'it' was rejected: the bank paid something else", True),
        ({"amount": "x"}, "the argument 'amount' is not valid", False),
    ],
)
async def test_the_model_is_told_which_condition_a_call_breaks(args: Any, said: str | None, has_run: bool) -> None:
    output = await run(pay, **args)
    assert output.is_error == (said is not None)
    assert said is None or str(output.result).startswith(said)
    assert bool(paid) == has_run


def test_the_programs_own_calls_are_free() -> None:
    assert pay(-1) == {"paid": -1}


async def test_conditions_stand_below_or_above_tool_and_go_with_methods_partials_and_new_names() -> None:
    above = require(lambda n: n > 0, "n must be positive")(tool(name="f", timeout=5)(lambda n: n))
    below = tool(name="f", timeout=5)(require(lambda n: n > 0, "n must be positive")(lambda n: n))

    class Shop:
        @tool
        @require(lambda n: n > 0, "n must be positive")
        def sell(self, n: int) -> int:
            return n

        @require(lambda n: n > 0, "n must be positive")
        def buy(self, n: int) -> int:
            return n

    for function in (above, below, Shop().sell, Shop().buy, functools.partial(Shop().buy), as_tool(above, "g")):
        assert (await run(function, n=1)).result == 1
        assert (await run(function, n=-1)).result == "'it' wasn't run: n must be positive"
    assert above.timeout == as_tool(above, "g").timeout == 5


async def test_checks_may_be_async_take_all_arguments_or_be_a_builtin() -> None:
    async def later(**arguments: Any) -> bool:
        return arguments == {"a": 1, "b": 2}

    @require(later, "not these")
    @ensure(bool, "nothing was found")
    def find(a: int, b: int = 2) -> list[int]:
        return [] if b == 3 else [a]

    assert (await run(find, a=1)).result == [1]
    assert (await run(find, a=2)).result == "'it' wasn't run: not these"

    @ensure(bool, "nothing was found")
    def empty() -> list[int]:
        return []

    assert (await run(empty)).result == "the result of 'it' was rejected: nothing was found"


async def test_a_check_that_raises_is_a_no_with_its_reason() -> None:
    @require(lambda a: 1 / a > 0, "a must be positive")
    def take(a: int) -> int:
        return a

    output = await run(take, a=0)
    assert output.result == "'it' wasn't run: a must be positive (ZeroDivisionError: division by zero)"


async def test_a_result_with_a_text_for_the_model_is_checked_by_its_value() -> None:
    @ensure(lambda result: result == 3, "not three")
    def three() -> ToolReturn:
        return ToolReturn(3, text="three")

    assert await run(three) == ToolOutput("c1", "it", "three", value=3)


def test_wrong_conditions_are_errors_at_the_definition() -> None:
    with pytest.raises(
        UsageError,
        match="has a function with the parameter 'sum', which the tool lacks; the tool's parameters are 'amount'",
    ):

        @tool
        @require(lambda sum: sum > 0, "positive")
        def f(amount: int) -> None: ...

    with pytest.raises(UsageError, match="takes a function, not True"):
        require(True, "x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes a string that tells the model what is wrong, not ''"):
        ensure(bool, "")
    with pytest.raises(UsageError, match="whose first parameter is the result"):
        ensure(lambda: True, "x")
    with pytest.raises(UsageError, match="can't be attached to"):
        require(bool, "x")([].append)
