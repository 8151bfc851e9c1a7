"""The arguments of a prompt function as a component, which renders each one under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mellea.core.accumulator import Generation
from mellea.templates import to_text

__all__ = ["Arguments"]


@dataclass(frozen=True, slots=True)
class Arguments:
    """Named values that a prompt is about; thunks among them are awaited before it is rendered.

    Args:
        values: the values by name.
        descriptions: a short description for each value that has one.
    """

    values: Mapping[str, Any]
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> Sequence[Any]:
        """Return the values."""
        return list(self.values.values())

    def format_for_llm(self) -> str:
        """Return a line for each value; a text of several lines stands below its name."""
        return "\n".join(self._render(name, to_text(value)) for name, value in self.values.items())

    def _render(self, name: str, text: str) -> str:
        if text.startswith(f"{name}:"):  # it begins with its own name
            return f"{text.rstrip()}\n"
        description = self.descriptions.get(name)
        label = f"{name} ({description.rstrip('.')})" if description else name
        return f"{label}:\n{text}\n" if "\n" in text else f"{label}: {text}"

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text
