"""The command: measures the figures, one after another, and prints the table."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.figures import FIGURES, Figure
from benchmarks.pairs import Samples, Skipped
from benchmarks.server import running

ROOT = Path(__file__).resolve().parents[1]

HEADINGS = ("figure", "what", "unit", "floor", "ours", "ratio", "min", "max", "target", "")
WIDTHS = (14, 34, 8, 9, 9, 7, 7, 7, 7, 4)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    names = _chosen(asked.only)
    pairs = asked.pairs or (5 if asked.quick else 15)
    print(_line(HEADINGS))
    missed: list[str] = []
    with running() as url:
        for name in names:
            figure = FIGURES[name]
            limit = figure.gate if asked.check else figure.target
            try:
                samples = _measure(name, pairs, asked.quick, url)
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
    return parser


def _chosen(only: str | None) -> list[str]:
    if only is None:
        return list(FIGURES)
    patterns = only.split(",")
    unknown = [pattern for pattern in patterns if not fnmatch.filter(FIGURES, pattern)]
    if unknown:
        sys.exit(f"no figure is called {unknown[0]!r}; there are {', '.join(FIGURES)}")
    return [name for name in FIGURES if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _measure(name: str, pairs: int, is_quick: bool, url: str) -> Samples:
    command = [sys.executable, "-m", "benchmarks.child", name, str(pairs), "quick" if is_quick else "full", url]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=_environment())
    if done.returncode:
        sys.exit(f"the figure {name} could not be measured: its process ended in {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in found:
        raise Skipped(found["skipped"])
    return Samples(**found)


def _environment() -> dict[str, str]:
    # A proxy of the machine's would stand between the client and the loopback server.
    return {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


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
