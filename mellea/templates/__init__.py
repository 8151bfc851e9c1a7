"""How components become messages and text: one Jinja2 template each, in `prompts/`, in users' packages and folders."""

# May import: core. Read `render.py` first.

from mellea.templates.render import (
    Rendered,
    check_variables,
    fill,
    fill_text,
    find,
    render,
    render_blocks,
    render_messages,
    to_text,
    warn_of_placeholder,
)
from mellea.templates.sources import add_folder, add_package, is_verbatim

__all__ = [
    "Rendered",
    "add_folder",
    "add_package",
    "check_variables",
    "fill",
    "fill_text",
    "find",
    "is_verbatim",
    "render",
    "render_blocks",
    "render_messages",
    "to_text",
    "warn_of_placeholder",
]
