"""Prompts as a model gets them: each component's rendering is compared with a file, which people have read.

`MELLEA_UPDATE_GOLDEN=1 scripts/test tests/stdlib/components/test_golden.py` writes the files anew. Read the difference.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.core import CBlock, ImageBlock, Message, Requirement, ValidationResult
from mellea.evaluation.preference import _PreferenceRow
from mellea.stdlib.components import (
    Conversation,
    Correction,
    Document,
    Instruction,
    MObject,
    Query,
    Repair,
    SimpleComponent,
    Table,
    Transform,
    mify,
    render_messages,
)

GOLDEN = Path(__file__).parent / "golden"
UPDATES = bool(os.environ.get("MELLEA_UPDATE_GOLDEN"))

TALE = "Once upon a time a fox met a crow.\nThe crow had a piece of cheese.\n"
SALES = Table(
    [{"store": "North", "sales": 250}, {"store": "South | East", "sales": None}, {"store": "Mid\nwest", "sales": 42.5}],
    title="Sales in May",
)


@mify(fields_exclude={"pin"})
@dataclass
class Customer:
    name: str
    orders: list[str]
    notes: str = ""
    pin: str = "1234"
    address: dict[str, str] = field(default_factory=dict)

    def cancel_order(self, number: int) -> str:
        """Cancel one of the orders."""
        return self.orders.pop(number)


@mify(fields_include=["place"], template="The branch in {{ place }}.")
class Branch:
    place = "Oslo"


class Note(MObject):
    def __init__(self, text: str, title: str) -> None:
        self.text = text
        self.title = title


ANN = Customer("Ann", ["beans", "soil"], notes="likes tea\ncalls often", address={"city": "Oslo"})

EVERYTHING: dict[str, Any] = {
    "requirements": [
        "at most 20 words",
        Requirement("no names,\nnot even of animals"),
        Requirement("x", check_only=True),
    ],
    "input": {"animal": "fox", "years": 3},
    "icl_examples": ["A crow sat on a tree.", {"input": "cat", "output": "A cat slept."}],
    "grounding_context": {"tale": TALE, "sales": SALES},
    "prefix": "You write for children.",
}

CASES: dict[str, Any] = {
    "instruction_bare": Instruction("Write a poem."),
    "instruction_everything": Instruction("Write about {{who}}.", user_variables={"who": "a fox"}, **EVERYTHING),
    "instruction_prefix": Instruction("Write a poem.", prefix="You are a poet.\n"),
    "instruction_requirements": Instruction("Write a poem.", requirements=["short", "it rhymes"]),
    "instruction_hidden_requirement": Instruction("Write.", requirements=[Requirement("secret", check_only=True)]),
    "instruction_examples": Instruction("Name a colour.", icl_examples=["red\n", "green"]),
    "instruction_context": Instruction("Retell it.", grounding_context={"tale": TALE}),
    "instruction_context_blank": Instruction("Retell it.", grounding_context={"tale": "", "other": " \n"}),
    "instruction_context_kept": Instruction(
        "Who had the cheese?", grounding_context={"tale": CBlock(TALE, cache=True), "date": "today"}
    ),
    "instruction_input_text": Instruction("Translate it.", input="Guten Tag\n"),
    "instruction_input_empty": Instruction("Translate it.", input=""),
    "instruction_requirements_and_input": Instruction("Sort it.", requirements=["ascending"], input=[3, 1, 2]),
    "instruction_variables": Instruction(
        "Greet {% for name in names %}{{ name }}{{ ', ' if not loop.last }}{% endfor %}.",
        user_variables={"names": ["Ann", "Bo"]},
    ),
    "instruction_documents": Instruction(
        "Compare them.", grounding_context={"a": Document(TALE, title="The fox", id="d1"), "b": ANN}
    ),
    "document": Document(TALE),
    "document_title": Document(TALE, title="The fox and the crow"),
    "document_id": Document(TALE, id="d1"),
    "document_title_and_id": Document(TALE, title="The fox and the crow", id="d1"),
    "table": Table.from_csv("a,b\n1,2\n"),
    "table_title_and_escapes": SALES,
    "simple_component": SimpleComponent(question="Why?", facts=["a", "b"], tale=TALE, nothing=""),
    "mobject_class": Note("A short note.", "Shopping"),
    "mobject_fields": ANN,
    "mobject_template": Branch(),
    "query_object": Query(ANN, "How many orders has she?"),
    "query_text": Query(TALE, "Who had the cheese?\n"),
    "query_table": Query(SALES, "Which store sold most?"),
    "transform_words": Transform(ANN, "Cancel the beans."),
    "transform_tools": Transform(ANN, "Cancel the beans.", has_tools=True),
    "message": Message("user", ["See ", ImageBlock(data=b"x"), "this."]),
    "conversation": Conversation([Message("system", "Be brief."), {"role": "user", "content": "Hi"}]),
    "text": CBlock("Hi"),
}

FAILURES = [
    (Requirement("at most 20 words"), ValidationResult(False, "there are 31")),
    (Requirement("no names,\nnot even of animals"), ValidationResult(False)),
]
CASES["repair"] = Repair(CASES["instruction_requirements"], FAILURES, "A fox named Reynard met a crow.\n")
CASES["repair_of_nothing"] = Repair(CASES["instruction_bare"], FAILURES, "")
CASES["preference"] = _PreferenceRow("one", "", "A fox.", "A fox and a crow.", "It is short.")
CASES["preference_with_task"] = _PreferenceRow("one", "Tell a tale.", "A fox.", "A fox and a crow.", "It is short.")
CASES["correction"] = Correction(CASES["instruction_bare"], FAILURES)

FOR_CLAUDE = [name for name in CASES if name.startswith("instruction")]


def rendered(component: Any, model: str | None) -> str:
    said = render_messages(component, model)
    return "\n\n".join(f"--- {message.role}\n{message.content}" for message in said) + "\n"


def compare(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if UPDATES:
        file.write_text(text, "utf-8")
    assert file.is_file(), f"there is no {file.name}; see the top of this file"
    assert text == file.read_text("utf-8"), f"{name} is said otherwise than in {file.name}"


@pytest.mark.parametrize("name", CASES)
def test_a_component_is_said_as_its_golden_file_shows(name: str) -> None:
    compare(name, rendered(CASES[name], None))


@pytest.mark.parametrize("name", FOR_CLAUDE)
def test_an_instruction_for_claude_is_said_as_its_golden_file_shows(name: str) -> None:
    compare(f"claude_{name}", rendered(CASES[name], "claude-sonnet-4-5"))


def test_there_is_no_golden_file_without_a_case() -> None:
    known = {*CASES, *(f"claude_{name}" for name in FOR_CLAUDE)}
    assert {file.stem for file in GOLDEN.glob("*.txt")} == known


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.txt")), ids=lambda file: file.stem)
def test_prompts_have_no_stray_white_space_and_no_heading_over_nothing(file: Path) -> None:
    text = file.read_text("utf-8").partition("\n")[2]  # behind the line of the role
    assert "\n\n\n" not in text, "two blank lines in a row"
    assert not re.search(r"[ \t]$", text, re.MULTILINE), "a space at the end of a line"
    assert text == text.strip() + "\n", "blank lines around the whole"
    assert not re.search(r":\n*\Z", text), "a heading over nothing"
    assert not re.search(r"^[A-Z][^\n]*:\n\n[A-Z][^\n]*:$", text, re.MULTILINE), "a heading over a heading"
    assert not re.search(r"<(\w+)[^>\n]*>\s*</\1>", text), "a tag around nothing"


def test_every_template_has_a_golden_file() -> None:
    prompts = Path(mellea.__file__).parent / "templates" / "prompts"
    names = {file.stem for file in prompts.glob("*.jinja2")} - {"Judge", "Message"}
    said = {type(case).__name__ for case in CASES.values()} | {"MObject", "Preference"}
    assert names <= said
