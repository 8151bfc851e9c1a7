"""Calls made together: results in order, the first error plain, nothing left running."""

import gc
import weakref

import anyio
import pytest

from mellea.core.runtime.tasks import run_together

pytestmark = pytest.mark.anyio


async def test_results_keep_the_order_of_the_calls() -> None:
    async def after(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    assert await run_together([lambda s=s: after(s) for s in (0.02, 0.0, 0.01)]) == [0.02, 0.0, 0.01]  # type: ignore[misc]
    assert await run_together([lambda: after(0)]) == [0]
    assert await run_together([]) == []  # type: ignore[comparison-overlap]


async def test_the_first_error_ends_the_others_and_comes_out_plain() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await anyio.sleep(0.01 if number == 1 else 60)
            raise ValueError(number)
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="1"):
        await run_together([lambda n=n: work(n) for n in (3, 1, 2)])  # type: ignore[misc]
    assert sorted(ended) == [1, 2, 3]


async def test_an_error_lets_go_of_what_it_held() -> None:
    class Thing:
        pass

    async def fail(thing: Thing) -> None:
        raise ValueError("no")

    async def run() -> weakref.ref[Thing]:
        thing = Thing()
        held = weakref.ref(thing)
        with pytest.raises(ValueError, match="no"):
            await run_together([lambda: fail(thing), lambda: fail(thing)])
        return held

    held = await run()
    gc.collect()
    assert held() is None
