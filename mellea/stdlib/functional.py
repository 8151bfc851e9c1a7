"""The verbs as functions over (context, backend) that return (result, context).

A verb's coroutine doesn't let go of the loop before its generation has been launched, so verbs called in
a row are launched in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.core.portal import blocking
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.sampling import SamplingResult, SamplingStrategy
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import RequirementError, StreamingError, UsageError
from mellea.stdlib.call import Call, finish
from mellea.stdlib.components import Conversation, Instruction, Query, Transform, call_method, tools_of
from mellea.stdlib.requirements.validation import as_requirements, validate_all
from mellea.stdlib.sampling import RejectionSamplingStrategy
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

DEFAULT_STRATEGY: Final = RejectionSamplingStrategy(loop_budget=2)
"""What `instruct` does about requirements if nothing else is said."""


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
        requirements: what the output has to meet; checked if there is a strategy.
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
    check_flag("strict", strict)
    checks = as_requirements(requirements)
    if strategy is not None:
        checks = (*checks, *_strategy_requirements(strategy))
    is_checked = validates(checks, strategy)
    _guard(await_result, is_checked, strategy, return_sampling_results)
    call = Call.make(
        component,
        backend,
        format=format,
        model_options=model_options,
        tools=tools,
        tool_calls=tool_calls,
        max_turns=max_turns,
    )
    if strategy is None or not is_checked:
        thunk, after = call.launch(context)
        if await_result:
            await finish(thunk)
        return thunk, after
    result = await _sample(call, context, strategy, checks)
    chosen = result.attempts[result.chosen]
    if strict and not result.success:
        raise _requirement_error(result)
    return result if return_sampling_results else result.result, chosen.context  # type: ignore[return-value]


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
    return await aact(component, context, backend, requirements=component.requirements, **options)


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
        strategy=None,
        format=format,
        model_options=model_options,
        tools=tools,
        tool_calls=tool_calls,
        max_turns=max_turns,
        await_result=await_result,
    )


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
        tools: tools that the model may ask for; the object's own methods are `tools_of(obj)`.
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
        strategy=None,
        format=format,
        model_options=model_options,
        tools=tools,
        tool_calls=tool_calls,
        max_turns=max_turns,
        await_result=await_result,
    )


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
        strategy=None,
        format=format,
        model_options=model_options,
        tools=tools or None,
        await_result=await_result,
    )
    if not await_result or not thunk.tool_calls:
        return thunk, after
    result, message = await call_method(thunk.tool_calls, tools)
    # Unless no later call sees it; a SimpleContext would forget its last output for it.
    return result, after.add(message) if after.view_for_generation() else after


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
    tools = tools_of(obj) if backend.capabilities.tools and format is None else ()
    return Transform(obj, transformation, has_tools=bool(tools)), tools


def validates(requirements: Any, strategy: SamplingStrategy | None) -> bool:
    """Tell whether a verb with these arguments checks its output, which takes the whole of it."""
    if strategy is None:
        return False
    return strategy is not DEFAULT_STRATEGY or bool(requirements)


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither `True` nor `False`.

    Raises:
        UsageError: names the argument.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} takes True or False, not {value!r}")


def _strategy_requirements(strategy: SamplingStrategy) -> tuple[Requirement, ...]:
    if not hasattr(strategy, "sample") or isinstance(strategy, type):
        raise UsageError(
            f"strategy takes a sampling strategy such as RejectionSamplingStrategy(), or None, not {strategy!r}"
        )
    return tuple(strategy.requirements)


def _guard(await_result: Any, is_checked: bool, strategy: Any, wants_results: bool) -> None:
    check_flag("await_result", await_result)
    check_flag("return_sampling_results", wants_results)
    if wants_results and not is_checked:
        raise UsageError("return_sampling_results=True takes a strategy, and requirements for it to check")
    if is_checked and not await_result:
        raise strategy_guard("await_result=False", strategy, "leave await_result=True")


def strategy_guard(what: str, strategy: Any, way_out: str) -> StreamingError:
    """Make the error for streaming under a strategy."""
    why = f"strategy={strategy!r}" if strategy is not DEFAULT_STRATEGY else "requirements and the default strategy"
    return StreamingError(
        f"{what} can't go with {why}: a strategy validates complete outputs; "
        f"give strategy=None (requirements go into the prompt, unchecked), or {way_out}"
    )


async def _sample(
    call: Call, context: C, strategy: SamplingStrategy, requirements: tuple[Requirement, ...]
) -> SamplingResult:
    async def generate(number: int) -> tuple[ComputedModelOutputThunk[Any], Context]:
        thunk, after = _varied(call, number).launch(context)
        await finish(thunk)
        return await thunk, after

    async def validate(after: Context) -> tuple[tuple[Requirement, ValidationResult], ...]:
        return await validate_all(requirements, after, call.backend)

    result = await strategy.sample(generate, validate)
    result.result._run.sampling = result
    return result


def _varied(call: Call, number: int) -> Call:
    """Give each attempt a seed of its own, so that a retry isn't the same again."""
    seed = call.options.get(ModelOption.SEED)
    if seed is None or number == 0:
        return call
    return replace(call, options={**call.options, ModelOption.SEED: seed + number})


def _requirement_error(result: SamplingResult) -> RequirementError:
    attempt = result.attempts[result.chosen]
    failed = [f"{requirement} ({outcome.reason})" for requirement, outcome in attempt.validations if not outcome]
    return RequirementError(
        f"no attempt of {len(result.attempts)} met the requirements; the chosen one fails: {'; '.join(failed)}",
        results=[[outcome for _, outcome in attempt.validations] for attempt in result.attempts],
        partial=attempt.output.value or "",
    )
