"""Traces in memory: what a program did, as a tree, for functions, coroutines and streams."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mellea
from mellea.core import Usage
from mellea.core.observer import current_span, listening
from mellea.core.span_tree import draw_lines
from mellea.errors import UsageError
from mellea.stdlib.requirements import check, length, simple_validate
from mellea.stdlib.sampling import MultiTurnStrategy, RepairTemplateStrategy
from mellea.testing import Pause, ScriptedBackend
from tests.waiting import cancel_once

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


def session(*replies: Any, **kwargs: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **kwargs))


def lines(t: mellea.traces.Trace) -> list[str]:
    return str(t.tree(figures=False)).splitlines()


@mellea.trace
def answer(m: mellea.MelleaSession, question: str) -> str:
    text = ""
    for chunk in m.stream(question, name="answer_question"):
        text += chunk
    return text


def test_a_traced_function_that_streams_stands_below_its_trace() -> None:
    m = session(["Machines ", "that learn."])
    with mellea.traces.start("streaming_qa") as t:
        assert answer(m, "What is machine learning?") == "Machines that learn."
    assert lines(t) == ["streaming_qa (trace)", "  answer (function)", "    answer_question (call)"]
    outer, function, call = t.spans
    assert outer.began <= function.began <= call.began
    assert call.ended is not None and function.ended is not None and outer.ended is not None
    assert call.ended <= function.ended <= outer.ended
    assert [line.lstrip().partition(" (")[0] for line in str(t.tree()).splitlines()] == [
        "streaming_qa",
        "answer",
        "answer_question",
    ]


def test_nothing_is_traced_outside_and_nothing_is_left_behind() -> None:
    before = listening.count
    m = session("x")
    assert answer(m, "x") == "x"
    with mellea.traces.start("one") as t:
        pass
    answer(m, "x")
    assert lines(t) == ["one (trace)"] and listening.count == before and current_span.get() is None


def test_attempts_checks_with_reasons_tools_and_steps_show_in_the_tree() -> None:
    from mellea.core import ToolCall
    from mellea.core.events import ToolEnd

    def look(place: str) -> str:
        """Look somewhere."""
        return "a cat"

    m = session("too long, all of it", "short", [ToolEnd(ToolCall("1", "look", {"place": "Rome"}))], "A cat.")
    is_short = check("is short", validation_fn=simple_validate(lambda text: (len(text) < 6, "too\nlong")))
    with mellea.traces.start("all") as t:
        m.instruct("x", name="pick", requirements=[is_short])
        m.instruct("y", name="search", tools=[look], tool_calls="run")
    assert lines(t) == [
        "all (trace)",
        "  pick (call)",
        "    attempt 1 (attempt, rejected)",
        "      pick (call)",
        "      is short (check: no, too long)",
        "    attempt 2 (attempt)",
        "      pick (call)",
        "      is short (check: yes)",
        "  search (call)",
        "    step 1 (step)",
        "      search (call)",
        "      look (tool)",
        "    step 2 (step)",
        "      search (call)",
    ]


async def test_a_coroutine_and_an_async_generator_are_spans() -> None:
    m = session(["a", "b"])

    @mellea.trace
    async def ask() -> str:
        return str(await m.ainstruct("x", name="inner"))

    @mellea.trace(name="parts")
    async def stream() -> AsyncIterator[str]:
        async for chunk in m.astream("x", name="streamed"):
            yield chunk

    async with mellea.traces.start("both") as t:
        assert await ask() == "ab"
        assert [chunk async for chunk in stream()]
    assert lines(t) == [
        "both (trace)",
        "  ask (function)",
        "    inner (call)",
        "  parts (function)",
        "    streamed (call)",
    ]
    assert inspect.iscoroutinefunction(ask) and inspect.isasyncgenfunction(stream)


def test_a_generators_span_is_current_while_its_body_runs_and_not_between() -> None:
    seen: list[str] = []

    @mellea.trace
    def numbers() -> Iterator[int]:
        for number in range(2):
            seen.append(_current())
            yield number

    with mellea.traces.start("outer") as t:
        for _ in numbers():
            seen.append(_current())
    assert seen == ["numbers", "outer", "numbers", "outer"]
    assert lines(t) == ["outer (trace)", "  numbers (function)"]


def _current() -> str:
    span = current_span.get()
    return "" if span is None else span.name


def test_what_a_generators_body_makes_current_stays_inside_it() -> None:
    m = session("x")

    @mellea.trace
    def parts() -> Iterator[str]:
        with mellea.traces.start("part"):
            yield str(m.instruct("x", name="before"))
            yield str(m.instruct("x", name="after"))

    with mellea.traces.start("outer") as t:
        for _ in parts():
            m.instruct("x", name="between")
    assert lines(t) == [
        "outer (trace)",
        "  parts (function)",
        "    part (trace)",
        "      before (call)",
        "      after (call)",
        "  between (call)",
        "  between (call)",
    ]


def test_the_parent_of_a_stream_is_what_is_current_at_its_first_step() -> None:
    @mellea.trace
    def numbers() -> Iterator[int]:
        yield from range(3)

    waiting = numbers()
    with mellea.traces.start("first") as first:
        next(waiting)
    with mellea.traces.start("second") as second:
        list(waiting)
    assert lines(first) == ["first (trace)", "  numbers (function)"] and lines(second) == ["second (trace)"]


def test_a_stream_that_is_advanced_from_several_threads_is_one_span() -> None:
    """As a web framework does it: each step in another thread, with a copy of the caller's context."""
    import contextvars

    m = session(["a", "b", "c"])

    @mellea.trace
    def stream() -> Iterator[str]:
        for chunk in m.stream("x"):
            m.instruct("x", name="note")
            yield chunk

    with mellea.traces.start("web") as t:
        parts = stream()
        done: list[str] = []

        def step() -> None:
            done.append(next(parts, ""))

        while not done or done[-1]:
            thread = threading.Thread(target=contextvars.copy_context().run, args=(step,))
            thread.start()
            thread.join()
    assert "".join(done) == "abc"
    assert lines(t)[:3] == ["web (trace)", "  stream (function)", "    Instruction (call)"]
    assert set(lines(t)[3:]) == {"    note (call)"}


def test_a_decorated_generator_takes_what_is_sent_and_thrown_and_returns() -> None:
    caught: list[Exception] = []

    @mellea.trace
    def talk() -> Any:
        heard = yield "hello"
        try:
            yield f"you said {heard}"
        except ValueError as error:
            caught.append(error)
        return "bye"

    with mellea.traces.start("talk") as t:
        talking = talk()
        assert next(talking) == "hello" and talking.send("hi") == "you said hi"
        with pytest.raises(StopIteration) as end:
            talking.throw(ValueError("no"))
    assert end.value.value == "bye" and isinstance(caught[0], ValueError)
    assert lines(t) == ["talk (trace)", "  talk (function)"]


async def test_a_decorated_async_generator_takes_what_is_sent_and_thrown() -> None:
    @mellea.trace
    async def talk() -> Any:
        heard = yield "hello"
        try:
            yield f"you said {heard}"
        except ValueError:
            yield "well"

    async with mellea.traces.start("talk") as t:
        talking = talk()
        assert await anext(talking) == "hello" and await talking.asend("hi") == "you said hi"
        assert await talking.athrow(ValueError("no")) == "well"
        with pytest.raises(StopAsyncIteration):
            await anext(talking)
    assert lines(t) == ["talk (trace)", "  talk (function)"]


@pytest.mark.parametrize("how", ["break", "close", "failure", "thrown", "interrupt"])
def test_a_stream_that_ends_early_ends_its_span_once_as_what_it_was(how: str) -> None:
    m = session(["a", "b", FOREVER])

    @mellea.trace
    def stream() -> Iterator[str]:
        for chunk in m.stream("x"):
            yield chunk
            if how == "failure":
                raise LookupError("gone")

    with contextlib.suppress(LookupError, KeyError, KeyboardInterrupt), mellea.traces.start("outer") as t:
        parts = stream()
        next(parts)
        if how == "close":
            parts.close()
        elif how == "thrown":
            parts.throw(KeyError("x"))
        elif how == "interrupt":
            parts.throw(KeyboardInterrupt())
        elif how == "failure":
            next(parts)
        else:
            del parts
    gc.collect()
    expected = "error" if how in ("failure", "thrown") else "cancelled"
    assert t.spans[1].status == expected and t.spans[1].name == "stream"


async def test_a_cancelled_and_an_overdue_async_stream_end_as_cancelled() -> None:
    m = session(["a", FOREVER])

    @mellea.trace
    async def stream() -> AsyncIterator[str]:
        async for chunk in m.astream("x"):
            yield chunk

    async with mellea.traces.start("outer") as t:
        got: list[str] = []

        async def read() -> None:
            async for chunk in stream():
                got.append(chunk)

        await cancel_once(lambda: got, read)
    assert [span.status for span in t.spans[:2]] == ["ok", "cancelled"]
    with anyio.fail_after(30):
        while t.spans[2].ended is None:
            await anyio.sleep(0.005)
    assert t.spans[2].status == "cancelled"
    assert t.spans[2].generation is not None and t.spans[2].generation.usage is None


def test_a_stream_whose_loop_is_closed_ends_as_cancelled() -> None:
    @mellea.trace
    async def stream() -> AsyncIterator[int]:
        yield 1
        yield 2

    with mellea.traces.start("outer") as t:
        loop = asyncio.new_event_loop()
        parts = stream()
        loop.run_until_complete(anext(parts))
        loop.close()
        del parts
        gc.collect()
    assert lines(t) == ["outer (trace)", "  stream (function, cancelled)"]


async def test_threads_and_tasks_inherit_the_trace() -> None:
    m = session("x")

    @mellea.trace
    def inside() -> str:
        return str(m.instruct("x", name="deep"))

    async with mellea.traces.start("outer") as t, anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, inside)
    assert lines(t) == ["outer (trace)", "  inside (function)", "    deep (call)"]


def test_two_traces_at_once_see_their_own_spans() -> None:
    m = session("x")
    with mellea.traces.start("outer") as outer:
        m.instruct("x", name="one")
        with mellea.traces.start("inner") as inner:
            m.instruct("x", name="two")
    assert lines(inner) == ["inner (trace)", "  two (call)"]
    assert lines(outer) == ["outer (trace)", "  one (call)", "  inner (trace)", "    two (call)"]


def test_methods_are_traced_and_keep_their_names() -> None:
    class Helper:
        @mellea.trace
        def method(self) -> int:
            """Do it."""
            return 1

        @mellea.trace
        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

        @staticmethod
        @mellea.trace(name="named")
        def static() -> int:
            return 3

    with mellea.traces.start("t") as t:
        assert (Helper().method(), Helper.of_class(), Helper.static()) == (1, "Helper", 3)
    assert lines(t) == ["t (trace)", "  method (function)", "  of_class (function)", "  named (function)"]
    assert Helper.method.__doc__ == "Do it." and Helper.method.__name__ == "method"


def _pass_on(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class _Called:
    """Objects that are called: by name, the kinds of functions that they are."""

    class Coroutine:
        async def __call__(self, m: mellea.MelleaSession) -> str:
            return str(await m.ainstruct("x", name="line"))

    class Stream:
        def __call__(self, m: mellea.MelleaSession) -> Iterator[str]:
            yield from m.stream("x", name="line")

    class AsyncStream:
        async def __call__(self, m: mellea.MelleaSession) -> AsyncIterator[str]:
            async for chunk in m.astream("x", name="line"):
                yield chunk


async def write(m: mellea.MelleaSession) -> str:
    return str(await m.ainstruct("x", name="line"))


def spell(m: mellea.MelleaSession) -> Iterator[str]:
    yield from m.stream("x", name="line")


async def aspell(m: mellea.MelleaSession) -> AsyncIterator[str]:
    async for chunk in m.astream("x", name="line"):
        yield chunk


@mellea.generative
async def imagine(text: str) -> str:
    """Imagine."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("write", write),
        ("write", functools.partial(functools.partial(write))),
        ("write", _pass_on(write)),
        ("return_write", lambda m: write(m)),
        ("spell", _pass_on(_pass_on(spell))),
        ("spell", functools.partial(spell)),
        ("aspell", _pass_on(aspell)),
        ("imagine", functools.partial(imagine, text="x")),
        ("Coroutine", _Called.Coroutine()),
        ("Stream", _Called.Stream()),
        ("AsyncStream", _Called.AsyncStream()),
    ],
)
async def test_the_work_of_a_function_is_in_its_span_however_it_is_wrapped(name: str, function: Any) -> None:
    function, m = mellea.trace(function, name=name if name == "return_write" else None), session("a b")
    with mellea.traces.start("t") as t:
        result = function(m)
        if inspect.isawaitable(result):
            result = await result
        elif inspect.isasyncgen(result):
            result = "".join([chunk async for chunk in result])
        else:
            # In a worker thread, as a sync stream waits.
            result = await anyio.to_thread.run_sync("".join, result)
        assert [span.status for span in t.spans[1:]] == ["ok", "ok"]
    assert result == "a b"
    assert [line.strip(" ").split(" ")[0] for line in lines(t)][:2] == ["t", name]
    assert lines(t)[2].startswith("    "), lines(t)


def test_a_hidden_generator_that_is_never_begun_or_left_early_ends_as_cancelled() -> None:
    function, m = mellea.trace(_pass_on(spell)), session(["a", "b", FOREVER])
    with mellea.traces.start("t") as t:
        never = function(m)
        early = function(m)
        next(early)
        early.close()
        del never
        gc.collect()
    assert [span.status for span in t.spans if span.kind == "function"] == ["cancelled", "cancelled"]


def test_what_cant_be_traced_is_refused() -> None:
    with pytest.raises(UsageError, match="functions, not for 3"):
        mellea.trace(3)  # type: ignore[type-var]
    with pytest.raises(UsageError, match="name is a string"):
        mellea.traces.start("")
    for name in (3, "", b"x"):
        with pytest.raises(UsageError, match="name of a span is a string"):
            mellea.trace(name=name)  # type: ignore[call-overload]
    with mellea.traces.start("x") as t, pytest.raises(UsageError, match="has already started"), t:
        pass


def test_the_cost_of_a_thunk_a_session_and_a_trace_adds_up_and_is_never_guessed() -> None:
    usage = Usage(1_000_000, 1_000_000, cached_tokens=500_000, reasoning_tokens=250_000)
    price = mellea.prices.Price(2, 8, cached=1, reasoning=4)
    expected = 0.5 * 2 + 0.5 * 1 + 0.75 * 8 + 0.25 * 4
    m = session("short", usage=usage)
    mellea.prices.set_prices({"scripted/*": price})
    try:
        with mellea.traces.start("t") as t:
            assert m.instruct("x").cost == pytest.approx(expected)
            assert m.cost == t.cost == pytest.approx(expected)
            m.instruct("x")
        assert m.cost == t.cost == pytest.approx(2 * expected)
        assert f"${expected}" in str(t.tree()) and "1000000 + 1000000 tokens" in str(t.tree())
        judged = session("yes", '{"reason": "it is", "verdict": "yes"}', usage=usage)
        with mellea.traces.start("judged") as t:
            thunk = judged.instruct("x", requirements=["is good"])
        assert thunk.cost == pytest.approx(expected)  # of the answer
        assert judged.cost == t.cost == pytest.approx(2 * expected)  # and of the judge
    finally:
        mellea.prices.reset_prices()
    with mellea.traces.start("unknown") as t:
        thunk = m.instruct("x")
    assert thunk.cost is None and t.cost is None and m.cost is None
    assert mellea.traces.start("empty").cost == 0.0 and session("x").cost == 0.0


async def test_the_cost_of_embeddings_counts_and_what_was_refused_costs_nothing() -> None:
    from mellea.core.results import EmbeddingResult
    from mellea.errors import RateLimitError

    class Embedding(ScriptedBackend):
        async def embed(self, texts: Any) -> EmbeddingResult:
            return EmbeddingResult(tuple((0.0,) for _ in texts), Usage(1_000_000, 0), "vectors")

    m = mellea.start_session(Embedding(RateLimitError("busy")))
    mellea.prices.set_prices({"scripted/*": mellea.prices.Price(2, 8)})
    try:
        async with mellea.traces.start("t") as t:
            await m.aembed(["a", "b"])
            with pytest.raises(RateLimitError):
                await m.ainstruct("x")
        assert m.cost == t.cost == pytest.approx(2.0)
        assert lines(t) == ["t (trace)", "  embedding (embedding)", "  Instruction (call, error: RateLimitError: busy)"]
    finally:
        mellea.prices.reset_prices()


async def test_what_was_given_up_before_its_first_word_has_a_cost_that_nobody_knows() -> None:
    m = session([FOREVER])
    async with mellea.traces.start("t") as t:
        await cancel_once(lambda: len(t.spans) > 1, lambda: m.ainstruct("x"))
    assert t.spans[1].status == "cancelled" and t.cost is None and m.cost is None


def test_a_session_has_an_id_that_its_spans_show() -> None:
    m, other = session("x"), session("x")
    m.id = "conversation 7"
    with mellea.traces.start("t") as t:
        m.instruct("x", requirements=["is good"])
        other.instruct("x")
    assert t.spans[0].session is None and t.spans[-1].session == other.id
    assert {span.session for span in t.spans[1:-1]} == {"conversation 7"} and other.id != m.id
    with pytest.raises(UsageError, match="id of a session"):
        m.id = ""


def test_no_name_and_no_reason_in_a_tree_commands_the_terminal() -> None:
    red, turned = "\x1b[31m", "\u202e"
    no = check("is fine", validation_fn=simple_validate(lambda text: (False, f"{red}bad{turned}\nline")))
    with mellea.traces.start(f"a{red}b\x00{turned}\nc") as t:
        mellea.start_session(ScriptedBackend("x")).instruct("x", name=red, requirements=[no])
    text = str(t.tree())
    assert text.startswith("ab c (trace") and "no, bad line" in text
    assert not [char for char in text if not char.isprintable() and char != "\n"] and len(text.splitlines()) == len(
        t.spans
    )


def test_a_key_in_a_requirement_or_a_reason_is_in_no_tree_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "planted-key-0123456789")
    wrong = simple_validate(lambda text: False, reason="no planted-key-0123456789 in it")
    with mellea.traces.start("t") as t:
        session("a", "b").instruct("x", requirements=[check("has planted-key-0123456789", validation_fn=wrong)])
    assert "check" in str(t.tree()) and "planted" not in f"{t.tree()} {t.spans!r}"


def test_a_recorded_check_without_content_is_called_by_its_function() -> None:
    data = {
        "id": 1,
        "kind": "check",
        "name": "check",
        "status": "ok",
        "seconds": 0.0,
        "is_met": False,
        "check": "is_short",
    }
    running = {"id": 3, "kind": "check", "name": "check", "status": "running"}
    drawn = draw_lines([data, {**data, "id": 2, "name": "Be short."}, running], figures=False)
    assert [line for _, _, line in drawn] == [
        "is_short (check: no)",
        "Be short. (check: no)",
        "check (check, running)",
    ]


# -- what a newcomer asks of a tree ---------------------------------------------------------------------


def test_every_request_of_a_named_call_has_its_name() -> None:
    never = check("never", validation_fn=lambda context: False)
    for strategy in (RepairTemplateStrategy(loop_budget=2), MultiTurnStrategy(loop_budget=2)):
        with mellea.traces.start("t") as t:
            session("a", "b").instruct("x", name="letter", requirements=[never], strategy=strategy)
        assert [span.name for span in t.spans if span.is_request] == ["letter", "letter"]
    with mellea.traces.start("t") as t:
        session("many", "7").instruct("x", format=int, name="count")
    assert [span.name for span in t.spans if span.is_request] == ["count", "count"]


def test_an_attempt_that_no_check_rejected_says_why() -> None:
    with mellea.traces.start("t") as t:
        session("many", "7").instruct("x", format=int, name="count")
    first = next(line for line in lines(t) if "attempt 1" in line)
    assert "(attempt, rejected: the answer is not a valid 'int'" in first and "'many'" in first
    assert next(line for line in lines(t) if "attempt 2" in line).endswith("attempt 2 (attempt)")


def test_a_check_of_a_growing_text_differs_from_that_of_the_whole() -> None:
    with mellea.traces.start("t") as t:
        session("a b c").instruct("x", name="letter", requirements=[length(max=4)])
    (early, late) = [line.strip() for line in lines(t) if "check" in line]
    assert early == "Write at most 4 words. (check, while streaming: yes)"
    assert late == "Write at most 4 words. (check: yes)"


async def test_a_call_says_which_thunks_it_uses() -> None:
    m = session(*"abcdefg")
    async with mellea.traces.start("t") as t:
        parts = [await m.ainstruct("x", name=f"part {number}", await_result=False) for number in range(4)]
        few, many = {"a": parts[0], "b": parts[1]}, {"all": parts}
        await m.ainstruct("{{a}} {{b}}", user_variables=few, name="few")
        await m.ainstruct("{{all}}", user_variables=many, name="many")
    assert lines(t)[-2:] == ["  few (call, uses part 0 and part 1)", "  many (call, uses 4 others)"]


def test_an_error_is_explained_once_where_it_came_from() -> None:
    @mellea.trace
    def inner() -> None:
        raise ValueError("no\x1b[2J such\ncity")

    @mellea.trace
    def outer() -> None:
        inner()

    with pytest.raises(ValueError, match="such"), mellea.traces.start("t") as t:
        outer()
    assert lines(t) == [
        "t (trace, error)",
        "  outer (function, error)",
        "    inner (function, error: ValueError: no such city)",
    ]
