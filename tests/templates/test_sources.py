"""Where templates come from: model families, users' folders and packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import mellea
from mellea.core import TemplateRepresentation
from mellea.errors import UsageError
from mellea.stdlib.components import Document, Instruction, Message, render_messages
from mellea.templates import add_folder, add_package, render, sources
from mellea.testing import ScriptedBackend

BARE = TemplateRepresentation("Bare", {"x": 1})


@pytest.fixture(autouse=True)
def _no_sources_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_added", ())
    monkeypatch.setattr(sources, "_named", dict(sources._named))
    sources.find_prompt.cache_clear()
    yield
    sources.find_prompt.cache_clear()


def write(folder: Path, **templates: str) -> Path:
    for path, text in templates.items():
        file = folder / f"{path.replace('__', '/')}.jinja2"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return folder


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **templates: str) -> str:
    root = tmp_path / name
    write(root / "templates" / "prompts", **templates)
    (root / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "all"),
        ("gpt-4o", "all"),
        ("llama3.2", "llama 3"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama 3"),
        ("Meta-Llama-2-7b", "llama"),
        ("codellama", "all"),
        ("ibm-granite/granite-3.2-8b-instruct", "granite 3.2"),
        ("granite3.2:2b", "granite 3.2"),
        ("granite-3-3", "granite"),
        ("/models/llama/qwen.gguf", "all"),
    ],
)
def test_the_longest_family_in_the_models_name_chooses_the_template(tmp_path: Path, model: str, said: str) -> None:
    families = {"llama__Bare": "llama", "llama-3__Bare": "llama 3", "granite__Bare": "granite"}
    add_folder(write(tmp_path, Bare="all", **families))
    write(tmp_path / "granite-3-2", Bare="granite 3.2")
    add_folder(tmp_path)
    assert render(BARE, model=model) == said


def test_the_family_comes_from_the_backends_model(tmp_path: Path) -> None:
    add_folder(write(tmp_path, llama__Instruction="LLAMA {{ description }}", llama__Message="[{{ content }}]"))
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    m.instruct("Hi.")
    backend.model_id = "llama3.2"
    m.instruct("Hi.")
    m.chat("Ho.")
    assert backend.prompts == ["Hi.", "LLAMA Hi.", "[Ho.]"]


def test_components_inside_others_are_said_for_the_family_too(tmp_path: Path) -> None:
    add_folder(write(tmp_path, llama__Document="<{{ text }}>"))
    task = Instruction("Read.", grounding_context={"d": Document("tale")}, input=[Document("x")])
    assert "<tale>" in render_messages(task, "llama3")[0].content
    assert '["<x>"]' in render_messages(task, "llama3")[0].content
    assert "<tale>" not in render_messages(task, "gpt-4o")[0].content


def test_a_users_package_brings_templates_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = package(tmp_path, monkeypatch, "my_prompts", Greeting="Greet {{ who }}.", Document="DOC {{ text }}")
    with pytest.raises(UsageError, match=r"no prompt template 'Greeting' in 'mellea'; .*add_package"):
        render(TemplateRepresentation("Greeting", {"who": "Ann"}))
    add_package(name)
    assert render(TemplateRepresentation("Greeting", {"who": "Ann"})) == "Greet Ann."
    assert render_messages(Document("x"))[0].content == "DOC x"


def test_a_component_may_name_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = package(tmp_path, monkeypatch, "other_prompts", Document="MINE {{ text }}")
    mine = TemplateRepresentation("Document", {"text": "x"}, package=name)
    assert render(mine) == "MINE x"
    assert render_messages(Document("x"))[0].content == "x", "nobody else's templates change"
    unknown = TemplateRepresentation("Document", package="no_such_package_here")
    with pytest.raises(UsageError, match="'no_such_package_here' has no templates in 'templates/prompts'"):
        render(unknown)


def test_a_template_includes_and_extends_others(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        Document='{% extends "mellea:Document.jinja2" %}',
        Bare='{% include "part.jinja2" %}, {% include "Message.jinja2" %}',
        part="part {{ x }}",
    )
    add_folder(folder)
    assert render_messages(Document("x", id="7"))[0].content == "Document 7:\nx"
    assert render(TemplateRepresentation("Bare", {"x": 1, "content": "theirs"})) == "part 1, theirs"


def test_what_was_added_last_goes_first(tmp_path: Path) -> None:
    add_folder(write(tmp_path / "a", Bare="a", Message="a{{ content }}"))
    add_folder(write(tmp_path / "b", Bare="b"))
    assert render(BARE) == "b"
    add_folder(tmp_path / "a")
    assert render(BARE) == "a"
    assert render_messages(Message("user", "x"))[0].content == "ax"


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder '/no/such'"):
        add_folder("/no/such")
    with pytest.raises(UsageError, match="'email' has no templates"):
        add_package("email")
    add_folder(write(tmp_path, Bare="{% if %}"))
    with pytest.raises(UsageError, match=r"Bare.jinja2' can't be read"):
        render(BARE)
