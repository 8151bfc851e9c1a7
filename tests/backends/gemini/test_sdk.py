"""What the provider's own client makes of the same bytes."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mellea.backends.gemini.decode import Decoder
from mellea.backends.gemini.wire import FINISH_REASONS
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.blocks import ThinkingBlock, ToolCall, ToolOutput
from mellea.testing import replay
from tests.backends.gemini.test_recorded import EVERY, plain
from tests.backends.recorded import TALLY, Exchange, outcome, replay_server
from tests.peers import Peer

genai = Peer("google.genai")

pytestmark = [genai.needed, pytest.mark.filterwarnings("ignore")]  # the client's own warnings


def _chunks(exchange: Exchange) -> list[Any]:
    from google.genai import types

    with replay_server(exchange) as url:
        client = genai.Client(api_key="none", vertexai=False, http_options=types.HttpOptions(base_url=url))
        asked: dict[str, Any] = {"model": "gemini-test", "contents": "Hi"}
        try:
            if "json" in exchange.content_type:
                return [client.models.generate_content(**asked)]
            return list(client.models.generate_content_stream(**asked))
        finally:
            client.close()


def _generation(exchange: Exchange) -> Generation:
    if "json" not in exchange.content_type:
        return outcome(Decoder("gemini-test"), exchange.body).generation
    accumulator = Accumulator()
    accumulator.feed(list(replay(Decoder("gemini-test"), exchange.body)))
    return accumulator.generation()


def _signatures(generation: Generation) -> list[bytes]:
    blocks = [block for block in generation.message.blocks if isinstance(block, ThinkingBlock | ToolCall)]
    known = [(block.signature or "").rpartition(":")[2] for block in blocks]
    return [base64.b64decode(signature) for signature in known if signature]


@pytest.mark.parametrize("exchange", [*EVERY, *plain()])
@pytest.mark.sample(10)
def test_it_is_what_the_official_client_says(exchange: Exchange) -> None:
    TALLY[f"{exchange.dialect} compared with the provider's client"] += 1
    chunks, ours = _chunks(exchange), _generation(exchange)
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or ()]
    assert ours.text == "".join(part.text for part in parts if part.text and not part.thought)
    assert ours.thinking == "".join(part.text for part in parts if part.text and part.thought)
    assert _signatures(ours) == [part.thought_signature for part in parts if part.thought_signature]
    _assert_calls(ours, [part.function_call for part in parts if part.function_call is not None])
    _assert_code(ours, parts)
    drawn = [part.inline_data for part in parts if part.inline_data and not part.thought]
    assert [file.data for file in ours.files if file.data] == [blob.data for blob in drawn]
    _assert_end(ours, chunks)


def _assert_calls(ours: Generation, theirs: list[Any]) -> None:
    """The client leaves arguments that come piece by piece in their pieces; there the names are compared."""
    named = [call for call in theirs if call.name]
    assert [call.tool_name for call in ours.tool_calls] == [call.name for call in named]
    for mine, call in zip(ours.tool_calls, named, strict=True):
        assert mine.is_valid
        if not call.will_continue and not call.partial_args:
            assert mine.tool_args == (call.args or {})
            assert call.id in (None, mine.tool_call_id)
    pieces = [piece.string_value for call in theirs for piece in call.partial_args or () if piece.string_value]
    written = "".join(text for call in ours.tool_calls for text in _texts(call.tool_args))
    assert written == "".join(pieces) or not pieces


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in _texts(item)]


def _assert_code(ours: Generation, parts: list[Any]) -> None:
    blocks = ours.message.blocks
    calls = [block for block in blocks if isinstance(block, ToolCall) and block.tool_name == "code_execution"]
    code = [part.executable_code.code for part in parts if part.executable_code]
    assert [call.tool_args["code"] for call in calls] == code
    outputs = [block for block in blocks if isinstance(block, ToolOutput) and block.tool_name == "code_execution"]
    results = [part.code_execution_result.output for part in parts if part.code_execution_result]
    assert [output.result for output in outputs] == results


def _assert_end(ours: Generation, chunks: list[Any]) -> None:
    reasons = [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates[0].finish_reason]
    expected = FINISH_REASONS[reasons[-1].value]
    assert ours.finish_reason == ("tool_call" if expected == "stop" and ours.tool_calls else expected)
    assert (ours.response_id, ours.model) == (chunks[-1].response_id, chunks[-1].model_version)
    usage = chunks[-1].usage_metadata
    assert ours.usage is not None
    assert ours.usage.total_tokens == usage.total_token_count
    assert ours.usage.input_tokens == usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0)
    assert ours.usage.output_tokens == usage.candidates_token_count + (usage.thoughts_token_count or 0)
    assert ours.usage.reasoning_tokens == usage.thoughts_token_count
    assert ours.usage.cached_tokens == usage.cached_content_token_count
