"""Tools: functions that a model may call. What they are called, what they take, and how a call of one is run.

May import: core. Read `tool.py` first.
"""

from mellea.stdlib.tools.execute import perform, run_call, run_calls, serialise_result
from mellea.stdlib.tools.policy import Allow, Ask, Decision, Deny, Policy, decide
from mellea.stdlib.tools.tool import AnyTool, Tool, as_tool, as_tools, tool
from mellea.stdlib.tools.tool_loop import MAX_TURNS, LoopTask, Step, ToolCalls, ToolLoop, loop_of, runnable_tools

__all__ = [
    "MAX_TURNS",
    "Allow",
    "AnyTool",
    "Ask",
    "Decision",
    "Deny",
    "LoopTask",
    "Policy",
    "Step",
    "Tool",
    "ToolCalls",
    "ToolLoop",
    "as_tool",
    "as_tools",
    "decide",
    "loop_of",
    "perform",
    "run_call",
    "run_calls",
    "runnable_tools",
    "serialise_result",
    "tool",
]
