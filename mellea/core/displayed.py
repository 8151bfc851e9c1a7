"""Values that show themselves in a notebook: IPython's and marimo's protocols, written once.

A class gives a `Card` of itself (`card.py`), which is text, tables and a state, and never HTML. Nothing is imported
before a notebook asks, and showing a value neither waits nor starts anything.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mellea.core.card import Card

__all__ = ["Displayed"]


class Displayed:
    """Base of what shows itself."""

    __slots__ = ()

    @abstractmethod
    def _card_(self) -> Card:
        """Return what there is to see of it now: without waiting, and without starting anything."""

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Return it as text, HTML and Markdown, for IPython's frontends; they leave out what they don't want."""
        from mellea.core.card import draw_bundle  # lazy: only a frontend asks

        return draw_bundle(self._card_())

    def _mime_(self) -> tuple[str, str]:
        """Return it as HTML, for marimo."""
        return "text/html", self._repr_mimebundle_()["text/html"]
