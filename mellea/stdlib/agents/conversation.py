"""Conversations with an agent: turns that know the ones before them, saved and loaded as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack

from mellea.core.attributes import AGENT_CONVERSATION_WAYS, find_attribute
from mellea.core.blocking import blocking
from mellea.core.entrance import short_errors
from mellea.core.history import repair_history
from mellea.core.messages import Message, as_messages
from mellea.core.serialise import from_json, to_json
from mellea.errors import UsageError
from mellea.stdlib.agents.arguments import AgentArguments, AgentStreamArguments
from mellea.stdlib.agents.result import AgentRun
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.agents.task import AgentWork
from mellea.stdlib.verb import verb

__all__ = ["AgentConversation"]

T = TypeVar("T")


class Speaker(Protocol[T]):
    """The agent of a conversation."""

    name: str

    def prepare(
        self, prompt: Any, arguments: AgentArguments, *, earlier: Sequence[Message] = (), corrects: bool = False
    ) -> AgentWork:
        """Check a run as far as it can be before it begins."""

    async def finish(self, work: AgentWork) -> AgentRun[T]:
        """Launch a run, and wait for its result."""

    def open_stream(self, work: AgentWork, arguments: AgentStreamArguments) -> AgentStream[T]:
        """Make a stream of a run."""

    def open_astream(self, work: AgentWork, arguments: AgentStreamArguments) -> AsyncAgentStream[T]:
        """Make a stream of a run for async code."""


@short_errors
class AgentConversation(Generic[T]):
    """Several turns with an agent; `Agent.conversation()` starts one.

    A turn is part of it once its run has succeeded. One that failed, was cancelled or is suspended is left out. The
    tool calls in it that have no result, as after a limit, get one that says so before the next turn.

    Args:
        agent: the agent.
        saved: a conversation saved by `to_json()`.
        messages: the conversation so far, instead of `saved`.
        choose: returns the agent of a turn, given its prompt, if it isn't always the same. The turn then has the
            instructions of that agent, not of the previous one.

    Attributes:
        messages: the whole conversation, including instructions and tool results.

    Raises:
        UsageError: both are given, or one of the messages isn't one.
        StateError: the saved conversation can't be read.
    """

    def __init__(
        self,
        agent: Speaker[T],
        saved: str | bytes | None = None,
        *,
        messages: Iterable[Message | Mapping[str, Any]] = (),
        choose: Callable[[Any], Speaker[T]] | None = None,
    ) -> None:
        self._agent = agent
        self._choose = choose
        self.messages = as_messages(messages)
        self._work: AgentWork | None = None
        if saved is not None:
            if self.messages:
                raise UsageError("conversation takes a saved conversation or messages=, not both")
            if not isinstance(saved, (str, bytes)):
                raise UsageError(f"conversation takes the JSON that to_json() saved, or messages=[…], not {saved!r}")
            # An empty text is a new conversation, so that a program can pass on what it found in its database.
            self.messages = tuple(from_json(saved, Message)) if saved else ()

    @verb("send", AgentArguments)
    async def asend(self, prompt: Any, **arguments: Unpack[AgentArguments]) -> AgentRun[T]:
        """Send a message, and return the result of the agent's run.

        Args:
            prompt: a text, a `Message`, a list of messages, or a component.
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
            UsageError: the turn before isn't over.
            MelleaError: see `Agent.arun`.
        """
        agent = self._find_agent(prompt)
        return await agent.finish(self._prepare(agent, prompt, arguments, corrects=True))

    send = blocking(asend)

    @verb("stream", AgentStreamArguments)
    def stream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AgentStream[T]:
        """Say something, and stream the agent's run; see `Agent.stream`.

        Args:
            prompt: see `asend`.
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
            UsageError: the turn before isn't over, or an argument is wrong.
        """
        agent = self._find_agent(prompt)
        return agent.open_stream(self._prepare(agent, prompt, arguments), arguments)

    @verb("astream", AgentStreamArguments)
    def astream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AsyncAgentStream[T]:
        """Say something, and stream the agent's run in async code; see `Agent.astream`.

        Args:
            prompt: see `asend`.
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
            UsageError: the turn before isn't over, or an argument is wrong.
        """
        agent = self._find_agent(prompt)
        return agent.open_astream(self._prepare(agent, prompt, arguments), arguments)

    def to_json(self) -> str:
        """Return the conversation as versioned JSON, for `Agent.conversation(saved)`.

        Raises:
            UsageError: a message holds a thunk that isn't computed yet.
        """
        return to_json(self.messages)

    def _find_agent(self, prompt: Any) -> Speaker[T]:
        return self._agent if self._choose is None else self._choose(prompt)

    def _prepare(
        self, agent: Speaker[T], prompt: Any, arguments: AgentArguments, *, corrects: bool = False
    ) -> AgentWork:
        # Two concurrent turns would each end with a conversation that lacks the other.
        if self._work is not None and self._work.is_running:
            raise UsageError("the agent is still answering the previous message; wait for it, or close its stream")
        # Providers reject a conversation with calls that have no results.
        earlier = repair_history(self.messages)
        if self._choose is not None and earlier and earlier[0].role == "system":
            # The next agent brings its own instructions, and two system prompts would contradict each other.
            earlier = earlier[1:]
        work = agent.prepare(prompt, arguments, earlier=earlier, corrects=corrects)
        # Called only after a good end; a turn that failed leaves the conversation as it was.
        work.book.on_end = self._take
        self._work = work
        return work

    def _take(self, messages: tuple[Message, ...]) -> None:
        self.messages = messages

    if not TYPE_CHECKING:  # type checkers then report unknown names

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, AGENT_CONVERSATION_WAYS)

    def __len__(self) -> int:
        return len(self.messages)

    def __repr__(self) -> str:
        return f"<AgentConversation with {self._agent.name!r}, {len(self.messages)} messages>"
