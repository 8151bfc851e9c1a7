"""Partial objects: they only grow, tell where, and end in the final object, however the text is split."""

from __future__ import annotations

import enum
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

import mellea
from mellea.core import ToolCall
from mellea.core.events import StreamEnd, ToolEnd
from mellea.core.structured import HoldBack, Needed, make_output_format
from mellea.core.structured.partials import Partial, PartialDecoder
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import BackendError, ParseError, UsageError
from mellea.testing import ScriptedBackend
from tests.soak import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


class Mood(enum.Enum):
    GOOD = "good"


class Person(TypedDict):
    name: str
    age: int
    mood: Mood
    verdict: Literal["yes", "no"]
    born: NotRequired[date]


class Report(BaseModel):
    title: str
    people: list[Person] = Field(alias="persons")


def decoder(format: Any) -> PartialDecoder[Any]:
    return PartialDecoder(make_output_format(format))


def partials(decoder: PartialDecoder[Any], parts: Iterable[str]) -> Iterable[Partial[Any]]:
    for part in parts:
        decoder.feed(part)
        while (partial := decoder.next()) is not None:
            yield partial
    decoder.close()
    while (partial := decoder.next()) is not None:
        yield partial


def shown(format: Any, text: str) -> list[Any]:
    """Return what is shown after each character, each once."""
    found: list[Any] = []
    for partial in partials(decoder(format), text):
        if not found or found[-1] != partial.data:
            found.append(partial.snapshot())
    return found


def grows(old: Any, new: Any) -> bool:
    """Whether nothing that was seen is gone or different, but for texts that are longer."""
    if old is None:
        return True  # nothing, or null, which doesn't change: see below
    if isinstance(old, dict):
        return isinstance(new, dict) and list(new)[: len(old)] == list(old) and all(grows(old[k], new[k]) for k in old)
    if isinstance(old, list):
        return isinstance(new, list) and len(new) >= len(old) and all(map(grows, old, new))
    if isinstance(old, str):
        return isinstance(new, str) and new.startswith(old)
    return repr(old) == repr(new)


@settings(max_examples=examples(300))
@given(JSON, st.lists(st.integers(0, 2000), max_size=10), st.booleans())
def test_they_grow_and_end_in_the_final_object_however_the_text_is_split(
    value: Any, cuts: list[int], is_ascii: bool
) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    for parts in ([text], text, [text[a:b] for a, b in zip([0, *places], places, strict=False)]):
        last: Any = None
        texts: dict[str, str] = defaultdict(str)
        one = decoder(Any)
        final: Partial[Any] | None = None
        for partial in partials(one, parts):
            assert final is None, "nothing comes after the last one"
            assert grows(last, partial.data)
            last = partial.snapshot()
            texts[partial.path] += partial.text
            partial.text.encode(), "never half a character"
            final = partial if partial.is_complete else None
        assert repr(last) == repr(value)
        assert final is not None or value is None
        assert dict(texts) == dict.fromkeys(texts, "") | dict(strings(value, "")), "the pieces at a path are its text"


def strings(value: Any, path: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            quoted = key.replace("\\", "\\\\").replace('"', '\\"')
            step = f'["{quoted}"]' if not key.isidentifier() else f".{key}" if path else key
            yield from strings(inner, path + step)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from strings(inner, f"{path}[{index}]")


NONSENSE = st.lists(
    st.sampled_from([*'{}[]",:\\a0 \n', '{"a": "b"}', '"a":', "1", "[{", "}]", "\\ud83d", "true", "```"]), max_size=16
).map("".join)


@settings(max_examples=examples(600))
@given(NONSENSE, st.booleans(), st.sampled_from([Any, dict[str, Any], list[Any], int]))
def test_nonsense_shows_the_same_however_it_is_split(text: str, may_restart: bool, format: Any) -> None:
    def read(parts: Iterable[str]) -> object:
        one = PartialDecoder(make_output_format(format), has_steps=may_restart)
        states = {partial.state(partial.path) for partial in partials(one, parts)} - {"incomplete", "complete"}
        return one.data(), one.is_complete, states

    assert read([text]) == read(text)
    assert not read(text)[2], "what is told of has begun"  # type: ignore[index]


def test_numbers_literals_members_and_dates_show_when_they_are_complete() -> None:
    text = '{"name": "Al", "age": 12, "mood": "good", "verdict": "no", "born": "2020-01-02"}'
    assert shown(Person, text) == [
        {},
        {"name": "A"},
        {"name": "Al"},
        {"name": "Al", "age": 12},
        {"name": "Al", "age": 12, "mood": "good"},
        {"name": "Al", "age": 12, "mood": "good", "verdict": "no"},
        {"name": "Al", "age": 12, "mood": "good", "verdict": "no", "born": "2020-01-02"},
    ]


def test_each_says_where_and_what_is_new() -> None:
    text = '{"title": "A\\u00e9\\ud83d\\ude00", "persons": [{"name": "Bo", "verdict": "yes", "age": 1}]}'
    found = [(partial.path, partial.text) for partial in partials(decoder(Report), text)]
    assert found == [
        ("", ""),
        ("title", "A"),
        ("title", "é"),
        ("title", "😀"),
        ("title", ""),
        ("persons", ""),
        ("persons[0]", ""),
        ("persons[0].name", "B"),
        ("persons[0].name", "o"),
        ("persons[0].name", ""),
        ("persons[0].verdict", "yes"),
        ("persons[0].age", ""),
        ("persons[0]", ""),
        ("persons", ""),
        ("", ""),
    ]


class Order(TypedDict):
    id: Annotated[str, HoldBack()]
    title: Annotated[str, Needed()]
    note: str
    lines: NotRequired[Annotated[list[int], HoldBack()]]


def test_hold_back_leaves_a_field_out_until_it_is_complete() -> None:
    class Held(TypedDict):
        id: Annotated[str, HoldBack()]
        lines: Annotated[list[str], HoldBack()]

    assert shown(Held, '{"id": "ab", "lines": ["x", "yz"]}') == [{}, {"id": "ab"}, {"id": "ab", "lines": ["x", "yz"]}]
    found = list(partials(decoder(Held), '{"id": "ab", "lines": ["x", "yz"]}'))
    assert [(partial.path, partial.text) for partial in found] == [("", ""), ("id", "ab"), ("lines", ""), ("", "")]


def test_needed_leaves_the_object_out_until_the_field_is_there() -> None:
    text = '[{"id": "7", "note": "ab", "title": "T"}, {"id": "8"}]'
    assert shown(list[Order], text) == [
        [],
        [{"id": "7", "note": "ab", "title": "T"}],
        [{"id": "7", "note": "ab", "title": "T"}, {"id": "8"}],
    ]
    found = [(partial.path, partial.text) for partial in partials(decoder(list[Order]), text)]
    assert found[:4] == [("", ""), ("[0]", ""), ("[0].title", "T"), ("[0].title", "")], "first all that was held back"


def test_needed_and_hold_back_together_wait_for_the_whole_field() -> None:
    class Both(TypedDict):
        name: Annotated[str, Needed(), HoldBack()]

    class Outer(TypedDict):
        inner: Annotated[Both, Needed()]

    assert shown(Outer, '{"inner": {"name": "abc"}}') == [{"inner": {"name": "abc"}}]


def test_marks_work_on_dataclasses_models_and_through_unions() -> None:
    @dataclass
    class Cat:
        name: Annotated[str, Needed()]
        age: int

    class Zoo(BaseModel):
        boss: Annotated[str, HoldBack()]
        cat: Cat | None

    text = '{"boss": "me", "cat": {"age": 1, "name": "T"}}'
    assert shown(Zoo, text) == [{}, {"boss": "me"}, {"boss": "me", "cat": {"age": 1, "name": "T"}}]
    assert shown(Zoo, '{"cat": null}') == [{}, {"cat": None}]


def test_a_type_that_holds_itself_is_no_trouble() -> None:
    class Tree(TypedDict):
        label: Annotated[str, HoldBack()]
        trees: list[Tree]

    assert shown(Tree, '{"label": "a", "trees": [{"label": "bc", "trees": []}]}')[-2:] == [
        {"label": "a", "trees": [{"label": "bc"}]},
        {"label": "a", "trees": [{"label": "bc", "trees": []}]},
    ]


def test_states() -> None:
    one = decoder(list[Order])
    states: dict[str, list[str]] = {path: [] for path in ("", "[0]", "[0].id", "[0].title", "[0].note", "[1]", "[0].x")}
    for text in ('[{"id": "7', '", "title": "a', 'b"', ', "note": "n"}', ', {"id"', ": null}]"):
        one.feed(text)
        while one.next():
            pass
        for path, found in states.items():
            found.append(one.state(path)[0])
    assert {path: "".join(found) for path, found in states.items()} == {
        "": "iiiiic",
        "[0]": "iiiccc",
        "[0].id": "iccccc",
        "[0].title": "piiccc".replace("ii", "ic"),
        "[0].note": "pppccc",
        "[1]": "ppppic",
        "[0].x": "pppppp",
    }


def test_a_state_is_asked_for_by_path() -> None:
    one = decoder(dict[str, Any])
    list(partials(one, ['{"a b": [{"c\\"d": 1}], "e-f": 2}']))
    assert one.state('["a b"][0]["c\\"d"]') == "complete"
    assert one.state("e-f") == "complete"
    assert one.state('["a b"][1]') == "pending"
    for path in ("a..b", "[x]", "a[", "a b]"):
        with pytest.raises(UsageError, match="is not a path"):
            one.state(path)


def test_a_snapshot_is_kept_and_data_is_of_the_moment() -> None:
    found = list(partials(decoder(list[int]), ["[1, 2]"]))
    assert [partial.data for partial in found] == [[1, 2]] * 4
    one = decoder(list[int])
    kept = [partial.snapshot() for partial in partials(one, ["[1, 2]"])]
    assert kept == [[], [1], [1, 2], [1, 2]]


def session(*replies: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies))


TEXT = '{"title": "T", "persons": []}'


@pytest.mark.anyio
async def test_partials_of_a_thunk_and_of_both_streams_and_again() -> None:
    m = session([*TEXT])
    thunk = await m.ainstruct("x", format=Report, await_result=False)
    assert [partial.path async for partial in thunk.partials()][-1] == ""
    assert thunk.is_computed()
    assert thunk.parsed == Report(title="T", persons=[])
    last = [partial async for partial in thunk.partials()][-1]
    assert (last.data, last.is_complete) == (json.loads(TEXT), True), "of a computed thunk"
    async with m.astream("x", format=Report) as stream:
        assert [partial.snapshot() async for partial in stream.partials()][-1] == json.loads(TEXT)
    with m.stream("x", format=Report) as plain:
        assert [partial.snapshot() for partial in plain.partials()][:2] == [{}, {"title": "T"}]
    assert plain.output == thunk.parsed


def test_a_slow_reader_gets_joined_pieces() -> None:
    stream = session(['{"title": "', *"long text", '", "persons": []}']).stream("x", format=Report)
    assert "".join(stream)
    assert [partial.text for partial in stream.partials() if partial.path == "title"] == ["long text"]


def test_partials_need_a_format() -> None:
    with pytest.raises(UsageError, match="format="):
        next(session("x").stream("x").partials())
    with pytest.raises(UsageError, match="format="):
        ComputedModelOutputThunk("x").partials()


def test_what_is_no_value_is_an_error_at_the_end() -> None:
    stream = session('{"title": 1, "persons": []}').stream("x", format=Report)
    seen: list[Any] = []
    with pytest.raises(ParseError, match="title"):
        seen.extend(partial.snapshot() for partial in stream.partials())
    assert seen[-1] == {"title": 1, "persons": []}


def test_what_had_arrived_comes_before_a_failure() -> None:
    for script, error in [
        ([TEXT[:12], BackendError("gone")], BackendError),
        ([TEXT[:12], StreamEnd("length")], ParseError),
    ]:
        seen: list[Any] = []
        with pytest.raises(error):
            seen.extend(partial.snapshot() for partial in session(script).stream("x", format=Report).partials())
        assert seen[-1] == {"title": "T"}


def test_fences_and_prose_are_passed_over() -> None:
    text = f"As [I said], {{see above}}:\n```json\n{TEXT}\n```\nDone."
    found = list(session([*text]).stream("x", format=Report).partials())
    assert found[-1].data == json.loads(TEXT)
    assert found[-1].is_complete


def test_scalars_and_texts_are_partial_objects_too() -> None:
    assert [partial.data for partial in session("4", ["4", "2"]).stream("x", format=int).partials()] == [4]
    found = [partial.snapshot() for partial in session(['"a', 'b"']).stream("x", format=str | int).partials()]
    assert found == ["a", "ab"] or found == ["ab"], "as far as they were read together"


@pytest.mark.parametrize(
    "text",
    ['{"title": "' + "x" * 400_000 + '"}', '{"title": "", "persons": [' + '{"name": "ab", "age": 1},' * 16_000],
    ids=["one text", "many fields"],
)
def test_path_and_text_cost_linear_time(text: str) -> None:
    def seconds(length: int) -> float:
        one = decoder(Report)
        started = time.process_time()
        for place in range(0, length, 8):
            one.feed(text[place : place + 8])
            while one.next() is not None:
                pass
        return time.process_time() - started

    few = min(seconds(len(text) // 8) for _ in range(3))
    assert seconds(len(text)) < 8 * few * 3


class Point(NamedTuple):
    x: int
    y: int = 0


def test_what_a_validator_takes_besides_its_schema_is_shown_at_the_end() -> None:
    numbers = Annotated[list[int], BeforeValidator(lambda v: [*map(int, v.split(","))] if isinstance(v, str) else v)]
    for format, text, shown in [(numbers, '"1,2"', "1,2"), (Point, '{"x": 1}', {"x": 1})]:
        for script in ([text], [*text]):
            stream = mellea.start_session(ScriptedBackend(script)).stream("x", format=format)
            assert [(partial.snapshot(), partial.is_complete) for partial in stream.partials()][-1] == (shown, True)
            _ = stream.output


def look() -> str:
    """Look."""
    return "found"


LOOK = ToolEnd(ToolCall("1", "look", {}))


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ('{"name": "Ada", "age": 3}', '{"name": "Ada", "age": 3}', True),
        ('{"name": "A', '{"name": "Ada", "age": 3}', True),
        ('{"name": "A', 'So: {"name": "A", "age": 3}', True),
        ('{"name": "Ada", "a', 'So: {"name": "Ada", "age": 3}', True),
        ('{"name": "Ada", "age": 3}', 'So: {"age": 3, "name": "Ada"}', False),
        ('{"name": "Ada", "age": 3}', '{"name": "Ada", "age": 4}', False),
        ('{"name": "A', 'So: {"name": "", "age": 3}', False),
        ('{"name": "Ada"', 'So: {"name": "Ad", "age": 3}', False),
        ('{"name": "Ada"', 'So: {"name": "Adam", "age": 3}', False),
        ('{"name": "Ada"}', '{"name": "Ada", "age": 3}', False),
    ],
)
def test_a_later_step_may_write_again_what_was_read(first: str, second: str, is_same: bool) -> None:
    class Person(BaseModel):
        name: str
        age: int = 0

    for script in ([[first, LOOK], [second]], [[*first, LOOK], [*second]]):
        m = mellea.start_session(ScriptedBackend(*script))
        stream = m.stream("x", format=Person, tools=[look], tool_calls="run")
        names: list[str] = []
        shown = None
        try:
            for partial in stream.partials():
                names += [partial.text] if partial.path == "name" else []
                shown = partial.snapshot()
        except ParseError as error:
            assert not is_same
            assert 'release="step"' in str(error)
        else:
            assert is_same
            assert (shown, "".join(names)) == ({"name": stream.output.name, "age": 3}, stream.output.name)
