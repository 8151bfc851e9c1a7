"""Tests of a generative program: its own code is tested without a model, and the model's part on a scripted one.

Run it: uv run pytest -q docs/examples/test_triage.py
Needs: pytest; no model, since a script stands in for it

The scripted backend answers at once and the same each time, so such tests belong to every run. How often a real model
is right is another question, with its own tools; see docs/testing.md.
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


def test_the_prompt_has_the_mail_in_it_and_nothing_of_it_is_a_template():
    backend = ScriptedBackend('["money"]')
    with mellea.start_session(backend):
        assert name_topics("Where is {{my}} refund?") == ["money"]
    assert backend.prompts[0].startswith("Name the topics of this mail: Where is {{my}} refund?")


def test_an_answer_that_fails_is_asked_for_again():
    backend = ScriptedBackend('["a", "b", "c", "d"]', '["money"]')
    with mellea.start_session(backend):
        assert name_topics("Where is my refund?") == ["money"]
    assert len(backend.requests) == 2


def test_items_are_there_before_the_list_is_complete():
    with mellea.start_session(ScriptedBackend(['["money"', ', "tea"]'])):
        topics = iter(name_topics.stream("Where is my refund?"))
        assert next(topics) == "money"
        assert list(topics) == ["tea"]


def test_what_is_no_list_is_an_error_with_what_was_said():
    with mellea.start_session(ScriptedBackend("I think it is about money.")), pytest.raises(ParseError) as caught:
        name_topics("Where is my refund?")
    assert "I think it is about money." in str(caught.value)
