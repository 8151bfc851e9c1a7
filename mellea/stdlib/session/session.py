"""Sessions: a backend, a context that goes on, and the verbs over them.

Every verb is written once, as the async one; its synchronous twin is one `blocking(…)` line. A verb
launches its generation and puts the turn into the context before it first lets go of the loop, so
concurrent verbs on one session take their turns in the order of the calls, and none is lost.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, cast, overload

import anyio

from mellea.core.arguments import knows_names
from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.component import Component
from mellea.core.context import Context
from mellea.core.messages import Message
from mellea.core.options import check_options
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.runtime import CLOSE_SECONDS, Register, Run, held_up_loops, launch
from mellea.core.sampling import SamplingResult
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.core.tracebacks import short_errors
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.call import finish
from mellea.stdlib.components import Conversation, Query, call_method, render_messages
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.session.arguments import (
    ACT,
    CALL,
    PARTS,
    STREAM,
    ActArguments,
    CallArguments,
    ChatArguments,
    InstructArguments,
    StreamArguments,
    take,
)
from mellea.stdlib.streaming import AsyncStream, Stream

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

__all__ = ["MelleaSession", "sessions_around"]

T = TypeVar("T")

Text = str | CBlock | ModelOutputThunk[Any]
Yes = Literal[True]

sessions_around: ContextVar[tuple[MelleaSession, ...]] = ContextVar("mellea_sessions", default=())
"""The sessions whose `with` blocks are around, the innermost last."""


@short_errors
class MelleaSession:
    """A conversation with one model, or a series of calls that stand alone.

    Args:
        backend: how to reach the model.
        ctx: what calls know of each other; a `SimpleContext` (nothing) by default.
        model_options: defaults for every call, before those of the backend.

    As a context manager it is the current session of the block, and is closed at its end.

    Raises:
        UsageError: an argument is of a wrong type, or an option is unknown.
    """

    @knows_names("MelleaSession")
    def __init__(
        self, backend: Backend, ctx: Context | None = None, *, model_options: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(backend, Backend):
            raise UsageError(f"backend takes a Backend, not {backend!r}; start_session('provider/model') makes one")
        if ctx is not None and not isinstance(ctx, Context):
            raise UsageError(f"ctx takes a Context such as ChatContext(), not {ctx!r}")
        self.backend = backend
        self.ctx: Context = ctx if ctx is not None else SimpleContext()
        self.model_options = check_options(model_options)
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
    async def ainstruct(
        self, description: Any, *, format: Any = None, await_result: bool = True, **arguments: Any
    ) -> Any:
        """Give the model a task.

        Args:
            description: the task in words.
            format: a type that the answer is to have; `.parsed` is a value of it.
            await_result: wait for the end. If not, the thunk comes as soon as the generation is launched.
            arguments: `requirements`, `strategy`, `strict`, `return_sampling_results`, `model_options`, `tools`,
                `tool_calls` and `max_turns`, as in `functional.aact`; `input`, `name`, `images`, `icl_examples`,
                `grounding_context`, `user_variables`, `prefix` and `output_prefix`, as in `Instruction`.

        Raises:
            StreamingError: `await_result=False` under a strategy.
            MelleaError: an argument is wrong, or the generation failed.
        """
        parts = take("instruct", arguments, PARTS, ACT)
        component = functional.instruction(description, **parts)
        return await self._act(component, format=format, await_result=await_result, **arguments)

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
        self, component: Any, *, format: Any = None, await_result: bool = True, **arguments: Any
    ) -> ModelOutputThunk[Any]: ...
    async def aact(
        self, component: Any, *, format: Any = None, await_result: bool = True, **arguments: Any
    ) -> ModelOutputThunk[Any]:
        """Say a component to the model; `.parsed` is what the component makes of the answer.

        Args:
            component: a text, a message or a component.
            format: a type that the answer is to have; `.parsed` is a value of it then.
            await_result: wait for the end. If not, the thunk comes as soon as the generation is launched.
            arguments: `requirements`, `strategy`, `strict`, `return_sampling_results`, `model_options`, `tools`,
                `tool_calls` and `max_turns`, as in `functional.aact`.

        Raises:
            StreamingError: `await_result=False` under a strategy.
            MelleaError: an argument is wrong, or the generation failed.
        """
        take("act", arguments, (), ACT)
        return cast(
            "ModelOutputThunk[Any]",
            await self._act(component, format=format, await_result=await_result, **arguments),
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
    async def achat(
        self,
        content: Any,
        *,
        role: str = "user",
        images: Iterable[ImageBlock] | None = None,
        format: Any = None,
        await_result: bool = True,
        **arguments: Any,
    ) -> Any:
        """Say a message; `.parsed` is the assistant's `Message`, `.content` its text.

        Args:
            content: text, blocks, a `Message`, or a list of messages. The list is the whole request then:
                the session's context is neither read nor extended.
            role: who says it.
            images: images that go with it.
            format: a type that the answer is to have; `.parsed` is a value of it then.
            await_result: wait for the end. If not, the thunk comes as soon as the generation is launched.
            arguments: `model_options`, `tools`, `tool_calls` and `max_turns`, as in `functional.aact`.

        Raises:
            MelleaError: an argument is wrong, or the generation failed.
        """
        take("chat", arguments, (), (*CALL, "role", "images"))
        component = functional.message(content, role=role, images=images)
        return await self._act(component, format=format, await_result=await_result, **arguments)

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
    async def aquery(
        self, obj: Any, query: Any, *, format: Any = None, await_result: bool = True, **arguments: Any
    ) -> Any:
        """Ask a question about an object.

        Args:
            obj: any object; `mify` says what the model is shown of it.
            query: the question.
            format: a type that the answer is to have; `.parsed` is a value of it.
            await_result: wait for the end. If not, the thunk comes as soon as the generation is launched.
            arguments: `model_options`, `tools`, `tool_calls` and `max_turns`, as in `functional.aquery`.

        Raises:
            MelleaError: an argument is wrong, or the generation failed.
        """
        take("query", arguments, (), CALL)
        return await self._act(Query(obj, query), format=format, await_result=await_result, **arguments)

    @knows_names("transform", tools="transform offers the methods of the object; m.query takes tools=")
    async def atransform(
        self,
        obj: Any,
        transformation: str | CBlock | ModelOutputThunk[Any],
        *,
        format: Any = None,
        model_options: Mapping[str, Any] | None = None,
        await_result: bool = True,
    ) -> Any:
        """Have the model change an object: what the object's method returns that it called, else the thunk.

        The arguments and errors are those of `functional.atransform`.
        """
        component, tools = functional.transformation_of(obj, transformation, self.backend, format)
        thunk = await self._act(
            component,
            format=format,
            model_options=model_options,
            tools=tools or None,
            await_result=await_result,
        )
        if not await_result or not thunk.tool_calls:
            return thunk
        result, message = await call_method(thunk.tool_calls, tools)
        with self._lock:
            if self.ctx.shows_turns:  # a SimpleContext would forget its last output for it
                self.ctx = self.ctx.add(message)
        return result

    @knows_names("validate", model_options=functional.JUDGE_OPTIONS)
    async def avalidate(self, requirements: Iterable[str | Requirement]) -> list[ValidationResult]:
        """Check the last output against requirements; the results are in their order.

        Raises:
            MelleaError: there is no output, or a judging model failed.
        """
        with self._running.registering():
            return await functional.avalidate(requirements, self.ctx, self.backend)

    async def agenerate_image(
        self, prompt: Any, *, n: int = 1, aspect_ratio: str | None = None, **options: Any
    ) -> ImageResult:
        """Have the model make images; the context is neither read nor extended.

        Args:
            prompt: text, blocks, a `Message`, or a list of messages.
            n: how many images.
            aspect_ratio: width to height, such as `"16:9"`.
            options: more, by the provider's own names.

        Raises:
            UnsupportedError: the backend makes no images.
            MelleaError: an argument is wrong, or the provider failed.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UsageError(f"n takes a whole number from 1, not {n!r}")
        if aspect_ratio is not None and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", str(aspect_ratio)):
            raise UsageError(f"aspect_ratio takes a text such as '16:9', not {aspect_ratio!r}")
        messages = render_messages(functional.message(prompt), self.backend.model_id)
        return cast(
            "ImageResult",
            await self._do(
                "image", lambda: self.backend.generate_image(messages, n=n, aspect_ratio=aspect_ratio, **options)
            ),
        )

    @knows_names("embed")
    async def aembed(self, texts: str | Iterable[str]) -> EmbeddingResult:
        """Make a vector for each text, in their order.

        Raises:
            UnsupportedError: the backend makes no embeddings.
            MelleaError: there is no text, or the provider failed.
        """
        found = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else []
        if not found or not all(isinstance(text, str) and text for text in found):
            raise UsageError(f"embed takes a text or a list of texts, none of them empty, not {texts!r}")
        return cast("EmbeddingResult", await self._do("embedding", lambda: self.backend.embed(found)))

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
    def stream(self, content: Any, *, format: Any = None, **arguments: Any) -> Stream[Any]:
        """Make a stream for plain code, launched when its reading begins.

        Args:
            content: the task in words; or a `Message`; or a list of messages, which is the whole request then.
            format: a type that the answer is to have; `.output` is a value of it afterwards.
            arguments: those of `instruct`, and besides:
                `live`: whether the text iterator gives everything as it is written; under a strategy that is also the
                    text of attempts which will be rejected, and the events tell which.
                `release`: `"word"`, `"sentence"`, `"line"`, `"paragraph"` or `"item"`: let each such chunk out as soon
                    as every requirement has passed it. The next attempt goes on after what was let out. `"step"`: give
                    items and partial objects at the end of the step that answers, so that they are never superseded by
                    what the model writes after it has called a tool.

        Raises:
            UsageError: an argument is wrong.
        """
        how = _how(arguments, format)
        return Stream(self._launcher("stream", content, format, arguments), has_format=format is not None, **how)

    @overload
    def astream(self, content: Any, *, format: TypeForm[T], **arguments: Unpack[StreamArguments]) -> AsyncStream[T]: ...
    @overload
    def astream(
        self, content: Any, *, format: None = None, **arguments: Unpack[StreamArguments]
    ) -> AsyncStream[str]: ...
    @overload
    def astream(self, content: Any, *, format: Any, **arguments: Unpack[StreamArguments]) -> AsyncStream[Any]: ...
    def astream(self, content: Any, *, format: Any = None, **arguments: Any) -> AsyncStream[Any]:
        """Make a stream for async code, launched when its reading begins; not to be awaited itself.

        The arguments and errors are those of `stream`.
        """
        how = _how(arguments, format)
        launch = self._launcher("astream", content, format, arguments)
        return AsyncStream(launch, has_format=format is not None, **how)

    # -- the session itself ---------------------------------------------------------------------------

    def clone(self) -> MelleaSession:
        """Return a session with the same backend and options that goes on from this context by itself."""
        return MelleaSession(self.backend, self.ctx, model_options=self.model_options)

    def reset(self) -> None:
        """Forget all turns, and cancel every generation of this session that is still being written."""
        with self._lock:
            self.ctx = self.ctx.empty()
        self._running.cancel()

    async def aclose(self) -> None:
        """Cancel every generation of this session that is still being written, and give back what the backend holds."""
        running = self._running.cancel()
        # The loop that a synchronous close holds up can't close anything before the close returns.
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

    def __repr__(self) -> str:
        return f"MelleaSession({self.backend!r}, {self.ctx!r})"

    # -- inside ---------------------------------------------------------------------------------------

    async def _act(self, component: Any, *, await_result: Any = True, **arguments: Any) -> Any:
        verb = functional.prepare(
            component, self.backend, await_result=await_result, defaults=self.model_options, **arguments
        )
        thunk = self._launch(verb)
        if await_result:
            await finish(thunk)
        return thunk.sampling if arguments.get("return_sampling_results") else thunk

    async def _do(self, kind: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Make a request that isn't written piece by piece, as work of this session, and return its result."""
        backend = self.backend
        with self._running.registering():
            run = launch(
                work=lambda run: ask(), kind=kind, is_request=True, backend=backend.name, model=backend.model_id
            )
        thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
        await finish(thunk)
        return thunk.parsed

    def _launch(self, verb: functional.Verb) -> ModelOutputThunk[Any]:
        before = self.ctx
        with self._running.registering():
            thunk, after = verb.launch(before)
        with self._lock:
            if after is not before and self.ctx is before:
                self.ctx = after
            elif after is not before:  # another thread has put a turn there meanwhile
                self.ctx = self.ctx.add(verb.call.component).add(thunk)
        return thunk

    def registering(self) -> AbstractContextManager[None]:
        """Register what a `with` block launches as work of this session, which closing and resetting it cancel."""
        return self._running.registering()

    def _launcher(
        self, verb: str, content: Any, format: Any, arguments: dict[str, Any]
    ) -> Callable[[], ModelOutputThunk[Any]]:
        """Check the arguments now; what is returned launches the call on the loop that it is called on."""
        take(verb, arguments, (), (*PARTS, *STREAM))
        parts = {name: arguments.pop(name) for name in PARTS if name in arguments}
        if isinstance(content, (Message, Mapping, list, tuple)):
            component: Any = _conversation(verb, content, parts)
        else:
            component = functional.instruction(content, **parts)
        prepared = functional.prepare(
            component, self.backend, format=format, is_stream=True, defaults=self.model_options, **arguments
        )
        return lambda: self._launch(prepared)

    def _leave(self) -> None:
        # A generator may be left in another context than the one it was entered in: then there is nothing to undo.
        sessions = list(sessions_around.get())
        if self in sessions:
            del sessions[len(sessions) - 1 - sessions[::-1].index(self)]
            sessions_around.set(tuple(sessions))


def _how(arguments: dict[str, Any], format: Any) -> dict[str, bool]:
    """Take out the arguments that say how a stream shows what it reads."""
    live = arguments.pop("live", False)
    functional.check_flag("live", live)
    by_step = arguments.get("release") == "step"
    if by_step and format is None:
        raise UsageError(
            "release='step' is for the typed readers of a stream, and there is no format; give format=, or leave it out"
        )
    if by_step:
        del arguments["release"]
    return {"live": bool(live), "by_step": by_step}


def _conversation(verb: str, content: Any, parts: Mapping[str, Any]) -> Message | Conversation:
    if parts:
        raise UsageError(f"m.{verb}(…) takes {next(iter(parts))!r} with a task in words only, not with messages")
    if isinstance(content, Message):
        return content
    if isinstance(content, Mapping):
        raise UsageError(f"m.{verb}(…) takes a list of messages, not {content!r}; put it into a list")
    return Conversation(content)
