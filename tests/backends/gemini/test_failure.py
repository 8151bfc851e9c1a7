"""How long Gemini asks to wait, and model ids that can't lead elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.gemini import GeminiBackend
from mellea.backends.gemini.decode import find_retry_delay
from mellea.core.backend import Request
from mellea.core.messages import user_message
from mellea.errors import OverloadedError, RateLimitError, UsageError

INFO = "type.googleapis.com/google.rpc.RetryInfo"


def report(delay: Any, kind: str = INFO) -> dict[str, Any]:
    details = [{"@type": "type.googleapis.com/google.rpc.Help", "links": []}, {"@type": kind, "retryDelay": delay}]
    return {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED", "details": details}}


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("2.4s", 2.4), ("34s", 34.0), ("0s", 0.0), ({"seconds": "2", "nanos": 5e8}, 2.5), ({}, 0.0)],
)
def test_the_delay_is_read(delay: Any, seconds: float) -> None:
    assert (
        find_retry_delay(report(delay))
        == find_retry_delay([report(delay)])
        == find_retry_delay(report(delay)["error"])
        == seconds
    )


@pytest.mark.parametrize("delay", ["soon", "-1s", "infs", "nans", None, 3, [], "1e999s"])
def test_a_delay_of_another_shape_says_nothing(delay: Any) -> None:
    assert find_retry_delay(report(delay)) in (None, 3.0)


@pytest.mark.parametrize("body", [None, [], "x", {}, {"error": "x"}, {"error": {"details": {}}}, report("1s", "Other")])
def test_other_bodies_say_nothing(body: Any) -> None:
    assert find_retry_delay(body) is None


def test_the_delay_is_in_the_error() -> None:
    backend = GeminiBackend("gemini-3-test", api_key="k" * 12)
    body = json.dumps(report("2.4s")).encode()
    error = RateLimitError("busy", status=429)
    assert backend.explain_error(error, body) is error and error.retry_after == 2.4
    assert backend.explain_error(RateLimitError("busy", retry_after=1.0), body).retry_after == 1.0  # type: ignore[attr-defined]
    assert backend.explain_error(RateLimitError("busy"), b"<html>").retry_after is None  # type: ignore[attr-defined]
    assert isinstance(backend.explain_error(OverloadedError("busy"), body), OverloadedError)


@pytest.mark.parametrize("model", ["../../v2/x", "models/../x", "a/./b", "a//b", "/a", "a/", "..", "tunedModels/.."])
def test_a_model_that_leads_out_of_its_place_is_refused(model: str) -> None:
    with pytest.raises(UsageError, match="name of a model"):
        GeminiBackend(model, api_key="k" * 12)


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-flash", "models/gemini-3-flash"),
        ("tunedModels/mine-1", "tunedModels/mine-1"),
        ("a?key=x#b", "models/a%3Fkey%3Dx%23b"),
        ("a\\..\\b%2f\r\nHost: x", "models/a%5C..%5Cb%252f%0D%0AHost%3A%20x"),
    ],
)
def test_paths_are_built_of_quoted_steps(model: str, path: str) -> None:
    outgoing = GeminiBackend(model, api_key="k" * 12).encode(Request((user_message("Hi"),)))
    assert outgoing.path == f"{path}:streamGenerateContent?alt=sse"
