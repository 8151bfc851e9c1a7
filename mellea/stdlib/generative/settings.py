"""What a prompt function is told besides its arguments: at its definition, by `with_options`, or at a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypedDict

from mellea.core.arguments import unknown_argument
from mellea.core.backend import BuiltinTool
from mellea.core.options import check_options
from mellea.core.requirement import Requirement
from mellea.core.sampling import SamplingStrategy
from mellea.errors import UsageError
from mellea.stdlib.requirements.validation import as_requirements
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.tools import MAX_TURNS, AnyTool, as_tools

__all__ = ["RESERVED", "WAYS", "FunctionOptions", "Settings"]


class FunctionOptions(TypedDict, total=False):
    """What `@generative` and `@command` take; `Settings` explains each."""

    preconditions: Iterable[str | Requirement]
    requirements: Iterable[str | Requirement]
    strategy: SamplingStrategy | None
    model_options: Mapping[str, Any] | None
    tools: Iterable[AnyTool]
    max_turns: int
    release: Literal["step"] | None


RESERVED = ("m", "session", "preconditions", "requirements", "strategy", "model_options", "tools", "max_turns")
"""Names that a call keeps for itself, so that no parameter may have them."""

OPTIONS = (*RESERVED[1:], "release")
"""What the definition and `with_options` take."""

WAYS = {
    "format": "the type of the result is the return annotation of a @generative function, and @command(output=…)",
    "input": "what the prompt is about are the function's own parameters",
    "user_variables": "what the prompt is about are the function's own parameters",
    "grounding_context": "what the prompt is about are the function's own parameters",
    "images": "what the prompt is about are the function's own parameters",
    "icl_examples": "examples stand in the docstring, under Examples:",
    "stream": "the function's .stream(…) and .astream(…) stream",
    "tool_calls": "tools are run here",
    "strict": "a function raises if its requirements aren't met",
    "release": "it belongs to the definition and to .with_options(…)",
}
"""What to do about arguments of the verbs, which functions take in another way."""

_UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked options of a prompt function.

    Args:
        session: the session to use; the current one of the call by default.
        preconditions: what the arguments have to meet before anything is asked.
        requirements: what the answer has to meet; they go into the prompt and are checked.
        strategy: how to come to an answer that meets them; the session's default if nothing is said.
        model_options: names as in `ModelOption`.
        tools: functions that the model may call; they are run, and the model is asked again.
        max_turns: how many times the model is asked at most.
        release: `"step"` for streams that give items only when no later step can supersede them.
    """

    session: MelleaSession | None = None
    preconditions: tuple[Requirement, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    strategy: SamplingStrategy | None = _UNSET
    model_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tools: tuple[Any, ...] = ()
    max_turns: int = MAX_TURNS
    release: Literal["step"] | None = None

    def updated(self, what: str, options: Mapping[str, Any]) -> Self:
        """Return settings with more options: conditions are added, model options merged, all else is replaced.

        Raises:
            UsageError: an option is unknown or wrong, or a session was given twice.
        """
        changes: dict[str, Any] = {}
        for name, value in options.items():
            if name in ("m", "session"):
                changes["session"] = _session(what, value, "session" in changes)
            elif name in ("preconditions", "requirements"):
                changes[name] = (*getattr(self, name), *as_requirements(value))
            elif name == "model_options":
                changes[name] = {**self.model_options, **check_options(value)}
            elif name == "tools":
                changes[name] = as_tools(value)
            elif name == "release":
                changes[name] = _release(what, value)
            elif name in RESERVED:
                changes[name] = value
            else:
                raise unknown_argument(what, name, OPTIONS, "option", WAYS)
        return replace(self, **changes)

    def arguments(self) -> dict[str, Any]:
        """Return what a session's verb is to be told."""
        # A plain value has no `.success` that would tell of an answer which fails its requirements.
        found: dict[str, Any] = {"strict": True, "requirements": self.requirements, "model_options": self.model_options}
        if self.strategy is not _UNSET:
            found["strategy"] = self.strategy
        if self.tools:
            found |= {"tools": self.tools, "max_turns": self.max_turns}
            if not all(isinstance(tool, BuiltinTool) for tool in self.tools):
                found["tool_calls"] = "run"
        return found


def _release(what: str, value: Any) -> Literal["step"] | None:
    if value not in (None, "step"):
        raise UsageError(f"{what} takes release='step' or nothing, not {value!r}")
    return "step" if value else None


def _session(what: str, value: Any, has_one: bool) -> MelleaSession | None:
    if has_one:
        raise UsageError(f"{what} was given a session twice; m= and session= are two names for one thing")
    if value is not None and not isinstance(value, MelleaSession):
        raise UsageError(f"{what} takes a session such as start_session(…) as session=, not {value!r}")
    return value
