"""Write the page of a report: tables, with bars for intervals; every sample folded below them.

Rules:

- The page loads nothing and runs nothing; its policy says so.
- Every text is escaped where it is inserted, whatever its source.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from mellea.evaluation.cases import describe_inputs
from mellea.evaluation.checks import shorten
from mellea.evaluation.findings import Findings, Sample
from mellea.evaluation.intervals import Interval
from mellea.evaluation.layout import (
    FigureTable,
    Text,
    explain,
    lay_out,
    show_cost,
    show_seconds,
    show_value,
    write_count,
)

__all__ = ["render_page"]

_HERE = Path(__file__).parent

_MOST_SAMPLES = 5_000
"""The number of samples on the page; browsers are slow with longer tables, and the JSON lines have all of them."""

_LONGEST_VALUE = 2_000


def render_page(report: Findings) -> str:
    """Return a report as a whole HTML document that needs no network."""
    style = _read_style()
    policy = f"default-src 'none'; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    title = html.escape(report.name)
    parts = lay_out(report, failures=0)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        + _render_parts(parts)
        + _render_samples(report)
        + "\n</main>\n</body>\n</html>\n"
    )


def _render_parts(parts: Sequence[Text | FigureTable]) -> str:
    drawn = []
    for is_shaded, group in groupby(parts, key=lambda part: isinstance(part, FigureTable) and bool(part.shades)):
        pieces = "\n".join(map(_render_part, group))
        # Tables of two variants are placed side by side for comparison.
        drawn.append(f'<div class="beside">{pieces}</div>' if is_shaded else pieces)
    return "\n".join(drawn)


def _render_part(part: Text | FigureTable) -> str:
    if isinstance(part, Text):
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in part.lines)
        return f'<div class="main">{lines}</div>' if part.is_main else lines
    if not part.rows:
        return ""
    head = "".join(
        f'<th scope="col"{" class=name" if column < part.names else ""}>{html.escape(name)}</th>'
        for column, name in enumerate(part.head)
    )
    body = "".join(_render_row(part, number) for number in range(len(part.rows)))
    kind = "text" if part.is_text else "figures"
    title = f"<caption>{html.escape(part.title)}</caption>" if part.title else ""
    return _write_table(kind, head, body, title)


def _write_table(kind: str, head: str, body: str, title: str = "") -> str:
    whole = f'<table class="{kind}">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{whole}</div>'


def _render_row(table: FigureTable, number: int) -> str:
    cells = []
    for column, cell in enumerate(table.rows[number]):
        text = html.escape(cell)
        if table.bars and column == table.bar:
            cells.append(f"<td>{_draw_interval(table.bars[number])}<span>{text}</span></td>")
        elif column < table.names and not table.is_text:
            cells.append(f'<th scope="row">{text}</th>')
        elif table.shades and (shade := table.shades[number][column]):
            cells.append(f'<td class="shade{min(5, 1 + int(shade * 5))}">{text}</td>')
        else:
            cells.append(f"<td>{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _draw_interval(interval: Interval) -> str:
    """Draw an interval of rates between 0 and 1, with a mark at the estimate."""
    low, high, mark = (1.6 * 100 * value for value in (interval.low, interval.high, interval.estimate))
    # NaN isn't equal even to itself: without data there is no mark.
    drawn = f'<rect x="{mark - 1:.1f}" y="0" width="2" height="14" class="mark"/>' if mark == mark else ""
    return (
        '<svg class="bar" viewBox="-1 0 162 14" width="162" height="14" aria-hidden="true">'
        '<rect x="0" y="6" width="160" height="2" class="axis"/>'
        f'<rect x="{low:.1f}" y="3" width="{high - low:.1f}" height="8" rx="2" class="range"/>{drawn}</svg>'
    )


def _render_samples(report: Findings) -> str:
    shown = report.samples[:_MOST_SAMPLES]
    failed = [sample for sample in shown if sample.passed is not True]
    parts = []
    if failed:
        parts.append(_fold(f"{write_count(len(failed), 'sample')} not passed", failed, is_open=len(failed) <= 50))
    parts.append(_fold(f"All {write_count(len(shown), 'sample')}", shown))
    if len(shown) < len(report.samples):
        parts.append(f"<p>The page lists the first {len(shown):,} of {len(report.samples):,} samples.</p>")
    return "\n".join(parts)


def _fold(title: str, samples: Sequence[Sample], *, is_open: bool = False) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in _SAMPLE_HEAD)
    opened = " open" if is_open else ""
    table = _write_table("text samples", head, "".join(map(_render_sample, samples)))
    return f"<details{opened}><summary>{html.escape(title)}</summary>{table}</details>"


_SAMPLE_HEAD = ("variant", "inputs", "expected", "value", "passed", "why", "time", "cost")


def _render_sample(sample: Sample) -> str:
    word, kind = {True: ("yes", "yes"), False: ("no", "no"), None: ("?", "unknown")}[sample.passed]
    number = f" <small>#{sample.number}</small>" if sample.number > 1 else ""
    cells = (
        f"{html.escape(sample.variant)}{number}",
        _cut(show_value(describe_inputs(sample.case))),
        _cut(show_value(sample.case.expected)) if sample.case.has_expected else "",
        "" if sample.error is not None else _cut(show_value(sample.value)),
        f'<span class="{kind}">{word}</span>',
        _cut(explain(sample)),
        "" if sample.seconds is None else show_seconds(sample.seconds),
        "" if sample.cost is None else show_cost(sample.cost),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _cut(text: str) -> str:
    return html.escape(shorten(text, _LONGEST_VALUE))


@cache
def _read_style() -> str:
    return (_HERE / "page.css").read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
