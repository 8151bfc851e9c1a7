"""Stores responses, so that later requests can continue them by id.

In memory for one process, or in an SQLite file for several. Both hold a bounded number and size, for a bounded time.
"""

from __future__ import annotations

import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mellea.core.blocks import FileBlock, ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.serialise import from_json, to_json
from mellea.serve.server_file import drop_oldest, open_server_file

__all__ = ["Kept", "ResponseStore", "open_response_store"]

_MOST = 10_000
_MOST_IN_MEMORY = 1_000
_LARGEST_MEMORY = 250_000_000
"""Characters and bytes of the responses that are kept in memory."""

_LARGEST_FILE = 2**30
"""The same of those in a file."""

_KEEP_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored response.

    Args:
        model: the id of the model.
        response: the response as it was sent.
        messages: the whole conversation, the answer included.
    """

    model: str
    response: dict[str, Any]
    messages: tuple[Message, ...]


class ResponseStore(ABC):
    """Stores responses; `open_response_store` makes one."""

    @abstractmethod
    async def put(self, id: str, kept: Kept) -> None:
        """Store a response."""

    @abstractmethod
    async def get(self, id: str) -> Kept | None:
        """Return a response, `None` if it isn't stored any more."""

    @abstractmethod
    async def delete(self, id: str) -> bool:
        """Delete a response; returns whether it was stored."""


def open_response_store(path: str | os.PathLike[str] | None = None, *, seconds: float = _KEEP_SECONDS) -> ResponseStore:
    """Return a store of responses.

    Args:
        path: the file of the server; without one they are stored in memory.
        seconds: how long they are kept.
    """
    return _InMemory(seconds) if path is None else _InFile(path, seconds)


class _InMemory(ResponseStore):
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[str, tuple[float, int, Kept]] = OrderedDict()
        self._size = 0  # of everything that is kept
        self._lock = threading.Lock()  # an application may be served on several loops

    async def put(self, id: str, kept: Kept) -> None:
        size = _measure(kept)
        with self._lock:
            self._kept[id] = (time.time(), size, kept)
            self._size += size
            while len(self._kept) > _MOST_IN_MEMORY or self._size > _LARGEST_MEMORY:
                _, (_, dropped, _) = self._kept.popitem(last=False)
                self._size -= dropped

    async def get(self, id: str) -> Kept | None:
        with self._lock:
            at, _, kept = self._kept.get(id, (0.0, 0, None))
        return kept if at > time.time() - self._seconds else None

    async def delete(self, id: str) -> bool:
        with self._lock:
            _, size, kept = self._kept.pop(id, (0.0, 0, None))
            self._size -= size
        return kept is not None


class _InFile(ResponseStore):
    def __init__(self, path: str | os.PathLike[str], seconds: float) -> None:
        self._seconds = seconds
        self._database = open_server_file(path)

    async def put(self, id: str, kept: Kept) -> None:
        await run_in_thread(self._write, id, kept)

    async def get(self, id: str) -> Kept | None:
        return await run_in_thread(self._read, id)

    async def delete(self, id: str) -> bool:
        return await run_in_thread(self._remove, id)

    def _write(self, id: str, kept: Kept) -> None:
        now = time.time()
        response, messages = json.dumps(kept.response), to_json(list(kept.messages))
        row = (id, kept.model, response, messages, now, len(response) + len(messages))
        with self._database.write() as connection:
            connection.execute("insert or replace into responses values (?, ?, ?, ?, ?, ?)", row)
            # Cleaned up at each write, which is rarer than reading, so no separate task is needed.
            connection.execute("delete from responses where kept < ?", (now - self._seconds,))
            drop_oldest(connection, "responses", "kept", _MOST, _LARGEST_FILE)

    def _read(self, id: str) -> Kept | None:
        # The age is checked here as well, since rows are only deleted at writes.
        query = "select model, response, messages from responses where id = ? and kept > ?"
        with self._database.read() as connection:
            row = connection.execute(query, (id, time.time() - self._seconds)).fetchone()
        return None if row is None else Kept(row[0], json.loads(row[1]), _load(row[2]))

    def _remove(self, id: str) -> bool:
        with self._database.write() as connection:
            return connection.execute("delete from responses where id = ?", (id,)).rowcount > 0


def _measure(kept: Kept) -> int:
    """Estimate a response's memory, in characters and bytes; shared parts count for each."""
    blocks = [block for message in kept.messages for block in message.blocks]
    return 1_000 + sum(map(_measure_block, blocks))


def _measure_block(block: Any) -> int:
    match block:
        case FileBlock():
            return len(block.data or b"")
        case ToolOutput():
            return sum(map(_measure_block, block.parts))
        case ToolCall():
            return len(block.raw_args)
        case _:
            return len(getattr(block, "value", ""))


def _load(text: str) -> tuple[Message, ...]:
    messages: Sequence[Message] = from_json(text, Message)
    return tuple(messages)
