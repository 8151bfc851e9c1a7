"""Prompts that are remembered: marks reach the wire, and the embedded engine reuses a beginning it has read."""

from __future__ import annotations

from typing import Any

import pytest

import mellea
from mellea.backends.anthropic.encode import encode
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, find_weights
from mellea.core import CBlock
from mellea.errors import ConfigurationError
from mellea.testing import ScriptedBackend

DOC = CBlock("A long text. " * 3, cache=True)


def sent(**arguments: Any) -> list[dict[str, Any]]:
    """Return the blocks of the user's message as Anthropic gets them."""
    backend = ScriptedBackend("x")
    backend.model_id = "claude-sonnet-4-5"
    mellea.start_session(backend).instruct("Summarise it.", **arguments)
    payload = encode(backend.requests[0], "claude-sonnet-4-5")
    (message,) = payload["messages"]
    return list(message["content"])


def test_a_context_to_be_remembered_reaches_anthropic_as_a_block_with_a_mark() -> None:
    first, second = sent(grounding_context={"doc": DOC})
    assert first["cache_control"] == {"type": "ephemeral"}
    assert first["text"].endswith(DOC.value)
    assert second["text"].endswith("Summarise it.")
    assert "cache_control" not in second


def test_a_prefix_to_be_remembered_reaches_anthropic_as_a_block_with_a_mark() -> None:
    first, second = sent(prefix=DOC)
    assert first == {"type": "text", "text": DOC.value, "cache_control": {"type": "ephemeral"}}
    assert second == {"type": "text", "text": "\n\nSummarise it."}


def test_the_text_is_the_same_with_and_without_a_mark() -> None:
    marked, plain = sent(prefix=DOC), sent(prefix=CBlock(DOC.value))
    assert len(plain) == 1
    assert "".join(block["text"] for block in marked) == plain[0]["text"]


def test_the_embedded_engine_reuses_a_beginning_that_it_has_read() -> None:
    pytest.importorskip("xllamacpp")
    try:
        find_weights(DEFAULT_MODEL)
    except ConfigurationError as error:
        pytest.skip(str(error))
    m = mellea.start_session(model_options={"max_tokens": 2, "temperature": 0.0})
    tale = CBlock("The fox, the crow and the cheese met under the tree on a Tuesday. " * 8, cache=True)
    first = m.instruct("Who met?", grounding_context={"tale": tale})
    again = m.instruct("On which day was that?", grounding_context={"tale": tale})
    assert first.usage is not None
    assert again.usage is not None
    assert first.usage.cached_tokens is not None
    assert again.usage.cached_tokens is not None
    assert again.usage.input_tokens is not None
    # All but the question and the end of the template, whichever slot it runs in.
    assert again.usage.cached_tokens > 100
    assert again.usage.input_tokens - again.usage.cached_tokens < 40
