"""Test a generative program without a model: a script gives the answers.

Run it: uv run pytest -q docs/examples/test_triage.py
Needs: pytest; no model, since a script stands in for it

A scripted backend answers at once, and the same each time, so such tests can be part of every run. How often a real
model is right is another question, which test_reviews.py asks.
"""

import json

import pytest

import mellea
from mellea.errors import ParseError
from mellea.stdlib.requirements import req, simple_validate
from mellea.testing import ScriptedBackend

AT_MOST_THREE = req("At most three.", validation_fn=simple_validate(lambda text: len(json.loads(text)) <= 3))


@mellea.command(output=list[str], requirements=[AT_MOST_THREE])
def name_topics(mail: str) -> str:
    return f"Name the topics of this mail: {mail}"


def test_braces_in_a_mail_stay_braces_in_the_prompt():
    backend = ScriptedBackend('["money"]')
    with mellea.start_session(backend):
        assert name_topics("Where is {{my}} refund?") == ["money"]
    assert backend.prompts[0].startswith("Name the topics of this mail: Where is {{my}} refund?")


def test_an_answer_with_too_many_topics_is_repaired():
    backend = ScriptedBackend('["a", "b", "c", "d"]', '["money"]')
    with mellea.start_session(backend):
        assert name_topics("Where is my refund?") == ["money"]
    assert len(backend.requests) == 2


def test_topics_arrive_one_by_one():
    with mellea.start_session(ScriptedBackend(['["money"', ', "tea"]'])):
        topics = iter(name_topics.stream("Where is my refund?"))
        assert next(topics) == "money"
        assert list(topics) == ["tea"]


def test_an_answer_that_is_not_a_list_is_an_error_that_quotes_it():
    with mellea.start_session(ScriptedBackend("I think it is about money.")), pytest.raises(ParseError) as caught:
        name_topics("Where is my refund?")
    assert "I think it is about money." in str(caught.value)
