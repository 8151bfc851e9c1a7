"""What is asked of a generation while it runs costs the same at each delta; its end says whether it has succeeded."""

from __future__ import annotations

from typing import Any

import pytest

import mellea
from mellea.core.accumulator import Accumulator, fold
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.events import Event, StepStart, TextDelta, ToolEnd, ToolResult, Usage, UsageEvent
from mellea.errors import BackendError, MelleaError
from mellea.testing import Gate, Pause, ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("what", ["text", "usage", "message"])
async def test_each_event_is_folded_once_however_often_somebody_asks(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[Event] = []
    feed = Accumulator.feed

    def counted(self: Accumulator, events: Any) -> None:
        fed.extend(events)
        feed(self, events)

    monkeypatch.setattr(Accumulator, "feed", counted)
    script = [step for _ in range(200) for step in ("w ", Pause(0))]
    stream = mellea.start_session(ScriptedBackend([UsageEvent(Usage(3, 4)), *script])).astream("x")
    seen = []
    async for _ in stream:
        seen.append(getattr(stream, what))
    assert len(fed) < 450
    last = {"text": "w " * 200, "usage": Usage(3, 4)}.get(what)
    assert (seen[-1].content if what == "message" else seen[-1]) == (last or "w " * 200)


async def test_results_of_tools_stand_in_the_order_of_their_calls_however_they_ended() -> None:
    count = 50
    calls: list[Event] = [ToolEnd(ToolCall(str(n), "f", {})) for n in range(count)]
    results: list[Event] = [ToolResult(ToolOutput(str(n), "f", "x")) for n in reversed(range(count))]
    accumulator = Accumulator()
    accumulator.feed([StepStart(1), *calls])
    for n, result in enumerate(results, 1):  # asked for after each one
        accumulator.feed([result])
        assert len(accumulator.generation().messages) == n + 2
    accumulator.feed([StepStart(2), TextDelta("done")])
    messages = accumulator.generation().messages
    assert [message.blocks[0].tool_call_id for message in messages[1:-1]] == [str(n) for n in range(count)]  # type: ignore[attr-defined]
    assert messages == fold([StepStart(1), *calls, *results, StepStart(2), TextDelta("done")]).messages


async def test_success_is_said_only_of_what_has_ended_with_a_result() -> None:
    gate = Gate()
    cases: list[tuple[Any, Any, bool]] = [
        (["a", gate, BackendError("gone")], None, False),
        (["no number", gate], int, False),
        (["1", gate], int, True),
    ]
    for script, kind, expected in cases:
        thunk = await mellea.start_session(ScriptedBackend(script)).ainstruct("x", format=kind, await_result=False)
        assert thunk.success is False
        gate.open()
        try:
            await thunk
        except MelleaError:
            assert not expected
        assert thunk.success is expected
    thunk = await mellea.start_session(ScriptedBackend(["a", Pause(60)])).ainstruct("x", await_result=False)
    await thunk.cancel()
    assert thunk.success is False


async def test_an_error_is_told_once_and_its_way_in_short() -> None:
    m = mellea.start_session(ScriptedBackend(["half", BackendError("boom")], "x"))
    first = thunk = await m.ainstruct("a", await_result=False)
    held = [first]
    for n in range(30):
        thunk = await m.ainstruct("{{x}}", name=f"step {n}", user_variables={"x": thunk}, await_result=False)
        held.append(thunk)
    with pytest.raises(BackendError, match="boom") as caught:
        await thunk
    assert caught.value.partial == "" and first.partial == "half"
    assert caught.value.__cause__ is None
    notes = caught.value.__notes__
    assert len(notes) == 4 and "step 0" in notes[0] and "step 29" in notes[-1]
