"""Routing by rules: plain code, not a model, decides which of several agents gets a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack

from mellea.core.blocking import blocking
from mellea.core.blocks import CBlock
from mellea.core.entrance import short_errors
from mellea.core.messages import Message
from mellea.errors import UsageError
from mellea.stdlib.agents.agent import Agent
from mellea.stdlib.agents.arguments import AgentArguments, AgentStreamArguments
from mellea.stdlib.agents.conversation import AgentConversation
from mellea.stdlib.agents.result import AgentRun
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.verb import verb

__all__ = ["Router", "Rule"]

Rule = str | Iterable[str] | Callable[[str], bool]
"""Words, one of which has to be the beginning of a word in the prompt, in any case; or a function of the prompt's
text."""


@short_errors
class Router:
    """Sends each prompt to one of several agents; the first rule that matches applies.

    Args:
        rules: pairs of a rule and an agent. A rule is a word, several words, or a function of the prompt's text. A word
            matches where it occurs in the prompt or begins a word of it, in any case: "refund" matches "Refunds?".
        default: the agent for everything else.

    Raises:
        UsageError: a rule or an agent has a wrong type.
    """

    def __init__(self, rules: Iterable[tuple[Rule, Agent[Any]]], default: Agent[Any]) -> None:
        self._rules = [(_as_check(rule), _as_agent(agent)) for rule, agent in rules]
        self._default = _as_agent(default)

    def choose(self, prompt: Any) -> Agent[Any]:
        """Return the agent for a prompt.

        Args:
            prompt: a text, a `Message`, or a list of messages, of which the last one counts.
        """
        text = _text(prompt)
        return next((agent for check, agent in self._rules if check(text)), self._default)

    def conversation(
        self, saved: str | bytes | None = None, *, messages: Iterable[Message | Mapping[str, Any]] = ()
    ) -> AgentConversation[Any]:
        """Start or continue a conversation, in which each turn goes to the right agent and sees the earlier ones.

        Args:
            saved: a conversation as `to_json()` has saved it.
            messages: the conversation so far, instead of `saved`.

        Raises:
            StateError: the saved conversation can't be read.
        """
        return AgentConversation(self._default, saved, messages=messages, choose=self.choose)

    @verb("run", AgentArguments)
    async def arun(self, prompt: Any, **arguments: Unpack[AgentArguments]) -> AgentRun[Any]:
        """Run the right agent on the prompt; the errors are those of `Agent.arun`.

        Args:
            prompt: as for `choose`.
            model_options: options for the model, by their names in `ModelOption`.
            memory: the memory for this run instead of the agent's own, such as `memory.of(user)` for the user who asks;
                sub-agents with a memory in the same file then use that user's as well.
            checkpoint: a file that always has the latest state of the run, or a function that is called with it as a
                `Pending`: after each response of the model, after each finished tool, and when the run has to wait.
                `resume` continues from it.
            secret: signs the states of the run, so that `resume` rejects changed ones; by default the agent's, else
                `MELLEA_SECRET` from the environment.
            store: an SQLite file that records resumed states, so that none is resumed twice; by default the agent's.
        """
        return await self.choose(prompt).arun(prompt, **arguments)

    run = blocking(arun)

    @verb("stream", AgentStreamArguments)
    def stream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AgentStream[Any]:
        """Stream the run of the right agent; the errors are those of `Agent.stream`.

        Args:
            prompt: as for `choose`.
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
        """
        return self.choose(prompt).stream(prompt, **arguments)

    @verb("astream", AgentStreamArguments)
    def astream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AsyncAgentStream[Any]:
        """Stream the run of the right agent in async code; the errors are those of `Agent.stream`.

        Args:
            prompt: as for `choose`.
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
        """
        return self.choose(prompt).astream(prompt, **arguments)

    def __repr__(self) -> str:
        names = ", ".join(repr(agent.name) for _, agent in self._rules)
        return f"<Router to {names or 'no agent'}, else {self._default.name!r}>"


def _as_check(rule: Any) -> Callable[[str], bool]:
    if callable(rule):
        return lambda text: bool(rule(text))
    words = [rule] if isinstance(rule, str) else list(rule) if isinstance(rule, Iterable) else []
    if not words or not all(isinstance(word, str) and word for word in words):
        raise UsageError(f"a rule is a word, several words, or a function of the prompt's text, not {rule!r}")
    # casefold, not lower: "STRASSE" has to find "Straße".
    folded = [word.casefold() for word in words]
    return lambda text: any(_begins_a_word(word, text.casefold()) for word in folded)


def _begins_a_word(word: str, text: str) -> bool:
    at = text.find(word)
    # Only the beginning of a word counts, so "art" finds "artists" but not "party".
    while at > 0 and text[at - 1].isalnum():
        at = text.find(word, at + 1)
    return at >= 0


def _as_agent(agent: Any) -> Agent[Any]:
    if isinstance(agent, Agent):
        return agent
    raise UsageError(f"a router sends prompts to Agents, not to {agent!r}")


def _text(prompt: Any) -> str:
    # The last message decides; earlier ones may be about something else.
    if isinstance(prompt, (list, tuple)) and prompt:
        prompt = prompt[-1]
    if isinstance(prompt, Message):
        return prompt.content
    if isinstance(prompt, (str, CBlock)):
        return str(prompt)
    return str(getattr(prompt, "description", None) or prompt)
