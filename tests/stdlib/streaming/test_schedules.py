"""Streams under strategies in many orders of what happens: drawn from seeds, read, left, cancelled, on both loops."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Requirement
from mellea.core.events import Usage, UsageEvent
from mellea.errors import MelleaError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.sampling import (
    BestOfNStrategy,
    MajorityVotingStrategy,
    MultiTurnStrategy,
    RejectionSamplingStrategy,
    RepairTemplateStrategy,
)
from mellea.testing import Pause, ScriptedBackend

pytestmark = pytest.mark.anyio

SEEDS = range(30)
WORDS = ["fine ", "bad ", "so ", "it. ", "goes. ", "Now", "\n", "[1, ", "2]"]


def script(dice: random.Random) -> list[Any]:
    steps: list[Any] = []
    for _ in range(dice.randint(0, 7)):
        word = dice.choice(WORDS)
        cut = dice.randint(0, len(word))
        steps += [word[:cut], Pause(dice.choice([0, 0, 0.002])), word[cut:]]
    if dice.random() < 0.5:
        steps.insert(dice.randint(0, len(steps)), UsageEvent(Usage(dice.randint(1, 9), 1)))
    return [*steps, *dice.choice([[], [], [], [], [ConnectionError("gone")], [Pause(float("inf"))]])]


def strategies(dice: random.Random, *, is_sequential: bool) -> Any:
    budget, at_once = dice.randint(1, 4), dice.randint(1, 3)
    sequential = [kind(loop_budget=budget) for kind in (RepairTemplateStrategy, MultiTurnStrategy)]
    others = [
        RejectionSamplingStrategy(loop_budget=budget, concurrency_budget=at_once),
        BestOfNStrategy(budget, concurrency_budget=at_once),
        MajorityVotingStrategy(budget, concurrency_budget=at_once),
    ]
    return dice.choice([*sequential, RejectionSamplingStrategy(loop_budget=budget), *([] if is_sequential else others)])


def requirement(dice: random.Random, scope: Any) -> Requirement:
    async def slow(chunk: str) -> bool:
        await anyio.sleep(dice.choice([0, 0.002]))
        return "bad" not in chunk

    return Requirement("r", stream_validation_fn=dice.choice([slow, lambda chunk: "bad" not in chunk]), scope=scope)


def run_of(stream: Any) -> Any:
    return stream._ensure_started()._run


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_comes_out_stays_and_nothing_is_left_open(seed: int) -> None:
    dice = random.Random(seed)
    backend = ScriptedBackend(*[script(dice) for _ in range(6)])
    m = mellea.start_session(backend, ctx=dice.choice([None, ChatContext()]))
    scope: Any = dice.choice(["word", "sentence", "line", "paragraph"])
    release = dice.choice([None, scope])
    stream = m.astream(
        "q",
        requirements=[requirement(dice, scope)],
        strategy=strategies(dice, is_sequential=release is not None),
        release=release,
        strict=dice.random() < 0.3,
    )
    ending = dice.choice(["read", "read", "cancel", "break", "time out"])
    outs: list[str] = []

    async def reader(number: int) -> None:
        outs.append("")
        try:
            async for text in stream:
                outs[number] += text
                if ending == "break" and dice.random() < 0.3:
                    return
        except MelleaError:
            assert run_of(stream).error is not None

    with anyio.fail_after(10), anyio.move_on_after(dice.random() * 0.02 if ending == "time out" else 0.5):
        async with stream, anyio.create_task_group() as group:
            for number in range(dice.randint(1, 3)):
                group.start_soon(reader, number)
            if ending == "cancel":
                await anyio.sleep(dice.random() * 0.02)
                await stream.aclose()
    assert all(stream.text.startswith(out) for out in outs)
    run = run_of(stream)
    if run.error is None:
        assert stream.result.value == stream.text
        assert all(out == stream.text for out in outs) or ending in ("break", "time out")
        assert "bad" not in stream.text or not stream.result.success
    elif run.error.partial:
        assert all(run.error.partial.startswith(out) for out in outs)
    backend.assert_closed()
    assert run.is_closed
