"""The figures of a whole call: what it costs besides the backend's own work, on the scripted backend.

The floor is the backend's own iterator, read to its end. The answer is one text, so that nearly all of it is the way
down and the way back: check the arguments, render the prompt, launch, accumulate, parse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

from benchmarks.pairs import Samples, Setting, interleave, on_loop
from benchmarks.scripted import bare
from benchmarks.wire import PROMPT
from mellea import ChatContext, MelleaSession
from mellea.testing import ScriptedBackend

ANSWER = '{"name": "Ada Lovelace", "age": 36}'


@dataclass
class Person:
    name: str
    age: int


Ask = Callable[[MelleaSession], Awaitable[Any]]


async def plain(session: MelleaSession) -> str:
    return str(await session.ainstruct(PROMPT))


async def template(session: MelleaSession) -> str:
    return str(await session.ainstruct("Write a story about {{topic}}.", user_variables={"topic": "a lighthouse"}))


async def sections(session: MelleaSession) -> str:
    """Ask with parts that need the whole template."""
    context = {"weather": "There is a storm."}
    return str(await session.ainstruct(PROMPT, icl_examples=["The sea was calm."], grounding_context=context))


async def chat(session: MelleaSession) -> str:
    """Ask with one turn of a conversation before."""
    await session.achat("Hello.")
    message = await session.achat("Write a story.")
    session.reset()
    return str(message)


async def typed(session: MelleaSession) -> str:
    thunk = await session.ainstruct("Who wrote the first program?", format=Person)
    assert thunk.parsed == Person("Ada Lovelace", 36), "the answer is another person"
    return str(thunk)


def per_call(ask: Ask, at_once: int = 1, *, calls: int = 1) -> Callable[[Setting], Samples]:
    """Microseconds of CPU for each call.

    Args:
        ask: makes one call, or `calls` of them.
        at_once: how many run at the same time.
        calls: how many of them `ask` makes.
    """

    def measure(setting: Setting) -> Samples:
        rounds = max(1, setting.size(500, 20) // at_once)
        context = ChatContext() if calls > 1 else None
        session = MelleaSession(ScriptedBackend(ANSWER), *([context] if context is not None else []))

        async def cpu(read: Ask) -> float:
            before = process_time()
            for _ in range(rounds):
                if at_once > 1:
                    found = set(await asyncio.gather(*(read(session) for _ in range(at_once))))
                else:
                    found = {await read(session)}
                assert found == {ANSWER}, "a text is not what was scripted"
            seconds = process_time() - before
            _forget(session)
            return seconds / rounds / at_once

        async def floor() -> float:
            return await cpu(bare)

        async def ours() -> float:
            return await cpu(ask) / calls

        with asyncio.Runner() as runner:
            return interleave(on_loop(runner, floor), on_loop(runner, ours), setting.pairs).times(1e6)

    return measure


def _forget(session: MelleaSession) -> None:
    backend = session.backend
    assert isinstance(backend, ScriptedBackend)
    backend.requests.clear()
    backend.closed.clear()
