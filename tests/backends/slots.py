"""What an engine still does after it was told to stop, counted in tokens: a busy machine makes no more of them."""

from __future__ import annotations

import json
import time
import urllib.request

import anyio
import anyio.to_thread
import pytest

from mellea.backends.llama_cpp.engine import Engine

__all__ = ["tokens_until_free"]

SECONDS = 60.0


async def tokens_until_free(engine: Engine) -> int:
    """Wait until no slot is busy any more, and return how many tokens were read and written meanwhile."""
    end = time.monotonic() + SECONDS
    last = first = await anyio.to_thread.run_sync(_busy, engine)
    while now := await anyio.to_thread.run_sync(_busy, engine):
        if time.monotonic() > end:
            pytest.fail(f"a slot is still busy after {SECONDS:g} s")
        last = {**last, **now}
        await anyio.sleep(0.005)
    return sum(tokens - first.get(slot, 0) for slot, tokens in last.items())


def _busy(engine: Engine) -> dict[int, int]:
    """Return the tokens that each busy slot has read and written so far; the engine itself is asked."""
    request = urllib.request.Request(f"{engine.address}/slots", headers={"Authorization": f"Bearer {engine.api_key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        slots = [slot for slot in json.load(response) if slot["is_processing"]]
    return {slot["id"]: slot["n_prompt_tokens_processed"] + slot["next_token"][0]["n_decoded"] for slot in slots}
