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

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, TypeVar, cast

from mellea.core import declaration
from mellea.core.backend import Backend
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.chunkers import Scope
from mellea.core.context import Context
from mellea.core.declaration import Default
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
    "ImageArguments",
    "InstructArguments",
    "OptionArguments",
    "Parameters",
    "PartArguments",
    "StreamArguments",
    "VideoArguments",
    "check_backend",
    "check_flag",
    "check_strategy",
    "document",
    "take_parts",
    "verb",
]

F = TypeVar("F", bound=Callable[..., Any])


Images = Annotated[Iterable[ImageBlock] | None, "images that go with the text."]
AspectRatio = Annotated[str | None, 'the ratio of width to height, such as `"16:9"`.']
ProviderOptions = Annotated[
    Mapping[str, Any] | None, 'further options, by the provider\'s own names, such as `{"quality": "high"}`.'
]


class OptionArguments(TypedDict, total=False):
    """What every verb that asks a model takes."""

    model_options: Annotated[Mapping[str, Any] | None, "options for the model, by their names in `ModelOption`."]


class ToolArguments(TypedDict, total=False):
    """What everything with tools takes."""

    tools: Annotated[
        Iterable["AnyTool"] | ToolSet | None, "tools that the model may call; plain functions work as well."
    ]
    max_turns: Annotated[int, "if tools are run, the maximum number of requests to the model.", MAX_TURNS]


class CheckArguments(TypedDict, total=False):
    """What everything that checks answers takes."""

    requirements: Annotated[
        Iterable[str | Requirement] | None, "what the answer has to meet; checked unless `strategy=None`."
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
        '`"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them and asks '
        "again until there are none.",
        "show",
    ]
    loop: Annotated[
        "ToolLoop | None",
        "how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.",
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


class ImageArguments(TypedDict, total=False):
    """What `generate_image` takes."""

    n: Annotated[int, "how many images.", 1]
    aspect_ratio: AspectRatio
    options: ProviderOptions


class VideoArguments(TypedDict, total=False):
    """What `generate_video` takes."""

    seconds: Annotated[int | None, "the length of the video; by default, the provider's default."]
    aspect_ratio: AspectRatio
    to: Annotated[
        str | Path | None, "a file, or a folder, that the video is streamed into; otherwise it is held in memory."
    ]
    job_id: Annotated[
        str | None,
        "a job that was started earlier, to wait for it again or to download it again; then leave out the prompt.",
    ]
    timeout: Annotated[float | None, "seconds until the job is cancelled; `None` waits forever.", 1800.0]
    max_bytes: Annotated[int, "the largest size that the video may have.", 2**30]
    progress: Annotated[
        "bool | Callable[[Progress], object]",
        "whether to show progress on a terminal (on stderr) or in a notebook, or a function that is called with each "
        "`Progress`.",
        True,
    ]
    options: ProviderOptions


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


class NoArguments(TypedDict):
    """For verbs whose parameters are all in their own signature."""


_PART_NAMES = tuple(PartArguments.__annotations__)


def take_parts(arguments: InstructArguments) -> PartArguments:
    """Take the parts of the instruction out of the arguments of `instruct`."""
    found: dict[str, Any] = cast("dict[str, Any]", arguments)
    return cast("PartArguments", {name: found.pop(name) for name in _PART_NAMES if name in found})


def check_backend(backend: Any) -> Backend:
    """Return the backend if it is one.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(backend, Backend):
        raise UsageError(f"backend takes a Backend, not {backend!r}; start_session(…) or get_backend(…) makes one")
    return backend


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
    return declaration.document(arguments, _SHARED)


_SHARED: Mapping[str, str] = declaration.list_lines(Parameters)
