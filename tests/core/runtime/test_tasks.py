"""The user's callables, whatever their colour."""

import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from mellea.core.runtime.tasks import find_outcome

pytestmark = pytest.mark.anyio


async def plainly(word: str) -> str:
    assert threading.current_thread() is threading.main_thread()
    return word


def in_a_thread(word: str) -> str:
    assert threading.current_thread() is not threading.main_thread()
    return word


def later(word: str) -> Awaitable[str]:
    assert threading.current_thread() is not threading.main_thread()
    return plainly(word)


class Callable:
    async def __call__(self, word: str) -> str:
        return await plainly(word)


@pytest.mark.parametrize("function", [plainly, in_a_thread, later, Callable(), lambda word: word])
async def test_sync_functions_run_in_threads_and_async_ones_on_the_loop(function: Any) -> None:
    assert await find_outcome(function, "x") == "x"
