"""Traces of what a program did, in memory or recorded in a file, and the extension point for observers."""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.core.observer import Observer, Span, add_observer, observe, remove_observer
from mellea.core.tracing import Trace, Tree, start

if TYPE_CHECKING:
    from mellea.telemetry.page import PageServer as PageServer
    from mellea.telemetry.page import render_page as render_page
    from mellea.telemetry.page import render_trace as render_trace
    from mellea.telemetry.page import serve_page as serve_page
    from mellea.telemetry.recorder import Recording as Recording
    from mellea.telemetry.recorder import record as record
    from mellea.telemetry.run_file import read_run as read_run
    from mellea.telemetry.run_file import read_runs as read_runs

__all__ = [
    "Observer",
    "PageServer",
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
    "render_page",
    "render_trace",
    "serve_page",
    "start",
]

# A trace in memory needs no database.
__getattr__ = lazily(
    __name__,
    {
        "PageServer": "mellea.telemetry.page",
        "Recording": "mellea.telemetry.recorder",
        "read_run": "mellea.telemetry.run_file",
        "read_runs": "mellea.telemetry.run_file",
        "record": "mellea.telemetry.recorder",
        "render_page": "mellea.telemetry.page",
        "render_trace": "mellea.telemetry.page",
        "serve_page": "mellea.telemetry.page",
    },
)
