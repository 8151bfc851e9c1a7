"""The page of a run as a file: it stands alone, nothing in it can act, and it holds what the spans hold."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import ToolCall
from mellea.core.span_data import describe_span
from mellea.errors import UsageError
from mellea.events import ToolEnd
from mellea.telemetry.page import render_page, render_trace
from mellea.testing import ScriptedBackend
from tests.telemetry.page_runs import Pace, make_spans, plan_weekend

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "]]></style><svg onload=alert(1)>",
    "\u202egnp.exe\u2066 \u200f\u2028\u2029",
    "$title ${data} {{x}} \\u003c",
    "\x00\x07\ud800",
    '"}]}',
    "&lt;b&gt;",
]


class Page(HTMLParser):
    """The elements of a page, and the texts of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._inside, []).append(data)

    @property
    def policy(self) -> dict[str, str]:
        (content,) = (
            each["content"] for tag, each in self.elements if each.get("http-equiv") == "Content-Security-Policy"
        )
        return dict(rule.strip().partition(" ")[::2] for rule in (content or "").split(";"))

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script"][0])


def _hostile_spans() -> list[dict[str, Any]]:
    said = [{"type": "text", "content": text} for text in HOSTILE]
    return [
        {
            "id": number, "kind": "call", "name": text, "status": "ok", "started": 1.0, "seconds": 1.0,
            "is_request": True, "model": text, "messages": [{"role": text, "parts": said}],
            "answer": {"role": "assistant", "parts": said}, text: text,
        }
        for number, text in enumerate(HOSTILE, 1)
    ]  # fmt: skip


def test_it_is_one_file_that_asks_for_nothing() -> None:
    text = render_page(make_spans(41))
    page = Page(text)
    loading = [
        (tag, name) for tag, each in page.elements for name in each if name in ("src", "srcset", "data", "action")
    ]
    assert loading == []
    assert [each["href"] for _, each in page.elements if "href" in each] == ["#rows"]
    addresses = set(re.findall(r"\b(?:https?|wss?|ftp):?//[^\s\"'`)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name of SVG, and no address that is asked"
    assert not re.search(r"@import|url\(", "".join(page.texts["style"]))


def test_nothing_runs_but_its_own_script() -> None:
    page = Page(render_page(_hostile_spans()))
    assert page.policy["default-src"] == "'none'" and "connect-src" not in page.policy
    for kind, text in (("style-src", page.texts["style"][0]), ("script-src", page.texts["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert page.policy[kind] == f"'sha256-{digest}'"
    assert page.policy["require-trusted-types-for"] == "'script'" and page.policy["trusted-types"] == "'none'"
    names = {name for _, each in page.elements for name in each}
    assert not [name for name in names if name.startswith("on")] and "style" not in names


def test_what_a_run_holds_can_not_become_part_of_the_page() -> None:
    plain, hostile = Page(render_page([], title="x")), Page(render_page(_hostile_spans(), title=HOSTILE[0]))
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]
    assert len(hostile.texts["script"]) == 2 and not set("<>\u2028\u2029") & set(hostile.texts["script"][0])
    assert json.loads(json.dumps(hostile.data["spans"])) == json.loads(json.dumps(_hostile_spans()))
    assert hostile.data["title"] == "".join(hostile.texts["title"]) == HOSTILE[0]


def test_the_script_makes_text_and_no_markup() -> None:
    script = Page(render_page([])).texts["script"][1]
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert not re.search(rf"(?<!no ){re.escape(word)}", script), word


def test_numbers_that_json_does_not_have_are_texts() -> None:
    spans = [{"id": 1, "kind": "check", "name": "x", "score": math.nan, "more": [math.inf, (-math.inf, 1.5)]}]
    (span,) = Page(render_page(spans)).data["spans"]
    assert (span["score"], span["more"]) == ("nan", ["inf", ["-inf", 1.5]])


def test_a_run_without_spans_has_a_page() -> None:
    page = Page(render_page([]))
    assert page.data["spans"] == [] and "".join(page.texts["title"]) == "An empty run"


@pytest.mark.parametrize("wrong", [{"id": 1}, "spans", [{"id": 1}, {"name": "x"}], [3], None])
def test_what_arent_spans_of_a_record_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="render_page takes the spans that read_run returns"):
        render_page(wrong)
    with pytest.raises(UsageError, match="render_trace takes what"):
        mellea.traces.render_trace(wrong)


def test_only_a_live_page_may_ask_its_server() -> None:
    assert Page(render_page([], live="changes")).policy["connect-src"] == "'self'"


def test_the_page_of_a_realistic_run_holds_what_it_said() -> None:
    spans = anyio.run(plan_weekend, Pace(0))
    page = Page(render_page(spans))
    assert page.data["title"] == "plan_weekend" and len(page.data["spans"]) == len(spans) == 34
    assert {span["status"] for span in spans} == {"ok", "error", "cancelled"}
    text = json.dumps(page.data)
    for said in ("it has 303 characters", "Hotel Fl", "RateLimitError", "You know what travellers regret."):
        assert said in text
    assert "sk-secret-of-a-customer" not in text, "a key among the arguments of a tool"


PLANTED = "sk-planted-key-1234567890", "hunter2-planted-password"


@pytest.mark.parametrize("content", [False, True])
def test_planted_secrets_appear_nowhere_without_content(content: bool) -> None:
    key, password = PLANTED

    def log_in(user: str, api_key: str) -> str:
        """Log in."""
        raise ValueError(f"{user} may not log in with {password}")

    call = ToolEnd(ToolCall("c1", "log_in", {"user": password, "api_key": key}))
    agent = mellea.Agent(ScriptedBackend([call], [f"Done with {password}."]), [log_in])
    with mellea.traces.start("log in") as trace:
        agent.run(f"My password is {password}.")
    page = render_trace(trace, content=content)
    assert key not in page
    assert (password in page) is content
    assert "log_in" in page


def test_keys_are_on_no_page_wherever_they_were_said(monkeypatch: pytest.MonkeyPatch) -> None:
    known, looks = "opaque-value-0123456789", "nvapi-0123456789abcdefghij"
    monkeypatch.setenv("ACME_API_KEY", known)
    with mellea.traces.start("t") as trace:
        mellea.start_session(ScriptedBackend(f"{known} it is")).instruct(f"Take {known}, or {looks}.")
    page = render_trace(trace, content=True)
    assert "it is" in page and known not in page and looks not in page


def test_a_trace_that_runs_still_has_a_page() -> None:
    with mellea.traces.start("outer") as trace:
        page = Page(render_trace(trace))
        assert page.data["spans"] == [describe_span(trace.spans[0]) | {"seconds": page.data["spans"][0]["seconds"]}]
        assert page.data["spans"][0]["status"] == "running"


def test_ten_thousand_spans_are_a_page_of_a_few_megabytes() -> None:
    assert len(render_page(make_spans(10_001))) < 4_000_000
