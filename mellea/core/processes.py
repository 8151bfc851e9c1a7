"""The name of a process, and whether it has ended: asked of the system, as one that was paused isn't dead."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

__all__ = ["has_ended", "name_process"]


def has_ended(host: str, pid: int) -> bool:
    """Whether a process has ended, as far as that can be told: of other machines, and on Windows, it can't."""
    # Another machine's process table isn't available here, and a wrong "ended" would abandon work that is still
    # running.
    if host != socket.gethostname() or sys.platform == "win32":
        return False
    try:
        # Signal 0 only checks whether the process exists.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # It exists, but belongs to another user.
        return False
    # A killed process remains until its parent waits for it, which some parents never do.
    return _read_stat(pid)[0] in ("Z", "X")


def name_process() -> str:
    """Return a name of this process that no other one has, not even one that gets its number later, where Linux tells.

    It is the host, the number, and when the process began.
    """
    pid = os.getpid()
    return f"{socket.gethostname()}/{pid}/{_read_stat(pid)[1]}"


def _read_stat(pid: int) -> tuple[str, str]:
    """Return the state of a process, and when it began in ticks since the system did; `""` where nobody says."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    # The name is in brackets and may contain spaces and brackets; field 3 is the state and field 22 the start time
    # (Linux, proc_pid_stat(5)).
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]
