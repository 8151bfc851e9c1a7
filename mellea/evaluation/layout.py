"""The content of a report as tables and sentences, which the terminal, the page and notebooks draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mellea.core.serialise import json_value
from mellea.evaluation.cases import describe_inputs
from mellea.evaluation.checks import plain_value, shorten
from mellea.evaluation.comparison import Comparison, format_p
from mellea.evaluation.confusion import Confusion
from mellea.evaluation.findings import Findings, Sample
from mellea.evaluation.intervals import Interval

__all__ = [
    "FigureTable",
    "Text",
    "explain",
    "lay_out",
    "show_cost",
    "show_percent",
    "show_seconds",
    "show_value",
    "write_count",
]

_MOST_FAILURES = 5
_LONGEST_CELL = 48

_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Text:
    """Sentences.

    Attributes:
        lines: one or a few sentences each.
        is_main: whether they are the main result.
    """

    lines: tuple[str, ...]
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class FigureTable:
    """A table.

    Attributes:
        title: the title; empty if it needs none.
        head: the names of the columns.
        rows: the cells, as text.
        bars: for each row an interval of rates that can be drawn, in the column `bar`.
        bar: the column that holds it.
        shades: for each row how dark each cell is, from 0 to 1.
        is_text: whether all columns hold text.
        names: how many columns at the left hold names.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Interval, ...] = ()
    bar: int = 0
    shades: tuple[tuple[float, ...], ...] = ()
    is_text: bool = False
    names: int = 1


def lay_out(report: Findings, *, failures: int = _MOST_FAILURES) -> list[Text | FigureTable]:
    """Return the parts of a report, from top to bottom.

    Args:
        report: the report.
        failures: how many failed samples of each variant to show.
    """
    parts: list[Text | FigureTable] = [Text((_describe(report),))]
    if report.stopped is not None:
        parts.append(Text((f"It ended early: {report.stopped}",), is_main=True))
    parts.append(_lay_out_variants(report))
    comparisons = report.comparisons
    if comparisons:
        lines = [str(comparison) for comparison in comparisons]
        if len(comparisons) > 1:
            lines.append(f"p is corrected for {len(comparisons)} comparisons (Holm).")
        parts.append(Text(tuple(lines), is_main=True))
    if len(report.checks) > 1 or report.scored:
        parts += _lay_out_checks(report)
    for variant in report.variants:
        if (confusion := report.confusion(variant)) is not None:
            parts.append(_lay_out_confusion(confusion, variant, alone=len(report.variants) == 1))
    for variant in report.variants:
        if failed := report.failures(variant):
            parts.append(_lay_out_failures(failed, variant, failures))
    if notes := _list_notes(report):
        parts.append(Text(tuple(notes)))
    return parts


def _describe(report: Findings) -> str:
    """Describe the evaluation in one line."""
    cases = len(report.cases)
    samples = len(report.samples)
    repeat = max((sample.number for sample in report.samples), default=0)
    variants = f" × {len(report.variants)} variants" if len(report.variants) > 1 else ""
    each = f" × {repeat} samples" if repeat > 1 else ""
    whole = f" = {samples:,} samples" if variants or each else ""
    checks = f"checked: {', '.join(report.checks)}" if report.checks else "no checks"
    return f"{write_count(cases, 'case')}{variants}{each}{whole}; {checks}"


def write_count(number: int, noun: str) -> str:
    """Return a number of things, such as `1 case` and `2 cases`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def show_percent(interval: Interval) -> str:
    """Return the ends of an interval of rates."""
    return f"{interval.low:.1%} – {interval.high:.1%}"


def _show_rate(interval: Interval) -> str:
    return "no data" if math.isnan(interval.estimate) else f"{interval.estimate:.1%}"


def _lay_out_variants(report: Findings) -> FigureTable:
    percent = f"{report.confidence:.0%}".removesuffix("%")
    rates = [report.rate(variant) for variant in report.variants]
    # Without checks nothing was passed: what counts is that there was an answer.
    passed = "passed" if report.checks else "answered, unchecked"
    head = ("variant", passed, "rate", f"{percent} % interval", "median", "p95", "tokens", "cost", "errors")
    rows = [_list_figures(report, variant, rate) for variant, rate in zip(report.variants, rates, strict=True)]
    # An empty column only takes up space.
    shown = [place for place in range(len(head)) if any(row[place] not in (_NOTHING, "0", "$0") for row in rows)]
    return FigureTable(
        "",
        tuple(head[place] for place in shown),
        tuple(tuple(row[place] for place in shown) for row in rows),
        tuple(rates),
        3,
    )


def _list_figures(report: Findings, variant: str, rate: Interval) -> tuple[str, ...]:
    known = [sample for sample in report.of(variant) if sample.passed is not None]
    timing, tokens = report.timing(variant), report.tokens(variant)
    return (
        variant,
        f"{sum(sample.passed is True for sample in known):,} of {len(known):,}",
        _show_rate(rate),
        show_percent(rate),
        _NOTHING if timing is None else show_seconds(timing.median),
        _NOTHING if timing is None else show_seconds(timing.p95),
        _NOTHING if tokens is None else f"{tokens:,}",
        show_cost(report.cost(variant)),
        f"{len(report.errors(variant)):,}",
    )


def show_seconds(seconds: float) -> str:
    """Return a duration with three digits."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def show_cost(cost: float | None) -> str:
    """Return US dollars, with four decimals for small amounts."""
    if cost is None:
        return _NOTHING
    if not cost:
        return "$0"
    return f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"


def _lay_out_checks(report: Findings) -> list[Text | FigureTable]:
    scored = set(report.scored)
    rows, rates = [], []
    for check in report.checks:
        for place, variant in enumerate(report.variants):
            rate = report.rate(variant, check)
            score = report.score(variant, check) if check in scored else None
            # The name of a check appears once, above its variants.
            named = "" if place else check
            shown = _NOTHING if score is None else f"{score.estimate:.3f}"
            rows.append((named, variant, _show_rate(rate), show_percent(rate), shown))
            rates.append(rate)
    head = ("check", "variant", "rate", "interval", "mean score")
    width = len(head) if scored else len(head) - 1
    table = FigureTable("By check", head[:width], tuple(row[:width] for row in rows), tuple(rates), 3, names=2)
    comparisons = report.check_comparisons
    return [table, _lay_out_comparisons(comparisons)] if comparisons else [table]


def _lay_out_comparisons(comparisons: Sequence[Comparison]) -> FigureTable:
    rows = []
    for each in comparisons:
        form = "{:.1%} → {:.1%}" if each.kind == "rate" else "{:.3f} → {:.3f}"
        said = "can't tell" if each.winner is None else "better" if each.winner == each.other else "worse"
        rows.append((
            each.check or "",
            each.other,
            form.format(each.base_value, each.other_value),
            f"{each.better:,}",
            f"{each.worse:,}",
            format_p(each.p).removeprefix("p = ").removeprefix("p "),
            said,
        ))  # fmt: skip
    corrected = f"; p is corrected for {len(rows)} comparisons (Holm)" if len(rows) > 1 else ""
    head = ("check", "variant", "rate or score", "better on", "worse on", "p", "it is")
    return FigureTable(f"By check, compared with {comparisons[0].base!r}{corrected}", head, tuple(rows), names=2)


def _lay_out_confusion(confusion: Confusion, variant: str, *, alone: bool) -> FigureTable:
    names = confusion.names()
    rows, shades = [], []
    for name, label, counts in zip(names, confusion.labels, confusion.counts, strict=True):
        recall = confusion.recall(label)
        rows.append((name, *[str(count) if count else "·" for count in counts], _show_share(recall)))
        whole = sum(counts) or 1
        shades.append((0.0, *[count / whole for count in counts], 0.0))
    rows.append(("precision", *[_show_share(confusion.precision(label)) for label in confusion.labels], ""))
    shades.append((0.0,) * (len(names) + 2))
    title = "Expected (rows) and given (columns)" + ("" if alone else f": {variant}")
    return FigureTable(title, ("expected", *names, "recall"), tuple(rows), shades=tuple(shades))


def _show_share(share: float) -> str:
    return _NOTHING if math.isnan(share) else f"{share:.0%}"


def _lay_out_failures(failed: Sequence[Sample], variant: str, most: int) -> FigureTable:
    rows = tuple(
        (
            shorten(show_value(describe_inputs(sample.case)), _LONGEST_CELL),
            shorten(_NOTHING if sample.error is not None else show_value(sample.value), _LONGEST_CELL),
            shorten(explain(sample), 2 * _LONGEST_CELL),
        )
        for sample in failed[:most]
    )
    more = f", the first {most}" if len(failed) > most else ""
    return FigureTable(f"{variant}: {len(failed):,} not passed{more}", ("inputs", "value", "why"), rows, is_text=True)


def show_value(value: Any) -> str:
    """Return a value as text for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, Enum):
        return str(value.value)
    plain = json_value(plain_value(value), serialize_unknown=True)
    return plain if isinstance(plain, str) else repr(plain)


def explain(sample: Sample) -> str:
    """Return why a sample hasn't passed."""
    if sample.error is not None:
        return sample.error
    return "; ".join(
        verdict.reason or f"not: {verdict.check}" for verdict in sample.verdicts if verdict.passed is False
    )  # fmt: skip


def _list_notes(report: Findings) -> list[str]:
    notes = []
    failed = [verdict for sample in report.samples for verdict in sample.verdicts if verdict.error is not None]
    if failed:
        notes.append(
            f"{write_count(len(failed), 'check')} raised errors, and those samples don't count. The first: "
            f"{failed[0].check}: {failed[0].error}"
        )
    if report.judge_cost is None or report.judge_cost > 0:
        notes.append(f"Judges cost {show_cost(report.judge_cost)}.")
    if any(sample.number > 1 for sample in report.samples):
        notes.append("Samples of one case aren't independent, so intervals and comparisons treat the case as the unit.")
    return notes
