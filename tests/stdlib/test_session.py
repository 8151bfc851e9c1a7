"""Sessions: verbs, guards, the context that goes on, and what bad input says."""

import asyncio
import threading
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Message, Requirement, ValidationResult
from mellea.errors import (
    ConfigurationError,
    GenerationCancelledError,
    MelleaError,
    ParseError,
    RequirementError,
    StreamingError,
    UsageError,
)
from mellea.stdlib.context import ChatContext, SimpleContext
from mellea.stdlib.requirements import check, req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.stdlib.session import current_session
from mellea.testing import Gate, Pause, ScriptedBackend


def session(*replies: Any, **kwargs: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*(replies or ("yes",))), **kwargs)


def short(limit: int) -> Requirement:
    return check("short", validation_fn=simple_validate(lambda text: (len(text) < limit, f"{len(text)} letters")))


# -- verbs ------------------------------------------------------------------------------------------------


def test_sync_verbs_return_computed_thunks() -> None:
    m = session()
    for thunk in (m.instruct("x"), m.act("x"), m.chat("x"), m.act(Message("user", "x"))):
        assert thunk.is_computed()
        assert str(thunk) == thunk.content == "yes"
    assert m.chat("x").parsed == Message("assistant", "yes")
    assert m.act("x").parsed == "yes"


@pytest.mark.anyio
async def test_sync_verbs_work_inside_a_running_loop() -> None:
    assert session().instruct("x").value == "yes"


def test_a_custom_component_parses_its_answer_off_the_loop() -> None:
    class Number:
        def parts(self) -> list[Any]:
            return []

        def format_for_llm(self) -> str:
            return "A number, please."

        def parse(self, generation: Any) -> int:
            assert threading.current_thread().name != "mellea-portal"
            return int(generation.text)

    m = session("7", "seven")
    assert m.act(Number()).parsed == 7
    with pytest.raises(ParseError, match="seven"):
        m.act(Number())


def test_instruct_says_all_its_parts_in_order() -> None:
    backend = ScriptedBackend("ok")
    mellea.start_session(backend).instruct(
        "Write a mail.",
        strategy=None,
        name="mail",
        requirements=["polite", req("short"), check("hidden")],
        input={"to": "Ann"},
        icl_examples=["Dear Bob"],
        grounding_context={"notes": "She likes tea."},
        prefix="You are a clerk.",
    )
    text = backend.prompts[0]
    places = [
        text.index(part)
        for part in ("clerk", "Write a mail", "- polite", "- short", "Dear Bob", "[notes]", "tea", '{"to": "Ann"}')
    ]
    assert places == sorted(places)
    assert "hidden" not in text
    assert "mail.\n" in text


def test_a_bare_instruction_is_just_its_description() -> None:
    backend = ScriptedBackend("ok")
    mellea.start_session(backend).instruct("Say hi.")
    assert backend.prompts == ["Say hi."]


def test_validate_keeps_the_order() -> None:
    m = session(ctx=ChatContext())
    m.instruct("x")
    results = m.validate([short(10), short(2), req("r", validation_fn=lambda ctx: ctx.last_output().value == "yes")])
    assert [bool(result) for result in results] == [True, False, True]
    assert results[1].reason == "3 letters"


# -- requirements and strategies ----------------------------------------------------------------------------


def test_rejection_sampling_tries_again_and_says_so() -> None:
    backend = ScriptedBackend("much too long", "ok")
    thunk = mellea.start_session(backend).instruct("x", requirements=[short(5)], model_options={"seed": 7})
    assert thunk.value == "ok"
    assert thunk.success
    assert [attempt.success for attempt in thunk.sampling.attempts] == [False, True]
    assert [request.options["seed"] for request in backend.requests] == [7, 8]


def test_exhausted_attempts_are_visible() -> None:
    m = session("much too long")
    thunk = m.instruct("x", requirements=[short(5)], strategy=RejectionSamplingStrategy(loop_budget=3))
    assert not thunk.success
    assert len(thunk.sampling.attempts) == 3
    with pytest.raises(RequirementError, match="13 letters") as caught:
        m.instruct("x", requirements=[short(5)], strict=True)
    assert [[bool(r) for r in results] for results in caught.value.results] == [[False], [False]]
    assert caught.value.partial == "much too long"
    result = m.instruct("x", requirements=[short(5)], return_sampling_results=True)
    assert not result.success


def test_a_model_judges_where_there_is_no_function() -> None:
    backend = ScriptedBackend("an answer", '"no"', "a better one", '"yes"')
    thunk = mellea.start_session(backend).instruct("x", requirements=["be good"])
    assert thunk.value == "a better one"
    assert thunk.success
    assert backend.requests[1].output_schema is not None, "the verdict is a value of a schema, not a word in a text"


@pytest.mark.anyio
async def test_an_async_validator_is_awaited() -> None:
    async def never(context: Any) -> ValidationResult:
        await anyio.sleep(0)
        return ValidationResult(False, "never")

    thunk = await session().ainstruct("x", requirements=[Requirement("r", never)])
    assert not thunk.success


def test_a_sync_verb_in_a_sync_validator_in_a_sync_verb() -> None:
    m = session()

    def judge(context: Any) -> bool:
        return m.instruct("Is it good?").value == "yes"

    assert m.instruct("x", requirements=[Requirement("good", judge)]).success


def test_a_validator_that_returns_nonsense_says_so() -> None:
    with pytest.raises(UsageError, match="returns a ValidationResult"):
        session().instruct("x", requirements=[Requirement("r", lambda context: "fine")])


# -- guards -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_await_result_false_in_each_forbidden_place() -> None:
    m = session()
    for arguments in ({"strategy": RejectionSamplingStrategy()}, {"requirements": ["short"]}):
        for verb in (m.ainstruct, m.aact):
            with pytest.raises(StreamingError, match=r"await_result=False.*strategy=None.*await_result=True"):
                await verb("x", await_result=False, **arguments)  # type: ignore[arg-type]
    for verb in (m.instruct, m.act, m.chat):
        with pytest.raises(StreamingError, match=r"await_result=False.*m\.stream.*'a"):
            verb("x", await_result=False)  # type: ignore[call-overload]
    thunk = await m.ainstruct("x", requirements=["short"], strategy=None, await_result=False)
    assert not thunk.is_computed()
    await thunk
    with pytest.raises(StreamingError, match=r"\.value"):
        await thunk.astream()
    assert issubclass(StreamingError, RuntimeError)


BAD: list[tuple[Any, str]] = [
    (lambda m: m.instruct(""), "description is empty"),
    (lambda m: m.instruct("  \n"), "description is empty"),
    (lambda m: m.instruct(None), "description takes a string, not None"),
    (lambda m: m.instruct(b"x"), "description takes a string"),
    (lambda m: m.chat(""), "message is empty"),
    (lambda m: m.chat([]), "message is empty"),
    (lambda m: m.chat(3), "content is text"),
    (lambda m: m.chat("x", role="boss"), "role is one of"),
    (lambda m: m.chat([{"content": "x"}]), "'role'"),
    (lambda m: m.chat([{"role": "user", "text": "x"}]), "no key 'text'"),
    (lambda m: m.act(3), "expected text"),
    (lambda m: m.act(""), "empty"),
    (lambda m: m.instruct("x", model_options={"temperatur": 1}), "did you mean 'temperature'"),
    (lambda m: m.instruct("x", model_options={"temperature": "hot"}), "'temperature' takes a number"),
    (lambda m: m.instruct("x", model_options="hot"), "model_options takes a dict"),
    (lambda m: m.instruct("x", temperature=1), "no argument 'temperature'.*model_options"),
    (lambda m: m.instruct("x", requirement=["a"]), "did you mean 'requirements'"),
    (lambda m: m.instruct("x", requirements="short"), "requirements takes a list"),
    (lambda m: m.instruct("x", requirements=[3]), "requirements takes strings"),
    (lambda m: m.instruct("x", images=["x.png"]), "images takes ImageBlocks"),
    (lambda m: m.chat("x", images=["x.png"]), "images takes ImageBlocks"),
    (lambda m: m.chat("x", images=5), "images takes ImageBlocks"),
    (lambda m: m.chat([{"role": "assistant", "tool_calls": 5}]), "'tool_calls' is a list"),
    (lambda m: m.instruct("x", requirements=5), "requirements takes a list"),
    (lambda m: m.instruct("x", requirements={"short": True}), "requirements takes a list"),
    (lambda m: m.instruct("x", strategy=RejectionSamplingStrategy), "strategy takes"),
    (lambda m: m.instruct("x", model_options={"temperature": 10**400}), "'temperature' takes a number"),
    (lambda m: m.embed(5), "embed takes"),
    (lambda m: m.chat("x", strict=True), "no argument 'strict'"),
    (lambda m: m.astream("x", return_sampling_results=True), "'return_sampling_results'; a stream has .attempts"),
    (lambda m: m.instruct("x", live=True), "'live'; it belongs to the streams"),
    (lambda m: m.chat("x", requirements=["y"]), "'requirements'; it belongs to instruct, act and the streams"),
    (lambda m: m.stream("x", live=1), "live takes True or False"),
    (lambda m: m.stream("x", requirements=["y"], release="verse"), "release takes 'word'"),
    (lambda m: m.stream("x", release="word"), "release='word' needs a strategy"),
    (lambda m: m.stream("x", requirements=["y"], release="word"), "'y' only checks complete outputs"),
    (lambda m: m.instruct("x", strict="yes"), "strict takes True or False"),
    (lambda m: m.instruct("x", model_options={"timeout": 10**5000}), "'timeout' takes seconds"),
    (lambda m: m.chat("x", images="x.png"), "images takes ImageBlocks"),
    (lambda m: mellea.start_session(max_tokens=5), "'max_tokens'.*model_options"),
    (lambda m: mellea.start_session("llama_cpp", context_windo=5), "did you mean 'context_window'"),
    (lambda m: mellea.start_session(model_id="gpt-17"), "known are 'smollm2-135m'"),
    (lambda m: mellea.start_session("smollm2-135m"), "did you mean 'llama_cpp/smollm2-135m'"),
    (lambda m: mellea.start_session("openai:gpt-4"), "did you mean 'openai/gpt-4'"),
    (lambda m: m.stream("x", await_result=False), "a stream never waits"),
    (lambda m: m.instruct("x", user_variables=["a"]), "user_variables takes a dict"),
    (lambda m: m.instruct("x", grounding_context="a"), "grounding_context takes a dict"),
    (lambda m: m.instruct("x", strategy="reject"), "strategy takes"),
    (lambda m: m.instruct("x", tools=["f"]), "tools takes"),
    (lambda m: m.instruct("x", tools="f"), "tools takes"),
    (lambda m: m.instruct("x", format="json"), "format can't be"),
    (lambda m: m.instruct("x", await_result="no"), "await_result"),
    (lambda m: m.instruct("x", name=3), "name takes"),
    (lambda m: m.instruct("x", input=object()), "can't be put into a prompt"),
    (lambda m: m.stream(""), "description is empty"),
    (lambda m: m.stream({"role": "user", "content": "x"}), "put it into a list"),
    (lambda m: m.stream([{"role": "user", "content": "x"}], prefix="p"), "'prefix' with a task in words only"),
    (lambda m: m.stream(["a", "b"]), "expected a Message"),
    (lambda m: m.instruct("x", model_options={"stop_sequence": "x"}), "did you mean 'stop'"),
    (lambda m: m.instruct("x", model_options={"timeout": mellea.Deadlines(total=-1)}), "seconds above 0 as total"),
    (lambda m: m.stream("x", model_options={"temperatur": 1}), "did you mean 'temperature'"),
    (lambda m: mellea.start_session("opnai/gpt"), "did you mean 'openai/gpt'"),
    (lambda m: mellea.start_session(""), "model takes a string"),
    (lambda m: mellea.start_session(3), "model takes a string"),
    (lambda m: mellea.start_session("llama_cpp", backend_name="llama_cpp"), "two names"),
    (
        lambda m: mellea.start_session(ScriptedBackend("x"), temperature=0),
        "takes no 'temperature'; arguments go to the backend's class, model options into model_options=",
    ),
    (lambda m: mellea.start_session(ctx="chat"), "ctx takes a Context"),
    (lambda m: mellea.start_session(model_options={"sed": 1}), "did you mean 'seed'"),
    (lambda m: mellea.MelleaSession("openai"), "backend takes a Backend"),
    (lambda m: ChatContext(window_size=0), "window_size takes"),
    (lambda m: RejectionSamplingStrategy(loop_budget=0), "loop_budget takes"),
    (lambda m: Requirement(), "Requirement takes"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_names_the_argument_and_the_way_out(call: Any, message: str) -> None:
    m = session()
    with pytest.raises(MelleaError, match=message):
        call(m)
    assert m.backend.requests == []  # type: ignore[attr-defined]


# -- the session itself -------------------------------------------------------------------------------------


def test_a_simple_context_lets_calls_stand_alone() -> None:
    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    first = m.chat("one")
    assert m.ctx.last_output() is first
    m.chat("two")
    assert len(backend.requests[-1].messages) == 1
    assert isinstance(m.ctx, SimpleContext)


def test_a_chat_context_remembers_and_its_window_forgets() -> None:
    backend = ScriptedBackend("a", "b", "c", "d")
    m = mellea.start_session(backend, ctx=ChatContext(window_size=1))
    for word in ("one", "two", "three"):
        m.chat(word)
    assert [message.content for message in backend.requests[-1].messages] == ["two", "b", "three"]
    assert m.ctx.as_list()[-1].value == "c"
    assert m.ctx.last_turn().input == Message("user", "three")


@pytest.mark.anyio
async def test_a_clone_cancels_its_own_turns_and_no_others() -> None:
    gates = [Gate(), Gate()]
    m = session(["one ", gates[0], "two"], ["three ", gates[1]], ctx=ChatContext())
    first = await m.achat("a", await_result=False)
    await first.astream()
    async with m.clone() as twin:
        own = await twin.achat("b", await_result=False)
        twin.reset()
    with pytest.raises(GenerationCancelledError):
        await own
    gates[0].open()
    assert await first.avalue() == "one two"


def test_a_clone_goes_on_by_itself() -> None:
    m = session(ctx=ChatContext())
    m.chat("one")
    twin = m.clone()
    twin.chat("two")
    assert (len(m.ctx.turns()), len(twin.ctx.turns())) == (1, 2)


@pytest.mark.anyio
async def test_reset_and_closing_cancel_what_is_written() -> None:
    backend = ScriptedBackend(["a", Pause(60)])
    m = mellea.start_session(backend, ctx=ChatContext())
    thunk = await m.achat("x", await_result=False)
    await anyio.sleep(0.01)
    m.reset()
    assert m.ctx.turns() == []
    with pytest.raises(mellea.errors.GenerationCancelledError):
        await thunk
    async with m:
        assert current_session() is m
        held = await m.achat("x", await_result=False)
        await anyio.sleep(0.01)
    backend.assert_closed()
    with pytest.raises(mellea.errors.GenerationCancelledError):
        await held


@pytest.mark.anyio
async def test_a_chat_context_keeps_a_dropped_thunk_running() -> None:
    backend = ScriptedBackend(["a", Pause(0.02), "b"], "c")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("one", await_result=False)
    await m.achat("two")
    assert [message.content for message in backend.requests[-1].messages] == ["one", "ab", "two"]


def test_with_makes_a_session_current_and_start_session_alone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mellea.stdlib.session.start._default", None)
    monkeypatch.setenv("MELLEA_MODEL", "ollama/any")  # the embedded model isn't everywhere
    alone = session()
    with session() as outer:
        assert current_session() is outer
        with session() as inner:
            assert current_session() is inner
        assert current_session() is outer
    default = current_session()
    assert default is not alone
    assert default is current_session()
    assert isinstance(default.ctx, SimpleContext)


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELLEA_MODEL", "nowhere/model")
    with pytest.raises(ConfigurationError, match="nowhere"):
        mellea.start_session()


def test_two_sessions_on_two_threads_do_not_mix() -> None:
    def work(word: str, texts: dict[str, str]) -> None:
        m = mellea.start_session(ScriptedBackend(word))
        texts[word] = "".join(str(m.chat("x")) for _ in range(20))

    texts: dict[str, str] = {}
    threads = [threading.Thread(target=work, args=(word, texts)) for word in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {"a": "a" * 20, "b": "b" * 20}


def test_options_and_messages_of_the_caller_stay_as_they_are() -> None:
    options = {"temperature": 0}
    variables = {"x": ["a"]}
    m = session()
    asyncio.run(m.ainstruct("{{x}}", user_variables=variables, model_options=options))  # type: ignore[arg-type]
    assert (options, variables) == ({"temperature": 0}, {"x": ["a"]})
