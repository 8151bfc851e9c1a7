"""What the package `mcp` logs about our connections: without its tracebacks, since our own errors say what failed.

Rules:

- Only records of our connections are touched, which are recognised by their context; a program that uses the package
  itself gets its log as it is.
- While a connection is being opened, a record with a traceback goes to the logger `mellea` at DEBUG: if it matters,
  opening fails, and the error says why. Afterwards the package logs one line, and the traceback is at DEBUG.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["quiet_package"]

_log = logging.getLogger("mellea")

_ROOMS = ("client", "mcp.client", "mcp.shared")
"""The package's loggers for clients; that of sessions is called just `client`."""

_is_open: ContextVar[Callable[[], bool] | None] = ContextVar("mellea_mcp_connection", default=None)
"""Whether the connection that this task belongs to is open; `None` elsewhere."""


def quiet_package(is_open: Callable[[], bool]) -> None:
    """Keep the package's tracebacks out of the log, for a connection that the current task opens.

    Args:
        is_open: whether it is open by now.
    """
    _is_open.set(is_open)
    for name in list(logging.root.manager.loggerDict):
        if name in _ROOMS or name.startswith(tuple(f"{room}." for room in _ROOMS[1:])):
            logging.getLogger(name).addFilter(_filter)  # a second time it does nothing


def _filter(record: logging.LogRecord) -> bool:
    is_open = _is_open.get()
    if is_open is None or not record.exc_info:
        return True
    _log.debug("the package mcp: %s", record.getMessage(), exc_info=record.exc_info)
    error = record.exc_info[1]
    record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}", ()
    record.exc_info = record.exc_text = None
    return is_open()
