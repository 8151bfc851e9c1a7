"""Responses that are kept are bounded in memory, and the oldest go first."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from mellea.core.blocks import CBlock, FileBlock, ToolOutput
from mellea.core.messages import Message
from mellea.core.serialise import to_json
from mellea.serve import server_file
from mellea.serve.ai_sdk import store as chat_store
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


async def test_a_file_is_bounded_by_rows_and_by_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found() -> list[bool]:
        return [(id,) in rows for id in map(str, range(6))]

    monkeypatch.setattr(response_store, "_LARGEST_FILE", 100_000)
    store = open_response_store(tmp_path / "store.db")
    for number in range(4):
        await store.put(str(number), Kept("chat", {}, (Message("user", "x" * 40_000),)))
    assert [await store.get(str(number)) is not None for number in range(4)] == [False, False, True, True]
    # A small one beside them leaves both where they are, and one that is too large by itself is the only one to go.
    await store.put("4", Kept("chat", {}, (Message("user", "x"),)))
    with sqlite3.connect(tmp_path / "store.db") as file:
        rows = file.execute("select id from responses").fetchall()
    assert found() == [False, False, True, True, True, False]
    monkeypatch.setattr(response_store, "_MOST", 2)
    await store.put("5", Kept("chat", {}, (Message("user", "x"),)))
    with sqlite3.connect(tmp_path / "store.db") as file:
        rows = file.execute("select id from responses").fetchall()
    assert found() == [False, False, False, False, True, True]


async def test_a_file_of_the_version_before_is_brought_up_to_date(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    with monkeypatch.context() as earlier:
        earlier.setattr(server_file, "_SCHEMA", server_file._SCHEMA[:1])
        database = server_file.open_server_file(path)
        row = ("old", "chat", '{"a": 1}', to_json([Message("user", "x")]), time.time())
        with database.write() as connection:
            connection.execute("insert into responses values (?, ?, ?, ?, ?)", row)
        database.close()
    kept = await open_response_store(path).get("old")
    assert kept is not None and kept.response == {"a": 1}
    with sqlite3.connect(path) as file:
        assert file.execute("select size from responses").fetchone() == (len(row[2]) + len(row[3]),)


async def test_runs_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(chat_store, "_MOST_WAITING", 2)
    monkeypatch.setattr(chat_store, "_LARGEST_WAITING", 1_000)
    chats = chat_store.ChatStore(tmp_path / "store.db")
    for number in range(3):
        chats.keep(f"chat {number}", chat_store.Waiting("{}", {"a": "b"}))
    assert [chats.take(f"chat {number}") is not None for number in range(3)] == [False, True, True]
    for number in range(2):
        chats.keep(f"chat {number}", chat_store.Waiting("x" * 600, {}))
    assert [chats.take(f"chat {number}") is not None for number in range(2)] == [False, True]
    chats.close()
