"""The embedded model itself, on both loops. Nothing here asserts what it says."""

import asyncio
import threading
import time

import anyio
import anyio.to_thread
import httpx
import pytest

from mellea.backends.llama_cpp import LlamaCppBackend, engine
from mellea.backends.llama_cpp.engine import choose_threads
from mellea.core.blocks import ImageBlock
from mellea.core.events import KeepAlive, StreamEnd, TextDelta, UsageEvent
from mellea.core.messages import Message, assistant_message
from mellea.errors import BadRequestError, ConfigurationError, UnsupportedError, UsageError

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


async def first_text(stream):
    async for event in stream:
        if isinstance(event, TextDelta):
            return event.chunk
    return None


async def test_a_stream(backend, request_for):
    events = [event async for event in backend.run(request_for("Count to ten.", max_tokens=8, temperature=0))]
    kinds = [type(event) for event in events if not isinstance(event, KeepAlive)]
    assert kinds.count(TextDelta) > 1
    assert kinds[-2:] == [UsageEvent, StreamEnd]
    usage = events[-2].usage
    assert usage.output_tokens == 8
    assert usage.input_tokens > usage.cached_tokens >= 0
    assert (events[-1].finish_reason, events[-1].model) == ("length", "smollm2-135m")
    assert events[-1].response_id


async def test_stop(backend, request_for, read):
    answer = await read(backend, request_for("Say hi.", max_tokens=30, temperature=0, stop=[" ", "!"]))
    assert answer.finish_reason == "stop"
    assert " " not in answer.text


async def test_sampling_options_reach_the_model(backend, request_for, read):
    async def text(**options):
        return (await read(backend, request_for("Tell a story.", max_tokens=12, **options))).text

    greedy = await text(temperature=0)
    assert await text(temperature=0, seed=1) == greedy
    assert await text(temperature=5, top_k=1) == greedy
    assert await text(temperature=5, top_k=0, top_p=0.001) == greedy
    assert await text(temperature=5, top_k=0, top_p=1.0, min_p=0.999) == greedy
    wild = {"temperature": 3, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert await text(**wild, seed=7) == await text(**wild, seed=7)
    assert await text(**wild, seed=7) != await text(**wild, seed=8)
    assert await text(**wild) != await text(**wild)


@pytest.mark.parametrize("option", ["frequency_penalty", "presence_penalty", "repeat_penalty"])
@pytest.mark.sample(1)
async def test_penalties_reach_the_model(backend, request_for, read, option):
    request = {"temperature": 0, "max_tokens": 30}
    plain = await read(backend, request_for("Repeat: no no no no no no no no", **request))
    other = await read(backend, request_for("Repeat: no no no no no no no no", **request, **{option: 2.0}))
    assert plain.text != other.text


async def test_a_prefix_is_continued_and_not_repeated(backend, request_for, read):
    prefix = "The capital of"
    answer = await read(
        backend,
        request_for("What is the capital of France?", assistant_message(prefix), max_tokens=5, temperature=0),
    )
    assert answer.text.startswith(" ")
    assert prefix not in answer.text


async def test_characters_of_several_tokens_arrive_whole(backend, request_for):
    request = request_for("x", schema={"const": "żółw 🐢 漢字"}, max_tokens=40)
    chunks = [event.chunk async for event in backend.run(request) if isinstance(event, TextDelta)]
    assert "".join(chunks) == '"żółw 🐢 漢字"'


async def test_closing_while_it_writes_frees_the_slot(backend, request_for, freed, monkeypatch):
    monkeypatch.setattr("mellea.backends.llama_cpp.backend._CLOSE_SECONDS", 60.0)
    stream = backend.run(request_for("Tell a long story.", max_tokens=400, temperature=0))
    await first_text(stream)
    started = time.monotonic()
    await stream.aclose()
    assert time.monotonic() - started < 20, "it waited as long as a close may take"
    assert await freed(backend) < 100, "tokens"


async def test_cancelling_while_it_writes_frees_the_slot(backend, request_for, freed):
    with anyio.move_on_after(0.7) as scope:
        await first_text(stream := backend.run(request_for("Tell a long story.", max_tokens=400, temperature=0)))
        async for _ in stream:
            pass
    assert scope.cancelled_caught
    assert await freed(backend) < 100, "tokens"


async def test_cancelling_while_it_reads_a_long_prompt_frees_the_slot(backend, request_for, freed, long_prompt):
    stream = backend.run(request_for(f"{time.monotonic()} {long_prompt}", max_tokens=4))
    kinds = {type(await anext(stream))}
    with anyio.move_on_after(1.2):
        async for event in stream:
            kinds.add(type(event))
    assert kinds == {KeepAlive}
    assert await freed(backend) <= 512, "of 1,400 tokens"


async def test_a_request_over_the_number_of_slots_waits_and_can_be_cancelled(backend, request_for, freed, monkeypatch):
    monkeypatch.setattr("mellea.backends.llama_cpp.backend._CLOSE_SECONDS", 60.0)
    counts = [0]

    async def write():
        async for event in backend.run(request_for("Tell a long story.", max_tokens=400, temperature=0)):
            counts[0] += isinstance(event, TextDelta)

    async with anyio.create_task_group() as tasks:
        for _ in range(backend.parallel):
            tasks.start_soon(write)
        while counts[0] < 8 * backend.parallel:
            await anyio.sleep(0.05)
        waiting = backend.run(request_for("Hi", max_tokens=2))
        assert isinstance(await anext(waiting), KeepAlive)
        started = time.monotonic()
        await waiting.aclose()
        assert time.monotonic() - started < 1.5  # nobody waits for what no worker has taken up
        tasks.cancel_scope.cancel()
    assert await freed(backend) < 100, "tokens"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio finalises it as well, but warns
async def test_a_stream_that_nobody_holds_any_more_frees_the_slot(backend, request_for, freed):
    await first_text(backend.run(request_for("Tell a long story.", max_tokens=400, temperature=0)))
    assert await freed(backend) < 100, "tokens"


async def test_many_streams_at_once_with_random_ends(backend, request_for, freed):
    async def use(number):
        stream = backend.run(request_for(f"Count from {number}.", max_tokens=4 + number, temperature=0))
        async for event in stream:
            if number % 3 == 0 and isinstance(event, TextDelta):
                break
        await stream.aclose()

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(use, number)
    assert await freed(backend) < 100, "tokens"


async def test_several_loops_on_one_backend(backend, request_for, read):
    texts = {}

    def run(kind):
        options = {"use_uvloop": True} if kind == "uvloop" else {}
        loop = "trio" if kind == "trio" else "asyncio"
        request = request_for("Count to ten.", max_tokens=6, temperature=0)
        texts[kind] = anyio.run(read, backend, request, backend=loop, backend_options=options).text

    async with anyio.create_task_group() as tasks:
        for kind in ("asyncio", "trio", "uvloop"):
            tasks.start_soon(anyio.to_thread.run_sync, run, kind)
    assert len(texts) == 3
    assert len(set(texts.values())) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # it loads an engine of its own
async def test_many_first_users_load_once(request_for, read, monkeypatch):
    loads = []

    def open_server(*arguments, original=engine.open_server, **params):
        loads.append(threading.current_thread())
        return original(*arguments, **params)

    monkeypatch.setattr(engine, "open_server", open_server)
    backends = [LlamaCppBackend(context_window=256, parallel=2) for _ in range(3)]
    assert await backends[0].engine() is await backends[2].engine()
    async with anyio.create_task_group() as tasks:
        for backend in backends:
            tasks.start_soon(read, backend, request_for("Hi", max_tokens=2))
    assert len(loads) == 1
    assert loads[0] is not threading.main_thread()  # there Ctrl-C would be lost
    # The window is full before the model is done.
    answer = await read(backends[0], request_for("Count to a thousand.", temperature=0, stop=["\x00"]))
    assert answer.finish_reason in ("length", "stop")
    with pytest.raises(BadRequestError, match="has 256"):
        await read(backends[0], request_for("word " * 300))
    await anyio.to_thread.run_sync((await backends[0].engine()).close, 10.0)
    with pytest.raises(ConfigurationError, match="unloaded"):
        await read(backends[0], request_for("Hi", max_tokens=2))
    engine._engines.pop((await backends[0].engine()).settings)


async def test_refusals_of_the_engine(backend, request_for, read, freed):
    with pytest.raises(BadRequestError, match=r"\d{4} tokens.* 4096"):
        await read(backend, request_for("word " * 5000))
    with pytest.raises(BadRequestError, match="assistant"):
        await read(backend, request_for("a", assistant_message("b"), assistant_message("c"), max_tokens=2))
    with pytest.raises(BadRequestError, match="surrogate"):
        await read(backend, request_for("a\ud800b", max_tokens=2))
    with pytest.raises(BadRequestError, match="penalty_repeat"):
        await read(backend, request_for("a", repeat_penalty=0, max_tokens=2))
    assert await freed(backend) < 100, "tokens"


async def test_what_it_cannot_do_is_refused_before_it_loads(request_for):
    backend = LlamaCppBackend("/nowhere/model.gguf")
    image = Message("user", "x", images=[ImageBlock(data=b"x")])
    for request in (request_for("x", thinking=True), request_for(image), request_for("x", schema={"not": {}})):
        with pytest.raises(UnsupportedError):
            await anext(backend.run(request))
    with pytest.raises(ConfigurationError, match="No such file"):
        await anext(backend.run(request_for("x")))


async def test_a_path_is_a_model_of_its_own_name(backend, request_for, read):
    weights = (await backend.engine()).settings.path
    other = LlamaCppBackend(weights, context_window=256, parallel=1)
    answer = await read(other, request_for("Hi", max_tokens=1))
    assert answer.model == "SmolLM2-135M-Instruct.Q4_1"
    await anyio.to_thread.run_sync((await other.engine()).close, 10.0)
    engine._engines.pop((await other.engine()).settings)


async def test_the_port_is_guarded(backend, request_for, read):
    await read(backend, request_for("Hi", max_tokens=1))
    address = (await backend.engine()).address
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        assert (await client.get("/v1/models")).status_code == 401
        page = await client.get("/", headers={"Origin": "http://evil.example"})
        assert page.status_code in (401, 404)
        assert page.headers.get("access-control-allow-origin", "") == ""


async def test_the_loop_goes_on_while_it_writes(backend, request_for, read):
    gaps = []

    async def tick():
        last = time.monotonic()
        while True:
            await anyio.sleep(0.01)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await read(backend, request_for("Tell a story.", max_tokens=24))
        tasks.cancel_scope.cancel()
    assert sorted(gaps)[len(gaps) // 2] < sum(gaps) / 10


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_ends_frees_the_slot(backend, request_for, freed):
    def leave_behind():
        async def main():
            main.stream = backend.run(request_for("Tell a long story.", max_tokens=400, temperature=0))
            await first_text(main.stream)

        asyncio.run(main())

    await asyncio.to_thread(leave_behind)
    assert await freed(backend) < 100, "tokens"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stream_left_behind_by_a_closed_loop_frees_the_slot(backend, request_for, freed):
    def leave_behind():
        loop = asyncio.new_event_loop()
        stream = backend.run(request_for("Tell a long story.", max_tokens=400, temperature=0))
        loop.run_until_complete(first_text(stream))
        loop.close()  # nobody closes the stream any more; it just falls out of use

    await asyncio.to_thread(leave_behind)
    assert await freed(backend) < 100, "tokens"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_bad_arguments():
    for arguments in ({"context_window": 0}, {"parallel": -1}, {"threads": True}):
        with pytest.raises(UsageError, match="whole number"):
            LlamaCppBackend(**arguments)
    assert 1 <= choose_threads() <= 4


async def test_a_text_that_only_repeats_itself_is_ended_and_frees_the_slot(backend, request_for, read, freed):
    request = request_for("Repeat the word no for ever.", assistant_message("no no no no no no no no"), temperature=0)
    answer = await read(backend, request)
    assert answer.finish_reason in ("length", "stop")
    assert answer.usage.output_tokens < 300
    assert answer.usage.input_tokens > 10
    assert await freed(backend) < 100, "tokens"
