"""Sets of tools that aren't known before a call: where they come from has to be asked first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

__all__ = ["ToolSet"]


class ToolSet(ABC):
    """Tools that are loaded when a call needs them, such as those of an MCP server.

    It is in `tools=`, alone or in a list with other tools; the call loads it before it renders its request.
    """

    @property
    def name(self) -> str:
        """What errors and reprs call the set."""
        return type(self).__name__

    @abstractmethod
    async def aload(self) -> Sequence[Any]:
        """Return the `Tool`s; from any loop, and cheaply where they are known already.

        Raises:
            ToolError: they can't be had.
        """
