"""What values show of themselves in notebooks: escaped, cut, and without waiting or starting anything."""

from __future__ import annotations

import base64
import copy
import pickle
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mellea
from mellea.core import FileBlock, ImageBlock, ToolCall
from mellea.core.card import LARGEST_PICTURE, LONGEST_TEXT, MOST_ROWS, Card, Code, Fold, Grid, Prose, draw_bundle
from mellea.core.displayed import Displayed
from mellea.core.requirement import Requirement
from mellea.core.run_card import LONGEST_REASON
from mellea.errors import ConnectError, MelleaError
from mellea.events import AttemptRejected, FileEvent, ReasoningDelta, TextDelta, ToolEnd
from mellea.stdlib.requirements import length
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import Gate, ScriptedBackend
from tests.soak import examples

ATTACK = (
    '<script>alert("x")</script><img src=x onerror=alert(1)> `````\n</pre></div> $\\alpha$ | # '
    "\x1b[31mred\x07 [a](javascript:b)"
)
"""What a model may write, to have a page run it, or a terminal obey it."""


class Pieces(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all(name in ("class", "style") for name, _ in attrs), attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Pieces:
    pieces = Pieces()
    pieces.feed(html)
    pieces.close()
    return pieces


def bundle(value: Displayed) -> dict[str, str]:
    return value._repr_mimebundle_()


@dataclass
class Note:
    text: str
    pages: int


def make_values() -> dict[str, Any]:
    """One of each kind that shows itself, all with the attack in it."""

    def echo(text: str) -> str:
        """Repeat the text."""
        return text

    note = f'{{"text": {_quote(ATTACK)}, "pages": 3}}'
    m = mellea.start_session(ScriptedBackend([ReasoningDelta(ATTACK), ATTACK]))
    typed = mellea.start_session(ScriptedBackend(note))
    stream = typed.stream("Go.", format=Note)
    partials = list(stream.partials())
    picky = mellea.start_session(ScriptedBackend(ATTACK, "fine"))
    sampling = picky.instruct("Go.", requirements=[length(max=2)]).sampling
    calls = ToolEnd(ToolCall("call-1", "echo", {"text": ATTACK}))
    agent = mellea.Agent(ScriptedBackend([calls], ATTACK), [echo])
    agent_stream = agent.stream("Go.")
    list(agent_stream)
    with mellea.traces.start(ATTACK) as trace:
        m.instruct("Go.")
    return {
        "thunk": m.instruct("Go."),
        "typed thunk": typed.instruct("Go.", format=Note),
        "thunk with calls": mellea.start_session(ScriptedBackend([calls])).instruct("Go.", tools=[echo]),
        "sampling result": sampling,
        "partial": partials[-1],
        "stream": stream,
        "agent stream": agent_stream,
        "agent run": agent_stream.result,
        "trace": trace,
        "tree": trace.tree(),
    }


def _quote(text: str) -> str:
    import json

    return json.dumps(text)


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return make_values()


KINDS = (
    *("thunk", "typed thunk", "thunk with calls", "sampling result", "partial", "stream", "agent stream"),
    *("agent run", "trace", "tree"),
)
OURS = {"div", "pre", "details", "summary", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_wrote_never_becomes_markup(values: dict[str, Any], kind: str) -> None:
    shown = bundle(values[kind])
    assert set(shown) == {"text/plain", "text/html", "text/markdown"}
    html = read(shown["text/html"])
    assert set(html.tags) <= OURS
    assert "alert" in html.text and "<script" not in shown["text/html"]
    assert "alert" in shown["text/plain"]
    assert not {"\x1b", "\x07"} & set("".join(shown.values()))
    assert values[kind]._mime_() == ("text/html", shown["text/html"])


@pytest.mark.parametrize("kind", KINDS)
def test_in_markdown_all_of_it_stands_in_fences_or_as_entities(values: dict[str, Any], kind: str) -> None:
    fence = ""
    for line in bundle(values[kind])["text/markdown"].split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text")
            assert set(fence) == {"`"}
        else:
            assert not set(line.replace("&#", "")) & set("<>`$[]"), line
    assert fence == ""


@given(st.text(max_size=40))
@settings(max_examples=examples(200))
def test_any_text_comes_out_as_it_went_in_but_for_controls(text: str) -> None:
    shown = draw_bundle(Card(text, parts=[Prose(text), Code(text), Fold(text, text), Grid([text], [[text]])]))
    pieces = read(shown["text/html"])
    assert set(pieces.tags) <= OURS
    kept = "".join(sign for sign in text if sign in "\n\t" or sign.isprintable())
    read_back = "".join(sign for sign in pieces.text if sign in "\n\t" or sign.isprintable())
    assert read_back.count(kept) >= 4 or not kept


def test_long_texts_and_tables_are_cut_and_say_so() -> None:
    shown = draw_bundle(Card("x", parts=[Prose("a" * (LONGEST_TEXT + 1000)), Grid(["n"], [["row"]] * (MOST_ROWS + 5))]))
    for text in shown.values():
        assert text.count("a" * LONGEST_TEXT) == 1
        assert "1,000 more characters" in text
        assert text.count("row") == MOST_ROWS + 1
        assert "5 more rows" in text


async def test_showing_a_thunk_neither_waits_nor_computes_it(anyio_backend: object) -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(["Once", gate, " upon"]))
    thunk = await m.ainstruct("Go.", await_result=False)
    assert "pending" in bundle(thunk)["text/plain"] or "streaming" in bundle(thunk)["text/plain"]
    await thunk.astream()
    assert bundle(thunk)["text/plain"].endswith("Once")
    assert not thunk.is_computed()
    gate.open()
    await thunk
    assert bundle(thunk)["text/plain"].endswith("Once upon")


def test_showing_a_stream_sends_nothing() -> None:
    backend = ScriptedBackend("Once")
    m = mellea.start_session(backend)
    assert "not launched" in bundle(m.stream("Go."))["text/plain"]
    assert "not launched" in bundle(m.astream("Go."))["text/plain"]
    assert "not launched" in bundle(mellea.Agent(m, []).stream("Go."))["text/plain"]
    assert backend.requests == []


def test_a_failed_stream_shows_what_came_and_why_it_ended() -> None:
    stream = mellea.start_session(ScriptedBackend(["Once", ConnectError("the line is dead")])).stream("Go.")
    with pytest.raises(MelleaError):
        list(stream)
    assert "failed" in bundle(stream)["text/plain"]
    assert "Once\nConnectError: the line is dead" in bundle(stream)["text/plain"]


async def test_a_form_fills_in_while_it_is_written(anyio_backend: object) -> None:
    gate = Gate()
    m = mellea.start_session(ScriptedBackend(['{"text": "Hel', gate, 'lo", "pages": 3}']))
    thunk = await m.ainstruct("Go.", format=Note, await_result=False)
    await thunk.astream()
    assert bundle(thunk)["text/plain"].split("\n")[1:] == ["field  value", "text   Hel"]
    gate.open()
    await thunk
    assert bundle(thunk)["text/plain"].split("\n")[1:] == ["field  value", "text   Hello", "pages  3"]


def test_attempts_show_why_they_were_rejected() -> None:
    sampling = (
        mellea.start_session(ScriptedBackend("far too long", "fine"))
        .instruct("Go.", requirements=[length(max=2)])
        .sampling
    )
    head, _, first, second = bundle(sampling)["text/plain"].split("\n")
    assert head == "SamplingResult · requirements met · attempt 2 chosen"
    assert first.split()[:2] == ["1", "no"] and "Write at most 2 words." in first
    assert second.split() == ["2", "yes", "fine"]


def list_rejections(value: Displayed) -> list[str]:
    return [line for line in bundle(value)["text/plain"].split("\n") if "rejected" in line]


WHY = "attempt 1 rejected: Write at most 2 words. (it already has 3 words)"


def test_a_rejected_attempt_stays_on_the_card_with_the_reason() -> None:
    m = mellea.start_session(ScriptedBackend("far too long", "fine", "far too long", "fine"))
    thunk = m.instruct("Go.", requirements=[length(max=2)])
    stream = m.stream("Go.", requirements=[length(max=2)], strategy=RejectionSamplingStrategy())
    list(stream)
    for value in (thunk, stream, copy.copy(thunk), pickle.loads(pickle.dumps(thunk))):
        assert list_rejections(value) == [f"{WHY}: far too long"]
        html = bundle(value)["text/html"]
        assert f">{WHY}</summary>" in html
        assert "attempt 2 of 2, requirements met" in html


async def test_a_rejected_attempt_is_on_the_card_before_the_next_one_ends(anyio_backend: object) -> None:
    """Neither between the attempts nor later is a rejected text taken for the answer."""
    before, inside = Gate(), Gate()
    m = mellea.start_session(ScriptedBackend("far too long", [before, "fi", inside, "ne"]))
    async with m.astream("Go.", requirements=[length(max=2)], strategy=RejectionSamplingStrategy()) as stream:
        events = stream.events()
        while not isinstance(await anext(events), AttemptRejected):
            continue
        head, *lines = bundle(stream)["text/plain"].split("\n")
        assert head.endswith(("attempt 1", "attempt 2"))
        assert lines in ([f"{WHY}: far too long"], [f"{WHY}: far too long", ""])
        before.open()
        while not isinstance(await anext(events), TextDelta):
            continue
        assert bundle(stream)["text/plain"].split("\n") == [
            "Text · streaming · script · attempt 2",
            f"{WHY}: far too long",
            "fi",
        ]
        inside.open()
        async for _ in events:
            pass
    assert bundle(stream)["text/plain"].endswith(f"{WHY}: far too long\nfine")


async def test_a_form_fills_in_anew_in_each_attempt(anyio_backend: object) -> None:
    gate, end = Gate(), Gate()
    answers = [['{"text": "far too long", "pages": 3}'], ['{"text": "Hel', gate, 'lo", "pag', end, 'es": 3}']]
    short = Requirement("Be short.", lambda context: len(context.last_output().parsed.text) < 9)
    m = mellea.start_session(ScriptedBackend(*answers))
    async with m.astream("Go.", format=Note, requirements=[short], strategy=RejectionSamplingStrategy()) as stream:
        lines: list[str] = []
        async for event in stream.events():
            if isinstance(event, TextDelta):
                lines = bundle(stream)["text/plain"].split("\n")[1:]
                (gate if not gate.is_open else end).open()
    assert lines[0].startswith("attempt 1 rejected: Be short.: ")
    assert lines[1:3] == ["field  value", "text   Hello"]


async def test_released_text_stays_where_the_rest_of_an_attempt_is_rejected(anyio_backend: object) -> None:
    backend = ScriptedBackend("Fine. No!", " Yes.")
    no = Requirement("Be kind.", stream_validation_fn=lambda chunk: "No" not in chunk, scope="sentence")
    m = mellea.start_session(backend)
    async with m.astream("Go.", requirements=[no], strategy=RejectionSamplingStrategy(), release="sentence") as stream:
        async for _ in stream:
            pass
    assert bundle(stream)["text/plain"].split("\n")[1:] == [
        "attempt 1 rejected: Be kind.: No!",
        "Fine. Yes.",
    ]


def test_if_no_attempt_meets_the_requirements_the_chosen_text_is_shown_once() -> None:
    m = mellea.start_session(ScriptedBackend("one two three", "four five six"))
    strategy = RejectionSamplingStrategy(loop_budget=2)
    shown = bundle(m.instruct("Go.", requirements=[length(max=2)], strategy=strategy))["text/plain"]
    assert "requirements not met" in shown
    assert (shown.count("attempt 1 rejected"), shown.count("attempt 2 rejected")) == (1, 1)
    assert (shown.count("one two three"), shown.count("four five six")) == (1, 1)


def test_a_long_reason_is_cut() -> None:
    no = Requirement("r", lambda context: (False, "why\n" * 1000))
    m = mellea.start_session(ScriptedBackend("a", "b"))
    strategy = RejectionSamplingStrategy(loop_budget=2)
    [first, _] = list_rejections(m.instruct("Go.", requirements=[no], strategy=strategy))
    assert len(first) < LONGEST_REASON + 100


PNG = b"\x89PNG\r\n\x1a\n'\"<>"


def test_an_image_is_shown_as_one() -> None:
    shown = bundle(ImageBlock(data=PNG, filename='a"><script>.png'))
    assert shown["text/plain"].split("\n")[0] == 'ImageBlock · image/png · a"><script>.png · 12 bytes'
    assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"' in shown["text/html"]
    assert "<script" not in shown["text/html"]


@pytest.mark.parametrize(
    "file",
    [
        ImageBlock(media_type="image/svg+xml", data=b"<svg onload='alert(1)'/>"),
        ImageBlock(media_type='image/png" onerror="alert(1)', data=PNG),
        ImageBlock(url="https://example.com/tracker.png"),
        ImageBlock(data=b"x" * (LARGEST_PICTURE + 1)),
        FileBlock(media_type="text/html", data=b"<script>alert(1)</script>"),
    ],
    ids=["svg", "wrong type", "url", "large", "html"],
)
def test_no_other_file_is_put_into_a_page(file: FileBlock) -> None:
    assert set(read(bundle(file)["text/html"]).tags) == {"div"}


def test_a_generated_image_is_on_the_card_of_its_answer() -> None:
    events = [TextDelta("Here:"), FileEvent("image/png", PNG), FileEvent("audio/wav", b"abc", filename="a.wav")]
    thunk = mellea.start_session(ScriptedBackend(events)).instruct("Draw.")
    assert '<img style="' in bundle(thunk)["text/html"]
    assert bundle(thunk)["text/plain"].split("\n")[1:] == [
        "Here:",
        "(image, image/png)",
        "FileBlock · audio/wav · a.wav · 3 bytes",
    ]


def test_rows_show_how_far_they_are() -> None:
    rows = mellea.map(mellea.start_session(ScriptedBackend("yes")).instruct, ["a", "b"])
    assert "not begun" in bundle(rows)["text/plain"]
    list(rows)
    head, bar = bundle(rows)["text/plain"].split("\n")
    assert head.startswith("mellea.instruct · done · 2 of 2 rows · ")
    assert bar == f"[{'#' * 24}] 100%"


def test_nothing_is_imported_for_it_before_a_notebook_asks() -> None:
    code = """
import sys, mellea
from mellea.testing import ScriptedBackend
thunk = mellea.start_session(ScriptedBackend("Once")).instruct("Go.")
assert not {"IPython", "marimo", "mellea.core.card", "mellea.notebook"} & set(sys.modules)
thunk._repr_mimebundle_()
assert not {"IPython", "marimo", "mellea.notebook"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (None, "Text"),
        (Note, "Note"),
        (list[Note], "list[Note]"),
        (int, "int"),
        (int | None, "int | None"),
        ({"title": "Size", "type": "integer"}, "Size"),
    ],
)
def test_the_card_of_a_value_says_what_the_value_is(kind: Any, title: str) -> None:
    written = {"Note": '{"text": "a", "pages": 1}', "list[Note]": "[]"}.get(title, "3")
    m = mellea.start_session(ScriptedBackend(written, written))
    thunk = m.instruct("Go.", format=kind)
    stream = m.stream("Go.", format=kind)
    first, way = bundle(stream)["text/plain"].split("\n")
    assert first == "Stream · not launched"
    assert "show(stream)" in way
    list(stream)
    assert stream.result.value == thunk.value
    for value in (thunk, stream):
        assert bundle(value)["text/plain"].startswith(f"{title} · done · script\n")


def test_the_card_of_an_answer_that_only_calls_tools_says_so(values: dict[str, Any]) -> None:
    assert bundle(values["thunk with calls"])["text/plain"].startswith("Tool calls · ")
