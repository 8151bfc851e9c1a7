"""One model call: what is checked before, what is sent, and what goes into the context."""

import anyio
import pytest

import mellea
from mellea.core import Capabilities, CBlock, Deadlines, ImageBlock, Message
from mellea.errors import BackendError, StreamingError, UnsupportedError, UsageError
from mellea.stdlib.context import ChatContext
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import until

pytestmark = pytest.mark.anyio


def echo(request: object) -> str:
    return f"<{request.messages[-1].content}>"  # type: ignore[attr-defined]


async def test_promise_11_a_thunk_is_an_ingredient_before_it_is_computed() -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, "red"], echo)
    m = mellea.start_session(backend)
    colour = await m.ainstruct("Name a colour.", await_result=False)
    sentence = await m.ainstruct("Say {{colour}}.", user_variables={"colour": colour}, await_result=False)
    await anyio.sleep(0.01)
    assert len(backend.requests) == 1, "the dependent call waits"
    gate.open()
    assert await sentence.avalue() == "<Say red.>"
    assert colour.is_computed()


async def test_promise_11_ingredients_are_found_everywhere_and_awaited_once() -> None:
    backend = ScriptedBackend("one", echo)
    m = mellea.start_session(backend)
    one = await m.ainstruct("x", await_result=False)
    answer = await m.ainstruct(
        "Use {{a}} and {{b}}.",
        user_variables={"a": one, "b": [one, {"deep": one}]},
        grounding_context={"c": one},
        input={"d": (one,)},
        icl_examples=[one],
    )
    assert len(backend.requests) == 2
    assert answer.value is not None
    assert answer.value.count("one") == 6


async def test_promise_11_a_dependent_call_fails_with_its_ingredients_error() -> None:
    backend = ScriptedBackend([ValueError("boom")], echo)
    m = mellea.start_session(backend)
    bad = await m.ainstruct("x", await_result=False)
    dependent = await m.ainstruct("{{x}}", user_variables={"x": bad}, await_result=False)
    with pytest.raises(mellea.errors.BackendError, match="boom"):
        await dependent
    assert len(backend.requests) == 1


async def test_promise_11_the_first_ingredient_that_fails_is_enough_whatever_the_others_do() -> None:
    backend = ScriptedBackend(
        lambda request: [Gate()] if request.messages[-1].content == "slow" else [ValueError("boom")]
    )
    m = mellea.start_session(backend)
    slow = await m.ainstruct("slow", await_result=False)
    broken = await m.ainstruct("broken", await_result=False)
    with anyio.fail_after(30):
        with pytest.raises(BackendError, match="boom"):
            await m.ainstruct("both", grounding_context={"a": slow, "b": broken})
        with pytest.raises(BackendError, match="boom"):
            await mellea.resolve([slow, broken])
        await slow.cancel()


async def test_promise_1_independent_thunks_run_at_the_same_time() -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, "x"])
    m = mellea.start_session(backend)
    thunks = [await m.ainstruct("x", await_result=False) for _ in range(5)]
    await until(lambda: len(backend.requests) == 5)
    gate.open()
    assert [await thunk.avalue() for thunk in reversed(thunks)] == ["x"] * 5


async def test_a_users_value_is_never_a_template() -> None:
    m = mellea.start_session(ScriptedBackend(echo))
    value = "{{ secret }} {% raw %}"
    told = await m.ainstruct("Say {{x}}", user_variables={"x": value})
    assert told.value == f"<Say {value}>"
    assert (await m.ainstruct(f"Say {value}")).value == f"<Say {value}>"
    assert (await m.achat(value)).value == f"<{value}>"
    grounded = await m.ainstruct("x", grounding_context={"k": value}, input=value, icl_examples=[value], prefix=value)
    assert grounded.value is not None
    assert grounded.value.count(value) == 4


async def test_a_missing_variable_is_the_verbs_own_error() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(UsageError, match="'name' is undefined"):
        await m.ainstruct("Hello {{name}}", user_variables={"nam": "Ann"}, await_result=False)


async def test_a_template_in_a_description_can_reach_nothing() -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(UsageError, match="can't be filled"):
        await m.ainstruct("{{ x.__class__.__mro__[1].__subclasses__() }}", user_variables={"x": 1})


async def test_options_are_merged_call_before_session_before_backend() -> None:
    backend = ScriptedBackend("x", model_options={"seed": 1, "temperature": 0.5, "top_p": 0.5})
    m = mellea.start_session(backend, model_options={"seed": 2, "temperature": 0})
    await m.ainstruct("x", model_options={"seed": 3, "system_prompt": "Be brief.", "timeout": Deadlines(total=9)})
    request = backend.requests[0]
    assert request.options == {"seed": 3, "temperature": 0, "top_p": 0.5}
    assert request.deadlines.total == 9
    assert request.messages[0] == Message("system", "Be brief.")


async def test_nothing_is_sent_that_the_backend_cant_do() -> None:
    backend = ScriptedBackend("x", capabilities=Capabilities(options=frozenset({"seed"})))
    m = mellea.start_session(backend)
    for arguments, feature in [
        ({"model_options": {"temperature": 1}}, "'temperature'"),
        ({"format": int}, "structured output"),
        ({"images": [ImageBlock(data=b"x")]}, "images"),
        ({"output_prefix": "So"}, "output_prefix"),
    ]:
        with pytest.raises(UnsupportedError, match=feature):
            await m.ainstruct("x", **arguments)
    with pytest.raises(UnsupportedError, match="images"):
        await m.achat(["look", ImageBlock(url="http://127.0.0.1/x.png")])
    assert backend.requests == []


async def test_a_tool_that_must_be_called_is_one_of_the_tools() -> None:
    def weather(city: str) -> str:
        return city

    backend = ScriptedBackend("x")
    m = mellea.start_session(backend)
    with pytest.raises(UsageError, match=r"tool_choice='wether' is not one of.*did you mean 'weather'"):
        await m.ainstruct("x", tools=[weather], model_options={"tool_choice": "wether"})
    with pytest.raises(UsageError, match=r"the tools are 'weather'"):
        await m.ainstruct("x", tools=[weather], model_options={"tool_choice": "zzz"})
    for choice in ("weather", "auto", "none", "required"):
        await m.ainstruct("x", tools=[weather], model_options={"tool_choice": choice})
    assert len(backend.requests) == 4


async def test_the_output_prefix_begins_the_answer() -> None:
    backend = ScriptedBackend(" upon a time")
    story = await mellea.start_session(backend).ainstruct("Tell.", output_prefix="Once")
    assert story.value == "Once upon a time"
    assert backend.requests[0].messages[-1] == Message("assistant", "Once")


async def test_a_chat_turn_follows_one_that_is_still_written() -> None:
    gate = Gate()
    backend = ScriptedBackend(["first ", gate, "half"], "second")
    m = mellea.start_session(backend, ctx=ChatContext())
    one = await m.achat("one", await_result=False)
    two = await m.achat("two", await_result=False)
    await anyio.sleep(0.01)
    gate.open()
    assert (await two).content == "second"
    assert [message.content for message in backend.requests[1].messages] == ["one", "first half", "two"]
    assert (await one).parsed == Message("assistant", "first half")


async def test_promise_8_a_failed_chat_turn_is_left_out_of_later_ones() -> None:
    backend = ScriptedBackend(["par", RuntimeError("boom")], "fine", ["sl", Pause(60)], "good")
    m = mellea.start_session(backend, ctx=ChatContext())
    with pytest.raises(mellea.MelleaError):
        await m.achat("bad")
    await m.achat("two")
    slow = await m.achat("three", await_result=False)
    waiting = await m.achat("waits", await_result=False)
    while slow.partial != "sl":
        await anyio.sleep(0.001)
    await slow.cancel()
    with pytest.raises(mellea.errors.GenerationCancelledError):
        await waiting
    await m.achat("four")
    assert [message.content for message in backend.requests[-1].messages] == ["two", "fine", "four"]


async def test_a_list_of_messages_is_the_whole_request() -> None:
    backend = ScriptedBackend("ok")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.achat("before")
    context = m.ctx
    messages = [mellea.system_message("Be brief."), {"role": "user", "content": "Hi {{x}}"}]
    await m.achat(messages)
    assert m.ctx is context
    assert backend.requests[-1].messages == (Message("system", "Be brief."), Message("user", "Hi {{x}}"))
    assert isinstance(messages[1], dict), "what the caller passed is as it was"


async def test_thunks_in_messages_are_awaited() -> None:
    backend = ScriptedBackend("word", echo)
    m = mellea.start_session(backend)
    word = await m.ainstruct("x", await_result=False)
    assert (await m.achat(["say ", word])).content == "<say word>"
    other = await m.ainstruct("x", await_result=False)
    assert (await m.achat([Message("user", [CBlock("say "), other])])).content == "<say <x>>"


async def test_a_sync_verb_that_waits_for_its_own_loop_is_refused() -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend([gate, "x"]))
    first = await m.ainstruct("x", await_result=False)
    second = await m.ainstruct("{{x}}", user_variables={"x": first}, await_result=False)
    for ingredient in (first, second):
        with pytest.raises(StreamingError, match="a… verb"):
            m.instruct("{{x}}", user_variables={"x": ingredient})
        with pytest.raises(StreamingError, match="a… verb"):
            list(m.stream("{{x}}", user_variables={"x": ingredient}))
    gate.open()
    await second
    assert m.instruct("{{x}}", user_variables={"x": second}).value == "x"


async def test_concurrent_chat_turns_are_all_kept() -> None:
    backend = ScriptedBackend(echo)
    m = mellea.start_session(backend, ctx=ChatContext())
    async with anyio.create_task_group() as group:
        for word in ("a", "b", "c"):
            group.start_soon(m.achat, word)
    assert len(m.ctx.turns()) == 3
    assert {message.content for message in backend.requests[-1].messages} >= {"a", "b", "c"}
