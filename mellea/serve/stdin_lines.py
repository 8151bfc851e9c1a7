"""The lines of standard input, for a server that has to stop while it waits for input.

A thread that is blocked in a read can't be cancelled, and Python waits for it at the end of the program. So where
`select` supports pipes and terminals (everywhere but on Windows), the thread also waits for a second pipe, which wakes
it.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

__all__ = ["StdinLines", "claim_stdin"]

_STDIN = 0
_BYTES = 65_536


class StdinLines:
    """Asynchronously iterates the lines of a file descriptor, as text; a cancelled wait leaves no thread behind."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._woken, self._wake = os.pipe()

    async def __aiter__(self) -> AsyncIterator[str]:
        begun: list[bytes] = []
        while chunk := await self._read():
            *ends, last = chunk.split(b"\n")
            for end in ends:
                yield b"".join([*begun, end]).decode("utf-8", "replace")
                begun.clear()
            begun.append(last)
        if rest := b"".join(begun):
            yield rest.decode("utf-8", "replace")

    async def _read(self) -> bytes:
        try:
            return await anyio.to_thread.run_sync(self._wait, abandon_on_cancel=True)
        except BaseException:
            os.write(self._wake, b"x")
            raise

    def _wait(self) -> bytes:
        if sys.platform != "win32":
            ready, _, _ = select.select([self._descriptor, self._woken], [], [])
            if self._woken in ready:
                return b""
        return os.read(self._descriptor, _BYTES)


@contextmanager
def claim_stdin() -> Iterator[StdinLines]:
    """Yield the lines of standard input; for all other readers, including child processes, it is at its end.

    Raises:
        OSError: there is no standard input.
    """
    own = os.dup(_STDIN)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), _STDIN)
    try:
        yield StdinLines(own)
    finally:
        # The copy and the pipe stay open: the thread may be about to use them, and their numbers must not be reused
        # before that. There is only one set per server.
        os.dup2(own, _STDIN)
