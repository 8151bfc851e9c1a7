"""Values that show themselves while they are being written: in Jupyter, in marimo, at a terminal.

May import: everything below it, no frontend before one is there. Read `show.py` first.
"""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.notebook.show import ashow as ashow
    from mellea.notebook.show import show as show

__all__ = ["ashow", "show"]

__getattr__ = lazily(__name__, {"ashow": "mellea.notebook.show", "show": "mellea.notebook.show"})
