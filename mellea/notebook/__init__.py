"""Values that show themselves while they are being written: in Jupyter, in marimo, at a terminal."""

# May import: everything below it, no frontend before one is there. Read `live.py` first.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.notebook.live import ashow as ashow
    from mellea.notebook.live import show as show

__all__ = ["ashow", "show"]

__getattr__ = lazily(__name__, {"ashow": "mellea.notebook.live", "show": "mellea.notebook.live"})
