"""Sessions: a backend and a context, with the verbs as methods.

A session is the host of its verbs (`functional.Host`): `functional.answer` does the work, and `launch` puts the turn
into the session's context before the verb first lets go of the loop. So concurrent verbs take their turns in the order
of the calls, and none is lost. Each verb is written once, async; its synchronous twin is one `blocking(…)` line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

import anyio

from mellea.core.arguments import entrance
from mellea.core.attributes import SESSION_WAYS, find_attribute
from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.blocks import CBlock
from mellea.core.component import Component
from mellea.core.context import Context
from mellea.core.messages import Message
from mellea.core.options import check_options
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.runtime import CLOSE_SECONDS, Register, Registering, Run, held_up_loops
from mellea.core.sampling import SamplingResult
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.core.tracebacks import inside, short_errors
from mellea.errors import UsageError
from mellea.stdlib import components, functional, streaming
from mellea.stdlib.components import Conversation
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.verb import (
    ActArguments,
    CallArguments,
    ChatArguments,
    InstructArguments,
    OptionArguments,
    StreamArguments,
    take_parts,
    verb,
)

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

    from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["MelleaSession", "sessions_around"]

T = TypeVar("T")

Text = str | CBlock | ModelOutputThunk[Any]
Yes = Literal[True]

sessions_around: ContextVar[tuple[MelleaSession, ...]] = ContextVar("mellea_sessions", default=())
"""The sessions of the `with` blocks around the running code, the innermost last."""


@short_errors
class MelleaSession:
    """A model and a context: what later calls remember of earlier ones.

    Args:
        backend: which model to ask, and how.
        ctx: what calls remember; by default a `SimpleContext`, which remembers nothing.
        model_options: options for every call; they override those of the backend.

    As a context manager it is the current session of the block, and is closed at its end.

    Raises:
        UsageError: an argument is of a wrong type, or an option is unknown.
    """

    @entrance("MelleaSession")
    def __init__(
        self, backend: Backend, ctx: Context | None = None, *, model_options: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(backend, Backend):
            raise UsageError(f"backend takes a Backend, not {backend!r}; start_session('provider/model') makes one")
        if ctx is not None and not isinstance(ctx, Context):
            raise UsageError(f"ctx takes a Context such as ChatContext(), not {ctx!r}")
        self.backend = backend
        self.ctx: Context = ctx if ctx is not None else SimpleContext()
        self.model_options: Mapping[str, Any] = check_options(model_options)
        self._lock = threading.Lock()
        self._running: Register[Run] = Register()  # what closing and resetting cancel

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

        Raises:
            StreamingError: `await_result=False` under a strategy, which validates complete outputs.
            RequirementError: with `strict`, no attempt met the requirements; `.results` has what they said.
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
        """Say a component to the model, and return a thunk: `.parsed` is what the component makes of the answer.

        Args:
            component: a text, a message or a component.

        Raises:
            StreamingError: `await_result=False` under a strategy, which validates complete outputs.
            RequirementError: with `strict`, no attempt met the requirements; `.results` has what they said.
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
        """Say a message, and return a thunk: `.value` or `.content` is the answer's text, `.parsed` its `Message`.

        Args:
            content: text, blocks, a `Message`, or a list of messages. The list is the whole request then:
                the session's context is neither read nor extended.

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
            obj: any object; `mify` says what the model is shown of it.
            query: the question.

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
        """Have the model change an object: return what the object's method returns that it called, else the thunk.

        If the model calls a method, it is run; of several calls the first is run. A backend without tools, and a call
        with a `format`, gets the changed version in words.

        Args:
            obj: any object; `mify` says what the model is shown of it, and which methods it may call.
            transformation: what is to be changed.
            await_result: whether to wait for the end; if not, the thunk shows `tool_calls`, and none is run.

        Raises:
            ToolError: the model called a method that isn't there, or with arguments that don't fit.
            MelleaError: an argument is wrong, or the generation failed.
        """
        return await functional.change(self, obj, transformation, arguments, format=format, await_result=await_result)

    @verb("validate", model_options=functional.JUDGE_OPTIONS)
    async def avalidate(self, requirements: Iterable[str | Requirement]) -> list[ValidationResult]:
        """Check the last output against requirements; the results are in their order.

        Args:
            requirements: what to check, as texts or `Requirement`s.

        Raises:
            MelleaError: there is no output, or a judging model failed.
        """
        with self._running.registering():
            return await functional.avalidate(requirements, self.ctx, self.backend)

    @verb("generate_image")
    async def agenerate_image(
        self, prompt: Any, *, n: int = 1, aspect_ratio: str | None = None, **options: Any
    ) -> ImageResult:
        """Have the model make images; the context is neither read nor extended.

        Args:
            prompt: text, blocks, a `Message`, or a list of messages.

        Raises:
            UnsupportedError: the backend makes no images.
            MelleaError: an argument is wrong, or the provider failed.
        """
        with self._running.registering():
            return await functional.agenerate_image(prompt, self.backend, n=n, aspect_ratio=aspect_ratio, **options)

    @verb("embed")
    async def aembed(self, texts: str | Iterable[str]) -> EmbeddingResult:
        """Make a vector for each text, in their order.

        Args:
            texts: a text, or several.

        Raises:
            UnsupportedError: the backend makes no embeddings.
            MelleaError: there is no text, or the provider failed.
        """
        with self._running.registering():
            return await functional.aembed(texts, self.backend)

    instruct = blocking(ainstruct)
    act = blocking(aact)
    chat = blocking(achat)
    query = blocking(aquery)
    transform = blocking(atransform)
    validate = blocking(avalidate)
    generate_image = blocking(agenerate_image)
    embed = blocking(aembed)

    # -- streams --------------------------------------------------------------------------------------

    @overload
    def stream(self, content: Any, *, format: TypeForm[T], **arguments: Unpack[StreamArguments]) -> Stream[T]: ...
    @overload
    def stream(self, content: Any, *, format: None = None, **arguments: Unpack[StreamArguments]) -> Stream[str]: ...
    @overload
    def stream(self, content: Any, *, format: Any, **arguments: Unpack[StreamArguments]) -> Stream[Any]: ...
    @verb("stream", StreamArguments)
    def stream(self, content: Any, *, format: Any = None, **arguments: Unpack[StreamArguments]) -> Stream[Any]:
        """Make a stream for plain code, launched when its reading begins.

        Args:
            content: the task in words; or a `Message`; or a list of messages, which is the whole request then.
            format: the type of the answer, or a JSON Schema as a dict; `.output` is a value of it afterwards.

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
        """Make a stream for async code, launched when its reading begins; not to be awaited itself.

        Args:
            content: the task in words; or a `Message`; or a list of messages, which is the whole request then.
            format: the type of the answer, or a JSON Schema as a dict; `.output` is a value of it afterwards.

        Raises:
            UsageError: an argument is wrong.
        """
        launch, live, by_step = self._prepare_stream("astream", content, format, arguments)
        return streaming.AsyncStream(launch, has_format=format is not None, live=live, by_step=by_step)

    # -- the session itself ---------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """A name of its own, which traces show as `session.id`; a program may set it."""
        return self._running.id

    @id.setter
    def id(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise UsageError(f"the id of a session is a text, not {name!r}")
        self._running.id = name

    @property
    def cost(self) -> float | None:
        """What its requests have cost so far in US dollars, judges and compactors included; `None` if any is unknown.

        Prices are the list prices of `mellea.prices`. A clone begins at 0.
        """
        return self._running.ledger.cost()

    def clone(self) -> MelleaSession:
        """Return a session with the same backend and options that continues from this context independently."""
        return MelleaSession(self.backend, self.ctx, model_options=self.model_options)

    def reset(self) -> None:
        """Forget all turns, and cancel every generation of this session that still runs."""
        with self._lock:
            self.ctx = self.ctx.empty()
        self._running.cancel()

    async def aclose(self) -> None:
        """Cancel every generation of this session that still runs, and close the backend's connections."""
        running = self._running.cancel()
        # A synchronous close holds up the calling loop, whose own runs can't be closed until it returns.
        held_up = held_up_loops()
        with anyio.move_on_after(CLOSE_SECONDS + 0.5, shield=True):
            for run in running:
                if not run.on_any(held_up):
                    await run.until_closed()
        await self.backend.aclose()

    close = blocking(aclose)

    def __enter__(self) -> Self:
        sessions_around.set((*sessions_around.get(), self))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        await self.aclose()

    if not TYPE_CHECKING:  # a checker refuses the names that aren't there

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, SESSION_WAYS)

    def __repr__(self) -> str:
        return f"MelleaSession({self.backend!r}, {self.ctx!r})"

    # -- what the verbs work with: a `functional.Host` ---------------------------------------------------

    @inside
    def launch(self, verb: functional.Verb) -> ModelOutputThunk[Any]:
        """Launch a prepared verb on the running loop, and put its turn into the context.

        Raises:
            StreamingError: a synchronous call would wait for a thunk of the loop that it holds up.
        """
        before = self.ctx
        with Registering(self._running):
            thunk, after = verb.launch(before)
        with self._lock:
            if after is not before and self.ctx is before:
                self.ctx = after
            elif after is not before:  # another thread has put a turn there meanwhile
                self.ctx = self.ctx.add(verb.call.component).add(thunk)
        return thunk

    def remember(self, message: Message) -> None:
        """Put a message into the context, if later calls see its turns."""
        with self._lock:
            if self.ctx.shows_turns:  # a SimpleContext would forget its last output for it
                self.ctx = self.ctx.add(message)

    def registering(self) -> AbstractContextManager[None]:
        """Register what a `with` block launches as work of this session, which closing and resetting it cancel."""
        return self._running.registering()

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
        functional.check_flag("live", live)
        if release == "step" and format is None:
            raise UsageError(
                "release='step' is for the typed readers of a stream, and there is no format; give format=, or leave "
                "it out"
            )
        if isinstance(content, (Message, Mapping, list, tuple)):
            component: Any = _conversation(name, content, arguments)
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
        return lambda: self.launch(prepared), live, release == "step"

    def _leave(self) -> None:
        # A generator may be left in another context than it was entered in: then there is nothing to undo.
        sessions = list(sessions_around.get())
        if self in sessions:
            del sessions[len(sessions) - 1 - sessions[::-1].index(self)]
            sessions_around.set(tuple(sessions))


def _conversation(name: str, content: Any, arguments: InstructArguments) -> Message | Conversation:
    parts = [*take_parts(arguments), *(["requirements"] if "requirements" in arguments else [])]
    if parts:
        raise UsageError(f"m.{name}(…) takes {parts[0]!r} with a task in words only, not with messages")
    if isinstance(content, Message):
        return content
    if isinstance(content, Mapping):
        raise UsageError(f"m.{name}(…) takes a list of messages, not {content!r}; put it into a list")
    return Conversation(content)
