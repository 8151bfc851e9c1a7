"""Responses that are kept are bounded in memory, and the oldest go first."""

from __future__ import annotations

import pytest

from mellea.core.blocks import CBlock, FileBlock, ToolOutput
from mellea.core.messages import Message
from mellea.serve.openai import response_store
from mellea.serve.openai.response_store import Kept, open_response_store

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "block",
    [
        CBlock("x" * 40_000),
        FileBlock(media_type="application/pdf", data=b"x" * 40_000),
        ToolOutput("c1", "read", "x" * 40_000),
    ],
)
async def test_large_responses_leave_memory_before_many_are_kept(
    monkeypatch: pytest.MonkeyPatch, block: CBlock | FileBlock | ToolOutput
) -> None:
    monkeypatch.setattr(response_store, "_LARGEST_MEMORY", 100_000)
    store = open_response_store()
    kept = Kept("chat", {}, (Message("tool" if isinstance(block, ToolOutput) else "user", [block]),))
    for number in range(4):
        await store.put(str(number), kept)
    assert [await store.get(str(number)) is not None for number in range(4)] == [False, False, True, True]
    assert [await store.delete("3"), await store.delete("3")] == [True, False]
    await store.put("4", kept)
    assert await store.get("2") is not None
