"""Which error a status makes, and what it says."""

from __future__ import annotations

import pytest

from mellea.backends.http.secret import KeySource
from mellea.backends.http.status import make_message, make_redirect_message, make_status_error, request_id
from mellea.backends.http.words import shorten_page
from mellea.errors import (
    AuthError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    StatusError,
)


@pytest.mark.parametrize(
    ("status", "kind", "is_retryable"),
    [
        (400, BadRequestError, False),
        (401, AuthError, False),
        (402, StatusError, False),
        (403, AuthError, False),
        (404, NotFoundError, False),
        (408, StatusError, True),
        (409, StatusError, True),
        (413, BadRequestError, False),
        (422, BadRequestError, False),
        (429, RateLimitError, True),
        (500, StatusError, True),
        (502, StatusError, True),
        (503, OverloadedError, True),
        (504, StatusError, True),
        (529, OverloadedError, True),
    ],
)
def test_kinds(status: int, kind: type[StatusError], is_retryable: bool) -> None:
    error = make_status_error(status, "no", retry_after=3.0, request_id="r")
    assert type(error) is kind
    assert (error.status, error.is_retryable, error.request_id) == (status, is_retryable, "r")
    assert getattr(error, "retry_after", 3.0) == 3.0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"error": {"message": "no such model", "type": "x", "code": null}}', "no such model"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', "Overloaded"),
        (b'[{"error": {"code": 400, "message": "API key not valid", "status": "X"}}]', "API key not valid"),
        (b'{"error": "model not found"}', "model not found"),
        (b'{"message": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"errors": [{"message": "first"}, {"message": "second"}]}', "first"),
        (b'{"object": "error", "message": "two\\nlines"}', "two lines"),
        (b'{"strange": 1}', '{"strange": 1}'),
        (b"[]", "[]"),
        (b"null", "null"),
        (b"upstream connect error\n", "upstream connect error"),
        (b"", "it gives no reason"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"<html><title> 503 Service\n Unavailable </title><body>long</body></html>", "503 Service Unavailable"),
        (b"<html><style>p{}</style><script>x<y</script><h1>Bad &amp; worse</h1></html>", "Bad & worse"),
    ],
)
def test_messages(body: bytes, says: str) -> None:
    assert make_message(500, body, "http://h") == f"http://h answered with status 500: {says}"


def test_a_long_page_is_shortened() -> None:
    assert len(shorten_page(b"<p>" + b"word " * 100_000)) <= 501
    assert len(make_message(400, b'{"error": "' + b"x" * 100_000 + b'"}', "http://h")) < 600


def test_some_statuses_come_with_advice() -> None:
    assert "check the key" in make_message(401, b"", "http://h")


def test_a_refusal_without_a_key_says_that_there_was_none() -> None:
    assert "no key was sent" in make_message(401, b"", "http://h", key_advice=KeySource().advise(had_key=False))


def test_what_may_lack_at_the_address_is_named() -> None:
    assert "whether the server has 'videos'" in make_message(404, b"", "http://h", endpoint="videos")
    assert "whether" not in make_message(404, b'{"error": "no such model"}', "http://h", endpoint="videos")


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(
    ("endpoint", "path", "advised"),
    [
        ("chat/completions", "/chat/completions", "'http://h:1/v1'"),
        ("chat/completions", "/llm/chat/completions", "'http://h:1/llm/v1'"),
        ("chat/completions", "/v1/chat/completions", None),
        ("chat/completions", "/api/v3/chat/completions", None),
        ("v1beta/models/m:generate", "/v1beta/models/m:generate", None),
        ("api/chat", "/api/chat", None),
    ],
)
def test_an_address_without_a_version_is_advised_to_have_one(
    status: int, endpoint: str, path: str, advised: str | None
) -> None:
    said = make_message(status, b"<h1>not found</h1>", "http://h:1", endpoint=endpoint, path=path)
    assert said.endswith(f"try base_url={advised}" if advised else f"whether the server has {endpoint!r}")
    known = make_message(status, b'{"error": "no such model."}', "http://h:1", endpoint=endpoint, path=path)
    assert known.endswith("no such model; check the model's name and base_url")


def test_a_wait_that_is_too_long_is_no_reason_to_raise_retries() -> None:
    assert "retries=" in make_message(429, b"", "http://h")
    message = make_message(429, b"", "http://h", long_pause=120.0)
    assert "asks to wait 120 s" in message
    assert "retries=" not in message


def test_a_redirect_shows_no_query() -> None:
    assert "key" not in make_redirect_message("http://h", "https://u:key@other/path?key=1").replace(
        "the key and the request aren't sent there", ""
    )


def test_request_ids() -> None:
    assert request_id({"x-request-id": "a", "cf-ray": "b"}) == "a"
    assert request_id({"request-id": "c"}) == "c"
    assert request_id({}) is None
