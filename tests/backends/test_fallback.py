"""A chain of models."""

import anyio
import pytest

import mellea
from mellea.backends import Capabilities, FallbackBackend
from mellea.core import Deadlines
from mellea.core.events import ReasoningDelta
from mellea.errors import BackendError, ConnectError, RateLimitError, UnsupportedError
from mellea.testing import Pause, ScriptedBackend

pytestmark = pytest.mark.anyio


def session(*backends: ScriptedBackend) -> mellea.MelleaSession:
    return mellea.start_session(FallbackBackend(backends))


async def test_the_next_one_answers_where_the_first_cant() -> None:
    first, second = ScriptedBackend([RateLimitError("slow down")]), ScriptedBackend("second")
    assert (await session(first, second).ainstruct("x")).value == "second"
    first.assert_closed()
    second.assert_closed()


async def test_the_first_one_answers_alone() -> None:
    first, second = ScriptedBackend("first"), ScriptedBackend("second")
    assert (await session(first, second).ainstruct("x")).value == "first"
    assert second.requests == []


@pytest.mark.parametrize("begun", ["text", ReasoningDelta("hm")])
async def test_an_answer_that_has_begun_is_not_taken_back(begun: object) -> None:
    first, second = ScriptedBackend([begun, ConnectError("gone")]), ScriptedBackend("second")  # type: ignore[list-item]
    with pytest.raises(ConnectError):
        await session(first, second).ainstruct("x")
    assert second.requests == []
    first.assert_closed()


async def test_all_failures_are_told() -> None:
    chain = session(ScriptedBackend([ConnectError("one is down")]), ScriptedBackend([ConnectError("two is down")]))
    with pytest.raises(BackendError, match="two is down") as caught:
        await chain.ainstruct("x")
    assert "one is down" in "".join(caught.value.__notes__)


async def test_a_silent_model_is_passed_over() -> None:
    first, second = ScriptedBackend([Pause(float("inf"))]), ScriptedBackend("second")
    options = {"timeout": Deadlines(first_byte=0.4)}
    assert (await session(first, second).ainstruct("x", model_options=options)).value == "second"
    first.assert_closed()


async def test_cancelling_closes_the_one_that_answers() -> None:
    backend = ScriptedBackend([ConnectError("down")]), ScriptedBackend(["a", Pause(60)])
    with anyio.move_on_after(0.1):
        await session(*backend).ainstruct("x")
    for each in backend:
        each.assert_closed()


async def test_the_chain_can_do_what_all_can() -> None:
    able, unable = ScriptedBackend("x"), ScriptedBackend("x", capabilities=Capabilities())
    with pytest.raises(UnsupportedError, match="structured output"):
        await session(able, unable).ainstruct("x", format=int)
    assert able.requests == []


async def test_the_models_own_defaults_stay() -> None:
    first = ScriptedBackend("x", model_options={"seed": 1, "temperature": 0})
    await session(first, ScriptedBackend("y")).ainstruct("x", model_options={"seed": 2})
    assert first.requests[0].options == {"seed": 2, "temperature": 0}
