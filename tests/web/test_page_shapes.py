"""The page of runs of unusual sizes and shapes, on every screen, in every colour."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.telemetry.odd_runs import RUNS, make_deep, make_long, make_mixed, make_wide
from tests.telemetry.page_runs import make_spans
from tests.web.opened_page import CONTRAST, Open

SCREENS = {
    "desktop": (1440, 900),
    "laptop": (1100, 750),
    "tablet": (820, 1180),
    "tablet held sideways": (1180, 820),
    "phone": (390, 844),
    "phone held sideways": (844, 390),
    "desktop at 200 %": (720, 450),
    "desktop at 400 %": (360, 225),
}

SPILLED = """() => {
    const spilled = [];
    for (const name of document.querySelectorAll(".row .name")) {
        const { right } = name.getBoundingClientRect();
        for (const part of name.children)
            if (part.getBoundingClientRect().right > right + 1) spilled.push(name.textContent);
    }
    for (const figure of document.querySelectorAll(".row .figure"))
        if (figure.scrollWidth > figure.clientWidth && figure.clientWidth) spilled.push(figure.textContent);
    return spilled;
}"""
"""Names of rows whose parts stand over the next column, and figures that are cut."""


@pytest.mark.parametrize("shape", [*RUNS, "big"])
@pytest.mark.sample(2)
def test_every_shape_fits_every_screen(open_page: Open, shape: str) -> None:
    spans = RUNS[shape]() if shape in RUNS else make_spans(2_001)
    for name, (width, height) in SCREENS.items():
        page = open_page(spans, viewport={"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
        assert page.evaluate(SPILLED) == [], name
        for label in page.locator(".row:is(.kind-attempt, .kind-step) .label").all():
            assert label.evaluate("it => it.scrollWidth <= it.clientWidth || it.clientWidth === 0"), name
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        assert page.locator("#detail").is_visible(), name
        assert page.locator("#detail").evaluate("it => it.scrollWidth <= it.clientWidth"), name


def test_names_keep_their_place_in_a_deep_tree(open_page: Open) -> None:
    page = open_page(make_deep(15), viewport={"width": 1440, "height": 900})
    places = page.locator(".row .label").evaluate_all("all => all.map(it => it.getBoundingClientRect())")
    kinds = page.locator(".row .mark").evaluate_all("all => all.map(it => it.getBoundingClientRect().left)")
    assert kinds == sorted(set(kinds)), "each level is indented"
    assert min(place["width"] for place in places if place["width"] > 30) > 60
    title = page.locator(".row .label").last.get_attribute("title")
    assert title == "the question at the bottom of it all", "a name that is cut can be read"


def test_any_number_of_links_share_one_upright_line(open_page: Open) -> None:
    page = open_page(make_wide(300))
    page.keyboard.press("End")
    (path,) = page.locator("#links path.near").evaluate_all("all => all.map(path => path.getAttribute('d'))")
    assert path.count("V") == 1
    # Only for the rows in the document, of which there are few.
    assert 10 < path.count("H") <= page.locator(".row").count()
    line = page.locator("#links path.near").bounding_box()
    bar = page.locator(".row[aria-selected=true] .bar .pale").bounding_box()
    assert abs(line["x"] + line["width"] - bar["x"]) < 9, "it ends where the call could begin"
    for row in page.locator(".row:not([aria-selected=true]) .bar").all():
        box = row.bounding_box()
        assert box["x"] + box["width"] <= line["x"] + line["width"] + 1, "it crosses no bar that it waits for"


def test_an_axis_of_hours_has_short_labels_that_all_fit(open_page: Open) -> None:
    page = open_page(make_long(), viewport={"width": 1440, "height": 900})
    ticks = page.locator(".tick:visible")
    assert ticks.all_inner_texts() == ["0 s", "2 h", "4 h", "6 h"]
    boxes = ticks.evaluate_all("all => all.map(it => it.getBoundingClientRect())")
    assert all(one["right"] <= other["left"] + 1 for one, other in pairwise(boxes))
    page.keyboard.press("End")
    assert "+6 h 25 m" in page.locator(".facts").inner_text()
    assert (
        page.locator(".chip", has_text="Wait")
        .locator(".mark")
        .evaluate("it => getComputedStyle(it).borderTopColor !== 'rgba(0, 0, 0, 0)' && it.offsetWidth > 0")
    )


def test_an_axis_of_years_has_few_labels(open_page: Open) -> None:
    span = {"id": 1, "kind": "trace", "name": "t", "started": 1.0, "seconds": 3e8, "is_request": False, "status": "ok"}
    page = open_page([span])
    assert 1 < page.locator(".tick").count() < 20
    for _ in range(60):
        page.keyboard.press("+")
    assert 1 <= page.locator(".tick").count() < 20


def test_a_failure_counts_once_however_many_spans_it_leaves(open_page: Open) -> None:
    failed = {"status": "error", "error_type": "ValueError", "seconds": 1.0, "is_request": False}
    spans: list[dict[str, Any]] = [
        {"id": 1, "kind": "trace", "name": "t", "started": 1.0, **failed},
        {"id": 2, "parent": 1, "kind": "function", "name": "f", "started": 1.1, **failed},
        {"id": 3, "parent": 2, "kind": "tool", "name": "g", "started": 1.2, **failed},
        {"id": 4, "parent": 2, "kind": "tool", "name": "h", "started": 1.3, **failed, "error_type": "TypeError"},
    ]
    page = open_page(spans)
    errors = page.locator("#totals > div", has_text="Errors").locator("dd")
    assert errors.inner_text() == "2"
    page = open_page(make_mixed())
    errors = page.locator("#totals > div", has_text="Errors").locator("dd")
    assert errors.inner_text().split() == ["3", "1", "rejected,", "1", "cancelled"], (
        "a check is why its attempt is rejected"
    )


def test_an_error_before_the_request_doesnt_blame_the_recording(open_page: Open) -> None:
    page = open_page(make_mixed(), more="#span=15")
    assert "too many requests" in page.locator("#detail").inner_text()
    assert "wasn't recorded" not in page.locator("#detail").inner_text()


def test_an_upright_tablet_has_the_details_below(open_page: Open) -> None:
    page = open_page(make_mixed(), viewport={"width": 820, "height": 1180})
    rows, detail = (page.locator(where).bounding_box() for where in ("#rows", "#detail"))
    assert rows["y"] + rows["height"] <= detail["y"] and detail["width"] == 820
    splitter = page.get_by_role("separator", name="Height of the details")
    assert splitter.get_attribute("aria-orientation") == "horizontal"
    splitter.focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("#detail").bounding_box()["height"] > detail["height"]
    splitter.hover()
    page.mouse.down()
    page.mouse.move(400, 900)
    page.mouse.up()
    assert abs(page.locator("#detail").bounding_box()["y"] - 900) < 12
    page.set_viewport_size({"width": 1180, "height": 820})
    assert page.get_by_role("separator", name="Width of the details").get_attribute("aria-orientation") == "vertical"
    page.set_viewport_size({"width": 844, "height": 390})
    assert not page.locator("#detail").is_visible() and not page.locator("#splitter").is_visible()
    page.locator(".row").nth(1).click()
    assert page.locator("#detail").is_visible() and not page.locator("#rows").is_visible()


def test_a_text_that_runs_from_right_to_left_stands_at_the_right(open_page: Open) -> None:
    page = open_page(make_mixed(), more="#span=7")
    requirement, reason = page.locator(".why li").nth(1).locator("b, p").all()
    for text in (requirement, reason):
        assert text.evaluate("it => getComputedStyle(it).direction") == "rtl"
    assert requirement.bounding_box()["width"] == reason.bounding_box()["width"], "both are aligned alike"


def test_at_400_per_cent_the_rows_have_the_screen(open_page: Open) -> None:
    page = open_page(make_mixed(), viewport={"width": 360, "height": 225})
    page.locator("#rows").focus()
    page.keyboard.press("End")
    row, rows = (page.locator(where).bounding_box() for where in (".row[aria-selected=true]", "#rows"))
    assert rows["height"] > 100 and rows["y"] + rows["height"] <= 226
    assert row["y"] >= rows["y"] - 1 and row["y"] + row["height"] <= 226
    page.mouse.wheel(0, -2_000)
    page.locator("#query").click()
    assert page.locator("#query").bounding_box()["y"] >= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.sample(1)
def test_what_is_chosen_can_be_seen_in_colours_that_the_user_has_chosen(open_page: Open, scheme: str) -> None:
    page = open_page(make_mixed(), color_scheme=scheme, forced_colors="active")
    style = "(it, name) => getComputedStyle(it)[name]"
    selected = page.locator(".row[aria-selected=true]")
    assert selected.evaluate(style, "outlineStyle") == "solid"
    chip, other = page.locator(".chip", has_text="Tool"), page.locator(".chip", has_text="Trace")
    chip.click()
    assert chip.evaluate(style, "backgroundColor") != other.evaluate(style, "backgroundColor")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.sample(1)
def test_every_text_of_a_mixed_run_has_contrast(open_page: Open, scheme: str) -> None:
    spans = make_mixed()
    page = open_page(spans, color_scheme=scheme)
    for span in spans:
        page.evaluate(f"location.hash = 'span={span['id']}'")
        page.locator(".row[aria-selected=true]").wait_for()
        assert page.evaluate(CONTRAST) == []
