"""The page of an evaluation: one file of HTML without scripts, which needs no network."""

# May import: `mellea.core`, `mellea.errors` and the room around it. Read `render.py` first.

from mellea.evaluation.page.render import render_page

__all__ = ["render_page"]
