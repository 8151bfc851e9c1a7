"""A run's table of states, its deadlines, and what it makes of a backend that misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from mellea.core.backend import Backend
from mellea.core.events import Event, KeepAlive, StreamEnd, TextDelta, ToolEnd, Usage, UsageEvent
from mellea.core.iterators import Cursor
from mellea.core.options import Deadlines
from mellea.core.runtime import Run, needs
from mellea.core.runtime.loop import create_waiter, get_current_loop
from mellea.core.runtime.waits import Clock
from mellea.core.state import TRANSITIONS, State
from mellea.errors import (
    BackendError,
    ConnectError,
    DeadlineError,
    GenerationCancelledError,
    InterruptedStreamError,
    MelleaError,
    ParseError,
    StreamingError,
)
from mellea.testing import Gate, Pause, ScriptedBackend

FINAL = (State.DONE, State.FAILED, State.CANCELLED)


def in_state(state: State) -> Run:
    """Return a run that has come to that state, without a loop."""
    run = Run()
    run.events.append(TextDelta("early"))
    if state is State.STREAMING:
        run._note_first(TextDelta, 0.0)
    elif state in FINAL:
        assert run.end(state, ParseError("first") if state is not State.DONE else None, "first")
    return run


def test_the_table_is_the_designs() -> None:
    expected = {
        State.PENDING: {State.STREAMING, *FINAL},
        State.STREAMING: {State.STREAMING, *FINAL},
        State.DONE: frozenset(),
        State.FAILED: frozenset(),
        State.CANCELLED: frozenset(),
    }
    assert expected == TRANSITIONS


@pytest.mark.parametrize("state", State)
def test_a_delta_moves_to_streaming_from_an_open_state_only(state: State) -> None:
    run = in_state(state)
    run._note_first(TextDelta, 0.0)
    assert run.state is (state if state in FINAL else State.STREAMING)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("end", FINAL)
def test_an_end_is_made_once(state: State, end: State) -> None:
    run = in_state(state)
    before = (run.state, run.limit, run.error, run.generation, run.parsed, run.events)
    error = ParseError("second") if end is not State.DONE else None
    moved = run.end(end, error, "second")
    if state in FINAL:
        assert not moved
        assert (run.state, run.limit, run.error, run.generation, run.parsed, run.events) == before
    else:
        assert moved
        assert (run.state, run.is_final, run.limit, run.error) == (end, True, 1, error)
        assert run.generation is not None and run.generation.text == run.text() == "early"
        assert run.parsed == "second"


@pytest.mark.parametrize("state", State)
def test_a_cancel_ends_an_open_run_and_no_other(state: State) -> None:
    run = in_state(state)
    run.cancel()
    assert run.state is (state if state in FINAL else State.CANCELLED)
    if state not in FINAL:
        with pytest.raises(GenerationCancelledError) as caught:
            run.raise_error()
        assert caught.value.partial == "early"


def test_of_many_threads_that_end_a_run_one_wins() -> None:
    for _ in range(50):
        run, barrier, wins = Run(), threading.Barrier(4), []

        def end(run=run, barrier=barrier, wins=wins) -> None:
            barrier.wait()
            wins.append(run.end(State.FAILED, ParseError(str(threading.get_ident()))))

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(wins) == [False, False, False, True]


def test_a_run_finished_from_the_start_has_ended() -> None:
    run = Run.make_finished(in_state(State.DONE).so_far(), 5, [TextDelta("early")])
    assert (run.state, run.is_final, run.is_closed, run.parsed, run.text()) == (State.DONE, True, True, 5, "early")


def test_a_cursor_takes_each_event_once_and_then_tells_the_end() -> None:
    run = Run()
    cursor = Cursor(run)
    assert cursor.take() == [] and not cursor.is_ready()
    run.events += [TextDelta("a"), TextDelta("b")]
    assert cursor.is_ready()
    assert cursor.take() == [TextDelta("a"), TextDelta("b")]
    run.events.append(TextDelta("c"))
    run.end(State.DONE)
    assert cursor.take() == [TextDelta("c")]
    assert cursor.take() is None and cursor.take() is None
    late = Cursor(run)
    assert late.take() == [TextDelta("abc")]
    assert late.take() is None


def test_events_after_the_end_dont_count() -> None:
    run = Run()
    early, events = Cursor(run), run.events
    events.append(TextDelta("a"))
    run.end(State.CANCELLED, GenerationCancelledError("x"))
    events.append(TextDelta("too late"))
    assert early.take() == [TextDelta("a")]
    assert early.take() is None
    assert run.text() == run.so_far().text == "a"


def test_events_of_work_dont_count_after_an_end_that_another_thread_made_meanwhile() -> None:
    run = Run()
    run.emit([TextDelta("a"), TextDelta("b")])

    class Late(list[Event]):
        def __bool__(self) -> bool:  # looked at after the run was seen to go on
            run.end(State.CANCELLED, GenerationCancelledError("x"))
            return True

    run.emit(Late([TextDelta("c")]))
    assert run.text() == run.so_far().text == "ab"


def test_a_state_that_can_wait_for_blocked_loops_is_found_through_dependencies() -> None:
    class Here:
        native = object()

    here: Any = Here()
    first = Run()
    first._loop = here
    middle = Run(dependencies=[first])
    last = Run(dependencies=[Run(), middle])
    assert needs(last, [here]) and not needs(last, [])
    first.end(State.DONE)
    assert not needs(last, [here])


# -- on a loop --------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("deadlines", "script", "what"),
    [
        (Deadlines(first_byte=0.1), [Pause(60)], "silent for 0.1 s"),
        (Deadlines(between_bytes=0.1), ["a", Pause(60)], "silent for 0.1 s"),
        (Deadlines(first_byte=None, between_bytes=0.1), [Pause(0.25), "a", Pause(60)], "silent for 0.1 s"),
        (Deadlines(total=0.15), [step for _ in range(3000) for step in ("a", Pause(0.02))], "finish within 0.15 s"),
        (Deadlines(None, None, None, 0.1), [Pause(60)], "finish within 0.1 s"),
    ],
)
async def test_a_deadline_ends_the_run_in_time(launch, deadlines: Deadlines, script: list[Any], what: str) -> None:
    backend = ScriptedBackend(script)
    thunk = launch(backend, deadlines=deadlines)
    with anyio.fail_after(10), pytest.raises(DeadlineError, match=what) as caught:
        await thunk  # which would take a minute
    assert caught.value.is_retryable and caught.value.backend == "scripted"
    await thunk.cancel()
    backend.assert_closed()


@pytest.mark.anyio
async def test_the_deadline_between_bytes_begins_with_the_first_byte_not_with_the_request(launch) -> None:
    deadlines = Deadlines(first_byte=30, between_bytes=0.5)
    thunk = launch(ScriptedBackend([Pause(0.7), "a", Pause(0.1), "b"]), deadlines=deadlines)
    with anyio.fail_after(30):
        assert await thunk.avalue() == "ab"


@pytest.mark.anyio
async def test_a_sign_of_life_holds_a_deadline_off_and_nobody_sees_it(launch) -> None:
    signs = [step for _ in range(16) for step in (Pause(0.05), KeepAlive())]
    thunk = launch(ScriptedBackend([*signs, "a"]), deadlines=Deadlines(first_byte=0.6, between_bytes=0.6))
    with anyio.fail_after(30):
        events = [event async for event in thunk.events()]
    assert [type(event) for event in events] == [TextDelta, StreamEnd]


@pytest.mark.anyio
async def test_a_pause_longer_than_a_short_deadline_is_never_waited_out(launch) -> None:
    gate = Gate()  # never opened: however busy the machine is, the deadline is what ends it
    thunk = launch(ScriptedBackend(["a", gate]), deadlines=Deadlines(between_bytes=0.01))
    with anyio.fail_after(30), pytest.raises(DeadlineError, match=r"silent for 0\.01 s"):
        await thunk.avalue()


@pytest.mark.parametrize(("late", "recheck"), [(0.0, 0.01), (0.005, 0.02), (5.0, 0.05)])
def test_a_deadline_that_passed_on_a_free_loop_is_looked_at_again_soon(
    late: float, recheck: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("mellea.core.runtime.waits.time.monotonic", lambda: now[0])
    watched: list[Any] = []

    class FakeLoop:
        watch = staticmethod(watched.append)

    clock = Clock(Deadlines(None, None, None, 0.01), cast("Any", FakeLoop()), lambda *how: None, only_total=True)
    assert watched == [clock]
    assert clock.due == pytest.approx(now[0] + 0.01)
    now[0] += 0.01 + late
    clock.look(now[0])
    assert clock.due - now[0] == pytest.approx(recheck)


@pytest.mark.anyio
async def test_without_deadlines_nothing_is_timed(launch) -> None:
    thunk = launch(ScriptedBackend([Pause(0.05), "a"]), deadlines=Deadlines(None, None, None, None))
    assert await thunk.avalue() == "a"


class Yields(Backend):
    """A backend that yields whatever it is given, and then does what it is given."""

    name = "broken"
    model_id = "m"

    def __init__(self, *things: Any, finally_raises: BaseException | None = None, is_deaf: bool = False) -> None:
        super().__init__()
        self.things, self.finally_raises, self.is_deaf = things, finally_raises, is_deaf

    async def run(self, request):
        try:
            for thing in self.things:
                if isinstance(thing, BaseException):
                    raise thing
                if thing == "wait":
                    await self._wait()
                else:
                    yield thing
        finally:
            if self.finally_raises is not None:
                raise self.finally_raises

    async def _wait(self) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if not self.is_deaf:
                raise


END = StreamEnd("stop")


@pytest.mark.anyio
@pytest.mark.parametrize("nonsense", [TextDelta(None), TextDelta(5), ToolEnd(None)])
async def test_an_event_without_sense_fails_the_run_and_keeps_what_came_before(launch, nonsense: Any) -> None:
    thunk = launch(Yields(TextDelta("before"), nonsense, TextDelta("after"), END))
    with anyio.fail_after(30), pytest.raises(MelleaError) as caught:
        await thunk
    assert caught.value.partial == thunk.partial == "before"
    assert "before" not in repr(thunk)


@pytest.mark.anyio
@pytest.mark.parametrize("nonsense", ["text", None, 5])
async def test_what_is_no_event_fails_the_run(launch, nonsense: Any) -> None:
    thunk = launch(Yields(TextDelta("before"), nonsense, END))
    with anyio.fail_after(30), pytest.raises(BackendError, match="not an event") as caught:
        await thunk
    assert caught.value.partial == "before"


@pytest.mark.anyio
async def test_a_stream_without_an_end_is_interrupted(launch) -> None:
    for backend in (Yields(TextDelta("so far")), ScriptedBackend("so far", is_cut=True)):
        with pytest.raises(InterruptedStreamError, match=r"\.partial") as caught:
            await launch(backend)
        assert caught.value.partial == "so far"
        assert caught.value.is_retryable


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
async def test_what_a_backend_raises_by_mistake_is_a_backend_error_with_its_cause(launch, kind) -> None:
    with pytest.raises(BackendError, match=f"'broken' failed: {kind.__name__}: oops") as caught:
        await launch(Yields(TextDelta("a"), kind("oops")))
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.anyio
async def test_errors_come_out_of_their_groups(launch) -> None:
    inner = ConnectError("no route")
    group = BaseExceptionGroup("outer", [ExceptionGroup("inner", [inner, ValueError("x")])])
    with pytest.raises(ConnectError, match="no route"):
        await launch(Yields(group))


@pytest.mark.anyio
async def test_a_backend_whose_tasks_fail_while_it_is_cancelled_harms_nobody(launch) -> None:
    class Grouped(ScriptedBackend):
        async def run(self, request):
            async with anyio.create_task_group() as group:
                group.start_soon(self._fail_late)
                yield TextDelta("a")
                await anyio.sleep_forever()

        async def _fail_late(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("while closing")

    thunk = launch(Grouped("x"))
    with anyio.fail_after(30):
        assert await thunk.astream() == "a"
        await thunk.cancel()
        with pytest.raises(GenerationCancelledError):
            await thunk
        await anyio.sleep(0.01)


@pytest.mark.anyio
@pytest.mark.parametrize("is_deaf", [False, True])
async def test_a_backend_that_fails_to_close_is_cancelled_all_the_same(launch, is_deaf: bool) -> None:
    thunk = launch(
        Yields(TextDelta("a"), "wait", TextDelta("b"), END, finally_raises=ValueError("close"), is_deaf=is_deaf)
    )
    with anyio.fail_after(30):
        assert await thunk.astream() == "a"
        await thunk.cancel()
        with pytest.raises(GenerationCancelledError):
            await thunk
    assert thunk.partial == "a"


@pytest.mark.anyio
async def test_a_close_that_fails_after_the_end_costs_nothing(launch) -> None:
    class Iterator:
        def __init__(self) -> None:
            self.events = [TextDelta("a"), END]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.events:
                raise StopAsyncIteration
            return self.events.pop(0)

        async def aclose(self) -> None:
            raise OSError("connection reset")

    class ByHand(ScriptedBackend):
        def run(self, request):
            return Iterator()

    with anyio.fail_after(30):
        assert await launch(ByHand("x")).avalue() == "a"


@pytest.mark.anyio
async def test_a_close_that_takes_forever_is_left_to_itself(launch, monkeypatch) -> None:
    monkeypatch.setattr("mellea.core.runtime.source.CLOSE_SECONDS", 0.1)
    monkeypatch.setattr("mellea.core.runtime.record.CLOSE_SECONDS", 60.0)

    class Iterator:
        def __aiter__(self):
            return self

        async def __anext__(self):
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            await anyio.sleep_forever()

    class Slow(ScriptedBackend):
        def run(self, request):
            return Iterator()

    thunk = launch(Slow("x"))
    await anyio.sleep(0.01)
    began = time.monotonic()
    with anyio.fail_after(30):
        await thunk.cancel()
    assert time.monotonic() - began < 20, "it waited as long as it does where nobody says how long"
    assert thunk._run.is_closed


@pytest.mark.anyio
async def test_a_run_whose_ingredients_fail_fails_with_their_error(launch) -> None:
    async def fail() -> None:
        raise ConnectError("the ingredient failed", partial="half")

    thunk = launch(ScriptedBackend("x"), before=fail)
    with pytest.raises(ConnectError, match="the ingredient failed"):
        await thunk
    assert thunk.partial == ""


@pytest.mark.anyio
async def test_a_run_lets_go_of_what_it_needed_to_produce(launch) -> None:
    thunk = launch(ScriptedBackend("x"), parse=lambda generation: generation.text, dependencies=[Run()])
    await thunk
    run = thunk._run
    assert (run._open, run._parse, run._task, run._loop._timed, run.dependencies) == (None, None, None, set(), ())
    assert run.is_closed


@pytest.mark.anyio
async def test_a_task_that_somebody_else_cancels_before_it_begins_ends_its_run(launch) -> None:
    thunk = launch(ScriptedBackend([Pause(60)]))
    thunk._run._task.cancel()
    with anyio.fail_after(30), pytest.raises((StreamingError, GenerationCancelledError)):
        await thunk
    assert thunk._run.is_closed


@pytest.mark.anyio
async def test_the_first_token_is_timed(launch) -> None:
    began = time.monotonic()
    thunk = launch(ScriptedBackend([UsageEvent(Usage(3)), Pause(0.05), "a", Pause(0.1), "b"]))
    await thunk
    assert thunk.time_to_first_token is not None
    assert 0.04 < thunk.time_to_first_token < time.monotonic() - began - 0.09


@pytest.mark.anyio
async def test_waiters_dont_pile_up(launch) -> None:
    gate = Gate()
    thunk = launch(ScriptedBackend([gate, "a"]))
    for _ in range(20):
        with anyio.move_on_after(0.001):
            await thunk
    assert len(thunk._run._waiters) == 0
    gate.open()
    assert await thunk.avalue() == "a"


@pytest.mark.anyio
async def test_what_turns_ready_between_the_look_and_the_wait_is_seen(launch) -> None:
    # It looks once a second anyway: the best of several tries tells, however busy the machine is.
    async def tries(wait: Callable[[Run, Iterator[bool]], Awaitable[object]]) -> float:
        seconds = []
        for _ in range(5):
            run, looks = launch(ScriptedBackend([Pause(60)]))._run, iter([False, True])
            began = time.monotonic()
            await wait(run, looks)
            seconds.append(time.monotonic() - began)
        return min(seconds)

    assert await tries(lambda run, looks: run.until(lambda: next(looks))) < 0.5
    run_in_thread = anyio.to_thread.run_sync
    assert await tries(lambda run, looks: run_in_thread(run.wait_until_blocking, lambda: next(looks))) < 0.5


@pytest.mark.anyio
async def test_who_waits_for_the_end_isnt_woken_by_each_delta(launch, monkeypatch) -> None:
    made: list[Any] = []
    thunk = launch(ScriptedBackend([step for _ in range(100) for step in ("a", Pause(0))]))
    loop = get_current_loop()
    monkeypatch.setattr(loop, "make_waiter", lambda: made.append(create_waiter()) or made[-1])
    await thunk
    assert len(made) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("error", [None, ConnectError("gone")])
async def test_an_iterator_that_is_no_generator_is_closed_too(launch, error: Exception | None) -> None:
    begun = anyio.Event()
    closed: list[str] = []

    class Iterator:
        def __aiter__(self):
            return self

        async def __anext__(self):
            begun.set()
            if error is not None:
                raise error
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            await anyio.sleep(0.01)
            closed.append("closed")

    class ByHand(ScriptedBackend):
        def run(self, request):
            return Iterator()

    thunk = launch(ByHand("x"))
    with anyio.fail_after(30):
        await begun.wait()
        await thunk.cancel()
    assert closed == ["closed"]
