"""Traces of what a program did, in memory or recorded in a file, and the extension point for observers."""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.core.observer import Observer, Span, add_observer, observe, remove_observer
from mellea.core.tracing import Trace, Tree, start

if TYPE_CHECKING:
    from mellea.telemetry.recorder import Recording as Recording
    from mellea.telemetry.recorder import record as record
    from mellea.telemetry.run_file import read_run as read_run
    from mellea.telemetry.run_file import read_runs as read_runs

__all__ = [
    "Observer",
    "Recording",
    "Span",
    "Trace",
    "Tree",
    "add_observer",
    "observe",
    "read_run",
    "read_runs",
    "record",
    "remove_observer",
    "start",
]

# A trace in memory needs no database.
__getattr__ = lazily(
    __name__,
    {
        "Recording": "mellea.telemetry.recorder",
        "read_run": "mellea.telemetry.run_file",
        "read_runs": "mellea.telemetry.run_file",
        "record": "mellea.telemetry.recorder",
    },
)
