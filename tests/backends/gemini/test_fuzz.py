"""Whatever comes, an answer is decoded or a `BackendError` says why not; nothing else gets out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.backends.gemini.decode import Decoder
from tests.backends.gemini import answers
from tests.backends.recorded import check_order, outcome
from tests.soak import examples

CHUNKS: list[Any] = [
    json.loads(event[6:]) for body in answers.ALL.values() for event in body.replace(b"\r", b"").split(b"\n\n") if event
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as a container and a key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_chunk_with_something_else_in_one_place(data: st.DataObject) -> None:
    chunk = json.loads(json.dumps(data.draw(st.sampled_from(CHUNKS))))
    container, key = data.draw(st.sampled_from(_places(chunk)))
    container[key] = data.draw(JSON)
    body = b"data: " + json.dumps(chunk).encode() + b"\n\n" + answers.HELLO
    for whole in (outcome(Decoder("m"), body), outcome(Decoder("m"), body[: body.index(b"\n")])):
        if whole.error is None:
            check_order(whole)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    outcome(Decoder("m"), answers.HELLO[:200] + data)
    outcome(Decoder("m"), b"data: " + data + b"\n\n")
