"""Runs of agents as JSON, for the journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mellea.core.serialise import from_jsonable, to_jsonable
from mellea.stdlib.agents import AgentRun, AgentStep

__all__ = ["dump_run", "load_run"]


def dump_run(run: AgentRun[Any], dump_typed: Callable[[Any], str]) -> str:
    """Return a run that has ended as JSON.

    Args:
        run: the run.
        dump_typed: writes its parsed answer.
    """
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


def load_run(text: str, load_typed: Callable[[str], Any]) -> AgentRun[Any]:
    """Return the run that `dump_run` has written."""
    form = json.loads(text)
    parsed = form["value"]
    if form["has_format"]:
        parsed = None if form["parsed"] is None else load_typed(json.dumps(form["parsed"]))
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
