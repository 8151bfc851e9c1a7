"""Ready-made `prepare_step` functions: ReAct, a warning near the limit, and a chain of several."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from mellea.core.messages import Message
from mellea.core.numbers import check_whole
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
"""The instruction of `react` for the model."""

LAST_STEP = (
    "This is your last turn, and no tool can be called any more. Answer now as well as you can with what you know, and "
    "say what you could not find out."
)
"""The instruction of `warn_near_limit` for the model in the last step."""


def react(wording: str = REACT) -> PrepareStep:
    """Create a `prepare_step` that makes the model reason before it acts, one tool per step (Yao et al., 2022, ReAct).

    Args:
        wording: the text for the model, after the instructions.
    """

    def prepare(step: Step) -> Step:
        return replace(step, messages=add_instructions(step.messages, wording))

    return prepare


def warn_near_limit(max_steps: int | None = None, ahead: int = 2) -> PrepareStep:
    """Create a `prepare_step` that tells the model how many turns are left, and makes it answer in the last one.

    In the last step no tools are offered, so that a run ends with an answer instead of at a limit. In an agent all
    limits except `seconds` count; how many turns tokens and dollars last is estimated from the last step.

    Args:
        max_steps: as in the loop; an agent knows its own.
        ahead: how many steps before the last one the warnings begin.

    Raises:
        UsageError: a number is not a whole number, or too small; or, in a step, there is no agent and no `max_steps`.
    """
    for name, number, least in (("max_steps", max_steps, 1), ("ahead", ahead, 0)):
        # Python also passes the default through here, and `None` is valid for one of the two.
        if number is None and name == "max_steps":
            continue
        check_whole(name, number, least)

    async def prepare(step: Step) -> Step | None:
        # Looked up in each step: one function may serve several agents at the same time.
        book = current_book.get()
        known = [
            None if max_steps is None else max_steps - step.number,
            None if book is None else book.estimate_turns(step.number),
        ]
        left = min((number for number in known if number is not None), default=None)
        if left is None:
            raise UsageError("warn_near_limit() knows the limits of an agent only; elsewhere give it max_steps=")
        # No warning while there is time: it would only distract the model from the task.
        if left > ahead:
            return None
        if left <= 0:
            # Remove the tools instead of only asking: a model that is told not to call a tool often calls one anyway.
            return replace(step, messages=(*step.messages, Message("user", LAST_STEP)), tools=())
        turns = "one more turn" if left == 1 else f"{left} more turns"
        warning = f"You have this turn and {turns}; call only the tools that you need for the answer."
        # Only for this step. In the conversation, old warnings would contradict new ones.
        return replace(step, messages=(*step.messages, Message("user", warning)))

    return prepare


def chain(*functions: PrepareStep) -> PrepareStep:
    """Combine several `prepare_step`s: each gets the step as changed by the one before it."""

    async def prepare(step: Step) -> Step:
        for function in functions:
            changed: Step | Awaitable[Step | None] | None = await find_outcome(function, step)
            if isinstance(changed, Step):
                step = changed
            elif changed is not None:
                raise UsageError(f"a prepare_step returns a Step or None, not {changed!r}")
        return step

    return prepare
