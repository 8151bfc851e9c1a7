"""The name of a process, and whether it has ended: asked of the system, as one that was paused isn't dead."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

__all__ = ["has_ended", "name_process"]


def has_ended(host: str, pid: int) -> bool:
    """Whether a process has ended, as far as that can be told: of other machines, and on Windows, it can't."""
    # The process table of another machine isn't here; a wrong "ended" would give up what still goes on.
    if host != socket.gethostname() or sys.platform == "win32":
        return False
    try:
        # Signal 0 only asks whether the process is there.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # It is there, and somebody else's.
        return False
    # One that was killed is there until its parent asks what became of it, which some parents never do.
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
    # The name stands in brackets and may hold spaces and brackets; the state is field 3, the start field 22 (Linux,
    # proc_pid_stat(5)).
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]
