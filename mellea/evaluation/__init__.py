"""Evaluation: run functions on cases, check the results, and report rates with intervals and comparisons."""

# May import: everything below it, most of all `mellea.batch`, which runs it. Read `run.py` first, then `findings.py`.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.evaluation.cases import UNKNOWN as UNKNOWN
    from mellea.evaluation.cases import Case as Case
    from mellea.evaluation.checks import CaseInput as CaseInput
    from mellea.evaluation.checks import equals_expected as equals_expected
    from mellea.evaluation.checks import includes_expected as includes_expected
    from mellea.evaluation.comparison import Comparison as Comparison
    from mellea.evaluation.confusion import Agreement as Agreement
    from mellea.evaluation.confusion import Confusion as Confusion
    from mellea.evaluation.confusion import measure_agreement as measure_agreement
    from mellea.evaluation.evaluation import Evaluation as Evaluation
    from mellea.evaluation.findings import Sample as Sample
    from mellea.evaluation.findings import Timing as Timing
    from mellea.evaluation.findings import Verdict as Verdict
    from mellea.evaluation.intervals import Interval as Interval
    from mellea.evaluation.preference import Preference as Preference
    from mellea.evaluation.preference import aprefer as aprefer
    from mellea.evaluation.preference import prefer as prefer
    from mellea.evaluation.report import Report as Report
    from mellea.evaluation.report import read_report as read_report
    from mellea.evaluation.run import aevaluate as aevaluate
    from mellea.evaluation.run import evaluate as evaluate

_HOMES = {
    "UNKNOWN": "mellea.evaluation.cases",
    "Agreement": "mellea.evaluation.confusion",
    "Case": "mellea.evaluation.cases",
    "CaseInput": "mellea.evaluation.checks",
    "Comparison": "mellea.evaluation.comparison",
    "Confusion": "mellea.evaluation.confusion",
    "Evaluation": "mellea.evaluation.evaluation",
    "Interval": "mellea.evaluation.intervals",
    "Preference": "mellea.evaluation.preference",
    "Report": "mellea.evaluation.report",
    "Sample": "mellea.evaluation.findings",
    "Timing": "mellea.evaluation.findings",
    "Verdict": "mellea.evaluation.findings",
    "aevaluate": "mellea.evaluation.run",
    "aprefer": "mellea.evaluation.preference",
    "equals_expected": "mellea.evaluation.checks",
    "evaluate": "mellea.evaluation.run",
    "includes_expected": "mellea.evaluation.checks",
    "measure_agreement": "mellea.evaluation.confusion",
    "prefer": "mellea.evaluation.preference",
    "read_report": "mellea.evaluation.report",
}

__all__ = [
    "UNKNOWN",
    "Agreement",
    "Case",
    "CaseInput",
    "Comparison",
    "Confusion",
    "Evaluation",
    "Interval",
    "Preference",
    "Report",
    "Sample",
    "Timing",
    "Verdict",
    "aevaluate",
    "aprefer",
    "equals_expected",
    "evaluate",
    "includes_expected",
    "measure_agreement",
    "prefer",
    "read_report",
]

__getattr__ = lazily(__name__, _HOMES)
