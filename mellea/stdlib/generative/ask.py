"""`ask`: one prompt, one answer, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, cast, overload

from mellea.core.blocking import blocking
from mellea.core.messages import Message
from mellea.errors import UsageError
from mellea.stdlib.generative.items import AsyncItemStream, ItemStream, as_async_items, as_items
from mellea.stdlib.session import MelleaSession, current_session
from mellea.stdlib.streaming import AsyncStream, Stream
from mellea.stdlib.verb import InstructArguments, StreamArguments, verb

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

__all__ = ["aask", "ask"]

T = TypeVar("T")


@overload
async def aask(
    prompt: Any, *, format: TypeForm[T], session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> T: ...
@overload
async def aask(
    prompt: Any, *, format: None = None, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> str: ...
@overload
async def aask(
    prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> Any: ...
@verb("ask", InstructArguments)
async def aask(
    prompt: Any, *, format: Any = None, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> Any:
    """Ask a model, and return its answer: text, or a value of `format`.

    Tools are run unless `tool_calls="show"`, and an answer that fails its requirements is an error unless
    `strict=False`.

    Args:
        prompt: the task in words; or a `Message`, or a list of messages.
        format: the type of the answer, or a JSON Schema as a dict.
        session: the session to use; the current one by default.
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
        RequirementError: every answer fails a requirement.
        MelleaError: an argument is wrong, or the generation failed.
    """
    m = _find_session(session)
    _run_tools(arguments)
    if isinstance(prompt, (Message, list, tuple)):
        said: Any = arguments  # the session rejects arguments that only work with a task in words
        thunk: Any = await m.achat(prompt, format=format, **said)
    else:
        # A plain value can't say that it failed its requirements.
        arguments.setdefault("strict", True)
        thunk = await m.ainstruct(prompt, format=format, **arguments)
    return thunk.value if format is None else thunk.parsed


class _Ask(Protocol):
    """The function `ask` as type checkers see it: with its streams as attributes.

    Editors show the docstring of the last overload; `help` shows those of `aask`, `_stream` and `_astream`.
    """

    @overload
    def __call__(
        self,
        prompt: Any,
        *,
        format: TypeForm[T],
        session: MelleaSession | None = None,
        **arguments: Unpack[InstructArguments],
    ) -> T: ...

    @overload
    def __call__(
        self,
        prompt: Any,
        *,
        format: None = None,
        session: MelleaSession | None = None,
        **arguments: Unpack[InstructArguments],
    ) -> str: ...
    @overload
    def __call__(
        self, prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
    ) -> Any:
        """Ask a model, and return its answer: text, or a value of `format`. Tools are run.

        Args:
            prompt: the task in words; or a `Message`, or a list of messages.
            format: the type of the answer, or a JSON Schema as a dict.
            session: the session to use; the current one by default.
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
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
            requirements: what the answer has to meet; checked unless `strategy=None`.
            strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
            strict: raise a `RequirementError` if no attempt meets the requirements.
        """

    @overload
    def stream(
        self,
        prompt: Any,
        *,
        format: TypeForm[list[T]],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> ItemStream[T]: ...

    @overload
    def stream(
        self,
        prompt: Any,
        *,
        format: TypeForm[T],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> Stream[T]: ...
    @overload
    def stream(
        self,
        prompt: Any,
        *,
        format: None = None,
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> Stream[str]: ...
    @overload
    def stream(
        self, prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[StreamArguments]
    ) -> Stream[Any]:
        """Make a stream for plain code: of text, or of whole items if the format is a sequence.

        Args:
            prompt: the task in words; or a `Message`, or a list of messages.
            format: the type of the answer, or a JSON Schema as a dict; `.output` is a value of it afterwards.
            session: the session to use; the current one by default.
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
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
            requirements: what the answer has to meet; checked unless `strategy=None`.
            strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
            strict: raise a `RequirementError` if no attempt meets the requirements.
            live: under a strategy, yield the text of every attempt as it is written, including rejected ones.
            release: `"word"`, `"sentence"`, `"line"`, `"paragraph"` or `"item"` releases each one as soon as every
                requirement has passed it; `"step"` holds items and partials back until the step that answers has ended.
        """

    @overload
    def astream(
        self,
        prompt: Any,
        *,
        format: TypeForm[list[T]],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncItemStream[T]: ...

    @overload
    def astream(
        self,
        prompt: Any,
        *,
        format: TypeForm[T],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncStream[T]: ...
    @overload
    def astream(
        self,
        prompt: Any,
        *,
        format: None = None,
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncStream[str]: ...
    @overload
    def astream(
        self, prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[StreamArguments]
    ) -> AsyncStream[Any]:
        """Make a stream for async code, not to be awaited itself; otherwise like `stream`.

        Args:
            prompt: the task in words; or a `Message`, or a list of messages.
            format: the type of the answer, or a JSON Schema as a dict; `.output` is a value of it afterwards.
            session: the session to use; the current one by default.
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
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
            requirements: what the answer has to meet; checked unless `strategy=None`.
            strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
            strict: raise a `RequirementError` if no attempt meets the requirements.
            live: under a strategy, yield the text of every attempt as it is written, including rejected ones.
            release: `"word"`, `"sentence"`, `"line"`, `"paragraph"` or `"item"` releases each one as soon as every
                requirement has passed it; `"step"` holds items and partials back until the step that answers has ended.
        """


@verb("ask.stream", StreamArguments)
def _stream(
    prompt: Any, *, format: Any = None, session: MelleaSession | None = None, **arguments: Unpack[StreamArguments]
) -> Stream[Any]:
    """Make a stream for plain code: of text, or of whole items if the format is a sequence.

    It is launched at the first read. Tools are run, unless `tool_calls="show"`.

    Args:
        prompt: the task in words; or a `Message`, or a list of messages.

    Raises:
        UsageError: an argument is wrong.
    """
    m = _find_session(session)
    _run_tools(arguments)
    return as_items(m.stream(prompt, format=format, **arguments), format)


@verb("ask.astream", StreamArguments)
def _astream(
    prompt: Any, *, format: Any = None, session: MelleaSession | None = None, **arguments: Unpack[StreamArguments]
) -> AsyncStream[Any]:
    """Make a stream for async code, not to be awaited itself; otherwise like `ask.stream`.

    Args:
        prompt: the task in words; or a `Message`, or a list of messages.

    Raises:
        UsageError: an argument is wrong.
    """
    m = _find_session(session)
    _run_tools(arguments)
    return as_async_items(m.astream(prompt, format=format, **arguments), format)


def _make_ask() -> _Ask:
    ask: Any = blocking(aask)
    for name, stream in (("stream", _stream), ("astream", _astream)):
        # The public names, since tracebacks and `help` show them.
        stream.__name__, stream.__qualname__ = name, f"ask.{name}"
        setattr(ask, name, stream)
    return cast("_Ask", ask)


ask = _make_ask()
"""Ask a model, and return its answer: `ask("…")`; `ask.stream("…")` and `ask.astream("…")` read it as it is written."""


def _find_session(session: Any) -> MelleaSession:
    if session is None:
        return current_session()
    if not isinstance(session, MelleaSession):
        raise UsageError(f"session= takes a session such as start_session(…), not {session!r}")
    return session


def _run_tools(arguments: InstructArguments) -> None:
    """Run tools by default, since calls that are only shown would be lost here."""
    if arguments.get("tools"):
        arguments.setdefault("tool_calls", "run")
