"""What web frameworks make of a stream that a route returns, or that their own responses are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mellea
from mellea import generative
from mellea.stdlib.streaming import amerge, merge
from mellea.testing import ScriptedBackend


@generative
def find_all(place: str) -> list[int]:
    """Find all."""
    raise AssertionError


STREAMS: dict[str, tuple[Callable[[mellea.MelleaSession], Any], str]] = {
    "async": (lambda m: m.astream("Write"), "mellea.serve.text(m.astream(…))"),
    "plain": (lambda m: m.stream("Write"), "mellea.serve.text(m.stream(…))"),
    "items": (lambda m: find_all.astream(m, "a"), "mellea.serve.text(m.astream(…))"),
    "plain items": (lambda m: find_all.stream(m, "a"), "mellea.serve.text(m.stream(…))"),
    "agent": (lambda m: mellea.Agent(m).astream("Write"), "mellea.serve.text(agent.astream(…))"),
    "plain agent": (lambda m: mellea.Agent(m).stream("Write"), "mellea.serve.text(agent.stream(…))"),
    "merged": (lambda m: amerge({"a": m.astream("Write")}), "mellea.serve.text(amerge({…}))"),
}


@pytest.mark.parametrize(("make", "advice"), STREAMS.values(), ids=STREAMS)
def test_a_route_that_returns_a_stream_says_what_to_return(make: Callable[[Any], Any], advice: str) -> None:
    fastapi = pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    backend = ScriptedBackend("Hello")
    app, m = fastapi.FastAPI(), mellea.start_session(backend)
    app.get("/")(lambda: make(m))
    with TestClient(app) as client, pytest.raises(ValueError, match="UsageTypeError") as caught:
        client.get("/")
    assert advice in str(caught.value)
    assert not backend.requests, "nothing was asked only to look for JSON"


def test_a_merged_stream_may_become_a_dict() -> None:
    m = mellea.start_session(ScriptedBackend("Hello"))
    assert dict(merge({"a": m.stream("Write")})) == {"a": "Hello"}
