"""Items: each whole and validated, in order, once, before the text that follows it is there."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, field_validator

import mellea
from mellea import MelleaSession
from mellea.core.blocks import ToolCall
from mellea.core.events import ReasoningDelta, StepEnd, StepStart, StreamEnd, TextDelta, ToolEnd, ToolStart
from mellea.core.runtime import Run, launch
from mellea.core.structured import make_output_format
from mellea.core.structured.items import ItemDecoder, make_item_format
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.errors import BackendError, GenerationCancelledError, ParseError, UsageError
from mellea.stdlib.requirements import req, simple_validate
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.soak import examples


@dataclass
class Person:
    name: str
    age: int = 0


class Town(TypedDict):
    name: str
    mayor: Person


class Model(BaseModel):
    name: str


class Register(BaseModel):
    title: str
    people: list[Person] = Field(alias="persons")
    sizes: dict[str, int] = {}


class TwoLists(TypedDict):
    a: list[int]
    b: list[int]


PEOPLE = [Person("Ada", 36), Person('Bo]{"\\'), Person("Čapek 😀", 48)]
TEXT = json.dumps([vars(person) for person in PEOPLE], ensure_ascii=False)


def session(*replies: Any, **kwargs: Any) -> MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **kwargs))


def decoded(format: Any, parts: Iterable[str]) -> list[list[Any]]:
    """Return the items that are there after each piece of text."""
    decoder = ItemDecoder(make_item_format(make_output_format(format)))
    found: list[list[Any]] = []
    for part in parts:
        decoder.feed(part)
        new: list[Any] = []
        while decoder.has_more:
            new.append(decoder.next())
        found.append(new)
    return found


FORMATS = [
    (list[Person], TEXT, PEOPLE),
    (Sequence[Person], TEXT, PEOPLE),
    (Iterable[Person], TEXT, PEOPLE),
    (list[Town], '[{"name": "Ulm", "mayor": {"name": "Ada"}}]', [{"name": "Ulm", "mayor": Person("Ada")}]),
    (list[Model], '[{"name": "a"}, {"name": "b"}]', [Model(name="a"), Model(name="b")]),
    (list[int], "[1, 22,3 ]", [1, 22, 3]),
    (list[int | str | None], '[1, "a", null]', [1, "a", None]),
    (list[list[int]], "[[1, 2], [], [3]]", [[1, 2], [], [3]]),
    (list[Literal["a", "b"]], '["a", "b"]', ["a", "b"]),
    (list[Person | Model], '[{"name": "a", "age": 1}]', [Person("a", 1)]),
    (list["Person"], TEXT, PEOPLE),
    (RootModel[list[Person]], TEXT, PEOPLE),
    (list[Any], '[{"a": [1]}, "x"]', [{"a": [1]}, "x"]),
    (tuple[int, ...], "[1, 2]", [1, 2]),
    (list[int] | None, "[1, 2]", [1, 2]),
    (Register, '{"title": "[1]", "sizes": {"persons": 1}, "persons": [{"name": "Ada"}]}', [Person("Ada")]),
    ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
    ({"type": "object", "properties": {"xs": {"type": "array"}}}, '{"xs": [1, {"y": 2}]}', [1, {"y": 2}]),
    (list[Person], "Here you are:\n```json\n" + TEXT + "\n```\nAnything else?", PEOPLE),
    (list[int], "[]", []),
]


@pytest.mark.parametrize(("format", "text", "items"), FORMATS, ids=[f"{format} {text}" for format, text, _ in FORMATS])
def test_items_of_every_kind_of_sequence_however_the_text_is_split(format: Any, text: str, items: list[Any]) -> None:
    for parts in ([text], text, [text[at : at + 3] for at in range(0, len(text), 3)]):
        assert [item for new in decoded(format, parts) for item in new] == items


@pytest.mark.parametrize(
    "format", [None, str, int, Person, Town, TwoLists, dict[str, int], {"type": "object"}], ids=str
)
def test_what_has_no_items_is_refused(format: Any) -> None:
    with pytest.raises(UsageError, match=r"items\(\) reads the elements of a sequence") as caught:
        make_item_format(None if format in (None, str) else make_output_format(format))
    assert format in (None, str) or "partials() reads an object" in str(caught.value)


def ends(text: str) -> list[int]:
    """Return where each item of a JSON array of people or numbers is certain: after its last character, or one more."""
    decoder, places, place = json.JSONDecoder(), [], text.index("[") + 1
    while (place := place + len(text[place:]) - len(text[place:].lstrip(" ,\n"))) < len(text) and text[place] != "]":
        value, place = decoder.raw_decode(text, place)
        places.append(place if isinstance(value, (dict, list, str)) else place + 1)
    return places


VALUES = st.lists(
    st.builds(lambda name, age: {"name": name, "age": age}, st.text(max_size=6), st.integers()) | st.integers(0, 99),
    max_size=5,
)


@settings(max_examples=examples(300))
@given(VALUES, st.lists(st.integers(0, 500), max_size=10), st.none() | st.integers(0, 1))
@example([1, 2], [2, 3, 4], None)
def test_an_item_is_there_with_its_last_character_for_every_way_to_split(
    values: list[Any], cuts: list[int], indent: int | None
) -> None:
    text = json.dumps(values, indent=indent)
    expected = [Person(**value) if isinstance(value, dict) else value for value in values]
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    parts = [text[a:b] for a, b in zip([0, *places], places, strict=False)]
    so_far: list[Any] = []
    for place, new in zip(places, decoded(list[Person | int], parts), strict=True):
        so_far += new
        assert so_far == expected[: sum(end <= place for end in ends(text))]
    assert so_far == expected


class Acknowledged(ScriptedBackend):
    """Sends the next chunk once the reader waits for it: what it has read by then is noted."""

    def __init__(self, chunks: list[str], read: list[Any]) -> None:
        super().__init__("")
        self.chunks = chunks
        self.read = read
        self.delivered: list[int] = []

    async def run(self, request: Any) -> AsyncIterator[Any]:
        for chunk in self.chunks:
            yield TextDelta(chunk)
            before = -1
            while before != len(self.read):  # until the reader does nothing any more
                before = len(self.read)
                for _ in range(4):
                    await anyio.lowlevel.checkpoint()
            self.delivered.append(len(self.read))
        yield StreamEnd("stop")


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.lists(st.integers(0, 500), max_size=12))
@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_11_an_item_is_delivered_before_the_next_chunk_is_sent(kind: str, cuts: list[int]) -> None:
    places = sorted({cut % (len(TEXT) + 1) for cut in cuts} | {len(TEXT)})
    chunks = [TEXT[a:b] for a, b in zip([0, *places], places, strict=False)]
    read: list[Any] = []
    backend = Acknowledged(chunks, read)

    async def main() -> None:
        async for person in mellea.start_session(backend).astream("x", format=list[Person]).items():
            read.append(person)

    anyio.run(main, backend=kind)
    assert read == PEOPLE
    assert backend.delivered == [sum(end <= place for end in ends(TEXT)) for place in places]


@pytest.mark.anyio
async def test_items_of_a_thunk_and_of_both_streams() -> None:
    m = session(TEXT)
    thunk = await m.ainstruct("x", format=list[Person], await_result=False)
    assert [person async for person in thunk.items()] == PEOPLE == thunk.parsed
    assert thunk.is_computed()
    assert [person async for person in m.astream("x", format=list[Person]).items()] == PEOPLE
    with m.stream("x", format=list[Person]) as stream:
        assert list(stream.items()) == PEOPLE == stream.output


@pytest.mark.anyio
async def test_items_of_a_computed_thunk_replay() -> None:
    thunk = await session(TEXT).ainstruct("x", format=list[Person])
    for one in (thunk, copy.copy(thunk), pickle.loads(pickle.dumps(thunk))):
        assert [person async for person in one.items()] == PEOPLE
        assert [person async for person in one.items()] == PEOPLE, "any number of times"


def test_items_need_a_format_that_has_some() -> None:
    for reader in (session("x").stream("x").items, lambda: session("1").stream("x", format=int).items()):
        with pytest.raises(UsageError, match=r"format=list"):
            list(reader())
    with pytest.raises(UsageError, match=r"items\(\)"):
        ComputedModelOutputThunk("x").items()
    with pytest.raises(UsageError, match="'raise' or 'skip', not 'ignore'"):
        list(session("[]").stream("x", format=list[int]).items("ignore"))  # type: ignore[call-overload]


BAD = ['[{"name": "Ada"}, ', '{"name": 1}, ', '{"name": "Bo"}', Pause(0.01), "]", Gate()]


@pytest.mark.anyio
async def test_11_a_bad_item_ends_it_cancels_and_tells_index_text_and_the_good_ones() -> None:
    backend = ScriptedBackend(BAD)
    thunk = await mellea.start_session(backend).ainstruct("x", format=list[Person], await_result=False)
    items, good = thunk.items(), []
    with pytest.raises(ParseError, match=r"item 1 is not a valid 'Person'.*name.*valid string") as caught:
        async for item in items:
            good.append(item)
    error = caught.value
    assert (error.index, error.raw, error.items) == (1, '{"name": 1}', (Person("Ada"),))
    assert error.partial.startswith('[{"name": "Ada"}, {"name": 1}')
    assert good == [Person("Ada")]
    backend.assert_closed()
    assert [item async for item in items] == [], "it is over"
    with pytest.raises(GenerationCancelledError):
        await thunk
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.index, twin.raw, twin.items, str(twin)) == (error.index, error.raw, error.items, str(error))


def test_a_bad_item_closes_a_plain_stream() -> None:
    backend = ScriptedBackend(BAD)
    stream = mellea.start_session(backend).stream("x", format=list[Person])
    good: list[Person] = []
    with pytest.raises(ParseError) as caught:
        good.extend(stream.items())
    assert caught.value.items == (Person("Ada"),)
    backend.assert_closed()


@pytest.mark.anyio
async def test_a_reader_that_a_later_step_fails_leaves_the_result_to_the_others() -> None:
    def look() -> str:
        """Look."""
        return "found"

    call, gate = ToolEnd(ToolCall("1", "look", {})), Gate()
    for first in ("[1, 2]", '[1, "two"]'):
        m = session([first, call], ["[3, ", gate, "4]"])
        thunk = await m.ainstruct("x", format=list[int], tools=[look], tool_calls="run", await_result=False)
        with pytest.raises(ParseError) as caught:
            _ = [item async for item in thunk.items()]
        assert caught.value.items == ((1, 2) if first == "[1, 2]" else (1,))
        gate.open()
        assert (await thunk).parsed == [3, 4]


def test_skip_goes_on_with_the_next_item() -> None:
    stream = session('[{"name": "Ada"}, {"name": 1}, "x", {"name": "Bo"}]').stream("x", format=list[Person])
    assert list(stream.items(on_error="skip")) == [Person("Ada"), Person("Bo")]
    with pytest.raises(ParseError, match=r"1\.name"):
        _ = stream.output


def test_skip_doesnt_hide_what_is_wrong_beside_the_items() -> None:
    class Team(BaseModel):
        people: list[str]
        size: int = 0

    for text in ('{"people": null}', '{"people": {"0": "Ada"}}', '{"people": ["Ada"], "size": "two"}'):
        with pytest.raises(ParseError, match="not a valid 'Team'"):
            list(session(text).stream("x", format=Team).items(on_error="skip"))


def test_what_is_no_json_between_items_ends_it_even_with_skip() -> None:
    for how in ("raise", "skip"):
        stream = session('[{"name": "Ada"} {"name": "Bo"}]').stream("x", format=list[Person])
        items = stream.items(how)  # type: ignore[call-overload]
        assert next(items) == Person("Ada")
        with pytest.raises(ParseError, match=r"item 1 .*expected ',' or '\]', not '\{' at character 17") as caught:
            next(items)
        assert (caught.value.index, caught.value.raw) == (1, "")


def test_a_cut_list_gives_its_items_then_the_error() -> None:
    text = '[{"name": "Ada"}, {"name": "B'
    for script, error, said in [
        ([text, StreamEnd("length")], ParseError, "token limit"),
        ([text, BackendError("gone")], BackendError, "gone"),
        ([text], ParseError, "EOF"),
    ]:
        for how in ("raise", "skip"):
            good: list[Person] = []
            with pytest.raises(error, match=said):
                good.extend(session(script).stream("x", format=list[Person]).items(how))  # type: ignore[call-overload]
            assert good == [Person("Ada")]


def test_a_list_that_only_fails_as_a_whole_gives_its_items_then_the_error() -> None:
    class AtMostOne(BaseModel):
        xs: list[int] = Field(max_length=1)

    good: list[int] = []
    with pytest.raises(ParseError, match="at most 1"):
        good.extend(session('{"xs": [1, 2]}').stream("x", format=AtMostOne).items())
    assert good == [1, 2]


def test_a_text_that_is_hard_to_read_gives_its_items_at_the_end() -> None:
    text = 'As noted [see above], the answer is:\n```json\n[{"name": "Ada"}]\n```'
    assert list(session(text).stream("x", format=list[Person]).items()) == [Person("Ada")]
    text = 'In {braces}: {"title": "t", "persons": [{"name": "Ada"}]}'
    assert list(session(text).stream("x", format=Register).items()) == [Person("Ada")]


def test_tool_calls_and_thoughts_in_the_middle_pause_and_resume() -> None:
    call = ToolCall("1", "look", "{}")
    script = ['[{"name": "Ada"}, {"na', ToolStart("1", "look"), ToolEnd(call), ReasoningDelta("hm"), 'me": "Bo"}]']
    assert list(session(script).stream("x", format=list[Person]).items()) == [Person("Ada"), Person("Bo")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "steps",
    [
        ["I look them up.", TEXT],
        [TEXT[: TEXT.index("}") + 1], TEXT[TEXT.index("}") + 1 :]],
        [TEXT[: TEXT.index("}") + 2], TEXT],
        [TEXT[: TEXT.index("}") + 1], "Once more:", TEXT],
    ],
    ids=["prose first", "goes on", "anew after a comma", "anew after an item"],
)
async def test_steps_of_a_tool_loop_resume_or_restart_and_no_item_comes_twice(steps: list[str]) -> None:
    async def work(run: Run) -> Any:
        for number, text in enumerate(steps, 1):
            run.emit([StepStart(number), *[TextDelta(char) for char in text], StepEnd(number)])
        run.emit([StreamEnd("stop")])
        return PEOPLE

    run = launch(work=work, format=make_output_format(list[Person]))
    thunk: ModelOutputThunk[list[Person]] = ModelOutputThunk(run)
    assert [person async for person in thunk.items()] == PEOPLE


def test_items_of_a_tool_loop_pause_while_tools_run() -> None:
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name} is 36"

    call = ToolCall("1", "look_up", {"name": "Ada"}, '{"name": "Ada"}')
    asked = ["I look it up.", ToolStart("1", "look_up"), ToolEnd(call)]
    stream = session(asked, [TEXT]).stream("x", format=list[Person], tools=[look_up], tool_calls="run")
    assert list(stream.items()) == PEOPLE == stream.output


def test_a_users_validator_runs_in_a_thread_and_may_use_a_plain_verb() -> None:
    other = session("yes")

    class Asking(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def ask(cls, name: str) -> str:
            return name + other.instruct("Is that a name?").value

    async def main() -> None:
        stream = session('[{"name": "a"}, {"name": "b"}]').astream("x", format=list[Asking])
        assert [item.name async for item in stream.items()] == ["ayes", "byes"]

    for kind in ("asyncio", "trio"):
        anyio.run(main, backend=kind)


@dataclass
class WithPost:
    name: str

    def __post_init__(self) -> None:
        self.name += "!"


@pytest.mark.parametrize(
    ("kind", "is_quick"), [(Person, True), (Town, True), (Model, True), (int, True), (WithPost, False)], ids=str
)
def test_only_a_users_code_needs_a_thread(kind: Any, is_quick: bool) -> None:
    assert make_item_format(make_output_format(list[kind])).is_quick is is_quick


@pytest.mark.anyio
async def test_a_wait_that_is_given_up_loses_no_item() -> None:
    gate = Gate()
    thunk = await session([TEXT[:-30], gate, TEXT[-30:]]).ainstruct("x", format=list[Person], await_result=False)
    items, found = thunk.items(), []
    for _ in range(2):
        found.append(await anext(items))
    with anyio.move_on_after(0.01):
        found.append(await anext(items))
    gate.open()
    found += [item async for item in items]
    assert found == PEOPLE


@pytest.mark.anyio
async def test_under_a_strategy_they_are_the_items_of_the_accepted_attempt() -> None:
    m = session('[{"name": "bad"}]', TEXT)
    rejects = simple_validate(lambda text: "bad" not in text)
    stream = m.astream("x", format=list[Person], requirements=[req("No bad people.", validation_fn=rejects)])
    assert [person async for person in stream.items()] == PEOPLE


NONSENSE = st.lists(
    st.sampled_from([*'{}[]",:\\a0 \n', '{"name": "a"}', '"name":', '"a"', "1", "[{", "}]", "\\u12", "```"]),
    max_size=16,
).map("".join)


@settings(max_examples=examples(600))
@given(NONSENSE, st.booleans())
def test_nonsense_gives_the_same_items_and_the_same_error_however_it_is_split(text: str, may_restart: bool) -> None:
    def read(parts: Iterable[str]) -> object:
        decoder = ItemDecoder(make_item_format(make_output_format(list[Person])), has_steps=may_restart)
        try:
            for part in parts:
                decoder.feed(part)
                while decoder.has_more or decoder.is_broken:
                    decoder.next()
        except ParseError as error:
            return decoder.good, str(error), error.raw
        return decoder.good, decoder.is_complete

    assert read([text]) == read(text)


@pytest.mark.anyio
async def test_several_readers_each_get_every_item() -> None:
    thunk = await session([*TEXT]).ainstruct("x", format=list[Person], await_result=False)
    found: list[list[Person]] = [[], []]

    async def read(into: list[Person]) -> None:
        into.extend([person async for person in thunk.items()])

    async with anyio.create_task_group() as group:
        for into in found:
            group.start_soon(read, into)
    assert found == [PEOPLE, PEOPLE]
