"""For random scripts: the chunks of a stream are the answer of a run, one is final, and nothing of a call shows."""

from __future__ import annotations

import pytest
from anyio import to_thread

from tests.soak import examples
from tests.stdlib.agents.random_runs import RandomRun, check_run, run_async, run_plainly

pytestmark = pytest.mark.anyio


async def test_the_chunks_of_every_stream_are_the_answer_of_the_run() -> None:
    for seed in range(examples(150)):
        random_run = RandomRun(seed)
        found = await run_async(random_run)
        live = found.pop("live")
        found["stream"] = await to_thread.run_sync(run_plainly, random_run)
        try:
            check_run(random_run, found, live)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {random_run!r}")
            raise
