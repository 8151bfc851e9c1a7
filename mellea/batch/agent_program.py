"""Agents as programs: each row is a run, and the value an `AgentRun`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from mellea.batch.identity import find_form, make_digest, parse_source
from mellea.batch.program import Program, Work, dump_typed, load_typed
from mellea.core.backend import Backend
from mellea.core.runtime.ledger import Meter, current_ledger
from mellea.core.serialise import from_jsonable, to_jsonable
from mellea.errors import UsageError
from mellea.stdlib.agents import Agent, AgentRun, AgentStep
from mellea.stdlib.session import current_session
from mellea.stdlib.tools import Tool

__all__ = ["AgentProgram"]


class _AgentWork(Work):
    __slots__ = ("_agent", "_args", "_kwargs")

    def __init__(self, agent: Agent[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], digest: bytes) -> None:
        self._agent, self._args, self._kwargs, self.digest = agent, args, kwargs, digest
        self.backend = None

    async def ask(self, meter: Meter) -> AgentRun[Any]:
        token = current_ledger.set(meter)
        try:
            return await self._agent.arun(*self._args, **self._kwargs)
        finally:
            current_ledger.reset(token)

    def dump(self, value: AgentRun[Any]) -> str | None:
        return None if value.pending is not None else _dump_run(value)

    async def load(self, text: str) -> Any:
        return _load_run(text, functools.partial(load_typed, format=self._agent.format))


class AgentProgram(Program):
    """An agent, or its `run`; the value is an `AgentRun`."""

    def __init__(self, agent: Agent[Any], version: str | None) -> None:
        super().__init__(agent, version, f"mellea.Agent.{agent.name}")
        self.read_signature(agent.arun)
        loop = agent.loop
        # Everything that is the same for every row and affects its answer; hashed together with the row's own
        # arguments.
        self._common = [
            self.version,
            agent.instructions,
            [_make_tool_form(tool) for tool in agent.tools],
            None if agent.format is None else agent.format.schema.schema,
            [type(loop).__qualname__, loop.max_steps, loop.on_limit],
            find_form(agent.limits),
        ]

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        """Return the work of a row."""
        backend = self.backends()[0]
        work = _AgentWork(self.function, args, kwargs, b"")
        work.backend = backend
        if self.is_keyed:
            who = [self.name, self._common, backend.name, backend.model_id]
            # A changed tool, limit or instruction changes the keys, so the rows are requested again.
            work.digest = make_digest(who, find_form(args), find_form(dict(kwargs)))
        return work

    def backends(self) -> list[Backend]:
        """Return the backends that it asks."""
        model = self.function.model
        return [(current_session() if model is None else model).backend if not isinstance(model, Backend) else model]


def _make_tool_form(tool: Any) -> Any:
    """Return what determines a tool's behaviour: what the model sees of it, and its source if that can be read."""
    if not isinstance(tool, Tool):
        return [type(tool).__name__, tool.name]
    try:
        source = parse_source(tool)
    except UsageError:  # a server's tool
        # Its code can't be read, so only what the model sees of it counts.
        source = ""
    return [tool.name, tool.spec.description, find_form(tool.spec.parameters), source]


# -- runs as JSON ----


def _dump_run(run: AgentRun[Any]) -> str:
    """Return a run that has ended as JSON."""
    form = {
        "value": run.value,
        "parsed": json.loads(dump_typed(run.parsed)) if run.has_format else None,
        "messages": to_jsonable(run.messages),
        "steps": [_dump_step(step) for step in run.steps],
        "usage": None if run.usage is None else to_jsonable(run.usage),
        "cost": run.cost,
        "limit": run.limit,
        "has_format": run.has_format,
    }
    return json.dumps(form, ensure_ascii=False, separators=(",", ":"))


def _load_run(text: str, load: Callable[[str], Any]) -> AgentRun[Any]:
    """Return the run that `_dump_run` wrote."""
    form = json.loads(text)
    parsed = form["value"]
    if form["has_format"]:
        # Validated again: the class may have changed since the journal was written.
        parsed = None if form["parsed"] is None else load(json.dumps(form["parsed"]))
    return AgentRun(
        form["value"],
        parsed,
        tuple(from_jsonable(form["messages"])),
        tuple(_load_step(step) for step in form["steps"]),
        None if form["usage"] is None else from_jsonable(form["usage"]),
        form["cost"],
        None,
        form["limit"],
        form["has_format"],
    )


def _dump_step(step: AgentStep) -> dict[str, Any]:
    return {
        "number": step.number,
        "text": step.text,
        "tool_calls": to_jsonable(step.tool_calls),
        "results": to_jsonable(step.results),
        "usage": None if step.usage is None else to_jsonable(step.usage),
    }


def _load_step(form: dict[str, Any]) -> AgentStep:
    return AgentStep(
        form["number"],
        form["text"],
        tuple(from_jsonable(form["tool_calls"])),
        tuple(from_jsonable(form["results"])),
        None if form["usage"] is None else from_jsonable(form["usage"]),
    )
