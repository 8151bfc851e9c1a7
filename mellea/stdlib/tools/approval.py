"""Decides about a call before it runs: combines the policy, the tool's own approval and a person's answer.

Rules, in this order:

- A `Deny` wins, the policy's before a person's. The policy is asked about every call, and again on resuming.
- Invalid arguments need no approval: the model gets the error.
- A tool that runs outside waits for its result.
- A call that the policy asks about, or that requires approval, waits for a person's yes. `Edited` is a yes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mellea.core.blocks import ToolCall
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.loop_state import Answer, LoopState, OutsideResult, Question
from mellea.stdlib.tools.policy import Ask, Deny, Edited, Policy, decide
from mellea.stdlib.tools.tool import Tool, as_tools, load_tools

__all__ = ["Approved", "Verdict", "check_answers", "settle"]

_DECLINED = "this call was not run: a person declined it"

_LONGEST = 300
"""The maximum number of characters of a call's arguments in a question."""


@dataclass(frozen=True, slots=True)
class Approved:
    """A call that may run, with its arguments, perhaps edited by a person."""

    call: ToolCall


Verdict = Approved | Deny | OutsideResult | Question
"""The decision about a call: it runs, it has a reason or a given result instead, or it waits."""


async def settle(
    key: str, call: ToolCall, tool: Tool[..., Any] | None, policy: Policy | None, answer: Answer | None, has_begun: bool
) -> Verdict:
    """Decide whether a call runs, is denied, already has its result, or waits for a person.

    Args:
        key: the id of the question, if there is one.
        call: the model's call.
        tool: the tool that it calls, `None` if there is no such tool.
        policy: asked first.
        answer: a person's answer about it.
        has_begun: whether the call is already running, in its own loop.

    Raises:
        UsageError: the policy doesn't return a decision.
        Exception: raised by the policy.
    """
    # Before the policy is asked, so that it judges the arguments that would actually be used.
    if isinstance(answer, Edited):
        args = dict(answer.args)
        call = replace(call, tool_args=args, raw_args=json.dumps(args, ensure_ascii=False, default=str), is_valid=True)
    decision = await decide(policy, call, answer.result if isinstance(answer, OutsideResult) else answer)
    # The policy decides first: a person can't override the program's `Deny`.
    for one in (decision, answer):
        if isinstance(one, Deny):
            return one
    if answer is False:
        return Deny(_DECLINED)
    if isinstance(answer, OutsideResult):
        return answer
    # A missing tool "runs" too: `run_call` then tells the model which tools there are.
    if answer is not None or has_begun or tool is None:
        return Approved(call)
    # Nobody should have to read a call with invalid arguments, which can't run anyway.
    if not (isinstance(decision, Ask) or tool.must_ask) or not _fits(tool, call):
        return Approved(call)
    if tool.runs == "outside":
        return Question(key, "outside", call, _ask(decision, call, "runs outside this program; give its result"))
    if isinstance(decision, Ask) or await tool.needs_approval(call.tool_args):
        return Question(key, "approval", call, _ask(decision, call, "needs approval; may it run?"))
    return Approved(call)


async def check_answers(state: LoopState, tools: Mapping[str, Tool[..., Any]], path: str = "") -> None:
    """Check a person's answers against the tools, including those of sub-agents.

    Args:
        state: the state with the answers.
        tools: the tools of the loop by name.
        path: the ids of the enclosing calls, for errors.

    Raises:
        UsageError: an approved call's tool doesn't exist, or edited arguments don't fit their tool.
        ToolError: a set of tools can't be loaded.
    """
    for key, call in state.calls.items():
        tool, answer, place = tools.get(call.tool_name), state.answers.get(key), f"{path}{key}"
        if tool is None:
            # A `Deny` needs no tool, since nothing runs.
            if answer is True or isinstance(answer, Edited):
                raise UsageError(
                    f"{place!r} was approved, but there is no tool {call.tool_name!r}; resume with an agent that is "
                    "made like the one that asked; nothing was run"
                )
            continue
        if isinstance(answer, Edited):
            try:
                tool.check_args(answer.args)
            except ToolError as error:
                raise UsageError(
                    f"the edited arguments of {place!r} don't fit the tool {call.tool_name!r}: {error}; nothing was run"
                ) from None
        if key in state.nested and tool.inner_tools:  # otherwise its inner tools are unknown
            inner = await load_tools(as_tools(tool.inner_tools))
            named = {each.name: each for each in inner if isinstance(each, Tool)}
            await check_answers(state.nested[key], named, f"{place}/")


def _fits(tool: Tool[..., Any], call: ToolCall) -> bool:
    try:
        tool.check_args(call.tool_args)
    except ToolError:
        return False
    return call.is_valid


def _ask(decision: object, call: ToolCall, otherwise: str) -> str:
    if isinstance(decision, Ask):
        return decision.question
    args = json.dumps(dict(call.tool_args), ensure_ascii=False, default=str)
    shown = args if len(args) <= _LONGEST else args[: _LONGEST - 1] + "…"
    return f"the tool {call.tool_name!r} with the arguments {shown} {otherwise}"
