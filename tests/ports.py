"""Ports of this machine that are kept for somebody, so that no other test's server gets them meanwhile."""

from __future__ import annotations

import socket

__all__ = ["Port"]


class Port:
    """A port that nobody listens at; a server that says which one it wants may still do so.

    As long as it is held, the system gives it to nobody who asks for any port, and it isn't the near end of a
    connection that somebody tries to make to it.
    """

    def __init__(self) -> None:
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # servers set it, too
        self._place.bind(("127.0.0.1", 0))
        self.number = int(self._place.getsockname()[1])

    def release(self) -> None:
        """Let the system give it to others."""
        self._place.close()
