"""Random schedules of a map: delays, failures, slow readers, cuts, and going on with the journal."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from mellea.batch import Row, amap
from mellea.errors import OverloadedError
from tests.soak import examples

pytestmark = pytest.mark.anyio


class Schedule:
    """One random schedule."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.count = chance.choice([0, 1, 2, 17, 60])
        self.places = chance.choice([None, 1, 2, 9])
        self.is_ordered = chance.random() < 0.6
        self.delays = [chance.choice([0, 0, 0, 0.001, 0.004]) for _ in range(self.count)]
        self.failing = {row for row in range(self.count) if chance.random() < 0.1}
        self.passing = {row for row in range(self.count) if chance.random() < 0.05}
        self.kind = chance.choice(["list", "iterator", "async"])
        self.calls: Counter[int] = Counter()
        self.now = self.most = 0

    async def work(self, n: int) -> int:
        self.calls[n] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await anyio.sleep(self.delays[n])
            if n in self.passing and self.calls[n] == 1:
                raise OverloadedError("busy", is_retryable=True)
            if n in self.failing:
                raise LookupError(n)
            return n * n
        finally:
            self.now -= 1

    def rows(self) -> Any:
        if self.kind == "list":
            return list(range(self.count))
        return iter(range(self.count)) if self.kind == "iterator" else self.stream()

    async def stream(self) -> AsyncIterator[int]:
        for n in range(self.count):
            if self.chance.random() < 0.2:
                await anyio.sleep(0)
            yield n

    async def run(self, journal: Path, most: int | None = None) -> list[Row[Any]]:
        """Read rows, at most so many, and leave."""
        found: list[Row[Any]] = []
        rows = amap(
            self.work, self.rows(), journal=journal, concurrency=self.places, ordered=self.is_ordered, version="1"
        )
        async with rows:
            while most is None or len(found) < most:
                try:
                    found.append(await anext(rows))
                except StopAsyncIteration:
                    break
                if self.chance.random() < 0.1:
                    await anyio.sleep(0.002)
        assert self.now == 0, "nothing is left in flight"
        return found


@pytest.mark.parametrize("seed", range(examples(60)))
async def test_any_schedule_gives_each_row_once_and_asks_no_acknowledged_one_again(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mellea.batch.attempts._FIRST_PAUSE", 0.001)
    schedule = Schedule(seed)
    read = await schedule.run(tmp_path / "run.db", schedule.chance.randint(0, schedule.count))
    acknowledged = {row.index for row in read if row.error is None}
    before = schedule.calls.copy()
    whole = await schedule.run(tmp_path / "run.db")

    indices = [row.index for row in whole]
    assert sorted(indices) == list(range(schedule.count))
    assert not schedule.is_ordered or indices == sorted(indices)
    for row in whole:
        if row.index in schedule.failing:
            assert isinstance(row.error, LookupError)
        else:
            assert (row.value, row.error) == (row.index**2, None)
    assert all(schedule.calls[index] == before[index] for index in acknowledged), "no acknowledged call is repeated"
    assert all(row.cached for row in whole if row.index in acknowledged)
    assert schedule.places is None or schedule.most <= schedule.places
