"""The arguments of every verb, declared once, and `@verb`, the one decorator around a verb.

Rules:

- An argument is a key of one of these dicts. Its type carries the line that `help` shows, and its default where that
  isn't `None`.
- A verb takes them as `**arguments: Unpack[…Arguments]` and hands the dict on as a value. Whoever uses an argument
  takes it out of the dict by its name, so nothing in between lists the arguments again.
- Some arguments decide the type of the result and have to be in the overloads of a verb. Their lines are in
  `Parameters`, with those of other parameters that several verbs have.
"""

# The annotations are objects here, not strings, because signatures and docstrings are made from them.

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    TypedDict,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    is_typeddict,
)

from mellea.core.backend import Backend
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.chunkers import Scope
from mellea.core.context import Context
from mellea.core.entrance import ArgumentCheck, wrap_entrance
from mellea.core.requirement import Requirement
from mellea.core.sampling import SamplingStrategy
from mellea.errors import UsageError
from mellea.stdlib.tools.tool import MAX_TURNS, AnyTool, ToolCalls
from mellea.stdlib.tools.tool_set import ToolSet

if TYPE_CHECKING:
    from mellea.core.progress import Progress
    from mellea.stdlib.tools import ToolLoop

__all__ = [
    "ActArguments",
    "CallArguments",
    "ChatArguments",
    "Default",
    "FunctionArguments",
    "InstructArguments",
    "OptionArguments",
    "Parameters",
    "PartArguments",
    "StreamArguments",
    "check_flag",
    "check_strategy",
    "document",
    "take_parts",
    "verb",
]

F = TypeVar("F", bound=Callable[..., Any])


class Default:
    """A default that is made further up, shown in signatures by its name.

    Args:
        name: its name in `mellea.stdlib.functional`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


Images = Annotated[Iterable[ImageBlock] | None, "images that go with the text."]


class OptionArguments(TypedDict, total=False):
    """What every verb that asks a model takes."""

    model_options: Annotated[Mapping[str, Any] | None, "options for the model, by their names in `ModelOption`."]


class ToolArguments(TypedDict, total=False):
    """What everything with tools takes."""

    tools: Annotated[Iterable[AnyTool] | ToolSet | None, "tools that the model may call; plain functions work as well."]
    max_turns: Annotated[int, "if tools are run, the maximum number of requests to the model.", MAX_TURNS]


class CheckArguments(TypedDict, total=False):
    """What everything that checks answers takes."""

    requirements: Annotated[
        Iterable[str | Requirement] | None, "what the answer has to meet; checked, unless `strategy=None`."
    ]
    strategy: Annotated[
        SamplingStrategy | None,
        "how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.",
        Default("DEFAULT_STRATEGY"),
    ]


class CallArguments(OptionArguments, ToolArguments, total=False):
    """What one call of a model takes."""

    tool_calls: Annotated[
        ToolCalls,
        '`"show"` leaves the tool calls in the answer; `"run"` runs them and asks again until there are none.',
        "show",
    ]
    loop: Annotated[
        "ToolLoop | None",
        "how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; in place of `tool_calls` and `max_turns`.",
    ]


class ChatArguments(CallArguments, total=False):
    """What `chat` takes."""

    role: Annotated[str, "the speaker: `user`, `system` or `assistant`.", "user"]
    images: Images
    user_variables: Annotated[Mapping[str, Any] | None, "values for the `{{placeholders}}` in a text, by name."]


class ActArguments(CallArguments, CheckArguments, total=False):
    """What `act` takes."""

    strict: Annotated[bool, "raise a `RequirementError` if no attempt meets the requirements.", False]


class PartArguments(TypedDict, total=False):
    """The parts of an `Instruction` that are arguments, under the same names."""

    input: Annotated[Any, "a value that the task is about; anything but a string goes into the prompt as JSON."]
    name: Annotated[str | None, "a name for the task, which observers see."]
    images: Images
    icl_examples: Annotated[Iterable[Any] | None, "examples of good answers."]
    grounding_context: Annotated[Mapping[str, Any] | None, "texts that the answer has to be based on, by name."]
    user_variables: Annotated[
        Mapping[str, Any] | None, "values for the `{{placeholders}}` in the description, by name."
    ]
    prefix: Annotated[str | CBlock | None, "text in the prompt before the description."]
    output_prefix: Annotated[str | CBlock | None, "text that the answer begins with."]


class InstructArguments(PartArguments, ActArguments, total=False):
    """What `instruct` and `ask` take."""


class StreamArguments(InstructArguments, total=False):
    """What the streams take."""

    live: Annotated[
        bool, "under a strategy, yield the text of every attempt as it is written, including rejected ones.", False
    ]
    release: Annotated[
        Scope | Literal["step"] | None,
        '`"word"`, `"sentence"`, `"line"`, `"paragraph"` or `"item"` releases each one as soon as every requirement '
        'has passed it; `"step"` holds items and partials back until the step that answers has ended.',
    ]


class FunctionArguments(OptionArguments, ToolArguments, CheckArguments, total=False):
    """What `@generative` and `@command` take, and `with_options`."""

    preconditions: Annotated[
        Iterable[str | Requirement] | None, "what the arguments have to meet before the model is asked."
    ]
    release: Annotated[
        Literal["step"] | None, '`"step"` makes streams hold items back until the step that answers has ended.'
    ]


class Parameters(TypedDict, total=False):
    """The parameters that verbs have in their own signatures, each under the same name everywhere."""

    context: Annotated[Context, "the earlier turns that the model sees."]
    backend: Annotated[Backend, "which model to ask, and how."]
    format: Annotated[Any, "the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it."]
    await_result: Annotated[
        bool, "whether to wait for the end; if not (only in async code), return once the generation is launched."
    ]
    return_sampling_results: Annotated[bool, "return the `SamplingResult` with all attempts instead of the thunk."]
    session: Annotated[Any, "the session to use; the current one by default."]
    n: Annotated[int, "how many images."]
    aspect_ratio: Annotated[str | None, 'the ratio of width to height, such as `"16:9"`.']
    seconds: Annotated[int | None, "the length of the video; by default, the provider's default."]
    to: Annotated[
        str | Path | None, "a file, or a folder, that the video is streamed into; otherwise it is held in memory."
    ]
    job_id: Annotated[
        str | None,
        "a job that was started earlier, to wait for it again or to download it again; then leave out the prompt.",
    ]
    timeout: Annotated[float | None, "seconds until the job is cancelled; `None` waits forever."]
    max_bytes: Annotated[int, "the largest size that the video may have."]
    options: Annotated[Any, "further options, by the provider's own names."]
    progress: Annotated[
        "bool | Callable[[Progress], object]",
        "whether a terminal shows progress (on stderr), or a function that is called with each `Progress`.",
    ]


class NoArguments(TypedDict):
    """For verbs whose parameters are all in their own signature."""


_PART_NAMES = tuple(PartArguments.__annotations__)


def take_parts(arguments: InstructArguments) -> PartArguments:
    """Take the parts of the instruction out of the arguments of `instruct`."""
    found: dict[str, Any] = cast("dict[str, Any]", arguments)
    return cast("PartArguments", {name: found.pop(name) for name in _PART_NAMES if name in found})


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither `True` nor `False`.

    Raises:
        UsageError: names the argument.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} takes True or False, not {value!r}")


def check_strategy(strategy: Any) -> SamplingStrategy | None:
    """Return the strategy if it is one, or `None`.

    Raises:
        UsageError: it is something else.
    """
    if strategy is not None and (not hasattr(strategy, "sample") or isinstance(strategy, type)):
        raise UsageError(
            f"strategy takes a sampling strategy such as RejectionSamplingStrategy(), or None, not {strategy!r}"
        )
    return cast("SamplingStrategy | None", strategy)


def verb(name: str, arguments: type = NoArguments, /, **ways: str) -> Callable[[F], F]:
    """Make a decorator for a verb: it checks arguments, shortens tracebacks and documents every argument.

    Args:
        name: what errors call the verb.
        arguments: the dict that declares what the verb takes as `**arguments`.
        ways: what to do instead about arguments that other verbs take and this one doesn't.
    """

    def decorate(function: F) -> F:
        # From the annotations, so that a new key is accepted as soon as it is declared.
        check = ArgumentCheck(name, function, arguments.__annotations__, ways)
        return document(arguments)(cast("F", wrap_entrance(function, check)))

    return decorate


def document(arguments: type) -> Callable[[F], F]:
    """Make a decorator that gives a function the signature and the docstring with all declared arguments.

    Raises:
        TypeError: `arguments` is not a `TypedDict`.
    """
    if not is_typeddict(arguments):
        raise TypeError(f"arguments are declared in a TypedDict, not in {arguments!r}")
    parameters, lines = _read_declaration(arguments)

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [
            parameter.replace(annotation=_as_written(parameter.annotation))
            for parameter in signature.parameters.values()
            # `**arguments` itself isn't shown where its keys are.
            if parameter.kind is not _REST or not lines
        ]
        shared = {parameter.name: line for parameter in own if (line := _SHARED.get(parameter.name)) is not None}
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *parameters], return_annotation=_as_written(signature.return_annotation)
        )
        function.__doc__ = _with_lines(function.__doc__, {**shared, **lines})
        return function

    return decorate


_REST = inspect.Parameter.VAR_KEYWORD


@functools.cache
def _read_declaration(arguments: type) -> tuple[list[inspect.Parameter], dict[str, str]]:
    """Return the parameters of declared arguments, and the line of each."""
    declared: Mapping[str, Any] = arguments.__annotations__
    parameters = [_make_parameter(name, kind) for name, kind in declared.items()]
    return parameters, {name: kind.__metadata__[0] for name, kind in declared.items()}


def _make_parameter(name: str, declared: Any) -> inspect.Parameter:
    # The dicts are `total=False`: a default describes what the verb does without the key, and is only used in
    # signatures.
    default = declared.__metadata__[1] if len(declared.__metadata__) > 1 else None
    shown = _AsWritten(_write(declared.__origin__))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=shown)


class _AsWritten(str):
    """A type as the source has it, which signatures show without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _as_written(annotation: Any) -> Any:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation


_ALIASES: Sequence[tuple[Any, str]] = ((AnyTool, "AnyTool"), (Any, "Any"), (type(None), "None"), (..., "..."))


def _write(annotation: Any) -> str:
    """Return a type in a few words: by the names that our modules give it, without those of the modules."""
    # Compared before it is taken apart, or a union would be shown member by member.
    for alias, name in _ALIASES:
        if annotation is alias or annotation == alias:
            return name
    if isinstance(annotation, ForwardRef):  # of classes that are loaded lazily
        return annotation.__forward_arg__
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if kind in (Union, UnionType):
        return " | ".join(map(_write, parts))
    name = getattr(kind or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(_write, parts))}]" if parts else name


_SHARED: Mapping[str, str] = _read_declaration(Parameters)[1]


def _with_lines(doc: str | None, lines: Mapping[str, str]) -> str | None:
    """Add a line for each argument to a docstring, but for those that it explains itself."""
    if doc is None:  # as under `python -OO`
        return None
    text, raises, rest = inspect.cleandoc(doc).partition("\nRaises:\n")
    text = text.rstrip()
    title = "" if "\nArgs:\n" in text else "\n\nArgs:"
    more = [f"\n    {name}: {line}" for name, line in lines.items() if f"\n    {name}: " not in text]
    return "".join([text, title if more else "", *more, f"\n{raises}{rest}" if raises else ""])
