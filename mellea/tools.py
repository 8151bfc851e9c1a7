"""Tools and what goes with them: conditions, results, progress."""

from mellea.core.backend import ToolExample as ToolExample
from mellea.core.events import ToolProgress as ToolProgress
from mellea.stdlib.tools import Tool as Tool
from mellea.stdlib.tools import ToolLoop as ToolLoop
from mellea.stdlib.tools import ToolReturn as ToolReturn
from mellea.stdlib.tools import ensure as ensure
from mellea.stdlib.tools import require as require
from mellea.stdlib.tools import tool as tool

__all__ = ["Tool", "ToolExample", "ToolLoop", "ToolProgress", "ToolReturn", "ensure", "require", "tool"]
