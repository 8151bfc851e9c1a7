"""What an agent's run shows of itself, while it goes on and afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mellea.core.blocks import ToolCall
from mellea.core.run_view import say_tokens, show_value
from mellea.core.runtime import Record
from mellea.core.view import Code, Part, Prose, Table, View
from mellea.stdlib.agents.limits import Book
from mellea.stdlib.agents.result import AgentRun, AgentStep, list_steps

__all__ = ["view_run", "view_stream"]


def view_run(run: AgentRun[Any]) -> View:
    """Return the steps of a run and its answer, or what it waits for."""
    parts: list[Part] = [_list_steps(run.steps)] if run.steps else []
    if run.pending is not None:
        rows = [(question.id, _write(question.call), question.text) for question in run.pending.questions]
        parts.append(Table(("waits for", "call", "question"), rows))
    elif run.has_format and run.parsed is not None:
        parts.append(show_value(run.parsed))
    elif run.value:
        parts.append(Prose(run.value))
    state = "waits for answers" if run.pending else f"stopped at the limit of {run.limit}" if run.limit else "done"
    cost = "" if run.cost is None else f"${run.cost:.4f}"
    return View("AgentRun", state, [say_tokens(run.usage), cost], parts)


def view_stream(title: str, record: Record | None, book: Book) -> View:
    """Return the steps of a run that may still go on."""
    if record is None:
        return View(title, "not launched")
    events = record.events[: record.limit]
    steps = list_steps(events, book.start)
    parts: list[Part] = [_list_steps(steps)] if steps else []
    if record.error is not None:
        parts.append(Code(f"{type(record.error).__name__}: {record.error}"))
    state = "waits for answers" if book.pending is not None else record.state.value
    return View(title, state, [say_tokens(record.usage())], parts)


def _list_steps(steps: Sequence[AgentStep]) -> Table:
    return Table(("step", "text", "calls", "results"), [_describe(step) for step in steps])


def _describe(step: AgentStep) -> tuple[str, str, str, str]:
    results = [f"failed: {result.result}" if result.is_error else str(result.result) for result in step.results]
    return str(step.number), step.text, "\n".join(map(_write, step.tool_calls)), "\n".join(results)


def _write(call: ToolCall) -> str:
    return f"{call.tool_name}({', '.join(f'{name}={value!r}' for name, value in call.tool_args.items())})"
