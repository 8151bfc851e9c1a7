"""Turns the function that `map` receives into a program: prompt functions, verbs, agents, other functions."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from mellea.batch.agent_program import AgentProgram
from mellea.batch.call_programs import VERBS, PromptProgram, VerbProgram
from mellea.batch.plain_program import PlainProgram
from mellea.batch.program import Program, Work
from mellea.core.backend import Backend
from mellea.errors import UsageError
from mellea.stdlib.agents import Agent
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.session import MelleaSession

__all__ = ["as_program"]


_STREAMS = frozenset({"stream", "astream", "resume_stream", "aresume_stream"})


def as_program(function: Any, version: str | None, what: str = "map") -> Program:
    """Return the function that is mapped as a program.

    Raises:
        UsageError: it isn't a function, or the version isn't a string.
    """
    if version is not None and not isinstance(version, str):
        raise UsageError(f"version= takes a string, not {version!r}")
    if isinstance(function, Program):  # such as the variants of an evaluation
        return function
    if isinstance(function, Agent):
        return AgentProgram(function, version)
    owner = getattr(function, "__self__", None)
    name = str(getattr(function, "__name__", ""))
    _refuse_streams(owner, name, what)
    # `agent.run` as the function stands for the agent with its steps and limits, not for an opaque function.
    if isinstance(owner, Agent) and name in ("run", "arun"):
        return AgentProgram(owner, version)
    if isinstance(function, (PromptFunction, AsyncPromptFunction)):
        return PromptProgram(function, version)
    program = _find_verb(function, version)
    if program is not None:
        return program
    # If the context shows the model no turns, nothing can leak from row to row, so the session itself may be used.
    if isinstance(owner, MelleaSession) and not owner.ctx.shows_turns:
        return PlainProgram(function, version)
    if isinstance(owner, MelleaSession):  # rows don't extend its context
        twin = MelleaSession(owner.backend, SimpleContext(), model_options=owner.model_options)
        return PlainProgram(getattr(twin, name), version)
    if not callable(function):
        hint = "; a prompt is the docstring of a @generative function, or goes to m.instruct" if function else ""
        raise UsageError(
            f"{what} takes a function, or an agent, not {function!r}{hint if isinstance(function, str) else ''}"
        )
    return PlainProgram(function, version)


def _refuse_streams(owner: Any, name: str, what: str) -> None:
    if name in _STREAMS and isinstance(owner, (Agent, MelleaSession, PromptFunction, AsyncPromptFunction)):
        raise UsageError(
            f"{what} takes a function that returns a value, and .{name} returns a stream; give m.instruct, the agent, "
            "or the function itself"
        )


def _find_verb(function: Any, version: str | None) -> Program | None:
    """Return the program of a session's verb, or of a partial of one, if it is that."""
    bare = function.func if isinstance(function, functools.partial) else function
    owner, name = getattr(bare, "__self__", None), str(getattr(bare, "__name__", ""))
    # `ainstruct` and `instruct` count as one program: a journal that was started with one can be continued with the
    # other.
    verb = name[1:] if name.startswith("a") and name[1:] in VERBS else name
    if not isinstance(owner, MelleaSession) or verb not in VERBS:
        return None
    program = VerbProgram(bare, version, owner, verb)
    if isinstance(function, functools.partial):
        return _Preset(program, function.args, function.keywords)
    return program


class _Preset(Program):
    """A program some of whose arguments are the same for all rows."""

    def __init__(self, program: Program, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__(program.function, program.version, program.name)
        self.read_signature(functools.partial(program.function, *args, **kwargs))
        self._program, self._args, self._kwargs = program, tuple(args), dict(kwargs)

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        # The map decides only after the preset has been made whether keys are needed, so this is passed on here.
        self._program.is_keyed = self.is_keyed
        return await self._program.prepare((*self._args, *args), {**self._kwargs, **kwargs})

    def backends(self) -> list[Backend]:
        return self._program.backends()
