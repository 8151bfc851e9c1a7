"""What a type checker infers of mapped rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

import mellea
from mellea.batch import AsyncRows, Row, Rows


@dataclass
class Mail:
    kind: str


@mellea.generative
def classify(text: str) -> Mail:
    """Classify a mail."""
    raise NotImplementedError


def measure(text: str) -> int:
    return len(text)


async def fetch(text: str) -> bytes:
    return text.encode()


def plain() -> None:
    rows = mellea.map(classify, ["a"], journal="run.db", budget=mellea.Budget(cost=1))
    assert_type(rows, Rows[Mail])
    assert_type(next(rows), Row[Mail])
    assert_type(next(rows).value, Mail | None)
    assert_type(mellea.map(measure, "rows.csv"), Rows[int])
    assert_type(mellea.map(fetch, ["a"]), Rows[bytes])


async def asynchronous() -> None:
    assert_type(mellea.amap(fetch, ["a"]), AsyncRows[bytes])
    async for row in mellea.amap(measure, ["a"], ordered=False):
        assert_type(row, Row[int])
