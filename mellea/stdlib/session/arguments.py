"""The arguments that the verbs share: their types, and the check of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from mellea.core.arguments import unknown_argument
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.chunkers import Scope
from mellea.core.requirement import Requirement
from mellea.core.sampling import SamplingStrategy
from mellea.stdlib.tools import AnyTool, ToolCalls

__all__ = [
    "ACT",
    "CALL",
    "PARTS",
    "STREAM",
    "ActArguments",
    "CallArguments",
    "ChatArguments",
    "InstructArguments",
    "StreamArguments",
    "take",
]


class CallArguments(TypedDict, total=False):
    """What every verb takes; `functional.aact` explains each."""

    model_options: Mapping[str, Any] | None
    tools: Iterable[AnyTool] | None
    tool_calls: ToolCalls
    max_turns: int


class ChatArguments(CallArguments, total=False):
    """What `chat` takes besides; `functional.achat` explains each."""

    role: str
    images: Iterable[ImageBlock] | None


class ActArguments(CallArguments, total=False):
    """What the verbs with requirements take besides; `functional.aact` explains each."""

    requirements: Iterable[str | Requirement] | None
    strategy: SamplingStrategy | None
    strict: bool


class InstructArguments(ActArguments, total=False):
    """What `instruct` and the streams take besides; `Instruction` explains each."""

    input: Any
    name: str | None
    images: Iterable[ImageBlock] | None
    icl_examples: Iterable[Any] | None
    grounding_context: Mapping[str, Any] | None
    user_variables: Mapping[str, Any] | None
    prefix: str | CBlock | None
    output_prefix: str | CBlock | None


class StreamArguments(InstructArguments, total=False):
    """What the streams take besides; `MelleaSession.stream` explains each."""

    live: bool
    release: Scope | Literal["step"] | None


PARTS = (
    "input",
    "name",
    "images",
    "requirements",
    "icl_examples",
    "grounding_context",
    "user_variables",
    "prefix",
    "output_prefix",
)
CALL = ("model_options", "tools", "tool_calls", "max_turns")
ACT = (*CALL, "requirements", "strategy", "strict", "return_sampling_results")


STREAM = (*CALL, "strategy", "strict", "release")


def take(verb: str, arguments: dict[str, Any], taken: tuple[str, ...], others: tuple[str, ...]) -> dict[str, Any]:
    """Take the named arguments out of `arguments`; what is neither among them nor among `others` is an error."""
    known = ("format", *taken, *others)
    for name in arguments:
        if name not in known:
            raise unknown_argument(verb, name, known)
    return {name: arguments.pop(name) for name in taken if name in arguments}
