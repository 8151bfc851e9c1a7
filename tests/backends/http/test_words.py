"""What a server says of its failure, in whatever shape, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from mellea.backends.http.report import is_error_report, make_reported_error
from mellea.backends.http.words import LONGEST, read_words, shorten_page
from mellea.core.terminal import make_visible
from mellea.errors import AuthError, BackendError, NotFoundError, OverloadedError, RateLimitError


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"error": {"message": "boom", "code": "x"}}, "boom"),
        ({"error": "boom"}, "boom"),
        ({"error": {"error": {"message": "boom"}}}, "boom"),
        ([{"error": {"message": "boom"}}], "boom"),
        ({"errors": [{"message": "boom"}]}, "boom"),
        ({"detail": [{"loc": ["body"], "msg": "boom"}]}, "boom"),
        ({"detail": "boom"}, "boom"),
        ({"message": "boom", "code": 50505, "data": None}, "boom"),
        ({"base_resp": {"status_code": 1008, "status_msg": "boom"}}, "boom"),
        ({"error_code": 17, "error_msg": "boom"}, "boom"),
        ({"success": False, "msg": "boom"}, "boom"),
        ({"fault": {"faultstring": "boom"}}, "boom"),
        ({"errorMessage": "boom"}, "boom"),
        ({"Message": "boom"}, "boom"),
        ({"error": True, "reason": "boom"}, "boom"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, "overloaded_error"),
        ({"object": "error", "message": "boom"}, "boom"),
        ({"success": False}, "success"),
    ],
)
def test_the_words_are_in_the_error(report: Any, words: str) -> None:
    assert words in str(make_reported_error(report))
    assert words in read_words(json.dumps(report).encode())
    assert is_error_report(report) or isinstance(report, list)


@pytest.mark.parametrize(
    "value",
    [{}, {"usage": {}}, {"object": "chat.completion.chunk"}, {"type": "ping"}, {"error": None}, {"message": ""}, 5,
     {"base_resp": {"status_code": 0, "status_msg": ""}}, {"title": "a"}, {"message": {}}, {"success": True}],
)  # fmt: skip
def test_what_reports_no_failure(value: Any) -> None:
    assert not is_error_report(value)


@pytest.mark.parametrize(
    ("report", "kind", "retries"),
    [
        ({"error": {"message": "m", "code": 503}}, OverloadedError, True),
        ({"error": {"message": "m", "status": "UNAVAILABLE"}}, OverloadedError, True),
        ({"error": {"message": "m", "type": "rate_limit_error"}}, RateLimitError, True),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, RateLimitError, False),
        ({"error": {"message": "m", "code": "401"}}, AuthError, False),
        ({"code": 50505, "message": "Model service overloaded"}, BackendError, False),
        ({"message": "try again later"}, BackendError, False),
        ("overloaded", BackendError, False),
    ],
)
def test_a_request_is_tried_again_only_where_the_server_says_so(
    report: Any, kind: type[BackendError], retries: bool
) -> None:
    error = make_reported_error(report)
    assert type(error) is kind and error.is_retryable is retries


ESCAPES = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x9b2Jx\x00\x08y\u202ez\r\nw"


def test_terminal_escapes_are_taken_out() -> None:
    assert make_visible(ESCAPES) == "red xyz w"
    for body in (ESCAPES.encode(), json.dumps({"error": ESCAPES}).encode(), f"<p>{ESCAPES}".encode()):
        assert read_words(body) == "red xyz w"
    assert "\x1b" not in str(make_reported_error({"message": ESCAPES, "code": ESCAPES, "failed_generation": ESCAPES}))
    assert make_visible("\x1b]never ended") == "never ended"


@pytest.mark.parametrize(
    "page",
    ["<script>" * 9000, "<!--" * 16000, "<" * 65536, "<title>" * 9000, "\x1b]" * 30000, "\x9b" * 65536, "&#" * 30000,
     "&#" + "9" * 60000, "<a " * 20000, "\x1b[" + "1;" * 30000],
)  # fmt: skip
def test_the_worst_page_costs_linear_time(page: str) -> None:
    started = time.process_time()
    assert len(shorten_page(page.encode())) <= LONGEST + 1
    make_visible(page)
    assert time.process_time() - started < 2.0


def test_a_page_without_its_markup() -> None:
    assert shorten_page(b"<html><TITLE>502 Bad &amp; worse</TITLE><body>long</body>") == "502 Bad & worse"
    assert shorten_page(b"<style>p{}</style><h1>No</h1><!-- a > b --><p>way < out") == "No way < out"


def test_an_unexpected_endpoint_is_an_address_that_is_wrong() -> None:
    """As LM Studio reports it, with status 200."""
    error = make_reported_error({"error": "Unexpected endpoint or method. (POST /chat/completions)"})
    assert isinstance(error, NotFoundError)
    assert str(error).endswith("(POST /chat/completions); does base_url end with '/v1'?")
