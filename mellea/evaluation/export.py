"""Reports as JSON: samples as lines, which can be read back, and figures as one object."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any

from mellea.core.events import Usage
from mellea.core.serialise import json_value
from mellea.errors import StateError
from mellea.evaluation.cases import UNKNOWN, Case
from mellea.evaluation.checks import plain_value
from mellea.evaluation.comparison import Comparison
from mellea.evaluation.findings import Findings, Sample, Verdict
from mellea.evaluation.intervals import Interval

__all__ = ["list_lines", "read_samples", "summarise"]


def list_lines(report: Findings) -> Iterator[str]:
    """Yield each sample as a JSON text."""
    for sample in report.samples:
        yield json.dumps(_dump_sample(sample), ensure_ascii=False)


def _dump_sample(sample: Sample) -> dict[str, Any]:
    case, usage = sample.case, sample.usage
    return {
        "variant": sample.variant,
        "case": case.id,
        "number": sample.number,
        "inputs": json_value(case.inputs, serialize_unknown=True),
        **({"expected": json_value(case.expected, serialize_unknown=True)} if case.has_expected else {}),
        "value": json_value(plain_value(sample.value), serialize_unknown=True),
        "passed": sample.passed,
        "error": sample.error,
        "checks": [
            {
                "name": verdict.check,
                "passed": verdict.passed,
                "reason": verdict.reason,
                "score": verdict.score,
                "error": verdict.error,
            }
            for verdict in sample.verdicts
        ],
        "seconds": sample.seconds,
        "cost": sample.cost,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        **({"data": json_value(case.data, serialize_unknown=True)} if case.data else {}),
    }


def read_samples(path: str | os.PathLike[str]) -> list[Sample]:
    """Read the samples of a file of such lines; values are JSON values then.

    Raises:
        StateError: it contains something else, or nothing.
        OSError: it can't be read.
    """
    with open(path, "rb") as file:
        samples = [_load_sample(line, number, path) for number, line in enumerate(file, 1) if line.strip()]
    if not samples:
        raise StateError(f"there are no samples in {str(path)!r}")
    return samples


def _load_sample(line: bytes, number: int, path: Any) -> Sample:
    try:
        form = json.loads(line)
        case = Case(form["inputs"], form.get("expected", UNKNOWN), form["case"], form.get("data", {}))
        tokens = form.get("input_tokens"), form.get("output_tokens")
        verdicts = tuple(
            Verdict(each["name"], each["passed"], each["reason"], each["score"], each["error"])
            for each in form["checks"]
        )  # fmt: skip
        return Sample(
            form["variant"],
            case,
            form["number"],
            form["value"],
            form["error"],
            verdicts,
            form.get("expected"),
            form["seconds"],
            None if tokens == (None, None) else Usage(*tokens),
            form["cost"],
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"line {number} of {str(path)!r} isn't a sample of an evaluation: {error!r}") from None


def summarise(report: Findings) -> dict[str, Any]:
    """Return the figures of a report as JSON values."""
    return {
        "name": report.name,
        "cases": len(report.cases),
        "samples": len(report.samples),
        "confidence": report.confidence,
        "stopped": report.stopped,
        "variants": {variant: _summarise_variant(report, variant) for variant in report.variants},
        "comparisons": [_dump_comparison(each) for each in report.comparisons],
        "check_comparisons": [_dump_comparison(each) for each in report.check_comparisons],
        "judge_cost": report.judge_cost,
    }


def _summarise_variant(report: Findings, variant: str) -> dict[str, Any]:
    timing, confusion = report.timing(variant), report.confusion(variant)
    scored = set(report.scored)
    return {
        "rate": _dump_interval(report.rate(variant)),
        "checks": {
            check: {
                "rate": _dump_interval(report.rate(variant, check)),
                **({"score": _dump_interval(report.score(variant, check))} if check in scored else {}),
            }
            for check in report.checks
        },
        "seconds": None if timing is None else {"median": timing.median, "p95": timing.p95},
        "cost": report.cost(variant),
        "tokens": report.tokens(variant),
        "errors": len(report.errors(variant)),
        "confusion": None if confusion is None else {"labels": confusion.names(), "counts": list(confusion.counts)},
    }


def _dump_interval(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    ends = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    # JSON has neither NaN nor infinity.
    return {name: value if math.isfinite(value) else None for name, value in ends.items()}


def _dump_comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "base": comparison.base,
        "other": comparison.other,
        "check": comparison.check,
        "kind": comparison.kind,
        "winner": comparison.winner,
        "difference": _dump_interval(comparison.difference),
        "p": comparison.p,
        "better": comparison.better,
        "worse": comparison.worse,
        "cases": comparison.cases,
        "needed": comparison.needed,
        "family": comparison.family,
        "statement": str(comparison),
    }
