"""The simplest component: named parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.component import TemplateRepresentation
from mellea.errors import UsageError

__all__ = ["SimpleComponent"]


class SimpleComponent:
    """Named parts that are rendered one after the other, each after its name.

    Args:
        parts: any values: texts, thunks, other components; the rest is rendered as JSON.

    Raises:
        UsageError: there is no part.
    """

    __slots__ = ("_parts",)

    def __init__(self, **parts: Any) -> None:
        if not parts:
            raise UsageError("SimpleComponent takes at least one part, as in SimpleComponent(question='Why?')")
        self._parts = parts

    def parts(self) -> Sequence[Any]:
        """Return the values of the parts."""
        return list(self._parts.values())

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the template and the parts."""
        return TemplateRepresentation("SimpleComponent", {"parts": self._parts})

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text

    def __repr__(self) -> str:
        return f"SimpleComponent({', '.join(f'{name}={value!r}' for name, value in self._parts.items())})"
