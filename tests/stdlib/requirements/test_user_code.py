"""A mistake in the user's own code is not a verdict: it comes out and names the requirement. A `ValueError` is a no."""

from __future__ import annotations

import asyncio
import json
import re
import traceback
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import Requirement, ToolCall
from mellea.core.events import ToolEnd
from mellea.errors import MelleaError, OutputError, ParseError, RequirementError, UsageError
from mellea.stdlib.requirements import check, req, simple_validate, tool_arg_validator, valid_json
from mellea.stdlib.sampling import BestOfNStrategy, MajorityVotingStrategy, RepairTemplateStrategy
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


@mellea.generative
async def double(number: int) -> str:
    """Double the number."""


def session(*replies: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*(replies or ("A fine answer.",))))


def requests(m: mellea.MelleaSession) -> int:
    return len(m.backend.requests)  # type: ignore[attr-defined]


def says(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


MISTAKES: dict[str, Any] = {
    "NameError": lambda text: txt in text,  # type: ignore[name-defined]  # noqa: F821
    "AttributeError": lambda text: str(text).lowr(),  # type: ignore[attr-defined]
    "TypeError": lambda text: str(text) + 1,  # type: ignore[operator]
    "KeyError": lambda text: {}["a"],
    "ZeroDivisionError": lambda text: 1 / 0 > 1,
}


class Own(Requirement):
    def validate(self, context: Any) -> Any:
        return MISTAKES[str(self.description)](str(context))


@pytest.mark.parametrize("kind", MISTAKES)
async def test_a_mistake_in_a_check_comes_out_at_once_and_names_the_requirement(kind: str) -> None:
    function = MISTAKES[kind]

    async def later(text: Any) -> Any:
        return function(text)

    for requirement in (
        req(kind, validation_fn=simple_validate(function)),
        req(kind, validation_fn=simple_validate(later)),
        req(kind, validation_fn=lambda context: function(str(context))),
        check(kind, validation_fn=later),
        Requirement(kind, stream_validation_fn=function),
        Requirement(kind, stream_validation_fn=later, scope="word"),
        Own(kind),
    ):
        m = session()
        with pytest.raises(OutputError, match=kind) as caught:
            await m.ainstruct("x", requirements=[requirement], strategy=RepairTemplateStrategy(loop_budget=3))
        assert f"the requirement {kind!r}" in str(caught.value)
        assert str(caught.value).count(kind) == 2  # once as the error, once as the requirement's name
        assert requests(m) == 1
        m = session()
        kept = await m.ainstruct("x")
        with pytest.raises(Exception, match=r".") as plain:
            await m.avalidate([requirement])
        assert type(plain.value).__name__ == kind
        assert f"the requirement {kind!r}" in says(plain.value)
        del kept


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_nobody_asked_for_is_a_mistake_too() -> None:
    async def later(_: Any) -> bool:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
        return True

    def raises(_: Any) -> bool:
        raise asyncio.CancelledError

    for function in (later, raises):
        for requirement in (
            Requirement("calm", function),
            Requirement("calm", simple_validate(function)),
            Requirement("calm", stream_validation_fn=function, scope="word"),
        ):
            m = session()
            with pytest.raises(OutputError, match=r"CancelledError was raised.*the requirement 'calm'"):
                await m.ainstruct("x", requirements=[requirement], strategy=RepairTemplateStrategy(loop_budget=3))
            stream = m.astream("x", requirements=[requirement], strategy=RepairTemplateStrategy(loop_budget=3))
            with pytest.raises(OutputError, match=r"CancelledError was raised"):
                _ = [chunk async for chunk in stream]


async def test_a_check_that_is_cancelled_ends_its_call_and_nothing_else() -> None:
    begun = anyio.Event()

    async def endless(_: Any) -> bool:
        begun.set()
        await anyio.sleep_forever()
        return True

    m = session()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: m.ainstruct("x", requirements=[Requirement("calm", endless)]))
        await begun.wait()
        group.cancel_scope.cancel()
    assert (await m.ainstruct("y")).value == "A fine answer."


@pytest.mark.parametrize("error", [ValueError("too long"), AssertionError("too long"), UnicodeError("too long")])
async def test_a_value_error_and_a_failed_assertion_are_a_no(error: Exception) -> None:
    def raises(_: Any) -> bool:
        raise error

    async def later(_: Any) -> bool:
        raise error

    for function in (raises, later):
        for requirement in (
            Requirement("short", function),
            Requirement("short", simple_validate(function)),
            Requirement("short", stream_validation_fn=function),
        ):
            m = session()
            thunk = await m.ainstruct("x", requirements=[requirement])
            assert (thunk.success, requests(m)) == (False, 2)
            assert [result.reason for _, result in thunk.sampling.attempts[0].failures] == ["too long"]


async def test_conditions_of_functions_are_checks_like_any_other() -> None:
    typo = req("even", validation_fn=MISTAKES["NameError"])
    m = session("4")
    with pytest.raises(NameError) as caught:
        await double(m, 2, preconditions=[typo])
    assert "the requirement 'even'" in says(caught.value)
    assert requests(m) == 0
    with pytest.raises(UsageError, match="the requirement 'even'"):
        [text async for text in double.astream(m, 2, preconditions=[typo])]
    with pytest.raises(OutputError, match="the requirement 'even'"):
        await double(m, 2, requirements=[typo])
    with pytest.raises(RequirementError, match="invalid literal"):
        await double(m, 2, preconditions=[req("even", validation_fn=lambda _: int("x") > 0)])
    assert await double(m, 2, preconditions=[req("two", validation_fn=lambda c: str(c) == "number: 2")]) == "4"


async def test_the_functions_of_strategies_and_components_are_named_too() -> None:
    typo = MISTAKES["NameError"]
    with pytest.raises(OutputError, match=r"the scorer of BestOfNStrategy\(2\) looked at attempt 1"):
        await session().ainstruct("x", strategy=BestOfNStrategy(2, scorer=typo))
    with pytest.raises(UsageError, match=r"no attribute 'lower'; \.value is the text") as caught:
        await session().ainstruct("x", strategy=MajorityVotingStrategy(2, key=lambda output: output.lower()))
    assert "the key of MajorityVotingStrategy(2)" in caught.value.__notes__[0]

    class Strategy:
        requirements = ()

        async def sample(self, sampler: Any) -> Any:
            await sampler.draw()
            return typo("")

    with pytest.raises(OutputError, match=r"NameError.*raised by sample\(\) of <.*Strategy"):
        await session().ainstruct("x", strategy=Strategy())  # type: ignore[arg-type]

    class Riddle:
        def parts(self) -> list[Any]:
            return []

        def format_for_llm(self) -> str:
            return "Guess."

        def parse(self, generation: Any) -> Any:
            return typo(generation.text)

    m = session()
    with pytest.raises(OutputError, match=r"parse\(\) of Riddle failed: NameError"):
        await m.aact(Riddle(), requirements=[check("x", validation_fn=lambda _: True)])
    assert requests(m) == 1


async def test_a_judge_that_fails_names_what_it_judged() -> None:
    with pytest.raises(MelleaError, match="gone") as caught:
        await session("answer", [ConnectionError("gone")]).ainstruct("x", requirements=["Be kind."])
    assert "judged the requirement 'Be kind.'" in says(caught.value)


async def test_arguments_of_tools_are_checked_in_the_same_way() -> None:
    call = [ToolEnd(ToolCall("1", "add", {"a": "two"}))]
    m = session(call)
    thunk = await m.ainstruct("x", requirements=[tool_arg_validator("a number", "add", "a", lambda a: int(a) > 0)])
    assert "invalid literal" in str(thunk.sampling.attempts[0].failures[0][1].reason)
    with pytest.raises(OutputError, match="the requirement 'a number'"):
        await session(call).ainstruct(
            "x", requirements=[tool_arg_validator("a number", "add", "a", MISTAKES["NameError"])]
        )


async def test_a_validator_inside_a_type_may_say_no_but_make_no_mistake() -> None:
    from pydantic import BaseModel, field_validator

    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def is_even(cls, n: int) -> int:
            if n > 9:
                return int(big)  # type: ignore[name-defined]  # noqa: F821
            assert n % 2 == 0, "it is odd"
            return n

    thunk = await session('{"n": 1}').ainstruct("x", requirements=[valid_json(Even)])
    assert "it is odd" in str(thunk.sampling.attempts[0].failures[0][1].reason)
    with pytest.raises(OutputError, match="NameError"):
        await session('{"n": 11}').ainstruct("x", requirements=[valid_json(Even)])


# -- contexts and texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ctx", [None, mellea.ChatContext()])
async def test_the_text_of_a_context_is_that_of_its_last_output(ctx: Any) -> None:
    m = mellea.start_session(ScriptedBackend("An answer.", "Another."), ctx=ctx)
    assert str(m.ctx) == ""
    kept = await m.ainstruct("x")
    assert str(m.ctx) == f"{m.ctx}" == "An answer."
    assert (await m.ainstruct("x", requirements=[req("r", validation_fn=lambda c: str(c) == "Another.")])).success
    del kept


async def test_the_text_of_a_context_that_is_still_being_written_cant_be_taken() -> None:
    m = mellea.start_session(ScriptedBackend("An answer."), ctx=mellea.ChatContext())
    thunk = await m.ainstruct("x", await_result=False)
    with pytest.raises(UsageError, match="await"):
        str(m.ctx)
    await thunk


@pytest.mark.parametrize(
    "function",
    [
        lambda text: "x" not in text,
        lambda text: len(text) < 9,
        lambda text: text.lower() == "yes",
        lambda text: text == "yes",
        lambda text: text in ("yes", "no"),
        lambda text: re.search("x", text) is None,
        lambda text: bool(json.loads(text)),
        lambda text: text[0] == "y",
        lambda text: text + "x" == "yx",
        lambda text: all(letter for letter in text),
        lambda text: text,
        str.isdigit,
    ],
)
async def test_a_function_of_the_text_where_the_context_is_given_is_told_of_simple_validate(function: Any) -> None:
    for ctx in (None, mellea.ChatContext()):
        m = mellea.start_session(ScriptedBackend("yes"), ctx=ctx)
        with pytest.raises(MelleaError, match="simple_validate"):
            await m.ainstruct("x", requirements=[Requirement("r", function)])


async def test_a_function_of_the_context_where_the_text_is_given_is_told_so_too() -> None:
    def of_context(context: Any) -> bool:
        return bool(context.last_output().value)

    with pytest.raises(OutputError, match="simple_validate gives a function the text"):
        await session().ainstruct("x", requirements=[Requirement("r", simple_validate(of_context))])
    with pytest.raises(OutputError, match="is given a chunk of the output, which is a string"):
        await session().ainstruct("x", requirements=[Requirement("r", stream_validation_fn=of_context)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: Requirement("r", f), "validation_fn takes a function of one argument, the context"),
        (lambda f: Requirement("r", stream_validation_fn=f), "takes a function of one argument, a chunk"),
        (lambda f: simple_validate(f), "simple_validate takes a function of one argument, the text"),
        (lambda f: tool_arg_validator("r", "t", "a", f), "takes a function of one argument, the argument"),
        (lambda f: BestOfNStrategy(scorer=f), "scorer takes a function of one argument, the output"),
        (lambda f: MajorityVotingStrategy(key=f), "key takes a function of one argument, the output"),
    ],
)
async def test_a_function_of_other_arguments_is_refused_where_it_is_given(make: Any, message: str) -> None:
    for function in (lambda: True, lambda a, b: True, lambda *, a: True):
        with pytest.raises(UsageError, match=message):
            make(function)
    with pytest.raises(UsageError, match="not 'yes'"):
        make("yes")
    make(lambda a, b=1: True)
    make(lambda *args: True)


async def test_an_outcome_that_is_neither_yes_nor_no_is_told_what_to_do() -> None:
    match = simple_validate(lambda text: re.search("x", text) or 5)
    with pytest.raises(UsageError, match=r"'r' returns .* not 5; bool\(…\) converts"):
        await session().ainstruct("x", requirements=[Requirement("r", match)])


@pytest.mark.parametrize("mistake", ["NameError", "AttributeError", "TypeError"])
async def test_a_mistake_in_a_validator_of_a_format_comes_out_and_is_not_asked_for_again(mistake: str) -> None:
    from pydantic import BaseModel, field_validator

    raised = {"NameError": NameError, "AttributeError": AttributeError, "TypeError": TypeError}[mistake]

    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def is_even(cls, n: int) -> int:
            raise raised("a slip")

    m = session('{"n": 1}')
    with pytest.raises(OutputError, match=f"a validator of the format 'Even' failed: {mistake}: a slip") as caught:
        await m.ainstruct("x", format=Even)
    assert not isinstance(caught.value, ParseError)
    assert isinstance(caught.value.__cause__, raised)
    assert requests(m) == 1
    thunk = await session('[{"n": 1}, {"n": 2}]').ainstruct("x", format=list[Even], await_result=False, strategy=None)
    with pytest.raises(OutputError, match="a slip"):
        async for _ in thunk.items(on_error="skip"):
            pass


class AtMost(Requirement):
    """A subclass with an attribute of its own, set before and after the fields are."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"at most {most} characters")
        self.asked = 0

    def validate(self, context: Any) -> Any:
        self.asked += 1
        return len(str(context)) <= self.most


async def test_a_subclass_may_have_attributes_of_its_own() -> None:
    requirement = AtMost(3)
    m = mellea.start_session(ScriptedBackend("long", "ok"))
    thunk = await m.ainstruct("x", requirements=[requirement])
    assert (thunk.value, requirement.most, requirement.asked) == ("ok", 3, 2)
