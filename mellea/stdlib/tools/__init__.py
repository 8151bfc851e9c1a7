"""Tools: functions that a model may call. What they are called, what they take, and how a call of one is run.

May import: core. Read `tool.py` first.
"""

from mellea.stdlib.tools.contracts import ensure, require
from mellea.stdlib.tools.execute import perform, run_call, run_calls
from mellea.stdlib.tools.returned import ToolReturn, serialise_result
from mellea.stdlib.tools.tool import AnyTool, LoadedTool, Tool, as_tool, as_tools, load_tools, loaded_tools, tool
from mellea.stdlib.tools.tool_loop import MAX_TURNS, ToolCalls, ToolLoop, tool_loop
from mellea.stdlib.tools.tool_set import ToolSet

__all__ = [
    "MAX_TURNS",
    "AnyTool",
    "LoadedTool",
    "Tool",
    "ToolCalls",
    "ToolLoop",
    "ToolReturn",
    "ToolSet",
    "as_tool",
    "as_tools",
    "ensure",
    "load_tools",
    "loaded_tools",
    "perform",
    "require",
    "run_call",
    "run_calls",
    "serialise_result",
    "tool",
    "tool_loop",
]
