"""The chat page in a browser: typing, growing text, stopping, approving, reloading, and nothing that runs as markup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import served
from tests.web.chat_app import ChatApp, TypedApp
from tests.web.chromium import open_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


class Page:
    """A page in its own context, with what it has complained about."""

    def __init__(self, browser: Any, port: int, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1000, "height": 800}, **settings})
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = f"http://127.0.0.1:{port}/"
        self.page.goto(self.url)

    def say(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.page.keyboard.press("Enter")

    def wait(self, text: str) -> None:
        self.page.get_by_text(text).last.wait_for()

    def wait_done(self, said: str = "The answer is complete.") -> None:
        self.page.locator("#status", has_text=said).wait_for(state="attached")

    @property
    def said(self) -> list[str]:
        return [re.sub(r"\s+", " ", text).strip() for text in self.page.locator(".message .parts").all_inner_texts()]


@pytest.fixture
def app() -> ChatApp:
    return ChatApp()


@pytest.fixture
def open_page(browser: Any, app: ChatApp) -> Iterator[Any]:
    pages: list[Page] = []
    with served(app) as port:

        def make(**settings: Any) -> Page:
            pages.append(Page(browser, port, **settings))
            return pages[-1]

        yield make
        for page in pages:
            page.context.close()
            assert page.errors == [] and all(url.startswith(page.url) for url in page.requests)


def test_text_grows_and_is_stopped(open_page: Any, app: ChatApp) -> None:
    page = open_page()
    page.say("slow")
    page.wait("one two three")
    assert page.page.locator("#messages").get_attribute("aria-busy") == "true"
    page.page.get_by_role("button", name="Stop").click()
    page.wait_done("The answer was stopped.")
    assert page.said == ["slow", "one two three"]
    assert page.page.get_by_role("button", name="Send").is_visible()
    assert not page.page.locator("#problem").is_visible()


def test_escape_stops_and_a_new_message_goes_on(open_page: Any) -> None:
    page = open_page()
    page.say("slow")
    page.wait("one two three")
    page.page.keyboard.press("Escape")
    page.wait_done("The answer was stopped.")
    page.say("hello")
    page.wait("You said: hello")
    page.wait_done()
    assert page.said == ["slow", "one two three", "hello", "You said: hello"]


def test_a_page_that_is_reloaded_in_mid_stream_gets_the_whole_answer(open_page: Any, app: ChatApp) -> None:
    page = open_page()
    page.say("slow")
    page.wait("one two three")
    page.page.reload()
    page.wait("one two three")
    app.gate.open()
    page.wait("one two three four five")
    page.wait_done()
    assert page.said == ["slow", "one two three four five"]
    page.page.reload()
    page.wait("one two three four five")


def test_a_call_runs_once_it_is_approved(open_page: Any, app: ChatApp) -> None:
    page = open_page()
    page.say("delete")
    group = page.page.get_by_role("group", name="Approval of delete_file")
    group.wait_for()
    assert "/tmp/x" in group.inner_text() and not app.done
    page.page.wait_for_function("document.activeElement.className === 'question'")
    page.page.keyboard.press("Enter")  # approves of nothing
    for _ in range(2):
        page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.textContent") == "Approve" and not app.done
    page.page.keyboard.press("Enter")
    page.wait("It is done.")
    page.wait_done()
    assert app.done == ["/tmp/x"] and not group.is_visible()


def test_a_call_that_is_declined_does_not_run(open_page: Any, app: ChatApp) -> None:
    page = open_page()
    page.say("delete")
    page.page.get_by_label("Why delete_file may not run").fill("not today")
    page.page.get_by_role("button", name="Decline").click()
    page.wait("It is done.")
    assert not app.done and "delete_file was declined" in page.said[-1]


def test_a_question_is_still_there_after_a_reload(open_page: Any, app: ChatApp) -> None:
    page = open_page()
    page.say("delete")
    page.page.get_by_role("button", name="Approve").wait_for()
    page.page.reload()
    page.page.get_by_role("button", name="Approve").click()
    page.wait("It is done.")
    assert app.done == ["/tmp/x"]


def test_a_question_is_gone_once_something_else_was_said(open_page: Any, app: ChatApp) -> None:
    page = open_page()
    page.say("delete")
    page.page.get_by_role("button", name="Approve").wait_for()
    page.say("hello")
    page.wait("You said: hello")
    assert not page.page.get_by_role("button", name="Approve").is_visible() and not app.done


def test_tools_thoughts_and_sources_are_shown(open_page: Any) -> None:
    page = open_page()
    page.say("weather")
    page.wait("It is done.")
    page.page.get_by_text("weather has run").click()
    assert '"sky": "rain"' in page.said[-1] and '"city": "Bergen"' in page.said[-1]
    page.say("think")
    page.wait("Yes.")
    page.page.get_by_text("Thoughts").click()
    page.wait("Let me see.")
    page.say("sources")
    page.page.get_by_role("link", name="A book").wait_for()


def test_attempts_are_shown_and_what_was_rejected_is_told(open_page: Any) -> None:
    page = open_page()
    page.say("attempts")
    page.wait("A good answer.")
    page.wait_done()
    assert page.said[-1] == "A good answer."
    page.page.get_by_text("Attempt 1 was rejected: has to be good").click()
    assert page.page.locator("del").inner_text().strip() == "A bad answer."


def test_a_failure_is_told_and_can_be_tried_again(open_page: Any) -> None:
    page = open_page()
    page.say("fail")
    page.page.get_by_role("alert").get_by_text("An error occurred.").wait_for()
    assert page.said[-1] == "Half an"
    page.page.get_by_role("button", name="Try again").click()
    page.page.get_by_role("alert").get_by_text("An error occurred.").wait_for()
    assert page.said == ["fail", "Half an"]


def test_markdown_is_shown(open_page: Any) -> None:
    page = open_page()
    page.say("markdown")
    page.wait_done()
    made = page.page.locator(".assistant .markdown")
    for selector, text in {
        "h3": "Bread",
        "strong": "flour",
        "em": "water",
        "p code": "salt",
        "ol > li >> nth=1": "Let it rest",
        "li ul li >> nth=1": "a night is better",
        "blockquote p": "Patience is an ingredient.",
        "th >> nth=0": "flour",
        "td >> nth=1": "320 g",
        "pre code": 'print("1 < 2 & <b>bold</b>")',
        "a": "a baker",
    }.items():
        assert text in made.locator(selector).first.inner_text(), selector
    assert made.locator("a").get_attribute("rel") == "noopener noreferrer"


def test_nothing_that_is_written_runs_or_is_fetched(open_page: Any) -> None:
    page = open_page()
    page.say("nasty")
    page.wait_done()
    page.say("<img src=x onerror=window.attacked=5>")
    page.wait("You said: <img")
    assert page.page.evaluate("window.attacked") is None
    assert page.page.locator("#messages :is(script, img, b)").count() == 0
    links = page.page.locator("#messages a").evaluate_all("all => all.map((each) => each.href)")
    assert links == ["https://example.test/track.png"]  # to be clicked, not fetched
    assert "<script>window.attacked = 1</script>" in page.said[1]


def test_a_typed_answer_is_a_form_that_fills_in(browser: Any) -> None:
    with served(TypedApp()) as port:
        page = Page(browser, port)
        page.say("bread")
        page.page.get_by_label("title").get_by_text("Flat").wait_for()
        page.wait_done()
        assert page.page.get_by_label("minutes").inner_text() == "40"
        assert page.page.locator(".form li output").all_inner_texts() == ["flour", "water", "salt"]
        assert not page.errors
        page.context.close()


def test_it_fits_a_phone_and_can_be_used_by_keyboard(open_page: Any) -> None:
    page = open_page(viewport={"width": 360, "height": 640})
    page.say("markdown")
    page.wait_done()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    page.page.get_by_label("Message").focus()
    reached = []
    for _ in range(12):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"send", "again", "new", "messages"} <= set(reached)


def test_every_control_has_a_name(open_page: Any) -> None:
    page = open_page()
    page.say("delete")
    page.page.get_by_role("button", name="Approve").wait_for()
    nameless = page.page.evaluate("""() => [...document.querySelectorAll('button, input, select, textarea, a')]
        .filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
        .map((e) => e.outerHTML)""")
    assert nameless == []


def test_a_new_chat_is_empty(open_page: Any) -> None:
    page = open_page()
    page.say("hello")
    page.wait_done()
    page.page.get_by_role("button", name="New chat").click()
    page.wait("Nothing has been said yet.")
    assert page.said == []


LOOKS = Path(os.environ["MELLEA_SCREENSHOTS"]) if "MELLEA_SCREENSHOTS" in os.environ else None


@pytest.mark.skipif(LOOKS is None, reason="MELLEA_SCREENSHOTS names no folder for pictures")
def test_pictures_of_a_form(browser: Any) -> None:
    assert LOOKS is not None
    with served(TypedApp()) as port:
        page = Page(browser, port, color_scheme="dark")
        page.say("bread")
        page.page.get_by_label("minutes").get_by_text("40").wait_for()
        page.page.screenshot(path=LOOKS / "dark-form.png")
        page.wait_done()
        page.context.close()


@pytest.mark.skipif(LOOKS is None, reason="MELLEA_SCREENSHOTS names no folder for pictures")
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_pictures(open_page: Any, app: ChatApp, look: str) -> None:
    assert LOOKS is not None
    settings: dict[str, Any] = {"color_scheme": "dark" if look == "dark" else "light"}
    if look == "phone":
        settings["viewport"] = {"width": 390, "height": 780}
    page = open_page(**settings)
    page.page.screenshot(path=LOOKS / f"{look}-empty.png")
    for said in ("attempts", "markdown"):
        page.say(said)
        page.wait_done()
        page.page.evaluate("document.getElementById('status').textContent = ''")
    page.page.screenshot(path=LOOKS / f"{look}-markdown.png")
    page.say("weather")
    page.wait("It is done.")
    page.say("think")
    page.wait("Yes.")
    page.say("delete")
    page.page.get_by_role("button", name="Approve").wait_for()
    page.page.screenshot(path=LOOKS / f"{look}-approval.png")
    page.say("fail")
    page.page.get_by_role("alert").get_by_text("An error occurred.").wait_for()
    page.page.screenshot(path=LOOKS / f"{look}-failure.png")


def test_the_page_lets_nothing_else_in(app: ChatApp) -> None:
    with served(app) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=30)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and "http" not in answer.text.replace(
        "https?:", ""
    )
