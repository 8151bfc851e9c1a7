"""What users rely on, promise by promise: section 4 of the design, at the level of one run and its thunk."""

from __future__ import annotations

import copy
import gc
import pickle
import traceback
import tracemalloc
import weakref
from typing import Any

import anyio
import pytest

from mellea.core.blocks import FileBlock, ToolCall
from mellea.core.events import (
    FileEvent,
    ReasoningDelta,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
)
from mellea.core.runtime import Run
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.errors import (
    ConnectError,
    GenerationCancelledError,
    InterruptedStreamError,
    ParseError,
    StreamingError,
    UsageError,
)
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import until

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


@pytest.fixture(autouse=True)
async def nothing_hangs():
    # Long enough for any machine: a scope that runs out between a test and its teardown cancels anyio's runner instead.
    with anyio.fail_after(120):
        yield


async def polled(thunk: ModelOutputThunk[Any]) -> list[str]:
    """Poll as the guide does, and return what it would print."""
    printed, last_length = [], 0
    while not thunk.is_computed():
        current_value = await thunk.astream()
        printed.append(current_value[last_length:])
        last_length = len(current_value)
    return printed


# -- 1: launched in the background ------------------------------------------------------------------------


async def test_promise_1_a_thunk_is_there_before_the_first_byte(launch) -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, "text"])
    thunk = launch(backend)
    assert not thunk.is_computed() and backend.requests == []
    await anyio.sleep(0.01)
    assert len(backend.requests) == 1  # nobody has read yet
    gate.open()
    assert await thunk.avalue() == "text"


async def test_promise_1_thunks_launched_in_a_row_run_at_the_same_time(launch) -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, "text"])
    thunks = [launch(backend) for _ in range(20)]
    with anyio.fail_after(30):
        while len(backend.requests) < 20:  # none of them gets any further
            await anyio.sleep(0.001)
    gate.open()
    for thunk in thunks[::-2] + thunks[::2]:  # in any order
        assert await thunk.avalue() == "text"


# -- 2: astream -------------------------------------------------------------------------------------------


async def test_promise_2_astream_returns_the_text_so_far_as_soon_as_there_is_more(launch) -> None:
    gates = [Gate(), Gate(), Gate()]
    thunk = launch(ScriptedBackend([gates[0], "a", gates[1], "b", gates[2], "c"]))
    for gate, expected in zip(gates, ["a", "ab", "abc"], strict=True):
        assert not thunk.is_computed()
        gate.open()
        assert await thunk.astream() == expected
    while not thunk.is_computed():
        assert await thunk.astream() == "abc"


async def test_promise_2_the_call_that_reaches_the_end_delivers_everything(launch) -> None:
    thunk = launch(ScriptedBackend(["a", "b", "c"]))
    await until(lambda: thunk._run.is_final)
    assert not thunk.is_computed()
    assert await thunk.astream() == "abc"
    assert thunk.is_computed() and thunk.value == "abc"


async def test_promise_2_a_tool_call_without_text_ends_astream_with_the_empty_text(launch) -> None:
    call = ToolCall("1", "look", {})
    script = [ToolStart("1", "look"), Pause(0.01), ToolDelta("1", "{}"), ToolEnd(call), StreamEnd("tool_call")]
    thunk = launch(ScriptedBackend(script))
    assert await thunk.astream() == ""
    assert thunk.is_computed() and thunk.tool_calls == (call,)


async def test_promise_2_astream_on_a_computed_thunk_says_what_to_use(launch) -> None:
    thunk = await launch(ScriptedBackend("a"))
    with pytest.raises(StreamingError, match=r"\.value"):
        await thunk.astream()
    polled_thunk = launch(ScriptedBackend("a"))
    await polled(polled_thunk)
    with pytest.raises(StreamingError, match=r"\.value"):
        await polled_thunk.astream()
    with pytest.raises(StreamingError, match=r"\.value"):
        await ComputedModelOutputThunk("a").astream()


async def test_promise_2_two_tasks_share_the_one_cursor_and_both_end_with_all(launch) -> None:
    thunk = launch(ScriptedBackend(["a", Pause(0.01), "b", Pause(0.01), "c"]))
    last: list[str] = []

    async def poll() -> None:
        text = ""
        while not thunk.is_computed():
            text = await thunk.astream()
        last.append(text)

    async with anyio.create_task_group() as group:
        group.start_soon(poll)
        group.start_soon(poll)
    assert thunk.value == "abc"
    assert "abc" in last and all("abc".startswith(text) for text in last)


# -- 3: computed by delivery ------------------------------------------------------------------------------


async def test_promise_3_a_fast_model_doesnt_compute_a_thunk_behind_its_readers_back(launch) -> None:
    thunk = launch(ScriptedBackend("all at once"))
    await until(lambda: thunk._run.is_final)
    assert not thunk.is_computed() and thunk.value is None
    assert "".join(await polled(thunk)) == thunk.value == "all at once"


async def read_by_await(thunk: ModelOutputThunk[Any]) -> None:
    await thunk


async def read_by_avalue(thunk: ModelOutputThunk[Any]) -> None:
    await thunk.avalue()


async def read_by_text(thunk: ModelOutputThunk[Any]) -> None:
    async for _ in thunk:
        pass


async def read_by_events(thunk: ModelOutputThunk[Any]) -> None:
    async for _ in thunk.events():
        pass


async def read_by_polling(thunk: ModelOutputThunk[Any]) -> None:
    await polled(thunk)


READERS = [read_by_await, read_by_avalue, read_by_text, read_by_events, read_by_polling]


@pytest.mark.parametrize("read", READERS)
async def test_promise_3_every_reader_that_reaches_the_end_computes_it(launch, read) -> None:
    thunk = launch(ScriptedBackend(["a", Pause(0), "b"]))
    await read(thunk)
    assert thunk.is_computed() and type(thunk) is ComputedModelOutputThunk and thunk.value == "ab"


@pytest.mark.parametrize("other", READERS[:4])
async def test_promise_3_if_another_reader_ends_first_polling_returns_the_rest_once(launch, other) -> None:
    gate = Gate()
    thunk = launch(ScriptedBackend(["a", gate, "b"]))
    assert await thunk.astream() == "a"
    gate.open()
    await other(thunk)
    assert thunk.is_computed()
    assert await thunk.astream() == "ab"
    with pytest.raises(StreamingError):
        await thunk.astream()


async def test_promise_3_an_astream_that_waits_returns_all_when_another_reader_ends(launch) -> None:
    gate = Gate()
    thunk = launch(ScriptedBackend([gate]))
    seen: list[str] = []

    async def wait() -> None:
        seen.append(await thunk.astream())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.01)
        group.start_soon(read_by_await, thunk)
        await anyio.sleep(0.01)
        gate.open()
    assert seen == [""]


async def test_promise_3_iterators_replay_a_computed_thunk(launch) -> None:
    thunk = await launch(ScriptedBackend(["a", "b"]))
    for _ in range(2):
        assert "".join([delta async for delta in thunk]) == "ab"
        assert [type(event) async for event in thunk.events()] == [TextDelta, StreamEnd]


# -- 4: values --------------------------------------------------------------------------------------------


async def test_promise_4_values_are_none_until_computed(launch) -> None:
    thunk = launch(ScriptedBackend("a", usage=Usage(1, 2)), parse=lambda generation: len(generation.text))
    assert [thunk.value, thunk.parsed, thunk.parsed_repr, thunk.usage, thunk.finish_reason, thunk.message] == [None] * 6
    assert await thunk is thunk
    assert (thunk.value, thunk.content, thunk.parsed, thunk.parsed_repr) == ("a", "a", 1, 1)
    assert await thunk.avalue() == "a"


async def test_promise_4_a_result_of_none_is_a_result(launch) -> None:
    thunk = await launch(ScriptedBackend("null"), parse=lambda generation: None)
    assert thunk.is_computed() and thunk.parsed is None
    assert ComputedModelOutputThunk("null", None).parsed is None


# -- 5 and 6: iterators -----------------------------------------------------------------------------------


async def test_promise_5_a_delta_is_delivered_before_the_next_one_is_written(launch) -> None:
    gates = [Gate() for _ in range(3)]
    backend = ScriptedBackend([step for gate in gates for step in (gate, "x")])
    thunk = launch(backend)
    reader = aiter(thunk)
    for gate in gates:
        gate.open()
        assert await anext(reader) == "x"
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_promise_5_a_slow_reader_gets_deltas_joined_and_a_late_one_gets_everything(launch) -> None:
    thunk = launch(ScriptedBackend([step for _ in range(50) for step in ("word ", Pause(0))]))
    slow = aiter(thunk)
    pieces = [await anext(slow)]
    await thunk
    pieces += [delta async for delta in slow]
    assert len(pieces) == 2 and "".join(pieces) == "word " * 50
    assert [delta async for delta in thunk] == ["word " * 50]


async def test_promise_5_many_readers_that_start_late_agree(launch) -> None:
    gates = [Gate() for _ in range(10)]
    thunk = launch(ScriptedBackend([step for n, gate in enumerate(gates) for step in (gate, f"{n},")]))
    texts: list[str] = []

    async def read() -> None:
        texts.append("".join([delta async for delta in thunk]))

    async with anyio.create_task_group() as group:
        for gate in gates:
            group.start_soon(read)
            gate.open()
            await anyio.sleep(0.002)
    assert texts == ["0,1,2,3,4,5,6,7,8,9,"] * 10


async def test_promise_5_a_reader_waits_for_no_other(launch) -> None:
    thunk = launch(ScriptedBackend(["a", Pause(0), "b"]))
    stuck = aiter(thunk)
    await anext(stuck)  # and never goes on
    assert await thunk.avalue() == "ab"


async def test_promise_6_events_are_typed_and_complete(launch) -> None:
    call, end = ToolCall("1", "look", {}), StreamEnd("tool_call", "r1", "m1")
    script = [ReasoningDelta("hm"), Pause(0), TextDelta("a"), ToolStart("1", "look"), ToolEnd(call), end]
    thunk = launch(ScriptedBackend(script))
    assert [event async for event in thunk.events()] == [script[0], *script[2:]]
    assert thunk.thinking == "hm" and thunk.tool_calls == (call,)


# -- 7: errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS)
async def test_promise_7_a_failure_is_raised_to_every_reader_now_and_later(launch, read) -> None:
    thunk = launch(ScriptedBackend(["ab", Pause(0), "c", ConnectError("gone", backend="b")]))
    for _ in range(3):
        with pytest.raises(ConnectError, match="gone") as caught:
            await read(thunk)
        assert caught.value.partial == thunk.partial == "abc"
    assert not thunk.is_computed() and thunk.value is None


async def test_promise_7_text_before_a_failure_is_delivered_first(launch) -> None:
    backend = ScriptedBackend(["a", "b", ConnectError("gone")])
    thunk = launch(backend)
    await anyio.sleep(0.02)  # it has failed before anybody reads
    seen: list[str] = []
    with pytest.raises(ConnectError):
        async for delta in thunk:
            seen.append(delta)
    assert "".join(seen) == "ab"
    assert await thunk.astream() == "ab"
    with pytest.raises(ConnectError):
        await thunk.astream()
    with pytest.raises(ConnectError):
        await thunk.astream()


async def test_promise_7_each_reader_has_its_own_copy_so_tracebacks_dont_pile_up(launch) -> None:
    failure = ConnectError("gone")
    failure.__cause__ = OSError("no route")
    thunk = launch(ScriptedBackend([failure]))
    raised: list[ConnectError] = []
    for _ in range(30):
        try:
            await thunk
        except ConnectError as error:
            raised.append(error)
    assert len({id(error) for error in raised}) == 30
    assert len({id(error.__cause__) for error in raised}) == 1
    lengths = {len("".join(traceback.format_exception(error))) for error in raised}
    assert len(lengths) == 1


async def test_promise_7_one_scripted_error_fails_each_run_with_its_own_text(launch) -> None:
    error = ConnectError("gone")
    backend = ScriptedBackend(["first", error], ["second", error])
    for text in ("first", "second"):
        with pytest.raises(ConnectError) as caught:
            await launch(backend)
        assert caught.value.partial == text
    assert error.__traceback__ is None and error.partial == ""


async def test_promise_7_fifty_tasks_await_one_thunk(launch) -> None:
    thunk, failing = launch(ScriptedBackend([Pause(0.02), "a"])), launch(ScriptedBackend([Pause(0.02), ConnectError()]))
    seen: list[Any] = []

    async def wait() -> None:
        seen.append(await thunk)
        with pytest.raises(ConnectError):
            await failing

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(wait)
    assert seen == [thunk] * 50


async def test_promise_7_text_that_doesnt_parse_is_read_whole_and_then_fails(launch) -> None:
    calls: list[str] = []

    def parse(generation: Any) -> int:
        calls.append(generation.text)
        raise ParseError("no number", partial=generation.text)

    thunk = launch(ScriptedBackend(["not ", Pause(0), "a number"]), parse=parse)
    seen: list[str] = []
    with pytest.raises(ParseError):
        async for delta in thunk:
            seen.append(delta)
    with pytest.raises(ParseError, match="no number"):
        await thunk
    assert "".join(seen) == "not a number" == thunk.partial
    assert calls == ["not a number"]  # once, in the run


async def test_promise_7_a_cut_stream_keeps_its_text(launch) -> None:
    thunk = launch(ScriptedBackend(["so far"], is_cut=True))
    with pytest.raises(InterruptedStreamError) as caught:
        await thunk
    assert caught.value.partial == thunk.partial == "so far"


# -- 8: cancelling ----------------------------------------------------------------------------------------


async def test_promise_8_cancel_closes_the_request_before_it_returns(launch) -> None:
    closed: list[str] = []

    class Slow(ScriptedBackend):
        async def run(self, request):
            try:
                async for event in super().run(request):
                    yield event
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)
                closed.append("closed")

    thunk = launch(Slow(["a", FOREVER]))
    assert await thunk.astream() == "a"
    await thunk.cancel()
    assert closed == ["closed"]
    with pytest.raises(GenerationCancelledError) as caught:
        await thunk
    assert caught.value.partial == "a"


async def test_promise_8_other_readers_get_the_text_and_then_the_cancellation(launch) -> None:
    backend = ScriptedBackend(["a", FOREVER])
    thunk, seen = launch(backend), []

    async def read() -> None:
        with pytest.raises(GenerationCancelledError):
            async for delta in thunk:
                seen.append(delta)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(read)
        await until(lambda: len(seen) == 2)
        await thunk.cancel()
    assert seen == ["a", "a"]
    backend.assert_closed()


async def test_promise_8_a_thunk_cancelled_before_its_first_step_never_asks(launch) -> None:
    backend = ScriptedBackend([FOREVER])
    thunk = launch(backend)
    await thunk.cancel()
    with pytest.raises(GenerationCancelledError):
        await thunk
    await anyio.sleep(0.01)
    assert backend.requests == []


async def test_promise_8_cancelling_a_wait_doesnt_cancel_the_generation(launch) -> None:
    gate = Gate()
    thunk = launch(ScriptedBackend(["a", gate, "b"]))
    for read in READERS:
        with anyio.move_on_after(0.01) as scope:
            await read(thunk)
        assert scope.cancelled_caught
    gate.open()
    assert await thunk.avalue() == "ab"


async def test_promise_8_leaving_async_with_closes_the_request(launch) -> None:
    backend = ScriptedBackend(["a", FOREVER])
    async with launch(backend) as thunk:
        async for _ in thunk:
            break
    backend.assert_closed()
    with pytest.raises(GenerationCancelledError):
        await thunk
    with pytest.raises(ValueError, match="body"):
        async with launch(backend):
            await anyio.sleep(0.01)
            raise ValueError("body")
    backend.assert_closed()


async def test_promise_8_leaving_async_with_waits_for_a_close_that_another_began(launch) -> None:
    class Slow(ScriptedBackend):
        async def run(self, request):
            try:
                async for event in super().run(request):
                    yield event
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)

    backend = Slow(["a", FOREVER])
    async with launch(backend) as thunk:
        await thunk.astream()
        thunk._run.cancel()
    assert thunk._run.is_closed


async def test_promise_8_cancelling_the_block_around_a_thunk_closes_the_request(launch) -> None:
    backend = ScriptedBackend(["a", FOREVER])
    with anyio.move_on_after(0.05) as scope:
        async with launch(backend) as thunk:
            await thunk
    assert scope.cancelled_caught
    backend.assert_closed()


async def test_promise_8_an_ended_thunk_is_left_as_it_is(launch) -> None:
    thunk = launch(ScriptedBackend("a"))
    async with thunk:
        await thunk
    await thunk.cancel()
    assert thunk.value == "a"


async def test_promise_8_dropping_the_last_reference_cancels(launch) -> None:
    backend = ScriptedBackend(["a", FOREVER])
    thunk = launch(backend)
    await thunk.astream()
    run = weakref.ref(thunk._run)
    del thunk
    gc.collect()
    await until(lambda: all(backend.closed))
    assert len(backend.closed) == 1
    gc.collect()
    assert run() is None


async def test_promise_8_an_iterator_keeps_the_generation_alive(launch) -> None:
    gate = Gate()
    reader = aiter(launch(ScriptedBackend([gate, "a"])))
    events = launch(ScriptedBackend([gate, "a"])).events()
    gc.collect()
    await anyio.sleep(0.01)
    gate.open()
    assert [delta async for delta in reader] == ["a"]
    assert len([event async for event in events]) == 2


async def test_promise_8_a_broken_loop_over_a_dropped_thunk_cancels(launch) -> None:
    backend = ScriptedBackend(["a", FOREVER])
    async for _ in launch(backend):
        break
    gc.collect()
    await until(lambda: all(backend.closed))
    assert len(backend.closed) == 1


# -- 9: a computed thunk ----------------------------------------------------------------------------------


async def test_promise_9_a_computed_thunk_carries_what_is_known(launch) -> None:
    call = ToolCall("1", "look", {"q": 1}, '{"q": 1}')
    script = [
        ReasoningDelta("hm", "sig"),
        TextDelta("see"),
        ToolEnd(call),
        FileEvent("text/plain", data=b"x"),
        StreamEnd("tool_call", "r1", "m1"),
    ]
    thunk = await launch(ScriptedBackend(script, usage=Usage(3, 4)))
    assert (thunk.usage, thunk.finish_reason, thunk.model, thunk.response_id) == (Usage(3, 4), "tool_call", "m1", "r1")
    assert (thunk.tool_calls, thunk.thinking, thunk.files) == ((call,), "hm", (FileBlock("text/plain", b"x"),))
    assert thunk.message.role == "assistant" and thunk.message.content == "see"
    assert thunk.time_to_first_token >= 0
    assert thunk.success and thunk.sampling is None


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
async def test_promise_9_a_computed_thunk_copies_and_pickles(launch, remake) -> None:
    thunk = await launch(ScriptedBackend(["a", "b"], usage=Usage(1, 2)), parse=lambda generation: [generation.text])
    twin = remake(thunk)
    assert twin is not thunk and type(twin) is ComputedModelOutputThunk
    assert (twin.value, twin.parsed, twin.usage, twin.finish_reason) == ("ab", ["ab"], Usage(1, 2), "stop")
    assert twin.time_to_first_token == thunk.time_to_first_token
    assert [delta async for delta in twin] == ["ab"]
    assert twin.is_computed() and await twin is twin


async def test_promise_9_equality_and_hash_stay_by_identity(launch) -> None:
    one, two = launch(ScriptedBackend("a")), launch(ScriptedBackend("a"))
    before = {one: 1, two: 2}
    await one
    await two
    assert one != two and one == one
    assert before[one] == 1 and before[two] == 2


async def test_promise_9_a_computed_thunk_is_read_only(launch) -> None:
    thunk = await launch(ScriptedBackend("a"))
    for name in ("value", "parsed", "usage", "note"):
        with pytest.raises(AttributeError):
            setattr(thunk, name, "x")


async def test_promise_9_the_object_stays_the_same_and_is_of_both_classes(launch) -> None:
    thunk = launch(ScriptedBackend("a"))
    reference, number = weakref.ref(thunk), id(thunk)
    await thunk
    assert id(reference()) == number
    assert isinstance(thunk, ModelOutputThunk) and isinstance(thunk, ComputedModelOutputThunk)
    assert ComputedModelOutputThunk.__slots__ == ()


async def test_promise_9_a_known_value_makes_a_computed_thunk() -> None:
    thunk = ComputedModelOutputThunk("5", 5)
    assert (thunk.value, thunk.parsed, str(thunk), f"{thunk:>3}") == ("5", 5, "5", "  5")
    assert ComputedModelOutputThunk("a").parsed == "a"
    assert [delta async for delta in ComputedModelOutputThunk("")] == []
    with pytest.raises(UsageError, match="ComputedModelOutputThunk"):
        ModelOutputThunk("5")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="string"):
        ComputedModelOutputThunk(5)  # type: ignore[arg-type]


# -- 10: memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_by_await, read_by_text, read_by_events, read_by_polling])
@pytest.mark.one_loop
async def test_promise_10_computed_thunks_take_at_most_three_times_their_text(launch, read) -> None:
    deltas, count = 1000, 25
    text = sum(len(f"{n:5d} ") for n in range(deltas))
    backend = ScriptedBackend(lambda request: [f"{n:5d} " for n in range(deltas)])
    warm_up = launch(backend)
    await read(warm_up)
    backend.requests, backend.closed = [], []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        thunks = []
        for _ in range(count):  # tracing is slow, and a thousand have the same ratio
            thunk = launch(backend)
            await read(thunk)
            thunks.append(thunk)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert all(thunk.is_computed() for thunk in thunks)
    assert used < 3 * text * len(thunks)


async def test_promise_10_late_readers_get_few_big_events(launch) -> None:
    thunk = await launch(ScriptedBackend(["a"] * 5000))
    assert len(thunk._run.events) == 2


# -- 11: ingredients --------------------------------------------------------------------------------------


async def test_promise_11_a_call_waits_for_all_its_ingredients_at_the_same_time(launch) -> None:
    gates = [Gate() for _ in range(5)]
    ingredients = [launch(ScriptedBackend([gate, str(n)])) for n, gate in enumerate(gates)]

    async def before() -> None:
        for ingredient in ingredients:
            await ingredient

    dish = launch(ScriptedBackend("dish"), before=before, dependencies=[thunk._run for thunk in ingredients])
    for ingredient, gate in reversed([*zip(ingredients, gates, strict=True)]):  # the one that is awaited first is last
        assert not dish.is_computed()
        gate.open()
        await ingredient
    assert await dish.avalue() == "dish"
    assert all(ingredient.is_computed() for ingredient in ingredients)


async def test_promise_11_a_call_fails_with_its_ingredients_error_and_asks_nothing(launch) -> None:
    ingredient = launch(ScriptedBackend(["half", ConnectError("gone")]))
    backend = ScriptedBackend("dish")
    dish = launch(backend, before=ingredient.avalue, dependencies=[ingredient._run])
    with pytest.raises(ConnectError, match="gone"):
        await dish
    assert backend.requests == [] and dish.partial == ""


async def test_promise_11_cancelling_a_call_leaves_its_ingredient(launch) -> None:
    gate = Gate()
    ingredient = launch(ScriptedBackend([gate, "a"]))
    dish = launch(ScriptedBackend("dish"), before=ingredient.avalue)
    await anyio.sleep(0.01)
    await dish.cancel()
    gate.open()
    assert await ingredient.avalue() == "a"


# -- 12: an uncomputed thunk as a Python value ------------------------------------------------------------


async def test_promise_12_an_uncomputed_thunk_is_no_text_and_no_pickle(launch) -> None:
    thunk = launch(ScriptedBackend(["abc", FOREVER]))
    await thunk.astream()
    for make in (str, format, "{}".format, lambda t: f"{t}", lambda t: f"{t:>9}"):
        with pytest.raises(UsageError, match="await it first"):
            make(thunk)
    with pytest.raises(UsageError, match="await it first"):
        pickle.dumps(thunk)
    assert repr(thunk) == "<ModelOutputThunk streaming, 3 characters so far>" == f"{thunk!r}"
    assert copy.copy(thunk) is thunk and copy.deepcopy([thunk])[0] is thunk
    await thunk.cancel()
    assert repr(thunk) == "<ModelOutputThunk cancelled, 3 characters so far>"


async def test_promise_12_repr_says_where_every_thunk_stands(launch) -> None:
    thunk = launch(ScriptedBackend([Pause(0.01), "a"]))
    assert repr(thunk) == "<ModelOutputThunk pending, 0 characters so far>"
    assert repr(await thunk) == "<ComputedModelOutputThunk 'a'>"
    failed = launch(ScriptedBackend([ConnectError("x")]))
    with pytest.raises(ConnectError):
        await failed
    assert repr(failed) == "<ModelOutputThunk failed, 0 characters so far>"
    assert repr(ModelOutputThunk(Run())).startswith("<ModelOutputThunk pending")
