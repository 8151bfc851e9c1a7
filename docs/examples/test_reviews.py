"""Test a generative function with recorded answers: no model is asked unless you say so.

Run it: uv run pytest -q docs/examples/test_reviews.py --mellea-record
Needs: pytest and the embedded model

The first run asks the model and records its answers in a file; later runs, without --mellea-record, use these and take
milliseconds. The embedded model misses a review now and then, so the tests say which rate is good enough. A bigger
model is right about all of them.
"""

import pytest
from two_prompts import plain

import mellea


@pytest.mark.generative(repeat=5, at_least=0.8)
def test_praise_is_good():
    assert plain("Works perfectly, and the battery lasts for a week.") == "good"


@pytest.mark.generative
@pytest.mark.parametrize("complaint", ["It broke after two days.", "A waste of money, I want a refund."])
def test_complaints_are_bad(complaint):
    assert plain(complaint) == "bad"


@pytest.mark.generative
def test_most_reviews_are_read_rightly():
    cases = [
        ("Works perfectly.", "good"),
        ("It never worked.", "bad"),
        ("Great value.", "good"),
        ("I regret it.", "bad"),
    ]
    report = mellea.evaluate(plain, cases)
    assert report.rate().estimate >= 0.75, str(report)
