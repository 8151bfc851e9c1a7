"""The verbs of a session: each is written once, async, and its synchronous twin is one `blocking(…)` line.

`functional.answer` does the work of all of them; the session is their host (`functional.Host`). `scripts/arguments`
copies the lines about declared arguments from `stdlib/verb.py` into the docstrings, since editors read the source.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.blocks import CBlock
from mellea.core.component import Component
from mellea.core.context import Context
from mellea.core.entrance import short_errors
from mellea.core.messages import Message
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.sampling import SamplingResult
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib import components, functional, streaming
from mellea.stdlib.components import Conversation
from mellea.stdlib.session.single_results import SingleResultVerbs
from mellea.stdlib.verb import (
    ActArguments,
    CallArguments,
    ChatArguments,
    InstructArguments,
    OptionArguments,
    StreamArguments,
    check_flag,
    take_parts,
    verb,
)

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

    from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["SessionVerbs"]

T = TypeVar("T")

Text = str | CBlock | ModelOutputThunk[Any]
Yes = Literal[True]


@short_errors
class SessionVerbs(SingleResultVerbs):
    """The verbs of a session. `MelleaSession` has the state.

    Attributes:
        backend: which model to ask, and how.
        ctx: what later calls remember of earlier ones.
        model_options: options for every call.
    """

    backend: Backend
    ctx: Context
    model_options: Mapping[str, Any]

    @abstractmethod
    def launch(self, verb: functional.Verb) -> ModelOutputThunk[Any]:
        """Launch a prepared verb on the running loop, and put its turn into the context."""

    @abstractmethod
    def remember(self, message: Message) -> None:
        """Put a message into the context, if later calls see its turns."""

    # -- verbs ----------------------------------------------------------------------------------------

    @overload
    async def ainstruct(
        self,
        description: Text,
        *,
        format: TypeForm[T],
        await_result: Yes = True,
        **arguments: Unpack[InstructArguments],
    ) -> ComputedModelOutputThunk[T]: ...
    @overload
    async def ainstruct(
        self, description: Text, *, format: TypeForm[T], await_result: bool, **arguments: Unpack[InstructArguments]
    ) -> ModelOutputThunk[T]: ...
    @overload
    async def ainstruct(
        self,
        description: Text,
        *,
        format: None = None,
        await_result: Yes = True,
        **arguments: Unpack[InstructArguments],
    ) -> ComputedModelOutputThunk[str]: ...
    @overload
    async def ainstruct(
        self, description: Text, *, format: None = None, await_result: bool, **arguments: Unpack[InstructArguments]
    ) -> ModelOutputThunk[str]: ...
    @overload
    async def ainstruct(
        self,
        description: Text,
        *,
        format: Any = None,
        return_sampling_results: Yes,
        **arguments: Unpack[InstructArguments],
    ) -> SamplingResult: ...
    @overload
    async def ainstruct(
        self, description: Text, *, format: Any, await_result: Yes = True, **arguments: Unpack[InstructArguments]
    ) -> ComputedModelOutputThunk[Any]: ...
    @overload
    async def ainstruct(
        self, description: Text, *, format: Any, await_result: bool, **arguments: Unpack[InstructArguments]
    ) -> ModelOutputThunk[Any]: ...
    @verb("instruct", InstructArguments)
    async def ainstruct(
        self,
        description: Any,
        *,
        format: Any = None,
        await_result: bool = True,
        return_sampling_results: bool = False,
        **arguments: Unpack[InstructArguments],
    ) -> Any:
        """Give the model a task, and return a thunk: `.value` is the text of the answer.

        Args:
            description: the task in words, with `{{placeholders}}` for the `user_variables`.
            format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
            await_result: whether to wait for the end; if not (only in async code), return once the generation is
                launched.
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
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
            requirements: what the answer has to meet; checked unless `strategy=None`.
            strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
            strict: raise a `RequirementError` if no attempt meets the requirements.

        Raises:
            StreamingError: `await_result=False` under a strategy, which validates complete outputs.
            RequirementError: with `strict`, no attempt met the requirements; `.results` has their results.
            MelleaError: an argument is wrong, or the generation failed.
        """
        return await functional.answer(
            self,
            functional.instruction(description, arguments),
            arguments,
            format=format,
            await_result=await_result,
            return_sampling_results=return_sampling_results,
        )

    @overload
    async def aact(
        self, component: Any, *, format: TypeForm[T], await_result: Yes = True, **arguments: Unpack[ActArguments]
    ) -> ComputedModelOutputThunk[T]: ...
    @overload
    async def aact(
        self,
        component: str | CBlock,
        *,
        format: None = None,
        await_result: Yes = True,
        **arguments: Unpack[ActArguments],
    ) -> ComputedModelOutputThunk[str]: ...
    @overload
    async def aact(
        self, component: Message, *, format: None = None, await_result: Yes = True, **arguments: Unpack[ActArguments]
    ) -> ComputedModelOutputThunk[Message]: ...
    @overload
    async def aact(
        self,
        component: Component[T],
        *,
        format: None = None,
        await_result: Yes = True,
        **arguments: Unpack[ActArguments],
    ) -> ComputedModelOutputThunk[T]: ...
    @overload
    async def aact(
        self, component: Any, *, format: Any = None, await_result: Yes = True, **arguments: Unpack[ActArguments]
    ) -> ComputedModelOutputThunk[Any]: ...
    @overload
    async def aact(
        self, component: Any, *, format: Any = None, return_sampling_results: Yes, **arguments: Unpack[ActArguments]
    ) -> SamplingResult: ...
    @overload
    async def aact(
        self, component: Any, *, format: Any = None, await_result: bool, **arguments: Unpack[ActArguments]
    ) -> ModelOutputThunk[Any]: ...
    @verb("act", ActArguments)
    async def aact(
        self,
        component: Any,
        *,
        format: Any = None,
        await_result: bool = True,
        return_sampling_results: bool = False,
        **arguments: Unpack[ActArguments],
    ) -> Any:
        """Send a component to the model, and return a thunk: `.parsed` is the answer as parsed by the component.

        Args:
            component: a string, a message or a component.
            format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
            await_result: whether to wait for the end; if not (only in async code), return once the generation is
                launched.
            return_sampling_results: return the `SamplingResult` with all attempts instead of the thunk.
            model_options: options for the model, by their names in `ModelOption`.
            tools: tools that the model may call; plain functions work as well.
            max_turns: if tools are run, the maximum number of requests to the model.
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
            requirements: what the answer has to meet; checked unless `strategy=None`.
            strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
            strict: raise a `RequirementError` if no attempt meets the requirements.

        Raises:
            StreamingError: `await_result=False` under a strategy, which validates complete outputs.
            RequirementError: with `strict`, no attempt met the requirements; `.results` has their results.
            MelleaError: an argument is wrong, or the generation failed.
        """
        return await functional.answer(
            self,
            component,
            arguments,
            format=format,
            await_result=await_result,
            return_sampling_results=return_sampling_results,
        )

    @overload
    async def achat(
        self, content: Any, *, format: None = None, await_result: Yes = True, **arguments: Unpack[ChatArguments]
    ) -> ComputedModelOutputThunk[Message]: ...
    @overload
    async def achat(
        self, content: Any, *, format: None = None, await_result: bool, **arguments: Unpack[ChatArguments]
    ) -> ModelOutputThunk[Message]: ...
    @overload
    async def achat(
        self, content: Any, *, format: TypeForm[T], await_result: Yes = True, **arguments: Unpack[ChatArguments]
    ) -> ComputedModelOutputThunk[T]: ...
    @overload
    async def achat(
        self, content: Any, *, format: TypeForm[T], await_result: bool, **arguments: Unpack[ChatArguments]
    ) -> ModelOutputThunk[T]: ...
    @overload
    async def achat(
        self, content: Any, *, format: Any, await_result: Yes = True, **arguments: Unpack[ChatArguments]
    ) -> ComputedModelOutputThunk[Any]: ...
    @overload
    async def achat(
        self, content: Any, *, format: Any, await_result: bool, **arguments: Unpack[ChatArguments]
    ) -> ModelOutputThunk[Any]: ...
    @verb("chat", ChatArguments)
    async def achat(
        self, content: Any, *, format: Any = None, await_result: bool = True, **arguments: Unpack[ChatArguments]
    ) -> Any:
        """Send a message, and return a thunk: `.value` or `.content` is the answer's text, `.parsed` its `Message`.

        Args:
            content: text, blocks, a `Message`, or a list of messages. A list is the whole request: the
                session's context is neither read nor extended.
            format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
            await_result: whether to wait for the end; if not (only in async code), return once the generation is
                launched.
            model_options: options for the model, by their names in `ModelOption`.
            tools: tools that the model may call; plain functions work as well.
            max_turns: if tools are run, the maximum number of requests to the model.
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.
            role: the speaker: `user`, `system` or `assistant`.
            images: images that go with the text.
            user_variables: values for the `{{placeholders}}` in a text, by name.

        Raises:
            MelleaError: an argument is wrong, or the generation failed.
        """
        said = functional.message(content, arguments)
        return await functional.answer(self, said, arguments, format=format, await_result=await_result)

    @overload
    async def aquery(
        self,
        obj: Any,
        query: Text,
        *,
        format: TypeForm[T],
        await_result: Yes = True,
        **arguments: Unpack[CallArguments],
    ) -> ComputedModelOutputThunk[T]: ...
    @overload
    async def aquery(
        self, obj: Any, query: Text, *, format: TypeForm[T], await_result: bool, **arguments: Unpack[CallArguments]
    ) -> ModelOutputThunk[T]: ...
    @overload
    async def aquery(
        self,
        obj: Any,
        query: Text,
        *,
        format: None = None,
        await_result: Yes = True,
        **arguments: Unpack[CallArguments],
    ) -> ComputedModelOutputThunk[str]: ...
    @overload
    async def aquery(
        self, obj: Any, query: Text, *, format: None = None, await_result: bool, **arguments: Unpack[CallArguments]
    ) -> ModelOutputThunk[str]: ...
    @overload
    async def aquery(
        self, obj: Any, query: Text, *, format: Any, await_result: Yes = True, **arguments: Unpack[CallArguments]
    ) -> ComputedModelOutputThunk[Any]: ...
    @overload
    async def aquery(
        self, obj: Any, query: Text, *, format: Any, await_result: bool, **arguments: Unpack[CallArguments]
    ) -> ModelOutputThunk[Any]: ...
    @verb("query", CallArguments)
    async def aquery(
        self, obj: Any, query: Any, *, format: Any = None, await_result: bool = True, **arguments: Unpack[CallArguments]
    ) -> Any:
        """Ask a question about an object, and return a thunk: `.value` is the text of the answer.

        Args:
            obj: any object; `mify` decides what the model sees of it.
            query: the question.
            format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
            await_result: whether to wait for the end; if not (only in async code), return once the generation is
                launched.
            model_options: options for the model, by their names in `ModelOption`.
            tools: tools that the model may call; plain functions work as well.
            max_turns: if tools are run, the maximum number of requests to the model.
            tool_calls: `"show"` (or `True`, which runs nothing) leaves the tool calls in the answer; `"run"` runs them
                and asks again until there are none.
            loop: how tools are run, such as `ToolLoop(max_steps=5, policy=…)`; instead of `tool_calls` and `max_turns`.

        Raises:
            MelleaError: an argument is wrong, or the generation failed.
        """
        question = components.Query(obj, query)
        return await functional.answer(self, question, arguments, format=format, await_result=await_result)

    @verb("transform", OptionArguments, tools=functional.TRANSFORM_TOOLS)
    async def atransform(
        self,
        obj: Any,
        transformation: Text,
        *,
        format: Any = None,
        await_result: bool = True,
        **arguments: Unpack[OptionArguments],
    ) -> Any:
        """Let the model change an object: return the result of the method that it called, else the thunk.

        If the model calls a method, it is run; of several calls the first is run. A backend without tools, and a call
        with a `format`, gets the changed version as text.

        Args:
            obj: any object; `mify` decides what the model sees of it, and which methods it may call.
            transformation: what to change.
            await_result: whether to wait for the end; if not, the thunk has `tool_calls`, and none is run.
            format: the type of the answer, or a JSON Schema as a dict; `.parsed` is a value of it.
            model_options: options for the model, by their names in `ModelOption`.

        Raises:
            ToolError: the model called a method that doesn't exist, or with invalid arguments.
            MelleaError: an argument is wrong, or the generation failed.
        """
        return await functional.change(self, obj, transformation, arguments, format=format, await_result=await_result)

    @verb("validate", model_options=functional.JUDGE_OPTIONS, format=functional.LAST_OUTPUT)
    async def avalidate(self, requirements: Iterable[str | Requirement]) -> list[ValidationResult]:
        """Check the last output against requirements; the results are in their order.

        Args:
            requirements: what to check, as strings or `Requirement`s.

        Raises:
            MelleaError: there is no output, or a judging model failed.
        """
        with self.registering():
            return await functional.avalidate(requirements, self.ctx, self.backend)

    instruct = blocking(ainstruct)
    act = blocking(aact)
    chat = blocking(achat)
    query = blocking(aquery)
    transform = blocking(atransform)
    validate = blocking(avalidate)

    # -- streams --------------------------------------------------------------------------------------

    @overload
    def stream(self, content: Any, *, format: TypeForm[T], **arguments: Unpack[StreamArguments]) -> Stream[T]: ...
    @overload
    def stream(self, content: Any, *, format: None = None, **arguments: Unpack[StreamArguments]) -> Stream[str]: ...
    @overload
    def stream(self, content: Any, *, format: Any, **arguments: Unpack[StreamArguments]) -> Stream[Any]: ...
    @verb("stream", StreamArguments)
    def stream(self, content: Any, *, format: Any = None, **arguments: Unpack[StreamArguments]) -> Stream[Any]:
        """Make a stream for plain code, launched at the first read.

        Args:
            content: the task in words; or a `Message`; or a list of messages, which then is the whole request.
            format: the type of the answer, or a JSON Schema as a dict; `.output` is a value of it afterwards.
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

        Raises:
            UsageError: an argument is wrong.
        """
        launch, live, by_step = self._prepare_stream("stream", content, format, arguments)
        return streaming.Stream(launch, has_format=format is not None, live=live, by_step=by_step)

    @overload
    def astream(self, content: Any, *, format: TypeForm[T], **arguments: Unpack[StreamArguments]) -> AsyncStream[T]: ...
    @overload
    def astream(
        self, content: Any, *, format: None = None, **arguments: Unpack[StreamArguments]
    ) -> AsyncStream[str]: ...
    @overload
    def astream(self, content: Any, *, format: Any, **arguments: Unpack[StreamArguments]) -> AsyncStream[Any]: ...
    @verb("astream", StreamArguments)
    def astream(self, content: Any, *, format: Any = None, **arguments: Unpack[StreamArguments]) -> AsyncStream[Any]:
        """Make a stream for async code, launched at the first read; not to be awaited itself.

        Args:
            content: the task in words; or a `Message`; or a list of messages, which then is the whole request.
            format: the type of the answer, or a JSON Schema as a dict; `.output` is a value of it afterwards.
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

        Raises:
            UsageError: an argument is wrong.
        """
        launch, live, by_step = self._prepare_stream("astream", content, format, arguments)
        return streaming.AsyncStream(launch, has_format=format is not None, live=live, by_step=by_step)

    # -- inside ---------------------------------------------------------------------------------------

    def _prepare_stream(
        self, name: str, content: Any, format: Any, arguments: StreamArguments
    ) -> tuple[Callable[[], ModelOutputThunk[Any]], bool, bool]:
        """Check the arguments of a stream now.

        Returns:
            what launches the call on the loop that it is called on; whether the stream is `live`; and whether its
            typed readers wait for the end of a step.
        """
        live, release = arguments.pop("live", False), arguments.pop("release", None)
        check_flag("live", live)
        # Text is never taken back, so there is nothing that could be held until the end of a step.
        if release == "step" and format is None:
            raise UsageError(
                "release='step' is for the typed readers of a stream, and there is no format; give format=, or leave "
                "it out"
            )
        # The input of `chat`; a stream is one verb for both.
        if isinstance(content, (Message, Mapping, list, tuple)):
            component: Any = _make_conversation(name, content, arguments)
        else:
            component = functional.instruction(content, arguments)
        prepared = functional.prepare(
            component,
            self,
            arguments,
            format=format,
            is_stream=True,
            release=None if release == "step" else release,
        )
        # Checked now, launched when reading begins: a stream that nobody reads costs nothing.
        return lambda: self.launch(prepared), live, release == "step"


def _make_conversation(name: str, content: Any, arguments: InstructArguments) -> Message | Conversation:
    parts = [*take_parts(arguments), *(["requirements"] if "requirements" in arguments else [])]
    # A conversation has no placeholders and no examples of its own, so they would be lost.
    if parts:
        raise UsageError(f"m.{name}(…) takes {parts[0]!r} with a task in words only, not with messages")
    if isinstance(content, Message):
        return content
    if isinstance(content, Mapping):
        raise UsageError(f"m.{name}(…) takes a list of messages, not {content!r}; put it into a list")
    return Conversation(content)
