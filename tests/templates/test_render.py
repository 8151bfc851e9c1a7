"""Rendering: values stay text, the sandbox holds, and texts to be remembered end a block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.core import CBlock, ComputedModelOutputThunk, ImageBlock, Message, TemplateRepresentation
from mellea.errors import UsageError
from mellea.stdlib.components import Document, Instruction, Query, Repair, SimpleComponent, Table, mify, render_messages
from mellea.templates import fill, render, render_blocks, to_text
from mellea.testing import ScriptedBackend

NASTY = "{{ 7 * 7 }} {% raw %} {# gone? #} {{ self }} ~1~"


def inline(template: str, **args: Any) -> TemplateRepresentation:
    return TemplateRepresentation(template, args, is_inline=True)


def test_number_21_a_users_value_that_contains_braces_stays_text() -> None:
    @mify
    class Thing:
        def __init__(self) -> None:
            self.word = NASTY

    parts = {
        "requirements": [NASTY],
        "input": NASTY,
        "icl_examples": [NASTY],
        "grounding_context": {"a": NASTY, NASTY: Document(NASTY, title=NASTY, id=NASTY)},
        "user_variables": {"x": NASTY},
        "prefix": NASTY,
    }
    for model in (None, "claude-sonnet-4-5"):
        text = render_messages(Instruction("Say {{ x }}.", **parts), model)[0].content
        assert text.count(NASTY) == 10
        assert "49" not in text
    for component in (
        SimpleComponent(word=NASTY),
        Query(Thing(), NASTY),
        Table([[NASTY]], ["x"]),
        Document(NASTY),
        Message("user", NASTY),
        CBlock(NASTY),
        Instruction(NASTY),
    ):
        assert NASTY in render_messages(component)[0].content


def test_number_21_a_value_is_text_inside_a_value_too() -> None:
    thunk = ComputedModelOutputThunk(NASTY)
    told = fill("{{ a }} {{ b }} {{ c.d[0] }}", {"a": CBlock(NASTY), "b": thunk, "c": {"d": [thunk]}})
    assert told == f"{NASTY} {NASTY} {NASTY}"


def test_the_sandbox_holds() -> None:
    for template in (
        "{{ x.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ x.append(2) }}",
        "{% include '/etc/passwd' %}",
        "{{ x|attr('__class__') }}",
    ):
        with pytest.raises(UsageError, match="can't be filled"):
            fill(template, {"x": [1]})


def test_an_undefined_variable_is_an_error_that_names_those_there_are() -> None:
    for template in ("{{ y }}", "{% if y %}{% endif %}", "{{ y|block }}", "{{ x.z }}"):
        with pytest.raises(UsageError, match=r"(?s)can't be filled: .*the variables given are 'x'"):
            fill(template, {"x": {"a": 1}})


def test_values_are_values_in_a_template() -> None:
    assert fill("{% for n in ns %}{{ n }};{% endfor %}", {"ns": [1, "two", None, True]}) == "1;two;null;true;"
    assert fill("{{ x }}", {"x": {"a": [1, (2,)]}}) == '{"a": [1, [2]]}'
    assert fill("{{ names|join(', ') }}", {"names": ["a", CBlock("b")]}) == "a, b"


def test_nothing_that_is_given_is_changed() -> None:
    items = [1, 2]
    with pytest.raises(UsageError):
        fill("{{ x.clear() }}", {"x": items})
    fill("{{ x }}", {"x": items})
    assert items == [1, 2]


def test_a_text_to_be_remembered_ends_a_block_and_the_text_is_the_same() -> None:
    kept = render_blocks(inline("a {{ x }} b {{ y }}", x=CBlock("X", cache=True), y="Y"))
    assert kept.blocks == (CBlock("a X", cache=True), CBlock(" b Y"))
    assert render(inline("a {{ x }} b", x=CBlock("X", cache=True))) == "a X b"
    assert to_text(CBlock("X", cache=True)) == "X"
    whole = render_blocks(TemplateRepresentation("a", is_inline=True, cache=True))
    assert whole.blocks == (CBlock("a", cache=True),)


def test_text_in_json_or_in_a_filter_loses_its_mark_and_nothing_else() -> None:
    for template in ("{{ x|upper }}", "{{ x|tojson }}", "{{ x|truncate(3) }}", "{{ d }}", "{{ x|indent }}"):
        args = {"x": CBlock("long text", cache=True), "d": {"k": CBlock("v", cache=True)}}
        rendered = render_blocks(inline(template, **args))
        assert len(rendered.blocks) == 1
        assert rendered.blocks[0].value == render(inline(template, **args))
        assert "~" not in rendered.blocks[0].value


@pytest.mark.parametrize(
    "component",
    [
        Instruction("Task.", prefix=CBlock("Keep.", cache=True)),
        Instruction("Task.", grounding_context={"doc": CBlock("Keep.", cache=True)}),
        Instruction("Task.", grounding_context={"d": Document(CBlock("Keep.", cache=True), title="t")}),
        Instruction(CBlock("Keep {{ x }}.", cache=True), user_variables={"x": 1}, input="in"),
        Query(Document(CBlock("Keep.", cache=True)), "Why?"),
        SimpleComponent(a="b", c=CBlock("Keep.", cache=True), d="e"),
        Message("user", [CBlock("Keep.", cache=True), "rest"]),
        Query(Message("user", [CBlock("Keep.", cache=True), "rest"]), "Why?"),
    ],
)
def test_marks_reach_the_message_from_inside_of_components(component: Any) -> None:
    blocks = render_messages(component)[0].blocks
    assert [block.cache for block in blocks] == [True, False]
    assert blocks[0].value.rstrip(".").endswith(("Keep", "Keep 1"))


def test_a_kept_context_is_said_as_any_other_only_before_the_task() -> None:
    first, second = (
        render_messages(Instruction(task, grounding_context={"doc": CBlock("long\n", cache=True)}))[0].blocks
        for task in ("One.", "Two.")
    )
    assert first[0] == second[0] == CBlock("Use this context:\n\n[doc]\nlong", cache=True)
    assert first[1:] == (CBlock("\n\nOne."),)


def test_images_are_found_wherever_they_stand() -> None:
    one, two = ImageBlock(data=b"1"), ImageBlock(data=b"2")
    repair = Repair(Message("user", ["See", one]), [])
    assert render_messages(repair)[0].files == (one,)
    message = render_messages(Instruction("Compare.", grounding_context={"a": one}, images=[two]))[0]
    assert message.files == (one, two)
    assert message.content == "Compare.\n\nUse this context:\n\n[a]\n(image 1)"


def test_an_image_in_an_object_is_refused_where_no_image_can_go() -> None:
    @mify
    class Photo:
        def __init__(self) -> None:
            self.picture = ImageBlock(data=b"x")
            self.place = "Oslo"

    assert render_messages(Query(Photo(), "What is it?"))[0].files == (ImageBlock(data=b"x"),)
    deaf = mellea.start_session(ScriptedBackend("x", capabilities=mellea.core.Capabilities()))
    with pytest.raises(mellea.errors.UnsupportedError, match="images"):
        deaf.query(Photo(), "What is it?")


def test_what_cant_be_said_is_an_error_in_plain_words() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UsageError, match="nested too deeply, or contains itself"):
        to_text(loop)
    with pytest.raises(UsageError, match=r"can't be put into a prompt.*str"):
        fill("{{ x }}", {"x": object()})
    with pytest.raises(UsageError, match="TemplateRepresentation or a text, not 3"):
        render(3)  # type: ignore[arg-type]


def test_the_templates_are_read_once() -> None:
    from mellea.templates import find

    assert find("Instruction") is find("Instruction", "gpt-4o")
    assert Path(str(find("Instruction", "claude-3").filename)).parent.name == "claude"
