"""`Agent`: a model, tools, instructions and a type of answer; each run works in steps until it has the answer."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, overload

from mellea.core.attributes import AGENT_WAYS, find_attribute
from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.component import is_component
from mellea.core.entrance import entrance, short_errors
from mellea.core.events import NestedEvent, StepStart
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.agents.arguments import EARLIER_TURNS, AgentArguments, AgentStreamArguments
from mellea.stdlib.agents.conversation import AgentConversation
from mellea.stdlib.agents.keeper import Saved, StateKeeper
from mellea.stdlib.agents.limits import Book, Limits, current_book
from mellea.stdlib.agents.memory import Memory
from mellea.stdlib.agents.pending import Pending
from mellea.stdlib.agents.prepare import chain
from mellea.stdlib.agents.result import AgentRun, make_run
from mellea.stdlib.agents.signing import find_secret
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.agents.task import AgentCall, AgentWork
from mellea.stdlib.call import finish
from mellea.stdlib.components import Conversation, render_messages
from mellea.stdlib.session import MelleaSession, start_session
from mellea.stdlib.session.start import current_session
from mellea.stdlib.streaming import AsyncStream, Stream
from mellea.stdlib.tools import AnyTool, Tool, ToolLoop, ToolReturn, ToolSet, as_tools
from mellea.stdlib.verb import verb

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

__all__ = ["Agent"]

T = TypeVar("T")
U = TypeVar("U")

_STREAM_RESUMED = "agent.resume_stream(pending, answers) streams a run that is continued, agent.resume(…) returns it"

_RUN_WAYS = {
    "answers": _STREAM_RESUMED,
    "ctx": EARLIER_TURNS,
    "format": "write Agent(…, output=…)",
    "max_turns": "write Agent(…, limits=Limits(steps=…))",
    "tools": "write Agent(…, tools)",
}
"""What to do instead about arguments that the verbs of an agent don't take."""

Model = MelleaSession | Backend | str | os.PathLike[str] | Sequence[str] | None


class _Settings(TypedDict, total=False):
    """Arguments of `Agent` that don't decide its type."""

    instructions: str | None
    loop: ToolLoop | None
    name: str | None
    limits: Limits | None
    memory: Memory | None
    secret: str | bytes | None
    store: str | os.PathLike[str] | None


@short_errors
class Agent(Generic[T]):
    """A model that works with tools until it has an answer.

    Args:
        model: a session, whose model and options it takes; a backend; or a name, as for `start_session`. `None` is the
            current session of each run. Runs neither read nor extend a session's context.
        tools: functions that the model may call, other agents, and sets of tools; a single set needs no list.
        instructions: the system prompt of every run.
        output: the type of the answer, as `format` of a session's verbs; the text for `str`.
        loop: how tools are run, and when to stop: a `ToolLoop`, or a subclass. By default at most 10 requests, or
            those of `limits`.
        name: its name in traces, in the events of agents that use it, and as a tool.
        limits: how much a run may use. `on_limit` of the loop decides what happens at a limit.
        memory: what it remembers about one user from conversation to conversation; a run may use another one.
        secret: signs the states of suspended runs, so that changed ones are rejected; by default `MELLEA_SECRET` from
            the environment.
        store: an SQLite file that records resumed states, so that none is resumed twice.

    Raises:
        UsageError: an argument is wrong.
        ConfigurationError: the model is unknown.
    """

    @overload
    def __init__(
        self: Agent[str], model: Model = None, tools: Iterable[Any] | ToolSet = (), **settings: Unpack[_Settings]
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[U],
        model: Model = None,
        tools: Iterable[Any] | ToolSet = (),
        *,
        output: TypeForm[U],
        **settings: Unpack[_Settings],
    ) -> None: ...
    @entrance(
        "Agent",
        format="write output=…",
        max_turns="write limits=Limits(steps=…)",
        on_limit="write loop=ToolLoop(on_limit=…)",
        policy="write loop=ToolLoop(policy=…)",
        prepare_step="write loop=ToolLoop(prepare_step=…)",
        system_prompt="write instructions=…",
        system="write instructions=…",
        handoffs="pass another agent as a tool: Agent(…, [other])",
        mcp_servers="pass a server's tools with the others: Agent(…, [mcp(…)])",
    )
    def __init__(
        self,
        model: Any = None,
        tools: Iterable[Any] | ToolSet = (),
        *,
        instructions: str | None = None,
        output: Any = str,
        loop: ToolLoop | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        memory: Memory | None = None,
        secret: str | bytes | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        for what, value, kind, form in (
            ("instructions", instructions, str, "a string"),
            ("loop", loop, ToolLoop, "a ToolLoop, such as ToolLoop(max_steps=5)"),
            ("name", name, str, "a string"),
            ("limits", limits, Limits, "Limits, such as Limits(steps=5)"),
            ("memory", memory, Memory, "a Memory, such as Memory('memory.db', 'ann')"),
        ):
            if value is not None and not isinstance(value, kind):
                raise UsageError(f"{what} takes {form}, not {value!r}")
        self.instructions = instructions
        self.name = name or "agent"
        self.limits = limits or Limits()
        self._memory = memory
        find_secret(secret)  # reports a wrong value now
        self._secret, self._store = secret, store
        self.loop = _bound_loop(loop, self.limits)
        self._model: MelleaSession | Backend | None = _find_model(model)
        self._tools: Sequence[AnyTool] = as_tools(
            # An agent among the tools is a sub-agent: its steps become `NestedEvent`s of the run that calls it.
            [tool.as_tool() if isinstance(tool, Agent) else tool for tool in _check_tools(tools)]
        )
        self._format = _output_format(output)

    # -- runs -----------------------------------------------------------------------------------------

    @verb("run", AgentArguments, **_RUN_WAYS)
    async def arun(self, prompt: Any, **arguments: Unpack[AgentArguments]) -> AgentRun[T]:
        """Work until there is an answer, and return the result of the run.

        Args:
            prompt: a string, a `Message`, a list of messages, or a component such as an `Instruction`.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.

        Raises:
            ToolLoopLimitError: a limit was reached, and the loop has `on_limit="raise"`.
            ParseError: the answer is not a value of the output type, even after it was corrected.
            MelleaError: an argument is wrong, or a request failed.
        """
        return await self.finish(self.prepare(prompt, arguments, corrects=True))

    run = blocking(arun)

    @verb("resume", AgentArguments)
    async def aresume(
        self, pending: Saved, answers: Mapping[str, Any] | None = None, **arguments: Unpack[AgentArguments]
    ) -> AgentRun[T]:
        """Continue a run that waits for answers, or was stopped, in this process or in another one.

        Existing answers of the model aren't requested again, and no finished tool runs again. The policy is asked
        again about every call that is about to run. Unanswered questions stay pending.

        Args:
            pending: `run.pending`, its JSON, or the path of a checkpoint, which then gets the next states.
            answers: by the ids of the questions: `True`, `False`, `Deny(reason)` or `Edited(args)` for an approval; the
                result, or `Deny(reason)`, for a tool that runs outside.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.

        Raises:
            StateError: the state can't be read, or was changed.
            UsageError: an id is unknown, an answer doesn't fit, or the store says that the state has already been
                resumed.
            MelleaError: see `arun`.
        """
        return await self.finish(await self._go_on(pending, answers, arguments, corrects=True))

    resume = blocking(aresume)

    @verb("stream", AgentStreamArguments, **_RUN_WAYS)
    def stream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AgentStream[T]:
        """Make a stream of a run for sync code; it starts at the first read.

        Args:
            prompt: see `arun`.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.
            live: yield the text of every step as it is written, each chunk with its step, then an empty final chunk;
                without it, only the chunks of the answer, once its step is complete.
            chunk_size: the length of a chunk in characters as a reader sees them (graphemes); by default chunks are the
                provider's deltas.
            release: `"step"` holds items and partials back until the step that answers has ended.

        Raises:
            MelleaError: an argument is wrong.
        """
        return self.open_stream(self.prepare(prompt, arguments), arguments)

    @verb("resume_stream", AgentStreamArguments)
    def resume_stream(
        self, pending: Saved, answers: Mapping[str, Any] | None = None, **arguments: Unpack[AgentStreamArguments]
    ) -> AgentStream[T]:
        """Make a stream of a run that is continued, as `resume` does, for plain code.

        The state is read, and the answers are checked, at once; the run goes on at the first read.

        Args:
            pending: `run.pending`, its JSON, or the path of a checkpoint, which then gets the next states.
            answers: by the ids of the questions; see `aresume`.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.
            live: yield the text of every step as it is written, each chunk with its step, then an empty final chunk;
                without it, only the chunks of the answer, once its step is complete.
            chunk_size: the length of a chunk in characters as a reader sees them (graphemes); by default chunks are the
                provider's deltas.
            release: `"step"` holds items and partials back until the step that answers has ended.

        Raises:
            StateError: the state can't be read, or was changed.
            UsageError: an id is unknown, an answer doesn't fit, or the state was resumed before and there is a store.
            MelleaError: an argument is wrong.
        """
        return self.open_stream(_go_on_now(self, pending, answers, arguments), arguments)

    @verb("astream", AgentStreamArguments, **_RUN_WAYS)
    def astream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AsyncAgentStream[T]:
        """Make a stream of a run for async code; it starts at the first read, and isn't awaited itself.

        Args:
            prompt: see `arun`.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.
            live: yield the text of every step as it is written, each chunk with its step, then an empty final chunk;
                without it, only the chunks of the answer, once its step is complete.
            chunk_size: the length of a chunk in characters as a reader sees them (graphemes); by default chunks are the
                provider's deltas.
            release: `"step"` holds items and partials back until the step that answers has ended.

        Raises:
            MelleaError: an argument is wrong.
        """
        return self.open_astream(self.prepare(prompt, arguments), arguments)

    @verb("aresume_stream", AgentStreamArguments)
    async def aresume_stream(
        self, pending: Saved, answers: Mapping[str, Any] | None = None, **arguments: Unpack[AgentStreamArguments]
    ) -> AsyncAgentStream[T]:
        """Make a stream of a run that is continued, as `aresume` does, for async code; this call is awaited.

        The state is read, and the answers are checked, at once; the run goes on at the first read.

        Args:
            pending: `run.pending`, its JSON, or the path of a checkpoint, which then gets the next states.
            answers: by the ids of the questions; see `aresume`.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.
            live: yield the text of every step as it is written, each chunk with its step, then an empty final chunk;
                without it, only the chunks of the answer, once its step is complete.
            chunk_size: the length of a chunk in characters as a reader sees them (graphemes); by default chunks are the
                provider's deltas.
            release: `"step"` holds items and partials back until the step that answers has ended.

        Raises:
            StateError: the state can't be read, or was changed.
            UsageError: an id is unknown, an answer doesn't fit, or the state was resumed before and there is a store.
            MelleaError: an argument is wrong.
        """
        return self.open_astream(await self._go_on(pending, answers, arguments), arguments)

    def conversation(
        self, saved: str | bytes | None = None, *, messages: Iterable[Message | Mapping[str, Any]] = ()
    ) -> AgentConversation[T]:
        """Start or continue a conversation, in which each turn sees the earlier ones.

        Args:
            saved: a conversation as saved by `to_json()`.
            messages: the conversation so far, instead of `saved`.

        Raises:
            StateError: the saved conversation can't be read.
        """
        return AgentConversation(self, saved, messages=messages)

    # -- as a tool ------------------------------------------------------------------------------------

    def as_tool(self, name: str | None = None, description: str | None = None) -> Tool[..., Any]:
        """Return a tool that runs this agent on a task.

        The other agent's stream contains this one's events as `NestedEvent`s, with this one's name and step as their
        path, and this one's usage counts towards the other one's usage, cost and limits. The tool's result is the
        answer for the model, and the whole `AgentRun` for the program, in `event.result.value`.

        Args:
            name: the tool's name; by default the agent's.
            description: the tool's description, for the model; by default made from the instructions.

        Raises:
            UsageError: it has no name.
        """
        # The default name says nothing to a model, and two agents would have the same.
        if name is None and self.name == "agent":
            raise UsageError("an agent that is used as a tool needs a name, as in Agent(…, name='researcher')")
        if description is None:
            does = f" It has these instructions: {self.instructions}" if self.instructions else ""
            description = f"Has the agent {name or self.name!r} work on a task, and returns its answer.{does}"

        async def ask(task: str) -> AsyncGenerator[Any, None]:
            outer = current_book.get()
            memory = self._inner_memory(None if outer is None else outer.memory)
            work = self.prepare(task, {"memory": memory}, corrects=True)
            # Its state is kept inside that of the outer run, so that one `Pending` has the questions of all levels.
            work.book.is_nested = True
            stream = self.open_astream(work, {})
            step = 0
            if outer is not None:
                # By this, `cancel_tool` finds the calls of sub-agents, however deep.
                outer.inner.append(work.book)
            try:
                async with stream:
                    async for event in stream.events():
                        if isinstance(event, StepStart):
                            step = event.step
                        # Each level prepends its own step, so the outermost reader sees the whole path.
                        if isinstance(event, NestedEvent):
                            yield NestedEvent("", f"{step}/{event.path}", event.event)
                        else:
                            yield NestedEvent("", str(step), event)
            finally:
                if outer is not None:
                    outer.inner.remove(work.book)
                    if work.book.pending is None:  # a suspended one is added once it is done
                        outer.add(work.book.usage, work.book.cost)
            # After the stream is closed: the outer loop, and with it the process, may end as soon as it gets this.
            work.book.raise_if_waiting()
            yield ToolReturn(stream.result, stream.output)

        made: Tool[..., Any] = Tool(ask, name=name or self.name, description=description)
        made.inner_tools = tuple(self._tools)
        return made

    # -- for conversations ----------------------------------------------------------------------------

    def open_stream(self, work: AgentWork, arguments: AgentStreamArguments) -> AgentStream[T]:
        """Make a stream of a prepared run; the arguments are those of `stream`."""
        source: Stream[Any] = Stream(
            work.launch, has_format=self._format is not None, by_step=self._waits_for_steps(arguments)
        )
        return AgentStream(work.book, source, arguments)

    def open_astream(self, work: AgentWork, arguments: AgentStreamArguments) -> AsyncAgentStream[T]:
        """Make a stream of a run for async code; the arguments are those of `stream`."""
        source: AsyncStream[Any] = AsyncStream(
            work.launch, has_format=self._format is not None, by_step=self._waits_for_steps(arguments)
        )
        return AsyncAgentStream(work.book, source, arguments)

    async def _go_on(
        self,
        pending: Saved,
        answers: Mapping[str, Any] | None,
        arguments: AgentArguments,
        *,
        corrects: bool = False,
    ) -> AgentWork:
        keeper = self._keep_states(arguments)
        state = await keeper.resume(pending, answers)
        # Without an answer with unfinished calls: those calls are in the state, and are run from there.
        work = self.prepare(Conversation(state.closed_messages), arguments, corrects=corrects)
        work.book.keeper, work.book.start = keeper, state
        return work

    async def finish(self, work: AgentWork) -> AgentRun[T]:
        """Launch a prepared run, and wait for its result; raises like `arun`."""
        thunk = work.launch()
        await finish(thunk)
        return make_run(thunk.record, work.book)

    def _waits_for_steps(self, arguments: AgentStreamArguments) -> bool:
        release = arguments.get("release")
        # Raised now, not at the stream's first read, which may come much later.
        if release not in (None, "step"):
            raise UsageError(f"release takes 'step' or None in an agent's stream, not {release!r}")
        if release == "step" and self._format is None:
            raise UsageError("release='step' is for typed readers, and the agent has no output type; leave it out")
        return release == "step"

    def prepare(
        self, prompt: Any, arguments: AgentArguments, *, earlier: Sequence[Message] = (), corrects: bool = False
    ) -> AgentWork:
        """Check a run as far as possible before it starts.

        Args:
            prompt: the prompt.
            arguments: those of the verb.
            earlier: the conversation so far.
            corrects: whether to correct an answer that isn't of the output type.

        Raises:
            MelleaError: an argument is wrong.
        """
        if isinstance(prompt, (Pending, AgentRun)):
            raise UsageError(f"a run begins with a prompt, not with another run; {_STREAM_RESUMED}")
        model = current_session() if self._model is None else self._model
        session = model if isinstance(model, MelleaSession) else None
        backend = model.backend if isinstance(model, MelleaSession) else model
        self.limits.check_price(backend)
        options = dict(arguments.get("model_options") or {})
        # `setdefault`, so that options of a run take precedence over the agent's instructions.
        if self.instructions is not None:
            options.setdefault(ModelOption.SYSTEM_PROMPT, self.instructions)
        memory = arguments.get("memory", self._memory)
        tools, loop = self._with_memory(memory)
        call = AgentCall.make(
            _component(prompt, earlier, backend),
            backend,
            {"tools": tools, "loop": loop, "model_options": options},
            format=self._format,
            defaults={} if session is None else session.model_options,
        )
        book = Book(self.limits, self._keep_states(arguments))
        book.memory, book.max_steps = memory, loop.step_limit
        return AgentWork(replace(call, book=book, label=self.name, corrects=corrects), book, session)

    def _with_memory(self, memory: Memory | None) -> tuple[Sequence[AnyTool], ToolLoop]:
        """Return the tools and the loop of one run."""
        if memory is None:
            return self._tools, self.loop
        if not isinstance(memory, Memory):
            raise UsageError(f"memory takes a Memory, such as Memory('memory.db', 'ann'), not {memory!r}")
        own = self.loop.prepare_step
        # The memory first, so that the program's own `prepare_step` sees the notes and can change them.
        prepare = memory.prepare_step() if own is None else chain(memory.prepare_step(), own)
        return (*self._tools, memory), replace(self.loop, prepare_step=prepare)

    def _inner_memory(self, outer: Memory | None) -> Memory | None:
        """Return its memory as a tool: of the outer agent's user, if they share a file."""
        own = self._memory
        # Only within one file: another one may belong to another program, whose users must not be mixed up with these.
        return own if own is None or outer is None or outer.path != own.path else own.of(outer.user)

    def _keep_states(self, arguments: AgentArguments) -> StateKeeper:
        return StateKeeper(
            agent=self.name,
            secret=arguments.get("secret", self._secret),
            checkpoint=arguments.get("checkpoint"),
            store=arguments.get("store", self._store),
        )

    @property
    def model(self) -> MelleaSession | Backend | None:
        """The session or the backend that it works with; `None` is the current session of each run."""
        return self._model

    @property
    def format(self) -> Any:
        """The output format of its `output`; `None` for text."""
        return self._format

    @property
    def has_format(self) -> bool:
        """Whether its answers are values of some type rather than text."""
        return self._format is not None

    @property
    def tools(self) -> Sequence[Any]:
        """The tools that the model may call."""
        return tuple(self._tools)

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, AGENT_WAYS)

    def __repr__(self) -> str:
        tools = ", ".join(getattr(tool, "name", None) or repr(tool) for tool in self.tools)
        return f"<Agent {self.name!r} with {self._model!r}, tools: {tools or 'none'}>"


_go_on_now = blocking(Agent._go_on)


def _find_model(model: Any) -> MelleaSession | Backend | None:
    if model is None or isinstance(model, (MelleaSession, Backend)):
        return model
    return start_session(model)


def _check_tools(tools: Any) -> Iterable[Any]:
    if isinstance(tools, ToolSet):
        return (tools,)
    if isinstance(tools, (str, bytes)) or not isinstance(tools, Iterable):
        raise UsageError(f"tools takes a list, not {tools!r}; put it into one")
    return tools


def _bound_loop(loop: ToolLoop | None, limits: Limits) -> ToolLoop:
    loop = ToolLoop() if loop is None else loop
    # Both may be given, and both apply.
    known = [steps for steps in (loop.max_steps, limits.steps) if steps is not None]
    return replace(loop, max_steps=min(known)) if known else loop


def _output_format(output: Any) -> Any:
    if output is str or output is None:
        return None
    from mellea.core.structured import make_output_format  # lazy: plain text doesn't need it

    # A wrong output type is reported when the agent is created, not in its first run.
    return make_output_format(output)


def _component(prompt: Any, earlier: Sequence[Message], backend: Backend) -> Any:
    """Return the input: the prompt after the conversation so far."""
    # A component decides how it is rendered; a bare `Message` is handled like any other prompt.
    said = prompt if is_component(prompt) and not isinstance(prompt, Message) else functional.message(prompt)
    return Conversation([*earlier, *render_messages(said, backend.model_id)]) if earlier else said
