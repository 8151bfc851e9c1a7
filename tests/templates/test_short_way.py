"""Prompts that are put together without Jinja2 have the text that Jinja2 gives them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mellea.core import CBlock, TemplateRepresentation
from mellea.stdlib.components import Instruction, render_messages
from mellea.templates import fill, find, render, render_blocks
from mellea.templates.render import _load_jinja
from mellea.templates.sources import _NO_PARTS

TEXTS = [
    "Write a poem.",
    "\n\n  Indented.\n\n",
    "a {{ b }} { c } {% d %} {# e #} }} %}",
    "line\r\nend\rs",
    "\u2028 a \u2028 ",
    "{{",
    "naïve “quotes” & <tags>",
]


@pytest.mark.parametrize("model", ["gpt-4o", "claude-3"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_description_alone_is_what_the_template_makes_of_it(model: str, text: str) -> None:
    said = Instruction(text).format_for_llm()
    assert render(said, model=model) == find("Instruction", model).render(said.args).strip("\n")


@pytest.mark.parametrize("model", ["gpt-4o", "claude-3"])
@pytest.mark.parametrize(
    "parts",
    [
        {"input": ""},
        {"input": 0},
        {"input": False},
        {"input": []},
        {"requirements": [""]},
        {"requirements": ["be brief"]},
        {"icl_examples": [""]},
        {"grounding_context": {"a": ""}},
        {"prefix": "First:"},
    ],
)
def test_any_other_part_is_said_by_the_template(model: str, parts: dict[str, Any]) -> None:
    said = Instruction("Write.", **parts).format_for_llm()
    assert render(said, model=model) == find("Instruction", model).render(said.args).strip("\n")


def test_the_short_way_knows_every_part_of_an_instruction() -> None:
    names = Instruction("Write.").format_for_llm().args.keys()
    assert names == {"description", *_NO_PARTS}, (
        "a prompt that is a description alone isn't recognised any more, so Jinja2 renders it; give _NO_PARTS in "
        "mellea/templates/sources.py the names in Instruction.format_for_llm(), each with the value of an empty part"
    )


def test_a_cached_description_is_a_block_of_its_own() -> None:
    assert render_blocks(Instruction(CBlock("Write.\n", cache=True)).format_for_llm()).blocks == (
        CBlock("Write.", cache=True),
    )


@pytest.mark.parametrize(
    "around", ["{}", "{}\n", "\n{}\n\n", "{{}}", "{}{}", "}}}}{}", "%}}{}#}}", "{}}}", "é{}\u2028"]
)
@pytest.mark.parametrize("placeholder", ["{{x}}", "{{ x }}", "{{\n\tx\n}}", "{{ x|upper }}", "{{x}} and {{ x }}"])
@pytest.mark.parametrize("value", ["sea", "{{ x }}", "a\r\n", "", None, 3, True, [1, {"a": "b"}]])
def test_a_description_is_filled_as_jinja2_fills_it(around: str, placeholder: str, value: Any) -> None:
    description = around.format(placeholder, "{{ x }}")
    assert _outcome(lambda: fill(description, {"x": value})) == _outcome(
        lambda: _load_jinja().render_text(description, {"x": value})
    )


@pytest.mark.parametrize("name", ["range", "true", "None", "loop", "self", "not", "if", "caller", "_x", "X1"])
def test_a_name_means_what_it_means_to_jinja2(name: str) -> None:
    description, variables = f"a {{{{ {name} }}}}", {name: "sea"}
    assert _outcome(lambda: fill(description, variables)) == _outcome(
        lambda: _load_jinja().render_text(description, variables)
    )


def _outcome(render: Any) -> str:
    try:
        return str(render())
    except Exception as error:
        return repr(error)


PROGRAM = """
import sys
from mellea.stdlib.components import Instruction, render_messages
render_messages(Instruction("Write."), "gpt-4o")
render_messages(Instruction("Write about {{ x }}.", user_variables={"x": "the sea"}), "claude-3")
print(sorted({"jinja2", "pydantic"}.intersection(sys.modules)))
"""


def test_plain_prompts_never_import_jinja2() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_template_of_the_users_is_rendered_by_jinja2(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "with_prompts"
    (root / "templates" / "prompts").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "templates" / "prompts" / "Instruction.jinja2").write_text("Please: {{ description }}")
    monkeypatch.syspath_prepend(tmp_path)
    said = Instruction("Write.").format_for_llm()
    assert render(TemplateRepresentation("Instruction", said.args, package="with_prompts")) == "Please: Write."
    assert render_messages(Instruction("Write."))[0].text == "Write."
