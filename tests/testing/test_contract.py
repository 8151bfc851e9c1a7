"""The scripted backend passes the contract, and backends that are broken on purpose fail it."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any
from unittest import SkipTest

import anyio
import pytest

from mellea.core.backend import Backend, Capabilities, Request, check_supported
from mellea.core.blocks import ToolCall
from mellea.core.events import KeepAlive, StreamEnd, TextDelta, ToolDelta, ToolEnd, ToolStart, Usage, UsageEvent
from mellea.testing import BackendContract, Pause, ScriptedBackend

LONG = [step for number in range(50) for step in (f"{number}, ", Pause(0.001))]


def reply(request: Request) -> list[Any]:
    if request.tools and request.messages[-1].role == "user":
        weather = ToolCall("call_1", "get_weather", {"city": "Lyon"}, '{"city": "Lyon"}')
        return [ToolStart("call_1", "get_weather"), ToolDelta("call_1", weather.raw_args), ToolEnd(weather)]
    if request.output_schema is not None:
        return ['{"name": "Lyon", ', Pause(0), '"population": 520774}']
    if request.options.get("max_tokens") == 1:
        return ["one", StreamEnd("length")]
    if "Count" in request.messages[-1].content:
        return LONG
    return ["Hel", Pause(0), "lo."]


class TestScriptedBackend(BackendContract):
    def make_backend(self) -> ScriptedBackend:
        return ScriptedBackend(reply, usage=Usage(5, 3))

    def assert_idle(self, backend: Any) -> None:
        backend.assert_closed()


class TestAScriptedBackendThatCanDoLittle(TestScriptedBackend):
    def make_backend(self) -> ScriptedBackend:
        return ScriptedBackend(reply, capabilities=Capabilities(options=frozenset()))


class TestWithUnittest(TestScriptedBackend, unittest.TestCase):
    """It needs no pytest."""

    loops = ("asyncio",)


# -- broken ones ------------------------------------------------------------------------------------------


class Broken(Backend):
    """A backend that a subclass breaks in one place."""

    name = "broken"
    model_id = "b"
    capabilities = Capabilities(
        options=frozenset({"max_tokens", "tool_choice"}), structured_output="native", tools=True
    )

    async def run(self, request: Request):
        check_supported(self, request)
        async for event in ScriptedBackend(reply, usage=Usage(5, 3)).run(request):
            yield event


class NoEnd(Broken):
    async def run(self, request):
        async for event in super().run(request):
            if not isinstance(event, StreamEnd):
                yield event


class TwoEnds(Broken):
    async def run(self, request):
        async for event in super().run(request):
            yield event
        yield StreamEnd("stop")


class TextAfterTheEnd(Broken):
    async def run(self, request):
        async for event in super().run(request):
            yield event
        yield TextDelta("PS")


class OddFinishReason(Broken):
    async def run(self, request):
        async for event in super().run(request):
            yield StreamEnd("finished") if isinstance(event, StreamEnd) else event  # type: ignore[arg-type]


class NoText(Broken):
    async def run(self, request):
        yield StreamEnd("stop")


class ChunkOfNone(Broken):
    async def run(self, request):
        yield TextDelta(None)  # type: ignore[arg-type]
        yield StreamEnd("stop")


class HalfACall(Broken):
    async def run(self, request):
        yield TextDelta("a")
        yield ToolStart("1", "look")
        yield StreamEnd("tool_call")


class CallWithoutAStart(Broken):
    async def run(self, request):
        yield TextDelta("a")
        yield ToolEnd(ToolCall("1", "look", {}))
        yield StreamEnd("tool_call")


class SwallowsCancellation(Broken):
    async def run(self, request):
        async for event in ScriptedBackend("a").run(request):
            yield event
        for _ in range(20):
            try:
                await anyio.sleep(0.01)
            except anyio.get_cancelled_exc_class():
                pass
            yield KeepAlive()


class ClosesSlowly(Broken):
    async def run(self, request):
        try:
            async for event in super().run(request):
                yield event
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)


class NeverStops(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.running = 0

    async def run(self, request):
        self.running += 1
        async for event in super().run(request):
            yield event
        self.running -= 1  # not in a finally


class BoundToItsFirstLoop(Broken):
    def __init__(self) -> None:
        super().__init__()
        self._lock: anyio.Lock | None = None
        self._loop: Any = None

    async def run(self, request):
        from mellea.core.runtime.loop import get_current_loop

        self._loop = self._loop or get_current_loop().native
        if self._loop is not get_current_loop().native:
            raise RuntimeError("attached to a different loop")
        async for event in super().run(request):
            yield event


class SharesItsState(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.stream: Any = None

    async def run(self, request):
        self.stream = super().run(request)
        while True:
            try:
                event = await anext(self.stream)
            except StopAsyncIteration:
                return
            await anyio.sleep(0)
            yield event


class CantBeUsedAgain(Broken):
    is_closed = False

    async def run(self, request):
        if self.is_closed:
            raise RuntimeError("the client has been closed")
        async for event in super().run(request):
            yield event

    async def aclose(self) -> None:
        self.is_closed = True


class TakesAnything(Broken):
    async def run(self, request):
        yield TextDelta("ok")
        yield StreamEnd("length")


class CountsNothing(Broken):
    async def run(self, request):
        yield TextDelta("ok")
        yield UsageEvent(Usage(0, 0))
        yield StreamEnd("stop")


class SaysStopAtTheLimit(Broken):
    async def run(self, request):
        yield TextDelta("ok")
        yield StreamEnd("stop")


class IgnoresTheSchema(Broken):
    async def run(self, request):
        yield TextDelta('{"town": "Lyon"}')
        yield StreamEnd("stop")


class WantsAnotherTool(Broken):
    async def run(self, request):
        yield ToolStart("1", "look")
        yield ToolEnd(ToolCall("1", "look", {"city": "Lyon"}))
        yield StreamEnd("tool_call")


class CallsWithHalfTheArguments(Broken):
    async def run(self, request):
        yield ToolStart("1", "get_weather")
        yield ToolEnd(ToolCall("1", "get_weather", {}, '{"ci', is_valid=False))
        yield StreamEnd("tool_call")


class SaysStopOfACall(Broken):
    async def run(self, request):
        async for event in super().run(request):
            yield StreamEnd("stop") if isinstance(event, StreamEnd) else event


class TakesNoResults(Broken):
    async def run(self, request):
        if any(message.role == "tool" for message in request.messages):
            raise ValueError("no such role")
        async for event in super().run(request):
            yield event


class RefusesConversations(Broken):
    async def run(self, request):
        if len(request.messages) > 1:
            raise ValueError("one message only")
        async for event in super().run(request):
            yield event


class ReadsAFile(Broken):
    def __init__(self) -> None:
        super().__init__()
        Path(__file__).read_text("utf-8")


class ShowsItsKey(Broken):
    def __repr__(self) -> str:
        return "ShowsItsKey(api_key='sk-secret')"


class InventsAnOption(Broken):
    capabilities = Capabilities(options=frozenset({"temperatur"}))


BREACHES = [
    (NoEnd, "test_a_stream_has_one_end"),
    (NoEnd, "test_the_deltas_are_the_text"),
    (TwoEnds, "test_a_stream_has_one_end"),
    (TextAfterTheEnd, "test_a_stream_has_one_end"),
    (OddFinishReason, "test_a_stream_has_one_end"),
    (NoText, "test_a_stream_has_one_end"),
    (NoText, "test_the_deltas_are_the_text"),
    (ChunkOfNone, "test_a_stream_has_one_end"),
    (HalfACall, "test_a_stream_has_one_end"),
    (CallWithoutAStart, "test_a_stream_has_one_end"),
    (SwallowsCancellation, "test_a_cancel_scope_stops_the_work"),
    (ClosesSlowly, "test_closing_early_stops_the_work"),
    (ClosesSlowly, "test_a_cancel_scope_stops_the_work"),
    (ClosesSlowly, "test_a_thunk_that_is_cancelled_stops_the_work"),
    (NeverStops, "test_closing_early_stops_the_work"),
    (NeverStops, "test_a_cancel_scope_stops_the_work"),
    (NeverStops, "test_a_thunk_that_is_cancelled_stops_the_work"),
    (BoundToItsFirstLoop, "test_one_backend_runs_on_one_loop_after_another"),
    (SharesItsState, "test_two_runs_at_the_same_time_dont_mix"),
    (CantBeUsedAgain, "test_a_closed_backend_can_be_used_again"),
    (TakesAnything, "test_what_it_cant_do_is_refused"),
    (CountsNothing, "test_usage_is_counted_where_it_is_reported"),
    (SaysStopAtTheLimit, "test_max_tokens_ends_with_length"),
    (IgnoresTheSchema, "test_a_schema_is_held"),
    (WantsAnotherTool, "test_a_tool_is_called"),
    (CallsWithHalfTheArguments, "test_a_tool_is_called"),
    (SaysStopOfACall, "test_a_tool_is_called"),
    (TakesNoResults, "test_a_tool_is_called"),
    (RefusesConversations, "test_a_conversation_is_accepted"),
    (ReadsAFile, "test_making_one_does_no_io"),
    (ShowsItsKey, "test_its_repr_shows_no_key"),
    (InventsAnOption, "test_a_backend_says_what_it_is"),
]


def contract_for(backend: type[Broken], loop: str) -> BackendContract:
    class Contract(BackendContract):
        loops = (loop,)
        close_seconds = 0.2
        seconds = 5
        secrets = ("sk-secret",)

        def make_backend(self) -> Backend:
            return backend()

        def assert_idle(self, backend: Any) -> None:
            assert getattr(backend, "running", 0) == 0

    return Contract()


@pytest.mark.parametrize(("backend", "test"), BREACHES, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.filterwarnings("ignore:Exception ignored in.*async_generator", "ignore:Async generator:ResourceWarning")
def test_a_broken_backend_fails(backend: type[Broken], test: str, loop: str) -> None:
    with pytest.raises(Exception) as caught:
        getattr(contract_for(backend, loop), test)()
    assert not isinstance(caught.value, (SkipTest, AttributeError))


def test_every_test_of_the_contract_is_failed_by_somebody() -> None:
    tests = {name for name in dir(BackendContract) if name.startswith("test_")}
    assert tests - {test for _, test in BREACHES} == {"test_closing_before_the_first_event_sends_nothing"}


@pytest.mark.parametrize("test", sorted({test for _, test in BREACHES}))
def test_the_one_that_isnt_broken_passes(test: str) -> None:
    getattr(contract_for(Broken, "asyncio"), test)()


def test_a_failure_says_on_which_loop() -> None:
    with pytest.raises(AssertionError) as caught:
        contract_for(NoEnd, "trio").test_a_stream_has_one_end()  # type: ignore[call-arg, misc]
    assert caught.value.__notes__ == ["on trio"]


def test_a_contract_without_a_backend_says_what_to_do() -> None:
    with pytest.raises(NotImplementedError, match="def make_backend"):
        BackendContract().test_its_repr_shows_no_key()
