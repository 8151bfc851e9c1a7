"""Spans drawn as a tree of text: one line a span, two blanks a level, the name first.

Spans of this process and those of a record are drawn alike, since both come here as plain data (`span_data.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mellea.core.masking import list_known_secrets, scrub_text
from mellea.core.observer import Span
from mellea.core.span_data import describe_error, describe_error_type, describe_reasons, find_span_cost
from mellea.core.terminal import make_visible

__all__ = ["draw_lines", "draw_tree", "sum_costs"]

_LONGEST = 300  # characters of what a line explains
_MOST_SOURCES = 3  # named in a line; more are counted


def draw_tree(spans: Sequence[Span], *, figures: bool = False) -> str:
    """Return spans as text, in the order in which they are given; a span whose parent isn't among them is at the top.

    Args:
        spans: each is after its parent.
        figures: whether a line shows seconds, tokens and cost, where they are known.
    """
    outlines = [_outline(span) for span in spans]
    text = "\n".join(["  " * level + line for level, _, line in draw_lines(outlines, figures=figures)])
    # A check is called by its requirement, which may hold a key, as may a reason.
    return scrub_text(text, list_known_secrets())


def draw_lines(spans: Sequence[Mapping[str, Any]], *, figures: bool) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """Yield spans as they are in a tree, each with its level and its line.

    Args:
        spans: as plain data, each after its parent.
        figures: whether a line shows seconds, tokens and cost, where they are known.
    """
    known = {data["id"]: data for data in spans}
    children: dict[int | None, list[Mapping[str, Any]]] = {}
    for data in spans:
        parent = data.get("parent")
        # A parent that isn't among the spans was deleted or isn't part of what is shown.
        children.setdefault(parent if parent in known else None, []).append(data)
    # A stack instead of recursion: nested tool loops may be deeper than Python's stack.
    waiting = [(0, data) for data in reversed(children.get(None, []))]
    while waiting:
        level, data = waiting.pop()
        inside = children.get(data["id"], [])
        yield level, data, _format_line(data, inside, known, figures=figures)
        waiting += [(level + 1, child) for child in reversed(inside)]


def _format_line(
    data: Mapping[str, Any],
    inside: Sequence[Mapping[str, Any]],
    known: Mapping[int, Mapping[str, Any]],
    *,
    figures: bool,
) -> str:
    """Return a span in one line: its name, and in brackets its kind, its status, figures, and why it failed.

    Args:
        data: plain data.
        inside: the spans directly inside it, which may already say why.
        known: all spans by id, for the names of those that it uses.
        figures: whether to show seconds, tokens and cost, where they are known.
    """
    kind, status = data["kind"], data["status"]
    said = [kind] if status == "ok" else [kind, status]
    if kind == "attempt" and data.get("is_accepted") is False:
        said.append("rejected")
    if data.get("is_streaming"):
        said.append("while streaming")
    said += _sources(data, known)
    if figures:
        said += _figures(data)
    text = ", ".join(said)
    if why := _explain(data, inside):
        text += f": {why[:_LONGEST]}…" if len(why) > _LONGEST else f": {why}"
    # A span is one line, and no name or reason may send control sequences to the terminal.
    # Without content a check has no words of its own, but the function or the class that checks has a name.
    name = data.get("check", data["name"]) if data["name"] == "check" else data["name"]
    return f"{make_visible(name)} ({make_visible(text)})"


def _sources(data: Mapping[str, Any], known: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Return which thunks a call uses."""
    names = [known[id]["name"] for id in data.get("links", ()) if id in known]
    if not names:
        return []
    return [f"uses {' and '.join(names) if len(names) <= _MOST_SOURCES else f'{len(names)} others'}"]


def _explain(data: Mapping[str, Any], inside: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdict of a check, or why a span failed or was rejected, unless a line inside it says that."""
    if data["kind"] == "check" and "is_met" in data:
        reason = data.get("reason")
        return "yes" if data["is_met"] else f"no, {reason}" if reason else "no"
    if data["status"] == "error":
        # An error that leaves many spans is explained where it came from.
        is_from_inside = any(each.get("error_type") == data.get("error_type") for each in inside)
        return "" if is_from_inside else data.get("error") or data.get("error_type", "")
    if data.get("is_accepted") is False and not any(each.get("is_met") is False for each in inside):
        return "; ".join(each["reason"] or each["requirement"] for each in data.get("reasons", ()))
    return ""


def sum_costs(spans: Sequence[Span]) -> float | None:
    """Return what the requests among the spans cost in US dollars, `None` if that of any is unknown."""
    total = 0.0
    for span in spans:
        if span.is_request:
            dollars = find_span_cost(span)
            if dollars is None:
                # A sum of the known values would look like the total.
                return None
            total += dollars
    return total


def _outline(span: Span) -> dict[str, Any]:
    """Return what of a span its line shows; `describe_span` would go through all that was said."""
    data: dict[str, Any] = {"id": span.id, "kind": span.kind, "name": span.name, "status": span.status}
    if span.ended is not None:  # the figures of what still runs would be out of date as soon as they are shown
        data["seconds"] = span.seconds
    if span.links:
        data["links"] = [link.id for link in span.links]
    if span.is_streaming:
        data["is_streaming"] = True
    if span.status == "error":
        data["error_type"], data["error"] = describe_error_type(span), describe_error(span)
    if span.parent is not None:
        data["parent"] = span.parent.id
    if span.attempt is not None:
        data["is_accepted"], data["reasons"] = span.attempt.success, describe_reasons(span)
    if span.outcome is not None:
        data["is_met"], data["reason"] = bool(span.outcome), span.outcome.reason
    if span.is_request:
        data["cost"] = find_span_cost(span)
        if span.generation is not None and span.generation.usage is not None:
            usage = span.generation.usage
            data["input_tokens"], data["output_tokens"] = usage.input_tokens, usage.output_tokens
    return data


def _figures(data: Mapping[str, Any]) -> list[str]:
    figures = [f"{data['seconds']:.3f} s"] if "seconds" in data else []
    tokens = [data.get(name) for name in ("input_tokens", "output_tokens")]
    if any(count is not None for count in tokens):
        figures.append(f"{' + '.join('?' if count is None else str(count) for count in tokens)} tokens")
    if data.get("cost") is not None:
        figures.append(f"${data['cost']:.6f}".rstrip("0").rstrip("."))
    return figures
