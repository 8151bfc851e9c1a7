"""Cases in which other libraries fail, each under its number."""

from __future__ import annotations

import enum
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Optional, TypedDict, Union

import anyio
import pytest

import mellea
from mellea import events, generative
from mellea.core import ModelOutputThunk
from mellea.core.events import StreamEnd, TextDelta
from mellea.errors import BackendError
from mellea.testing import Gate, Pause, ScriptedBackend


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Part:
    name: str
    color: Optional[Color] = None  # noqa: UP045 - on purpose
    size: Literal["S", "L"] = "S"


class Box(TypedDict):
    parts: list[Part]
    twin: NotRequired[Box]


@dataclass
class Order:
    box: Box
    by_name: dict[str, Part]
    note: Union[str, int, None]  # noqa: UP007 - on purpose
    orders: list[Order] = field(default_factory=list)


ORDER = (
    '{"box": {"parts": [{"name": "a", "color": "red", "size": "L"}], "twin": {"parts": []}}, '
    '"by_name": {"a": {"name": "a", "color": null}}, "note": null, "orders": [{"box": {"parts": []}, "by_name": {}, '
    '"note": 3}]}'
)
MADE = Order(
    {"parts": [Part("a", Color.RED, "L")], "twin": {"parts": []}},
    {"a": Part("a")},
    None,
    [Order({"parts": []}, {}, 3)],
)


def test_part_4_number_6_types_in_formats_with_future_annotations() -> None:
    @generative
    def order(text: str) -> Order:
        """Read the order."""
        raise NotImplementedError

    @generative
    def maybe(text: str) -> Optional[Order]:  # noqa: UP045 - on purpose
        """Read the order, if it is one."""
        raise NotImplementedError

    with mellea.start_session(ScriptedBackend(ORDER, ORDER, ORDER, "null", "null", f"[{ORDER}, {ORDER}]")) as m:
        assert m.instruct("x", format=Order).parsed == MADE
        assert order("x") == MADE
        assert maybe("x") == MADE
        assert maybe("x") is None
        assert m.instruct("x", format=Optional[Color]).parsed is None  # noqa: UP045 - on purpose
        assert list(m.stream("x", format=list[Order]).items()) == [MADE, MADE]


REPLY = ["Once ", Pause(0), "upon", " a", Pause(0.001), " time"]


@pytest.mark.anyio
async def test_part_4_number_10_a_stream_is_the_whole_result_sync_or_async() -> None:
    def session() -> mellea.MelleaSession:
        return mellea.start_session(ScriptedBackend(list(REPLY)))

    whole = (await session().ainstruct("x")).value
    assert whole == "Once upon a time"
    assert "".join(session().stream("x")) == whole
    assert "".join([chunk async for chunk in session().astream("x")]) == whole

    def log(found: list[events.Event]) -> list[Any]:
        text = "".join(event.chunk for event in found if isinstance(event, TextDelta))
        return [text, *[event for event in found if not isinstance(event, TextDelta)]]

    plain = log(list(session().stream("x").events()))
    assert plain == log([event async for event in session().astream("x").events()])
    assert [plain[0], *map(type, plain[1:])] == [whole, StreamEnd]


KINDS = ("asyncio", "trio")

READERS: dict[str, Callable[[ModelOutputThunk[Any]], Any]] = {
    "text": lambda thunk: thunk,
    "events": lambda thunk: thunk.events(),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.sample(1)
def test_part_4_number_13_a_delta_costs_the_same_in_a_stream_of_any_length(reader: str) -> None:
    async def read(count: int) -> float:
        m = mellea.start_session(ScriptedBackend(["x"] * count))
        gc.collect()
        before = time.process_time()
        thunk = await m.ainstruct("x", await_result=False)
        async for _ in READERS[reader](thunk):
            pass
        seconds = time.process_time() - before
        assert len(await thunk.avalue()) == count
        return seconds / count

    # The benchmark "growth" measures it to a tenth; this only tells constant from growing, on however busy a machine.
    gc.disable()  # a look at all that the other tests have left behind isn't what is measured
    try:
        short, long = (min(anyio.run(read, count) for _ in range(3)) for count in (10_000, 100_000))
    finally:
        gc.enable()
    assert long < 4 * short


@pytest.mark.anyio
async def test_part_4_number_16_an_await_after_a_failure_and_one_from_another_loop_end() -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(["a", ValueError("boom")], [gate, "b"]))
    broken = await m.ainstruct("x", await_result=False)
    for _ in range(3):
        with pytest.raises(BackendError, match="boom"):
            await broken
    with pytest.raises(BackendError, match="boom"):
        await m.ainstruct("{{it}}", user_variables={"it": broken})

    late = await m.ainstruct("y", await_result=False)
    found: list[str] = []

    async def elsewhere() -> None:
        found.append(await late.avalue())

    threads = [threading.Thread(target=anyio.run, args=(elsewhere,), kwargs={"backend": kind}) for kind in KINDS]
    for thread in threads:
        thread.start()
    gate.open()
    with anyio.fail_after(30):
        assert await late.avalue() == "b"
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
    assert found == ["b", "b"]
