"""What once broke a session: waits that never ended, programs that died of one error, deadlines that lied."""

import contextvars
import copy
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import pydantic
import pytest

import mellea
from mellea.core import Deadlines, Requirement
from mellea.core.events import TextDelta
from mellea.errors import BackendError, DeadlineError, StreamingError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.session import current_session
from mellea.testing import Gate, Pause, ScriptedBackend

pytestmark = pytest.mark.anyio


async def test_many_pending_turns_are_launched_at_once() -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend([gate, "x"]), ctx=ChatContext())
    started = time.monotonic()
    thunks = [await m.achat("x", await_result=False) for _ in range(60)]  # 2**60 ways from the last to the first
    assert time.monotonic() - started < 10, "the dependencies were walked once for each way through them"
    gate.open()
    assert (await thunks[-1]).content == "x"


async def test_a_long_chain_of_pending_thunks() -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend([gate, "x"]))
    thunk: Any = "x"
    for _ in range(1200):  # deeper than Python's stack
        thunk = await m.ainstruct("{{x}}", user_variables={"x": thunk}, await_result=False)
    with pytest.raises(StreamingError, match="a… verb"):
        m.instruct("{{x}}", user_variables={"x": thunk})
    await thunk.cancel()
    gate.open()


def test_many_validators_that_call_sync_verbs_at_the_same_time() -> None:
    m = mellea.start_session(ScriptedBackend("yes"))
    together = threading.Barrier(45)

    def judge(context: Any) -> bool:
        together.wait(20)
        return m.instruct("Is it good?").value == "yes"

    done: list[bool] = []
    threads = [
        threading.Thread(target=lambda: done.append(m.instruct("x", requirements=[Requirement("r", judge)]).success))
        for _ in range(45)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == [True] * 45


async def test_a_loop_that_is_held_up_is_found_out_by_readers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mellea.core.runtime.loop.GRACE", 1.0)  # the default is waited for in core/test_process.py
    m = mellea.start_session(ScriptedBackend([Pause(0.1), "x"]))
    thunk = await m.ainstruct("x", await_result=False)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            anyio.run(thunk.avalue)
        except StreamingError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(20)  # this holds up the loop that the reader waits for
    assert len(errors) == 1
    assert "been blocked" in str(errors[0])


class Panic(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Panic(), KeyboardInterrupt("boom"), SystemExit(3)])
async def test_one_error_ends_one_generation_and_not_the_program(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        await anyio.to_thread.run_sync(interrupt_on_the_portal, error)
        return
    m = mellea.start_session(ScriptedBackend(["a", error], "fine"))
    with pytest.raises(BackendError, match=type(error).__name__):
        await m.ainstruct("x")
    assert (await m.ainstruct("x")).value == "fine"


def interrupt_on_the_portal(error: BaseException) -> None:
    m = mellea.start_session(ScriptedBackend(["a", error], "fine"))
    with pytest.raises(BackendError, match="KeyboardInterrupt"):
        m.instruct("x")
    assert m.instruct("x").value == "fine"


async def test_what_came_while_the_loop_was_held_up_counts_before_the_deadline() -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(["a", gate, "b"]))
    options = {"timeout": Deadlines(first_byte=30, between_bytes=0.3)}
    thunk = await m.ainstruct("x", await_result=False, model_options=options)
    while thunk.partial != "a":
        await anyio.sleep(0.001)
    opener = threading.Timer(0.1, gate.open)
    opener.start()
    opener.join()
    time.sleep(0.5)  # holds the loop up past the deadline, with the rest there in time
    assert await thunk.avalue() == "ab"


async def test_the_total_deadline_holds_for_the_parsing() -> None:
    class Slow:
        def parts(self) -> list[Any]:
            return []

        def format_for_llm(self) -> str:
            return "x"

        def parse(self, generation: Any) -> str:
            time.sleep(1)
            return "late"

    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(DeadlineError, match=r"0\.2 s"):
        await m.aact(Slow(), model_options={"timeout": 0.2})


@pytest.mark.parametrize("chunk", [None, b"x", 3])
async def test_a_chunk_that_is_no_text_says_so(chunk: Any) -> None:
    m = mellea.start_session(ScriptedBackend([TextDelta("a"), TextDelta(chunk)]))
    thunk = await m.ainstruct("x", await_result=False)
    with pytest.raises(BackendError, match="chunk is not text"):
        await thunk
    assert thunk.partial == "a"
    assert "1 characters" in repr(thunk)


AT_THE_VERY_END = """
import mellea
from mellea.testing import ScriptedBackend
class Holder:
    def __init__(self): self.m = mellea.start_session(ScriptedBackend("x"))
    def __del__(self): self.m.close()
holder = Holder()
"""


def test_a_verb_in_a_finaliser_at_the_end_of_the_program_does_not_hang() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_VERY_END], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert "the program is ending" in done.stderr


def test_no_turn_is_lost_between_two_threads() -> None:
    m = mellea.start_session(ScriptedBackend("x"), ctx=ChatContext(window_size=1))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: [m.chat("x") for _ in range(150)]) for _ in range(3)]
        threads.append(threading.Thread(target=anyio.run, args=(chat_many, m)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert len(m.ctx.turns()) == 600


async def chat_many(m: mellea.MelleaSession) -> None:
    for _ in range(150):
        await m.achat("x")


def test_a_session_may_be_left_in_another_context() -> None:
    closed: list[bool] = []

    class Closing(ScriptedBackend):
        async def aclose(self) -> None:
            closed.append(True)

    def block() -> Any:
        with mellea.start_session(Closing("x")) as m:
            yield m

    generator = block()
    contextvars.copy_context().run(next, generator)
    with pytest.raises(StopIteration):
        contextvars.copy_context().run(next, generator)
    assert closed == [True]
    m = mellea.start_session(ScriptedBackend("x"))
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with m:
            entered.set()
            left.wait(10)
            assert current_session() is m

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with m:
        assert current_session() is m
    left.set()
    thread.join(10)


def test_a_thunk_with_attempts_pickles() -> None:
    m = mellea.start_session(ScriptedBackend("no", "yes"))
    thunk = m.instruct("x", requirements=[Requirement("is yes", lambda context: context.last_output().value == "yes")])
    again = pickle.loads(pickle.dumps(thunk))
    assert again.value == "yes"
    assert again.success
    assert [attempt.success for attempt in again.sampling.attempts] == [False, True]
    assert str(again.sampling.attempts[0].validations[0][0]) == "is yes"
    assert copy.copy(thunk).sampling is thunk.sampling


class Itself:
    def parts(self) -> list[Any]:
        return [self, "x"]

    def format_for_llm(self) -> str:
        return "itself"

    def parse(self, generation: Any) -> str:
        return str(generation.text)


def test_structures_that_hold_themselves() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for value in (loop, {"a": loop}, deep):
        with pytest.raises(mellea.errors.UsageError, match="can't be put into a prompt"):
            m.instruct("{{x}}", user_variables={"x": value})
        with pytest.raises(mellea.errors.UsageError, match="can't be put into a prompt"):
            m.instruct("x", input=value)
    assert m.act(Itself()).parsed == "x"


@pytest.mark.parametrize("description", ["{{ 1/0 }}{{ a }}", "{{ a + 1 }}", "{{ range(10**9)|list }}{{ a }}"])
def test_an_expression_that_fails_is_the_callers_error(description: str) -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(mellea.errors.UsageError, match="can't be filled"):
        m.instruct(description, user_variables={"a": "b"})


def test_a_validator_that_raises_anything_is_a_parse_error() -> None:
    class Strange(pydantic.BaseModel):
        a: int

        @pydantic.field_validator("a")
        @classmethod
        def look(cls, value: int) -> int:
            raise KeyError("odd")

    stream = mellea.start_session(ScriptedBackend('{"a": 1}')).stream("x", format=Strange)
    assert "".join(stream) == '{"a": 1}'
    with pytest.raises(mellea.errors.ParseError, match="odd"):
        _ = stream.output


def test_two_threads_that_begin_to_read_a_stream_launch_it_once() -> None:
    backend = ScriptedBackend("x")
    stream = mellea.start_session(backend).stream("x")
    together = threading.Barrier(8)
    texts: list[str] = []

    def read() -> None:
        together.wait(10)
        texts.append("".join(stream))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert texts == ["x"] * 8
    assert len(backend.requests) == 1


async def test_closing_on_the_loop_that_it_holds_up_does_not_wait_for_each_turn() -> None:
    m = mellea.start_session(ScriptedBackend(["a", Pause(60)]), ctx=ChatContext())
    for _ in range(30):
        await m.achat("x", await_result=False)
    started = time.monotonic()
    m.close()
    assert time.monotonic() - started < 20, "each may take 2 s to close"


async def test_dropping_the_output_cancels_its_ingredients() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    m = mellea.start_session(backend)
    ingredient = await m.ainstruct("x", await_result=False)
    dish = await m.ainstruct("{{x}}", user_variables={"x": ingredient}, await_result=False)
    await anyio.sleep(0.02)
    assert m.ctx.last_turn().input.user_variables == {"x": ingredient}  # type: ignore[union-attr]
    del ingredient, dish
    assert m.ctx.turns() == []
    with anyio.fail_after(30):
        while not all(backend.closed):
            await anyio.sleep(0.01)


def test_parts_that_are_made_anew_each_time_end_in_an_error() -> None:
    class Endless(Itself):
        def parts(self) -> list[Any]:
            return [Endless()]

    with pytest.raises(mellea.errors.UsageError, match="or endless"):
        mellea.start_session(ScriptedBackend("x")).act(Endless())
