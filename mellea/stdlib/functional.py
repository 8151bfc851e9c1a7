"""The verbs as functions over (context, backend) that return (result, context).

Sessions have the same verbs. Their shared code is written once, for a `Host`: `answer`, `change`, and the functions
that create a verb's component. A verb doesn't yield to the loop before its generation has been launched and its turn is
in the host's context, so verbs called in a row are launched in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, Unpack, cast

from mellea.core.backend import Backend, Request
from mellea.core.blocking import blocking
from mellea.core.chunkers import SCOPES, Scope
from mellea.core.context import Context
from mellea.core.messages import Message
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.sampling import SamplingStrategy
from mellea.core.thunk import ModelOutputThunk
from mellea.core.values import quick_value
from mellea.errors import StreamingError, UsageError
from mellea.stdlib import components, streaming
from mellea.stdlib.call import Call, finish
from mellea.stdlib.components import Conversation, Instruction, as_message
from mellea.stdlib.requirements.streaming import check_watchable
from mellea.stdlib.requirements.validation import add_own_requirements, as_requirements, validate_all
from mellea.stdlib.sampling.rejection import FormatRepairStrategy, RejectionSamplingStrategy
from mellea.stdlib.single_result import (
    aembed,
    agenerate_image,
    agenerate_video,
    embed,
    generate_image,
    generate_video,
)
from mellea.stdlib.verb import (
    ActArguments,
    CallArguments,
    ChatArguments,
    InstructArguments,
    OptionArguments,
    check_flag,
    check_strategy,
    take_parts,
    verb,
)
from mellea.templates import fill_text, warn_of_placeholder

__all__ = [
    "DEFAULT_STRATEGY",
    "aact",
    "achat",
    "act",
    "aembed",
    "agenerate_image",
    "agenerate_video",
    "ainstruct",
    "aquery",
    "atransform",
    "avalidate",
    "chat",
    "embed",
    "generate_image",
    "generate_video",
    "instruct",
    "query",
    "transform",
    "validate",
]

C = TypeVar("C", bound=Context)

DEFAULT_STRATEGY: Final = RejectionSamplingStrategy(loop_budget=2)
"""The default strategy for requirements."""

_CORRECTION: Final = FormatRepairStrategy(loop_budget=2)
"""How to correct an answer that isn't a value of its `format`."""

JUDGE_OPTIONS: Final = "a judge has options of its own: judge=Judge(…, model_options={…})"
"""The advice for options given to `validate`."""

TRANSFORM_TOOLS: Final = "transform offers the methods of the object; query takes tools="
"""The advice for tools given to `transform`."""


class Host(Protocol):
    """What a verb works on: a session, or a plain context.

    Attributes:
        backend: which model to ask.
        model_options: options for every call, checked; those of a call take precedence over them.
    """

    backend: Backend
    model_options: Mapping[str, Any]

    def launch(self, verb: Verb) -> ModelOutputThunk[Any]:
        """Launch a verb on the running loop and put its turn into the context, without yielding to the loop."""

    def remember(self, message: Message) -> None:
        """Put a message into the context, if later calls see its turns."""


class Alone(Generic[C]):
    """The host of a functional verb: a context without a session."""

    __slots__ = ("backend", "context")

    model_options: Mapping[str, Any] = {}

    def __init__(self, context: C, backend: Backend) -> None:
        if not isinstance(backend, Backend):
            raise UsageError(f"backend takes a Backend, not {backend!r}; start_session(…) or get_backend(…) makes one")
        self.context = context
        self.backend = backend

    def launch(self, verb: Verb) -> ModelOutputThunk[Any]:
        thunk, self.context = verb.launch(self.context)
        return thunk

    def remember(self, message: Message) -> None:
        if self.context.shows_turns:  # otherwise a SimpleContext would forget its last output
            self.context = self.context.add(message)


@quick_value
class Verb:
    """A verb whose arguments have been checked, to be launched once."""

    call: Call
    strategy: SamplingStrategy | None
    requirements: tuple[Requirement, ...]
    strict: bool
    release: Scope | None

    def launch(self, context: C, request: Request | None = None) -> tuple[ModelOutputThunk[Any], C]:
        """Launch the generation on the running loop; return its thunk, and the context with the new turn.

        Args:
            context: the earlier turns.
            request: the first request, if it is already rendered.

        Raises:
            StreamingError: a synchronous call would wait for a thunk of the loop that it blocks.
        """
        if self.strategy is None:
            return self.call.launch(context, request=request)
        return streaming.launch_sampled(
            self.call,
            context,
            self.strategy,
            self.requirements,
            strict=self.strict,
            release=self.release,
            request=request,
        )


def prepare(
    component: Any,
    host: Host,
    arguments: CallArguments,
    *,
    format: Any = None,
    await_result: bool = True,
    return_sampling_results: bool = False,
    is_stream: bool = False,
    release: Scope | None = None,
) -> Verb:
    """Check the arguments of a verb.

    If an awaited answer isn't a value of `format`, the model is asked once more and told what was wrong.

    Raises:
        StreamingError: `await_result=False` under a strategy, which validates complete outputs.
        MelleaError: an argument is wrong.
    """
    checked = cast("ActArguments", arguments)  # verbs without requirements don't have these keys
    strict = checked.get("strict", False)
    # One comparison for a correct call; which argument is wrong is determined afterwards.
    if not (type(strict) is type(await_result) is type(return_sampling_results) is bool):
        _check_flags(
            {"strict": strict, "await_result": await_result, "return_sampling_results": return_sampling_results}
        )
    # Absent means the default, `None` means no checks.
    strategy = checked.get("strategy", DEFAULT_STRATEGY)
    checks: tuple[Requirement, ...] = ()
    if (
        strategy is not DEFAULT_STRATEGY
        or "requirements" in checked
        or (isinstance(component, Instruction) and component.requirements)
    ):
        asked = (
            *as_requirements(checked.get("requirements")),
            *as_requirements(getattr(check_strategy(strategy), "requirements", None)),
        )
        checks = add_own_requirements(component, asked)
    is_checked = strategy is not None and (strategy is not DEFAULT_STRATEGY or bool(checks))
    if return_sampling_results and not is_checked:
        raise UsageError("return_sampling_results=True needs a strategy, and requirements for it to check")
    # Before anything is launched: a rejected verb costs nothing.
    if is_checked and not await_result:
        raise _strategy_guard(strategy)
    if release is not None and release not in SCOPES:
        raise UsageError(f"release takes {', '.join(map(repr, SCOPES))}, or 'step', not {release!r}")
    if release is not None and not is_checked:
        raise UsageError(f"release={release!r} needs a strategy, and requirements that check such chunks")
    call = Call.make(component, host.backend, arguments, format=format, defaults=host.model_options)
    # A stream has already shown the first answer when it turns out to be invalid.
    corrects = call.format is not None and strategy is not None and await_result and not is_stream
    chosen = strategy if is_checked else _CORRECTION if corrects else None
    if chosen is None:
        return Verb(call, None, (), strict, None)
    check_watchable(checks, call.format)
    # The strategy may use another model; anything that this model doesn't support is an error now, not after the first
    # attempts.
    for other in getattr(chosen, "backends", ()):
        call.vary(backend=other)
    if release is not None:
        streaming.check_release(release, call, chosen, checks)
    return Verb(call, chosen, checks, strict, release)


async def answer(
    host: Host,
    component: Any,
    arguments: CallArguments,
    *,
    format: Any = None,
    await_result: bool = True,
    return_sampling_results: bool = False,
) -> Any:
    """Send a component for a host: the basis of all verbs. Its arguments and errors are those of `act`."""
    verb = prepare(
        component,
        host,
        arguments,
        format=format,
        await_result=await_result,
        return_sampling_results=return_sampling_results,
    )
    # Nothing is awaited before this line, so verbs that are called in a row get their turns in that order.
    thunk = host.launch(verb)
    if await_result:
        await finish(thunk)
    return thunk.sampling if return_sampling_results else thunk


async def change(
    host: Host,
    obj: Any,
    transformation: Any,
    arguments: OptionArguments,
    *,
    format: Any = None,
    await_result: bool = True,
) -> Any:
    """Let a model change an object for a host. The arguments and errors are those of `transform`."""
    tools = components.get_tools(obj) if format is None else ()
    component = components.Transform(obj, transformation, has_tools=bool(tools))
    # A `format` requests the changed version, so no method may be called instead.
    with_tools = cast("CallArguments", {**arguments, "tools": tools} if tools else arguments)
    thunk = await answer(host, component, with_tools, format=format, await_result=await_result)
    if not await_result or not thunk.tool_calls:
        return thunk
    result, message = await components.call_method(thunk.tool_calls, tools)
    # The method's result, which later turns of a chat have to see after the call.
    host.remember(message)
    return result


# -- the verbs ----------------------------------------------------------------------------------------


@verb("act", ActArguments)
async def aact(
    component: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    await_result: bool = True,
    return_sampling_results: bool = False,
    **arguments: Unpack[ActArguments],
) -> tuple[Any, C]:
    """Send a component to a model; return the thunk of its answer, and the context with this turn.

    Args:
        component: a string, a message or a component.
        context: the earlier turns that the model sees.
        backend: which model to ask, and how.
        format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
        await_result: whether to wait for the end; if not (only in async code), return once the generation is launched.
        return_sampling_results: return the `SamplingResult` with all attempts instead of the thunk.
        model_options: options for the model, by their names in `ModelOption`.
        tools: tools that the model may call; plain functions work as well.
        max_turns: if tools are run, the maximum number of requests to the model.
        tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them and
            asks again until there are none.
        loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
        requirements: what the answer has to meet; checked unless `strategy=None`.
        strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
        strict: raise a `RequirementError` if no attempt meets the requirements.

    Raises:
        StreamingError: `await_result=False` under a strategy, which validates complete outputs.
        RequirementError: with `strict`, no attempt met the requirements; `.results` has the results of the checks.
        MelleaError: an argument is wrong, or the generation failed.
    """
    host = Alone(context, backend)
    result = await answer(
        host,
        component,
        arguments,
        format=format,
        await_result=await_result,
        return_sampling_results=return_sampling_results,
    )
    return result, host.context


@verb("instruct", InstructArguments)
async def ainstruct(
    description: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    await_result: bool = True,
    return_sampling_results: bool = False,
    **arguments: Unpack[InstructArguments],
) -> tuple[Any, C]:
    """Give a model a task; return the thunk of its answer, and the context with this turn.

    Args:
        description: the task in words, with `{{placeholders}}` for the `user_variables`.
        context: the earlier turns that the model sees.
        backend: which model to ask, and how.
        format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
        await_result: whether to wait for the end; if not (only in async code), return once the generation is launched.
        return_sampling_results: return the `SamplingResult` with all attempts instead of the thunk.
        input: a value that the task is about; anything but a string goes into the prompt as JSON.
        name: a name for the task, which observers see.
        images: images that go with the text.
        icl_examples: examples of good answers.
        grounding_context: texts that the answer has to be based on, by name.
        user_variables: values for the `{{placeholders}}` in the description, by name.
        prefix: text in the prompt before the description.
        output_prefix: text that the answer begins with.
        model_options: options for the model, by their names in `ModelOption`.
        tools: tools that the model may call; plain functions work as well.
        max_turns: if tools are run, the maximum number of requests to the model.
        tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them and
            asks again until there are none.
        loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
        requirements: what the answer has to meet; checked unless `strategy=None`.
        strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
        strict: raise a `RequirementError` if no attempt meets the requirements.

    Raises:
        StreamingError: `await_result=False` under a strategy, which validates complete outputs.
        RequirementError: with `strict`, no attempt met the requirements; `.results` has the results of the checks.
        MelleaError: an argument is wrong, or the generation failed.
    """
    host = Alone(context, backend)
    result = await answer(
        host,
        instruction(description, arguments),
        arguments,
        format=format,
        await_result=await_result,
        return_sampling_results=return_sampling_results,
    )
    return result, host.context


@verb("chat", ChatArguments)
async def achat(
    content: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    await_result: bool = True,
    **arguments: Unpack[ChatArguments],
) -> tuple[Any, C]:
    """Send a message; return the thunk of its answer, whose `.content` is the text, and the context with this turn.

    Args:
        content: text, blocks, a `Message`, or a list of messages, which then is the whole request.
        context: the earlier turns that the model sees.
        backend: which model to ask, and how.
        format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
        await_result: whether to wait for the end; if not (only in async code), return once the generation is launched.
        model_options: options for the model, by their names in `ModelOption`.
        tools: tools that the model may call; plain functions work as well.
        max_turns: if tools are run, the maximum number of requests to the model.
        tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them and
            asks again until there are none.
        loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
        role: the speaker: `user`, `system` or `assistant`.
        images: images that go with the text.
        user_variables: values for the `{{placeholders}}` in a text, by name.

    Raises:
        MelleaError: an argument is wrong, or the generation failed.
    """
    host = Alone(context, backend)
    said = message(content, arguments)
    return await answer(host, said, arguments, format=format, await_result=await_result), host.context


@verb("query", CallArguments)
async def aquery(
    obj: Any,
    query: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    await_result: bool = True,
    **arguments: Unpack[CallArguments],
) -> tuple[Any, C]:
    """Ask a question about an object; return the thunk of its answer, and the context with this turn.

    Args:
        obj: any object; `mify` decides what the model sees of it. `get_tools(obj)` returns its methods as tools.
        query: the question.
        context: the earlier turns that the model sees.
        backend: which model to ask, and how.
        format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
        await_result: whether to wait for the end; if not (only in async code), return once the generation is launched.
        model_options: options for the model, by their names in `ModelOption`.
        tools: tools that the model may call; plain functions work as well.
        max_turns: if tools are run, the maximum number of requests to the model.
        tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them and
            asks again until there are none.
        loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.

    Raises:
        MelleaError: an argument is wrong, or the generation failed.
    """
    host = Alone(context, backend)
    return await answer(
        host, components.Query(obj, query), arguments, format=format, await_result=await_result
    ), host.context


@verb("transform", OptionArguments, tools=TRANSFORM_TOOLS)
async def atransform(
    obj: Any,
    transformation: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    await_result: bool = True,
    **arguments: Unpack[OptionArguments],
) -> tuple[Any, C]:
    """Let a model change an object, by one of the object's documented methods or by writing the changed version.

    If the model calls a method, it is run and its result is returned instead of the thunk; of several calls, only the
    first is run. A backend without tools, or a call with a `format`, gets the changed version as text.

    Args:
        obj: any object; `mify` decides what the model sees of it, and which methods it may call.
        transformation: what to change.
        context: the earlier turns that the model sees; the method's result is added as well.
        await_result: whether to wait for the end; if not, the thunk has `tool_calls`, and none is run.
        backend: which model to ask, and how.
        format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
        model_options: options for the model, by their names in `ModelOption`.

    Raises:
        ToolError: the model called a method that doesn't exist, or with invalid arguments.
        MelleaError: an argument is wrong, or the generation failed.
    """
    host = Alone(context, backend)
    result = await change(host, obj, transformation, arguments, format=format, await_result=await_result)
    return result, host.context


@verb("validate", model_options=JUDGE_OPTIONS)
async def avalidate(
    requirements: Iterable[str | Requirement], context: Context, backend: Backend
) -> list[ValidationResult]:
    """Check the last output of a context against requirements; returns the results in the same order.

    Args:
        requirements: what to check, as strings or `Requirement`s.
        context: the earlier turns that the model sees.
        backend: which model to ask, and how.

    Raises:
        MelleaError: there is no output, or a judging model failed.
    """
    return [result for _, result in await validate_all(as_requirements(requirements), context, backend)]


act = blocking(aact)
instruct = blocking(ainstruct)
chat = blocking(achat)
query = blocking(aquery)
transform = blocking(atransform)
validate = blocking(avalidate)


# -- from arguments to components ---------------------------------------------------------------------


def instruction(description: Any, arguments: InstructArguments) -> Instruction:
    """Create the instruction of a verb, and remove its parts from the arguments.

    Raises:
        UsageError: an argument is of a wrong type.
    """
    # It may be meant as text, and a text from outside must not be an error; but usually a variable was forgotten.
    if type(description) is str and "{{" in description and not arguments.get("user_variables"):
        warn_of_placeholder(description)
    # The fast path of the simplest call.
    if not arguments:
        return Instruction(description)
    parts: Any = take_parts(arguments)  # any sequence; the instruction makes tuples of them
    # They belong to the instruction, which checks them; otherwise they would be checked twice.
    requirements = arguments.pop("requirements", None)
    return Instruction(description, as_requirements(requirements), **parts)


def message(content: Any, arguments: ChatArguments | None = None) -> Message | Conversation:
    """Create the message, or the whole conversation, of `chat`, and remove its parts from the arguments.

    Raises:
        UsageError: the content is empty, or can't become a message.
    """
    arguments = {} if arguments is None else arguments
    role, images = arguments.pop("role", "user"), arguments.pop("images", None)
    content = fill_text(content, arguments.pop("user_variables", None))
    return as_message(content, role, images)


def _check_flags(flags: Mapping[str, object]) -> None:
    for name, value in flags.items():
        check_flag(name, value)


def _strategy_guard(strategy: Any) -> StreamingError:
    why = f"strategy={strategy!r}" if strategy is not DEFAULT_STRATEGY else "requirements and the default strategy"
    return StreamingError(
        f"await_result=False can't be combined with {why}: a strategy validates complete outputs; give strategy=None "
        "(requirements go into the prompt, unchecked), leave await_result=True, or use m.astream(…), which streams "
        "under a strategy"
    )
