"""Sessions over the embedded model: what ends a generation ends the engine's work, seen in its slots."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mellea
from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, find_weights
from mellea.core import Deadlines
from mellea.errors import ConfigurationError
from mellea.stdlib.context import ChatContext
from mellea.testing.engine_server import count_busy_slots
from tests.backends.slots import tokens_until_free

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]

STORY = "Write a very long story about a river."
LONG_PROMPT = "word river stone " * 400  # about ten seconds to read
PATIENT = {"max_tokens": 2000, "temperature": 0.0}


@pytest.fixture(scope="module")
def m() -> mellea.MelleaSession:
    pytest.importorskip("xllamacpp")
    try:
        find_weights(DEFAULT_MODEL)
    except ConfigurationError as error:
        pytest.skip(str(error))
    session = mellea.start_session(model_options=PATIENT)
    session.instruct("Hi.", model_options={"max_tokens": 1})
    return session


async def busy(m: mellea.MelleaSession) -> int:
    assert isinstance(m.backend, LlamaCppBackend)
    engine = await m.backend.engine()
    return await anyio.to_thread.run_sync(count_busy_slots, engine.address, engine.api_key)


async def until_busy(m: mellea.MelleaSession) -> None:
    with anyio.fail_after(60):
        while not await busy(m):
            await anyio.sleep(0.005)


async def until_free(m: mellea.MelleaSession) -> int:
    assert isinstance(m.backend, LlamaCppBackend)
    return await tokens_until_free(await m.backend.engine())


# Each way to end a generation: it is given one that runs, and lets go of it.


async def drop(m: mellea.MelleaSession, prompt: str) -> None:
    async def hold() -> None:
        thunk = await m.ainstruct(prompt, await_result=False)
        await running(m, prompt, lambda: thunk.partial)

    await hold()
    gc.collect()


async def cancel(m: mellea.MelleaSession, prompt: str) -> None:
    thunk = await m.ainstruct(prompt, await_result=False)
    await running(m, prompt, lambda: thunk.partial)
    await thunk.cancel()


async def leave(m: mellea.MelleaSession, prompt: str) -> None:
    async with m.astream(prompt) as stream:
        await running(m, prompt, lambda: stream.text)


async def time_out(m: mellea.MelleaSession, prompt: str) -> None:
    with anyio.move_on_after(0.7):
        await m.ainstruct(prompt)


async def pass_a_deadline(m: mellea.MelleaSession, prompt: str) -> None:
    with pytest.raises(TimeoutError):
        await m.ainstruct(prompt, model_options={"timeout": Deadlines(total=0.7)})


async def close_a_plain_stream(m: mellea.MelleaSession, prompt: str) -> None:
    def read() -> None:
        with m.stream(prompt) as stream:
            if prompt is STORY:
                next(iter(stream))
            else:
                time.sleep(0.7)

    await anyio.to_thread.run_sync(read)


async def reset(m: mellea.MelleaSession, prompt: str) -> None:
    chat = mellea.start_session(m.backend, ctx=ChatContext(), model_options=PATIENT)
    thunk = await chat.achat(prompt, await_result=False)
    await running(m, prompt, lambda: thunk.partial)
    chat.reset()


async def running(m: mellea.MelleaSession, prompt: str, text: Callable[[], str]) -> None:
    await until_busy(m)
    with anyio.fail_after(60):
        while prompt is STORY and not text():
            await anyio.sleep(0.005)


WAYS = [drop, cancel, leave, time_out, pass_a_deadline, close_a_plain_stream, reset]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.sample(3)
async def test_ending_a_generation_frees_its_slot_while_it_writes(m: mellea.MelleaSession, way: Any) -> None:
    await way(m, STORY)
    assert await until_free(m) < 200, "of 2,000 tokens"


@pytest.mark.parametrize("way", [drop, leave, time_out])
@pytest.mark.sample(2)
async def test_ending_a_generation_frees_its_slot_while_it_reads(m: mellea.MelleaSession, way: Any) -> None:
    await way(m, LONG_PROMPT)
    assert await until_free(m) <= 512, "of 1,200 tokens"


async def test_twenty_thunks_awaited_in_any_order(m: mellea.MelleaSession) -> None:
    options = {"max_tokens": 4}
    thunks = [await m.ainstruct("Count.", await_result=False, model_options=options) for _ in range(20)]
    texts = [await thunk.avalue() for thunk in [*thunks[::2], *thunks[::-2]]]
    assert len(set(texts)) == 1, "at temperature 0 they are all the same"
    assert all(thunk.usage is not None and thunk.usage.output_tokens == 4 for thunk in thunks)


async def test_a_typed_result(m: mellea.MelleaSession) -> None:
    answer = await m.ainstruct("How many legs has a cat?", format=int, model_options={"max_tokens": 20})
    assert isinstance(answer.parsed, int)


async def test_one_thunk_read_on_two_loops(m: mellea.MelleaSession) -> None:
    thunk = await m.ainstruct("Count to ten.", await_result=False, model_options={"max_tokens": 12})
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(asyncio.run(thunk.avalue())))
    thread.start()
    texts.append("".join([chunk async for chunk in thunk]))
    await anyio.to_thread.run_sync(thread.join)
    assert texts == [thunk.value] * 2


async def test_embeddings(m: mellea.MelleaSession) -> None:
    result = await m.aembed(["a cat", "a dog", "a cat"])
    assert len(result.vectors) == 3
    assert {len(vector) for vector in result.vectors} == {576}
    assert result.vectors[0] == pytest.approx(result.vectors[2], abs=1e-4)
    assert result.vectors[0] != result.vectors[1]
    with pytest.raises(mellea.errors.BadRequestError, match=r"5001 tokens.*4096"):
        await m.aembed("word " * 5000)
