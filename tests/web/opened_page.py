"""A run's page, opened in Chromium: the fixtures of the files that test it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mellea.telemetry.page import render_page
from tests.web.chromium import open_chromium

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open the page of spans, from a file. Whatever goes wrong in it, or is asked of a network, fails the test."""
    wrong: list[str] = []
    contexts: list[Any] = []

    def open_it(
        spans: Sequence[dict[str, Any]] | str, *, more: str = "", is_silent: bool = True, **options: Any
    ) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        if is_silent:
            page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        if isinstance(spans, str):
            address = spans
        else:
            path = tmp_path / "page.html"
            path.write_text(render_page(spans), "utf-8")
            address = path.as_uri()
            page.on("request", lambda asked: asked.url.startswith(address) or wrong.append(f"request: {asked.url}"))
        page.goto(address + more)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []


CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (color, under) => {
        canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
        canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const back = (element) => {
        const layers = [];
        for (let each = element; each; each = each.parentElement) layers.push(getComputedStyle(each).backgroundColor);
        return layers.reverse().reduce((under, layer) => `rgb(${read(layer, under)})`, "white");
    };
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
        const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!hasText || !element.checkVisibility() || element.closest("script, .aside, .hidden, .to-come")) continue;
        const style = getComputedStyle(element);
        const under = back(element);
        const [one, other] = [light(read(style.color, under)), light(read(under, under))].sort((x, y) => y - x);
        const ratio = (one + 0.05) / (other + 0.05);
        const name = `${element.className || element.tagName} ${element.textContent.slice(0, 20)}`;
        if (ratio < 4.5) poor.push(`${name}: ${ratio.toFixed(2)}`);
    }
    return poor;
}"""
"""Which texts have less contrast than WCAG asks for (AA)."""
