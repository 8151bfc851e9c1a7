"""What a text that isn't just JSON stands for; and that nothing is read out of one that stands for several things."""

from __future__ import annotations

import decimal
import enum
import uuid
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

import mellea
from mellea.core.accumulator import Generation
from mellea.core.events import StreamEnd
from mellea.core.messages import Message
from mellea.core.structured import make_output_format
from mellea.errors import ParseError
from mellea.testing import ScriptedBackend


class Mood(enum.Enum):
    HAPPY = "happy"
    SAD = "sad"


class Model(BaseModel):
    a: int


def parse(format: Any, text: str, finish_reason: Any = "stop") -> Any:
    return make_output_format(format).parse(Generation(text, Message("assistant", text), finish_reason=finish_reason))


WORDS = [
    (Mood, "Happy.", Mood.HAPPY),
    (Mood, "**SAD**", Mood.SAD),
    (Mood, "```\nsad\n```", Mood.SAD),
    (Optional[Mood], "happy", Mood.HAPPY),  # noqa: UP045 - on purpose
    (Literal["a", "b"] | None, "a", "a"),
    (Literal["a", "A"], "A", "A"),
    (Literal["None", "all"], "None", "None"),
    (Literal["1", "2"], "1", "1"),
    (int | None, "None", None),
    (bool, "True", True),
    (bool, "FALSE.", False),
    (str | int, "12 apples", "12 apples"),
    (str | int, 'He said "yes".', 'He said "yes".'),
    (str | int, "12", 12),
    (str | None, "None", None),
    (str | bool, "```\nfine\n```", "fine"),
    (date, "2024-05-01", date(2024, 5, 1)),
    (date, "```\n2024-05-01\n```", date(2024, 5, 1)),
    (uuid.UUID, str(uuid.UUID(int=5)), uuid.UUID(int=5)),
    (Annotated[str, Field(max_length=5)], " Hello\n", "Hello"),
    ({"type": "string"}, "Hello", "Hello"),
    (int, 'Answer: 12 ("twelve")', 12),
    (int, "$5", 5),
    (int, "5%", 5),
]


@pytest.mark.parametrize(("format", "text", "value"), WORDS, ids=[f"{format} {text}" for format, text, _ in WORDS])
def test_words_without_quotes_are_read(format: Any, text: str, value: Any) -> None:
    parsed = parse(format, text)
    assert parsed == value
    assert type(parsed) is type(value)


OPEN = [
    (Mood, "not happy", "'happy' or 'sad'"),
    (Mood, "happy or sad", "'happy' or 'sad'"),
    (Literal["a", "A", "b"], "a or b", "'a', 'A' or 'b'"),
    (int, "It is 1,1.", ""),
    (int, "2/2", ""),
    (int, "1,234", ""),
    (int, "It is \u22125.", ""),
    (int, "12 of 13", "it has 2 values"),
    (dict[str, int], '<think>{"a": 3}</think>{"a": 1}', "it has 2 values"),
    (list[int], "As [1] says, it is [1, 2].", "it has 2 values"),
    (Model, '```json\n{"a": 1}\n```\nor\n```json\n{"a": 2}\n```', "it has 2 values"),
    (str | Model, 'Here: {"a": "x"}', ""),
]


@pytest.mark.parametrize(("format", "text", "said"), OPEN, ids=[f"{format} {text}" for format, text, _ in OPEN])
def test_where_several_things_may_be_meant_none_is_taken(format: Any, text: str, said: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(format, text)
    assert said in str(caught.value)


def test_the_same_value_twice_is_one_value() -> None:
    assert parse(Model, 'First {"a": 1}; to sum up: {"a":1}') == Model(a=1)
    assert parse(Model, 'Not {"b": 1}, but {"a": 1}') == Model(a=1), "what is none isn't meant"


CUT = [
    (int, "12"),
    (float, "1.5"),
    (int | None, "12"),
    (Literal[1, 12], "1"),
    (Literal["a", "ab"], "a"),
    (decimal.Decimal, "1"),
    (date, "2024-05-1"),
    (str | int, "12"),
    (str | int, "hello"),
    (int, "There are 12"),
    (Model, 'First {"a": 1}, then {"a"'),
    (list[int], "[1, 12"),
    ({"type": "integer"}, "12"),
    (Mood, "Sad"),
]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize(("format", "text"), CUT, ids=[f"{format} {text}" for format, text in CUT])
def test_of_an_answer_that_was_cut_off_nothing_is_taken_that_may_go_on(format: Any, text: str, reason: str) -> None:
    with pytest.raises(ParseError, match="cut off"):
        parse(format, text, reason)


WHOLE: list[tuple[Any, str, Any]] = [
    (bool, "true", True),
    (int | None, "null", None),
    (Literal["a", "ab"], '"a"', "a"),
    (list[int], "[1, 12]", [1, 12]),
    (Model, '{"a": 12}', Model(a=12)),
    (int, "12\n", 12),
]


@pytest.mark.parametrize(("format", "text", "value"), WHOLE, ids=[f"{format} {text}" for format, text, _ in WHOLE])
def test_what_has_an_end_of_its_own_is_complete_though_the_answer_was_cut_off(
    format: Any, text: str, value: Any
) -> None:
    assert parse(format, text, "length") == value


READERS: list[tuple[Any, Callable[[Any], Any]]] = [
    (int, lambda stream: (partial.data for partial in stream.partials())),
    (list[int], lambda stream: stream.items()),
]


@pytest.mark.parametrize(("format", "read"), READERS, ids=["partials", "items"])
def test_no_reader_of_a_stream_sees_a_number_that_was_cut_off(format: Any, read: Callable[[Any], Any]) -> None:
    seen: list[Any] = []
    script = ScriptedBackend(["[12" if format == list[int] else "12", StreamEnd("length")])
    stream = mellea.start_session(script).stream("How many?", format=format)
    with pytest.raises(ParseError, match="cut off"):
        seen.extend(read(stream))
    assert seen == []
    with pytest.raises(ParseError, match="cut off"):
        _ = stream.output
