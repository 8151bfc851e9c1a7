"""Tools: functions that a model may call; their names and schemas, and how calls are run.

May import: core. Read `tool.py` first.
"""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.stdlib.tools.tool import AnyTool, Tool, as_tool, as_tools, tool
from mellea.stdlib.tools.tool_loop import MAX_TURNS, LoopTask, Step, ToolCalls, ToolLoop, loop_of

if TYPE_CHECKING:
    from mellea.stdlib.tools.contracts import ensure as ensure
    from mellea.stdlib.tools.contracts import require as require
    from mellea.stdlib.tools.execute import perform as perform
    from mellea.stdlib.tools.execute import run_call as run_call
    from mellea.stdlib.tools.execute import run_calls as run_calls
    from mellea.stdlib.tools.policy import Allow as Allow
    from mellea.stdlib.tools.policy import Ask as Ask
    from mellea.stdlib.tools.policy import Decision as Decision
    from mellea.stdlib.tools.policy import Deny as Deny
    from mellea.stdlib.tools.policy import Policy as Policy
    from mellea.stdlib.tools.policy import decide as decide
    from mellea.stdlib.tools.returned import ToolReturn as ToolReturn
    from mellea.stdlib.tools.returned import serialise_result as serialise_result

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
    "ToolReturn",
    "as_tool",
    "as_tools",
    "decide",
    "ensure",
    "loop_of",
    "perform",
    "require",
    "run_call",
    "run_calls",
    "serialise_result",
    "tool",
]

__getattr__ = lazily(
    __name__,
    {
        "Allow": "mellea.stdlib.tools.policy",
        "Ask": "mellea.stdlib.tools.policy",
        "Decision": "mellea.stdlib.tools.policy",
        "Deny": "mellea.stdlib.tools.policy",
        "Policy": "mellea.stdlib.tools.policy",
        "ToolReturn": "mellea.stdlib.tools.returned",
        "decide": "mellea.stdlib.tools.policy",
        "ensure": "mellea.stdlib.tools.contracts",
        "perform": "mellea.stdlib.tools.execute",
        "require": "mellea.stdlib.tools.contracts",
        "run_call": "mellea.stdlib.tools.execute",
        "run_calls": "mellea.stdlib.tools.execute",
        "serialise_result": "mellea.stdlib.tools.returned",
    },
)
