"""Tools: functions that a model may call. What they are called, what they take, and how a call of one is run.

May import: core. Read `tool.py` first.
"""

from mellea.stdlib.tools.execute import run_call, run_calls
from mellea.stdlib.tools.tool import Tool, as_tool, tool

__all__ = ["Tool", "as_tool", "run_call", "run_calls", "tool"]
