import threading
import time

import anyio
import anyio.to_thread
import pytest

from mellea.backends.llama_cpp.call import EngineCall

pytestmark = pytest.mark.anyio


async def test_all_chunks_that_have_come_are_taken_at_once():
    call = EngineCall({})
    for number in range(3):
        assert call.put({"n": number}) is False
    assert await call.take(1) == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_a_reader_that_sleeps_is_woken_from_another_thread():
    call = EngineCall({})
    threading.Timer(0.1, call.put, [{"n": 1}]).start()
    started = time.monotonic()
    assert await call.take(300) == [{"n": 1}]
    assert time.monotonic() - started < 60


async def test_a_wait_for_nothing_times_out():
    assert await EngineCall({}).take(0.05) == []


async def test_the_end_wakes_and_keeps_what_came_before():
    call = EngineCall({})
    call.put({"n": 1})
    error = ValueError("x")
    await anyio.to_thread.run_sync(call.finish, error)
    assert await call.take(5) == [{"n": 1}]
    assert await call.take(5) == []
    assert (call.is_done, call.error) == (True, error)


async def test_a_cancelled_call_takes_nothing_more():
    call = EngineCall({})
    call.cancel()
    assert call.put({"n": 1}) is True
    assert await call.take(0.01) == []


async def test_waiting_for_the_end_is_bounded():
    call = EngineCall({})
    started = time.monotonic()
    await call.wait_done(0.1)
    assert 0.05 < time.monotonic() - started < 60
    threading.Timer(0.1, call.finish).start()
    await call.wait_done(30)
    assert call.is_done
    await call.wait_done(30)


async def test_a_late_chunk_is_not_taken_for_the_end():
    call = EngineCall({})
    threading.Timer(0.05, call.put, [{"n": 1}]).start()
    threading.Timer(0.2, call.finish).start()
    await call.wait_done(30)
    assert call.is_done


async def test_the_reason_of_a_cancel_is_the_error():
    call = EngineCall({})
    call.cancel(error := ValueError("unloaded"))
    call.finish()
    assert call.error is error
