"""A variable of an instruction gets into its prompt, or is an error before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mellea
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.components import Instruction
from mellea.testing import ScriptedBackend

ANN = {"name": "Ann"}

VERBS: dict[str, Callable[..., Any]] = {
    "instruct": lambda m, *args, **more: m.instruct(*args, **more),
    "stream": lambda m, *args, **more: list(m.stream(*args, **more)),
    "astream": lambda m, *args, **more: m.astream(*args, **more),
    "ask": lambda m, *args, **more: mellea.ask(*args, session=m, **more),
    "ask.stream": lambda m, *args, **more: list(mellea.ask.stream(*args, session=m, **more)),
    "function": lambda m, text, **more: functional.instruct(text, m.ctx, m.backend, **more),
    "component": lambda m, *args, **more: m.act(Instruction(*args, **more)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("Write to {name}.", "{name}, with single braces, is ordinary text"),
        ("Write to $name.", "it says 'Write to $name.'"),
        ("Write to %(name)s.", "%(name)s"),
        ("Write.", "'Write.'"),
        ("Write {% raw %}{{name}}{% endraw %}.", "raw"),
        ("{# {{name}} #} Write.", "Write"),
    ],
)
def test_a_variable_that_no_placeholder_uses_is_an_error(verb: str, description: str, reason: str) -> None:
    backend = ScriptedBackend("never")
    with pytest.raises(UsageError) as caught:
        VERBS[verb](mellea.start_session(backend), description, user_variables=ANN)
    assert "has no placeholder {{name}}" in str(caught.value) and reason in str(caught.value)
    assert not backend.requests


def test_every_way_to_use_a_variable_counts() -> None:
    for description, said in {
        "Write to {{ name }}.": "Write to Ann.",
        "Write to {{name|upper}}.": "Write to ANN.",
        "{% if name %}Write.{% endif %}": "Write.",
        "{% for letter in name %}{{letter}}-{% endfor %}": "A-n-n-",
        "{% set who = name %}{{who}}": "Ann",
        "{{ {'a': [name]}['a'][0] }}": "Ann",
        "{{ range(2)|list }} {{name}}": "[0, 1] Ann",
    }.items():
        backend = ScriptedBackend("ok")
        mellea.start_session(backend).instruct(description, user_variables=ANN)
        assert backend.prompts == [said]


def test_a_placeholder_without_a_variable_is_told_as_such() -> None:
    with pytest.raises(UsageError, match=r"'nam' is undefined; the variables given are 'name'"):
        mellea.start_session(ScriptedBackend("x")).instruct("Write to {{nam}}.", user_variables=ANN)
    with pytest.raises(UsageError, match=r"it has \{\{a\}\}; write \{\{b\}\} there"):
        Instruction("Write {{a}}.", user_variables={"a": 1, "b": 2})


@pytest.mark.parametrize("where", ["requirements", "prefix", "output_prefix"])
@pytest.mark.parametrize("description", ["Write.", "Write to {{name}}."])
def test_only_the_description_is_a_template_and_another_text_that_looks_like_one_is_refused(
    where: str, description: str
) -> None:
    text: Any = "Mention {{ name }}."
    with pytest.raises(UsageError, match=f"'Mention .*' in {where} has a placeholder for 'name', but only"):
        Instruction(description, user_variables=ANN, **{where: [text] if where == "requirements" else text})
    Instruction("Write.", **{where: [text] if where == "requirements" else text})  # without variables it is a text


def test_texts_from_outside_may_look_like_anything() -> None:
    backend = ScriptedBackend("ok")
    mellea.start_session(backend).instruct(
        "Write to {{name}}.",
        user_variables={"name": "{{name}} {name}"},
        grounding_context={"a": "{{name}}"},
        icl_examples=["{{name}}"],
        input="{{name}}",
    )
    assert backend.prompts[0].count("{{name}}") == 4


def test_what_a_model_wrote_is_no_template() -> None:
    m = mellea.start_session(ScriptedBackend("Say {{name}}."))
    written = m.instruct("Write a prompt.")
    with pytest.raises(UsageError, match="a text that a model wrote is never a template"):
        m.instruct(written, user_variables=ANN)
    m.instruct("Do this: {{task}}", user_variables={"task": written})
    assert m.backend.prompts[-1] == "Do this: Say {{name}}."  # type: ignore[attr-defined]
