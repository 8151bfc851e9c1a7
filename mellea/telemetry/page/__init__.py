"""The page of a run: one file of HTML that shows what a program did, from a file or from a server on this machine."""

# May import: `mellea.core`, `mellea.errors` and `mellea.telemetry`'s record. Read `render.py` first, then `page.html`;
# the files in `scripts` are one script in the page.

from mellea.telemetry.page.render import render_page, render_trace
from mellea.telemetry.page.server import PageServer, serve_page

__all__ = ["PageServer", "render_page", "render_trace", "serve_page"]
