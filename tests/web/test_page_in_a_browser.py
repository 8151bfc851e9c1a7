"""The page of a run in a real browser: what it shows, by keys alone, on a phone, with text that would like to act."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import ToolCall
from mellea.core.events import ToolEnd
from mellea.core.observer import begin_span
from mellea.core.span_data import describe_span
from mellea.telemetry.page import render_page, serve_page
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.telemetry.page_runs import Pace, gather_thirty, make_spans, plan_weekend
from tests.telemetry.test_page import HOSTILE, _hostile_spans
from tests.waiting import until_here
from tests.web.opened_page import CONTRAST, Open


@pytest.fixture(scope="module")
def weekend() -> list[dict[str, Any]]:
    found = _run(plan_weekend, Pace(0.05))
    assert isinstance(found, list)
    return found


def _run(function: Any, *arguments: Any) -> Any:
    """Run an async function on a thread of its own: Playwright's loop has this one."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(anyio.run, function, *arguments).result()


def _selected(page: Any) -> str:
    return _text(page, ".row[aria-selected=true] .label")


def _text(page: Any, where: str) -> str:
    return page.locator(where).first.inner_text()


def _wait_for_text(page: Any, where: str, text: str) -> None:
    page.locator(where, has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def _press(page: Any, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


# -- what it shows --------------------------------------------------------------------------------------


def test_it_shows_the_tree_and_what_it_adds_up_to(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    page = open_page(weekend)
    assert page.title() == _text(page, "h1") == "plan_weekend"
    assert page.locator("[role=treegrid]").get_attribute("aria-rowcount") == "34"
    totals = _text(page, "#totals")
    requests = [span for span in weekend if span["is_request"]]
    for name in ("input_tokens", "output_tokens"):
        assert f"{sum(span.get(name, 0) for span in requests):,}" in totals
    assert f"{len(requests)} 4 tool calls" in totals and "unknown for 2" in totals
    levels = page.locator(".row").evaluate_all("rows => rows.slice(0, 4).map(row => row.ariaLevel)")
    assert levels == ["1", "2", "3", "4"]


def test_the_reason_of_a_rejection_stands_beside_its_text(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    (call,) = (span for span in weekend if span["name"] == "write_guide" and not span["is_request"])
    page = open_page(weekend, more=f"#span={call['id']}")
    attempts = page.locator(".attempt")
    assert attempts.count() == 3
    first = attempts.first
    assert first.locator(".about").inner_text().startswith("Bergen is a city in Norway.")
    why = first.locator(".why").inner_text()
    assert why.startswith("Rejected") and "it has 303 characters, and 200 are allowed" in why
    text, reason = (first.locator(where).bounding_box() for where in (".about", ".why"))
    assert text["y"] == reason["y"] and text["x"] + text["width"] <= reason["x"] + 1
    assert attempts.last.locator(".why").inner_text() == "Accepted"


def test_a_prompt_is_shown_as_it_was_sent(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    asked = next(span for span in weekend if len(span.get("messages", [])) > 4)
    page = open_page(weekend, more=f"#span={asked['id']}")
    roles = page.locator(".message h4").all_inner_texts()
    assert roles[:3] == ["system", "user", "assistant"] and "tool" in roles
    shown = page.locator("#detail").inner_text()
    for text in ("You book trips.", "calls find_trains", '"day": "Friday"', "Bryggen Rooms", "Tools offered:"):
        assert text in shown


def test_a_file_is_shown_as_a_placeholder(open_page: Open) -> None:
    parts = [
        {"type": "blob", "mime_type": "image/png", "modality": "image", "size": 12_345},
        {"type": "uri", "mime_type": "image/jpeg", "modality": "image", "uri": "https://example.org/x.jpg"},
    ]
    page = open_page([_call(messages=[{"role": "user", "parts": parts}])])
    assert "image/png" in _text(page, ".file") and "12.3 kB" in _text(page, ".file")
    assert "https://example.org/x.jpg" in page.locator(".file").last.inner_text()


def _call(**more: Any) -> dict[str, Any]:
    known = {"id": 1, "kind": "call", "name": "a call", "status": "ok", "started": 1.0, "seconds": 2.0}
    return {**known, "is_request": True, **more}


def _answered(text: str, **more: Any) -> dict[str, Any]:
    return _call(answer={"role": "assistant", "parts": [{"type": "text", "content": text}]}, **more)


def test_a_streamed_text_is_replayed_with_a_slider(open_page: Open) -> None:
    chunks = [[500, 4], [1000, 5], [2000, 4]]
    page = open_page([_answered("One, two, red", chunks=chunks, time_to_first_chunk=0.5, chunk_count=3)])
    slider, came = page.locator(".replay input"), page.locator(".streamed span").first
    assert came.inner_text() == "One, two, red"
    for value, text in ((0, ""), (250, "One,"), (500, "One, two,"), (999, "One, two,"), (1000, "One, two, red")):
        slider.evaluate("(it, value) => { it.value = value; it.dispatchEvent(new Event('input')) }", value)
        assert came.evaluate("it => it.textContent") == text
    assert "First text after 500 ms, the last after 2.00 s" in (
        page.locator(".curve").get_attribute("aria-label") or ""
    )
    page.clock.install(time=0)
    page.clock.pause_at(1_000)  # from here on it goes as far as it is told: no text is missed by a look that comes late
    page.get_by_role("button", name="Replay").click()
    for wait, text in ((100, ""), (600, "One,"), (600, "One, two,"), (1_000, "One, two, red")):
        page.clock.run_for(wait)
        assert came.evaluate("it => it.textContent") == text


def test_dependencies_are_links_between_bars_and_in_words(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    (story,) = (span for span in weekend if span.get("links"))
    page = open_page(weekend, more=f"#span={story['id']}")
    assert page.locator("#links path").count() == page.locator("#links path.near").count() == 1
    assert page.locator("#links path").get_attribute("d").count("H") == 3, "a line from each"
    page.get_by_role("button", name="Call object").click()
    assert _selected(page) == "object" and "Used by" in page.locator("#detail").inner_text()


def test_what_is_unknown_is_not_zero(open_page: Open) -> None:
    page = open_page([_call(status="cancelled", error_type="cancelled")])
    facts = _text(page, ".facts").replace("\n", " ")
    assert "Tokens unknown" in facts and "Cost unknown" in facts
    assert "Cost\nunknown" in _text(page, "#totals") and "wasn't recorded" in _text(page, "#detail")


def test_what_its_killed_process_left_is_lost(open_page: Open) -> None:
    span = _call(status="lost")
    del span["seconds"]
    page = open_page([span])
    assert _text(page, "#state") == "Lost" and _text(page, ".row .tag") == "lost"


@pytest.mark.parametrize(
    "spans", [[], [{"id": 1, "kind": "a kind of its own", "name": "", "status": "ok", "started": 0}]]
)
@pytest.mark.sample(1)
def test_little_is_enough(open_page: Open, spans: list[dict[str, Any]]) -> None:
    page = open_page(spans)
    assert page.locator(".row").count() == len(spans)
    assert page.locator("#empty").is_visible() is (not spans)


def test_calls_without_a_name_say_what_they_ask_for(open_page: Open) -> None:
    def asked(text: str, **more: Any) -> dict[str, Any]:
        return _call(messages=[{"role": "user", "parts": [{"type": "text", "content": text}]}], **more)

    page = open_page([asked("row \n 1"), asked("row 2", id=2), asked("row 3", id=3, given_name="named")])
    names = [row.inner_text().replace("\n", " ") for row in page.locator(".row .name").all()]
    assert [name.split("row")[1:] for name in names] == [[" 1"], [" 2"], []]


def test_sums_of_which_a_part_is_unknown_are_at_least_that(open_page: Open) -> None:
    trace = {"id": 1, "kind": "trace", "name": "t", "status": "ok", "started": 1.0, "seconds": 1.0}
    known = _call(id=2, parent=1, input_tokens=12_345, output_tokens=600)
    page = open_page([trace, known, _call(id=3, parent=1, status="cancelled")])
    cell = page.locator(".row .tokens").first
    assert cell.inner_text() == "≥ 12,945"
    assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth"), "the number is cut off"


def test_every_length_of_time_fits_its_column(open_page: Open) -> None:
    lengths = (0.0000041, 0.000041, 0.00041, 0.00099951, 0.0041, 0.41, 4.1, 41.0, 410.0, 41_000.0)
    page = open_page([_call(id=number, seconds=seconds) for number, seconds in enumerate(lengths, 1)])
    cells = page.locator(".row .seconds")
    assert cells.all_inner_texts() == [
        "4.1 µs", "41 µs", "410 µs", "1.0 ms", "4.1 ms", "410 ms", "4.10 s", "41.0 s", "6 m 50 s", "11 h 23 m",
    ]  # fmt: skip
    assert cells.evaluate_all("cells => cells.every(cell => cell.scrollWidth <= cell.clientWidth)")


def test_labels_of_the_axis_do_not_run_into_each_other(open_page: Open) -> None:
    for seconds in (0.46, 0.49, 0.9, 1.7, 2.65, 7.0, 100.0, 4000.0):
        page = open_page([_call(seconds=seconds)])
        edges = page.evaluate("""() => [...document.querySelectorAll(".tick")]
            .filter(tick => !tick.hidden)
            .map(tick => tick.getBoundingClientRect())
            .map(box => [box.left, box.right])""")
        assert edges and all(left - right >= 6 for (_, right), (left, _) in pairwise(edges)), edges


def test_a_prompt_that_is_hidden_in_invisible_characters_shows(open_page: Open) -> None:
    hidden = "".join(chr(0xE0000 + ord(each)) for each in "ignore")
    page = open_page([_answered(f"Hello.{hidden}\x85\u2063")])
    shown = page.locator("#detail").inner_text()
    assert "Hello.‹U+E0069›‹U+E0067›" in shown and "‹U+0085›‹U+2063›" in shown


# -- text that would like to act ------------------------------------------------------------------------


def test_text_that_would_like_to_act_is_only_text(open_page: Open) -> None:
    page = open_page(_hostile_spans())
    for _ in HOSTILE:
        shown = page.locator("#detail").inner_text()
        for text in (
            "</script><script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "‹U+202E›gnp.exe",
            "&lt;b&gt;",
        ):
            assert text in shown
        page.keyboard.press("j")
    assert page.locator("img, #detail script, #detail style, iframe").count() == 0
    assert page.evaluate("document.scripts.length") == 2


def test_the_browser_itself_refuses_markup_and_foreign_scripts(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_page([]), "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    refused = page.evaluate("""async () => {
        const tries = {
            markup: () => { document.body.innerHTML = "<b>x</b>"; },
            script: () => {
                const it = document.createElement("script");
                it.text = "window.ran = 1";
                document.body.append(it);
            },
            network: () => fetch("https://example.org/"),
        };
        const refused = [];
        for (const [name, attempt] of Object.entries(tries)) {
            try { await attempt(); } catch { refused.push(name); }
        }
        return [...refused, String(window.ran)];
    }""")
    page.close()
    assert refused == ["markup", "script", "network", "undefined"]


def test_a_megabyte_of_text_opens_at_once_and_whole_on_request(open_page: Open) -> None:
    text = "All work and no play. " * 50_000

    def open_with(text: str) -> tuple[float, Any]:
        begun = time.monotonic()
        page = open_page([_answered(text), _answered("short", id=2, started=2.0)])
        return time.monotonic() - begun, page

    seconds, page = open_with(text)
    assert seconds < 10 * open_with("short")[0] + 1, "a page of one line takes as long, but for a tenth of a second"
    assert len(page.locator("#detail").inner_text()) < 20_000
    page.get_by_role("button", name=re.compile("Show all 1,100,000 characters")).click()
    assert page.locator("pre.whole").evaluate("it => it.textContent.length") == len(text)


def test_one_long_word_widens_nothing(open_page: Open) -> None:
    page = open_page([_answered("x" * 5_000, name="y" * 5_000, model="z" * 5_000)])
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    assert page.locator("#detail").evaluate("it => it.scrollWidth <= it.clientWidth")


# -- keys, search, filters ------------------------------------------------------------------------------


def test_everything_can_be_done_by_keys(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    page = open_page(weekend)
    _press(page, "j j j")
    assert _selected(page) == "write_guide"
    _press(page, "k h")
    assert page.locator("[role=treegrid]").get_attribute("aria-rowcount") == "31", "the attempt is folded"
    _press(page, "ArrowRight ArrowRight ArrowDown ArrowUp Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    _press(page, "Escape")
    assert page.evaluate("document.activeElement.id") == "rows"
    active = page.locator("#rows").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    _press(page, "End")
    assert _selected(page) == "everything"
    _press(page, "Home n")
    assert page.locator(".row[aria-selected=true] .tag").inner_text() == "rejected"
    _press(page, "?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    _press(page, "Escape f")
    assert page.locator("[role=treegrid]").get_attribute("aria-rowcount") == "9"


def test_search_finds_what_was_said_and_marks_it(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    page = open_page(weekend)
    page.keyboard.press("/")
    page.keyboard.type("bryggen 3129")
    assert "of 34 spans" in _text(page, "#found")
    page.keyboard.press("Enter")
    assert "Bryggen Rooms" in page.locator("#detail").inner_text()
    assert page.evaluate("CSS.highlights.get('found').size") >= 2
    hits = page.locator(".row:not(.aside)").count()
    assert _text(page, "#found") == f"{hits} of 34 spans"
    page.keyboard.press("Escape")
    assert _text(page, "#found") == "34 spans"
    page.keyboard.press("/")
    page.keyboard.type("nowhere to be found")
    assert _text(page, "#empty").startswith("Nothing fits.") and page.locator(".row").count() == 0


def test_filters_leave_what_fits_with_what_is_above_it(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    page = open_page(weekend)
    page.locator(".chip", has_text="Error").click()
    assert page.locator(".row:not(.aside) .label").all_inner_texts() == ["check_card", "forecast"]
    page.locator(".chip", has_text="Tool").click()
    assert page.locator(".row:not(.aside) .label").all_inner_texts() == ["check_card"]
    assert page.locator(".row.aside").count() == 3, "function, agent, step"
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Model").select_option("gpt-5-nano")
    assert page.locator(".row:not(.aside) .label").all_inner_texts() == ["place", "object", "person", "story"]


def test_zoom_by_keys_and_by_dragging(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    page = open_page(weekend)
    assert not page.locator("#window").is_visible()
    _press(page, "j z")
    assert page.locator("#window").is_visible()
    bar = page.locator(".row[aria-selected=true] .bar").bounding_box()
    time_column = page.locator(".row[aria-selected=true] .time").bounding_box()
    assert bar["width"] == pytest.approx(time_column["width"] / 1.2, rel=0.02)
    _press(page, "0")
    assert not page.locator("#window").is_visible()
    strip = page.locator("#strip").bounding_box()
    page.mouse.move(strip["x"] + 100, strip["y"] + 10)
    page.mouse.down()
    page.mouse.move(strip["x"] + 200, strip["y"] + 10)
    page.mouse.up()
    assert page.locator("#window").bounding_box()["width"] == pytest.approx(100, abs=3)


# -- looks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.sample(1)
def test_text_has_the_contrast_that_wcag_asks_for(open_page: Open, weekend: list[dict[str, Any]], scheme: str) -> None:
    page = open_page(weekend, color_scheme=scheme)
    one_of_each = {(span["kind"], span["status"], span.get("is_met")): span["id"] for span in weekend}
    for number in one_of_each.values():
        page.evaluate(f"location.hash = 'span={number}'")
        page.locator(".row[aria-selected=true]").wait_for()
        assert page.evaluate(CONTRAST) == []
    page.keyboard.press("?")
    assert page.evaluate(CONTRAST) == []


def test_the_theme_follows_the_system_or_the_switch(open_page: Open) -> None:
    page = open_page(make_spans(5), color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.get_by_role("button", name="Theme: system").click()
    assert page.get_by_role("button", name="Theme: light").is_visible()
    assert page.evaluate(colour) == "rgb(255, 255, 255)" != dark
    page.keyboard.press("t")
    assert page.evaluate(colour) == dark


def test_it_fits_a_phone(open_page: Open, weekend: list[dict[str, Any]]) -> None:
    page = open_page(weekend, viewport={"width": 360, "height": 740}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert not page.locator("#detail").is_visible()
    row = page.locator(".row").nth(1)
    assert row.bounding_box()["height"] >= 44
    row.tap()
    assert page.locator("#detail").is_visible() and not page.locator("#rows").is_visible()
    assert page.locator("#detail").evaluate("it => it.scrollWidth <= it.clientWidth")
    page.get_by_role("button", name="Back to the timeline").tap()
    assert page.locator("#rows").is_visible()


def test_a_printer_gets_all_rows(open_page: Open) -> None:
    page = open_page(make_spans(201))
    assert page.locator(".row").count() < 60
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".row").count() == 201
    page.emulate_media(media="print")
    assert not page.locator("#query").is_visible()
    assert page.locator(".row").last.bounding_box()["y"] > 200 * 20


# -- many, and live -------------------------------------------------------------------------------------


def test_ten_thousand_spans_stay_quick(open_page: Open) -> None:
    def move_through(page: Any) -> float:
        """Return how many milliseconds the page takes for 51 moves."""
        took: float = page.evaluate("""() => {
            const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
            const begun = performance.now();
            for (let count = 0; count < 50; count++) press("j");
            press("End");
            return performance.now() - begun;
        }""")
        return took

    few = move_through(open_page(make_spans(101)))
    page = open_page(make_spans(10_001))
    assert page.locator("#rows").get_attribute("aria-rowcount") == "10001"
    assert page.locator(".row").count() < 60, "only the rows in sight are in the document"
    assert move_through(page) < 20 * few + 1000, "a hundred times the spans take about as long"
    page.keyboard.press("/")
    page.keyboard.type("row 9998")
    assert _text(page, "#found") == "2 of 10,001 spans"


def test_a_page_is_live_while_its_run_is_recorded(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    with mellea.traces.record(path) as recording:
        outer = begin_span("trace", "outer")
        assert outer is not None
        recording.flush()
        with serve_page(path) as server:
            page = open_page(server.url)
            assert _text(page, "#live") == "Live" and _text(page, "#state") == "Running"
            sizes: list[int] = []
            page.on("response", lambda answer: sizes.append(len(answer.body())))
            for number in range(30):
                inner = begin_span("tool", f"tool {number}", parent=outer)
                assert inner is not None
                inner.end()
            recording.flush()
            page.locator(".row").nth(20).wait_for()
            until = time.monotonic() + 30
            while (not sizes or min(sizes) >= 100) and time.monotonic() < until:
                page.wait_for_timeout(100)
            assert min(sizes) < 100 and sizes.count(max(sizes)) == 1, "only what is new comes, and comes once"
            outer.end()
            recording.flush()
            _wait_for_text(page, "#live", "Over")
            assert _text(page, "#state") == "OK"


def test_a_text_grows_on_the_page_while_it_is_written(open_page: Open, tmp_path: Path) -> None:
    path, gate = tmp_path / "live.db", Gate()
    m = mellea.start_session(ScriptedBackend(["one ", Pause(0.4), "two ", Pause(0.4), "three ", gate, "four"]))
    with mellea.traces.record(path, content=True), ThreadPoolExecutor(1) as threads:
        done = threads.submit(m.instruct, "count", name="counting")
        try:
            until_here(lambda: bool(mellea.traces.read_runs(path)))
            with serve_page(path) as server:
                page = open_page(server.url)
                _wait_for_text(page, ".streamed", "one two three ")
                assert _text(page, "#state") == "Running" and "Answer so far" in _text(page, "#detail")
                assert "First text after" in (page.locator(".curve").get_attribute("aria-label") or "")
                gate.open()
                _wait_for_text(page, ".streamed", "one two three four")
                _wait_for_text(page, "#live", "Over")
        finally:
            gate.open()
        assert str(done.result(10)) == "one two three four"


def test_a_page_that_was_opened_before_its_run_gets_it(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    with mellea.traces.record(path) as recording:
        recording.flush()
        path.touch()
        with serve_page(path) as server:
            page = open_page(server.url)
            assert _text(page, "#empty").startswith("Nothing has been recorded yet.")
            with mellea.traces.start("late"):
                recording.flush()
                page.locator(".row").wait_for()
            assert _selected(page) == "late"
            recording.flush()
            _wait_for_text(page, "#live", "Over")  # it asks no more, also when the server is gone


def test_a_page_goes_on_without_its_server(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    with mellea.traces.record(path) as recording, mellea.traces.start("outer"):
        recording.flush()
        with serve_page(path) as server:
            page = open_page(server.url, is_silent=False)
            _wait_for_text(page, "#live", "Live")
        _wait_for_text(page, "#live", "Recorder not reached")
        assert _selected(page) == "outer"


def test_another_run_of_the_record_can_be_chosen(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "two.db"
    with mellea.traces.record(path):
        for name in ("first", "second"):
            with mellea.traces.start(name):
                pass
    with serve_page(path) as server:
        page = open_page(server.url)
        assert _selected(page) == "second"
        page.get_by_label("Run", exact=True).select_option("1")
        _wait_for_text(page, ".row .label", "first")


def test_thirty_calls_at_once_overlap_on_the_page(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "thirty.db"

    async def work() -> None:
        with mellea.traces.start("thirty"):
            await gather_thirty(Pace(0.2))

    with mellea.traces.record(path, content=True):
        _run(work)
    (run,) = mellea.traces.read_runs(path)
    page = open_page(mellea.traces.read_run(path, run["id"]), viewport={"width": 1280, "height": 1200})
    boxes = page.locator(".bar.request").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect())")
    assert len(boxes) == 30
    assert max(box["left"] for box in boxes) < min(box["right"] for box in boxes)


def test_a_phone_shows_first_what_went_wrong_and_a_step_says_which_tools_it_ran(open_page: Open) -> None:
    spans = _run(_ask_with_a_tool_that_fails)
    page = open_page(spans, viewport={"width": 390, "height": 844})
    first = min(page.locator("#totals > div").all(), key=lambda each: each.bounding_box()["x"])
    assert "Errors" in first.inner_text() and "1" in first.inner_text()
    page = open_page(spans)
    assert "broken" in page.locator(".spans li", has_text="Step").first.inner_text()


async def _ask_with_a_tool_that_fails() -> list[dict[str, Any]]:
    def broken(city: str) -> str:
        """Find hotels."""
        raise ValueError("the service is down")

    call = ToolEnd(ToolCall("c", "broken", {"city": "Oslo"}))
    m = mellea.start_session(ScriptedBackend([call], "There is none."))
    with mellea.traces.start("t") as t:
        await m.ainstruct("Find a hotel.", tools=[broken], tool_calls="run")
    call_span = t.spans[1]
    return [describe_span(span, content=True) for span in t.spans if span is not call_span.parent]
