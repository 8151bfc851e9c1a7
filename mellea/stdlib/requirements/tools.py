"""Requirements on the tools that an output calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mellea.core.blocks import ToolCall
from mellea.core.context import Context
from mellea.core.entrance import entrance
from mellea.core.messages import Message
from mellea.core.requirement import Requirement, ValidationResult, as_result, ask_function, check_function
from mellea.errors import UsageError

__all__ = ["tool_arg_validator", "uses_tool"]


@entrance("uses_tool")
def uses_tool(tool: str | Callable[..., Any], check_only: bool = False) -> Requirement:
    """Make a requirement that the output calls a tool.

    With `tool_calls="run"` the calls in all messages of the answer count, not only those in the last one. The model
    option `tool_choice` forces a model to call a tool; this requirement only checks that it did.

    Args:
        tool: the tool, its function or its name.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: it is not a tool.
    """
    name = _get_name(tool)

    def validate(context: Context) -> ValidationResult:
        calls = _list_calls(context)
        if any(call.tool_name == name for call in calls):
            return ValidationResult(True)
        return ValidationResult(False, f"it doesn't call {name!r}; {_describe_calls(calls)}")

    return Requirement(f"Use the tool {name!r}.", validate, check_only)


@entrance("tool_arg_validator")
def tool_arg_validator(
    description: str,
    tool_name: str | Callable[..., Any] | None,
    arg_name: str | None,
    validation_fn: Callable[[Any], Any],
    check_only: bool = False,
) -> Requirement:
    """Make a requirement on an argument of a tool; every call has to meet it.

    Args:
        description: the requirement in words.
        tool_name: the tool, which has to be called; `None` for every tool that is called with the argument.
        arg_name: the argument; `None` for every argument of the call.
        validation_fn: takes the argument's value from the model's JSON; returns a bool, `(bool, reason)` or a
            `ValidationResult`, or raises a `ValueError`, which means no; sync (then it runs in a thread) or async.
        check_only: keep the description out of the prompt.

    Raises:
        UsageError: an argument is of a wrong type.
    """
    name = None if tool_name is None else _get_name(tool_name)
    check_function("validation_fn", validation_fn, "the argument")

    async def validate(context: Context) -> ValidationResult:
        calls = [call for call in _list_calls(context) if name in (None, call.tool_name)]
        if name is not None and not calls:
            return ValidationResult(False, f"it doesn't call {name!r}; {_describe_calls(_list_calls(context))}")
        for call in calls:
            if not call.is_valid:
                return _reject(call, f"is called with arguments that are not a JSON object: {call.raw_args[:100]!r}")
            if name is not None and arg_name is not None and arg_name not in call.tool_args:
                return _reject(call, f"is called without the argument {arg_name!r}")
            for argument in call.tool_args if arg_name is None else {arg_name} & call.tool_args.keys():
                value = call.tool_args[argument]
                result = as_result(await ask_function(validation_fn, value, requirement), requirement)
                if not result:
                    return _reject(call, f"is called with {argument}={value!r}", result.reason)
        return ValidationResult(True)

    requirement = Requirement(description, validate, check_only)
    return requirement


def _get_name(tool: Any) -> str:
    if isinstance(tool, str) and tool:
        return tool
    name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
    if not isinstance(name, str) or not name:
        raise UsageError(f"expected the name of a tool, its function or the tool, not {tool!r}")
    return name


def _list_calls(context: Context) -> tuple[ToolCall, ...]:
    output = context.last_output()
    messages: Iterable[Message] = () if output is None else output.so_far().messages
    return tuple(call for message in messages for call in message.tool_calls)


def _describe_calls(calls: Iterable[ToolCall]) -> str:
    names = ", ".join(dict.fromkeys(repr(call.tool_name) for call in calls))
    return f"it calls {names}" if names else "it calls no tool"


def _reject(call: ToolCall, what: str, why: str | None = None) -> ValidationResult:
    return ValidationResult(False, f"{call.tool_name!r} {what}" + (f": {why}" if why else ""))
