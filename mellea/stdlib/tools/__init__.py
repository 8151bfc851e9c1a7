"""Tools: functions that a model may call; their names and schemas, and how calls are run.

May import: core. Read `tool.py` first.
"""

from mellea.stdlib.tools.contracts import ensure, require
from mellea.stdlib.tools.execute import perform, run_call, run_calls
from mellea.stdlib.tools.loop_progress import LoopProgress, nested_progress
from mellea.stdlib.tools.loop_state import LoopState, Question, give_answers
from mellea.stdlib.tools.policy import Allow, Ask, Decision, Deny, Edited, Policy, decide
from mellea.stdlib.tools.returned import ToolReturn, serialise_result
from mellea.stdlib.tools.tool import AnyTool, CheckedTool, Tool, as_tool, as_tools, has_sets, load_tools, tool
from mellea.stdlib.tools.tool_choice import check_choice
from mellea.stdlib.tools.tool_loop import MAX_TURNS, LoopTask, Step, ToolCalls, ToolLoop, loop_of
from mellea.stdlib.tools.tool_set import ToolSet

__all__ = [
    "MAX_TURNS",
    "Allow",
    "AnyTool",
    "Ask",
    "CheckedTool",
    "Decision",
    "Deny",
    "Edited",
    "LoopProgress",
    "LoopState",
    "LoopTask",
    "Policy",
    "Question",
    "Step",
    "Tool",
    "ToolCalls",
    "ToolLoop",
    "ToolReturn",
    "ToolSet",
    "as_tool",
    "as_tools",
    "check_choice",
    "decide",
    "ensure",
    "give_answers",
    "has_sets",
    "load_tools",
    "loop_of",
    "nested_progress",
    "perform",
    "require",
    "run_call",
    "run_calls",
    "serialise_result",
    "tool",
]
