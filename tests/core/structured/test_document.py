"""One reading of an answer: items, partial objects and the result come from the same document, or all of them fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel, field_validator
from pydantic.alias_generators import to_camel

import mellea
from mellea import command, generative
from mellea.core.accumulator import Generation
from mellea.core.blocks import ToolCall
from mellea.core.events import StreamEnd, ToolEnd
from mellea.core.messages import Message
from mellea.core.structured import make_output_format
from mellea.errors import ParseError, UsageError
from mellea.testing import ScriptedBackend
from tests.soak import examples, factor

CALL = ToolEnd(ToolCall("1", "look", {"name": "x"}))


def look(name: str) -> str:
    """Look somebody up."""
    return f"{name} is 36"


class U(BaseModel):
    name: str


class Team(BaseModel):
    note: str = ""
    people: list[U]


class Loose(BaseModel):
    note: str = ""
    tags: list[str] = []


class V(TypedDict):
    title: str
    size: int


@dataclass
class W:
    value: int
    unit: str = ""


def session(*script: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*script))


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ParseError:
        return ParseError


def readings_of(format: Any, script: list[Any], **more: Any) -> dict[str, Any]:
    """Return what each way of reading gives: a value, or `ParseError`."""
    found: dict[str, Any] = {}
    arguments: dict[str, Any] = {"format": format, **more}
    found["parsed"] = outcome(lambda: session(script).instruct("x", strategy=None, **arguments).parsed)

    def by_partials() -> Any:
        stream = session(script).stream("x", **arguments)
        last = None
        for partial in stream.partials():
            last = partial.snapshot() if partial.is_complete else None
        return last, stream.output

    def by_items() -> Any:
        stream = session(script).stream("x", **arguments)
        return list(stream.items()), stream.output

    found["partials"] = outcome(by_partials)
    found["items"] = outcome(by_items)
    return found


def agree(format: Any, script: list[Any], *, has_items: bool, **more: Any) -> Any:
    """Check that all readers agree, and return the value."""
    asked = make_output_format(format)
    try:
        found = readings_of(format, script, **more)
    except UsageError:
        assert not has_items
        found = {"parsed": outcome(lambda: session(script).instruct("x", format=format, strategy=None, **more).parsed)}
    parsed = found["parsed"]
    for name, value in found.items():
        assert (value is ParseError) == (parsed is ParseError), (name, found)
    if parsed is ParseError or "items" not in found:
        return parsed
    last, output = found["partials"]
    assert output == parsed
    assert asked.validate(json.dumps(last)) == parsed, "the last partial object is the value"
    items, output = found["items"]
    assert output == parsed
    assert items == (parsed if isinstance(parsed, list) else parsed.people), "the items are those of the result"
    return parsed


FOUND: list[tuple[str, Any, str, Any]] = [
    ("example before", Team, 'For {"note": "x"} I say {"note": "y", "people": [{"name": "a"}]}', "a"),
    ("thoughts", Team, '<think>Not {"users": []}, I think.</think>{"people": [{"name": "a"}]}', "a"),
    (
        "schema in a fence",
        Team,
        '```json\n{"type": "object"}\n```\nSo:\n```json\n{"people": [{"name": "a"}]}\n```',
        "a",
    ),
    ("citation", list[U], 'As in [1], here: [{"name": "a"}]', "a"),
    ("aside", list[U], 'As [see above] said: [{"name": "a"}]', "a"),
    ("aside first", list[U], '[see above] So: [{"name": "a"}]', "a"),
    ("several asides", list[U], 'By [1] [two] {three} [4, 5]: [{"name": "a"}] [6]', "a"),
    ("unknown key first", Team, '{"x": {"people": [{"name": "b"}]}, "people": [{"name": "a"}]}', "a"),
    ("same key inside", Team, '{"note": "{\\"people\\": []}", "people": [{"name": "a"}]}', "a"),
    ("fence inside a text", Team, '{"note": "```json\\n[1]\\n```", "people": [{"name": "a"}]}', "a"),
    ("the same twice", list[U], '[{"name": "a"}], that is: [{"name":"a"}]', "a"),
    ("BOM", list[U], '\ufeff[{"name": "a"}]', "a"),
    ("fence with a name and a brace", list[U], '```json {.x}\n[{"name": "a"}]\n```', "a"),
    ("broken before", list[U], '[{"name" "b"}] no: [{"name": "a"}]', None),
    ("prose bracket unclosed", list[U], 'Take { and [: [{"name": "a"}]', "a"),
    ("optional", Optional[list[U]], 'Sure: [{"name": "a"}].', "a"),  # noqa: UP045
    ("root model", RootModel[list[U]], 'Sure: [{"name": "a"}].', "a"),
]


@pytest.mark.parametrize(("format", "text", "name"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_all_readers_find_the_same_document(format: Any, text: str, name: str | None) -> None:
    for script in ([text], [*text], [text[at : at + 3] for at in range(0, len(text), 3)]):
        if isinstance(format, type) and issubclass(format, RootModel):
            stream = session(script).stream("x", format=format)
            assert list(stream.items()) == [U(name="a")] == stream.output.root
            continue
        value = agree(format, script, has_items=True)
        if name is None:
            assert value is ParseError
        else:
            assert (value if isinstance(value, list) else value.people) == [U(name=name)]


AMBIGUOUS: list[tuple[Any, str]] = [
    (list[int], "As [1] says, it is [1, 2]."),
    (list[U], '[{"name": "a"}] or [{"name": "b"}]'),
    (Team, '{"people": []} {"people": [{"name": "a"}]}'),
    (list[U], '[{"name": "a"}, oops]'),
    (list[U], '[{"name": "a"}, {"name"'),
    (list[U], '{"people": [{"name": "a"}]}'),
    (Team, '[{"people": []}]'),
    (list[U], "Sorry, I can't."),
    (list[U], '<think>[{"name": "a"}]</think>[{"name": "b"}]'),
]


@pytest.mark.parametrize(("format", "text"), AMBIGUOUS)
def test_where_one_reader_fails_all_do_and_say_what_they_gave(format: Any, text: str) -> None:
    for script in ([text], [*text]):
        assert agree(format, script, has_items=True) is ParseError
        got: list[Any] = []
        stream = session(script).stream("x", format=format)
        with pytest.raises(ParseError) as caught:
            got.extend(stream.items())
        assert list(caught.value.items) == got


def test_skip_changes_what_is_raised_and_not_which_document_is_taken() -> None:
    for text in ('As in [1], here: [{"name": "a"}, {"name": 1}]', '[{"name": "a"}, 5]'):
        stream = session(text).stream("x", format=list[U])
        assert list(stream.items(on_error="skip")) == [U(name="a")]
        with pytest.raises(ParseError):
            _ = stream.output
    with pytest.raises(ParseError, match="2 values"):
        list(session('[{"name": "a"}] or [{"name": "b"}]').stream("x", format=list[U]).items(on_error="skip"))


class Alias(BaseModel):
    people: list[U] = Field(alias="folks")


class Validation(BaseModel):
    people: list[U] = Field(validation_alias="folks")


class Choices(BaseModel):
    people: list[U] = Field(validation_alias=AliasChoices("crew", "folks"))


class Way(BaseModel):
    people: list[U] = Field(validation_alias=AliasPath("data", 1, "folks"))


class Ways(BaseModel):
    people: list[U] = Field(validation_alias=AliasChoices("people", AliasPath("data", "folks")))


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    people: list[U] = Field(alias="folks")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    all_people: list[U]


ALIASES: list[tuple[Any, str, str]] = [
    (Alias, '{"folks": %s}', "people"),
    (Validation, '{"folks": %s}', "people"),
    (Choices, '{"folks": %s}', "people"),
    (Choices, '{"crew": %s}', "people"),
    (Way, '{"data": [0, {"folks": %s}]}', "people"),
    (Ways, '{"data": {"x": [1], "folks": %s}}', "people"),
    (Ways, '{"x": [{"name": 1}], "people": %s}', "people"),
    (ByName, '{"folks": %s}', "people"),
    (ByName, '{"people": %s}', "people"),
    (Camel, '{"allPeople": %s}', "all_people"),
]


@pytest.mark.parametrize(("format", "text", "name"), ALIASES)
def test_items_are_found_under_every_kind_of_alias_before_the_answer_ends(format: Any, text: str, name: str) -> None:
    script = [*(text % '[{"name": "a"}, {"name": "b"}]')]
    for around in ([*"Here: "], ["```json\n"], []):
        stream = session([*around, *script]).stream("x", format=format)
        seen = [(item, len(stream.text)) for item in stream.items()]
        assert [item for item, _ in seen] == [U(name="a"), U(name="b")] == getattr(stream.output, name)
    thunk = session(script).instruct("x", format=format)
    assert len(getattr(thunk.parsed, name)) == 2


def test_an_item_that_is_made_by_a_validator_of_the_whole_comes_at_the_end() -> None:
    class Sorted(BaseModel):
        people: list[int]

        @field_validator("people")
        @classmethod
        def in_order(cls, people: list[int]) -> list[int]:
            return sorted(people)

    got: list[int] = []
    with pytest.raises(ParseError, match="aren't the beginning of the complete result") as caught:
        got.extend(session('{"people": [2, 1]}').stream("x", format=Sorted).items())
    assert list(caught.value.items) == got == [2, 1]
    assert list(session('{"people": [1, 2]}').stream("x", format=Sorted).items()) == [1, 2]


@pytest.mark.parametrize("sort", [sorted, lambda found: sorted(found)], ids=["a builtin", "a function"])
def test_items_that_a_validator_puts_in_another_order_are_an_error(sort: Callable[[list[int]], list[int]]) -> None:
    got: list[int] = []
    with pytest.raises(ParseError, match="aren't the beginning of the complete result") as caught:
        got.extend(session("[3, 1, 2]").stream("x", format=Annotated[list[int], AfterValidator(sort)]).items())
    assert list(caught.value.items) == got == [3, 1, 2]


def test_scalars_are_read_only_where_there_is_no_bracket() -> None:
    assert session("I think 5.").instruct("x", format=int | Team).parsed == 5
    assert session('In 3 words: {"people": []}').instruct("x", format=int | Team).parsed == Team(people=[])
    assert session("<think>hm</think>\n\n7").instruct("x", format=int).parsed == 7
    with pytest.raises(ParseError):
        session('{"people": 5}', '{"people": 5}').instruct("x", format=int | Team)
    assert session('"see {x} and [1]"').instruct("x", format=Literal["see {x} and [1]"] | list[int]).parsed


def test_a_long_answer_of_quotes_or_brackets_costs_linear_time() -> None:
    for text in (
        '"' + '\\"' * 32_000,
        "[a" * 32_000,
        '{"a": ' * 10_000,
        "[1]" * 21_000,
        '{"value": ' * 6_000,
        "```" * 21_000,
    ):
        for format in (int, list[U], Team, list[int], Literal["a", "b"]):
            parse = make_output_format(format).parse
            outcome(lambda text=text, parse=parse: parse(Generation(text, Message("assistant", text))))  # type: ignore[misc]


STEPS: list[tuple[str, list[str], list[str] | None, bool]] = [
    ("prose with brackets", ["See [1] and [two].", '[{"name": "a"}]'], ["a"], True),
    ("goes on", ['[{"name": "a"},', '{"name": "b"}]'], ["a", "b"], True),
    ("goes on in a text", ['[{"name": "a', 'b"}]'], ["ab"], True),
    ("draft, then another", ['[{"name": "d"}]', '[{"name": "a"}, {"name": "b"}]'], ["a", "b"], False),
    ("open draft, then another", ['[{"name": "d"},', '[{"name": "a"}]'], ["a"], False),
    ("the same, then more", ['[{"name": "a"},', '[{"name": "a"}, {"name": "b"}]'], ["a", "b"], True),
    ("open and empty, then another", ["[", '[{"name": "a"}]'], ["a"], True),
    ("three steps", ["First I look.", "Once more.", '[{"name": "a"}]'], ["a"], True),
    ("fewer", ['[{"name": "a"}, {"name": "b"}]', '[{"name": "a"}]'], ["a"], False),
    ("a list and then prose", ['[{"name": "a"}]', "That was all."], None, False),
    ("a step without text", ['[{"name": "a"}, ', "", '{"name": "b"}]'], ["a", "b"], True),
]


@pytest.mark.parametrize(("texts", "names", "is_quiet"), [case[1:] for case in STEPS], ids=[case[0] for case in STEPS])
def test_steps_are_boundaries(texts: list[str], names: list[str] | None, is_quiet: bool) -> None:
    steps = [[*text, CALL] for text in texts[:-1]] + [[*texts[-1]]]
    arguments: dict[str, Any] = {"format": list[U], "tools": [look], "tool_calls": "run"}

    def plain() -> Any:
        return [each.name for each in session(*steps).instruct("x", strategy=None, **arguments).parsed]

    assert outcome(plain) == (ParseError if names is None else names)
    stream, got = session(*steps).stream("x", **arguments), []
    if is_quiet:
        got = [each.name for each in stream.items()]
        assert got == names == [each.name for each in stream.output]
    else:
        with pytest.raises(ParseError) as caught:
            got.extend(stream.items())
        assert list(caught.value.items) == got
        assert got
        if names is not None:
            assert 'release="step"' in str(caught.value)
    if names is not None:
        by_step = session(*steps).stream("x", release="step", **arguments)
        assert [each.name for each in by_step.items()] == names
        by_step = session(*steps).stream("x", release="step", **arguments)
        assert [{"name": name} for name in names] == [partial.snapshot() for partial in by_step.partials()][-1]


def test_partial_objects_that_a_later_step_supersedes_are_an_error() -> None:
    arguments: dict[str, Any] = {"format": W, "tools": [look], "tool_calls": "run"}
    stream = session(['{"value": 1}', CALL], '{"value": 2}').stream("x", **arguments)
    with pytest.raises(ParseError, match='release="step"'):
        list(stream.partials())
    stream = session(['{"value": 1, ', CALL], '"unit": "m"}').stream("x", **arguments)
    assert [partial.snapshot() for partial in stream.partials()][-1] == {"value": 1, "unit": "m"}
    assert stream.output == W(1, "m")


def test_a_function_streams_a_draft_s_items_only_at_the_end_if_it_is_told() -> None:
    @command(output=list[U], tools=[look])
    def find(query: str) -> list[U]: ...  # type: ignore[empty-body]

    steps: list[Any] = [['[{"name": "d"}]', CALL], '[{"name": "a"}]']
    with session(*steps), pytest.raises(ParseError, match='release="step"'):
        list(find.stream("x"))
    with session(*steps):
        assert list(find.with_options(release="step").stream("x")) == [U(name="a")]
    with pytest.raises(UsageError, match="release='step'"):
        find.with_options(release="word")  # type: ignore[arg-type]


def test_release_step_needs_a_format() -> None:
    with pytest.raises(UsageError, match="format="):
        session("x").stream("x", release="step")  # type: ignore[arg-type]


def test_a_call_that_nobody_offered_is_asked_for_again_and_then_an_error() -> None:
    call = ToolEnd(ToolCall("1", "json", {"name": "a"}))

    @generative
    def extract(text: str) -> U:
        """Extract the person."""

    verbs: list[Callable[[mellea.MelleaSession], Any]] = [
        lambda m: m.instruct("x", format=U).parsed,
        lambda m: m.chat("x", format=U).parsed,
        lambda m: mellea.ask("x", session=m, format=U),
        lambda m: extract(m, "t"),
        lambda m: m.instruct("x", format=U, tools=[look]).parsed,
    ]
    for verb in verbs:
        try:
            assert verb(session([call], '{"name": "a"}')) == U(name="a")
        except ParseError as error:  # chat asks once
            assert "'json'" in str(error)
        with pytest.raises(ParseError, match="no such tool was offered"):
            verb(session([call], [call]))
    assert session([CALL]).instruct("x", format=U, tools=[look]).parsed is None, "one that was offered comes first"


# -- any value in anything -----------------------------------------------------------------------------

NAMES = st.text(st.sampled_from('ab{}[]"\\`:,1 \n<é'), max_size=5)
PEOPLE = st.lists(st.builds(lambda name: {"name": name}, NAMES), max_size=3)
FORMATS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "list of models": (list[U], PEOPLE),
    "object": (Team, st.builds(lambda note, people: {"note": note, "people": people}, NAMES, PEOPLE)),
    "list of numbers": (list[int], st.lists(st.integers(-20, 20), max_size=4)),
    "list of lists": (list[list[int]], st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=3)),
    "bounded list": (Annotated[list[str], Field(min_length=2)], st.lists(NAMES, min_size=2, max_size=4)),
}
BEFORE = st.lists(
    st.sampled_from(
        [
            *("Here it is: ", "\n", "<think>hm {x} [1] </think>", "[see above] ", '{"note": "x"}', "[1] ", "```json\n"),
            *('{"type": "object"}', '[{"name": 1}] ', "[", '{"people": ', "As said. ", "\ufeff", "  ", '{"value": 1} '),
            *('"', "{ "),
        ]
    ),
    max_size=3,
).map("".join)
AFTER = st.sampled_from(["", "\n", "\n```", " Is that fine?", " [1]", " {x}", ' {"note": "y"}', " [", "```\nDone [2]."])
CUTS = st.lists(st.integers(0, 200), max_size=6)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_items_and_the_rest_are_the_result_or_all_fail(name: str, data: st.DataObject) -> None:
    format, values = FORMATS[name]
    value = data.draw(values)
    inside = json.dumps(value, indent=data.draw(st.sampled_from([None, 1])), ensure_ascii=data.draw(st.booleans()))
    if data.draw(st.booleans()):
        inside = inside[: data.draw(st.integers(0, len(inside)))]  # cut off
    text = data.draw(BEFORE) + inside + data.draw(AFTER)
    script: list[Any] = pieces(text, data.draw(CUTS))
    if data.draw(st.booleans()):
        script.append(StreamEnd(data.draw(st.sampled_from(["stop", "length"]))))
    agree(format, script, has_items=True)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(BEFORE, PEOPLE, st.integers(0, 30)), min_size=2, max_size=3), CUTS)
def test_over_tools_a_stream_that_ends_well_gave_what_the_plain_call_gives(parts: list[Any], cuts: list[int]) -> None:
    texts = [before + json.dumps(people)[: None if cut > 20 else cut] for before, people, cut in parts]
    steps: list[Any] = [[*pieces(text, cuts), CALL] for text in texts[:-1]] + [pieces(texts[-1], cuts)]
    arguments: dict[str, Any] = {"format": list[U], "tools": [look], "tool_calls": "run"}
    plain = outcome(lambda: session(*steps).instruct("x", strategy=None, **arguments).parsed)
    streamed = outcome(lambda: list(session(*steps).stream("x", **arguments).items()))
    by_step = outcome(lambda: list(session(*steps).stream("x", release="step", **arguments).items()))
    assert streamed in (plain, ParseError)
    assert by_step == plain
    if factor() > 1:
        last = outcome(lambda: [p.snapshot() for p in session(*steps).stream("x", **arguments).partials()])
        assert last is ParseError or [U(**each) for each in last[-1]] == plain
