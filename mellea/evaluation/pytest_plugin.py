"""The pytest plug-in: tests of generative functions, answered from a journal, which have to pass at a given rate.

Rules:

- A test is generative if it has the mark `generative` or uses the fixture `mellea_session`. Other tests aren't
  affected.
- While such a test runs, every request for text is answered from the journal. A missing answer fails the test;
  `--mellea-record` requests it from a model, `--mellea-live` requests everything. Without them no model is called.
- pytest loads this file wherever mellea is installed, so it imports nothing until there is a generative test.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mellea.evaluation.recorded import Answers

__all__ = ["mellea_session"]

_MARK = "generative"

_FIXTURE = "mellea_session"

_JOURNAL = "mellea-answers.db"

_RATE, _GIVEN, _ASKED = "generative runs", "recorded answers", "asked models"
"""Properties of a test, also in JUnit's XML."""

_MOST_SHOWN = 3

_answers_key = pytest.StashKey["Answers"]()
_sampling_key = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("mellea", "generative tests (mellea)")
    group.addoption(
        "--mellea-record", action="store_true", help="ask models for answers that aren't recorded yet, and record them"
    )
    group.addoption(
        "--mellea-live",
        action="store_true",
        help="ask models for everything, and use no recorded answer; with --mellea-record, record everything again",
    )
    parser.addini("mellea_journal", f"where answers are recorded, from the root of the tests: {_JOURNAL}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Add our mark."""
    config.addinivalue_line(
        "markers",
        "generative(repeat=1, at_least=1.0, confidence=None): run the test that many times, with recorded answers; it "
        "passes if at least this share of the runs do; with a confidence, if the rate is certain to that degree",
    )


@pytest.fixture
def mellea_session() -> Iterator[Any]:
    """Give a session with the model of MELLEA_MODEL, whose answers are recorded."""
    from mellea.stdlib.session import start_session  # lazy: only generative tests load the library

    with start_session() as session:
        yield session


def _is_generative(item: pytest.Item) -> bool:
    return item.get_closest_marker(_MARK) is not None or _FIXTURE in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Reject a method of a `unittest.TestCase`, which unittest itself would run, with requests to a model."""
    if not _is_generative(item):
        return
    from unittest import TestCase  # lazy: only generative tests load anything

    cls = getattr(item, "cls", None)
    if isinstance(cls, type) and issubclass(cls, TestCase):
        pytest.fail(
            f"{item.nodeid} is a method of a unittest.TestCase, which can't be generative; make it a function, or a "
            "method of a class without that base",
            pytrace=False,
        )


# A wrapper: plug-ins for async tests call the function themselves, before any other hook.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run a generative test as often as it asks for; others, and each of its runs, are left to pytest and other
    plugins."""
    if not _is_generative(pyfuncitem) or pyfuncitem.stash.get(_sampling_key, False):
        return (yield)
    goal = _read_mark(pyfuncitem)
    answers = _open_answers(pyfuncitem.config)
    given, asked = answers.given, answers.asked
    failures: list[pytest.ExceptionInfo[BaseException]] = []
    pyfuncitem.stash[_sampling_key] = True
    try:
        with answers:
            answers.begin_sample(1)
            with _collecting(failures, goal):
                yield
            for number in range(2, goal.repeat + 1):
                answers.begin_sample(number)
                with _collecting(failures, goal):
                    # Through all hooks again, so that plug-ins for async tests run it; this one then does nothing.
                    pyfuncitem.ihook.pytest_pyfunc_call(pyfuncitem=pyfuncitem)
    finally:
        pyfuncitem.stash[_sampling_key] = False
        # Properties reach the process that writes the summary.
        pyfuncitem.user_properties.append((_GIVEN, answers.given - given))
        pyfuncitem.user_properties.append((_ASKED, answers.asked - asked))
    _judge(pyfuncitem, goal, failures)
    return True


@contextmanager
def _collecting(failures: list[pytest.ExceptionInfo[BaseException]], goal: RateGoal) -> Iterator[None]:
    """Collect the failures that a rate allows: assertions and invalid answers; everything else ends the test."""
    from mellea.errors import OutputError  # lazy: only generative tests load the library

    try:
        yield
    except pytest.xfail.Exception:  # a kind of failure, but one that ends the test here
        raise
    except (AssertionError, OutputError, pytest.fail.Exception):
        # A single failure is shown like that of any test.
        if goal.repeat == 1:
            raise
        failures.append(pytest.ExceptionInfo.from_current())


class RateGoal:
    """The settings of a mark."""

    def __init__(self, repeat: int = 1, at_least: float = 1.0, confidence: float | None = None) -> None:
        if type(repeat) is not int or repeat < 1:
            raise pytest.UsageError(f"repeat= of a generative test takes a whole number from 1, not {repeat!r}")
        if not isinstance(at_least, (int, float)) or not 0 < at_least <= 1:
            raise pytest.UsageError(f"at_least= of a generative test takes a rate up to 1, not {at_least!r}")
        self.repeat, self.at_least, self.confidence = repeat, float(at_least), confidence
        if confidence is not None:
            self._check_confidence(confidence)

    def _check_confidence(self, confidence: float) -> None:
        if not isinstance(confidence, (int, float)) or not 0 < confidence < 1 or self.at_least == 1:
            raise pytest.UsageError(
                f"confidence= of a generative test takes a number between 0 and 1, and at_least= below 1, "
                f"not {confidence!r} and {self.at_least!r}"
            )
        needed = math.ceil(math.log(1 - confidence) / math.log(self.at_least))
        if self.repeat < needed:
            raise pytest.UsageError(
                f"{self.repeat} runs can't show a rate of {self.at_least:.0%} with a confidence of {confidence:.0%}, "
                f"even if all pass; repeat={needed} can"
            )

    def is_met(self, passed: int) -> bool:
        """Whether this number of passed runs is enough."""
        if self.confidence is None:
            return passed >= self.at_least * self.repeat - 1e-9
        # The probability of that many passes if the rate were just below the required one.
        chance = sum(
            math.comb(self.repeat, count) * self.at_least**count * (1 - self.at_least) ** (self.repeat - count)
            for count in range(passed, self.repeat + 1)
        )
        return chance <= 1 - self.confidence


def _read_mark(item: pytest.Item) -> RateGoal:
    mark = item.get_closest_marker(_MARK)
    if mark is None:
        return RateGoal()
    try:
        return RateGoal(*mark.args, **mark.kwargs)
    except TypeError as error:
        raise pytest.UsageError(f"the mark generative of {item.nodeid} is wrong: {error}") from None


def _open_answers(config: pytest.Config) -> Answers:
    """Return the recorded answers of this run of pytest."""
    from mellea.core.journal import Journal  # lazy: only generative tests load the library
    from mellea.evaluation.recorded import Answers

    found = config.stash.get(_answers_key, None)
    if found is None:
        path = config.rootpath / (config.getini("mellea_journal") or _JOURNAL)
        is_live, is_recording = config.getoption("--mellea-live"), config.getoption("--mellea-record")
        found = config.stash[_answers_key] = Answers(Journal(path), is_live=is_live, is_recording=is_recording)
    return found


def _judge(
    item: pytest.Function, goal: RateGoal, failures: list[pytest.ExceptionInfo[BaseException]]
) -> None:  # fmt: skip
    """Fail the test if too few of its runs have passed."""
    if goal.repeat == 1:
        return
    from mellea.evaluation.intervals import rate_interval  # lazy: only generative tests load the library

    passed = goal.repeat - len(failures)
    rate = rate_interval([(1, 1)] * passed + [(0, 1)] * len(failures))
    line = f"{passed} of {goal.repeat} runs passed: {rate}"
    item.user_properties.append((_RATE, line))
    if goal.is_met(passed):
        return
    sure = "" if goal.confidence is None else f" with a confidence of {goal.confidence:.0%}"
    shown = [f"-- {each.exconly(tryshort=True)}" for each in failures[:_MOST_SHOWN]]
    more = [f"-- and {len(failures) - _MOST_SHOWN} more"] if len(failures) > _MOST_SHOWN else []
    first = item.repr_failure(failures[0])
    pytest.fail(
        "\n".join([f"{line}; wanted at least {goal.at_least:.0%}{sure}", *shown, *more, "the first:", str(first)]),
        pytrace=False,
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report the rates at which tests passed, and how many answers were requested."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    known = [(report.nodeid, dict(report.user_properties)) for report in reports if report.when == "call"]
    known = [(nodeid, properties) for nodeid, properties in known if _GIVEN in properties]
    if not known:
        return
    terminalreporter.section("generative tests")
    for nodeid, properties in known:
        if _RATE in properties:
            terminalreporter.write_line(f"{nodeid}: {properties[_RATE]}")
    given, asked = (sum(properties[name] for _, properties in known) for name in (_GIVEN, _ASKED))
    terminalreporter.write_line(f"{given:,} recorded answers, {asked:,} from models")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the journal, so that it is complete in one file."""
    answers = config.stash.get(_answers_key, None)
    if answers is not None:
        answers.journal.close()
