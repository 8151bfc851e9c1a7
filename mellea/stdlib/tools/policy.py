"""Policies decide whether a tool may run: before each call, and again once a person has answered."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.blocks import ToolCall
from mellea.core.runtime.tasks import find_outcome
from mellea.core.tracebacks import add_note
from mellea.errors import UsageError

__all__ = ["Allow", "Ask", "Decision", "Deny", "Edited", "Policy", "decide"]


@dataclass(frozen=True, slots=True)
class Allow:
    """The tool may run."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The tool doesn't run; the model gets the reason as its result. A policy's decision, or a person's answer."""

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise UsageError(f"Deny takes the reason as text, which the model sees, not {self.reason!r}")


@dataclass(frozen=True, slots=True)
class Ask:
    """A person has to decide, and sees this question."""

    question: str


@dataclass(frozen=True, slots=True)
class Edited:
    """A person's answer: the tool may run with these arguments, instead of the model's."""

    args: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.args, Mapping):
            raise UsageError(f"Edited takes all arguments of the call as a dict, not {self.args!r}")


Decision = Allow | Deny | Ask

Policy = Callable[..., Decision | Awaitable[Decision]]
"""Decides about one call, its only argument; synchronous (called in a worker thread) or not. A policy with a parameter
`answer` also gets the person's answer about the call, `None` before that."""


async def decide(policy: Policy | None, call: ToolCall, answer: Any = None) -> Decision:
    """Return a policy's decision about a call; without a policy, every call is allowed.

    Args:
        policy: the policy.
        call: the call, with edited arguments if a person has edited them.
        answer: the person's answer about it.

    Raises:
        UsageError: it returns something other than a decision.
        Exception: raised by the policy.
    """
    if policy is None:
        return Allow()
    try:
        # Decided by its parameters, so that policies with one argument keep working.
        asked = functools.partial(policy, answer=answer) if _takes_answer(policy) else policy
        decision = await find_outcome(asked, call)
    except Exception as error:
        add_note(error, f"raised by the policy for a call of the tool {call.tool_name!r}")
        raise
    if not isinstance(decision, (Allow, Deny, Ask)):
        raise UsageError(f"a policy returns Allow(), Deny(reason) or Ask(question), not {decision!r}")
    return decision


def _takes_answer(policy: Policy) -> bool:
    try:
        return "answer" in inspect.signature(policy).parameters
    except (TypeError, ValueError):  # a callable without a readable signature
        return False
