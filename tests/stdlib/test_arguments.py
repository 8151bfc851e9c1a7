"""An argument that isn't taken is told what it is called here, on every verb."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import mellea
from mellea.core.entrance import entrance
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.requirements import check, req
from mellea.testing import ScriptedBackend

BACKEND = ScriptedBackend("never")
M = mellea.start_session(BACKEND)
CONTEXT = mellea.ChatContext()


@mellea.generative
def classify(text: str) -> str:
    """Classify."""


@mellea.command
def riff(topic: str) -> str:
    return topic


AGENT = mellea.Agent(BACKEND)

OTHERS: list[tuple[Callable[[], Any], str]] = [
    (lambda: M.instruct("x", model_options={"response_format": 1}), r"unknown model option.*format=…"),
    (lambda: M.instruct("x", model_options={"response_model": 1}), r"it is 'format' here: .*format=…"),
    (lambda: M.instruct("x", model_options={"api_key": 1}), r"it belongs to start_session\(…\)"),
    (lambda: M.instruct("x", model_options={"messages": 1}), r"m\.chat\(\[…\]\)"),
    (lambda: M.instruct("x", model_options={"user": 1}), r"known are temperature.*'extra_body'"),
    (lambda: M.instruct("x", model_options={"topp": 1}), r"did you mean 'top_p'\?"),
    (lambda: M.instruct("x", model_options={"functions": 1}), r"did you mean 'tools'\?"),
    (lambda: M.instruct("x", messages=[]), r"m\.chat\(\[…\]\)"),
    (lambda: mellea.start_session("openai", model="small"), r"'model' twice.*did you mean model_id=…\?"),
    (
        lambda: mellea.evaluate(classify, ["a"], metrics=[]),
        r"^evaluate takes no argument 'metrics'; it is 'checks' here",
    ),
    (lambda: mellea.evaluate(classify, ["a"], requirements=[]), r"it is 'checks' here"),
    (lambda: mellea.evaluate({"a": "Do it."}, ["a"]), r"^evaluate takes a function.*not 'Do it\.'; .*@generative"),
    (lambda: mellea.map("Do it.", ["a"]), r"^map takes a function.*@generative"),
    (lambda: mellea.map(3, ["a"]), r"^map takes a function, or an agent, not 3$"),
    (lambda: AGENT.run("x", message_history=[]), r"agent\.conversation\(messages=\[…\]\)"),
    (lambda: AGENT.stream("x", history=[]), r"agent\.conversation\(messages=\[…\]\)"),
    (lambda: AGENT.run("x", model_settings={}), r"it is 'model_options' here"),
    (lambda: mellea.Agent(BACKEND, deps_type=int), r"tools take what else they need"),
    (lambda: mellea.Agent(BACKEND, model_settings={}), r"it is 'model_options' here"),
    (lambda: classify("a", temperature=0), r"it is classify\(.*; 'temperature' is a model option"),
]


@pytest.mark.parametrize(("use", "said"), OTHERS)
def test_a_name_from_elsewhere_leads_to_ours(use: Callable[[], Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        use()
    assert not BACKEND.requests


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (M, "save", r"to_json\(m\.ctx\)"),
        (M, "load", r"ctx=from_json\(saved\)"),
        (M, "embeddings", r"m\.embed"),
        (M, "stream_chat", r"m\.stream"),
        (CONTEXT, "save", "to_json"),
        (mellea, "RunContext", "tools take"),
        (mellea, "eval", r"mellea\.evaluate"),
        (mellea, "Field", "from pydantic import Field"),
        (mellea, "session", "start_session"),
    ],
)
def test_an_attribute_from_elsewhere_leads_to_ours(owner: Any, name: str, said: str) -> None:
    with pytest.raises(AttributeError, match=said):
        getattr(owner, name)


def test_the_length_of_a_result_is_that_of_its_text() -> None:
    thunk = mellea.ComputedModelOutputThunk("Hello")
    with pytest.raises(TypeError, match=r"\.value is the text"):
        len(thunk)
    assert bool(thunk) and list(map(len, [thunk.value])) == [5]


Call = Callable[..., Any]

TYPED: dict[str, Call] = {
    "instruct": lambda **more: M.instruct("x", **more),
    "act": lambda **more: M.act("x", **more),
    "chat": lambda **more: M.chat("x", **more),
    "query": lambda **more: M.query({"a": 1}, "x", **more),
    "transform": lambda **more: M.transform({"a": 1}, "x", **more),
    "stream": lambda **more: M.stream("x", **more),
    "astream": lambda **more: M.astream("x", **more),
    "ask": lambda **more: mellea.ask("x", **more),
    "ask.stream": lambda **more: mellea.ask.stream("x", **more),
    "ask.astream": lambda **more: mellea.ask.astream("x", **more),
    "functional.instruct": lambda **more: functional.instruct("x", CONTEXT, BACKEND, **more),
    "functional.act": lambda **more: functional.act("x", CONTEXT, BACKEND, **more),
    "functional.chat": lambda **more: functional.chat("x", CONTEXT, BACKEND, **more),
    "functional.query": lambda **more: functional.query({"a": 1}, "x", CONTEXT, BACKEND, **more),
    "functional.transform": lambda **more: functional.transform({"a": 1}, "x", CONTEXT, BACKEND, **more),
}

FUNCTIONS: dict[str, Call] = {
    "@generative": lambda **more: mellea.generative(**more)(lambda text: ""),
    "@command": lambda **more: mellea.command(**more)(lambda text: ""),
    "classify": lambda **more: classify(M, "x", **more),
    "classify.stream": lambda **more: classify.stream(M, "x", **more),
    "riff": lambda **more: riff(M, "x", **more),
    "with_options": lambda **more: classify.with_options(**more),
}

OTHERS: dict[str, Call] = {
    "MelleaSession": lambda **more: mellea.MelleaSession(BACKEND, **more),
    "validate": lambda **more: M.validate(["x"], **more),
    "embed": lambda **more: M.embed("x", **more),
    "functional.validate": lambda **more: functional.validate(["x"], CONTEXT, BACKEND, **more),
    "req": lambda **more: req("x", **more),
    "check": lambda **more: check("x", **more),
}

EVERYWHERE = {**TYPED, **FUNCTIONS, **OTHERS}


def error_of(call: Call, **more: Any) -> str:
    with pytest.raises(UsageError) as caught:
        call(**more)
    return str(caught.value)


@pytest.mark.parametrize("where", TYPED)
@pytest.mark.parametrize(
    "name", ["output_type", "response_model", "response_format", "result_type", "output_schema", "guided_json"]
)
def test_what_others_call_the_type_of_an_answer_is_format(where: str, name: str) -> None:
    assert error_of(TYPED[where], **{name: int}).endswith("it is 'format' here: format=…")


@pytest.mark.parametrize("where", TYPED)
def test_what_others_call_not_waiting_is_await_result(where: str) -> None:
    for name in ("async_", "background"):
        assert error_of(TYPED[where], **{name: True}).endswith("await m.ainstruct(…, await_result=False)")


@pytest.mark.parametrize("where", FUNCTIONS)
def test_a_functions_type_is_what_it_returns(where: str) -> None:
    for name in ("output_type", "response_model", "format"):
        said = error_of(FUNCTIONS[where], **{name: int})
        assert name in said and "return annotation" in said and "@command(output=…)" in said


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("max_tokens", "max_tokens"),
        ("max_output_tokens", "max_tokens"),
        ("max_completion_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("temprature", "temperature"),
        ("system", "system_prompt"),
        ("system_prompt", "system_prompt"),
        ("stop", "stop"),
        ("seed", "seed"),
        ("timeout", "timeout"),
        ("reasoning_effort", "thinking"),
    ],
)
def test_an_option_of_the_model_is_told_where_it_goes(where: str, name: str, ours: str) -> None:
    said = error_of(EVERYWHERE[where], **{name: 1})
    assert "model_options" in said and f"'{ours}'" in said


@pytest.mark.parametrize("where", {**TYPED, **OTHERS})
def test_streaming_is_a_verb_of_its_own(where: str) -> None:
    for name in ("stream", "streaming", "on_token"):
        assert "m.stream(…)" in error_of(EVERYWHERE[where], **{name: True})


@pytest.mark.parametrize("where", FUNCTIONS)
def test_functions_have_streams_too(where: str) -> None:
    assert ".stream(…)" in error_of(FUNCTIONS[where], stream=True)


@pytest.mark.parametrize(
    ("where", "name", "ours"),
    [
        ("instruct", "documents", "'grounding_context'"),
        ("instruct", "few_shot", "'icl_examples'"),
        ("stream", "variables", "'user_variables'"),
        ("ask", "validators", "'requirements'"),
        ("chat", "functions", "'tools'"),
        ("query", "max_steps", "'max_turns'"),
        ("act", "max_retries", "loop_budget"),
        ("instruct", "n", "BestOfNStrategy"),
        ("chat", "requirements", "instruct, act and the streams"),
        ("act", "user_variables", "{{placeholders}}"),
        ("MelleaSession", "history", "'ctx'"),
        ("MelleaSession", "api_key", "start_session"),
        ("instruct", "api_key", "start_session"),
        ("instruct", "model", "start_session"),
        ("transform", "tools", "the methods of the object"),
        ("classify", "examples", "docstring"),
        ("riff", "documents", "own parameters"),
        ("req", "validator", "'validation_fn'"),
        ("functional.act", "prompt", "first argument"),
        ("validate", "model_options", "Judge"),
        ("instruct", "requirement", "did you mean 'requirements'"),
        ("instruct", "quite_unknown", "it takes format, input, name"),
    ],
)
def test_other_names_of_others(where: str, name: str, ours: str) -> None:
    assert ours in error_of(EVERYWHERE[where], **{name: 1})


def test_ask_says_so_before_it_makes_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELLEA_MODEL", "no-such-provider/x")
    for call in (mellea.ask, mellea.ask.stream, mellea.ask.astream):
        with pytest.raises(UsageError, match="max_tokens"):
            call("x", max_tokens=1)


def test_a_functions_own_parameters_may_have_any_of_those_names() -> None:
    @mellea.generative
    def write(style: str, stream: str, max_tokens: int) -> str:
        """Write."""

    m = mellea.start_session(ScriptedBackend("done"))
    assert write(m, style="short", stream="Rhine", max_tokens=3) == "done"


def test_a_checked_function_keeps_its_name_and_signature() -> None:
    assert str(inspect.signature(functional.aact)).startswith("(component")
    assert functional.aact.__name__ == "aact"
    assert inspect.iscoroutinefunction(functional.aact)
    for name in ("requirements", "strategy", "model_options", "tools", "grounding_context", "user_variables"):
        assert name in str(mellea.MelleaSession.instruct.__doc__)

    @entrance("f")
    def f(a: int, *, b: int = 0) -> int:
        return a + b

    assert f(1, b=2) == 3
    with pytest.raises(TypeError, match="missing"):
        f()  # type: ignore[call-arg]
