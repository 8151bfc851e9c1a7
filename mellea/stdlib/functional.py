"""The verbs as functions over (context, backend) that return (result, context).

A verb's coroutine doesn't let go of the loop before its generation has been launched, so verbs called in
a row are launched in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mellea.core.arguments import knows_names
from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.chunkers import Scope
from mellea.core.context import Context
from mellea.core.messages import Message
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.sampling import SamplingStrategy
from mellea.core.thunk import ModelOutputThunk
from mellea.core.tracebacks import short_errors
from mellea.errors import StreamingError, UsageError
from mellea.stdlib.call import Call, finish
from mellea.stdlib.components import Conversation, Instruction, Query, Transform, call_method, get_tools
from mellea.stdlib.requirements.streaming import check_watchable
from mellea.stdlib.requirements.validation import add_own_requirements, as_requirements, validate_all
from mellea.stdlib.sampling.rejection import FormatRepairStrategy, RejectionSamplingStrategy
from mellea.stdlib.streaming import check_release, launch_sampled
from mellea.stdlib.tools import MAX_TURNS, AnyTool, Tool, ToolCalls

__all__ = [
    "DEFAULT_STRATEGY",
    "aact",
    "achat",
    "act",
    "ainstruct",
    "aquery",
    "atransform",
    "avalidate",
    "chat",
    "instruct",
    "query",
    "transform",
    "validate",
]

C = TypeVar("C", bound=Context)

_ACT = (
    "strategy",
    "return_sampling_results",
    "strict",
    "format",
    "model_options",
    "tools",
    "tool_calls",
    "max_turns",
    "await_result",
)

DEFAULT_STRATEGY: Final = RejectionSamplingStrategy(loop_budget=2)
"""What `instruct` does about requirements if nothing else is said."""

_CORRECTION: Final = FormatRepairStrategy(loop_budget=2)
"""What is done about an answer that doesn't have the asked format."""


JUDGE_OPTIONS: Final = "a judge has options of its own: judge=Judge(…, model_options={…})"
"""What to say to who gives options to a verb that asks judges alone."""


@short_errors
@knows_names("act")
async def aact(
    component: Any,
    context: C,
    backend: Backend,
    *,
    requirements: Iterable[str | Requirement] | None = None,
    strategy: SamplingStrategy | None = DEFAULT_STRATEGY,
    return_sampling_results: bool = False,
    strict: bool = False,
    format: Any = None,
    model_options: Mapping[str, Any] | None = None,
    tools: Iterable[AnyTool] | None = None,
    tool_calls: ToolCalls = "show",
    max_turns: int = MAX_TURNS,
    await_result: bool = True,
) -> tuple[Any, C]:
    """Say a component to a model; return the thunk of its answer, and the context with this turn.

    Args:
        component: a text, a message or a component.
        context: what the model knows of earlier turns.
        backend: whom to say it to.
        requirements: what the output has to meet, besides those of an `Instruction`; checked if there is a strategy.
        strategy: how to come to an output that meets them; `None` checks nothing.
        return_sampling_results: return the `SamplingResult` instead of the thunk.
        strict: raise if no attempt meets the requirements.
        format: a type, or a JSON Schema as a dict, that the answer is to have; `.parsed` is a value of it.
        model_options: names as in `ModelOption`.
        tools: tools that the model may ask for; functions do.
        tool_calls: `"show"` leaves the calls in the answer; `"run"` runs them and asks again with their
            results, until an answer calls no tool.
        max_turns: how many times the model is asked at most, if tools are run.
        await_result: wait for the end. If not, the thunk comes as soon as the generation is launched.

    Raises:
        StreamingError: `await_result=False` under a strategy, which validates complete outputs.
        RequirementError: with `strict`, no attempt met the requirements; `.results` has what they said.
        MelleaError: an argument is wrong, or the generation failed.
    """
    verb = prepare(
        component,
        backend,
        requirements=requirements,
        strategy=strategy,
        strict=strict,
        await_result=await_result,
        return_sampling_results=return_sampling_results,
        format=format,
        model_options=model_options,
        tools=tools,
        tool_calls=tool_calls,
        max_turns=max_turns,
    )
    thunk, after = verb.launch(context)
    if await_result:
        await finish(thunk)
    return thunk.sampling if return_sampling_results else thunk, after


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb whose arguments have been checked, to be launched once."""

    call: Call
    strategy: SamplingStrategy | None
    requirements: tuple[Requirement, ...]
    strict: bool
    release: Scope | None

    def launch(self, context: C) -> tuple[ModelOutputThunk[Any], C]:
        """Start the generation on the running loop, and return it with the context that has the new turn.

        Raises:
            StreamingError: a synchronous call would wait for a thunk of the loop that it holds up.
        """
        if self.strategy is None:
            return self.call.launch(context)
        return launch_sampled(
            self.call, context, self.strategy, self.requirements, strict=self.strict, release=self.release
        )


def prepare(
    component: Any,
    backend: Backend,
    *,
    requirements: Iterable[str | Requirement] | None = None,
    strategy: SamplingStrategy | None = DEFAULT_STRATEGY,
    strict: bool = False,
    await_result: bool = True,
    return_sampling_results: bool = False,
    is_stream: bool = False,
    release: Scope | None = None,
    **call: Any,
) -> Verb:
    """Check the arguments of a verb; those that aren't named here are `Call.make`'s.

    An answer that is awaited and doesn't have the asked format is asked for once more, with what was wrong.

    Raises:
        StreamingError: `await_result=False` under a strategy, which validates complete outputs.
        MelleaError: an argument is wrong.
    """
    for name, flag in {
        "strict": strict,
        "await_result": await_result,
        "return_sampling_results": return_sampling_results,
    }.items():
        check_flag(name, flag)
    asked = (*as_requirements(requirements), *_strategy_requirements(strategy))
    checks = add_own_requirements(component, asked)
    is_checked = strategy is not None and (strategy is not DEFAULT_STRATEGY or bool(checks))
    if return_sampling_results and not is_checked:
        raise UsageError("return_sampling_results=True takes a strategy, and requirements for it to check")
    if is_checked and not await_result:
        raise _strategy_guard(strategy)
    if release is not None and not is_checked:
        raise UsageError(f"release={release!r} takes a strategy, and requirements that look at such chunks")
    made = Call.make(component, backend, **call)
    corrects = made.format is not None and strategy is not None and await_result and not is_stream
    chosen = strategy if is_checked else _CORRECTION if corrects else None
    verb = Verb(made, chosen, checks if chosen is not None else (), strict, release)
    if chosen is not None:
        check_watchable(checks, made.format)
        for other in getattr(chosen, "backends", ()):
            made.varied(backend=other)
    if release is not None and chosen is not None:
        check_release(release, made, chosen, checks)
    return verb


@short_errors
@knows_names("instruct", *_ACT)
async def ainstruct(
    description: Any,
    context: C,
    backend: Backend,
    *,
    input: Any = None,
    name: str | None = None,
    images: Iterable[Any] | None = None,
    requirements: Iterable[str | Requirement] | None = None,
    icl_examples: Iterable[Any] | None = None,
    grounding_context: Mapping[str, Any] | None = None,
    user_variables: Mapping[str, Any] | None = None,
    prefix: Any = None,
    output_prefix: Any = None,
    **options: Any,
) -> tuple[Any, C]:
    """Give a model a task. The arguments are those of `Instruction` and of `aact`; `name` shows in traces.

    Raises:
        MelleaError: an argument is wrong, or the generation failed.
    """
    component = instruction(
        description,
        input=input,
        name=name,
        images=images,
        requirements=requirements,
        icl_examples=icl_examples,
        grounding_context=grounding_context,
        user_variables=user_variables,
        prefix=prefix,
        output_prefix=output_prefix,
    )
    return await aact(component, context, backend, **options)


@short_errors
@knows_names("chat")
async def achat(
    content: Any,
    context: C,
    backend: Backend,
    *,
    role: str = "user",
    images: Iterable[Any] | None = None,
    format: Any = None,
    model_options: Mapping[str, Any] | None = None,
    tools: Iterable[AnyTool] | None = None,
    tool_calls: ToolCalls = "show",
    max_turns: int = MAX_TURNS,
    await_result: bool = True,
) -> tuple[Any, C]:
    """Say a message; `.parsed` of the thunk is the assistant's `Message`, its `.content` the text.

    Args:
        content: text, blocks, a `Message`, or a list of messages, which is the whole request then.
        context: what the model knows of earlier turns.
        backend: whom to say it to.
        role: who says it.
        images: images that go with it.
        format: a type that the answer is to have; `.parsed` is a value of it then.
        model_options: names as in `ModelOption`.
        tools: tools that the model may ask for; functions do.
        tool_calls: `"show"` leaves the calls in the answer; `"run"` runs them and asks again with their
            results, until an answer calls no tool.
        max_turns: how many times the model is asked at most, if tools are run.
        await_result: wait for the end.

    Raises:
        MelleaError: an argument is wrong, or the generation failed.
    """
    return await aact(
        message(content, role=role, images=images),
        context,
        backend,
        format=format,
        model_options=model_options,
        tools=tools,
        tool_calls=tool_calls,
        max_turns=max_turns,
        await_result=await_result,
    )


@short_errors
@knows_names("query")
async def aquery(
    obj: Any,
    query: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    model_options: Mapping[str, Any] | None = None,
    tools: Iterable[AnyTool] | None = None,
    tool_calls: ToolCalls = "show",
    max_turns: int = MAX_TURNS,
    await_result: bool = True,
) -> tuple[Any, C]:
    """Ask a question about an object.

    Args:
        obj: any object; `mify` says what the model is shown of it.
        query: the question.
        context: what the model knows of earlier turns.
        backend: whom to ask.
        format: a type that the answer is to have; `.parsed` is a value of it then.
        model_options: names as in `ModelOption`.
        tools: tools that the model may ask for; the object's own methods are `get_tools(obj)`.
        tool_calls: `"show"` leaves the calls in the answer; `"run"` runs them and asks again with their
            results, until an answer calls no tool.
        max_turns: how many times the model is asked at most, if tools are run.
        await_result: wait for the end. If not, the thunk comes as soon as the generation is launched.

    Raises:
        MelleaError: an argument is wrong, or the generation failed.
    """
    return await aact(
        Query(obj, query),
        context,
        backend,
        format=format,
        model_options=model_options,
        tools=tools,
        tool_calls=tool_calls,
        max_turns=max_turns,
        await_result=await_result,
    )


@short_errors
@knows_names("transform", tools="transform offers the methods of the object; query takes tools=")
async def atransform(
    obj: Any,
    transformation: Any,
    context: C,
    backend: Backend,
    *,
    format: Any = None,
    model_options: Mapping[str, Any] | None = None,
    await_result: bool = True,
) -> tuple[Any, C]:
    """Have a model change an object, by one of the object's documented methods or by writing the changed version.

    If the model calls a method, it is run and its result is returned in place of the thunk; of several calls
    the first is run. A backend without tools, and a call with a `format`, gets the changed version in words.

    Args:
        obj: any object; `mify` says what the model is shown of it, and which methods it may call.
        transformation: what is to be changed.
        context: what the model knows of earlier turns; the method's result goes into it too.
        backend: whom to ask.
        format: a type that the answer is to have; `.parsed` is a value of it then.
        model_options: names as in `ModelOption`.
        await_result: wait for the end. If not, the thunk comes as soon as the generation is launched; its
            `tool_calls` are shown then, and none is run.

    Raises:
        ToolError: the model called a method that isn't there, or with arguments that don't fit.
        MelleaError: an argument is wrong, or the generation failed.
    """
    component, tools = transformation_of(obj, transformation, backend, format)
    thunk, after = await aact(
        component,
        context,
        backend,
        format=format,
        model_options=model_options,
        tools=tools or None,
        await_result=await_result,
    )
    if not await_result or not thunk.tool_calls:
        return thunk, after
    result, message = await call_method(thunk.tool_calls, tools)
    # Unless no later call sees it; a SimpleContext would forget its last output for it.
    return result, after.add(message) if after.shows_turns else after


@short_errors
@knows_names("validate", model_options=JUDGE_OPTIONS)
async def avalidate(
    requirements: Iterable[str | Requirement], context: Context, backend: Backend
) -> list[ValidationResult]:
    """Check the last output of the context against requirements; the results are in their order.

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


def instruction(description: Any, **parts: Any) -> Instruction:
    """Make the instruction of a verb's arguments.

    Raises:
        UsageError: an argument is of a wrong type.
    """
    parts["requirements"] = as_requirements(parts.get("requirements"))
    return Instruction(description, **parts)


def message(content: Any, *, role: str = "user", images: Iterable[Any] | None = None) -> Message | Conversation:
    """Make the message, or the whole conversation, of a verb's arguments.

    Raises:
        UsageError: the content is empty, or something else than a message is made of.
    """
    if isinstance(content, Message):
        return content
    if isinstance(content, (list, tuple)) and any(isinstance(item, (Message, Mapping)) for item in content):
        return Conversation(content)
    made = Message(role, content, images=images or ())
    if not made.blocks or (made.content == content and not made.content.strip()):
        raise UsageError(f"the message is empty: {content!r}; say something")
    return made


def transformation_of(
    obj: Any, transformation: Any, backend: Backend, format: Any
) -> tuple[Transform, tuple[Tool[..., Any], ...]]:
    """Make the component of a change, and the tools that go with it.

    Raises:
        UsageError: an argument is of a wrong type, or a method is none that a model can call.
    """
    tools = get_tools(obj) if backend.capabilities.tools and format is None else ()
    return Transform(obj, transformation, has_tools=bool(tools)), tools


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither `True` nor `False`.

    Raises:
        UsageError: names the argument.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} takes True or False, not {value!r}")


def _strategy_requirements(strategy: SamplingStrategy | None) -> tuple[Requirement, ...]:
    if strategy is None:
        return ()
    if not hasattr(strategy, "sample") or isinstance(strategy, type):
        raise UsageError(
            f"strategy takes a sampling strategy such as RejectionSamplingStrategy(), or None, not {strategy!r}"
        )
    return as_requirements(getattr(strategy, "requirements", None))


def _strategy_guard(strategy: Any) -> StreamingError:
    why = f"strategy={strategy!r}" if strategy is not DEFAULT_STRATEGY else "requirements and the default strategy"
    return StreamingError(
        f"await_result=False can't go with {why}: a strategy validates complete outputs; give strategy=None "
        "(requirements go into the prompt, unchecked), leave await_result=True, or use m.astream(…), which streams "
        "under a strategy"
    )
