"""Whatever comes, an answer is decoded or a `BackendError` says why not; nothing else gets out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.backends.ollama.decode import Decoder
from tests.backends.ollama import answers
from tests.backends.recorded import check_order, outcome
from tests.soak import examples

CHUNKS: list[Any] = [json.loads(line) for body in answers.ALL.values() for line in body.splitlines() if line.strip()]

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
def test_a_line_with_something_else_in_one_place(data: st.DataObject) -> None:
    chunk = json.loads(json.dumps(data.draw(st.sampled_from(CHUNKS))))
    container, key = data.draw(st.sampled_from(_places(chunk)))
    container[key] = data.draw(JSON)
    line = json.dumps(chunk).encode()
    for body in (line + b"\n" + answers.HELLO, line):
        whole = outcome(Decoder("m"), body)
        if whole.error is None:
            check_order(whole)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    outcome(Decoder("m"), answers.HELLO[:100] + data)
    outcome(Decoder("m"), data + b"\n")
