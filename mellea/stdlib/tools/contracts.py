"""Contracts of tools: conditions before and after a model's call.

A check is any function, sync or async, that takes some of the tool's arguments by name. If it returns false or raises,
the model gets the message and may try again; the program's own calls of the function are not checked.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mellea.core.runtime.tasks import find_outcome
from mellea.errors import ToolError, UsageError

__all__ = ["Check", "Contract", "ensure", "list_contracts", "require"]

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__mellea_contracts__"

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Check:
    """A user's function that checks a tool's arguments.

    Args:
        function: takes some of the arguments by name, or all of them with `**kwargs`.
        what: its name in errors.
        leading: how many values it takes before the arguments, by position.

    Raises:
        UsageError: it isn't such a function.
    """

    def __init__(self, function: Callable[..., Any], what: str, leading: int = 0) -> None:
        if not callable(function):
            raise UsageError(f"{what} takes a function, not {function!r}")
        parameters = _parameters(function)
        if len([each for each in parameters if each.kind in _BY_POSITION]) < leading:
            raise UsageError(f"{what} takes a function whose first parameter is the result, not {function!r}")
        self._function = function
        self._what = what
        self._takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
        self._names = {each.name: each.default is each.empty for each in parameters[leading:] if _is_named(each)}

    def fit(self, names: Collection[str]) -> None:
        """Check that the function fits a tool with these parameters.

        Raises:
            UsageError: the function takes an argument that the tool doesn't have.
        """
        missing = next((name for name, is_required in self._names.items() if is_required and name not in names), None)
        if missing is not None:
            known = ", ".join(map(repr, names)) or "none"
            raise UsageError(
                f"{self._what} has a function with the parameter {missing!r}, which the tool lacks; the "
                f"tool's parameters are {known}"
            )

    async def run(self, arguments: Mapping[str, Any], *leading: Any) -> Any:
        """Call the function, a sync one in a worker thread, and return its result."""
        names = arguments if self._takes_all else [name for name in arguments if name in self._names]
        return await find_outcome(
            functools.partial(self._function, *leading, **{name: arguments[name] for name in names})
        )


@dataclass(frozen=True, slots=True)
class Contract:
    """One condition of a tool.

    Attributes:
        check: returns whether it holds.
        message: what the model reads if it doesn't.
        is_ensured: whether it is about the result.
    """

    check: Check
    message: str
    is_ensured: bool

    async def hold(self, tool: str, arguments: Mapping[str, Any], *result: Any) -> None:
        """Check the condition.

        Raises:
            ToolError: it doesn't hold, or can't be checked; the message is for the model.
        """
        try:
            does_hold, why = bool(await self.check.run(arguments, *result)), ""
        # A check that raises counts as a no: contracts fail closed.
        except Exception as error:  # noqa: BLE001 - the user's function
            does_hold, why = False, f" ({type(error).__name__}: {error})"
        if not does_hold:
            what = f"the result of {tool!r} was rejected" if self.is_ensured else f"{tool!r} wasn't run"
            raise ToolError(f"{what}: {self.message}{why}")


def require(check: Callable[..., Any], message: str) -> Callable[[F], F]:
    """Check the arguments of a tool before it runs, as in `@require(lambda sum: sum > 0, "sum must be above 0")`.

    It can be below or above `@tool`. Conditions are checked from the top, after the types of the arguments.

    Args:
        check: takes some of the tool's arguments by name (with `**kwargs` all) and returns whether the call is valid.
        message: what the model reads if it isn't.

    Raises:
        UsageError: the check isn't a function, the message isn't text, or it names an unknown argument of the tool.
    """
    return _decorate(Contract(Check(check, f"@require({message!r})"), _text(message, "require"), is_ensured=False))


def ensure(check: Callable[..., Any], message: str) -> Callable[[F], F]:
    """Check the result of a tool before the model reads it, as in `@ensure(bool, "nothing was found")`.

    It can be below or above `@tool`. The tool's effects aren't undone.

    Args:
        check: takes the result (of a `ToolReturn` its value), then some of the tool's arguments by name.
        message: what the model reads instead.

    Raises:
        UsageError: the check isn't a function, the message isn't text, or it names an unknown argument of the tool.
    """
    return _decorate(Contract(Check(check, f"@ensure({message!r})", 1), _text(message, "ensure"), is_ensured=True))


def list_contracts(function: Any) -> tuple[Contract, ...]:
    """Return the conditions that were set on a function, from the top."""
    # `functools.partial` hides the attributes of its function.
    while isinstance(function, functools.partial) and not hasattr(function, _ATTRIBUTE):
        function = function.func
    return tuple(getattr(function, _ATTRIBUTE, ()))


def _decorate(contract: Contract) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        add = getattr(function, "with_contract", None)  # of a Tool
        if add is not None:
            return add(contract)  # type: ignore[no-any-return]
        try:
            # Decorators are applied from the bottom; inserted first, so that conditions are checked from the top.
            setattr(function, _ATTRIBUTE, (contract, *list_contracts(function)))
        except AttributeError:
            raise UsageError(
                f"a condition can't be attached to {function!r}; apply it to a function, or to what @tool returned"
            ) from None
        return function

    return decorate


def _text(message: Any, name: str) -> str:
    if not isinstance(message, str) or not message:
        raise UsageError(f"{name} takes a string that tells the model what is wrong, not {message!r}")
    return message


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # such as `bool`, which takes only the result
        return [inspect.Parameter("result", inspect.Parameter.POSITIONAL_ONLY)]


def _is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
