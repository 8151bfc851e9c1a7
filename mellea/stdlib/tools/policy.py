"""Policies: whether a tool may run, asked before each call of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mellea.core.blocks import ToolCall
from mellea.core.runtime.tasks import outcome_of
from mellea.core.tracebacks import add_note
from mellea.errors import UsageError

__all__ = ["Allow", "Ask", "Decision", "Deny", "Policy", "decide"]


@dataclass(frozen=True, slots=True)
class Allow:
    """The tool may run."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The tool doesn't run; the model is given the reason as its result."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A person has to decide, and is asked this."""

    question: str


Decision = Allow | Deny | Ask

Policy = Callable[[ToolCall], Decision | Awaitable[Decision]]
"""Decides about one call; synchronous (called in a worker thread) or not."""


async def decide(policy: Policy | None, call: ToolCall) -> Decision:
    """Return what a policy decides about a call; without one every call is allowed.

    Raises:
        UsageError: it returns something else than a decision.
        Exception: what it raises itself.
    """
    if policy is None:
        return Allow()
    try:
        decision = await outcome_of(policy, call)
    except Exception as error:
        add_note(error, f"raised by the policy for a call of the tool {call.tool_name!r}")
        raise
    if not isinstance(decision, (Allow, Deny, Ask)):
        raise UsageError(f"a policy returns Allow(), Deny(reason) or Ask(question), not {decision!r}")
    return decision
