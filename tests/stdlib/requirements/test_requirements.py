"""Requirements that are there for the taking: what each lets pass, and what it says of what it doesn't."""

import ast
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import CBlock, Message, Requirement, ToolCall, ValidationResult
from mellea.core.chunkers import make_text_chunker
from mellea.core.context import Context
from mellea.core.events import ToolEnd
from mellea.core.requirement import run_stream_validation, run_validation
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import (
    contains,
    excludes,
    language,
    length,
    markdown_list,
    markdown_table,
    matches,
    no_match,
    python_syntax,
    tool_arg_validator,
    uses_tool,
    valid_json,
)
from mellea.stdlib.tools import tool
from mellea.testing import Pause, ScriptedBackend


def verdict(requirement: Requirement, text: str) -> ValidationResult:
    context = ChatContext().add(CBlock("task")).add(ComputedModelOutputThunk(text))
    return anyio.run(run_validation, requirement, context)


async def _streamed(requirement: Requirement, text: str) -> str | None:
    assert requirement.scope is not None
    chunker = make_text_chunker(requirement.scope)
    chunks = [chunk for letter in text for chunk in chunker.feed(letter)] + chunker.close()
    for chunk in chunks:
        result = await run_stream_validation(requirement, chunk)
        if result is not None and not result:
            return result.reason
    return None


def said_no_on_the_stream(requirement: Requirement, text: str) -> str | None:
    return anyio.run(_streamed, requirement, text)


@dataclass
class Point:
    x: int
    y: int


LIST = "- a\n- b\n  goes on\n  - inside\n\n- c"
TABLE = "| a | b |\n| --- | :-: |\n| 1 | 2 |\n| 3 | x \\| y |"

GOOD_AND_BAD: list[tuple[Requirement, Sequence[str], Sequence[tuple[str, str]]]] = [
    (length(max=3), ["a b c", "", " a\n\nb "], [("a b c d", "it has 4 words")]),
    (length(min=2, max=2), ["a b"], [("a", "it has 1 word"), ("a b c", "3 words")]),
    (length("characters", max=3), ["abc", "abc  \n"], [("abcd", "4 characters")]),
    (length("sentences", min=2), ["One. Two!", "No. 5 is here. Yes."], [("Dr. Who.", "1 sentence")]),
    (length("paragraphs", max=1), ["a\nb"], [("a\n\nb", "2 paragraphs")]),
    (contains("art", "Tea"), ["Art and tea"], [("part, tea", "it has no 'art'"), ("x", "'art', 'Tea'")]),
    (contains("a", "b", any=True), ["a", "b c"], [("c", "it has none of 'a', 'b'")]),
    (contains("red  wine"), ["Red\nwine."], [("red winery", "red")]),
    (contains("C++", "日本"), ["I like c++: 東日本語"], [("C", "'C++', '日本'")]),
    (contains("Tea", case_sensitive=True), ["Tea"], [("tea", "no 'Tea'")]),
    (excludes("bad", "as an AI"), ["badly", "as an AIM"], [("Bad!", "it has 'bad'"), ("As an\nAI", "'as an AI'")]),
    (matches(r"\d{4}"), ["in 1999"], [("in 99", "'in 99' doesn't match it")]),
    (matches(r"\d+", full=True), [" 12\n"], [("12a", "doesn't match")]),
    (matches(r"^- ", each_line=True), ["- a\n\n- b\n"], [("- a\nb", "the line 'b' doesn't match it")]),
    (no_match(r"\d{3}-\d{4}"), ["call me", "123-\n4567"], [("at 555-1234", "it has '555-1234'")]),
    (markdown_list(), [LIST, "* a", "1. a\n2. b", "```markdown\n- a\n```"], [("Here:\n- a", "'Here:' is not an item")]),
    (markdown_list(), ["- a"], [("", "0 items"), ("- a\n\ntext", "'text' is not an item"), ("-a", "not an item")]),
    (
        markdown_list(min_items=2, max_items=2),
        [
            " * one\n * two",
            " 1. one\n 2. two",
            "   - one\n   - two",
            "- one\ngoes on\n- two",
            "- one\n  - a\n  - b\n- two",
            "- one\n\n  more\n\n- two",
            "- one\n  ```\n  - code\n  ```\n- two",
            "10. one\n    more\n11. two",
            "- > one\ngoes on\n- two",
            "-\tone\n-\ttwo",
            "-\n- two",
            "- one\r\n- two\r\n",
        ],
        [
            ("- one\n - two\n  - three", "3 items"),  # each marker stands left of the text before it
            ("- one\n    - a", "1 item"),
            ("- one\n# Head\n- two", "'# Head' is not an item"),
            ("- one\n---\n- two", "'---' is not an item"),
            ("- one\n> two", "'> two' is not an item"),
            ("- one\n```\n- two\n```", "'```' is not an item"),
            ("- one\n  ```\n  code\nlazy", "'lazy' is not an item"),
            ("- # Head\nlazy", "'lazy' is not an item"),
            ("    - one\n    - two", "is not an item"),
            ("* * *\n- two", "is not an item"),
            ("- one\n- two\n\nThat is all.", "'That is all.' is not an item"),
        ],
    ),
    (markdown_list(ordered=True, min_items=2), ["1) a\n2) b"], [("1. a", "1 item"), ("- a\n- b", "'- a' is not numb")]),
    (markdown_list(ordered=False, max_items=1), ["- a"], [("1. a", "'1. a' is numbered"), ("- a\n- b", "2 items")]),
    (
        markdown_table(),
        [TABLE, "a | b\n-|-\n1 | 2", "```\n" + TABLE + "\n```"],
        [("| a |", "line of dashes|one of dash")],
    ),
    (
        markdown_table(columns=2, max_rows=2),
        [TABLE],
        [(TABLE + "\n| 5 | 6 |", "3 rows"), (TABLE + "\n| 5 |", "2 cells")],
    ),
    (markdown_table(columns=3), ["|a|b|c|\n|-|-|-|\n|1|2|3|"], [(TABLE, "2 columns"), ("|a|\n|-|", "0 rows")]),
    (
        valid_json(),
        ['{"a": [1]}', "```json\n[]\n```", "null"],
        [("", "empty"), ("{a}", "line 1 column 2"), ("x []", "")],
    ),
    (valid_json(), ["1e5"], [("NaN", "NaN is not JSON"), ("[" * 100_000, "nested too deeply")]),
    (valid_json(Point), ['{"x": 1, "y": 2}'], [('{"x": 1}', "y"), ("[]", ""), ('{"x": 1, "y": "2"}', "y")]),
    (valid_json(list[int]), ["[1, 2]"], [('["a"]', "0")]),
    (valid_json({"type": "integer"}), ["1"], [("true", "should be integer, not true")]),
    (
        python_syntax(),
        ["x = 1", "```python\nx = 1\n```", "Look:\n```\ny\n```\n```text\n-- -\n```"],
        [("x =", "line 1:")],
    ),
    (
        python_syntax(),
        ["'\\d'", "async def f(): await g()"],
        [("", "no code"), ("```js\nlet x\n```", "'js', not Pyth")],
    ),
    (
        python_syntax(),
        ["x"],
        [("x\0", "null"), ("(" * 5000, ""), ("-" * 200_000 + "1", ""), ("a" * 1_000_001, "too many")],
    ),
]


@pytest.mark.parametrize(("requirement", "good", "bad"), GOOD_AND_BAD, ids=[str(case[0])[:40] for case in GOOD_AND_BAD])
def test_it_lets_the_good_pass_and_says_what_is_wrong(
    requirement: Requirement, good: Sequence[str], bad: Sequence[tuple[str, str]]
) -> None:
    for text in good:
        result = verdict(requirement, text)
        assert result, f"{text!r} is refused: {result.reason}"
    for text, reason in bad:
        result = verdict(requirement, text)
        assert not result, f"{text[:50]!r} passes"
        assert result.reason
        assert any(part in result.reason for part in reason.split("|")), result.reason
        assert "\n" not in result.reason
        assert len(result.reason) < 400


DESCRIPTIONS = [
    (length(max=50), "Write at most 50 words."),
    (length(min=1), "Write at least 1 word."),
    (length("sentences", min=2, max=3), "Write 2 to 3 sentences."),
    (length("paragraphs", min=1, max=1), "Write exactly 1 paragraph."),
    (contains("a"), "Use the word 'a'."),
    (contains("a b"), "Use the phrase 'a b'."),
    (contains("a", "b", any=True), "Use at least one of the words 'a', 'b'."),
    (excludes("a", "b"), "Don't use the words 'a', 'b'."),
    (matches("a+", full=True), "The whole text matches the regular expression a+"),
    (markdown_list(ordered=True, min_items=3, max_items=3), "numbered Markdown list of exactly 3 items"),
    (markdown_list(max_items=5), "Markdown list of at most 5 items, and nothing else."),
    (markdown_table(columns=2, min_rows=2), "Markdown table of 2 columns of at least 2 rows"),
    (valid_json(), "Answer with JSON, and nothing else."),
    (valid_json(Point), '"x": {"title": "X", "type": "integer"}'),
    (python_syntax(), "valid Python code"),
    (language("de"), "Answer in German."),
    (uses_tool("look"), "Use the tool 'look'."),
    (length(max=5, description="Be short."), "Be short."),
]


@pytest.mark.parametrize(("requirement", "text"), DESCRIPTIONS, ids=[text for _, text in DESCRIPTIONS])
def test_it_says_itself_in_the_prompt(requirement: Requirement, text: str) -> None:
    backend = ScriptedBackend("x")
    mellea.start_session(backend).instruct("Go.", requirements=[requirement], strategy=None)
    assert text in backend.prompts[0]


def test_check_only_keeps_it_out_of_the_prompt() -> None:
    backend = ScriptedBackend("x")
    mellea.start_session(backend).instruct("Go.", requirements=[excludes("moist", check_only=True)], strategy=None)
    assert backend.prompts == ["Go."]


BAD: list[tuple[Any, str]] = [
    (lambda: length(), "min=, max= or both"),
    (lambda: length("letters", max=1), "as unit, not 'letters'"),
    (lambda: length(max=-1), "max= of length takes a whole number from 0, or None, not -1"),
    (lambda: length(min=2, max=1), "min=2, max=1"),
    (lambda: contains(), "at least one word"),
    (lambda: contains(["a"]), r"not \['a'\]"),
    (lambda: excludes(" "), "not ' '"),
    (lambda: excludes("a b", scope="word"), "use scope='sentence'"),
    (lambda: excludes("a", scope="page"), "scope is one of"),
    (lambda: matches("("), r"'\(' is not a regular expression"),
    (lambda: matches(5), "5 is not a regular expression"),
    (lambda: no_match(b"a"), "of bytes"),
    (lambda: markdown_list(min_items=2, max_items=1), "at least 2 items and at most 1"),
    (lambda: markdown_table(columns="two"), "number of columns"),
    (lambda: valid_json({"name": "string"}), "no keyword of JSON Schema"),
    (lambda: valid_json("int"), "format can't be 'int'"),
    (lambda: language("Klingon"), "doesn't know 'Klingon'.*German"),
    (lambda: language(5), "doesn't know 5"),
    (lambda: uses_tool(5), "name of a tool"),
    (lambda: tool_arg_validator("d", "t", "a", "no"), "validation_fn takes"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


# -- Python code is never run, and warns nobody -------------------------------------------------------------


def test_code_is_parsed_and_never_run() -> None:
    assert verdict(python_syntax(), "raise SystemExit(1)")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert verdict(python_syntax(), "x = '\\d' is 'a'")
    assert caught == []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ast.parse("x = '\\d'")
    assert caught, "Python itself warns"


# -- languages ------------------------------------------------------------------------------------------------

TEXTS = {
    "en": "The train was late again, and nobody on the platform seemed to know why it had not left the station.",
    "de": "Der Zug war schon wieder zu spät, und niemand auf dem Bahnsteig wusste, warum er nicht abgefahren war.",
    "fr": "Le train était encore en retard et personne sur le quai ne savait pourquoi il n'était pas parti de la gare.",
    "es": "El tren llegó tarde otra vez y nadie en el andén sabía por qué no había salido de la estación a su hora.",
    "it": "Il treno era di nuovo in ritardo e nessuno sul binario sapeva perché non era partito dalla stazione con",
    "pt": "O trem estava atrasado de novo e ninguém na plataforma sabia por que ele não tinha saído da estação com os",
    "nl": "De trein was weer te laat en niemand op het perron wist waarom hij niet van het station was vertrokken.",
    "sv": "Tåget var försenat igen och ingen på perrongen visste varför det inte hade lämnat stationen som det skulle.",
    "da": "Toget var forsinket igen, og ingen på perronen vidste, hvorfor det ikke var kørt fra stationen af sig selv.",
    "nb": "Toget var forsinket igjen, og ingen på perrongen visste hvorfor det ikke hadde gått fra stasjonen av seg",
    "fi": "Juna oli taas myöhässä, eikä kukaan laiturilla tiennyt miksi se ei ollut lähtenyt asemalta niin kuin muut",
    "pl": "Pociąg znowu się spóźnił i nikt na peronie nie wiedział, dlaczego nie odjechał ze stacji tak jak to było w",
    "cs": "Vlak měl zase zpoždění a nikdo na nástupišti nevěděl, proč ještě neodjel ze stanice, jako to bylo v plánu.",
    "tr": "Tren yine geç kaldı ve perondaki hiç kimse bu trenin neden istasyondan ayrılmadığını çok iyi bilmiyordu.",
    "ru": "Поезд снова опоздал, и никто на платформе не знал, почему он ещё не отошёл от станции, хотя было поздно.",
    "uk": "Потяг знову запізнився, і ніхто на платформі не знав, чому він ще не відійшов від станції цієї ночі.",
    "el": "Το τρένο άργησε πάλι και κανείς στην αποβάθρα δεν ήξερε γιατί δεν είχε φύγει από τον σταθμό.",
    "ar": "تأخر القطار مرة أخرى ولم يعرف أحد على الرصيف لماذا لم يغادر المحطة حتى الآن",
    "fa": "قطار دوباره دیر کرد و هیچ کس روی سکو نمی‌دانست چرا هنوز از ایستگاه حرکت نکرده است، پس گفتند چه شد",
    "he": "הרכבת שוב איחרה ואיש על הרציף לא ידע מדוע היא עדיין לא יצאה מהתחנה",
    "hi": "ट्रेन फिर से देर से आई और प्लेटफार्म पर किसी को नहीं पता था कि वह स्टेशन से क्यों नहीं निकली",
    "ja": "電車はまた遅れていて、ホームにいる人は誰もなぜまだ駅を出ていないのか知りませんでした。",
    "zh": "火车又晚点了，站台上没有人知道它为什么还没有离开车站，大家都在等消息。",
    "ko": "기차가 또 늦었고 승강장에 있는 누구도 왜 아직 역을 떠나지 않았는지 몰랐습니다.",
    "th": "รถไฟมาสายอีกแล้วและไม่มีใครบนชานชาลารู้ว่าทำไมมันยังไม่ออกจากสถานี",
}

NEAR = {
    frozenset({"da", "nb"}),
    frozenset({"da", "sv"}),
    frozenset({"nb", "sv"}),
    frozenset({"ar", "fa"}),
    frozenset({"ru", "uk"}),
    frozenset({"es", "pt"}),
}
"""Close relatives; a text may pass as the other."""


@pytest.mark.parametrize("code", TEXTS)
def test_a_text_passes_as_its_own_language_and_as_no_other(code: str) -> None:
    for other in TEXTS:
        result = verdict(language(other), TEXTS[code])
        if other == code:
            assert result, result.reason
        elif frozenset({code, other}) not in NEAR:
            assert not result, f"passes as {other}"


def test_where_it_cant_tell_it_says_so() -> None:
    for text in ("OK", "42", "Berlin, Paris, Madrid", "```\nfor x in the_and_of: is_that()\n```"):
        result = verdict(language("German"), text)
        assert result
        assert "to tell" in (result.reason or "")
    assert verdict(language("German"), "See `the and of is` " + TEXTS["de"])
    assert "English, not in German" in (verdict(language("German"), TEXTS["en"]).reason or "")
    assert "Greek letters" in (verdict(language("German"), TEXTS["el"]).reason or "")


# -- on the stream ----------------------------------------------------------------------------------------------

STREAMED = [
    (length(max=3), "a b c", "a b c d"),
    (length(max=3), "  a\n\nb c \n", " a b c d "),
    (length("characters", max=5), "ab cd   ", "ab cde"),
    (length("sentences", max=2), "One. Two. ", "One. Two. Three"),
    (length("paragraphs", max=1), "a b\nc\n\n", "a\n\nb"),
    (excludes("bad"), "badly done", "it is bad, I say"),
    (excludes("as an AI"), "as an artist. An AI.", "Yes. But as an AI, no."),
    (matches(r"^- ", each_line=True), "- a\n\n- b", "- a\nb\n- c"),
    (no_match(r"\d\d"), "1\n2", "a\nb 12"),
]


@pytest.mark.parametrize(("requirement", "good", "bad"), STREAMED, ids=[str(case[0]) for case in STREAMED])
def test_the_stream_says_what_the_whole_says(requirement: Requirement, good: str, bad: str) -> None:
    assert said_no_on_the_stream(requirement, good) is None
    assert verdict(requirement, good)
    assert said_no_on_the_stream(requirement, bad)
    assert not verdict(requirement, bad)


def test_what_only_the_whole_can_tell_isnt_asked_of_chunks() -> None:
    for requirement in (length(min=3), matches("a"), contains("a"), valid_json(), python_syntax(), markdown_list()):
        assert not requirement.is_streaming


def test_a_stream_is_stopped_at_the_first_no() -> None:
    backend = ScriptedBackend(["one two ", "three four ", Pause(60), "five"], "fine")
    thunk = mellea.start_session(backend).instruct("Go.", requirements=[length(max=3)])
    assert thunk.value == "fine"
    first = thunk.sampling.attempts[0]
    assert "five" not in first.output.value
    assert "4 words" in first.validations[0][1].reason


# -- tools --------------------------------------------------------------------------------------------------------


def tool_context(*calls: ToolCall) -> Context:
    backend = ScriptedBackend([*map(ToolEnd, calls)] or "no calls")
    m = mellea.start_session(backend, ctx=ChatContext())
    m.chat("go")
    return m.ctx


def look(at: str) -> str:
    """Look at something."""
    return at


LOOK = ToolCall("1", "look", {"at": "sky", "depth": 3})
WAIT = ToolCall("2", "wait", {"depth": 5})


def tool_verdict(requirement: Requirement, *calls: ToolCall) -> ValidationResult:
    return anyio.run(run_validation, requirement, tool_context(*calls))


def test_a_tool_has_to_be_called() -> None:
    for named in ("look", look, tool(look)):
        assert tool_verdict(uses_tool(named), WAIT, LOOK)
        assert tool_verdict(uses_tool(named), WAIT).reason == "it doesn't call 'look'; it calls 'wait'"
        assert tool_verdict(uses_tool(named)).reason == "it doesn't call 'look'; it calls no tool"


def test_an_argument_of_a_tool_is_validated() -> None:
    def is_sky(value: Any) -> bool:
        return bool(value == "sky")

    assert tool_verdict(tool_arg_validator("d", "look", "at", is_sky), LOOK, WAIT)
    assert tool_verdict(tool_arg_validator("d", look, "at", is_sky), LOOK)
    bad = ToolCall("3", "look", {"at": "sea"})
    assert (
        tool_verdict(tool_arg_validator("d", look, "at", is_sky), LOOK, bad).reason == "'look' is called with at='sea'"
    )
    assert (
        tool_verdict(tool_arg_validator("d", look, "at", is_sky), WAIT).reason
        == "it doesn't call 'look'; it calls 'wait'"
    )
    missing = tool_verdict(tool_arg_validator("d", look, "to", is_sky), LOOK)
    assert missing.reason == "'look' is called without the argument 'to'"


def test_an_argument_of_every_tool_is_validated() -> None:
    async def small(value: Any) -> tuple[bool, str]:
        return value < 4, f"{value} is too much"

    everywhere = tool_arg_validator("d", None, "depth", small)
    assert tool_verdict(everywhere, LOOK)
    assert tool_verdict(everywhere, LOOK, WAIT).reason == "'wait' is called with depth=5: 5 is too much"
    assert tool_verdict(tool_arg_validator("d", None, "nowhere", small), LOOK, WAIT)
    assert tool_verdict(tool_arg_validator("d", None, None, lambda value: value != 5), LOOK)
    assert not tool_verdict(tool_arg_validator("d", None, None, lambda value: value != 5), LOOK, WAIT)


def test_arguments_that_are_no_json_fail() -> None:
    broken = ToolCall("1", "look", {}, "{oops", is_valid=False)
    result = tool_verdict(tool_arg_validator("d", "look", "at", lambda value: True), broken)
    assert result.reason == "'look' is called with arguments that are not a JSON object: '{oops'"


def test_a_message_without_output_has_no_calls() -> None:
    context = ChatContext().add(Message("user", "x"))
    assert not anyio.run(run_validation, uses_tool("look"), context)


# -- cost -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece", [" ", "\n", "```\n", "| ", "-", "- a\n", "a", "1. ", "[", "`", "Ω ", "~~~x\n \n", "|-"]
)
def test_no_text_of_a_models_takes_for_ever(piece: str) -> None:
    text = piece * (60_000 // len(piece))
    requirements = [
        length("sentences", max=5),
        contains("red wine"),
        excludes("a b"),
        language("de"),
        markdown_list(),
        markdown_table(),
        python_syntax(),
        valid_json(),
    ]
    for requirement in requirements:
        for prefix in ("", "```\n", "```", "| a |\n|"):
            before = time.process_time()
            verdict(requirement, prefix + text)
            assert time.process_time() - before < 2, str(requirement)
