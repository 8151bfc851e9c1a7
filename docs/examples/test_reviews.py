"""Tests of a generative function, whose answers are recorded: no model is asked unless you say so.

Run it: uv run pytest -q docs/examples/test_reviews.py --mellea-record
Needs: pytest and the embedded model

Without --mellea-record the recorded answers are used. The model is the embedded one, unless MELLEA_MODEL names another.

A bigger model is right about all of the reviews.
"""

import pytest
from two_prompts import plain

import mellea


@pytest.mark.generative(repeat=5, at_least=0.8)
def test_praise_is_good():
    assert plain("The best kettle that I have ever had.") == "good"


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
