"""For random scripts: the chunks of a stream are the answer of a run, one is final, and nothing of a call shows."""

from __future__ import annotations

import pytest

from benchmarks.campaigns.agent_runs import try_seed
from tests.soak import examples

pytestmark = pytest.mark.anyio


async def test_the_chunks_of_every_stream_are_the_answer_of_the_run() -> None:
    for seed in range(examples(200)):
        await try_seed(seed)
