"""Ready-made `prepare_step` functions: ReAct, a warning near the limit, and several of them one after the other."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from mellea.core.messages import Message
from mellea.core.runtime.tasks import find_outcome
from mellea.errors import UsageError
from mellea.stdlib.agents.instructions import add_instructions
from mellea.stdlib.agents.limits import current_book
from mellea.stdlib.tools import Step
from mellea.stdlib.tools.tool_loop import PrepareStep

__all__ = ["chain", "react", "warn_near_limit"]

REACT = (
    "Work in turns. In each turn, first write one line that begins with 'Thought:' and says what you know and what is "
    "missing. If something is missing, then call exactly one tool; what it gives back is your observation for the next "
    "turn. If nothing is missing, write the answer alone, without a thought, and call no tool."
)
"""What `react` tells the model."""

LAST_STEP = (
    "This is your last turn, and no tool can be called any more. Answer now as well as you can with what you know, and "
    "say what you could not find out."
)
"""What `warn_near_limit` tells the model in the last step."""


def react(wording: str = REACT) -> PrepareStep:
    """Make a `prepare_step` that has the model reason before it acts, one tool a step (Yao et al., 2022, ReAct).

    Args:
        wording: what the model is told after the instructions.
    """

    def prepare(step: Step) -> Step:
        return replace(step, messages=add_instructions(step.messages, wording))

    return prepare


def warn_near_limit(max_steps: int | None = None, ahead: int = 2) -> PrepareStep:
    """Make a `prepare_step` that tells the model how many turns are left, and has it answer in the last one.

    In the last step no tools are offered, so that a run ends with an answer in place of a limit. In an agent all its
    limits count, but for `seconds`; how many turns tokens and dollars last is estimated by what the last step took.

    Args:
        max_steps: as in the loop; an agent knows by itself.
        ahead: how many steps before the last one the warnings begin.

    Raises:
        UsageError: a number is not a whole number, or too small; or, in a step, there is no agent and no `max_steps`.
    """
    for name, number, least in (("max_steps", max_steps, 1), ("ahead", ahead, 0)):
        # Python passes the default through here, too, and `None` is right for one of the two.
        if number is None and name == "max_steps":
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise UsageError(f"{name} takes a whole number from {least}, not {number!r}")

    async def prepare(step: Step) -> Step | None:
        # Looked up in each step: the function is made once, and may serve several agents at the same time.
        book = current_book.get()
        known = [
            None if max_steps is None else max_steps - step.number,
            None if book is None else book.estimate_turns(step.number),
        ]
        left = min((number for number in known if number is not None), default=None)
        if left is None:
            raise UsageError("warn_near_limit() knows the limits of an agent only; elsewhere give it max_steps=")
        # Nothing is said while there is time: the warning would only take the model's attention off the task.
        if left > ahead:
            return None
        if left <= 0:
            # Taking the tools away, not only asking: a model that is told not to call a tool often calls one
            # nevertheless.
            return replace(step, messages=(*step.messages, Message("user", LAST_STEP)), tools=())
        turns = "one more turn" if left == 1 else f"{left} more turns"
        warning = f"You have this turn and {turns}; call only the tools that you need for the answer."
        # A message of this step alone. It isn't kept in the conversation, where old warnings would contradict new
        # ones.
        return replace(step, messages=(*step.messages, Message("user", warning)))

    return prepare


def chain(*functions: PrepareStep) -> PrepareStep:
    """Make one `prepare_step` of several: each gets the step as the one before it has changed it."""

    async def prepare(step: Step) -> Step:
        for function in functions:
            changed: Step | Awaitable[Step | None] | None = await find_outcome(function, step)
            if isinstance(changed, Step):
                step = changed
            elif changed is not None:
                raise UsageError(f"a prepare_step returns a Step or None, not {changed!r}")
        return step

    return prepare
