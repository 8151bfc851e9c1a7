"""What the provider's own client makes of the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import from_json

from mellea.backends.anthropic.decode import Decoder
from mellea.backends.anthropic.wire import FINISH_REASONS
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.blocks import ThinkingBlock, ToolCall
from mellea.testing import replay
from tests.backends.anthropic.test_recorded import _ours, _plain, _streams
from tests.backends.recorded import TALLY, Exchange, outcome, replay_server
from tests.peers import Peer

anthropic = Peer("anthropic")
pytestmark = anthropic.needed

QUESTION: Any = {"model": "claude-test", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]}

SECOND = {"value": "Sparkle Day"}
"""The arguments in the second of the two spliced messages."""

BUILTIN = ("server_tool_use", "mcp_tool_use")


def _theirs(exchange: Exchange) -> Any:
    with (
        replay_server(exchange) as url,
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
    ):
        if "json" in exchange.content_type:
            return client.beta.messages.create(**QUESTION)
        with client.beta.messages.stream(**QUESTION) as stream:
            return stream.get_final_message()


def _generation(exchange: Exchange) -> Generation:
    if "json" not in exchange.content_type:
        return outcome(Decoder("claude-test"), exchange.body).generation
    accumulator = Accumulator()
    accumulator.feed(list(replay(Decoder("claude-test"), exchange.body)))
    return accumulator.generation()


def _calls(generation: Generation, *, is_builtin: bool) -> list[Any]:
    calls = [block for block in generation.message.blocks if isinstance(block, ToolCall)]
    return [(call.tool_call_id, call.tool_name, _args(call)) for call in calls if call.is_builtin is is_builtin]


def _by_id(calls: list[Any]) -> list[Any]:
    """Of two calls that are written at the same time, the one that ends first stands first here."""
    return sorted(calls, key=lambda call: str(call[0]))


def _args(call: ToolCall) -> Any:
    """A call that the token limit cut off isn't valid here; there it has the arguments that had come."""
    return call.tool_args if call.is_valid else from_json(call.raw_args or "{}", allow_partial=True)


def _thoughts(generation: Generation) -> list[Any]:
    blocks = [block for block in generation.message.blocks if isinstance(block, ThinkingBlock)]
    return [(block.text, (block.signature or "").removeprefix("anthropic:")) for block in blocks]


@pytest.mark.parametrize("exchange", [*_streams(), *_plain(), *_ours()])
@pytest.mark.sample(15)
def test_it_is_what_the_official_client_says(exchange: Exchange) -> None:
    TALLY[f"{exchange.dialect} compared with the provider's client"] += 1
    if "spliced" in exchange.name:
        # It takes two messages for one and mixes their calls up; here that is an error.
        assert [block.input for block in _theirs(exchange).content if block.type == "tool_use"] != [SECOND]
        return
    theirs, ours = _theirs(exchange), _generation(exchange)
    assert ours.text == "".join(block.text for block in theirs.content if block.type == "text")
    for kinds in (("tool_use",), BUILTIN):
        called = [(block.id, block.name, block.input or {}) for block in theirs.content if block.type in kinds]
        assert _by_id(_calls(ours, is_builtin=kinds is BUILTIN)) == _by_id(called)
    thought = [(block.thinking, block.signature) for block in theirs.content if block.type == "thinking"]
    hidden = [("", f"redacted_thinking:{block.data}") for block in theirs.content if block.type == "redacted_thinking"]
    # What only has to go back, such as a compaction, is compared by what goes back.
    assert [each for each in _thoughts(ours) if not each[1].startswith("block:")] == thought + hidden
    cited = [cite for block in theirs.content if block.type == "text" for cite in block.citations or ()]
    assert [source.text for source in ours.sources] == [cite.cited_text for cite in cited]
    assert ours.finish_reason == FINISH_REASONS.get(theirs.stop_reason or "", "other")
    assert (ours.response_id, ours.model) == (theirs.id, theirs.model)
    _assert_usage(ours, theirs.usage)


def _assert_usage(ours: Generation, theirs: Any) -> None:
    assert ours.usage is not None
    read, written = theirs.cache_read_input_tokens, theirs.cache_creation_input_tokens
    assert ours.usage.input_tokens == theirs.input_tokens + (read or 0) + (written or 0)
    assert (ours.usage.cached_tokens, ours.usage.cache_write_tokens) == (read, written)
    assert ours.usage.output_tokens == theirs.output_tokens
    details = theirs.output_tokens_details
    assert ours.usage.reasoning_tokens == (details.thinking_tokens if details else None)
