"""Streams under a strategy: what is checked while it is written, what comes out, and what is asked next."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

import mellea
from mellea.core.backend import Capabilities
from mellea.core.chunkers import Chunk
from mellea.core.events import (
    AttemptAccepted,
    AttemptRejected,
    AttemptStart,
    ChunkValidated,
    StreamEnd,
    TextDelta,
    Usage,
    UsageEvent,
)
from mellea.errors import BackendError, OutputError, ParseError, RequirementError, UsageError
from mellea.stdlib.requirements import check, excludes, simple_validate
from mellea.stdlib.sampling import BestOfNStrategy, MultiTurnStrategy, RejectionSamplingStrategy, RepairTemplateStrategy
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.soak import examples

pytestmark = pytest.mark.anyio


class Without(mellea.core.Requirement):
    """Forbids a word."""

    def __init__(self, word: str, scope: Any = "word") -> None:
        super().__init__(f"has no {word!r} in it", scope=scope)
        object.__setattr__(self, "word", word)

    def stream_validate(self, chunk: Chunk) -> Any:  # type: ignore[override]
        return self.word not in chunk, f"it says {str(chunk)!r}"  # type: ignore[attr-defined]


def session(*replies: Any, **kwargs: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies, **kwargs)
    return mellea.start_session(backend), backend


async def test_the_first_no_stops_the_generation_at_once() -> None:
    never = Gate()
    m, backend = session(["A bad ", never, "and more"], "A good word.")
    stream = m.astream("Write.", requirements=[Without("bad")], strategy=RepairTemplateStrategy())
    with anyio.fail_after(30):
        assert [text async for text in stream] == ["A good word."]
    backend.assert_closed()
    assert backend.prompts[1] == (
        "Write.\n\nRequirements:\n- has no 'bad' in it\n\nAn earlier answer was:\nA bad\n\n"
        "It was rejected, because it doesn't meet:\n- has no 'bad' in it (it says ' bad')\n\n"
        "Answer again, so that everything is met."
    )
    rejected, accepted = stream.attempts
    assert (rejected.output.value, rejected.is_complete, rejected.success) == ("A bad ", False, False)
    assert (accepted.output.value, accepted.success) == ("A good word.", True)
    assert (stream.text, stream.output, stream.result.success) == ("A good word.", "A good word.", True)


async def test_every_attempt_can_be_seen_live() -> None:
    m, _ = session(["A bad ", Gate(), "end"], ["All ", "well "], usage=Usage(5, 2))
    stream = m.astream("Write.", requirements=[Without("bad")])
    assert [event async for event in stream.events()] == [
        AttemptStart(1),
        TextDelta("A bad "),
        ChunkValidated(1, "A"),
        AttemptRejected(1, "has no 'bad' in it", "it says ' bad'"),
        AttemptStart(2),
        TextDelta("All "),
        TextDelta("well "),
        ChunkValidated(2, "All"),
        UsageEvent(Usage(5, 2)),
        ChunkValidated(2, " well "),
        AttemptAccepted(2),
        StreamEnd("stop", "script-2", "script"),
    ]
    live = m.astream("Write.", requirements=[Without("bad")], live=True)
    assert "".join([text async for text in live]).startswith("All well ")


async def test_a_plain_stream_in_plain_code_does_the_same() -> None:
    m, backend = session("A bad word. ", "A good word. ")
    with m.stream("Write.", requirements=[Without("bad")]) as stream:
        assert "".join(stream) == "A good word. "
    assert [attempt.success for attempt in stream.attempts] == [False, True]
    backend.assert_closed()


async def test_a_committed_chunk_comes_out_at_once_and_the_next_attempt_goes_on_after_it() -> None:
    gate = Gate()
    m, backend = session(["One is fine. Two ", gate, "is bad. Three."], " Two is better. The end.")
    stream = m.astream("Write.", requirements=[Without("bad", "sentence")], release="sentence")
    iterator = aiter(stream)
    with anyio.fail_after(30):
        assert await anext(iterator) == "One is fine."  # while the model still writes
        gate.open()
        rest = [text async for text in iterator]
    assert "".join(rest) == " Two is better. The end."
    assert backend.requests[1].messages[-1].role == "assistant"
    assert backend.requests[1].messages[-1].content == "One is fine."
    assert stream.text == "One is fine. Two is better. The end." == stream.result.value
    assert [attempt.output.value for attempt in stream.attempts][-1] == stream.text
    assert AttemptStart(2, "One is fine.") in [event async for event in stream.events()]


async def test_what_was_let_out_is_kept_if_no_attempt_can_go_on() -> None:
    m, _ = session("One is fine. Two is bad. ", " Two is bad. ")
    pieces = []
    with pytest.raises(RequirementError) as caught:
        async for text in m.astream("Write.", requirements=[Without("bad", "sentence")], release="sentence"):
            pieces.append(text)
    assert pieces == ["One is fine."]
    assert caught.value.partial.startswith("One is fine.")
    m, _ = session("One is fine. Two is bad. ", "never", capabilities=Capabilities(prefill=False))
    with pytest.raises(RequirementError, match=r"12 characters had been released, .* can't begin an answer") as caught:
        await anext_all(m.astream("Write.", requirements=[Without("bad", "sentence")], release="sentence"))
    assert caught.value.partial == "One is fine."


async def test_the_error_of_an_attempt_that_cant_go_on_says_what_failed_and_what_to_leave_out() -> None:
    m, _ = session("One is fine. Two is bad. ", "never", capabilities=Capabilities(prefill=False))
    with pytest.raises(RequirementError) as caught:
        await anext_all(m.astream("Write.", requirements=[Without("bad", "sentence")], release="sentence"))
    message = str(caught.value)
    assert "attempt 1 fails: has no 'bad' in it (it says ' Two is bad. ')" in message
    assert "leave out release='sentence'" in message
    assert "output_prefix" not in message  # it wasn't given
    m, _ = session("One is fine. Two is good. ", capabilities=Capabilities(prefill=False))
    stream = m.astream("Write.", requirements=[Without("bad", "sentence")], release="sentence")
    assert "".join(await anext_all(stream)) == "One is fine. Two is good. "  # nothing failed, so nothing has to go on


async def anext_all(stream: Any) -> list[str]:
    return [text async for text in stream]


async def test_a_verdict_that_has_to_wait_holds_its_chunk_back() -> None:
    def even(chunk: Chunk) -> bool | None:
        return True if chunk.number % 2 else None

    requirement = mellea.core.Requirement("pairs", stream_validation_fn=even, scope="word")
    m, _ = session("a b c d e")
    events = [event async for event in m.astream("x", requirements=[requirement], release="word").events()]
    committed = [event.chunk for event in events if isinstance(event, ChunkValidated) and event.is_committed]
    assert committed == ["a", " b", " c", " d"]


async def test_release_takes_requirements_and_strategies_that_can() -> None:
    m, backend = session("x")
    judged = check("is fine")
    for arguments, message in [
        ({"requirements": [judged]}, "'is fine' only checks complete outputs"),
        ({"requirements": [Without("x", "line")]}, "checks a line"),
        ({"requirements": [Without("x")], "strategy": BestOfNStrategy(2)}, "one attempt after the other"),
        ({"requirements": [Without("x")], "strategy": None}, "needs a strategy"),
    ]:
        with pytest.raises(UsageError, match=message):
            m.astream("Write.", release="word", **arguments)  # type: ignore[arg-type]
    assert backend.requests == []


async def test_complete_outputs_are_checked_as_well() -> None:
    def ends_well(text: str) -> Any:
        return text.endswith("!"), "no cheer"

    m, _ = session("fine", "fine!")
    requirements = [Without("bad"), check("cheers", validation_fn=simple_validate(ends_well))]
    stream = m.astream("x", requirements=requirements)
    assert await anext_all(stream) == ["fine!"]
    assert [str(requirement) for requirement, _ in stream.attempts[0].failures] == ["cheers"]


async def test_without_a_stream_the_first_no_stops_the_generation_too() -> None:
    m, backend = session(["A bad ", Gate(), "never"], "good")
    with anyio.fail_after(30):
        thunk = await m.ainstruct("x", requirements=[Without("bad")])
    assert (thunk.value, thunk.success) == ("good", True)
    backend.assert_closed()


async def test_part_4_number_15_a_corrective_retry_discards_the_rejected_text() -> None:
    for strategy in (RejectionSamplingStrategy(loop_budget=3), RepairTemplateStrategy(), MultiTurnStrategy()):
        m, _ = session(["bad ", "one"], "good one")
        stream = m.astream("x", requirements=[Without("bad")], strategy=strategy)
        assert "".join([text async for text in stream]) == "good one" == stream.text
        assert stream.attempts[0].output.value == "bad one"


async def test_a_rejected_attempt_is_out_of_the_next_prompt_unless_the_strategy_puts_it_there() -> None:
    m, backend = session("bad news ", "good")
    await m.ainstruct("x", requirements=[Without("bad")])
    assert "bad news" not in backend.prompts[1]


async def test_usage_of_all_attempts_and_of_the_accepted_one() -> None:
    m, _ = session("no", "yes", usage=Usage(10, 2))
    is_yes = check("is yes", validation_fn=simple_validate(lambda text: text == "yes"))
    stream = m.astream("x", requirements=[is_yes])
    await anext_all(stream)
    assert stream.usage == stream.result.usage == Usage(20, 4)
    assert stream.result.sampling.result.usage == Usage(10, 2)


async def test_typed_results_under_a_strategy() -> None:
    m, _ = session("[1, ", "[1, 2]")
    stream = m.astream("x", format=list[int], strategy=RepairTemplateStrategy())
    assert await anext_all(stream) == ["[1, 2]"]
    assert stream.output == [1, 2]
    m, _ = session("none", "none at all")
    stream = m.astream("x", format=list[int], strategy=RepairTemplateStrategy())
    assert await anext_all(stream) == ["none at all"]  # the text ends normally, and the output tells
    with pytest.raises(ParseError):
        _ = stream.output


async def test_strict_and_failing_streams_tell_after_nothing() -> None:
    m, _ = session("bad one ")
    pieces = []
    with pytest.raises(RequirementError, match="it says 'bad'"):
        async for text in m.astream("x", requirements=[Without("bad")], strict=True):
            pieces.append(text)
    assert pieces == []
    m, _ = session("bad one ")
    stream = m.astream("x", requirements=[Without("bad")])
    assert await anext_all(stream) == ["bad one "]
    assert stream.result.success is False


async def test_an_error_of_a_requirement_or_of_the_backend_comes_out_as_it_is() -> None:
    def broken(chunk: Chunk) -> bool:
        raise ZeroDivisionError("by zero")

    m, backend = session(["a ", Gate(), "b"])
    stream = m.astream("x", requirements=[mellea.core.Requirement("c", stream_validation_fn=broken, scope="word")])
    with anyio.fail_after(30), pytest.raises(OutputError, match=r"ZeroDivisionError: by zero.* the requirement 'c'"):
        await anext_all(stream)
    backend.assert_closed()
    m, _ = session(["a", ConnectionError("gone")])
    with pytest.raises(BackendError, match="gone"):
        await anext_all(m.astream("x", requirements=[Without("bad")]))


async def test_leaving_a_stream_cancels_its_attempt() -> None:
    m, backend = session(["a ", Gate(), "b"])
    async with m.astream("x", requirements=[Without("bad")], live=True) as stream:
        async for text in stream:
            assert text == "a "
            break
    backend.assert_closed()


WORDS = st.lists(st.sampled_from(["fine ", "bad ", "so ", "it. ", "goes. ", "Now"]), max_size=8)


@given(replies=st.lists(WORDS, min_size=1, max_size=3), release=st.sampled_from([None, "word", "sentence"]))
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_out_is_always_the_beginning_of_the_final_text(replies: list[list[str]], release: Any) -> None:
    """Whatever the model writes, however it is cut, on either loop."""

    async def run() -> None:
        scripts = [[step for word in reply for step in (word[:2], word[2:], Pause(0))] for reply in replies]
        m, backend = session(*scripts)
        requirement = Without("bad", release or "word")
        stream = m.astream("x", requirements=[requirement], release=release)
        out = ""
        try:
            async for text in stream:
                out += text
        except RequirementError as error:
            assert release is not None
            assert error.partial.startswith(out)
        else:
            assert out == stream.text == stream.result.value
            if stream.result.success:
                assert "bad" not in out
        backend.assert_closed()

    for loop in ("asyncio", "trio"):
        anyio.run(run, backend=loop)


async def test_chunks_of_a_complete_output_are_looked_at_too() -> None:
    m, _ = session("A bad word. The end.")
    output = await m.ainstruct("x")
    results = await m.avalidate([Without("bad"), Without("worse")])
    assert [(bool(result), result.reason) for result in results] == [(False, "it says ' bad'"), (True, None)]
    del output


async def test_items_are_chunks_too_and_come_out_as_they_pass() -> None:
    def is_small(chunk: Chunk) -> Any:
        return not chunk.item or int(chunk.item) < 10, f"{chunk.item} is too big"

    requirement = mellea.core.Requirement("small numbers", stream_validation_fn=is_small, scope="item")
    gate = Gate()
    m, backend = session(["[1, 2, ", gate, "30, 4]"], " 3, 4]")
    stream = m.astream("x", format=list[int], requirements=[requirement], release="item")
    iterator = aiter(stream.items())
    with anyio.fail_after(30):
        assert [await anext(iterator), await anext(iterator)] == [1, 2]
        gate.open()
        assert [item async for item in iterator] == [3, 4]
    assert stream.output == [1, 2, 3, 4]
    assert backend.requests[1].messages[-1].content == "[1, 2,"
    assert stream.attempts[0].failures[0][1].reason == "30 is too big"


@dataclass
class Review:
    stars: int


def seen_items(seen: list[Any], verdict: Any = lambda review: review.stars <= 5) -> Any:
    def check_item(chunk: Chunk) -> Any:
        seen.append((chunk.number, chunk.parsed))
        return verdict(chunk.parsed), f"{chunk.item} isn't right"

    return mellea.core.Requirement("few stars", stream_validation_fn=check_item, scope="item")


async def test_a_check_of_items_gets_each_item_once_with_its_value_and_nothing_else() -> None:
    seen: list[Any] = []
    first: list[Any] = []
    m, _ = session(['[{"stars": 1}, {"st', 'ars": 9}, {"stars": 2}]'], '[{"stars": 3} , {"stars": 4}\n]', "[]")
    checks = [seen_items(seen), seen_items(first, lambda review: True)]
    output = await m.ainstruct("x", format=list[Review], requirements=checks)
    assert output.parsed == [Review(3), Review(4)]
    assert seen == [(0, Review(1)), (1, Review(9)), (0, Review(3)), (1, Review(4))]
    assert {id(value) for _, value in first} >= {id(value) for _, value in seen[:1]}  # made once for all
    results = await m.avalidate([seen_items(seen, lambda review: review.stars < 4)])
    assert [result.reason for result in results] == ['{"stars": 4} isn\'t right']
    seen.clear()
    assert (await m.ainstruct("x", format=list[Review], requirements=checks)).parsed == []
    assert seen == []


async def test_an_invalid_item_stops_the_attempt_before_a_check_of_items_sees_it() -> None:
    class Odd(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            assert n % 2, f"{n} is even"
            return n

    seen: list[Any] = []
    m, backend = session(['[{"n": 1}, {"n": 2}, ', Gate()], '[{"n": 3}]')
    check_items = seen_items(seen, lambda odd: True)
    with anyio.fail_after(30):
        output = await m.ainstruct("x", format=list[Odd], requirements=[check_items])
    assert [found.n for _, found in seen] == [1, 3]
    rejected = output.sampling.attempts[0]
    assert "2 is even" in rejected.explain()
    assert "an answer of the requested type" in rejected.explain()
    backend.assert_closed()


async def test_what_follows_the_items_is_as_certain_as_the_last_one() -> None:
    m, _ = session('[{"stars": 1}, {"stars": 2}]')
    undecided = mellea.core.Requirement(
        "r", stream_validation_fn=lambda c: True if c.number == 0 else None, scope="item"
    )
    stream = m.astream("x", format=list[Review], requirements=[undecided])
    passed = [event.chunk async for event in stream.events() if isinstance(event, ChunkValidated)]
    assert passed == ['[{"stars": 1}']


async def test_a_stopped_typed_answer_is_an_error_that_says_so() -> None:
    m, _ = session('["a bad day"]', '["a bad day"]')
    with pytest.raises(RequirementError, match=r"was stopped there, so it has no value of the requested type$"):
        await m.ainstruct("x", format=list[str], requirements=[Without("bad")])
    m, _ = session('["a bad day"]', '["a bad"]')
    whole = mellea.core.Requirement("not bad", simple_validate(lambda text: "bad" not in text))
    output = await m.ainstruct("x", format=list[str], requirements=[whole])
    assert (output.success, output.parsed) == (False, ["a bad day"])


# -- checks that take their time -------------------------------------------------------------------------------------


def looks(check: Any, scope: Any = "sentence") -> Any:
    return mellea.core.Requirement(check.__name__, stream_validation_fn=check, scope=scope)


async def slow(chunk: Chunk) -> bool:
    await anyio.sleep_forever()
    return True


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("pieces", [["Bad. ", Gate()], ["Fine. Bad. ", Gate()], ["Fine. ", "Bad. ", Gate()]])
async def test_a_no_waits_for_no_other_check_not_of_its_chunk_and_not_of_one_before(
    order: int, pieces: list[Any]
) -> None:
    async def isnt_bad(chunk: Chunk) -> bool:
        return "Bad" not in chunk

    def isnt_bad_either(chunk: Chunk) -> bool:  # in a thread
        return "Bad" not in chunk

    for check_ in (isnt_bad, isnt_bad_either):
        m, backend = session(pieces)
        requirements = [looks(slow), looks(slow, "word"), looks(check_)][::order]
        with anyio.fail_after(30):
            thunk = await m.ainstruct("x", requirements=requirements, strategy=RejectionSamplingStrategy(loop_budget=1))
        backend.assert_closed()
        assert [str(requirement) for requirement, _ in thunk.sampling.attempts[0].failures] == [check_.__name__]


async def test_checks_of_one_chunk_run_at_the_same_time_and_each_sees_its_chunks_in_order() -> None:
    together, seen = anyio.Event(), {"first": [], "second": []}  # type: ignore[var-annotated]

    async def first(chunk: Chunk) -> bool:
        seen["first"].append(str(chunk))
        await together.wait()
        return True

    async def second(chunk: Chunk) -> bool:
        seen["second"].append(str(chunk))
        together.set()
        return True

    m, _ = session("One. Two. ", "never")
    with anyio.fail_after(30):
        thunk = await m.ainstruct("x", requirements=[looks(first), looks(second)])
    assert thunk.success
    assert seen == {"first": ["One.", " Two. "], "second": ["One.", " Two. "]}


async def test_a_slow_check_holds_up_neither_the_live_text_nor_the_order_in_which_chunks_pass() -> None:
    go_on = anyio.Event()

    async def waits(chunk: Chunk) -> bool:
        await go_on.wait()
        return True

    m, _ = session(["One. ", "Two. ", "Three."])
    passed = []
    with anyio.fail_after(30):
        async for event in m.astream("x", requirements=[looks(waits)]).events():
            if event == TextDelta("Three."):
                go_on.set()
            if isinstance(event, ChunkValidated):
                passed.append(event.chunk)
    assert passed == ["One.", " Two.", " Three."]


async def test_a_refused_chunk_goes_before_the_failure_that_cut_the_text_off() -> None:
    m, _backend = session(["A bad word, ", ConnectionError("gone")], "A good word.")
    thunk = await m.ainstruct("x", requirements=[Without("bad")])
    assert (thunk.value, thunk.success) == ("A good word.", True)


@pytest.mark.parametrize("scope", ["word", "sentence", "line", "paragraph"])
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_checks_see_no_blank_chunk_and_each_character_once(scope: Any, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:  # on a busy machine a pause may be nobody's
        patch.setattr("mellea.stdlib.streaming.sampling_work._PAUSE_SECONDS", 60)
        _check_chunks(scope, data)


def _check_chunks(scope: Any, data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from("ab. \n\t"), max_size=30))
    cuts = data.draw(st.lists(st.integers(0, len(text))))
    places = sorted({0, *cuts, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    seen: list[str] = []

    def look(chunk: Chunk) -> bool:
        seen.append(str(chunk))
        return bool(chunk.split())

    m, _ = session(pieces or [""])
    thunk = m.instruct("x", requirements=[looks(look, scope)], strategy=RejectionSamplingStrategy(loop_budget=1))
    assert thunk.success
    assert "".join(seen) == (text if text.strip() else "")
    m, _ = session(pieces or [""])
    released = m.stream("x", requirements=[looks(look, scope)], release=scope)
    assert "".join(released) == text


async def test_usage_is_told_once_of_an_attempt_that_is_stopped_at_its_very_end() -> None:
    m, _ = session("so bad", "good", usage=Usage(5, 2))
    events = [event async for event in m.astream("x", requirements=[Without("bad")]).events()]
    assert [type(event) for event in events].count(UsageEvent) == 2  # of two attempts


@pytest.mark.parametrize("arguments", [{}, {"requirements": [excludes("ocean")]}], ids=["unchecked", "checked"])
def test_an_unknown_release_names_the_known_ones(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"release takes 'word', 'sentence', .*, not 'words'"):
        list(mellea.start_session(ScriptedBackend("x")).stream("x", release="words", **arguments))  # type: ignore[arg-type]
