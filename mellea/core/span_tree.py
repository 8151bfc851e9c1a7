"""Spans drawn as a tree of text: one line a span, two blanks a level, the name first."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.core.observer import Span
from mellea.core.span_data import cost_of_span

__all__ = ["draw_tree", "total_cost"]


def draw_tree(spans: Sequence[Span], *, figures: bool = False) -> str:
    """Return spans as text, in the order in which they are given; a span whose parent isn't among them is at the top.

    Args:
        spans: each stands behind its parent.
        figures: whether a line shows seconds, tokens and cost, where they are known.
    """
    known = {id(span) for span in spans}
    children: dict[int, list[Span]] = {}
    for span in spans:
        parent = span.parent
        children.setdefault(id(parent) if parent is not None and id(parent) in known else 0, []).append(span)
    lines: list[str] = []
    waiting = [(span, 0) for span in reversed(children.get(0, []))]
    while waiting:
        span, level = waiting.pop()
        lines.append("  " * level + _line(span, figures))
        waiting += [(child, level + 1) for child in reversed(children.get(id(span), []))]
    return "\n".join(lines)


def total_cost(spans: Sequence[Span]) -> float | None:
    """Return what the requests among the spans cost in US dollars, `None` if that of any is unknown."""
    total = 0.0
    for span in spans:
        if span.is_request:
            dollars = cost_of_span(span)
            if dollars is None:
                return None
            total += dollars
    return total


def _line(span: Span, figures: bool) -> str:
    said = span.kind if span.status == "ok" else f"{span.kind}, {span.status}"
    if span.kind == "attempt" and span.attempt is not None and not span.attempt.success:
        said += ", rejected"
    if figures:
        said = ", ".join([said, *_figures(span)])
    if span.kind == "check" and span.outcome is not None:
        said += ": yes" if span.outcome else f": no, {span.outcome.reason}" if span.outcome.reason else ": no"
    return f"{' '.join(span.name.split())} ({' '.join(said.split())})"


def _figures(span: Span) -> list[str]:
    figures = [f"{span.seconds:.3f} s"]
    usage = span.generation.usage if span.is_request and span.generation is not None else None
    if usage is not None:
        tokens = ["?" if count is None else str(count) for count in (usage.input_tokens, usage.output_tokens)]
        figures.append(f"{' + '.join(tokens)} tokens")
    dollars = cost_of_span(span) if span.is_request else None
    if dollars is not None:
        figures.append(f"${dollars:.6f}".rstrip("0").rstrip("."))
    return figures
