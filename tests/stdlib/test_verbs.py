"""Every verb shows all its arguments, and they are declared in one place."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import mellea
from mellea import errors, mfuncs
from mellea.core.blocks import ImageBlock
from mellea.core.messages import Message
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.stdlib import functional
from mellea.stdlib.components import Instruction
from mellea.stdlib.verb import (
    ActArguments,
    CallArguments,
    ChatArguments,
    Default,
    FunctionArguments,
    InstructArguments,
    OptionArguments,
    PartArguments,
    StreamArguments,
)
from mellea.testing import ScriptedBackend

Session = mellea.MelleaSession

DECLARED: dict[str, Any] = {
    "instruct": InstructArguments,
    "act": ActArguments,
    "chat": ChatArguments,
    "query": CallArguments,
    "transform": OptionArguments,
    "validate": None,
    "embed": None,
    "generate_image": None,
    "generate_video": None,
}

STREAMS: dict[str, tuple[Callable[..., Any], Any]] = {
    "m.stream": (Session.stream, StreamArguments),
    "m.astream": (Session.astream, StreamArguments),
    "ask": (mellea.ask, InstructArguments),
    "aask": (mellea.aask, InstructArguments),
    "ask.stream": (mellea.ask.stream, StreamArguments),
    "ask.astream": (mellea.ask.astream, StreamArguments),
    "generative": (mellea.generative, FunctionArguments),
    "command": (mellea.command, FunctionArguments),
    "with_options": (mellea.generative(lambda: "").with_options, FunctionArguments),
}

VERBS: dict[str, tuple[Callable[..., Any], Any]] = {
    f"{kind}.{colour}{name}": (getattr(owner, colour + name), declared)
    for kind, owner in {"m": Session, "functional": functional, "mfuncs": mfuncs}.items()
    for colour in ("", "a")
    for name, declared in DECLARED.items()
} | STREAMS


@pytest.mark.parametrize("where", VERBS)
def test_help_has_a_line_for_every_argument(where: str) -> None:
    verb, declared = VERBS[where]
    parameters = inspect.signature(verb).parameters
    shown = pydoc.render_doc(verb, renderer=pydoc.plaintext)
    wrapped = textwrap.dedent(shown.partition("Args:\n")[2].partition("Raises:")[0])
    lines = [" ".join(entry.split()) for entry in re.split(r"\n(?=\w)", wrapped)]
    assert set(declared.__annotations__ if declared else ()) <= set(parameters)
    for name in parameters:
        if name != "self":
            assert (
                len([line for line in lines if line.startswith(f"{name}: ") and line.endswith((".", ";", ":"))]) == 1
            ), name


@pytest.mark.parametrize("where", VERBS)
def test_declared_arguments_are_keywords_with_a_type_and_a_default(where: str) -> None:
    verb, declared = VERBS[where]
    for name in declared.__annotations__ if declared else ():
        parameter = inspect.signature(verb).parameters[name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
        assert parameter.annotation is not inspect.Parameter.empty


@pytest.mark.parametrize("where", VERBS)
def test_help_shows_types_as_a_person_would_write_them(where: str) -> None:
    verb, declared = VERBS[where]
    shown = str(inspect.signature(verb))
    for long in ("typing.", "collections.", "mellea.", "Union[", "ForwardRef", ": '", "-> '"):
        assert long not in shown
    if declared is not None and "tools" in declared.__annotations__:
        assert "tools: Iterable[AnyTool] | ToolSet | None = None" in shown


def test_the_parts_of_an_instruction_are_fields_of_it() -> None:
    names = {field.name for field in dataclasses.fields(Instruction)}
    assert names == {"description", "requirements", *PartArguments.__annotations__}


@pytest.mark.parametrize("name", DECLARED)
@pytest.mark.parametrize("owner", [Session, functional])
def test_a_sync_twin_shows_what_its_verb_shows(owner: Any, name: str) -> None:
    verb, twin = getattr(owner, f"a{name}"), getattr(owner, name)
    assert inspect.signature(twin) == inspect.signature(verb)
    first, note, *rest = inspect.getdoc(twin).split("\n\n")
    assert note == f"This waits until it is done; `a{name}` does the same in async code."
    assert "\n\n".join([first, *rest]) == inspect.getdoc(verb)
    assert twin.__name__ == name and verb.__name__ == f"a{name}"
    assert inspect.iscoroutinefunction(verb) and not inspect.iscoroutinefunction(twin)


def test_a_bound_verb_shows_no_self() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    assert list(inspect.signature(m.instruct).parameters)[:2] == ["description", "format"]


@pytest.mark.parametrize("name", ["instruct", "act", "chat", "query", "stream"])
def test_giving_every_declared_default_changes_nothing(name: str) -> None:
    def sent(**arguments: Any) -> Any:
        backend = ScriptedBackend("x")
        m = mellea.start_session(backend, model_options={"temperature": 0.5})
        said = ({"a": 1}, "Why?") if name == "query" else ("Why?",)
        result = getattr(m, name)(*said, **arguments)
        if name == "stream":
            list(result)
        return backend.requests

    parameters = inspect.signature(getattr(Session, name)).parameters.values()
    defaults = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not inspect.Parameter.empty and not isinstance(parameter.default, Default)
    }
    assert len(defaults) >= 5
    assert repr(sent(**defaults)) == repr(sent())
    assert sent(**defaults) == sent()


class Maker(ScriptedBackend):
    """Makes vectors and images, and says of what."""

    async def embed(self, texts: Sequence[str]) -> EmbeddingResult:
        return EmbeddingResult(tuple((float(len(text)),) for text in texts), model=self.model_id)

    async def generate_image(
        self, messages: Sequence[Message], *, n: int = 1, aspect_ratio: str | None = None, options: Any = None
    ) -> ImageResult:
        said = f"{messages[-1].content} {aspect_ratio} {options}".encode()
        return ImageResult((ImageBlock(data=said),) * n, model=self.model_id)


@pytest.mark.anyio
async def test_texts_become_vectors_without_a_session() -> None:
    backend = Maker("x")
    found = await mfuncs.aembed(["a", "bb"], backend)
    assert found.vectors == ((1.0,), (2.0,))
    assert found == await mellea.start_session(backend).aembed(["a", "bb"])
    assert found == mfuncs.embed(["a", "bb"], backend)
    with pytest.raises(errors.UsageError, match="takes a non-empty string"):
        await mfuncs.aembed([""], backend)


@pytest.mark.anyio
async def test_images_are_made_without_a_session() -> None:
    backend = Maker("x")
    asked: dict[str, Any] = {"n": 2, "aspect_ratio": "16:9", "options": {"quality": "high"}}
    found = await mfuncs.agenerate_image("A cat.", backend, **asked)
    assert len(found.images) == 2
    assert found == await mellea.start_session(backend).agenerate_image("A cat.", **asked)
    assert found == mfuncs.generate_image("A cat.", backend, **asked)
    wrong: dict[str, Any]
    for wrong in ({"n": 0}, {"aspect_ratio": "wide"}, {"options": "high"}, {"options": {1: 2}}):
        with pytest.raises(errors.UsageError, match=f"{next(iter(wrong))} takes a"):
            await mfuncs.agenerate_image("A cat.", backend, **wrong)


MEDIA_MISTAKES = [
    ({"quality": "high"}, r"takes no argument 'quality'; the provider's own options go into options=\{'quality': …\}"),
    ({"seed": 3}, r"options=\{'seed': …\}"),
    ({"aspect_ration": "16:9"}, "did you mean 'aspect_ratio'"),
    ({"size": "1024x1024"}, "aspect_ratio='16:9', or a size as the provider writes it"),
    ({"model_options": {}}, "have the provider's own names: options="),
    ({"model": "dall-e-3"}, "it belongs to start_session"),
    ({"response_format": "url"}, "what the provider calls so goes into options="),
]


@pytest.mark.parametrize("verb", ["generate_image", "generate_video"])
@pytest.mark.parametrize(("wrong", "advice"), MEDIA_MISTAKES, ids=str)
def test_unknown_arguments_of_images_and_videos_are_refused(verb: str, wrong: dict[str, Any], advice: str) -> None:
    backend = Maker("x")
    for call in (
        getattr(mellea.start_session(backend), verb),
        lambda said, **kw: getattr(mfuncs, verb)(said, backend, **kw),
    ):
        with pytest.raises(errors.UsageError, match=advice) as caught:
            call("A cat.", **wrong)
        assert str(caught.value).startswith(f"{verb} takes no argument")


@pytest.mark.anyio
async def test_a_functional_verb_leaves_the_context_that_it_was_given() -> None:
    before = mellea.ChatContext()
    thunk, after = await mfuncs.ainstruct("Hi", before, ScriptedBackend("Hello."), input={"a": 1})
    assert thunk.value == "Hello."
    assert before.last_output() is None and after.last_output() is thunk


@pytest.mark.parametrize("call", ["instruct", "ainstruct", "functional"])
@pytest.mark.anyio
async def test_an_error_passes_one_wrapper(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELLEA_DEBUG", "1")
    m = mellea.start_session(ScriptedBackend("x"))
    calls: dict[str, Callable[[], Any]] = {
        "instruct": lambda: m.instruct(""),
        "ainstruct": lambda: m.ainstruct(""),
        "functional": lambda: functional.instruct("", m.ctx, m.backend),
    }
    with pytest.raises(errors.UsageError) as caught:
        result = calls[call]()
        if inspect.isawaitable(result):
            await result
    names = [str(entry.path) for entry in caught.traceback]
    assert len([name for name in names if name.endswith("mellea/core/entrance.py")]) == 1
