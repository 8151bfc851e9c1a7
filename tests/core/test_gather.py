"""Lazy values in bulk, and as ingredients: resolved together, each once, in order."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import mellea
from mellea.errors import BackendError, RateLimitError, UsageError
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio

Pair = namedtuple("Pair", "left right")


@dataclass
class Letter:
    to: Any
    lines: list[Any]


def session(*replies: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies)
    return mellea.start_session(backend), backend


def by_prompt(**replies: str) -> Any:
    """Answer by what was said: trio begins tasks in any order."""
    return lambda request: replies.get(request.messages[-1].content, "done")


async def later(m: mellea.MelleaSession, text: str, **arguments: Any) -> mellea.ModelOutputThunk[Any]:
    return await m.ainstruct(text, await_result=False, **arguments)


async def test_a_structure_is_resolved_and_stays_itself() -> None:
    m, _ = session(by_prompt(a="Ann", b="4", c="hello"))
    name, number, line = await later(m, "a"), await later(m, "b", format=int), await later(m, "c")
    letter = Letter(name, [line, line])
    structure = {"letter": letter, "pair": Pair(number, (number, "x")), "set": frozenset({7}), "none": None}
    resolved = await mellea.resolve(structure)
    assert resolved == {
        "letter": Letter("Ann", ["hello", "hello"]),
        "pair": Pair(4, (4, "x")),
        "set": frozenset({7}),
        "none": None,
    }
    assert structure["letter"] is letter
    assert letter.to is name
    plain = {"a": [1, 2]}
    assert await mellea.resolve(plain) is plain


async def test_a_structure_that_holds_itself_ends() -> None:
    m, _ = session("x")
    loop: list[Any] = [await later(m, "a")]
    loop.append(loop)
    assert (await mellea.resolve(loop))[0] == "x"


async def test_gather_takes_thunks_and_coroutines() -> None:
    m, _ = session(by_prompt(a="one", b="two"))
    first, second = await mellea.gather(await later(m, "a"), m.ainstruct("b"))
    assert (first.value, second.value) == ("one", "two")
    assert await mellea.gather() == []


async def test_gather_raises_the_first_error_plain_and_cancels_coroutines() -> None:
    m, backend = session(
        lambda request: RateLimitError("slow down") if request.messages[-1].content == "b" else ["a", Gate()]
    )
    with anyio.fail_after(30), pytest.raises(RateLimitError, match="slow down"):
        await mellea.gather(m.ainstruct("a"), m.ainstruct("b"))
    backend.assert_closed()


async def test_gather_says_what_it_takes_and_leaves_no_coroutine_behind() -> None:
    m, backend = session("x")
    with pytest.raises(UsageError, match=r"gather takes thunks and coroutines, not 3; such as m.ainstruct"):
        await mellea.gather(m.ainstruct("a"), 3)  # type: ignore[arg-type]
    thunk = await later(m, "b")
    with pytest.raises(UsageError, match=r"put a \* before a list"):
        await mellea.gather([thunk])  # type: ignore[arg-type]
    await thunk
    assert [request.messages[-1].content for request in backend.requests] == ["b"]


async def test_thunks_inside_anything_are_ingredients() -> None:
    m, backend = session(by_prompt(a="Ann", b="Hi!"))
    name, line = await later(m, "a"), await later(m, "b")
    await m.ainstruct(
        "Write to {{ who }}.",
        user_variables={"who": name},
        input={"letter": Letter(name, [line, {"deep": (line,)}])},
        grounding_context={"name": name},
    )
    assert backend.prompts[-1] == (
        "Write to Ann.\n\nUse this context:\n\n[name]\nAnn\n\nInput:\n"
        '{"letter": {"to": "Ann", "lines": ["Hi!", {"deep": ["Hi!"]}]}}'
    )
    assert len(backend.requests) == 3


async def test_a_diamond_runs_its_halves_at_the_same_time() -> None:
    left_begun, right_begun = Gate(), Gate()

    def reply(request: Any) -> Any:
        said = request.messages[-1].content
        if said.startswith("left"):  # each half goes on only once the other has begun
            left_begun.open()
            return [right_begun, "L"]
        if said.startswith("right"):
            right_begun.open()
            return [left_begun, "R"]
        return said[0]

    m, backend = session(reply)
    top = await later(m, "top")
    left = await later(m, "left of {{ t }}", user_variables={"t": top})
    right = await later(m, "right of {{ t }}", user_variables={"t": top})
    bottom = await later(m, "bottom: {{ l }} {{ r }}", user_variables={"l": left, "r": right})
    with anyio.fail_after(30):
        assert (await bottom).value == "b"
    assert backend.prompts[-1] == "bottom: L R"
    assert len(backend.requests) == 4


async def test_an_error_tells_its_way() -> None:
    m, backend = session(BackendError("boom"))
    first = await later(m, "first")
    second = await later(m, "second {{ x }}", user_variables={"x": first}, name="the second step")
    third = await later(m, "third {{ x }}", user_variables={"x": second})
    with pytest.raises(BackendError, match="boom") as caught:
        await third
    assert caught.value.__notes__ == [
        "it is an ingredient of 'the second step'",
        "it is an ingredient of 'third {{ x }}'",
    ]
    assert len(backend.requests) == 1


async def test_part_4_number_16_the_same_thunk_twice_in_one_prompt_and_two_awaits_of_it() -> None:
    gate = Gate()
    m, backend = session([gate, "twice"], "done")
    thunk = await later(m, "a")
    dependent = await later(m, "{{ x }} {{ y }}", user_variables={"x": thunk, "y": thunk})
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(thunk.avalue)
            group.start_soon(thunk.avalue)
            await anyio.sleep(0)
            gate.open()
        await dependent
    assert backend.prompts[-1] == "twice twice"
    assert len(backend.requests) == 2
