"""Evaluations: cases of every form, checks of every kind, on the machine of `map`."""

from __future__ import annotations

import csv
import enum
import functools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import mellea
from mellea import prices
from mellea.batch import Journal
from mellea.core.backend import Request
from mellea.core.events import Usage
from mellea.errors import AuthError, UsageError
from mellea.evaluation import Case, CaseInput, Report, equals_expected, includes_expected
from mellea.stdlib.requirements import Requirement, ValidationResult, check, contains, simple_validate
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


class Kind(enum.Enum):
    """What a mail is about."""

    BILL = "bill"
    OTHER = "other"


def ask_text(request: Request) -> str:
    return request.messages[-1].text


def sort_mail(request: Request) -> str:
    return "bill" if "Invoice" in ask_text(request) else "other"


def make_classify(*replies: Any, kind: Any = Kind) -> Any:
    session = mellea.MelleaSession(ScriptedBackend(*(replies or (sort_mail,))))

    def classify(text: str) -> Any:
        """Say in one word what a mail is about."""

    classify.__annotations__["return"] = kind
    return mellea.generative(session=session)(classify)


CASES = [("Invoice 9", Kind.BILL), ("Lunch?", Kind.OTHER), ("Invoice 17", Kind.BILL), ("The invoice", Kind.BILL)]


def passes(report: Report, variant: str | None = None) -> list[bool | None]:
    return [sample.passed for sample in report.of(variant)]


# -- cases ------------------------------------------------------------------------------------------------------


async def test_what_a_case_expects_is_compared_with_what_the_function_returns() -> None:
    report = await mellea.aevaluate(make_classify(), CASES)
    assert passes(report) == [True, True, True, False]
    assert report.rate().estimate == 0.75
    [failed] = report.failures()
    assert failed.case.inputs == "The invoice"
    assert failed.verdicts[0].reason == "expected <Kind.BILL: 'bill'>, not <Kind.OTHER: 'other'>"


def test_plain_code_gets_the_same_report() -> None:
    assert passes(mellea.evaluate(make_classify(), CASES)) == [True, True, True, False]


def write_csv(folder: Path) -> Path:
    path = folder / "cases.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "expected", "by"], ["Invoice 9", "bill", "Ann"], ["Lunch?", "bill", "Bo"]])
    return path


def write_jsonl(folder: Path) -> Path:
    path = folder / "cases.jsonl"
    rows = [{"inputs": {"text": "Invoice 9"}, "expected": "bill", "by": "Ann"}, {"text": "Lunch?", "expected": "bill"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@dataclass
class Example:
    text: str
    expected: Kind


@pytest.mark.parametrize(
    "make",
    [
        write_csv,
        write_jsonl,
        lambda _: [Case("Invoice 9", Kind.BILL), Case({"text": "Lunch?"}, "bill", id="lunch")],
        lambda _: [{"text": "Invoice 9", "expected": "bill"}, {"text": "Lunch?", "expected": "bill", "id": "7"}],
        lambda _: [Example("Invoice 9", Kind.BILL), Example("Lunch?", Kind.BILL)],
        lambda _: ((text, "bill") for text in ("Invoice 9", "Lunch?")),
    ],
    ids=["csv", "jsonl", "cases", "dicts", "dataclasses", "generator of pairs"],
)
async def test_cases_come_from_anywhere_and_are_read_as_the_functions_types(make: Any, tmp_path: Path) -> None:
    report = await mellea.aevaluate(make_classify(), make(tmp_path))
    assert passes(report) == [True, False]
    assert report.samples[0].label is Kind.BILL


async def test_fields_that_the_function_does_not_take_are_data_of_the_case(tmp_path: Path) -> None:
    seen: list[Any] = []
    await mellea.aevaluate(
        make_classify(), write_csv(tmp_path), checks=[lambda value, case: bool(seen.append(case))], concurrency=1
    )
    assert [case.data for case in seen] == [{"by": "Ann"}, {"by": "Bo"}]
    assert [case.inputs for case in seen] == [{"text": "Invoice 9"}, {"text": "Lunch?"}]


async def test_inputs_of_a_file_are_read_as_the_parameters_types(tmp_path: Path) -> None:
    path = tmp_path / "sums.csv"
    path.write_text("one,other,expected\n1,2,3\n2,2,5\n")

    def add(one: int, other: int) -> int:
        return one + other

    assert passes(await mellea.aevaluate(add, path)) == [True, False]


async def test_a_wrong_expected_value_is_told_before_anything_is_asked() -> None:
    classify = make_classify()
    with pytest.raises(UsageError, match=r"expects 'bil', which is not a valid Kind"):
        await mellea.aevaluate(classify, [("Invoice 9", "bill"), ("Invoice 8", "bil")])

    def guess(text: str) -> Literal["bill", "other"]:
        raise AssertionError(text)

    with pytest.raises(UsageError, match=r"expects 'bil', .*: Input should be 'bill' or 'other'$"):
        await mellea.aevaluate(guess, [("Invoice 8", "bil")])


async def test_a_case_without_anything_that_the_function_takes_is_told_before_anything_is_asked() -> None:
    def guess(text: str) -> str:
        raise AssertionError(text)

    with pytest.raises(UsageError, match=r"^a case has 'mail', 'by', and the function has no parameter of that name"):
        await mellea.aevaluate(guess, [{"mail": "Invoice 9", "by": "Ann", "expected": "bill"}])


async def test_an_expected_none_is_a_value_like_others() -> None:
    async def find(text: str) -> str | None:
        return None if text == "nothing" else text

    report = await mellea.aevaluate(find, [("nothing", None), ("something", None)])
    assert passes(report) == [True, False]


async def test_the_same_case_keeps_its_id_wherever_it_stands() -> None:
    one = await mellea.aevaluate(make_classify(), CASES)
    other = await mellea.aevaluate(make_classify(), [("New", Kind.OTHER), *reversed(CASES), CASES[0]])
    ids = {sample.case.inputs: sample.case.id for sample in one.samples}
    assert {sample.case.inputs: sample.case.id for sample in other.samples[:-1] if sample.case.inputs in ids} == ids
    assert other.samples[-1].case.id == ids["Invoice 9"] + "-2"


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([], "no cases"),
        ([("a", 1, 2)], r"\(inputs, expected\)"),
        ([Case("a", id="x"), Case("b", id="x")], "has the id 'x'"),
        ([("a", "bill"), Case("b")], "1 of 2 cases"),
    ],
)
async def test_cases_that_are_wrong_are_refused(cases: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        await mellea.aevaluate(make_classify(), cases)


# -- checks -----------------------------------------------------------------------------------------------------


async def test_requirements_functions_and_texts_are_checks() -> None:
    judge = ScriptedBackend('{"reason": "It greets.", "verdict": "yes"}')
    session = mellea.MelleaSession(ScriptedBackend("Hello Ann", "Bye Bo"))

    def is_short(value: str) -> tuple[bool, str]:
        return len(value) < 8, f"{len(value)} characters"

    def names_the_person(value: str, case: Case) -> bool:
        return case.inputs["user_variables"]["name"] in value

    report = await mellea.aevaluate(
        session.instruct,
        [{"description": "Greet {{name}}.", "user_variables": {"name": name}} for name in ("Ann", "Bo")],
        checks=[contains("Hello"), is_short, names_the_person, check("It is polite.", judge=judge)],
        concurrency=1,
    )
    assert report.checks == ("Use the word 'Hello'.", "is_short", "names_the_person", "It is polite.")
    first, second = report.samples
    assert [verdict.passed for verdict in first.verdicts] == [True, False, True, True]
    assert [verdict.passed for verdict in second.verdicts] == [False, True, True, True]
    assert first.verdicts[1].reason == "9 characters"
    assert len(judge.requests) == 2
    assert "It is polite." in ask_text(judge.requests[0])
    assert "Ann" in ask_text(judge.requests[0])


async def test_a_requirement_sees_the_case_and_the_typed_value() -> None:
    seen: list[Any] = []

    def look(context: Any) -> ValidationResult:
        turn = context.last_turn()
        seen.append((turn.input, context.last_output().parsed, str(context)))
        return ValidationResult(True, score=0.25 if not seen[1:] else 0.75)

    report = await mellea.aevaluate(make_classify(), CASES[:2], checks=[Requirement("look", look)], concurrency=1)
    asked, value, text = seen[0]
    assert isinstance(asked, CaseInput)
    assert (asked.case.inputs, asked.expected, value, text) == ("Invoice 9", Kind.BILL, Kind.BILL, '"bill"')
    score = report.score()
    assert score is not None
    assert score.estimate == 0.5


async def test_a_text_includes_what_the_case_expects() -> None:
    async def greet(name: str) -> str:
        return f"Hello {name}!"

    cases = [Case("Ann", "ann"), Case("Bo", ["hello", "Bo"]), Case("Cy", "Dee")]
    assert passes(await mellea.aevaluate(greet, cases, checks=[includes_expected()])) == [True, True, False]
    strict = await mellea.aevaluate(greet, cases, checks=[includes_expected(case_sensitive=True)])
    assert passes(strict) == [False, False, False]
    assert strict.failures()[0].verdicts[0].reason == "it lacks 'ann'"


async def test_without_checks_and_expected_values_a_sample_passes_unless_the_function_fails() -> None:
    async def work(text: str) -> str:
        if text == "bad":
            raise ValueError("no")
        return text

    report = await mellea.aevaluate(work, ["good", "bad"])
    assert passes(report) == [True, False]


async def test_a_function_that_fails_is_noted_and_stops_nothing() -> None:
    report = await mellea.aevaluate(make_classify(lambda r: "???" if "Lunch" in ask_text(r) else sort_mail(r)), CASES)
    assert passes(report) == [True, False, True, False]
    [failed] = report.errors()
    assert failed.error is not None
    assert failed.error.startswith("ParseError: ")


async def test_a_check_that_fails_to_say_anything_counts_neither_way() -> None:
    def look(value: Kind, case: Case) -> bool:
        return 1 / len(case.inputs.replace("Lunch?", "")) > 0

    report = await mellea.aevaluate(make_classify(), CASES, checks=[look])
    assert passes(report) == [True, None, True, True]
    assert report.rate().estimate == 1.0
    assert "1 check raised errors" in str(report)
    assert "ZeroDivisionError" in str(report)


async def test_a_refused_key_ends_it() -> None:
    with pytest.raises(AuthError):
        await mellea.aevaluate(
            make_classify(AuthError("the key is refused", backend="x", model="y", status=401)), CASES
        )


@pytest.mark.parametrize("checks", ["polite", [3], [lambda: True], [lambda a, b, c: True]])
async def test_checks_that_are_none_are_refused(checks: Any) -> None:
    with pytest.raises(UsageError, match="check"):
        await mellea.aevaluate(make_classify(), CASES, checks=checks)


# -- samples and variants ---------------------------------------------------------------------------------------


async def test_each_case_is_sampled_as_often_as_asked_for() -> None:
    backend = ScriptedBackend("bill", "other")
    session = mellea.MelleaSession(backend)

    @mellea.generative(session=session)
    def classify(text: str) -> Literal["bill", "other"]:
        """Classify a mail."""

    report = await mellea.aevaluate(classify, [("Invoice 9", "bill"), ("Invoice 8", "bill")], repeat=3, concurrency=1)
    assert passes(report) == [True, False, False, False, False, False]
    assert [(sample.case.inputs, sample.number) for sample in report.samples[:4]] == [
        ("Invoice 9", 1), ("Invoice 9", 2), ("Invoice 9", 3), ("Invoice 8", 1)
    ]  # fmt: skip
    assert report.rate().estimate == pytest.approx(1 / 6)


async def test_variants_are_compared_on_the_same_cases() -> None:
    cases = [(f"Invoice {number}", "bill") for number in range(30)]
    poor = make_classify(lambda request: "other" if ask_text(request)[-1] in "13579" else "bill")
    report = await mellea.aevaluate({"poor": poor, "good": make_classify()}, cases)
    assert report.variants == ("poor", "good")
    comparison = report.compare()
    assert (comparison.winner, comparison.better, comparison.worse) == ("good", 15, 0)
    [corrected] = report.comparisons
    assert corrected == comparison
    assert report.compare("good", "poor").winner == "good"


async def test_functions_verbs_agents_and_partials_are_variants() -> None:
    session = mellea.MelleaSession(ScriptedBackend("yes"))
    agent = mellea.Agent(ScriptedBackend("yes"))
    variants = {
        "verb": session.instruct,
        "typed verb": functools.partial(session.instruct, format=Literal["yes", "no"]),
        "agent": agent,
        "plain": lambda text: "yes",
    }
    report = await mellea.aevaluate(variants, [("Is it?", "yes")])
    assert {name: passes(report, name) for name in variants} == {name: [True] for name in variants}


async def test_variants_without_names_get_them() -> None:
    report = await mellea.aevaluate([make_classify(), make_classify()], CASES)
    assert report.variants == ("classify", "classify (2)")


async def test_each_check_of_several_variants_is_compared_and_corrected() -> None:
    async def work(text: str) -> str:
        return text

    async def shout(text: str) -> str:
        return text.upper()

    checks = [
        Requirement("is lower", simple_validate(str.islower)),
        Requirement("is upper", simple_validate(str.isupper)),
    ]
    report = await mellea.aevaluate([work, shout], [f"case {'x' * number}" for number in range(9)], checks=checks)
    assert [(each.check, each.winner, each.family) for each in report.check_comparisons] == [
        ("is lower", "work", 2), ("is upper", "shout", 2)
    ]  # fmt: skip
    assert report.comparisons[0].winner is None


# -- the machine of map -----------------------------------------------------------------------------------------


async def test_a_journal_answers_what_was_asked_before_and_the_report_is_the_same(tmp_path: Path) -> None:
    judge = ScriptedBackend('{"reason": "", "verdict": "yes"}')
    backend = ScriptedBackend(sort_mail, usage=Usage(10, 2))

    def run() -> Any:
        @mellea.generative(session=mellea.MelleaSession(backend))
        def classify(text: str) -> Kind:
            """Classify a mail."""

        checks = [equals_expected(), check("It fits.", judge=judge)]
        return mellea.aevaluate(classify, CASES, checks=checks, repeat=2, journal=tmp_path / "run.db")

    first = await run()
    assert (len(backend.requests), len(judge.requests)) == (8, 8)
    second = await run()
    assert (len(backend.requests), len(judge.requests)) == (8, 8)
    assert second == first
    assert str(second) == str(first)
    assert {sample.cached for sample in second.samples} == {True}


async def test_a_changed_check_asks_no_variant_again(tmp_path: Path) -> None:
    backend, judge = ScriptedBackend(sort_mail), ScriptedBackend('{"reason": "", "verdict": "no"}')

    @mellea.generative(session=mellea.MelleaSession(backend))
    def classify(text: str) -> Kind:
        """Classify a mail."""

    for requirement in ("It fits.", "It fits well."):
        await mellea.aevaluate(classify, CASES, checks=[check(requirement, judge=judge)], journal=tmp_path / "run.db")
    assert (len(backend.requests), len(judge.requests)) == (4, 8)


async def test_a_used_up_budget_ends_with_a_report_of_what_was_done(tmp_path: Path) -> None:
    backend = ScriptedBackend(sort_mail, usage=Usage(60, 40))
    session = mellea.MelleaSession(backend)
    cases = [f"Invoice {number}" for number in range(20)]
    budget, journal = mellea.Budget(tokens=500), tmp_path / "run.db"
    report = await mellea.aevaluate(session.instruct, cases, budget=budget, journal=journal)
    assert len(report.samples) == 5
    assert report.stopped is not None
    assert "It ended early" in str(report)
    again = await mellea.aevaluate(session.instruct, cases, budget=mellea.Budget(tokens=5_000), journal=journal)
    assert (len(again.samples), again.stopped, len(backend.requests)) == (20, None, 20)


async def test_a_budget_holds_for_judges_too() -> None:
    judge = ScriptedBackend('{"reason": "", "verdict": "yes"}', usage=Usage(60, 40))
    session = mellea.MelleaSession(ScriptedBackend("x", usage=Usage(60, 40)))
    report = await mellea.aevaluate(
        session.instruct, ["a", "b", "c", "d"], checks=[check("Fine.", judge=judge)], budget=mellea.Budget(tokens=600)
    )
    assert len(judge.requests) == 2
    assert Counter(passes(report)) == {True: 2, None: 2}
    assert report.stopped is not None


async def test_cost_tokens_and_time_are_told_for_each_variant() -> None:
    prices.set_prices({"scripted/script": prices.Price(input=1.0, output=2.0)})
    try:
        judge = ScriptedBackend('{"reason": "", "verdict": "yes"}', usage=Usage(1_000_000, 0))
        session = mellea.MelleaSession(ScriptedBackend("x", usage=Usage(500_000, 250_000)))
        report = await mellea.aevaluate(session.instruct, ["a", "b"], checks=[check("Fine.", judge=judge)])
    finally:
        prices.reset_prices()
    assert report.cost() == 2.0
    assert report.judge_cost == 2.0
    assert report.tokens() == 1_500_000
    timing = report.timing()
    assert timing is not None
    assert 0 < timing.median <= timing.p95
    assert "Judges cost $2.00." in str(report)


async def test_answers_stand_in_the_journal_under_their_case_variant_and_number(tmp_path: Path) -> None:
    await mellea.aevaluate(
        {"one": make_classify()}, [Case("Invoice", "bill", id="c1")], repeat=2, journal=tmp_path / "j"
    )
    ids = [answer["id"] for answer in Journal(tmp_path / "j").answers("mellea.evaluate")]
    assert sorted(ids) == ["c1 one 1", "c1 one 2"]


@pytest.mark.parametrize("arguments", [{"repeat": 0}, {"repeat": True}, {"confidence": 1}, {"concurrency": 0}])
async def test_arguments_that_are_wrong_are_refused(arguments: Any) -> None:
    with pytest.raises(UsageError):
        await mellea.aevaluate(make_classify(), CASES, **arguments)


@pytest.mark.parametrize("arguments", [{"name": 3}, {"budget": 3}])
def test_an_argument_of_another_type_is_refused_before_anything_is_asked(arguments: Any) -> None:
    asked: list[str] = []
    with pytest.raises(UsageError, match=r"= takes .*, not 3"):
        mellea.evaluate(asked.append, ["a"], **arguments)
    assert not asked


@pytest.mark.parametrize("score", [float("nan"), float("-inf"), "0.5"])
def test_a_check_with_a_score_that_is_no_number_says_nothing(score: Any) -> None:
    report = mellea.evaluate(str, ["a", "b", "c"], checks=[lambda value: ValidationResult(True, score=score)])
    assert report.scored == []
    assert "a ValidationResult's score is a finite number" in str(report)


def test_an_expected_value_of_another_type_says_why() -> None:
    def count(text: str) -> int:
        return len(text)

    with pytest.raises(UsageError, match="expects 'two', which is not a valid int: Input should be a valid integer"):
        mellea.evaluate(count, [("ab", "two")])
