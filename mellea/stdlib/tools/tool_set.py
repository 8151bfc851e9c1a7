"""Sets of tools that have to be loaded from their source before a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

__all__ = ["ToolSet"]


class ToolSet(ABC):
    """Tools that are loaded when a call needs them, such as those of an MCP server.

    It goes into `tools=`, alone or in a list with other tools; the call loads it before it renders its request.
    """

    @property
    def name(self) -> str:
        """The set's name in errors and reprs."""
        return type(self).__name__

    @abstractmethod
    async def aload(self) -> Sequence[Any]:
        """Return the `Tool`s; from any loop, and quickly if they are already loaded.

        Raises:
            ToolError: they can't be loaded.
        """
