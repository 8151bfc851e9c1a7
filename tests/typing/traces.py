"""What the decorator of traces keeps of a function's type; this file is checked and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import mellea


@mellea.trace
def plain(city: str, days: int = 1) -> str:
    return city * days


@mellea.trace(name="parts")
async def parts(city: str) -> AsyncIterator[str]:
    yield city


@mellea.trace
def numbers() -> Iterator[int]:
    yield 1


@mellea.trace
@mellea.generative
def described(place: str) -> str:
    """Describe the place."""
    raise NotImplementedError


assert_type(plain("Rome"), str)
assert_type(described("Rome"), str)
assert_type(described.stream("Rome").output, str)
assert_type(parts("Rome"), AsyncIterator[str])
assert_type(next(numbers()), int)

with mellea.traces.start("t") as t:
    assert_type(t.cost, float | None)
    assert_type(str(t.tree()), str)

m = mellea.start_session()
assert_type(m.instruct("x").cost, float | None)
assert_type(m.cost, float | None)
