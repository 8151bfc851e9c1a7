"""Reports: as text, as a page that nothing can break out of, and as lines that are read back."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest

import mellea
from mellea.errors import StateError, UsageError
from mellea.evaluation import Case, Report, read_report
from mellea.stdlib.requirements import Requirement, ValidationResult

NASTY = '<script>alert(1)</script> & "quotes"\x1b[31m'


def guess(text: str) -> Literal["bill", "other"]:
    return "bill" if "Invoice" in text else "other"


def fail(text: str) -> Literal["bill", "other"]:
    if "Lunch" in text:
        raise ValueError(NASTY)
    return "bill"


@pytest.fixture(scope="module")
def report() -> Report:
    cases = [("Invoice 9", "bill"), ("The invoice", "bill"), ("Lunch", "other"), (f"Lunch {NASTY}", "other")]
    return mellea.evaluate([guess, fail], [Case(*case, data={"by": "Ann"}) for case in cases], repeat=2)


def test_a_report_is_read_from_top_to_bottom(report: Report) -> None:
    text = re.sub(r"[\d.]+ (µs|ms|s)\b", "…", str(report))
    lines = text.splitlines()
    assert lines[0] == "guess and fail"
    assert lines[2] == "4 cases × 2 variants × 2 samples = 16 samples; checked: equals the expected value"
    assert re.fullmatch(r"guess    6 of 8  75\.0%  \d\d\.\d% – \d\d\.\d% +… +… +0", lines[6]), lines[6]
    assert re.fullmatch(r"fail     4 of 8  50\.0%  +\d+\.\d% – \d\d\.\d% +… +… +4", lines[7]), lines[7]
    assert lines[9].startswith(
        "Can't tell whether 'fail' is better than 'guess': 50.0% against 75.0%, better on 1 of 4"
    )
    assert "Expected (rows) and given (columns): guess" in lines
    assert "fail: 4 not passed" in lines
    assert "\x1b" not in text


def test_a_confusion_counts_what_came_where_what_was_expected(report: Report) -> None:
    found = report.confusion("guess")
    assert found is not None
    assert found.count("bill", "other") == 2
    assert (found.recall("bill"), found.precision("bill"), found.recall("other")) == (0.5, 1.0, 1.0)
    assert found.names() == ["bill", "other"]


def test_a_page_needs_nothing_and_nothing_gets_out_of_its_place(report: Report, tmp_path: Path) -> None:
    report.write_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in page
    assert not re.search(r"""(src|href)=|url\(|@import""", page)
    assert "default-src &#x27;none&#x27;" in page
    assert page.count("<tr>") > 16


def test_a_notebook_shows_it(report: Report) -> None:
    bundle = report._repr_mimebundle_()
    assert "6 of 8" in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    assert "Can't tell whether" in bundle["text/plain"]


def test_samples_are_written_as_lines_and_read_back(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    report.write_jsonl(path)
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["variant"], first["inputs"], first["expected"], first["passed"]) == (
        "guess",
        "Invoice 9",
        "bill",
        True,
    )
    assert first["data"] == {"by": "Ann"}
    again = read_report(path, name=report.name)
    assert str(again) == str(report)
    assert again.samples == report.samples
    assert again.to_dict() == report.to_dict()


@pytest.mark.parametrize("text", ["", "no json\n", '{"variant": "a"}\n', "[1]\n"])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(StateError, match=r"file\.jsonl"):
        read_report(tmp_path / "file.jsonl")


def test_figures_are_json_values(report: Report) -> None:
    figures = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert figures["variants"]["guess"]["rate"]["estimate"] == 0.75
    assert figures["variants"]["fail"]["errors"] == 4
    assert figures["comparisons"][0]["winner"] is None
    assert figures["variants"]["guess"]["confusion"]["counts"] == [[2, 2], [0, 4]]


def test_two_runs_are_joined_to_be_compared(report: Report) -> None:
    joined = report.join(report)
    assert joined.variants == ("guess", "fail", "guess (2)", "fail (2)")
    assert joined.compare("guess", "guess (2)").p == 1.0
    assert len(joined.comparisons) == 3
    with pytest.raises(UsageError, match="different checks"):
        report.join(mellea.evaluate(guess, ["x"]))


def test_names_that_arent_there_are_refused(report: Report) -> None:
    for ask in (
        lambda: report.rate("nobody"),
        lambda: report.rate(),
        lambda: report.rate("guess", "polite"),
        lambda: report.compare("guess", "guess"),
        lambda: report.compare("guess", "nobody"),
    ):
        with pytest.raises(UsageError):
            ask()


def test_scores_have_means_and_comparisons() -> None:
    def rate(value: str) -> Any:
        return ValidationResult(True, score=min(len(value), 10) / 10)

    def write_more(text: str) -> str:
        return text + "+"

    def write(text: str) -> str:
        return text

    cases = ["x" * number for number in range(1, 9)]
    report = mellea.evaluate([write, write_more], cases, checks=[rate])
    assert report.scored == ["rate"]
    mean = report.score("write")
    assert mean is not None
    assert mean.estimate == pytest.approx(0.45)
    found = report.compare_scores()
    assert (found.winner, found.difference.estimate) == ("write_more", pytest.approx(0.1))
    assert [each.kind for each in report.check_comparisons] == ["score"]
    assert re.search(r"rate +write_more +0\.450 → 0\.550 +8 +0 +< 0\.001 +better", str(report)), str(report)
    assert str(found).startswith("'write_more' is better than 'write' at 'rate': a mean score of 0.550 against 0.450")


def test_scores_of_a_check_that_gives_none_cannot_be_compared() -> None:
    def rate(value: str) -> Any:
        return ValidationResult(True, score=1.0)

    def short(value: str) -> bool:
        return len(value) < 9

    report = mellea.evaluate({"one": str.upper, "two": str.lower}, ["a", "b"], checks=[short, rate])
    assert report.compare_scores().check == "rate", "the only one that gives scores"
    with pytest.raises(
        UsageError, match=r"the check 'short' gives no scores .* there are: 'rate'\); .*check='short'\)"
    ):
        report.compare_scores(check="short")
    plain = mellea.evaluate({"one": str.upper, "two": str.lower}, ["a", "b"], checks=[short])
    with pytest.raises(UsageError, match=r"the check 'short' gives no scores .*: none"):
        plain.compare_scores()
    assert plain.score("one") is None


def test_a_check_without_a_reason_is_named_where_it_failed() -> None:
    report = mellea.evaluate(guess, ["x"], checks=[Requirement("never", lambda context: False)])
    assert "not: never" in str(report)


def test_rich_draws_the_same_where_it_is_installed(report: Report) -> None:
    console = pytest.importorskip("rich.console")
    from mellea.evaluation.table import draw_rich

    written = io.StringIO()
    drawn = console.Console(width=160, file=written)
    for part in draw_rich(report):
        drawn.print(part)
    text = written.getvalue()
    assert "Can't tell whether" in text
    assert "6 of 8" in text


def test_what_cant_be_encoded_is_written_as_a_replacement(tmp_path: Path) -> None:
    report = mellea.evaluate(lambda text: text, [Case("\ud800</script>", "b", id="\ud801")])
    report.write_html(tmp_path / "report.html")
    assert "\ufffd&lt;/script&gt;" in (tmp_path / "report.html").read_text("utf-8")
    report.write_jsonl(tmp_path / "report.jsonl")
    (sample,) = read_report(tmp_path / "report.jsonl").samples
    assert (sample.case.id, sample.value) == ("\ufffd", "\ufffd</script>")


def test_a_file_that_isnt_text_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "report.jsonl").write_bytes(b"\x89PNG\xff\n")
    with pytest.raises(StateError, match=r"line 1 of .* isn't a sample"):
        read_report(tmp_path / "report.jsonl")


def test_without_checks_nothing_is_said_to_have_passed() -> None:
    shown = str(mellea.evaluate(lambda text: text, ["a", "b"]))
    assert "answered, unchecked" in shown and "passed" not in shown
    assert "passed" in str(mellea.evaluate(lambda text: text, [("a", "a")]))
