"""`mellea eval`: the evaluations in a Python file, or a function in it with cases from another file."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from mellea.batch import Budget
from mellea.batch.sources import open_rows
from mellea.cli import output
from mellea.cli.files import check_files
from mellea.cli.programs import load, run_file
from mellea.errors import UsageError
from mellea.evaluation import Evaluation, Report
from mellea.evaluation.table import draw_rich
from mellea.stdlib.session import start_session

__all__ = ["eval"]


def eval(
    program: Annotated[
        str, typer.Argument(metavar="FILE.py[:NAME]", help="What to evaluate; by default every Evaluation in the file.")
    ],
    cases: Annotated[
        Path | None, typer.Argument(metavar="CASES", help="A .csv, .jsonl or .parquet file of cases.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option("--check", metavar="TEXT", help="Check a requirement, which a model judges.")
    ] = None,
    repeat: Annotated[int | None, typer.Option("--repeat", min=1, help="The number of samples of each case.")] = None,
    at_least: Annotated[
        float | None, typer.Option("--at-least", metavar="RATE", help="Fail if a pass rate is below this, such as 0.8.")
    ] = None,
    sure: Annotated[
        bool, typer.Option("--sure", help="Fail unless even the lower end of the interval reaches that rate.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a web page.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", metavar="FILE", help="Write all samples as JSON lines.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", metavar="FILE", help="The journal, by default beside the program.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The maximum number of cases.")] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="The model, such as openai/gpt-5-mini.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="The maximum number of samples in flight.")] = None,
    cost: Annotated[float | None, typer.Option("--cost", help="The maximum cost, in US dollars.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="The maximum number of tokens.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Use the provider's batches, at half the price.")] = False,
    as_json: output.Json = False,
    resume: Annotated[bool, typer.Option("--resume", hidden=True)] = False,
) -> None:
    """Evaluate functions on cases, and print a report.

    The report has pass rates with intervals, which variant is better, cost and time. The journal keeps the answers, so
    a later run only requests what is new or has changed: other cases, another prompt or model. The exit code is 1 if a
    rate is too low, or if the budget was used up.
    """
    del resume  # `mellea map` needs this to continue a journal; here it is always continued
    found = [_change(each, cases, check, repeat, at_least, limit) for each in _find_evaluations(program, cases)]
    _check_files(found, html, jsonl)
    kept = journal or _find_file(program).with_suffix(".eval.db")
    check_files(
        {"the program": _find_file(program), "the file of cases": cases, "the journal": kept},
        {"--html": html, "--jsonl": jsonl},
    )
    budget = Budget(cost, tokens) if cost is not None or tokens is not None else None
    failed = False
    with start_session(model) if model is not None else nullcontext():
        for evaluation in found:
            try:
                report = evaluation.run(journal=kept, concurrency=concurrency, batch=batch, budget=budget)
            except KeyboardInterrupt:
                output.note(f"mellea: what is done is saved in {str(kept)!r}; the same command continues")
                raise
            _note_reused(report, kept)
            _show(report, as_json=as_json)
            _write(report, html, jsonl)
            missed = evaluation.find_missed(report, is_sure=sure)
            for line in missed:
                output.note(f"mellea: {line}")
            failed = failed or bool(missed) or report.stopped is not None
    if failed:
        raise typer.Exit(1)


def _find_evaluations(program: str, cases: Path | None) -> list[Evaluation]:
    """Return the evaluations named by `FILE.py:NAME`, or all in a file."""
    path, colon, _ = program.partition(".py:")
    if colon:
        named = load(program)
        if isinstance(named, Evaluation):
            return [named]
        if cases is None:
            raise UsageError(
                f"{program!r} is a function, so name a file of cases, too: mellea eval {program} cases.jsonl"
            )
        return [Evaluation(named, None)]
    known = [each for each in vars(run_file(Path(path))).values() if isinstance(each, Evaluation)]
    if not known:
        raise UsageError(
            f"there is no mellea.evaluation.Evaluation in {program!r}; make one, or name a function, {program}:NAME"
        )
    return known


def _change(
    evaluation: Evaluation,
    cases: Path | None,
    check: list[str] | None,
    repeat: int | None,
    at_least: float | None,
    limit: int | None,
) -> Evaluation:
    """Return an evaluation with the options applied."""
    source: Any = evaluation.cases if cases is None else cases
    if limit is not None:
        rows, _, _ = open_rows(source)
        source = list(islice(rows, limit))  # type: ignore[arg-type]  # what a file evaluates is iterated plainly
    return replace(
        evaluation,
        cases=source,
        checks=check or evaluation.checks,
        repeat=repeat or evaluation.repeat,
        at_least=evaluation.at_least if at_least is None else at_least,
    )


def _find_file(program: str) -> Path:
    return Path(program.partition(".py")[0] + ".py")


def _check_files(found: list[Evaluation], *files: Path | None) -> None:
    if len(found) > 1 and any(files):
        raise UsageError(f"the file has {len(found)} evaluations, which can't all go into one file; name one of them")


def _note_reused(report: Report, kept: Path) -> None:
    """Report how many samples came from the journal: for new ones, the user has to name another journal."""
    if reused := sum(sample.cached for sample in report.samples):
        output.note(
            f"mellea: {reused:,} of {len(report.samples):,} samples come from the journal {str(kept)!r}, since nothing "
            "that decides them has changed; give another --journal for new ones"
        )


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        output.write_json([report.to_dict()])
    elif output.is_for_people():
        output.draw(*draw_rich(report))
    else:
        output.write(f"{report}\n")


def _write(report: Report, html: Path | None, jsonl: Path | None) -> None:
    if html is not None:
        report.write_html(html)
    if jsonl is not None:
        report.write_jsonl(jsonl)
