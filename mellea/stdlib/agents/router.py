"""Routing by rules: which of several agents a prompt goes to, decided by plain code and not by a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from mellea.core.blocking import blocking
from mellea.core.blocks import CBlock
from mellea.core.messages import Message
from mellea.core.tracebacks import short_errors
from mellea.errors import UsageError
from mellea.stdlib.agents.agent import Agent
from mellea.stdlib.agents.arguments import AgentArguments, AgentStreamArguments
from mellea.stdlib.agents.result import AgentRun
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.verb import verb

__all__ = ["Router", "Rule"]

Rule = str | Iterable[str] | Callable[[str], bool]
"""Words, of which one has to occur in the prompt (in upper or lower case), or a function of its text."""


@short_errors
class Router:
    """Several agents and the rules by which a prompt goes to one of them; the first rule that fits counts.

    Args:
        rules: pairs of a rule and an agent.
        default: the agent for everything else.

    Raises:
        UsageError: a rule or an agent is none.
    """

    def __init__(self, rules: Iterable[tuple[Rule, Agent[Any]]], default: Agent[Any]) -> None:
        self._rules = [(_as_check(rule), _as_agent(agent)) for rule, agent in rules]
        self._default = _as_agent(default)

    def choose(self, prompt: Any) -> Agent[Any]:
        """Return the agent that a prompt goes to.

        Args:
            prompt: a text, a `Message`, or a list of messages, of which the last one counts.
        """
        text = _text(prompt)
        return next((agent for check, agent in self._rules if check(text)), self._default)

    @verb("run", AgentArguments)
    async def arun(self, prompt: Any, **arguments: Unpack[AgentArguments]) -> AgentRun[Any]:
        """Have the right agent work on the prompt; the errors are those of `Agent.arun`.

        Args:
            prompt: as for `choose`.
        """
        return await self.choose(prompt).arun(prompt, **arguments)

    run = blocking(arun)

    @verb("stream", AgentStreamArguments)
    def stream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AgentStream[Any]:
        """Stream the run of the right agent; the errors are those of `Agent.stream`.

        Args:
            prompt: as for `choose`.
        """
        return self.choose(prompt).stream(prompt, **arguments)

    @verb("astream", AgentStreamArguments)
    def astream(self, prompt: Any, **arguments: Unpack[AgentStreamArguments]) -> AsyncAgentStream[Any]:
        """Stream the run of the right agent in async code; the errors are those of `Agent.stream`.

        Args:
            prompt: as for `choose`.
        """
        return self.choose(prompt).astream(prompt, **arguments)


def _as_check(rule: Any) -> Callable[[str], bool]:
    if callable(rule):
        return lambda text: bool(rule(text))
    words = [rule] if isinstance(rule, str) else list(rule) if isinstance(rule, Iterable) else []
    if not words or not all(isinstance(word, str) and word for word in words):
        raise UsageError(f"a rule is a word, several words, or a function of the prompt's text, not {rule!r}")
    folded = [word.casefold() for word in words]
    return lambda text: any(word in text.casefold() for word in folded)


def _as_agent(agent: Any) -> Agent[Any]:
    if isinstance(agent, Agent):
        return agent
    raise UsageError(f"a router sends prompts to Agents, not to {agent!r}")


def _text(prompt: Any) -> str:
    if isinstance(prompt, (list, tuple)) and prompt:
        prompt = prompt[-1]
    if isinstance(prompt, Message):
        return prompt.content
    if isinstance(prompt, (str, CBlock)):
        return str(prompt)
    return str(getattr(prompt, "description", None) or prompt)
