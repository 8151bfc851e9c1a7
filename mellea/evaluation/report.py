"""The report of an evaluation: its results as text, as a page, and as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mellea.core.card import Card
from mellea.core.displayed import Displayed
from mellea.core.surrogates import replace_surrogates
from mellea.evaluation.export import list_lines, read_samples, summarise
from mellea.evaluation.findings import Findings
from mellea.evaluation.page import render_page
from mellea.evaluation.table import draw_text, make_card

__all__ = ["Report", "read_report"]

_MOST_LABELS = 12


class Report(Findings, Displayed):
    """The outcome of an evaluation; printed, it is a table with the main figures."""

    def __str__(self) -> str:
        return draw_text(self)

    def _card_(self) -> Card:
        return make_card(self)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write it as a page that needs no network, with every sample."""
        page = replace_surrogates(render_page(self))  # first, so that an existing file isn't lost if this fails
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)

    def write_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write the samples as JSON lines; `read_report` reads them back."""
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{replace_surrogates(line)}\n" for line in list_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values: rates, intervals, comparisons, cost and time, without samples."""
        return summarise(self)


def read_report(path: str | os.PathLike[str], *, name: str | None = None, confidence: float = 0.95) -> Report:
    """Read samples that `Report.write_jsonl` wrote; their values are JSON values.

    Args:
        path: the file.
        name: the name of the report; by default that of the file.
        confidence: the confidence level of its intervals.

    Raises:
        StateError: it contains something else, or nothing.
        OSError: it can't be read.
    """
    samples = read_samples(path)
    variants = tuple(dict.fromkeys(sample.variant for sample in samples))
    checks = tuple(dict.fromkeys(verdict.check for sample in samples for verdict in sample.verdicts))
    expected = [sample.case.expected for sample in samples if sample.case.has_expected]
    labels = None
    # The file has no types, so a small number of repeated expected texts is taken as labels.
    if expected and all(isinstance(each, (str, bool)) for each in expected):
        known = tuple(dict.fromkeys(expected))
        labels = known if 1 < len(known) <= min(_MOST_LABELS, len(expected) // 2) else None
    return Report(name or Path(path).stem, variants, checks, tuple(samples), labels, confidence)
