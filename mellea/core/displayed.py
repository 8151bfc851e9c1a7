"""Displays values in notebooks: IPython's and marimo's protocols, written once.

A class provides a `Card` (`card.py`) of text, tables and a state, never HTML. Nothing is imported before a notebook
asks for it, and displaying a value neither waits nor starts anything.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mellea.core.card import Card

__all__ = ["Displayed"]


class Displayed:
    """Base class of values that notebooks display."""

    __slots__ = ()

    @abstractmethod
    def _card_(self) -> Card:
        """Return its current card, without waiting and without starting anything."""

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Return it as text, HTML and Markdown, of which IPython's frontends choose."""
        from mellea.core.card import draw_bundle  # lazy: only a frontend needs it

        return draw_bundle(self._card_())

    def _mime_(self) -> tuple[str, str]:
        """Return it as HTML, for marimo."""
        return "text/html", self._repr_mimebundle_()["text/html"]
