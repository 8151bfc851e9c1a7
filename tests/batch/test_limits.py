"""Rate limits: spacing, sharing, what headers say, and what a refusal does."""

from __future__ import annotations

import heapq
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import mellea
from mellea.backends.anthropic import AnthropicBackend
from mellea.backends.openai import OpenAIBackend
from mellea.batch import Journal, RateLimits
from mellea.batch.limits import Pace
from mellea.batch.places import Places
from mellea.errors import RateLimitError
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

ANSWER = (
    b'data: {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, '
    b'"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)


class Clock:
    """A clock that moves when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        self.ahead = 5e8  # of the wall clock
        monkeypatch.setattr("mellea.batch.limits.time", self)

    def time(self) -> float:
        return self.now + self.ahead

    def monotonic(self) -> float:
        return self.now


class Bucket:
    """What a server enforces in a minute."""

    def __init__(self, limit: float, level: float, now: float) -> None:
        self.limit, self.level, self.most, self.filled = limit, level, level, now

    def take(self, amount: float, now: float) -> bool:
        self.level = min(self.most, self.level + (now - self.filled) * self.limit / 60)
        self.filled = now
        if self.level < amount:
            return False
        self.level -= amount
        return True


@pytest.mark.parametrize(("requests", "tokens"), [(3000, None), (None, 60_000), (1200, 60_000), (60, None)])
@pytest.mark.parametrize("seed", range(3))
async def test_processes_with_one_journal_stay_within_the_limit_and_use_it_up(
    seed: int, requests: float | None, tokens: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, chance = Clock(monkeypatch), random.Random(seed)
    backend = ScriptedBackend("x")
    journals = [Journal(tmp_path / "run.db") for _ in range(4)]

    def make_call(journal: Journal) -> Any:
        async def call(function: Any) -> Any:
            return function(journal)

        return call

    limits = RateLimits(requests, tokens)
    paces = [Pace(backend, limits, make_call(journal)) for journal in journals]
    seconds = 60.0
    allowed = min(requests or 1e9, (tokens or 1e9) / 40) * seconds / 60
    enforced = [Bucket(limit, limit / 60, clock.now) if limit is not None else None for limit in (requests, tokens)]
    queue = [(clock.now, number) for number in range(4)]
    asked = refused = 0
    began = clock.now
    while queue[0][0] < began + seconds:
        clock.now, number = heapq.heappop(queue)
        pace = paces[number]
        at = max(await pace._find_next_moment(), clock.now) + chance.uniform(0, 0.01)  # the network
        if at >= began + seconds:
            heapq.heappush(queue, (at, number))
            continue
        used = chance.randint(20, 60)
        asked += 1
        fits = [bucket is None or bucket.take(amount, at) for bucket, amount in zip(enforced, (1, used), strict=True)]
        refused += not all(fits)
        pace.settle(pace._tokens, used)
        heapq.heappush(queue, (at, number))
    assert refused <= max(0.02 * asked, 2)
    assert asked >= 0.95 * allowed - 2


async def test_a_clock_that_is_set_back_delays_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    journal = Journal(tmp_path / "run.db")

    async def call_journal(function: Any) -> Any:
        return function(journal)

    first, second = (Pace(ScriptedBackend("x"), RateLimits(requests=60), call_journal) for _ in range(2))
    for pace in (first, second, first):
        clock.now = max(clock.now, await pace._find_next_moment())
    clock.ahead -= 3600
    for pace in (second, first):
        wait = await pace._find_next_moment() - clock.now
        assert 0.9 < wait < 3, "a second, and what the clock had gone since the last entry"
        clock.now += wait


@pytest.mark.parametrize("requests", [1e300, 1e12, 10**18])
def test_a_limit_without_meaning_limits_nothing(requests: float) -> None:
    session = mellea.MelleaSession(ScriptedBackend("x"))
    rows = list(mellea.map(session.instruct, ["a", "b"], limits=RateLimits(requests)))
    assert [row.error for row in rows] == [None, None]


async def test_a_backend_says_what_the_last_headers_said() -> None:
    headers = {
        "content-type": "text/event-stream",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-remaining-tokens": "oops",
    }
    statuses = iter([429, 200])

    def answer(request: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return httpx.Response(status, headers={**headers, "retry-after-ms": "10"} if status == 429 else headers,
                              content=ANSWER if status == 200 else b"{}")  # fmt: skip

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        backend = OpenAIBackend("m", base_url="http://test/v1", api_key="k", client=client)
        assert backend.rate_limits is None
        await mellea.MelleaSession(backend).ainstruct("x")
    state = backend.rate_limits
    assert state is not None
    assert (state.requests, state.tokens, state.remaining_requests, state.remaining_tokens) == (500, 30000, 499, None)
    assert (state.refusals, state.retry_after) == (1, 0.01)
    assert backend.rate_limits is state, "it is read once"


def test_anthropic_has_headers_of_its_own() -> None:
    backend = AnthropicBackend("claude-sonnet-4-5", api_key="k")
    backend._limits.headers = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-tokens-limit": "9"}
    assert backend.rate_limits is not None
    assert (backend.rate_limits.requests, backend.rate_limits.tokens) == (50, 9)


async def test_a_refusal_holds_everybody() -> None:
    backend = ScriptedBackend(RateLimitError("slow", retry_after=0.3, is_retryable=True), "x")
    began = time.monotonic()
    rows = [row async for row in mellea.amap(mellea.MelleaSession(backend).instruct, ["a", "b"], concurrency=1)]
    assert [row.error for row in rows] == [None, None]
    assert time.monotonic() - began >= 0.3


def test_places_grow_while_that_helps_and_shrink_when_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("mellea.batch.places.time.monotonic", lambda: now)
    places = Places(None)
    for _ in range(40):  # a server that takes 100 at once in 0.1 s each, and lets the others wait
        latency = 0.1 * max(1.0, places.limit / 100)
        for _ in range(places.limit):
            now += latency / places.limit
            places.note_answer(latency)
    assert 60 <= places.limit <= 140
    before = places.limit
    now += 10
    places.note_refusal()
    places.note_refusal()
    assert places.limit == before // 2, "refused together, halved once"


def test_a_fixed_number_of_places_is_where_it_begins_and_ends() -> None:
    places = Places(5)
    assert places.limit == places.most == 5
    for _ in range(100):
        places.note_answer(0.1)
    assert places.limit == 5
