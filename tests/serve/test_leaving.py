"""What a plain function asks of a model for a client that has left ends at once, and it can ask nothing more."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import mellea
from mellea.core.runtime.tasks import run_in_thread
from mellea.errors import GenerationCancelledError
from mellea.serve import app
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Pause
from tests.serve.asgi import ask
from tests.serve.ui_streams import call
from tests.waiting import cancel_once, until

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))
HEADERS = {"host": "localhost", "content-type": "application/json"}


class Program:
    """A plain function that asks a model, and then once more, whatever became of the first question."""

    def __init__(self, ask: Callable[[mellea.MelleaSession, str], Any]) -> None:
        self.backend = ScriptedBackend(["Once ", FOREVER], "again")
        self.session = mellea.start_session(self.backend)
        self._ask = ask
        self.errors: list[BaseException] = []
        self.has_ended = threading.Event()

    def __call__(self, text: str) -> str:
        """Answer."""
        try:
            for _ in range(2):
                try:
                    self._ask(self.session, text)
                except GenerationCancelledError as error:
                    self.errors.append(error)
            return "nobody hears this"
        finally:
            self.has_ended.set()

    async def was_ended(self) -> None:
        await until(self.has_ended.is_set)
        await until(lambda: all(self.backend.closed))
        assert len(self.errors) == 2, "the first question was cancelled, the second one refused"
        assert len(self.backend.requests) == 1


ASKING: dict[str, Callable[[mellea.MelleaSession, str], Any]] = {
    "a verb": lambda m, text: m.instruct(text),
    "a chat": lambda m, text: m.chat(text),
    "a stream": lambda m, text: list(m.stream(text)),
    "an agent": lambda m, text: mellea.Agent(m).run(text),
    "a strategy": lambda m, text: m.instruct(text, requirements=["It is short."]),
}
every_way = pytest.mark.parametrize("way", ASKING.values(), ids=ASKING)


@every_way
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_plain_function_that_is_served_stops_its_model(way: Any, is_stream: bool) -> None:
    program = Program(way)
    asked = {"model": "program", "messages": [{"role": "user", "content": "x"}], "stream": is_stream}
    left = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:

            async def leave() -> None:
                await until(lambda: program.backend.requests)
                left.set()

            group.start_soon(leave)
            served = app({"program": program})
            body = json.dumps(asked).encode()
            await ask(served, leave=left, method="POST", path="/v1/chat/completions", body=body, headers=HEADERS)
        await program.was_ended()


async def test_a_plain_tool_of_an_agent_that_is_cancelled_stops_its_own_model() -> None:
    program = Program(lambda m, text: m.instruct(text))

    def research(text: str) -> str:
        """Look something up."""
        return program(text)

    m = mellea.start_session(ScriptedBackend(call(1, "research", '{"text": "x"}'), "done"))
    agent = mellea.Agent(m, tools=[research])
    await cancel_once(lambda: program.backend.requests, lambda: agent.arun("Find it."))
    await program.was_ended()


async def test_a_function_that_is_waited_for_to_its_end_keeps_what_it_began() -> None:
    backend = ScriptedBackend("a", "b")
    m = mellea.start_session(backend)

    def work() -> list[str]:
        return [m.instruct("x").value, m.instruct("y").value]

    assert await run_in_thread(work) == ["a", "b"]
    assert len(backend.requests) == 2
