"""Tools: functions that a model may call; their names and schemas, and how calls are run."""

# May import: core. Read `tool.py` first.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.stdlib.tools.tool import (
    MAX_TURNS,
    AnyTool,
    CheckedTool,
    Tool,
    ToolCalls,
    as_tool,
    as_tools,
    has_sets,
    load_tools,
    tool,
)
from mellea.stdlib.tools.tool_set import ToolSet

if TYPE_CHECKING:
    from mellea.stdlib.tools.contracts import ensure as ensure
    from mellea.stdlib.tools.contracts import require as require
    from mellea.stdlib.tools.execute import perform as perform
    from mellea.stdlib.tools.execute import run_call as run_call
    from mellea.stdlib.tools.execute import run_calls as run_calls
    from mellea.stdlib.tools.loop_progress import LoopProgress as LoopProgress
    from mellea.stdlib.tools.loop_progress import nest_progress as nest_progress
    from mellea.stdlib.tools.loop_state import LoopState as LoopState
    from mellea.stdlib.tools.loop_state import Question as Question
    from mellea.stdlib.tools.loop_state import give_answers as give_answers
    from mellea.stdlib.tools.policy import Allow as Allow
    from mellea.stdlib.tools.policy import Ask as Ask
    from mellea.stdlib.tools.policy import Decision as Decision
    from mellea.stdlib.tools.policy import Deny as Deny
    from mellea.stdlib.tools.policy import Edited as Edited
    from mellea.stdlib.tools.policy import Policy as Policy
    from mellea.stdlib.tools.policy import decide as decide
    from mellea.stdlib.tools.returned import ToolReturn as ToolReturn
    from mellea.stdlib.tools.returned import serialise_result as serialise_result
    from mellea.stdlib.tools.tool_choice import check_choice as check_choice
    from mellea.stdlib.tools.tool_loop import LoopTask as LoopTask
    from mellea.stdlib.tools.tool_loop import Step as Step
    from mellea.stdlib.tools.tool_loop import ToolLoop as ToolLoop
    from mellea.stdlib.tools.tool_loop import choose_loop as choose_loop

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
    "choose_loop",
    "decide",
    "ensure",
    "give_answers",
    "has_sets",
    "load_tools",
    "nest_progress",
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
        "Edited": "mellea.stdlib.tools.policy",
        "LoopProgress": "mellea.stdlib.tools.loop_progress",
        "LoopState": "mellea.stdlib.tools.loop_state",
        "LoopTask": "mellea.stdlib.tools.tool_loop",
        "Policy": "mellea.stdlib.tools.policy",
        "Question": "mellea.stdlib.tools.loop_state",
        "Step": "mellea.stdlib.tools.tool_loop",
        "ToolLoop": "mellea.stdlib.tools.tool_loop",
        "ToolReturn": "mellea.stdlib.tools.returned",
        "check_choice": "mellea.stdlib.tools.tool_choice",
        "decide": "mellea.stdlib.tools.policy",
        "ensure": "mellea.stdlib.tools.contracts",
        "give_answers": "mellea.stdlib.tools.loop_state",
        "choose_loop": "mellea.stdlib.tools.tool_loop",
        "nest_progress": "mellea.stdlib.tools.loop_progress",
        "perform": "mellea.stdlib.tools.execute",
        "require": "mellea.stdlib.tools.contracts",
        "run_call": "mellea.stdlib.tools.execute",
        "run_calls": "mellea.stdlib.tools.execute",
        "serialise_result": "mellea.stdlib.tools.returned",
    },
)
