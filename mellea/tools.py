"""Tools and everything around them: conditions, results, progress, policies, answers of people, MCP servers."""

from mellea.core.backend import ToolExample as ToolExample
from mellea.core.events import ToolProgress as ToolProgress
from mellea.stdlib.agents import Limits as Limits
from mellea.stdlib.agents import Memory as Memory
from mellea.stdlib.tools import Allow as Allow
from mellea.stdlib.tools import Ask as Ask
from mellea.stdlib.tools import Deny as Deny
from mellea.stdlib.tools import Edited as Edited
from mellea.stdlib.tools import Tool as Tool
from mellea.stdlib.tools import ToolLoop as ToolLoop
from mellea.stdlib.tools import ToolReturn as ToolReturn
from mellea.stdlib.tools import ToolSet as ToolSet
from mellea.stdlib.tools import ensure as ensure
from mellea.stdlib.tools import require as require
from mellea.stdlib.tools import tool as tool
from mellea.stdlib.tools.mcp import mcp as mcp

__all__ = [
    "Allow",
    "Ask",
    "Deny",
    "Edited",
    "Limits",
    "Memory",
    "Tool",
    "ToolExample",
    "ToolLoop",
    "ToolProgress",
    "ToolReturn",
    "ToolSet",
    "ensure",
    "mcp",
    "require",
    "tool",
]
