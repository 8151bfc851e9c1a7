"""Time-outs, tools that run one at a time or outside, approval, and what the model reads of a result."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

import mellea
from mellea.core import CBlock, FileBlock, ImageBlock, ToolCall, ToolOutput
from mellea.core.events import ToolEnd
from mellea.core.serialise import from_json, to_json
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools import Step, Tool, ToolLoop, ToolReturn, ToolSet, perform, run_call, run_calls, tool
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

PICTURE = ImageBlock(data=b"png")
REPORT = FileBlock("application/pdf", data=b"pdf", filename="report.pdf")


async def run(function: Any, **args: Any) -> ToolOutput:
    made = function if isinstance(function, Tool) else tool(function)
    return await run_call(ToolCall("c1", made.name, args), {made.name: made})


# -- time-outs ---------------------------------------------------------------------------------------


async def test_a_tool_that_takes_too_long_is_given_up_and_the_model_is_told() -> None:
    ended = threading.Event()

    @tool(timeout=0.05)
    async def slow() -> str:
        try:
            await anyio.sleep(30)
        finally:
            ended.set()
        return "late"

    let_go = threading.Event()

    @tool(timeout=0.05)
    def blocked() -> str:
        let_go.wait(30)
        return "late"

    for function in (slow, blocked):
        began = time.monotonic()
        output = await run(function)
        assert output.is_error
        assert output.result == f"the tool {function.name!r} took longer than 0.05 s and was abandoned"
        assert time.monotonic() - began < 10
    let_go.set()
    assert ended.is_set()


async def test_a_tool_within_its_time_is_untouched_and_its_own_time_out_is_its_own() -> None:
    @tool(timeout=30)
    async def quick() -> str:
        return "done"

    @tool(timeout=30)
    async def own() -> str:
        with anyio.fail_after(0.01):
            await anyio.sleep(30)
        return "late"

    assert (await run(quick)).result == "done"
    assert (await run(own)).result.startswith("TimeoutError")


# -- one at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2, 8])
async def test_calls_of_a_tool_that_runs_one_at_a_time_never_overlap_and_keep_their_order(limit: int) -> None:
    order: list[str] = []

    @tool(one_at_a_time=True)
    async def write(n: int) -> int:
        order.append(f"begin {n}")
        await anyio.sleep(0.001)
        order.append(f"end {n}")
        return n

    with_others = 0

    @tool
    async def read(n: int) -> int:
        nonlocal with_others
        with_others += sum(mark.startswith("begin") for mark in order) > sum(mark.startswith("end") for mark in order)
        return n

    calls = [ToolCall(str(n), "write" if n % 2 else "read", {"n": n}) for n in range(8)]
    outputs = await run_calls(calls, {"write": write, "read": read}, limit=limit)
    assert [output.result for output in outputs] == list(range(8))
    assert order == [f"{mark} {n}" for n in (1, 3, 5, 7) for mark in ("begin", "end")]
    assert with_others, "other tools run meanwhile"


# -- outside, and approval ---------------------------------------------------------------------------


@tool(runs="outside")
def ask_person(question: str) -> str:
    """Ask somebody."""
    raise AssertionError("nobody calls it")


@tool(requires_approval=lambda amount: amount > 10)
def pay(amount: int, note: str = "") -> str:
    raise AssertionError("nobody calls it")


@tool(requires_approval=True)
def delete() -> None: ...


async def test_a_tool_that_runs_outside_is_offered_and_shown_and_never_called() -> None:
    backend = ScriptedBackend([ToolEnd(ToolCall("c1", "ask_person", {"question": "Why?"}))])
    thunk = await mellea.start_session(backend).ainstruct("x", tools=[ask_person])
    assert [call.tool_name for call in thunk.tool_calls] == ["ask_person"]
    assert backend.requests[0].tools[0].description == "Ask somebody."  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="runs outside"):
        await ask_person.call({"question": "Why?"})


@pytest.mark.parametrize(("made", "said"), [(ask_person, "runs outside"), (pay, "approval"), (delete, "approval")])
async def test_a_loop_that_cant_ask_refuses_such_tools_before_anything_is_sent(made: Any, said: str) -> None:
    backend = ScriptedBackend("x")
    with pytest.raises(UsageError, match=said):
        await mellea.start_session(backend).ainstruct("x", tools=[made], tool_calls="run")
    assert not backend.requests


class Everything(ToolSet):
    """A set where some tools need people."""

    async def aload(self) -> list[Any]:
        return [tool(count), ask_person, pay, delete]


def count(to: int) -> int:
    """Count."""
    return to


@pytest.mark.parametrize("is_prepared", [False, True])
async def test_tools_of_a_set_that_need_people_matter_only_once_they_are_called(is_prepared: bool) -> None:
    def prepare(step: Step) -> Step:
        return dataclasses.replace(step, tools=step.tools[:4])

    loop = ToolLoop(prepare_step=prepare if is_prepared else None)
    for name, args, said in (
        ("count", {"to": 3}, None),
        ("pay", {"amount": 5}, None),
        ("pay", {"amount": 50}, "'pay', which needs a person's approval, but a plain call can't ask anybody"),
        ("delete", {}, r"'delete', which needs a person's approval, .* as with deny=\['delete'\] of a set"),
        ("ask_person", {"question": "Why?"}, "'ask_person', which runs outside this program"),
    ):
        backend = ScriptedBackend([ToolEnd(ToolCall("c1", name, args))], "Done.")
        asking = mellea.start_session(backend).ainstruct("x", tools=Everything(), loop=loop)
        if said is None:
            assert (await asking).value == "Done."
        else:
            with pytest.raises(UsageError, match=said):
                await asking
        assert len(backend.requests[0].tools) == 4


async def test_a_function_decides_which_calls_need_approval() -> None:
    assert not await pay.needs_approval({"amount": 5})
    assert await pay.needs_approval({"amount": 50})
    assert not await pay.needs_approval({"amount": "fifty"}), "it fails before anybody is asked"
    assert await delete.needs_approval()

    async def later(amount: int) -> bool:
        return amount == 3

    assert await tool(requires_approval=later)(pay._function).needs_approval({"amount": 3})
    broken = tool(requires_approval=lambda amount: 1 / 0)(pay._function)
    assert await broken.needs_approval({"amount": 3}), "what can't be decided is for a person"
    with pytest.raises(UsageError, match="has a function with the parameter 'price'"):
        tool(requires_approval=lambda price: True)(pay._function)


async def test_nothing_runs_a_call_that_nobody_approved_of() -> None:
    paid: list[int] = []
    buy = tool(name="buy", requires_approval=lambda amount: amount > 10)(lambda amount: paid.append(amount))
    call = ToolCall("c1", "buy", {"amount": 50})
    output = await run_call(call, {"buy": buy})
    assert (output.is_error, paid) == (True, [])
    assert output.result == "'buy' wasn't run: it needs a person's approval, and nobody was asked"
    await perform(call, {"buy": buy}, is_approved=True)
    await perform(ToolCall("c2", "buy", {"amount": 5}), {"buy": buy})
    assert paid == [50, 5]


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 0},
        {"timeout": True},
        {"timeout": math.inf},
        {"one_at_a_time": 1},
        {"runs": "away"},
        {"requires_approval": 3},
    ],
)
def test_wrong_settings_are_errors_at_the_definition(settings: Any) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        tool(**settings)(pay._function)


def test_a_bound_or_renamed_tool_keeps_its_settings() -> None:
    class Shop:
        @tool(timeout=3, one_at_a_time=True, requires_approval=True)
        def sell(self, n: int) -> int:
            return n

    for made in (Shop().sell, Shop().sell.rename("other")):
        assert (made.timeout, made.one_at_a_time, made.requires_approval, made.runs) == (3, True, True, "here")


# -- results -----------------------------------------------------------------------------------------


class Model(BaseModel):
    at: float


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("result", "read"),
    [
        ("text", "text"),
        (None, None),
        (Point(1), {"x": 1}),
        (Model(at=0.5), {"at": 0.5}),
        ([Point(1), {2}], [{"x": 1}, [2]]),
        (math.nan, "NaN"),
        ({"worst": -math.inf}, {"worst": "-Infinity"}),
        ({1: b"\xff"}, {"1": "_w=="}),
        (PICTURE, PICTURE),
        (["here", REPORT, Point(1)], ["here", REPORT, {"x": 1}]),
        ({"title": "Cats", "chart": PICTURE}, [{"title": "Cats"}, "chart:", PICTURE]),
        ({"chart": PICTURE}, ["chart:", PICTURE]),
    ],
)
async def test_results_of_any_kind_are_read_by_the_model_and_can_be_saved(result: Any, read: Any) -> None:
    output = await run(tool(name="f")(lambda: result))
    assert (output.result, output.is_error) == (read, False)
    assert from_json(to_json(output)) == output
    for part in output.parts:
        assert not isinstance(part, CBlock) or json.dumps(part.value)


async def test_the_program_gets_the_value_and_the_model_reads_the_text() -> None:
    table = {"rows": list(range(1000))}

    @tool
    def query() -> ToolReturn:
        return ToolReturn(table, text=["1,000 rows", PICTURE])

    output = await run(query)
    assert output.value is table
    assert output.result == ["1,000 rows", PICTURE]
    assert output.parts == (CBlock("1,000 rows"), PICTURE)


async def test_without_a_text_of_its_own_the_result_is_there_once() -> None:
    assert (await run(tool(name="f")(lambda: [1]))).value is None


async def test_a_result_that_holds_itself_is_cut_there() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    assert (await run(tool(name="f")(lambda: ring))).result == [1, "..."]


async def test_bad_arguments_are_a_tool_error_for_who_calls_directly() -> None:
    with pytest.raises(ToolError, match="takes its arguments as an object"):
        await pay.call([1])  # type: ignore[arg-type]
