"""The options of a prompt function: given at its definition, by `with_options`, or at a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, cast

from mellea.core.arguments import make_argument_error
from mellea.core.backend import BuiltinTool
from mellea.core.options import check_options
from mellea.core.requirement import Requirement
from mellea.core.sampling import SamplingStrategy
from mellea.errors import UsageError
from mellea.stdlib.requirements.validation import as_requirements
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.tools import as_tools, choose_loop
from mellea.stdlib.verb import FunctionArguments, InstructArguments, check_strategy

__all__ = ["RESERVED", "WAYS", "Settings"]

OPTIONS = ("session", *FunctionArguments.__annotations__)
"""The options that the definition and `with_options` take."""

FORMER = {"precondition_requirements": "preconditions"}
"""Options that have another name in Mellea 0.8."""

RESERVED = ("m", *FORMER, *[name for name in OPTIONS if name != "release"])
"""Names that a call keeps for itself, so that no parameter may have them."""

_OWN_WORDS = "messages prompt content message text question query instruction task"
"""Arguments of the verbs that a prompt function sets itself."""

WAYS = {
    **dict.fromkeys(_OWN_WORDS.split(), "the prompt is made from the function's own docstring and parameters"),
    "format": "the type of the result is the return annotation of a @generative function, and @command(output=…)",
    "input": "the prompt is made from the function's own parameters",
    "user_variables": "the prompt is made from the function's own parameters",
    "grounding_context": "the prompt is made from the function's own parameters",
    "images": "the prompt is made from the function's own parameters",
    "icl_examples": "examples go into the docstring, under Examples:",
    "stream": "the function's .stream(…) and .astream(…) stream",
    "tool_calls": "tools are run here",
    "strict": "a function raises if its requirements aren't met",
    "release": "it belongs to the definition and to .with_options(…)",
}
"""What to do instead about arguments of the verbs that prompt functions don't take."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked options of a prompt function.

    Args:
        session: the session to use; the current one of the call by default.
        options: those of the function, checked; conditions and tools are tuples.
    """

    session: MelleaSession | None = None
    options: FunctionArguments = field(default_factory=FunctionArguments, repr=False)

    @property
    def preconditions(self) -> tuple[Requirement, ...]:
        """What the arguments have to meet before anything is asked."""
        return cast("tuple[Requirement, ...]", self.options.get("preconditions", ()))

    @property
    def waits_for_steps(self) -> bool:
        """Whether streams yield items only when no later step can supersede them."""
        return self.options.get("release") is not None

    def update(self, what: str, options: Mapping[str, Any]) -> Self:
        """Return settings with more options: conditions are added, model options merged, all else is replaced.

        Raises:
            UsageError: an option is unknown or wrong, or a session was given twice.
        """
        if not options:
            return self
        sessions = [options[name] for name in ("m", "session") if name in options]
        merged: dict[str, Any] = {**self.options}
        for name, value in options.items():
            if name in ("m", "session"):
                continue
            name = FORMER.get(name, name)
            if name not in OPTIONS:
                raise make_argument_error(what, name, OPTIONS, "option", WAYS)
            merge = _MERGED.get(name)
            merged[name] = value if merge is None else merge(name, merged.get(name), value)
        session = _check_session(what, sessions) if sessions else self.session
        return replace(self, session=session, options=cast("FunctionArguments", merged))

    def arguments(self) -> InstructArguments:
        """Return the arguments for `instruct`."""
        found: dict[str, Any] = {name: value for name, value in self.options.items() if name in _OF_INSTRUCT}
        tools = found.get("tools")
        if not tools:  # an empty list would override the tools in the session's options
            found.pop("tools", None)
        elif not all(isinstance(tool, BuiltinTool) for tool in tools):
            found["tool_calls"] = "run"
        # A plain value has no `.success` to show that it failed its requirements.
        return cast("InstructArguments", {"strict": True, **found})


_OF_INSTRUCT = frozenset(InstructArguments.__annotations__)


def _add(name: str, before: Any, value: Any) -> tuple[Requirement, ...]:
    return (*(before or ()), *as_requirements(value, name))


def _merge_options(name: str, before: Any, value: Any) -> Mapping[str, Any]:
    return {**(before or {}), **check_options(value)}


def _replace_tools(name: str, before: Any, value: Any) -> tuple[Any, ...]:
    return () if value is None else as_tools(value)


def _replace_strategy(name: str, before: Any, value: Any) -> SamplingStrategy | None:
    return check_strategy(value)


def _replace_max_turns(name: str, before: Any, value: Any) -> int:
    choose_loop(None, "run", value)  # rejects invalid ones
    return cast("int", value)


def _replace_release(name: str, before: Any, value: Any) -> Literal["step"] | None:
    if value not in (None, "step"):
        raise UsageError(f"a function takes release='step' or nothing, not {value!r}")
    return "step" if value else None


_MERGED: Mapping[str, Callable[[str, Any, Any], Any]] = {
    "preconditions": _add,
    "requirements": _add,
    "model_options": _merge_options,
    "tools": _replace_tools,
    "max_turns": _replace_max_turns,
    "strategy": _replace_strategy,
    "release": _replace_release,
}
"""How a new value of an option is checked and combined with the one before; other options are replaced."""


def _check_session(what: str, sessions: Sequence[Any]) -> MelleaSession | None:
    if len(sessions) > 1:
        raise UsageError(f"{what} was given a session twice; m= and session= are two names for one thing")
    if sessions[0] is not None and not isinstance(sessions[0], MelleaSession):
        raise UsageError(f"{what} takes a session such as start_session(…) as session=, not {sessions[0]!r}")
    return sessions[0]
