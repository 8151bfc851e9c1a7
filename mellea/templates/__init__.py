"""How components become text: one Jinja2 template for each, in `prompts/`.

May import: core. Read `render.py` first.
"""

from mellea.templates.render import fill, render, to_text

__all__ = ["fill", "render", "to_text"]
