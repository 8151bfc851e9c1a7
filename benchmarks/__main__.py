"""The command: measures the figures, one after another, and prints the table."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path
from statistics import median

from benchmarks.figures import FIGURES, Figure
from benchmarks.measuring import measure, measure_against
from benchmarks.pairs import Samples, Setting, Skipped
from benchmarks.server import running

HEADINGS = ("figure", "what", "unit", "floor", "ours", "ratio", "min", "max", "target", "")
AGAINST = ("figure", "what", "unit", "there", "here", "ratio", "min", "max", "", "")
WIDTHS = (14, 34, 8, 9, 9, 7, 7, 7, 7, 4)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    names = _chosen(asked.only)
    pairs = asked.pairs or (5 if asked.quick else 15)
    print(_line(HEADINGS if asked.against is None else AGAINST))
    missed: list[str] = []
    with running() as url:
        for name in names:
            figure = FIGURES[name]
            limit = None if asked.against else figure.gate if asked.check else figure.target
            try:
                samples = _measure(name, Setting(pairs, asked.quick, url), asked.against)
            except Skipped as reason:
                print(f"{name.ljust(WIDTHS[0])} {figure.what.ljust(WIDTHS[1])} skipped: {reason}", flush=True)
                continue
            holds = figure.holds(samples.ratio, limit)
            print(_line(_row(name, figure, samples, limit, holds)), flush=True)
            if not holds:
                missed.append(f"{name} ({figure.what}): {samples.ratio:.3f}, limit {limit}")
    if missed:
        print("\nmissed: " + "; ".join(missed))
    return 1 if missed and asked.check else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--pairs", type=int, help="interleaved pairs for each figure (15; the engine's figures: 7)")
    parser.add_argument("--quick", action="store_true", help="small sizes and 5 pairs: does it run?")
    parser.add_argument("--only", help="figures, with commas; `*` stands for anything, as in 'W*'")
    parser.add_argument("--check", action="store_true", help="hold to CI's loose gates; ends in 1 if one is missed")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns with this one")
    return parser


def _chosen(only: str | None) -> list[str]:
    if only is None:
        return list(FIGURES)
    patterns = only.split(",")
    unknown = [pattern for pattern in patterns if not fnmatch.filter(FIGURES, pattern)]
    if unknown:
        sys.exit(f"no figure is called {unknown[0]!r}; there are {', '.join(FIGURES)}")
    return [name for name in FIGURES if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _measure(name: str, setting: Setting, other: Path | None) -> Samples:
    return measure(name, setting) if other is None else measure_against(other, name, setting)


def _row(name: str, figure: Figure, samples: Samples, limit: float | None, holds: bool) -> tuple[str, ...]:
    has_floor = bool(samples.floor)
    spread = [samples.ratio, min(samples.ratios), max(samples.ratios)]
    return (
        name,
        figure.what,
        figure.unit,
        _number(median(samples.floor)) if has_floor else "",
        _number(median(samples.ours)),
        *(f"{value:.2f}" if has_floor else _number(value) for value in spread),
        "" if limit is None else ("≥ " if figure.is_rate else "≤ ") + f"{limit:g}",
        "" if limit is None else "ok" if holds else "MISS",
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _line(cells: tuple[str, ...]) -> str:
    columns = enumerate(zip(cells, WIDTHS, strict=True))
    ends = [cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in columns]
    return " ".join(ends).rstrip()


if __name__ == "__main__":
    sys.exit(main())
