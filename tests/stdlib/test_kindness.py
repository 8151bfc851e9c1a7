"""What people write who come from other libraries, or mix up two things of ours, is told what to write instead."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import pickle
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest

import mellea
from mellea import batch, evaluation, tools
from mellea.core import ComputedModelOutputThunk, Requirement, ToolCall, Usage
from mellea.errors import UsageAttributeError, UsageError, UsageTypeError
from mellea.stdlib import components, functional, sampling
from mellea.stdlib.requirements import req
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import ScriptedBackend

BACKEND = ScriptedBackend("yes")
M: Any = mellea.start_session(BACKEND)
ASK: Any = mellea.ask


def error_of(call: Callable[[], Any], kind: type[Exception] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, UsageError)
    return str(caught.value)


# -- comparisons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compare", [lambda thunk: thunk == "yes", lambda thunk: thunk != "no", lambda thunk: thunk in ["a"]]
)
def test_a_thunk_isnt_compared_with_a_text(compare: Callable[[Any], bool]) -> None:
    assert "compare .value" in error_of(lambda: compare(M.instruct("Is it?")))


@pytest.mark.anyio
async def test_a_thunk_that_isnt_computed_isnt_compared_with_a_text_either() -> None:
    thunk = await M.ainstruct("Is it?", await_result=False)
    assert "compare .value" in error_of(lambda: thunk == "yes")
    await thunk


@pytest.mark.parametrize(("text", "kind", "value"), [("3", int, 3), ("[1]", list[int], [1]), ("true", bool, True)])
def test_a_thunk_isnt_compared_with_a_value_of_its_type(text: str, kind: Any, value: Any) -> None:
    thunk = mellea.start_session(ScriptedBackend(text)).instruct("?", format=kind)
    assert "compare .parsed" in error_of(lambda: thunk == value)


def test_a_thunk_of_a_bool_has_no_truth_of_its_own() -> None:
    thunk = mellea.start_session(ScriptedBackend("false")).instruct("Is it?", format=bool)
    assert "use .parsed" in error_of(lambda: bool(thunk))
    assert M.instruct("Is it?")  # others are true, as objects are


def test_thunks_are_compared_by_identity_and_can_be_kept_in_lists_sets_and_pickles() -> None:
    first, second = ComputedModelOutputThunk("a"), ComputedModelOutputThunk("a")
    assert first == first and first != second and first is not None and first != 3
    assert first in [second, first] and second not in [first] and [first, second].index(second) == 1
    assert len({first, second, first}) == 2 and {first: 1}[first] == 1
    assert pickle.loads(pickle.dumps(first)).value == copy.copy(first).value == copy.deepcopy(first).value == "a"


# -- arguments by position ---------------------------------------------------------------------------------

TOO_MANY: dict[str, tuple[Callable[[], Any], str]] = {
    "variables": (lambda: M.instruct("{{x}}", {"x": 3}), "instruct takes one positional argument, description"),
    "variables by name": (lambda: M.instruct("{{x}}", {"x": 3}), "user_variables={…}"),
    "a type": (lambda: M.instruct("x", int), "format=int"),
    "a type, ask": (lambda: ASK("x", int), "format=int"),
    "requirements": (lambda: M.act("x", ["be short"]), "requirements=[…]"),
    "two texts": (lambda: M.instruct("You are kind.", "Hello"), "one text"),
    "a role": (lambda: M.chat("user", "Hello"), "role=…"),
    "stream": (lambda: M.stream("x", 3), "stream takes one positional argument, content"),
    "astream": (lambda: M.astream("x", int), "format=int"),
    "ask.stream": (lambda: ASK.stream("x", int), "ask.stream takes one positional argument, prompt"),
    "async": (lambda: asyncio.run(M.ainstruct("x", {"x": 3})), "user_variables={…}"),
    "nothing": (lambda: M.instruct(), "'description' is missing"),
    "no query": (lambda: M.query({"a": 1}), "query takes 2 positional arguments, obj, query; 'query' is missing"),
    "no context": (lambda: functional.instruct("x"), "'context' and 'backend' are missing"),  # type: ignore[call-overload]
    "a session": (lambda: functional.instruct("x", M), "m.instruct(…)"),  # type: ignore[call-overload]
    "twice": (lambda: M.instruct("x", description="y"), "'description' twice"),
    "no backend": (lambda: mellea.MelleaSession(), "'backend' is missing"),  # type: ignore[call-arg]
    "no text": (lambda: M.embed(), "embed takes one positional argument, texts"),
    "no requirement": (lambda: M.validate(), "'requirements' is missing"),
}


@pytest.mark.parametrize("case", TOO_MANY)
def test_arguments_by_position_are_told_by_the_verbs_own_name(case: str) -> None:
    call, says = TOO_MANY[case]
    said = error_of(call, UsageTypeError)
    assert says in said
    assert "ainstruct" not in said and "MelleaSession." not in said


def test_a_positional_argument_may_have_its_name() -> None:
    assert M.instruct(description="x").value == "yes"
    assert M.query(obj={"a": 1}, query="x").value == "yes"
    assert M.query({"a": 1}, query="x").value == "yes"


# -- readers -----------------------------------------------------------------------------------------------


async def _await(value: Any) -> Any:
    return await value


async def _enter(value: Any) -> None:
    async with value:
        pass


def _enter_plainly(value: Any) -> None:
    with value:
        pass


READERS: dict[str, tuple[Callable[[], Any], str]] = {
    "for": (lambda: list(M.astream("x")), "async for piece in m.astream(…)"),
    "join": (lambda: "".join(M.astream("x")), "async for piece in m.astream(…)"),
    "ask": (lambda: list(ASK.astream("x", format=list[int])), "async for piece in m.astream(…)"),
    "await": (lambda: asyncio.run(_await(M.astream("x"))), "await m.ainstruct(…)"),
    "with": (lambda: _enter_plainly(M.astream("x")), "async with"),
    "async with": (lambda: asyncio.run(_enter(M.stream("x"))), "m.astream(…)"),
}


@pytest.mark.parametrize("case", READERS)
def test_a_reader_of_the_wrong_colour_is_told_the_right_one(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mellea.stdlib.session.start._default", M)  # the embedded model isn't everywhere
    call, says = READERS[case]
    assert says in error_of(call, UsageTypeError)


def test_streams_are_what_web_frameworks_take_them_for() -> None:
    plain, other = M.stream("x"), M.astream("x")
    assert isinstance(plain, Iterable) and not isinstance(plain, (AsyncIterable, Awaitable, Iterator))
    assert isinstance(other, AsyncIterable) and not isinstance(other, (Iterable, AsyncIterator))
    assert not hasattr(plain, "__aiter__") and not hasattr(other, "__iter__")


# -- attributes --------------------------------------------------------------------------------------------

ATTRIBUTES: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        f"thunk.{name}": (lambda: M.instruct("x"), says)
        for name, says in {
            "text": ".value",
            "choices": ".value",
            "output_text": ".value",
            "output": ".parsed",
            "data": ".parsed",
            "model_dump": ".parsed",
            "stop_reason": ".finish_reason",
            "usage_metadata": ".usage",
            "reasoning_content": ".thinking",
            "id": ".response_id",
            "all_messages": "m.ctx.turns()",
            "text_stream": "iterate",
        }.items()
    },
    **{
        f"stream.{name}": (lambda: M.stream("x"), says)
        for name, says in {
            "value": ".output",
            "content": ".text",
            "choices": "iterate",
            "text_stream": "iterate",
            "get_final_message": ".result",
            "finish_reason": ".result",
            "partial_stream": ".partials()",
        }.items()
    },
    "astream.value": (lambda: M.astream("x"), ".output"),
    "session.generate": (lambda: M, "m.instruct(…)"),
    "session.invoke": (lambda: M, "m.instruct(…)"),
    "session.run_sync": (lambda: M, "m.instruct(…)"),
    "session.messages": (lambda: M, "m.chat(…)"),
    "session.with_structured_output": (lambda: M, "format=…"),
    "session.bind_tools": (lambda: M, "tools=[…]"),
    "session.history": (lambda: M, "m.ctx"),
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_an_attribute_of_other_libraries_is_told_by_our_name(case: str) -> None:
    make, says = ATTRIBUTES[case]
    value, name = make(), case.partition(".")[2]
    assert says in error_of(lambda: getattr(value, name), UsageAttributeError)
    assert not hasattr(value, name) and getattr(value, name, None) is None


def test_an_attribute_that_nobody_uses_is_pythons_own_error() -> None:
    for value in (M, M.stream("x"), M.instruct("x")):
        with pytest.raises(AttributeError, match="has no attribute 'colour'") as caught:
            _ = value.colour
        assert not isinstance(caught.value, UsageError)
        assert caught.value.name == "colour" and caught.value.obj is value


def test_an_attribute_error_in_a_property_stays_what_it_is() -> None:
    class Session(mellea.MelleaSession):
        @property
        def town(self) -> str:
            return (None).name  # type: ignore[attr-defined,no-any-return]

    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'name'"):
        _ = Session(BACKEND).town


# -- observers ---------------------------------------------------------------------------------------------


class Watcher(mellea.Observer):
    pass


class Half:
    def begin(self, span: Any) -> None:
        pass


@pytest.mark.parametrize("register", [mellea.observe, mellea.traces.add_observer])
@pytest.mark.parametrize(
    ("wrong", "says"), [(print, "'begin'"), (Watcher, "Watcher(…)"), (Half(), "'event'"), (3, "'begin'")]
)
def test_what_isnt_an_observer_is_refused_at_once(register: Callable[[Any], Any], wrong: Any, says: str) -> None:
    said = error_of(lambda: register(wrong))
    assert says in said and said.startswith(register.__name__)


# -- others ------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "thunk + text": (lambda: M.instruct("x") + "!", ".value is the text"),
    "text + thunk": (lambda: "!" + M.instruct("x"), ".value is the text"),
    "thunk[0]": (lambda: M.instruct("x")[0], ".value is the text"),
    "for in thunk": (lambda: list(M.instruct("x")), ".parsed the result"),
    "text in thunk": (lambda: "y" in M.instruct("x"), ".value is the text"),
    "thunk.upper": (lambda: M.instruct("x").upper(), ".value is the text"),
    "messages, instruct": (lambda: M.instruct([{"role": "user", "content": "x"}]), "m.chat(…)"),
    "a role of others": (lambda: M.chat([{"role": "human", "content": "x"}]), "did you mean 'user'?"),
    "a message without a role": (lambda: mellea.Message("Hello"), "its text is the second argument"),
    "one tool": (lambda: M.instruct("x", tools=print), "put it into one"),
    "req of a function": (lambda: req(lambda text: True), "validation_fn=…"),  # type: ignore[arg-type]
    "req of two": (lambda: req("x", lambda text: True), "validation_fn=…"),  # type: ignore[misc]
    "a strategy's number": (lambda: RejectionSamplingStrategy(3), "loop_budget"),  # type: ignore[misc]
    "retries": (lambda: RejectionSamplingStrategy(max_retries=3), "loop_budget=…"),  # type: ignore[call-arg]
    "a window": (lambda: mellea.ChatContext(5), "window_size"),  # type: ignore[misc]
    "max_tokens": (lambda: mellea.ChatContext(max_tokens=5), "token_budget=…"),  # type: ignore[call-arg]
    "a description that is missing": (lambda: M.instruct(), "'description' is missing"),  # type: ignore[call-overload]
    "no such scope": (lambda: list(M.stream("x", release="token")), "release takes 'word'"),  # type: ignore[arg-type]
    "a message without content": (lambda: M.chat([{"role": "user"}]), "'role' and 'content'"),
    "a path as an image": (lambda: mellea.ImageBlock("a.png"), "ImageBlock.from_path(…) reads a file"),
    "a number as an address": (lambda: mellea.ImageBlock(url=5), "takes a string as url, not 5"),  # type: ignore[arg-type]
    "headers": (lambda: mellea.serve.text(M.astream("x"), headers=5), "headers takes a dict"),  # type: ignore[arg-type]
    "vectors of a session": (lambda: mellea.mfuncs.embed("x", M), "backend takes a Backend"),  # type: ignore[arg-type]
    "images of a name": (lambda: mellea.mfuncs.generate_image("x", "openai/x"), "get_backend(…)"),  # type: ignore[arg-type]
    "a map over streams": (lambda: mellea.map(M.astream, ["x"]), "give m.instruct, the agent, or the function itself"),
    "an agent's streams": (lambda: mellea.map(mellea.Agent(M).stream, ["x"]), ".stream returns a stream"),
    "a file as CSV": (lambda: components.Table.from_csv(5), "from_csv takes the text of a table"),  # type: ignore[arg-type]
    "no report": (lambda: evaluation.prefer(5, "kinder"), "prefer takes a report"),  # type: ignore[arg-type]
    "no journal": (lambda: batch.cancel_batches(5), "takes the path of a journal"),  # type: ignore[arg-type]
    "a flag": (lambda: Requirement("x", check_only="yes"), "check_only is True or False"),  # type: ignore[arg-type]
    "a value to mify": (lambda: mellea.mify(5), "the object 5 can't be marked"),
    "three names": (lambda: mellea.start_session("a", "b", "c"), "start_session takes 2"),  # type: ignore[misc]
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_mistake_of_a_newcomer_is_told_with_its_cure(case: str) -> None:
    call, says = OTHERS[case]
    assert says in error_of(call)


# -- names of the module, of contexts, and of what programs construct -------------------------------------------


MELLEA: Any = mellea
CTX: Any = mellea.ChatContext()
LIMITS: Any = tools.Limits
USAGE: Any = Usage(input_tokens=1)
CALL: Any = ToolCall("1", "weather", {})
MESSAGE: Any = mellea.Message("user", "x")
REQUIREMENT: Any = Requirement
COMPONENTS: Any = components
SAMPLING: Any = sampling
TOOLS: Any = tools

WRITTEN: dict[str, tuple[Callable[[], Any], str]] = {
    "mellea.instruct": (lambda: MELLEA.instruct("x"), "it belongs to a session: m = mellea.start_session(…), then m.i"),
    "mellea.generate": (lambda: MELLEA.generate("x"), "starts a session, and m.instruct(…)"),
    "messages of a context": (lambda: CTX.messages, ".turns() are the turns"),
    "text of a context": (lambda: mellea.start_session(BACKEND).ctx.text, "str(context)"),  # type: ignore[attr-defined]
    "append": (lambda: CTX.append("x"), ".add(value) returns a context"),
    "clear": (lambda: M.clear(), "m.reset() starts a new conversation"),
    "undo": (lambda: M.undo(), "assign it to m.ctx"),
    "Limits": (lambda: LIMITS(max_steps=3), "steps=… limits"),
    "Budget": (lambda: MELLEA.Budget(dollars=3), "cost=… is in US dollars"),
    "Budget, a slip": (lambda: MELLEA.Budget(cots=3), "did you mean 'cost'?"),
    "mify": (lambda: MELLEA.mify(exclude={"card"}), "fields_exclude={…} hides fields"),
    "tool": (lambda: MELLEA.tool(needs_approval=True), "requires_approval=…"),
    "context with a backend": (lambda: mellea.start_session(BACKEND, context=CTX), "'ctx' here"),
    "context without a backend": (lambda: mellea.start_session(memory=CTX), "'ctx' here"),
    "provider": (lambda: MELLEA.start_session(provider="openai"), "start_session('provider/model')"),
    "model_name": (lambda: MELLEA.start_session(model_name="x"), "start_session('provider/model')"),
    "deltas": (lambda: M.instruct("x").deltas, "iterate over the thunk itself"),  # type: ignore[attr-defined]
    "usage of a session": (lambda: M.usage, "m.instruct(…).usage"),
    "prompt_tokens": (lambda: USAGE.prompt_tokens, ".input_tokens are the tokens of the prompt"),
    "arguments of a call": (lambda: CALL.arguments, ".tool_args are the arguments"),
    "parts of a message": (lambda: MESSAGE.parts, ".text is the text"),
    "chunking": (lambda: REQUIREMENT("x", chunking="word"), "scope=… is the unit"),
    "OpenAI's client": (lambda: M.chat.completions.create(messages=[]), "m.chat(…) sends a message, or a list"),
    "callbacks": (lambda: M.instruct("x", callbacks=[]), "mellea.observe(…)"),
    "a schema as a tool": (lambda: M.instruct("x", tools=[{"type": "function"}]), "pass the function itself"),
    "workers": (lambda: MELLEA.map(len, ["a"], workers=3), "it is 'concurrency' here"),
    "page_content": (lambda: COMPONENTS.Document(page_content="x"), "it is 'text' here"),
    "metadata": (lambda: COMPONENTS.Document("x", metadata={}), "a Document has text, title and id"),
    "max_iterations": (lambda: TOOLS.ToolLoop(max_iterations=3), "it is 'max_steps' here"),
    "samples": (lambda: SAMPLING.BestOfNStrategy(num_samples=3), "n=… is the number of attempts"),
    "votes": (lambda: SAMPLING.MajorityVotingStrategy(number_of_samples=3), "n=… is the number of attempts"),
    "an output to validate": (lambda: M.validate(["x"], output="y"), "it checks the last output of the context"),
    "a status": (lambda: MELLEA.serve.text(M.astream("x"), status=201), "a stream begins with status 200"),
    "a content type": (lambda: MELLEA.serve.sse(M.astream("x"), media_type="x"), "headers={'content-type': …}"),
    "a server's key": (lambda: MELLEA.serve.app(M, api_key="x"), "it is 'key' here"),
    "a server's port": (lambda: MELLEA.serve.app(M, port=80), "uvicorn.run(mellea.serve.app(…), host=…, port=…)"),
    "an endpoint": (lambda: MELLEA.telemetry.enable(endpoint="x"), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "requests a minute": (lambda: MELLEA.RateLimits(rpm=5), "requests=… is the number of requests a minute"),
    "headers of a table": (lambda: COMPONENTS.Table([["x"]], headers=["a"]), "it is 'columns' here"),
    "several runs": (lambda: MELLEA.evaluate(len, ["a"], n=3), "it is 'repeat' here"),
    "a proxy": (lambda: MELLEA.start_session("openai/x", proxy="http://x"), "proxies are read from HTTPS_PROXY"),
    "an organization": (
        lambda: MELLEA.start_session("openai/x", organization="x"),
        "one of the provider's headers: headers=",
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_written_in_other_libraries_is_told_by_our_name(case: str) -> None:
    call, says = WRITTEN[case]
    with pytest.raises((AttributeError, UsageError)) as caught:
        call()
    assert says in str(caught.value)


def test_a_context_without_a_name_is_still_a_value() -> None:
    context = mellea.ChatContext()
    assert not hasattr(context, "messages")
    assert copy.deepcopy(context) is context
    assert pickle.loads(pickle.dumps(context)).turns() == []
    mellea.start_session(BACKEND, ctx=context).chat("Hi")
    assert repr(context.add("Hi")) == "<ChatContext, 1 turn>"


def test_a_checked_class_keeps_its_signature_and_can_be_replaced_and_pickled() -> None:
    limits = tools.Limits(3, tokens=5)
    assert pickle.loads(pickle.dumps(limits)) == limits
    assert dataclasses.replace(limits, steps=4).steps == 4
    assert list(inspect.signature(tools.Limits).parameters)[:2] == ["steps", "tokens"]


def test_a_tool_may_use_names_that_are_local_to_its_definition() -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    @mellea.tool
    def where(point: Point) -> int:
        """Say where it is."""
        return point.x

    @mellea.tool(name="there")
    def again(point: Point) -> int:
        """Say where it is."""
        return point.x

    assert "point" in str(where.spec.parameters)
    assert "point" in str(again.spec.parameters)


def test_a_verb_of_a_session_is_not_advised_to_be_one() -> None:
    for call in (lambda: M.instruct(), lambda: M.query("x"), lambda: mellea.Agent(M).run()):
        assert "the verb of a session" not in error_of(call)
    assert "the verb of a session is its own" in error_of(lambda: functional.instruct("x", M))  # type: ignore[call-overload]
