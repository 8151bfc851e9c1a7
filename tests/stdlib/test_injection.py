"""Values are text: whatever braces they have, and wherever they stand; and a description's template reaches nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mellea
from mellea.core import CBlock, Requirement
from mellea.errors import MelleaError, UsageError
from mellea.stdlib.components import Document, SimpleComponent, Table, mify
from mellea.stdlib.context import ChatContext
from mellea.testing import ScriptedBackend
from tests.soak import examples

EVIL = st.sampled_from(
    [
        "{{ x }}",
        "{{ 1/0 }}",
        "{% for i in x %}",
        "{# gone #}",
        "{{ self }}",
        "{%",
        "}}",
        "{{",
        "{{ name }}",
        "{% raw %}",
    ]
).flatmap(lambda evil: st.text("ab{}%# ", max_size=4).map(lambda more: f"a{more}{evil}{more}b"))


@mify
class Thing:
    def __init__(self, text: str) -> None:
        self.text = text


ARGUMENTS: dict[str, Any] = {
    "description": lambda text: {"description": text},
    "input": lambda text: {"input": text},
    "input in a dict": lambda text: {"input": SimpleComponent(**{text: text})},
    "context": lambda text: {"grounding_context": {text: text}},
    "kept context": lambda text: {"grounding_context": {"a": CBlock(text, cache=True)}},
    "document": lambda text: {"grounding_context": {"a": Document(text, title=text, id=text)}},
    "table": lambda text: {"input": Table([{text: text}], title=text)},
    "object": lambda text: {"input": Thing(text)},
    "example": lambda text: {"icl_examples": [text]},
    "requirement": lambda text: {"requirements": [text, Requirement(text)], "strategy": None},
    "prefix": lambda text: {"prefix": text},
    "variable": lambda text: {"description": "{{it}}", "user_variables": {"it": text}},
    "variable in a list": lambda text: {
        "description": "{% for one in it %}{{one}}{% endfor %}",
        "user_variables": {"it": [text]},
    },
    "object as variable": lambda text: {"description": "{{it}}", "user_variables": {"it": Thing(text)}},
}


@pytest.mark.parametrize("where", ARGUMENTS)
@settings(max_examples=examples(25), deadline=None)
@given(text=EVIL)
def test_braces_in_a_value_stay_text_wherever_it_stands(where: str, text: str) -> None:
    backend = ScriptedBackend("ok")
    arguments = {"description": "Do it.", **ARGUMENTS[where](text)}
    mellea.start_session(backend).instruct(**arguments)
    assert text in backend.prompts[0]


@settings(max_examples=examples(40), deadline=None)
@given(text=EVIL)
def test_braces_in_what_models_and_users_say_stay_text(text: str) -> None:
    backend = ScriptedBackend(text)
    m = mellea.start_session(backend, ctx=ChatContext())
    first = m.chat(text)
    m.chat("go on")
    m.query(Thing(text), text)
    m.transform(Thing(text), text)
    m.instruct("About {{it}}.", user_variables={"it": first})
    contents = [message.content for message in backend.requests[-1].messages]
    assert contents[:3] == [text, text, "go on"]
    assert contents[-1] == f"About {text}."
    assert contents[4].count(text) == 2


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ it.__init__.__globals__ }}",
    "{{ it.format.__globals__ }}",
    "{{ '{0.__class__}'.format(it) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format_map({'0': it}) }}",
    "{{ it|attr('__class__') }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__['os'].popen('id') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% set _ = many.append(1) %}{{ many }}",
    "{% set _ = named.update({'a': 1}) %}{{ named }}",
    "{{ thing.text.__class__ }}",
    "{{ thing.obj.secret }}",
    "{% include '/etc/passwd' %}",
    "{% include '../render.py' %}",
    "{% import 'os' as os %}{{ os }}",
    "{{ range(10**9)|list }}",
]


@pytest.mark.parametrize("description", ESCAPES)
def test_the_template_of_a_description_reaches_nothing_and_changes_nothing(description: str) -> None:
    thing = Thing("x")
    thing._secret = "SECRET"  # type: ignore[attr-defined]
    variables = {"it": "text", "many": [1], "named": {"k": 1}, "thing": thing}
    before = copy.deepcopy({**variables, "thing": vars(thing)})
    backend = ScriptedBackend("ok")
    with pytest.raises(UsageError, match="can't be filled"):
        description += "{% if false %}{{ [it, many, named, thing] }}{% endif %}"  # none of them goes unused
        mellea.start_session(backend).instruct(description, user_variables=variables)
    assert not backend.requests
    assert {**variables, "thing": vars(thing)} == before


def test_nothing_that_was_passed_is_changed() -> None:
    given_ones: dict[str, Any] = {
        "requirements": ["a", "b"],
        "icl_examples": ["e", {"k": ["v"]}],
        "grounding_context": {"c": ["x"]},
        "user_variables": {"v": {"deep": [1]}},
        "model_options": {"temperature": 0, "stop": ["x"]},
        "input": {"i": [{"j": 1}]},
        "tools": [len],
        "format": {"type": "object", "properties": {"a": {"type": "string"}}},
    }
    before = copy.deepcopy(given_ones)
    m = mellea.start_session(ScriptedBackend('{"a": "b"}'))
    m.instruct("{{v}}", strategy=None, **given_ones)
    with m.stream("{{v}}", strategy=None, **given_ones) as stream:
        list(stream.partials())
    assert given_ones == before
    result = m.instruct("x", format=given_ones["format"], strategy=None)
    result.parsed["a"] = "changed"
    assert m.instruct("x", format=given_ones["format"]).parsed == {"a": "b"}


def test_a_bad_template_says_what_is_wrong_with_it() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    for description in ("{{ it", "{% for %}", "{{ it.nothing }}", "{{ it|nothing }}", "{{ it() }}"):
        with pytest.raises(MelleaError, match="the description"):
            m.instruct(description, user_variables={"it": "x"})
