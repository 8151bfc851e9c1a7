"""The arguments that the verbs share: their types, and the check of their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.chunk import Scope
from mellea.core.requirement import Requirement
from mellea.core.sampling import SamplingStrategy
from mellea.errors import UsageError
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

_NOT_HERE = {
    "await_result": "a stream never waits, so leave it out",
    "return_sampling_results": "a stream has .attempts",
    "requirements": "it belongs to instruct, act and the streams, which check them",
    "strategy": "it belongs to instruct, act and the streams, which check requirements",
    "strict": "it belongs to instruct, act and the streams, which check requirements",
    "live": "it belongs to the streams",
    "release": "it belongs to the streams",
}


def take(verb: str, arguments: dict[str, Any], taken: tuple[str, ...], others: tuple[str, ...]) -> dict[str, Any]:
    """Take the named arguments out of `arguments`; what is neither among them nor among `others` is an error."""
    for name in arguments:
        if name not in taken and name not in others:
            near = difflib.get_close_matches(name, [*taken, *others], n=1)
            hint = f"did you mean {near[0]!r}?" if near else "model options go into model_options={…}"
            hint = _NOT_HERE.get(name, hint)
            raise UsageError(f"{verb} takes no argument {name!r}; {hint}")
    return {name: arguments.pop(name) for name in taken if name in arguments}
