"""The models of a server: sessions, prompt functions, agents, and functions of the program.

A request is always answered with one stream of events, whose text is final: nothing from rejected attempts, and only
the answer of an agent. Typed results are sent as JSON.
"""

from __future__ import annotations

import functools
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, get_args, get_origin, get_type_hints

from mellea.core.blocks import ImageBlock
from mellea.core.events import Event, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.core.runtime.tasks import find_outcome
from mellea.core.serialise import json_value
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, ParseError, ToolError, UsageError
from mellea.serve.ai_sdk.chat import ChatProgram
from mellea.serve.ai_sdk.messages import ChatRequest
from mellea.serve.served_request import ServedRequest
from mellea.serve.served_stream import ServedStream, Streamable
from mellea.stdlib.agents import Agent
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.generative.function import is_text_function
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.streaming import AsyncStream, Stream
from mellea.stdlib.tools import Tool, as_tool

__all__ = ["ProgramError", "ServedModel", "UnfitRequestError", "make_models"]

_LONGEST_ID = 200

_PASSED_ON = frozenset(
    str(option) for option in (ModelOption.TEMPERATURE, ModelOption.TOP_P, ModelOption.SEED, ModelOption.MAX_NEW_TOKENS)
)
"""What a client may choose for the model inside a function or an agent, whose prompts it doesn't know."""


class UnfitRequestError(UsageError):
    """A request doesn't fit the model; the client gets the reason."""


class ProgramError(MelleaError):
    """A program misused the library while it answered; the client gets no details."""


@contextmanager
def _hide_misuse() -> Iterator[None]:
    """Distinguish a program's mistakes from those of a request."""
    try:
        yield
    except UnfitRequestError:
        raise
    except UsageError as error:
        raise ProgramError(f"{type(error).__name__}: {error}") from error


class ServedModel(ABC):
    """One model of a server.

    Args:
        id: its name for clients.
    """

    def __init__(self, id: str) -> None:
        self.id = id

    @property
    def has_type(self) -> bool:
        """Whether its results are values of some type, not texts."""
        return False

    @abstractmethod
    def chat_program(self) -> ChatProgram:
        """Return the program that answers chats."""

    @abstractmethod
    def answer(self, asked: ServedRequest) -> AsyncGenerator[Event, None]:
        """Answer a request: text, reasoning, the client's tools that are called, usage, and the end.

        Raises:
            UsageError: the request doesn't fit this model.
            ProgramError: a program misused the library.
            MelleaError: there is no answer.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"


class SessionModel(ServedModel):
    """The model of a session. A request is the whole conversation: the session's context isn't used."""

    def __init__(self, id: str, session: MelleaSession) -> None:
        super().__init__(id)
        self._session = session

    def chat_program(self) -> ChatProgram:
        return self._session

    async def answer(self, asked: ServedRequest) -> AsyncGenerator[Event, None]:
        known = self._session.backend.capabilities.options | {ModelOption.TOOL_CHOICE}
        # Clients send all options that they know; an unsupported one isn't worth an error.
        options = {name: value for name, value in asked.options.items() if name in known}
        thunk = await self._session.achat(
            list(asked.messages),
            format=None if asked.schema is None else dict(asked.schema),
            tools=asked.tools,
            model_options=options,
            await_result=False,
        )
        is_cut = False
        try:
            async for event in thunk.events():
                is_cut = is_cut or (
                    isinstance(event, StreamEnd) and event.finish_reason in ("length", "content_filter")
                )
                yield event
        except ParseError:
            if not is_cut:  # otherwise the client knows why the JSON is incomplete, and has the beginning
                raise
        finally:
            # The generator is closed when the client leaves, and the model's connection has to close with it.
            await thunk.cancel()


class AgentModel(ServedModel):
    """An agent. It gets the messages of the user and the assistant; its tools and instructions are its own."""

    def __init__(self, id: str, agent: Agent[Any]) -> None:
        super().__init__(id)
        self._agent = agent

    @property
    def has_type(self) -> bool:
        return self._agent.has_format

    def chat_program(self) -> ChatProgram:
        return self._agent

    async def answer(self, asked: ServedRequest) -> AsyncGenerator[Event, None]:
        _refuse_tools(self.id, asked)
        # Tool results are left out: clients don't get the agent's steps, and theirs aren't the agent's.
        spoken = [
            Message(each.role, each.content, images=_find_images(each)) for each in asked.messages if _is_spoken(each)
        ]
        if not spoken:
            raise UnfitRequestError("the conversation has no user message")
        with _hide_misuse():
            async with (
                self._agent.astream(spoken, model_options=_find_inner_options(asked)) as stream,
                aclosing(_read_stream(stream)) as events,
            ):
                async for event in events:
                    yield event


class FunctionModel(ServedModel):
    """A prompt function, or another function of the program."""

    def __init__(self, id: str, function: Callable[..., Any]) -> None:
        super().__init__(id)
        self._function = function
        self._bind = _Binding(function)

    @property
    def has_type(self) -> bool:
        function = self._function
        return isinstance(function, (PromptFunction, AsyncPromptFunction)) and not is_text_function(function)

    def chat_program(self) -> ChatProgram:
        async def answer_chat(request: ChatRequest) -> Streamable:
            given = await self._begin(ServedRequest(request.messages))
            return given if _is_stream(given) else _yield_once(_to_text(given))

        return answer_chat

    async def _begin(self, asked: ServedRequest) -> Any:
        """Return the stream of the answer, or the result of a function without a stream."""
        arguments = await self._bind(asked.messages)
        function = self._function
        if isinstance(function, (PromptFunction, AsyncPromptFunction)):
            return function.astream(**arguments, model_options=_find_inner_options(asked))
        return await find_outcome(functools.partial(function, **arguments))

    async def answer(self, asked: ServedRequest) -> AsyncGenerator[Event, None]:
        _refuse_tools(self.id, asked)
        with _hide_misuse():
            given = await self._begin(asked)
            if _is_stream(given):
                async with aclosing(_read_stream(given)) as events:
                    async for event in events:
                        yield event
            else:
                yield TextDelta(_to_text(given))
                yield StreamEnd("stop")


_STREAMS = (ModelOutputThunk, AsyncStream, Stream, AsyncAgentStream, AgentStream)


def _is_stream(given: Any) -> bool:
    return isinstance(given, _STREAMS) or hasattr(given, "__anext__") or hasattr(given, "__next__")


async def _yield_once(text: str) -> AsyncGenerator[str, None]:
    yield text


def make_models(programs: Iterable[Any]) -> dict[str, ServedModel]:
    """Return the served models, by id.

    Args:
        programs: sessions, prompt functions, agents and functions, or dicts of these by id.

    Raises:
        UsageError: one of them can't be served, or two have the same id.
    """
    models: dict[str, ServedModel] = {}
    for program in programs:
        named = program.items() if isinstance(program, Mapping) else [(_find_id(program), program)]
        for id, each in named:
            if not isinstance(id, str) or not 0 < len(id) <= _LONGEST_ID or not id.isprintable():
                # An id is part of a path and of log lines.
                raise UsageError(f"the id of a model is a text of up to {_LONGEST_ID} characters, not {id!r}")
            if id in models:
                raise UsageError(f"two models have the id {id!r}; {{'another id': …}} gives one of them another")
            models[id] = _make_model(id, each)
    if not models:
        raise UsageError("there is nothing to serve; give a session, an agent or a function")
    return models


def _make_model(id: str, program: Any) -> ServedModel:
    if isinstance(program, MelleaSession):
        return SessionModel(id, program)
    if isinstance(program, Agent):
        return AgentModel(id, program)
    # A class is callable, too, and serving its constructor is nearly always a mistake.
    if callable(program) and not inspect.isclass(program):
        return FunctionModel(id, program)
    raise UsageError(f"a session, an agent or a function can be served, not {program!r}")


def _find_id(program: Any) -> str:
    if isinstance(program, MelleaSession):
        return f"{program.backend.name}/{program.backend.model_id}"
    name = program.name if isinstance(program, (Agent, Tool)) else getattr(program, "__name__", None)
    if not isinstance(name, str):
        raise UsageError(f"{program!r} has no name; give it one, as in {{'name': …}}")
    return name


async def _read_stream(given: Any) -> AsyncGenerator[Event, None]:
    """Read the final text, or the JSON of a typed result, then usage and end."""
    source = ServedStream(given)
    try:
        await source.open()
        is_text = source.is_text
        # A typed result is read to its end, and sent as a whole: a client that expects JSON can't use attempts.
        async for piece in source.text():
            if is_text:
                yield TextDelta(piece)
        # Checked first: a suspended agent has no output to send.
        if source.check() is not None:
            raise UnfitRequestError("the agent is waiting for a person's answer, which this API can't ask for")
        if not is_text:
            yield TextDelta(_to_text(source.output))
        for event in await source.extras():
            yield event
        yield UsageEvent(source.usage or Usage())
        yield StreamEnd("stop")
    finally:
        await source.aclose()


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(json_value(value, serialize_unknown=True), ensure_ascii=False)


def _find_inner_options(asked: ServedRequest) -> dict[str, Any]:
    return {name: value for name, value in asked.options.items() if name in _PASSED_ON}


def _refuse_tools(id: str, asked: ServedRequest) -> None:
    if asked.tools:
        raise UnfitRequestError(f"the model {id!r} is a program with tools of its own; leave out tools")


def _is_spoken(message: Message) -> bool:
    """Return whether it is text of the user or the assistant; tool results only concern the agent."""
    return message.role in ("user", "assistant") and bool(message.content or _find_images(message))


def _find_images(message: Message) -> tuple[ImageBlock, ...]:
    return tuple(block for block in message.blocks if isinstance(block, ImageBlock))


class _Binding:
    """Makes the arguments of a function from a conversation.

    A single text parameter gets the user's last message, a `list[Message]` the conversation; otherwise the user's last
    message is JSON: the only argument, or an object with several by name.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        # `wraps` gives it the function's signature, so arguments are checked without the function being called.
        @functools.wraps(function)
        def capture(**arguments: Any) -> dict[str, Any]:
            return arguments

        self._tool = as_tool(capture)  # which checks arguments against their types
        _ = self._tool.spec  # reports a type without a JSON form now, not to the first client
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
        self._names = [parameter.name for parameter in parameters]
        hints = _find_hints(function)
        self._kinds = [hints.get(name, str) for name in self._names]

    async def __call__(self, messages: tuple[Message, ...]) -> dict[str, Any]:
        """Return the arguments.

        Raises:
            UnfitRequestError: they don't fit.
        """
        if not self._names:
            return {}
        if len(self._names) == 1 and _is_list_of_messages(self._kinds[0]):
            return {self._names[0]: list(messages)}
        said = next((message.content for message in reversed(messages) if message.role == "user"), None)
        if said is None:
            raise UnfitRequestError("the conversation has no user message")
        if len(self._names) == 1 and self._kinds[0] is str:
            return {self._names[0]: said}
        return await self._read(said)

    async def _read(self, said: str) -> dict[str, Any]:
        names = ", ".join(self._names)
        try:
            value = json.loads(said)
        except (ValueError, RecursionError) as error:
            # A single argument may be a plain text without quotes, as people write it.
            if len(self._names) > 1:
                raise UnfitRequestError(f"the last message has to be a JSON object with {names}: {error}") from None
            value = said
        if len(self._names) == 1:
            value = {self._names[0]: value}
        try:
            arguments: dict[str, Any] = await self._tool.call(value)
        except ToolError as error:
            raise UnfitRequestError(f"the last message doesn't give the arguments {names}: {error}") from None
        return arguments


def _find_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError):  # a name that only type checkers know, or not a Python function
        return {}


def _is_list_of_messages(kind: Any) -> bool:
    return get_origin(kind) in (list, tuple) and Message in get_args(kind)
