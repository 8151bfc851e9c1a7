"""The scripted backend plays what is written, in order, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import threading
import time

import anyio
import anyio.to_thread
import pytest

from mellea.backends.ai_gateway.tools import exa_search
from mellea.backends.anthropic.tools import web_fetch
from mellea.backends.gemini.tools import google_search
from mellea.backends.openai.tools import web_search
from mellea.core.backend import Capabilities, Request
from mellea.core.events import Event, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.core.messages import user_message
from mellea.errors import ConnectError, UnsupportedError, UsageError
from mellea.testing import Gate, Pause, ScriptedBackend

pytestmark = pytest.mark.anyio


async def play(backend: ScriptedBackend, prompt: str = "hi", **options: object) -> list[Event]:
    return [event async for event in backend.run(Request((user_message(prompt),), options=options))]


async def text(backend: ScriptedBackend, prompt: str = "hi") -> str:
    return "".join([event.chunk for event in await play(backend, prompt) if isinstance(event, TextDelta)])


async def test_a_text_is_one_delta_and_an_end() -> None:
    backend = ScriptedBackend("Hello")
    assert await play(backend) == [TextDelta("Hello"), StreamEnd("stop", "script-1", "script")]


async def test_replies_are_played_in_order_and_the_last_one_again() -> None:
    backend = ScriptedBackend("a", ["b", "c"], lambda request: request.messages[-1].content.upper())
    assert [await text(backend, "x") for _ in range(4)] == ["a", "bc", "X", "X"]
    assert backend.prompts == ["x"] * 4


async def test_one_step_is_a_script() -> None:
    assert await play(ScriptedBackend(StreamEnd("length"))) == [StreamEnd("length")]
    with pytest.raises(ConnectError):
        await play(ScriptedBackend(ConnectError("x")))
    with anyio.move_on_after(0.01) as scope:
        await play(ScriptedBackend(Pause(float("inf"))))
    assert scope.cancelled_caught


async def test_events_pass_as_they_are_and_an_end_of_its_own_is_the_only_one() -> None:
    script = [TextDelta("a"), StreamEnd("length")]
    assert await play(ScriptedBackend(script)) == script


async def test_usage_is_reported_before_the_end() -> None:
    events = await play(ScriptedBackend("a", usage=Usage(1, 2)))
    assert events[1:] == [UsageEvent(Usage(1, 2)), StreamEnd("stop", "script-1", "script")]


async def test_a_cut_stream_has_no_end() -> None:
    assert await play(ScriptedBackend("a", is_cut=True)) == [TextDelta("a")]


async def test_a_pause_takes_its_time() -> None:
    began = time.monotonic()
    await play(ScriptedBackend(["a", Pause(0.05), "b"]))
    assert time.monotonic() - began > 0.045


async def test_a_gate_holds_until_it_is_opened_from_whatever_thread() -> None:
    gate = Gate()
    backend = ScriptedBackend(["a", gate, "b"])
    timer = threading.Timer(0.05, gate.open)
    began = time.monotonic()
    timer.start()
    with anyio.fail_after(30):
        assert await text(backend) == "ab"
        assert time.monotonic() - began > 0.04
        assert await text(backend) == "ab"  # it stays open
    timer.join()


async def test_a_gate_lets_everybody_through() -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, "a"])
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(text, backend)
            await anyio.sleep(0.01)
            assert backend.closed == [False] * 5
            gate.open()
    backend.assert_closed()


async def test_an_exception_is_raised_as_a_new_one_each_time() -> None:
    error = ConnectError("no route", backend="x")
    backend = ScriptedBackend(["a", error])
    raised = []
    for _ in range(2):
        with pytest.raises(ConnectError, match="no route") as caught:
            await play(backend)
        raised.append(caught.value)
    assert raised[0] is not raised[1] and error not in raised
    assert error.__traceback__ is None


async def test_it_knows_which_streams_are_open() -> None:
    backend = ScriptedBackend(["a", Pause(float("inf"))])
    backend.assert_closed()
    stream = backend.run(Request((user_message("hi"),)))
    backend.assert_closed()  # nothing has been asked yet
    await anext(stream)
    with pytest.raises(AssertionError, match="request 0 is still open"):
        backend.assert_closed()
    await stream.aclose()
    backend.assert_closed()
    assert backend.closed == [True]


async def test_a_request_that_it_doesnt_support_isnt_counted() -> None:
    backend = ScriptedBackend("a", capabilities=Capabilities(options=frozenset({"seed"})))
    with pytest.raises(UnsupportedError, match="'temperature'"):
        await play(backend, temperature=0)
    assert backend.requests == []
    await play(backend, seed=0)
    assert backend.requests[0].options == {"seed": 0}


async def test_it_plays_a_provider_that_runs_tools_of_its_own() -> None:
    for tool in (web_fetch(), google_search(), web_search(), exa_search()):
        backend = ScriptedBackend("Found.")
        assert [event async for event in backend.run(Request((user_message("hi"),), tools=(tool,)))]
        assert backend.requests[0].tools == (tool,)


async def test_mistakes_in_a_script_are_told() -> None:
    with pytest.raises(UsageError, match="at least one reply"):
        ScriptedBackend()
    with pytest.raises(UsageError, match="not of 5"):
        await play(ScriptedBackend(["a", 5]))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="not of 5; a typed answer is the text of its JSON"):
        await play(ScriptedBackend(5))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"not of \{'name': 'Ann'\}"):  # whose keys would be steps
        await play(ScriptedBackend({"name": "Ann"}))  # type: ignore[dict-item]


async def test_two_threads_never_get_the_same_number() -> None:
    backend = ScriptedBackend(*(str(number) for number in range(200)))
    texts: list[str] = []

    def ask() -> None:
        texts.extend(asyncio.run(_ask_often()))

    async def _ask_often() -> list[str]:
        return [await text(backend) for _ in range(50)]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert sorted(texts, key=int) == [str(number) for number in range(200)]
