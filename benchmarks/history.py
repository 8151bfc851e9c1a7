"""The figures of long conversations: what one more turn costs after many."""

from __future__ import annotations

import asyncio
from time import process_time

from benchmarks.pairs import Samples, Setting, interleave, on_loop
from mellea import ChatContext, ComputedModelOutputThunk, Message
from mellea.stdlib.call import Call
from mellea.testing import ScriptedBackend

WORDS = 20
"""Of each question and each answer."""


def conversation(turns: int) -> ChatContext:
    context = ChatContext()
    for number in range(turns):
        context = context.add(Message("user", f"question {number} " * (WORDS // 2)))
        context = context.add(ComputedModelOutputThunk(f"answer {number} " * (WORDS // 2)))
    return context


async def launched(context: ChatContext) -> float:
    """Milliseconds of CPU until a call has been worded and launched."""
    backend = ScriptedBackend("yes")
    call = Call.make(Message("user", "next"), backend)
    before = process_time()
    thunk, _ = call.launch(context)
    seconds = process_time() - before
    await thunk
    sent = len(backend.requests[0].messages)
    assert sent == 2 * len(context.turns()) + 1, f"{sent} messages were sent"
    return seconds * 1e3


def one_more_turn(setting: Setting) -> Samples:
    """Milliseconds of the turn after 4,000, whose own earlier turns have been said before."""
    context = conversation(setting.size(4000, 400))
    with asyncio.Runner() as runner:
        runner.run(launched(context))
        return Samples([], [runner.run(launched(context)) for _ in range(setting.pairs)])


def growth(setting: Setting) -> Samples:
    """Microseconds for each turn seen, of a turn after 4,000 and after 400."""
    small, large = setting.size(400, 100), setting.size(4000, 400)
    few, many = conversation(small), conversation(large)

    async def by_few() -> float:
        return min([await launched(few) for _ in range(10)]) / small

    async def by_many() -> float:
        return min([await launched(many) for _ in range(3)]) / large

    with asyncio.Runner() as runner:
        return interleave(on_loop(runner, by_few), on_loop(runner, by_many), setting.pairs).times(1e3)
