"""Schemas that are asked for in the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

import mellea
from mellea.core.backend import Capabilities, OutputSchema, Request
from mellea.core.messages import system_message, user_message
from mellea.core.structured.prompting import prompt_for_schema
from mellea.errors import UnsupportedError
from mellea.testing import ScriptedBackend

SCHEMA = OutputSchema("n", {"type": "integer"})


@dataclass
class Person:
    name: str


def test_the_schema_stands_in_the_system_message() -> None:
    request = prompt_for_schema(Request((user_message("Hi"),), output_schema=SCHEMA))
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.messages[0].content.startswith("Answer with JSON only")
    assert request.messages[0].content.endswith('\n{"type": "integer"}')
    request = prompt_for_schema(Request((system_message("Be kind."), user_message("Hi")), output_schema=SCHEMA))
    assert request.messages[0].content.startswith("Be kind.\n\nAnswer with JSON only")
    assert len(request.messages) == 2
    assert prompt_for_schema(Request((user_message("Hi"),))) == Request((user_message("Hi"),))


def test_a_model_that_can_only_be_asked_gives_typed_values_all_the_same() -> None:
    answer = 'Sure!\n```json\n[{"name": "Ada"}, {"name": "Bo"}]\n```'
    backend = ScriptedBackend([*answer], capabilities=Capabilities(structured_output="prompt"))
    m = mellea.start_session(backend)
    people = [Person("Ada"), Person("Bo")]
    assert m.instruct("Who?", format=list[Person]).parsed == people
    assert list(m.stream("Who?", format=list[Person]).items()) == people
    schema = json.loads(backend.requests[0].messages[0].content.partition("\n")[2])
    assert schema["$defs"]["Person"]["properties"]["name"]["type"] == "string"
    assert "JSON" not in backend.prompts[0], "the task's own words stay as they are"


def test_a_model_that_can_do_nothing_is_refused() -> None:
    m = mellea.start_session(ScriptedBackend("x", capabilities=Capabilities()))
    with pytest.raises(UnsupportedError, match="structured output"):
        m.instruct("Who?", format=Person)
